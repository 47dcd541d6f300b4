"""The classes of PubMedVision, in its own spelling, and other wordings of them.

The real field was filled in by a language model; the phantom source imitates it, so both share this vocabulary.
"""

from __future__ import annotations

BODY_PARTS: tuple[str, ...] = (
    "Abdomen",
    "Brain",
    "Breast",
    "Cell",
    "Chest",
    "Eye",
    "Foot",
    "Gastrointestinal tract",
    "Lower limb",
    "Oral cavity",
    "Pelvic cavity",
    "Upper limb",
)

# Wordings that mean exactly one class, in the form that `cleaning.folded` gives them.
SYNONYMS: dict[str, str] = {
    "gastrointestinal": "Gastrointestinal tract",
    "gi tract": "Gastrointestinal tract",
    "digestive tract": "Gastrointestinal tract",
    "pelvis": "Pelvic cavity",
    "mouth": "Oral cavity",
    "feet": "Foot",
    "leg": "Lower limb",
    "lower extremity": "Lower limb",
    "arm": "Upper limb",
    "upper extremity": "Upper limb",
    "thorax": "Chest",
}
