"""Words about the breast. `vocabulary` says what the tables are for."""

from __future__ import annotations

from clipdemo.sources.phantom.grammar import Rules

PART: Rules = {
    "class_place": ("the § breast", "the § breast", "the breast"),
    "class_adj": ("breast",),
    "part_complaint": ("a palpable lump", "nipple discharge", "an abnormal screening result", "mastalgia"),
    "person": ("woman", "woman", "female patient"),
    "patient": ("{adult}",),
}  # fmt: skip

VIEWS: dict[str, Rules] = {
    "breast-mammogram": {
        "kilovolts": ("26", "28", "30", "32"),
        "pre": ("[|digital |screening |full-field digital ]",),
        "adj": ("mammographic", "mammary", "§ mammary"),
        "head": ("mammogram", "mammogram", "§ mammogram", "mammographic view"),
        "place": ("the § mamma", "the glandular tissue", "the § mammary gland", "the fibroglandular parenchyma"),
        "at": ("in the § mamma", "within the fibroglandular tissue", "behind the nipple", "in the § mammary gland"),
        "organ": ("retroareolar region", "axillary tail"),
    },
    "breast-us": {
        "probe": ("linear-array",),
        "hertz": ("10", "12", "14"),
        "adj": ("mammary", "§ mammary", "axillary and mammary"),
        "place": ("the § mammary gland", "the glandular tissue", "the § mamma", "the retroareolar region"),
        "at": ("in the § mammary gland", "within the glandular tissue", "in the § mamma", "in the retroareolar region"),
        "organ": ("Cooper ligaments", "pectoral muscle"),
    },
    "breast-mr": {
        "plane": ("axial ", "transverse "),
        "weight": ("fat-suppressed T1-weighted", "contrast-enhanced T1-weighted", "T2-weighted", "subtraction"),
        "adj": ("mammary", "mammary", "dynamic mammary"),
        "head": ("MR mammogram",),
        "place": ("the § mammary gland", "both mammary glands", "the fibroglandular tissue", "the § mamma"),
        "at": ("in the § mammary gland", "within the fibroglandular tissue", "in the § mamma"),
        "organ": ("axillary region", "retroareolar region"),
    },
}  # fmt: skip

NAMED_FINDINGS: dict[tuple[str, str], Rules] = {
    ("breast-mammogram", "calcification"): {
        "named_many": (
            "[clustered|pleomorphic] microcalcifications {at}", "{many} {at}", "§ mammary microcalcifications",
        ),
    },
}  # fmt: skip

STEMS = "axilla breast cooper fibrogland glandular mamm microcalc nipple pectoral retroareol"
