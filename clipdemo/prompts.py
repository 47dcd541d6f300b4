"""From a class name to the sentences that stand for it."""

from __future__ import annotations

from collections.abc import Sequence

from clipdemo.records import DEFAULT_TEMPLATE


def templates_of(template: str) -> list[str]:
    """The sentences of an ensemble, which are written in one line and divided by "|"."""
    return [part.strip() for part in template.split("|")]


def prompts_for(classes: Sequence[str], template: str = DEFAULT_TEMPLATE) -> list[str]:
    """One sentence a class and template, class by class: "A medical image of chest"."""
    return [part.format(label=label.lower()) for label in classes for part in templates_of(template)]
