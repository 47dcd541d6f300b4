"""Words about the chest. `vocabulary` says what the tables are for."""

from __future__ import annotations

from clipdemo.sources.phantom.grammar import Rules

PART: Rules = {
    "class_place": ("the chest",),
    "class_adj": ("chest",),
    "part_complaint": ("cough", "fever and cough", "shortness of breath", "acute dyspnoea", "pleuritic pain"),
}  # fmt: skip

VIEWS: dict[str, Rules] = {
    "chest-xray": {
        "projection": ("posteroanterior ", "PA ", "anteroposterior ", "AP ", "frontal ", "portable ", "upright ", ""),
        "adj": ("thoracic", "thoracic", "pulmonary", "cardiopulmonary"),
        "place": ("the thorax", "the lungs", "the lung fields", "the thoracic cage", "the heart and lungs"),
        "at": ("in the § lung", "in the § hemithorax", "in the § lung field"),
        "organ": ("hilar vessels", "costophrenic angles", "mediastinum", "trachea"),
    },
    "chest-ct": {
        "pre": ("[|contrast-enhanced |high-resolution |unenhanced |low-dose ][|axial |axial |transverse ]",),
        "adj": ("thoracic", "pulmonary", "thoracic", "mediastinal"),
        "place": ("the thorax", "the lungs", "the mediastinum", "the lung parenchyma"),
        "at": ("in the § lung", "in the § hemithorax", "on the § side of the thorax"),
        "organ": ("main bronchi", "pulmonary arteries", "thoracic vertebrae"),
    },
}  # fmt: skip

NAMED_FINDINGS: dict[tuple[str, str], Rules] = {
    ("chest-xray", "effusion"): {
        "named_one": (
            "a^ [large|moderate|small] § pleural effusion", "a^ §-sided pleural effusion", "§ pleural effusion",
            "§ pleural fluid", "blunting of the § costophrenic angle",
        ),
    },
    ("chest-ct", "effusion"): {
        "named_one": (
            "a^ [large|moderate|small] § pleural effusion", "a^ §-sided pleural effusion", "§ pleural effusion",
        ),
    },
    ("chest-xray", "pneumothorax"): {
        "named_one": (
            "a^ [large|spontaneous|moderate] § pneumothorax", "a^ §-sided pneumothorax", "§ pneumothorax",
            "collapse of the § lung",
        ),
    },
    ("chest-xray", "nodule"): {
        "named_one": ("a^ {small} mm pulmonary nodule on the §", "a^ solitary pulmonary nodule", "{one} {at}"),
    },
    ("chest-ct", "nodule"): {
        "named_one": ("a^ {small} mm pulmonary nodule on the §", "a^ § pulmonary nodule", "{one} {at}"),
    },
    ("chest-xray", "consolidation"): {
        "named_one": ("{one} {at}", "§-sided pneumonia", "{one} of the § lung", "§ pulmonary consolidation"),
    },
}  # fmt: skip

STEMS = (
    "air_space broncho bronchi cardiac cardiop chest costophrenic diaphragm heart$ hemithora hilar lung "
    "mediastin pleur pneumonia pneumothora pulmon rib$ ribs$ thora trachea"
)
