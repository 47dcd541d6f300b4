"""From a class name to the sentences that stand for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from clipdemo.records import DEFAULT_TEMPLATE

Wordings = Mapping[str, Sequence[str]]  # a class -> what it is called in its sentences, instead of its name


def templates_of(template: str) -> list[str]:
    """The sentences of an ensemble, which are written in one line and divided by "|"."""
    return [part.strip() for part in template.split("|")]


def prompts_of(label: str, template: str = DEFAULT_TEMPLATE, wordings: Wordings | None = None) -> list[str]:
    """A class's sentences, one a wording and template: "A medical image of chest". Wordings are taken as written."""
    names = (wordings or {}).get(label) or [label.lower()]
    return [part.format(label=name) for name in names for part in templates_of(template)]


def averaged(features: np.ndarray, prompts: Sequence[Sequence[str]]) -> np.ndarray:
    """float32 (n_classes, dim), rows of unit length: the mean of each class's sentences.

    `features` is float (n_sentences, dim), the sentences of `prompts` class by class.
    """
    starts = np.cumsum([0, *(len(sentences) for sentences in prompts[:-1])])
    total = np.add.reduceat(features, starts, axis=0)  # its direction is the mean's
    return total / np.linalg.norm(total, axis=1, keepdims=True)


def prompts_for(classes: Sequence[str], template: str = DEFAULT_TEMPLATE) -> list[str]:
    """One sentence a class and template, class by class."""
    return [sentence for label in classes for sentence in prompts_of(label, template)]
