"""What the phantom source can show: body parts, the views of each, and what may be found in them.

This file is the one agreement between `anatomy` (which draws a view), `looks` (which gives it a modality)
and `captions` (which talks about it). It holds facts only; nothing here draws or writes.
"""

from __future__ import annotations

from dataclasses import dataclass

NORMAL = "normal"


@dataclass(frozen=True, slots=True)
class View:
    """One way of looking at one body part.

    `look` names the function in `looks` that turns the drawn scene into a picture.
    `structures` are words that a caption may use for what is seen; none of them is the body part's own name.
    `findings` are the abnormalities that `anatomy` can draw into this view, besides "normal".
    `share` is the fraction of the body part's pictures that are of this view.
    """

    name: str
    part: str
    modality: str
    look: str
    structures: tuple[str, ...]
    findings: tuple[str, ...]
    share: float


@dataclass(frozen=True, slots=True)
class Case:
    """What all pictures of one patient have in common; each picture adds its own pose, noise and artefacts."""

    view: View
    finding: str  # "normal" or one of view.findings
    side: str  # "left" or "right": where the finding, or the limb, lies
    anatomy_seed: int  # fixes the patient's own shape


# Fractions of pictures a body part: long-tailed, in about the order in which PubMedVision has them.
PART_SHARES: dict[str, float] = {
    "Chest": 0.190,
    "Abdomen": 0.170,
    "Brain": 0.140,
    "Cell": 0.110,
    "Pelvic cavity": 0.085,
    "Lower limb": 0.075,
    "Oral cavity": 0.060,
    "Gastrointestinal tract": 0.055,
    "Eye": 0.040,
    "Upper limb": 0.035,
    "Breast": 0.025,
    "Foot": 0.015,
}

CT = "Computed Tomography"
MR = "Magnetic Resonance Imaging"
XR = "X-Ray"
US = "Ultrasound"

VIEWS: tuple[View, ...] = (
    View("abdomen-ct", "Abdomen", CT, "ct", ("liver", "kidneys", "spleen", "aorta", "stomach"), ("mass", "cyst", "calcification"), 0.5),
    View("abdomen-us", "Abdomen", US, "ultrasound", ("gallbladder", "liver", "hepatic vein", "right kidney"), ("stone", "cyst", "mass"), 0.3),
    View("abdomen-mr", "Abdomen", MR, "mr", ("liver", "kidneys", "spleen", "psoas muscle"), ("mass", "cyst"), 0.2),
    View("brain-mr", "Brain", MR, "mr", ("lateral ventricles", "white matter", "cerebral cortex", "basal ganglia"), ("mass", "cyst", "white matter lesions"), 0.45),
    View("brain-ct", "Brain", CT, "ct", ("skull", "lateral ventricles", "cerebral hemispheres"), ("haemorrhage", "infarct", "mass"), 0.35),
    View("brain-mr-sagittal", "Brain", MR, "mr", ("corpus callosum", "cerebellum", "brainstem", "fourth ventricle"), ("mass", "cyst"), 0.2),
    View("breast-mammogram", "Breast", XR, "xray", ("fibroglandular tissue", "nipple", "pectoral muscle"), ("mass", "calcification"), 0.5),
    View("breast-us", "Breast", US, "ultrasound", ("subcutaneous fat", "glandular tissue", "pectoral fascia"), ("mass", "cyst"), 0.3),
    View("breast-mr", "Breast", MR, "mr", ("fibroglandular tissue", "pectoral muscle", "nipple"), ("mass",), 0.2),
    View("cell-histology", "Cell", "Microscopy Images", "histology", ("nuclei", "glands", "stroma", "epithelium"), ("tumour infiltration", "inflammation", "necrosis"), 0.5),
    View("cell-smear", "Cell", "Microscopy Images", "smear", ("erythrocytes", "leucocytes", "platelets"), ("blasts", "parasites"), 0.3),
    View("cell-fluorescence", "Cell", "Microscopy Images", "fluorescence", ("nuclei", "actin filaments", "cytoplasm"), ("apoptosis", "mitosis"), 0.2),
    View("chest-xray", "Chest", XR, "xray", ("lungs", "cardiac silhouette", "ribs", "diaphragm"), ("effusion", "nodule", "consolidation", "pneumothorax"), 0.55),
    View("chest-ct", "Chest", CT, "ct", ("lungs", "heart", "mediastinum", "thoracic aorta"), ("nodule", "effusion", "consolidation"), 0.45),
    View("eye-fundus", "Eye", "Fundus Photography", "fundus", ("optic disc", "macula", "retinal vessels"), ("exudates", "haemorrhage", "drusen"), 0.5),
    View("eye-oct", "Eye", "Optical Coherence Tomography", "oct", ("fovea", "retinal layers", "choroid"), ("oedema", "drusen"), 0.3),
    View("eye-angiography", "Eye", "Infrared Reflectance Imaging", "angiography", ("optic disc", "retinal vessels", "macula"), ("leakage", "haemorrhage"), 0.2),
    View("foot-xray-lateral", "Foot", XR, "xray", ("calcaneus", "talus", "metatarsals"), ("fracture", "spur"), 0.4),
    View("foot-xray-ap", "Foot", XR, "xray", ("metatarsals", "phalanges", "hallux"), ("fracture", "erosion"), 0.35),
    View("foot-mr", "Foot", MR, "mr", ("calcaneus", "Achilles tendon", "plantar fascia"), ("oedema", "cyst"), 0.25),
    View("gut-endoscopy", "Gastrointestinal tract", "Endoscopy", "endoscopy", ("mucosa", "lumen", "colonic folds"), ("polyp", "ulcer", "bleeding"), 0.65),
    View("gut-barium", "Gastrointestinal tract", XR, "barium", ("colon", "haustra", "small bowel loops"), ("stricture", "diverticula"), 0.35),
    View("leg-xray", "Lower limb", XR, "xray", ("tibia", "fibula", "femur", "patella"), ("fracture", "osteolysis", "metal plate"), 0.55),
    View("knee-mr", "Lower limb", MR, "mr", ("menisci", "cruciate ligament", "femoral condyle", "tibial plateau"), ("effusion", "tear", "oedema"), 0.45),
    View("mouth-panoramic", "Oral cavity", XR, "xray", ("mandible", "molars", "maxillary teeth"), ("cyst", "impacted tooth", "implant"), 0.45),
    View("mouth-periapical", "Oral cavity", XR, "xray", ("crowns", "roots", "alveolar bone"), ("periapical lesion", "caries", "filling"), 0.3),
    View("mouth-photo", "Oral cavity", "Digital Photography", "photo", ("tongue", "gingiva", "incisors", "palate"), ("ulcer", "white patch"), 0.25),
    View("pelvis-xray", "Pelvic cavity", XR, "xray", ("iliac bones", "femoral heads", "sacrum", "pubic symphysis"), ("fracture", "implant"), 0.4),
    View("pelvis-mr", "Pelvic cavity", MR, "mr", ("urinary bladder", "prostate", "rectum", "femoral heads"), ("mass", "cyst"), 0.35),
    View("pelvis-us", "Pelvic cavity", US, "ultrasound", ("uterus", "urinary bladder", "ovary", "endometrium"), ("cyst", "mass"), 0.25),
    View("hand-xray", "Upper limb", XR, "xray", ("metacarpals", "phalanges", "carpal bones", "distal radius"), ("fracture", "erosion"), 0.5),
    View("elbow-xray", "Upper limb", XR, "xray", ("humerus", "radius", "ulna", "olecranon"), ("fracture", "metal plate"), 0.3),
    View("shoulder-mr", "Upper limb", MR, "mr", ("humeral head", "glenoid", "rotator cuff", "deltoid muscle"), ("tear", "effusion"), 0.2),
)  # fmt: skip

PARTS: tuple[str, ...] = tuple(PART_SHARES)
VIEWS_OF: dict[str, tuple[View, ...]] = {part: tuple(v for v in VIEWS if v.part == part) for part in PARTS}
