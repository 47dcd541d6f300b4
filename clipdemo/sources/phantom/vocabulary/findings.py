"""Words about findings, wherever in the body they are."""

from __future__ import annotations

from clipdemo.sources.phantom.grammar import Rules

_TUMOUR_COURSE = (
    "Biopsy [was performed|was recommended|confirmed malignancy|showed a benign lesion].",
    "The lesion was [resected|excised] and the margins were clear.",
    "After {months} months the lesion had [grown|shrunk|not changed in size].",
    "Chemotherapy led to partial regression after {months} months.",
)
_STABLE_COURSE = (
    "No treatment was needed.",
    "Follow-up after {months} months [showed no change|was unremarkable].",
    "It was an incidental finding.",
    "Observation was recommended.",
)
_TRAUMA_COURSE = (
    "The patient was treated [conservatively|by open reduction and internal fixation|with immobilisation].",
    "Union was achieved after {months} months.",
    "Full function was regained at {months}-month follow-up.",
)
_DEVICE_COURSE = (
    "The position was unchanged after {months} months.",
    "There were no signs of loosening.",
    "The patient was satisfied at {months}-month follow-up.",
)
_ACUTE_COURSE = (
    "The patient recovered after treatment.",
    "Follow-up after {days} days showed [near-complete|partial|complete] resolution.",
    "Treatment was started at once.",
    "Repeat examination after {days} days showed [improvement|progression].",
)

# By finding: `one` and `many` name it in the singular and plural, `detail` is a sentence about it, `outcome` what
# became of it. None of these words tells the body part; those that do are in NAMED_FINDINGS.
FINDINGS: dict[str, Rules] = {
    "normal": {
        "one": ("no abnormality", "no focal lesion", "no pathological finding", "no evidence of disease"),
        "many": ("normal findings", "unremarkable findings", "normal appearances"),
        "named_one": (
            "no abnormality of {organ}", "no abnormality of {organ_pair}", "no pathological change of {organ}",
            "a^ normal appearance of {organ_pair}",
        ),
        "named_many": ("normal {plural_pair}", "unremarkable {plural_pair}", "normal appearances of {organ_pair}"),
        "detail": (
            "Size, shape and [contour|outline] are within normal limits.",
            "There is no asymmetry and no sign of earlier disease.",
            "No [significant |relevant |]abnormality was [found|reported].", "The appearances are normal for age.",
        ),
        "outcome": (
            "No further imaging was required.",
            "Symptoms resolved [spontaneously|without treatment] within {days} days.", "The patient was discharged.",
        ),
    },
    "mass": {
        "one": (
            "a^ {size}{shape}mass", "a^ {size}{shape}mass", "a^ {shape}[tumour|tumor|lesion] measuring {big} mm",
            "a^ {size}[solid|heterogeneous|space-occupying] lesion", "a^ {size}{shape}[tumour|tumor|neoplasm]",
        ),
        "detail": (
            "The [texture|interior] is [heterogeneous|inhomogeneous] and there is no calcification.",
            "The lesion displaces the adjacent structures but does not invade them.", "It is solid throughout.",
        ),
        "outcome": _TUMOUR_COURSE,
    },
    "cyst": {
        "one": (
            "a^ {size}[simple|thin-walled|unilocular|well-defined|round] cyst", "a^ {size}cyst",
            "a^ {size}cystic lesion", "a^ [well-circumscribed|sharply marginated|round] cystic lesion of {big} mm",
            "a^ {size}fluid-filled lesion",
        ),
        "detail": (
            "The wall is thin and there is no solid component.", "The margins are smooth and no septa are seen.",
            "The content is homogeneous, in keeping with a benign cyst.",
        ),
        "outcome": _STABLE_COURSE,
    },
    "calcification": {
        "one": (
            "a^ [coarse|dense|punctate] calcification", "calcification", "a^ calcified focus", "focal calcification",
        ),
        "many": ("calcifications", "[scattered|clustered|multiple] calcifications", "[coarse|dense] calcific deposits"),
        "detail": ("The calcified material is dense and sharply outlined.", "No associated mass is present."),
        "outcome": _STABLE_COURSE,
    },
    "stone": {
        "one": (
            "a^ {small} mm [stone|calculus]",
            "a^ [echogenic|bright|mobile] [stone|calculus] with [posterior |]acoustic shadowing",
            "a^ {small} mm echogenic focus with posterior shadowing",
        ),
        "detail": (
            "The posterior acoustic shadow is clean and moves with the patient's position.",
            "There is no wall thickening or surrounding fluid.",
        ),
        "outcome": ("The patient underwent elective surgery after {days} days.", *_STABLE_COURSE),
    },
    "white matter lesions": {
        "many": (
            "multiple [small|punctate|patchy|scattered] lesions", "[multiple|several] foci of abnormal signal",
            "[scattered|confluent|multifocal] signal abnormalities", "several ovoid plaques",
        ),
        "detail": ("The lesions are ovoid and show no mass effect.", "Some of the lesions are confluent."),
        "outcome": (
            "The appearance is consistent with [demyelination|multiple sclerosis|small-vessel disease].",
            "Follow-up after {months} months showed [new lesions|no new lesions].",
        ),
    },
    "haemorrhage": {
        "one": (
            "a^ {size}[haemorrhage|hemorrhage|haematoma]", "a^ [acute|focal|large|recent] [haemorrhage|bleed|hematoma]",
            "[acute|recent|focal] [haemorrhage|hemorrhage]",
        ),
        "detail": (
            "The bleeding is recent and sharply marginated.", "The extent was unchanged on a second examination.",
        ),
        "outcome": _ACUTE_COURSE,
    },
    "infarct": {
        "one": (
            "a^ [acute|subacute|large|wedge-shaped|territorial] [infarct|infarction]", "a^ [area|zone] of infarction",
            "a^ well-demarcated hypodense area", "an area of low attenuation consistent with ischaemia",
        ),
        "detail": (
            "The lesion is hypodense and exerts little mass effect.", "There is no haemorrhagic transformation.",
        ),
        "outcome": ("Thrombolysis was not possible.", *_ACUTE_COURSE),
    },
    "tumour infiltration": {
        "one": (
            "[diffuse|focal|invasive] tumour infiltration", "infiltrating [carcinoma|neoplasm|tumour]",
            "[malignant|neoplastic] infiltration",
            "a^ [poorly differentiated|infiltrating|invasive] [tumour|carcinoma]",
        ),
        "detail": ("Mitotic activity is brisk and pleomorphism is marked.", "The invasive front is irregular."),
        "outcome": _TUMOUR_COURSE[2:],
    },
    "inflammation": {
        "one": (
            "[acute|chronic|dense|diffuse|focal] inflammation", "a^ [dense|mixed|diffuse] inflammatory infiltrate",
            "marked inflammatory infiltration",
        ),
        "detail": ("The infiltrate is mixed and patchy.", "No granulomas or organisms are identified."),
        "outcome": _ACUTE_COURSE,
    },
    "necrosis": {
        "one": ("[extensive|central|coagulative|focal] necrosis", "a^ [zone|area|focus] of [coagulative |]necrosis"),
        "detail": ("Architecture is lost in the necrotic zone.", "Ghost outlines and debris are present."),
        "outcome": _ACUTE_COURSE,
    },
    "blasts": {
        "many": (
            "[numerous|circulating|many|large] blasts", "blasts with Auer rods", "atypical blast forms",
            "[numerous|frequent] immature forms",
        ),
        "detail": (
            "Blasts made up {percent}% of the differential count.", "They are large and some contain Auer rods.",
        ),
        "outcome": (
            "Acute leukaemia was diagnosed.", "Induction chemotherapy achieved remission after {months} months.",
        ),
    },
    "parasites": {
        "many": (
            "[numerous|several|scanty] parasites", "ring-form trophozoites", "[multiple|many] ring forms",
            "[malarial|Plasmodium] parasites",
        ),
        "detail": ("Parasitaemia was {percent}%.", "Delicate ring forms predominate."),
        "outcome": ("Artesunate was given and parasites cleared within {days} days.", *_ACUTE_COURSE[:2]),
    },
    "apoptosis": {
        "one": ("[widespread|early|marked|focal] apoptosis", "apoptotic fragmentation", "drug-induced apoptosis"),
        "many": ("[numerous|scattered] apoptotic bodies", "[bright|condensed] fragments"),
        "detail": ("The fragments are condensed and bright.", "Apoptotic bodies account for {percent}% of the field."),
    },
    "mitosis": {
        "one": ("[active|ongoing|frequent] mitosis", "a^ [mitotic|metaphase] figure", "brisk mitotic activity"),
        "many": ("[several|numerous|aligned] mitotic figures", "metaphase plates"),
        "detail": ("The figures are well aligned at the equator.", "The mitotic index was {percent}%."),
    },
    "effusion": {
        "one": (
            "a^ [large|moderate|small|massive|marked] effusion", "a^ effusion", "a^ [large|moderate] fluid collection",
        ),
        "detail": ("The fluid is free and not loculated.", "The amount of fluid is [moderate|considerable]."),
        "outcome": ("Aspiration yielded {millilitres} mL of [clear|straw-coloured|turbid] fluid.", *_ACUTE_COURSE),
    },
    "nodule": {
        "one": (
            "a^ {small} mm [nodule|solitary nodule|round opacity]",
            "a^ [solitary|well-defined|spiculated|round] nodule", "a^ [spiculated|smooth] {small} mm nodule",
            "a^ coin lesion of {small} mm",
        ),
        "detail": ("The border is [smooth|spiculated] and there is no cavitation.", "No second nodule is present."),
        "outcome": _TUMOUR_COURSE,
    },
    "consolidation": {
        "one": (
            "[dense|patchy|homogeneous|focal] consolidation", "a^ area of consolidation",
            "a^ [ill-defined|patchy|dense] opacity", "a^ [patchy|confluent] infiltrate",
        ),
        "detail": ("The opacity is ill defined.", "There is no loss of volume."),
        "outcome": ("Antibiotics were given for {days} days.", *_ACUTE_COURSE),
    },
    "pneumothorax": {
        "one": (
            "a^ [large|moderate] collection of free air", "free air", "a^ [spontaneous|post-traumatic] air leak",
            "air outlined by a thin white line",
        ),
        "detail": ("There is no shift and no sign of tension.", "The air collection is [moderate|large] in size."),
        "outcome": ("A drain was placed and removed after {days} days.", *_ACUTE_COURSE[:2]),
    },
    "exudates": {
        "many": (
            "[hard|yellow|scattered|circinate] exudates", "[multiple|numerous] hard exudates", "waxy yellow deposits",
        ),
        "detail": ("The deposits are yellow and sharply outlined.", "They form an incomplete ring."),
        "outcome": ("Glycaemic control had been poor.", "Laser treatment was given.", *_ACUTE_COURSE[1:2]),
    },
    "drusen": {
        "many": (
            "[multiple|numerous|soft|confluent] deposits", "[small|dome-shaped|round] deposits",
            "[pale|scattered] lesions",
        ),
        "detail": ("The deposits vary in size and some are confluent.", "No fluid or neovascularisation is present."),
        "outcome": ("The patient was advised to take nutritional supplements.", *_STABLE_COURSE),
    },
    "oedema": {
        "one": ("[marked|diffuse|focal|mild] [oedema|edema]", "a^ [zone|area] of [oedema|edema]", "oedematous change"),
        "detail": ("The change is diffuse and ill defined.", "The extent of the oedema is [moderate|considerable]."),
        "outcome": _ACUTE_COURSE,
    },
    "leakage": {
        "one": (
            "[diffuse|focal|progressive|late] leakage", "leakage of dye", "[pinpoint|petaloid] leakage",
            "a^ focus of hyperfluorescence",
        ),
        "detail": ("The leak expands and blurs over time.", "The hyperfluorescence increases in the late phase."),
        "outcome": ("An anti-VEGF agent was given.", *_ACUTE_COURSE),
    },
    "fracture": {
        "one": (
            "a^ [displaced|transverse|oblique|comminuted|recent] fracture", "a^ fracture",
            "a^ [visible|clear] fracture line", "a^ [slightly |markedly |]displaced fracture",
            "a^ cortical break with [slight |]displacement",
        ),
        "detail": (
            "The fragments are [slightly|visibly] displaced.", "The fracture line is sharp and reaches both cortices.",
        ),
        "outcome": _TRAUMA_COURSE,
    },
    "spur": {
        "one": (
            "a^ [small|large|prominent|beak-like] spur", "a^ {small} mm spur", "a^ [bony|beak-like] outgrowth",
            "a^ enthesophyte",
        ),
        "detail": ("The outgrowth is well corticated.", "There is no adjacent erosion."),
        "outcome": ("Stretching relieved the pain.", *_STABLE_COURSE),
    },
    "erosion": {
        "many": (
            "[marginal|multiple|punched-out|early] erosions", "erosive changes",
            "[periarticular|juxta-articular] erosions",
        ),
        "detail": ("The joint space is narrowed.", "The erosions have overhanging edges."),
        "outcome": (
            "[Rheumatoid factor|Serum urate|The C-reactive protein level] was raised.", "Methotrexate was started.",
            "After {months} months there was [no progression|progression].",
        ),
    },
    "polyp": {
        "one": (
            "a^ {small} mm [sessile |pedunculated |flat |]polyp", "a^ [sessile|pedunculated|smooth|lobulated] polyp",
            "a^ polypoid lesion of {small} mm",
        ),
        "detail": ("The surface is smooth and the pit pattern regular.", "There is no bleeding from the surface."),
        "outcome": ("It was removed by snare resection.", "Histology showed a tubular adenoma.", *_STABLE_COURSE[1:2]),
    },
    "ulcer": {
        "one": (
            "a^ {small} mm ulcer", "a^ [shallow|deep|fibrin-covered|round|chronic|solitary] ulcer",
            "a^ ulcerated lesion", "an ulcer with [a white base|raised margins|an erythematous rim]",
        ),
        "detail": ("The base is covered with fibrin and the rim is red.", "The edges are [raised|flat] and regular."),
        "outcome": ("Biopsy showed no malignancy.", *_ACUTE_COURSE),
    },
    "bleeding": {
        "one": (
            "[active|oozing|fresh|diffuse] bleeding", "a^ [spurting|oozing] bleeding site", "fresh blood",
            "active [haemorrhage|hemorrhage]",
        ),
        "detail": ("Fresh blood covers the field of view.", "The source was found after irrigation."),
        "outcome": ("Haemostasis was achieved with [two|three] clips.", *_ACUTE_COURSE),
    },
    "stricture": {
        "one": (
            "a^ [short|long|tight|annular|smooth] stricture", "a^ [short-segment|apple-core] narrowing",
            "a^ [irregular|concentric] stenosis", "a^ stricture of {big} mm in length",
        ),
        "detail": ("The narrowing has overhanging edges at both ends.", "Contrast passes the narrow segment slowly."),
        "outcome": ("The segment was resected.", "Dilatation was [successful|attempted]."),
    },
    "diverticula": {
        "many": ("[multiple|numerous|several|small] diverticula", "[multiple|several] contrast-filled outpouchings"),
        "detail": ("The necks are narrow and no extravasation is seen.", "There is no sign of perforation."),
        "outcome": ("A high-fibre diet was advised.", *_STABLE_COURSE),
    },
    "osteolysis": {
        "one": (
            "a^ {size}[lytic|osteolytic|moth-eaten|permeative] lesion", "[moth-eaten|focal|extensive] osteolysis",
            "a^ ill-defined lucency", "a^ [permeative|lucent] area",
        ),
        "detail": ("The zone of transition is wide.", "There is no periosteal reaction."),
        "outcome": ("Metastasis was suspected.", *_TUMOUR_COURSE),
    },
    "metal plate": {
        "one": (
            "a^ metal plate", "a^ plate with screws", "internal fixation with a plate",
            "a^ [titanium|locking|compression] plate [with {few} screws|in place]", "hardware after osteosynthesis",
        ),
        "detail": ("The screws are intact and alignment is satisfactory.", "The fracture line is no longer visible."),
        "outcome": _DEVICE_COURSE,
    },
    "tear": {
        "one": (
            "a^ [complete|partial|full-thickness|partial-thickness|complex] tear", "a^ tear",
            "a^ [acute|chronic] rupture",
        ),
        "detail": ("Fluid signal fills the gap.", "The adjacent structures are intact."),
        "outcome": ("Arthroscopy confirmed the tear.", "Surgical repair was performed.", *_TRAUMA_COURSE[2:]),
    },
    "impacted tooth": {
        "one": ("a^ [mesioangular|horizontal|complete|partial] impaction", "a^ impaction"),
        "detail": ("The long axis is tilted.", "No resorption is seen."),
        "outcome": ("Surgical removal was [planned|uneventful].", *_STABLE_COURSE),
    },
    "implant": {
        "one": ("a^ [metallic|radiopaque|well-seated|titanium] implant", "a^ implant [in situ|in good position]"),
        "detail": ("The implant is well seated and no lucent line surrounds it.",),
        "outcome": _DEVICE_COURSE,
    },
    "periapical lesion": {
        "one": (
            "a^ {small} mm [radiolucency|lucency|radiolucent lesion]",
            "a^ [round|well-defined|ill-defined] radiolucency", "a^ well-circumscribed [radiolucent|lucent] area",
        ),
        "detail": ("The border is partly corticated.", "There is no sign of healing yet."),
        "outcome": ("Healing was seen after {months} months.", *_STABLE_COURSE[1:2]),
    },
    "caries": {
        "one": ("a^ [proximal|deep|extensive|occlusal] radiolucent defect", "a^ [deep|cavitated|proximal] lucency"),
        "detail": ("The defect is deep and has irregular borders.",),
        "outcome": ("The defect was excavated and restored.", *_STABLE_COURSE[1:2]),
    },
    "filling": {
        "one": ("a^ [radiopaque|metallic|large|dense] restoration", "dense restorative material"),
        "detail": ("The margins of the restoration are tight.", "There is no lucency beneath the restoration."),
        "outcome": _DEVICE_COURSE[::2],
    },
    "white patch": {
        "one": (
            "a^ {small} mm white patch", "a^ [homogeneous|well-defined|irregular|slightly raised] white [patch|plaque]",
            "leukoplakia", "a^ whitish plaque",
        ),
        "detail": ("The patch could not be wiped off.", "The surface is slightly wrinkled."),
        "outcome": ("Biopsy showed [hyperkeratosis|mild dysplasia|no dysplasia].", *_STABLE_COURSE[1:2]),
    },
}  # fmt: skip  # fmt: skip
