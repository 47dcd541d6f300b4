"""Words about cells. `vocabulary` says what the tables are for."""

from __future__ import annotations

from clipdemo.sources.phantom.grammar import Rules

PART: Rules = {
    "class_place": ("the cells", "cell morphology", "individual cells"),
    "class_exam": ("{exam} of {class_place}",),
    "part_complaint": ("anaemia", "lymphadenopathy", "night sweats", "pallor"),
}  # fmt: skip

VIEWS: dict[str, Rules] = {
    "cell-histology": {
        "adj": ("histological", "histopathological", "tissue"),
        "head": ("histological section", "tissue section", "histopathology image"),
        "place": ("the epithelium", "the stroma", "the glandular epithelium", "the resected tissue"),
        "at": ("in the stroma", "within the epithelium", "between the glands", "in the glandular tissue"),
        "organ": ("basement membrane", "connective tissue"),
    },
    "cell-smear": {
        "adj": ("blood", "peripheral blood", "haematological", "cytological"),
        "head": ("peripheral blood smear", "blood smear", "blood film"),
        "place": ("peripheral blood", "the erythrocytes", "the leucocytes", "venous blood"),
        "at": ("in peripheral blood", "among the erythrocytes", "between the red corpuscles", "in the blood film"),
        "organ": ("lymphocytes", "neutrophils", "red corpuscles"),
    },
    "cell-fluorescence": {
        "adj": ("cytological", "nuclear", "cytoskeletal"),
        "head": ("nuclear fluorescence image", "cytoskeleton image"),
        "place": ("the cytoskeleton", "the nuclei", "cultured fibroblasts", "the cytoplasm"),
        "at": (
            "in cultured fibroblasts", "next to intact nuclei", "in the epithelial monolayer", "among the fibroblasts",
        ),
        "organ": ("microtubules", "chromatin", "nucleoli"),
        "patient": (
            "a^ culture [treated for {thin} h|at day {thin}|at passage {thin}]",
            "a^ [treated|untreated|confluent|control] culture",
        ),
        "complaint": ("10% serum", "reduced serum", "added growth factor", "the vehicle alone"),
        "part_complaint": ("cytochalasin in the medium", "a 70% confluent monolayer"),
        "opening": (
            "[Confluent|Untreated|Primary|Treated] culture, day {thin}.", "Culture after {thin} h of incubation.",
        ),
        "lead": (
            "a^ [primary|confluent|secondary] culture at passage {thin} was [fixed|washed and fixed] after {echo} h "
            "and then [stained|permeabilised and stained] with DAPI and phalloidin according to the standard protocol.",
        ),
        "timing": ("representative", "magnified", "single-plane"),
        "control": ("used for comparison", "from an untreated control"),
        "moment": ("after fixation", "after staining"),
        "outcome": (
            "Three independent experiments gave similar results.",
            "The effect was [confirmed|reproduced] in {thin} further fields of view.",
            "Quantification is given in the text.",
        ),
        "late": ("Counts were repeated after {echo} h and by a second observer, with good agreement.",),
        "consent": ("Data are representative of three independent experiments with duplicate wells.",),
    },
}  # fmt: skip

NAMED_FINDINGS: dict[tuple[str, str], Rules] = {
    ("cell-histology", "inflammation"): {"named_one": ("{one} {at}", "a^ [lymphocytic|neutrophilic] infiltrate {at}")},
    ("cell-histology", "tumour infiltration"): {
        "named_one": ("{one} {at}", "{one} {at}", "invasive adenocarcinoma with atypical glands"),
        "named_many": ("sheets of atypical epithelium", "atypical glands in the stroma"),
    },
    ("cell-smear", "blasts"): {
        "named_many": (
            "{many} {at}", "circulating leukaemic blasts in peripheral blood", "blasts among the leucocytes",
        ),
    },
    ("cell-smear", "parasites"): {
        "named_many": ("intraerythrocytic parasites", "{many} in the erythrocytes", "parasitised erythrocytes"),
    },
    ("cell-fluorescence", "apoptosis"): {
        "named_many": ("fragmented nuclei", "[condensed|apoptotic] nuclei", "{many} {at}"),
    },
    ("cell-fluorescence", "mitosis"): {
        "named_many": ("{many} {at}", "dividing nuclei", "mitotic figures with a nuclear spindle"),
    },
}  # fmt: skip

STEMS = (
    "actin$ adenocarcinoma basement blood cell chromatin corpuscle connective cytolog cytoplasm cytoskel "
    "epitheli erythro fibroblast gland haematolog histological histopatholog intraerythro leuc "
    "leukaemic_blasts leukoc lymphocyt microtub neutrophil nucle platelet stroma tissue"
)
