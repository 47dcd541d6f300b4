"""The words that phantom captions are made of: by modality, body part, view and finding.

Every entry is a rule of the small grammar that `grammar` explains: a name and the texts that it may stand for. In them
`§` is the case's side. `examinations` and `findings` hold for the whole body; each other file has the words of one body
part, which are collected here.
"""

from __future__ import annotations

from clipdemo.sources.phantom.grammar import Rules
from clipdemo.sources.phantom.vocabulary import (
    abdomen,
    arm,
    brain,
    breast,
    cells,
    chest,
    eyes,
    foot,
    gut,
    leg,
    mouth,
    pelvis,
)
from clipdemo.sources.phantom.vocabulary.examinations import LOOKS
from clipdemo.sources.phantom.vocabulary.findings import FINDINGS

__all__ = ["FINDINGS", "LOOKS", "NAMED_FINDINGS", "PARTS", "STEMS", "VIEWS"]

_WORDS = {
    "Chest": chest,
    "Abdomen": abdomen,
    "Brain": brain,
    "Cell": cells,
    "Pelvic cavity": pelvis,
    "Lower limb": leg,
    "Oral cavity": mouth,
    "Gastrointestinal tract": gut,
    "Eye": eyes,
    "Upper limb": arm,
    "Breast": breast,
    "Foot": foot,
}

# By body part: the class's own name as a place and as an adjective, and complaints that hint at the part.
PARTS: dict[str, Rules] = {part: words.PART for part, words in _WORDS.items()}

# By view: `adj` and `place` are other ways to name the part, `head` an examination's own word that names it, `at`
# says where a finding lies (never more closely than anatomy promises), `organ` adds to the view's structures.
VIEWS: dict[str, Rules] = {view: rules for words in _WORDS.values() for view, rules in words.VIEWS.items()}

# By view and finding: words for the finding that name the body part themselves, in place of "<finding> <at>".
NAMED_FINDINGS: dict[tuple[str, str], Rules] = {
    key: rules for words in _WORDS.values() for key, rules in words.NAMED_FINDINGS.items()
}

# Beginnings of words that name a part, its organs, bones or tissues, for `captions.names_part`: "$" ends a word and
# "_" is a space or hyphen.
STEMS: dict[str, str] = {part: words.STEMS for part, words in _WORDS.items()}
