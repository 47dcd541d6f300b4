"""Labels made canonical; what is left out, why, and how often.

A row is kept, or dropped for the first of these reasons that holds. Nothing is dropped without being counted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from clipdemo.records import DroppedRows

EXAMPLES = 3

NO_LABEL = "label is empty"
SEVERAL_LABELS = "label names more than one class"
OTHERS_LABEL = "label is “Others”"
SENTENCE_LABEL = "label is a sentence"
UNKNOWN_LABEL = "label is no known class"
EXCLUDED_LABEL = "class was excluded"
NO_CAPTION = "caption is empty"
PLACEHOLDER_CAPTION = "caption is a placeholder"

_SEPARATORS = re.compile(r"[,;/&+|]|\band\b|\bor\b")
_PLACEHOLDER = re.compile(
    r"replace this|description of the image|image description|caption (?:goes )?here|insert caption|lorem ipsum"
    r"|^\W*(?:n/?a|none|null|nan|tbd|caption|(?:figure )?legend|figure|image|not available)\W*$"
    r"|^\W*no caption(?: available)?\W*$",
    re.IGNORECASE,
)


def folded(text: str) -> str:
    """Lower case, hyphens and runs of white space as one space, no surrounding punctuation."""
    return re.sub(r"[\s_\-]+", " ", text).strip(" .:;,!\"'()[]").casefold()


class Vocabulary:
    """The classes that count and every wording that means one of them."""

    def __init__(self, classes: Sequence[str], synonyms: Mapping[str, str]) -> None:
        self._meaning = {folded(name): name for name in classes}
        self._meaning |= {folded(wording): name for wording, name in synonyms.items() if name in classes}

    def lookup(self, text: str) -> str | None:
        """The class that `text` means, plural or singular, or None."""
        key = folded(text)
        return self._meaning.get(key) or self._meaning.get(key.removesuffix("s"))

    def judge(self, text: str) -> tuple[str | None, str]:
        """(class, "") for a label that means one class, else (None, reason)."""
        if not text.strip():
            return None, NO_LABEL
        if label := self.lookup(text):
            return label, ""
        if folded(text) in ("others", "other"):
            return None, OTHERS_LABEL
        parts = [part for part in _SEPARATORS.split(folded(text)) if part.strip()]
        if len(parts) > 1 and sum(self.lookup(part) is not None for part in parts) > 1:
            return None, SEVERAL_LABELS
        return None, SENTENCE_LABEL if len(text.split()) > 4 else UNKNOWN_LABEL


@dataclass
class CleanTable:
    """What cleaning leaves: `rows` keeps the source's positions as its index and has canonical labels."""

    rows: pd.DataFrame
    dropped: list[DroppedRows]
    relabelled: int
    total: int
    classes: dict[str, int] = field(init=False)  # rows a class, most frequent first

    def __post_init__(self) -> None:
        counts = self.rows["label"].value_counts(sort=False).to_dict()
        self.classes = dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def clean(
    table: pd.DataFrame, classes: Sequence[str], synonyms: Mapping[str, str], exclude: Sequence[str] = ()
) -> CleanTable:
    """Keeps the rows with one known label and a caption that says something; counts all others by reason."""
    vocabulary = Vocabulary(classes, synonyms)
    verdicts = {text: vocabulary.judge(text) for text in table["label"].unique()}
    label = table["label"].map({text: verdict[0] for text, verdict in verdicts.items()})
    reason = table["label"].map({text: verdict[1] for text, verdict in verdicts.items()})

    captions = table["caption"]
    empty = captions.str.strip() == ""
    placeholder = captions.str.contains(_PLACEHOLDER, na=False)
    reason = reason.mask((reason == "") & empty, NO_CAPTION)
    reason = reason.mask((reason == "") & placeholder, PLACEHOLDER_CAPTION)
    reason = reason.mask((reason == "") & label.isin(list(exclude)), EXCLUDED_LABEL)

    kept = reason == ""
    rows = table[kept].assign(label=label[kept])
    dropped = [_dropped(table[reason == name], name) for name in reason[~kept].value_counts().index]
    return CleanTable(rows, dropped, int((rows["label"] != table["label"][kept]).sum()), len(table))


def _dropped(rows: pd.DataFrame, reason: str) -> DroppedRows:
    column = "caption" if reason in (NO_CAPTION, PLACEHOLDER_CAPTION) else "label"
    examples = [value for value in rows[column].unique() if value.strip()][:EXAMPLES]
    return DroppedRows(reason=reason, count=len(rows), examples=[e[:120] for e in examples])
