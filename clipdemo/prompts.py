"""From a class name to the sentence that stands for it."""

from __future__ import annotations

from collections.abc import Sequence

from clipdemo.records import DEFAULT_TEMPLATE


def prompts_for(classes: Sequence[str], template: str = DEFAULT_TEMPLATE) -> list[str]:
    """One sentence a class, in the order given: "A medical image of chest"."""
    return [template.format(label=label.lower()) for label in classes]
