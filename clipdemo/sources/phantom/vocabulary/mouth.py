"""Words about the mouth. `vocabulary` says what the tables are for."""

from __future__ import annotations

from clipdemo.sources.phantom.grammar import Rules

PART: Rules = {
    "class_place": ("the oral cavity",),
    "class_adj": ("oral cavity",),
    "part_complaint": ("toothache", "pain on chewing", "swelling of the jaw", "bad breath"),
}  # fmt: skip

VIEWS: dict[str, Rules] = {
    "mouth-panoramic": {
        "pre": ("[|digital |conventional ]",),
        "core": ("panoramic radiograph", "panoramic radiograph", "panoramic X-ray", "panoramic film", "panoramic view"),
        "adj": ("dental", "dental", "maxillofacial", "jaw"),
        "head": ("orthopantomogram", "orthopantomogram", "panoramic dental radiograph"),
        "place": ("the jaws", "the mandible and maxilla", "the dentition", "the teeth and jaws"),
        "at": ("in the § jaw", "on the § side of the dentition", "in the § half of the jaws"),
        "organ": ("maxillary sinuses", "mandibular condyles", "wisdom teeth"),
    },
    "mouth-periapical": {
        "kilovolts": ("60", "65", "70"),
        "adj": ("dental", "periapical", "intraoral", "intraoral periapical"),
        "head": ("periapical radiograph", "intraoral radiograph", "dental film"),
        "place": ("the teeth", "the molars and premolars", "the alveolar ridge", "the dental roots"),
        "at": ("at a tooth", "in a molar or premolar", "next to the alveolar bone", "at the affected tooth"),
        "organ": ("pulp chambers", "lamina dura", "periodontal ligament space"),
    },
    "mouth-photo": {
        "adj": ("intraoral", "intraoral", "dental"),
        "place": ("the mouth", "the open mouth", "the tongue and palate", "the gingiva", "the dentition"),
        "at": ("on the oral mucosa", "in the mouth", "on the § side of the mouth", "near the gingiva"),
        "organ": ("lips", "buccal mucosa", "hard palate"),
    },
}  # fmt: skip

NAMED_FINDINGS: dict[tuple[str, str], Rules] = {
    ("mouth-panoramic", "impacted tooth"): {
        "named_one": (
            "a^ impacted [third molar|wisdom tooth]", "an impacted § molar",
            "a^ [mesioangular|horizontal] impacted tooth on the §",
        ),
    },
    ("mouth-panoramic", "implant"): {
        "named_one": ("a^ dental implant", "a^ § dental implant", "{one} {at}", "an osseointegrated dental implant"),
    },
    ("mouth-periapical", "periapical lesion"): {
        "named_one": (
            "a^ periapical [radiolucency|lesion|granuloma]", "a^ {small} mm periapical lesion", "apical periodontitis",
            "{one} around a root apex",
        ),
    },
    ("mouth-periapical", "caries"): {
        "named_one": ("[proximal|deep|extensive] caries", "dental caries", "a^ carious lesion", "{one} in a crown"),
    },
    ("mouth-periapical", "filling"): {
        "named_one": ("a^ dental filling", "an amalgam filling in a molar", "{one} of a crown", "a^ filled tooth"),
    },
    ("mouth-photo", "ulcer"): {
        "named_one": ("an oral ulcer", "an aphthous ulcer {at}", "{one} {at}", "a^ mucosal ulcer in the mouth"),
    },
    ("mouth-photo", "white patch"): {
        "named_one": ("oral leukoplakia", "{one} {at}", "a^ white patch of the oral mucosa"),
    },
}  # fmt: skip

STEMS = (
    "alveolar amalgam apical bitewing buccal caries carious crown dental dentition gingiv incisor intraoral "
    "jaw lamina lingual lip$ lips$ mandib maxill molar mouth oral orthopantomo palate periapical periodont "
    "premolar pulp root teeth tongue tooth"
)
