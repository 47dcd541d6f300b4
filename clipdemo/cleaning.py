"""Labels made canonical; what is left out, why, and how often.

A row is kept, or dropped for the first of these reasons that holds. Nothing is dropped without being counted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from clipdemo.errors import SampleError
from clipdemo.records import CleaningRules, DroppedRows

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

EXAMPLES = 3
MOST_VALUES = 200  # of a label column that a report lists

NO_LABEL = "label is empty"
SEVERAL_LABELS = "label names more than one class"
OTHERS_LABEL = "label is “Others”"
SAYS_NONE_LABEL = "label says that there is none"
SENTENCE_LABEL = "label is a sentence"
UNKNOWN_LABEL = "label is no known class"
RARE_LABEL = "class has too few pictures"
EXCLUDED_LABEL = "class was excluded"
NO_CAPTION = "caption is empty"
PLACEHOLDER_CAPTION = "caption is a placeholder"
FOREIGN_CAPTION = "caption is not English"

RARE_CLASS = "rare"
_SENTENCE_WORDS = {True: 4, False: 8}  # more are a sentence: classes known beforehand have short names

_SEPARATORS = re.compile(r"[,;/&+|]|\band\b|\bor\b")
_NONE = frozenset(("n/a", "na", "none", "null", "nan", "unknown", "unlabeled", "unlabelled", "not available", "?"))
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
    """The classes that count and every wording that means one of them.

    `known` says that the classes were named beforehand: a wording that is none of them is no label.
    """

    def __init__(self, classes: Sequence[str], synonyms: Mapping[str, str], known: bool = True) -> None:
        self.known = known
        self._meaning = {folded(name): name for name in classes}
        self._meaning |= {folded(wording): name for wording, name in synonyms.items() if name in classes}

    @classmethod
    def learned(cls, counts: Mapping[str, int], synonyms: Mapping[str, str]) -> Vocabulary:
        """Every label is a class, in its most frequent spelling; a plural is the class of its singular.

        `counts` says how often each value of the label column occurs. Values that look like no label at all are none.
        """
        vocabulary = cls([], {}, known=False)
        by_count = sorted(counts, key=lambda text: (-counts[text], text))
        alone = {folded(text) for text in by_count}
        for text in by_count:
            key = folded(text)
            parts = [part.strip() for part in _SEPARATORS.split(key) if part.strip()]
            several = len(parts) > 1 and all(part in alone for part in parts)
            if key and not several and not vocabulary._looks_like_none(text) and not vocabulary.lookup(text):
                singular = key.removesuffix("s")
                vocabulary._meaning[singular if singular in alone else key] = " ".join(text.split())
        names = set(vocabulary._meaning.values())
        vocabulary._meaning |= {folded(w): name for w, name in synonyms.items() if name in names}
        return vocabulary

    def take_back(self, synonyms: Mapping[str, str]) -> None:
        """Adds what a reader has decided: wordings of a class, or classes of their own."""
        for wording, name in synonyms.items():
            self._meaning.setdefault(folded(name), name)
            self._meaning[folded(wording)] = self._meaning[folded(name)]

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
        if folded(text) in _NONE or not folded(text):
            return None, SAYS_NONE_LABEL
        parts = [part for part in _SEPARATORS.split(folded(text)) if part.strip()]
        if len(parts) > 1 and sum(self.lookup(part) is not None for part in parts) > 1:
            return None, SEVERAL_LABELS
        return None, SENTENCE_LABEL if self._is_sentence(text) else UNKNOWN_LABEL

    def _looks_like_none(self, text: str) -> bool:
        return folded(text) in ("others", "other", *_NONE) or self._is_sentence(text)

    def _is_sentence(self, text: str) -> bool:
        return len(text.split()) > _SENTENCE_WORDS[self.known] or len(text) > 100


@dataclass
class CleanTable:
    """What cleaning leaves: `rows` keeps the source's positions as its index and has canonical labels.

    `captions` are those of all rows of the source, dropped or not, for half a million are too many to copy.
    `uses` names the texts that play a part: of "captions" and "labels". Labels are "" where they play none.
    """

    rows: pd.DataFrame
    captions: pd.Series
    dropped: list[DroppedRows]
    relabelled: int
    total: int
    uses: tuple[str, ...] = ("captions", "labels")
    wordings: dict[str, dict[str, int]] = field(default_factory=dict)
    no_labels: dict[str, int] = field(default_factory=dict)
    excluded: frozenset[str] = frozenset()  # excluded classes that rows had
    classes: dict[str, int] = field(init=False)  # rows a class, most frequent first; {"": rows} without labels

    def __post_init__(self) -> None:
        counts = self.rows["label"].value_counts(sort=False).to_dict()
        self.classes = dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def clean(
    table: pd.DataFrame,
    classes: Sequence[str] | None,
    synonyms: Mapping[str, str],
    rules: CleaningRules | None = None,
) -> CleanTable:
    """Keeps the rows that have the texts they need; counts all others by reason. Raises `SampleError`.

    `classes` are the labels that count, or None where every label does.
    """
    rules = rules or CleaningRules()
    uses = _uses(table, rules)
    reason = table["problem"].copy() if "problem" in table else pd.Series("", index=table.index)
    label = pd.Series("", index=table.index)
    counts = table["label"][reason == ""].value_counts().to_dict()
    verdicts: dict[str, tuple[str | None, str]] = {}
    if "labels" in uses:
        vocabulary = Vocabulary(classes, synonyms) if classes else Vocabulary.learned(counts, synonyms)
        vocabulary.take_back(rules.synonyms)
        verdicts = {text: vocabulary.judge(text) for text in table["label"].unique()}
        label = table["label"].map({text: verdict[0] for text, verdict in verdicts.items()})
        verdict = table["label"].map({text: verdict[1] for text, verdict in verdicts.items()})
        reason = reason.mask(reason == "", verdict)
    if "captions" in uses:
        reason = reason.mask((reason == "") & _is_blank(table["caption"]), NO_CAPTION)
        reason = reason.mask((reason == "") & _is_placeholder(table["caption"]), PLACEHOLDER_CAPTION)
    if "labels" in uses:
        reason = reason.mask((reason == "") & label.isin(list(rules.exclude)), EXCLUDED_LABEL)
        label, reason = _without_rare(label, reason, rules)

    kept = reason == ""
    rows = table.drop(columns="caption")[kept].assign(label=label[kept])
    dropped = [_dropped(table[reason == name], name) for name in reason[~kept].value_counts().index]
    changed = int((rows["label"] != table["label"][kept]).sum()) if "labels" in uses else 0
    return CleanTable(
        rows=rows,
        captions=table["caption"],
        dropped=dropped,
        relabelled=changed,
        total=len(table),
        uses=uses,
        wordings=_wordings(verdicts, counts),
        no_labels=_no_labels(verdicts, counts),
        excluded=frozenset(label[reason == EXCLUDED_LABEL]),
    )


def _is_blank(captions: pd.Series) -> pd.Series:
    """Whether each caption is white space alone. Looks at beginnings first: a copy of half a million is big."""
    return _confirmed(captions, captions.str.slice(0, 80).str.strip() == "", lambda text: not text.strip())


def _is_placeholder(captions: pd.Series) -> pd.Series:
    """Whether each caption says nothing. Arrow's search is 40 times faster, but takes foreign letters for signs."""
    suspects = pc.match_substring_regex(pa.array(captions), _PLACEHOLDER.pattern, ignore_case=True)
    return _confirmed(captions, suspects.to_pandas(), lambda text: _PLACEHOLDER.search(text) is not None)


def _confirmed(captions: pd.Series, suspects: pd.Series, test: Callable[[str], bool]) -> pd.Series:
    found = suspects.to_numpy(dtype=bool, copy=True)
    found[found] = [test(text) for text in captions[found]]
    return pd.Series(found, index=captions.index)


def _uses(table: pd.DataFrame, rules: CleaningRules) -> tuple[str, ...]:
    """Which of captions and labels play a part. Raises `SampleError` for one that is asked for and not there."""
    usable = table["problem"] == "" if "problem" in table else pd.Series(True, index=table.index)
    there = {
        name: any(text.strip() for text, fine in zip(table[name[:-1]], usable, strict=True) if fine)
        for name in ("captions", "labels")
    }
    wanted = {"auto": tuple(name for name in there if there[name]), "both": ("captions", "labels")}
    uses = wanted.get(rules.texts, (rules.texts,))
    for name in uses:
        if not there[name]:
            raise SampleError(f"texts = {rules.texts!r}, but the source has no {name}: choose auto, or another column")
    if not uses:
        raise SampleError(
            f"none of the source's {len(table):,} rows has a caption or a label and can be used"
            + _most_frequent(table)
            + ": say which columns hold them, or choose another source"
        )
    return uses


def _most_frequent(table: pd.DataFrame) -> str:
    problems = table["problem"][table["problem"] != ""] if "problem" in table else table["id"][:0]
    return f" (most often: {problems.value_counts().index[0]})" if len(problems) else ""


def _without_rare(label: pd.Series, reason: pd.Series, rules: CleaningRules) -> tuple[pd.Series, pd.Series]:
    counts = label[reason == ""].value_counts()
    rare = (reason == "") & label.isin(counts.index[counts < rules.smallest_class])
    if rules.rare == "merge" and rare.sum() >= rules.smallest_class:
        return label.mask(rare, RARE_CLASS), reason
    return label, reason.mask(rare, RARE_LABEL)


def _wordings(verdicts: dict[str, tuple[str | None, str]], counts: dict[str, int]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for text in sorted(counts, key=lambda text: (-counts[text], text)):
        name = verdicts.get(text, (None, ""))[0]
        if name and text != name:
            found.setdefault(name, {})[text] = counts[text]
    return {name: dict(list(spellings.items())[:MOST_VALUES]) for name, spellings in found.items()}


def _no_labels(verdicts: dict[str, tuple[str | None, str]], counts: dict[str, int]) -> dict[str, int]:
    found = {text: n for text, n in counts.items() if text.strip() and verdicts.get(text, ("", ""))[1]}
    most = sorted(found, key=lambda text: (-found[text], text))[:MOST_VALUES]
    return {text[:200]: found[text] for text in most}


def _dropped(rows: pd.DataFrame, reason: str) -> DroppedRows:
    if reason in (NO_CAPTION, PLACEHOLDER_CAPTION):
        column = "caption"
    else:
        column = "label" if reason.startswith(("label", "class")) else "id"
    examples = [value for value in rows[column].unique() if value.strip()][:EXAMPLES]
    return DroppedRows(reason=reason, count=len(rows), examples=[e[:120] for e in examples])


# ---- the language of a caption

_FOREIGN_SCRIPT = 0.3  # share of letters that are not Latin
_LEAST_WORDS, _LEAST_PROBABILITY = 5, 0.9  # fewer words say too little for a guess


def is_foreign(caption: str) -> bool:
    """Whether a caption is not English: another script, or py3langid is sure of another language.

    Of the 2,626 captions of ROCO's test split it names 81 (tests/test_real_data.py), nearly all of them French.
    """
    letters = [c for c in caption if c.isalpha()]
    if letters and sum(ord(c) > 0x24F and not 0x370 <= ord(c) < 0x400 for c in letters) > _FOREIGN_SCRIPT * len(
        letters
    ):
        return True  # Greek letters stand in English captions as well
    if len(caption.split()) < _LEAST_WORDS:
        return False
    language, probability = _identifier().classify(caption)
    return language != "en" and probability >= _LEAST_PROBABILITY


@cache
def _identifier() -> LanguageIdentifier:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # 0.7 s

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
