"""How each model of a comparison is called and drawn, the same on every chart, table and page.

Each kind's first colour is of Okabe and Ito (2008), safe for the colour-blind; all have 3:1 or more on the white and on
the dark ground. Several models of one kind share its sign and differ in shade and pattern, so that colour never stands
alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from clipdemo.records import BUILT_IN_BASE, Comparison, Evaluation

NOT_FOR_DIAGNOSIS = "For learning about models, **not for diagnosis**: nothing here is a medical device."

KINDS = ("base", "captions", "labels")
TITLES = {"base": "Base", "captions": "Captions", "labels": "Labels"}
SIGNS = {"base": "●", "captions": "▲", "labels": "■"}
COLOURS = {  # the first is the kind's own; the others are for more models of it
    "base": ("#8E9199", "#6C6F77", "#7F8C9E", "#8F8470", "#77808A"),
    "captions": ("#0072B2", "#3A8FD0", "#2E7D9A", "#6F74C8", "#4A6FA5"),
    "labels": ("#D55E00", "#B8860B", "#C2504A", "#A9702B", "#C77A1E"),
}
_PATTERNS = {"base": ("", "x", "+"), "captions": ("/", "\\", "|"), "labels": (".", "-", "+")}


@dataclass(frozen=True)
class Appearance:
    """One model's name and look. `pattern` is Plotly's name of a bar's filling."""

    title: str
    kind: str
    sign: str
    colour: str
    pattern: str

    @property
    def signed(self) -> str:
        """The title behind its sign: "▲ Captions"."""
        return f"{self.sign} {self.title}"


def of_kind(kind: str, title: str = "") -> Appearance:
    """The look of a kind of model as such, for what is no single model."""
    return Appearance(title or TITLES[kind], kind, SIGNS[kind], COLOURS[kind][0], _PATTERNS[kind][0])


def appearances(comparison: Comparison) -> dict[str, Appearance]:
    """Each model's look, by its evaluation's id, in the comparison's order."""
    looks = {}
    for kind in KINDS:
        models = [model for model in comparison.models if model.name == kind]
        for place, model in enumerate(models):
            looks[model.predictions] = Appearance(
                title=_title(model, models, comparison),
                kind=kind,
                sign=SIGNS[kind],
                colour=COLOURS[kind][place % len(COLOURS[kind])],
                pattern=_PATTERNS[kind][place % len(_PATTERNS[kind])],
            )
    return {model.predictions: looks[model.predictions] for model in comparison.models}


def _title(model: Evaluation, models: Sequence[Evaluation], comparison: Comparison) -> str:
    """The kind, and of all that can tell models of one kind apart as much as does."""
    said = [TITLES[model.name]]
    facts: tuple[Callable[[Evaluation], str], ...] = (
        lambda m: "built in" if m.base == BUILT_IN_BASE else m.base,
        lambda m: _run_fact(m, comparison, "pictures", "{} pictures", "all pictures"),
        lambda m: _run_fact(m, comparison, "learning_rate", "rate {:g}"),
        lambda m: _run_fact(m, comparison, "epochs", "{} epochs"),
        lambda m: _run_fact(m, comparison, "batch_size", "batch {}"),
        lambda m: _run_fact(m, comparison, "tune", "{}"),
        lambda m: _run_fact(m, comparison, "loss", "{}"),
        lambda m: f"“{m.template}”",
        lambda m: _run_fact(m, comparison, "seed", "seed {}", "seed 0"),
    )
    for fact in facts:
        if len({fact(other) for other in models}) > 1:
            said.append(fact(model))
    if _has_twin(model, models, facts):
        said.append(model.run or model.predictions)
    return ", ".join(said)


def _has_twin(model: Evaluation, models: Sequence[Evaluation], facts: Sequence[Callable[[Evaluation], str]]) -> bool:
    """Whether another model of the kind has all facts in common with this one."""
    return sum(all(fact(other) == fact(model) for fact in facts) for other in models) > 1


def _run_fact(model: Evaluation, comparison: Comparison, name: str, text: str, zero: str = "") -> str:
    if model.run is None:
        return ""
    value = getattr(comparison.runs[model.run], name)
    return zero if zero and not value else text.format(value)


def seed_groups(comparison: Comparison) -> list[list[Evaluation]]:
    """Models that differ in nothing but their seed, two or more together, in the comparison's order."""
    groups: dict[str, list[Evaluation]] = {}
    for model in comparison.models:
        if model.run:
            config = comparison.runs[model.run]
            alike = config.model_dump_json(exclude={"seed"}) + model.template
            groups.setdefault(alike, []).append(model)
    return [group for group in groups.values() if len(group) > 1]
