"""The report's charts, on white and with every name from outside escaped.

Plotly reads texts as a little HTML (<b>, <a href>, <br>), so names go in as entities and come out as they were.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import plotly.graph_objects as go

from clipdemo import result_charts
from clipdemo.appearance import Appearance
from clipdemo.evaluation import confusion
from clipdemo.leaderboard import Estimate
from clipdemo.reporting.findings import Findings
from clipdemo.result_charts import escaped, escaped_looks

PAGE_PIXELS = 860  # height of a chart that fills a printed page, as in report.js
MOST_CELLS_A_SIDE = 60  # a larger matrix cannot be read; its CSV can
_FONT = {"family": "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif", "color": "#1B2530"}


@dataclass(frozen=True)
class Chart:
    """A figure with the name of its files and what stands above it."""

    name: str
    title: str
    figure: go.Figure
    note: str = ""


Charts = dict[str, list[Chart]]  # by the section that they stand in


def charts_of(findings: Findings) -> Charts:
    """All charts that there is something to draw in."""
    sections = {
        "models": _models(findings),
        "classes": _classes(findings),
        "confusion": _confusions(findings),
        "calibration": _calibrations(findings),
        "training": _training(findings),
        "sweeps": _sweeps(findings),
        "interpolations": _interpolations(findings),
    }
    return {section: [replace(c, figure=_printable(c.figure)) for c in charts] for section, charts in sections.items()}


def all_charts(charts: Charts) -> list[Chart]:
    """In the report's order."""
    return [chart for section in charts.values() for chart in section]


def _looks(findings: Findings) -> dict[str, Appearance]:
    return escaped_looks(findings.looks)


def _models(findings: Findings) -> Iterator[Chart]:
    looks = _looks(findings)

    def rows(estimates: dict[str, Estimate | None]) -> list[tuple[Appearance, float, float, float]]:
        return [(looks[model], e.value, e.low, e.high) for model, e in estimates.items() if e]

    standings = findings.board.standings
    if top1 := rows({s.model: s.top1 for s in standings}):
        yield Chart("top1", "Right in first place", result_charts.model_intervals(top1))
    if recall := rows({s.model: s.caption_recall.get(1) for s in standings}):
        figure = result_charts.model_intervals(recall, "own caption found in first place, %")
        yield Chart("caption-recall", "Pictures that find their own caption", figure)


def _classes(findings: Findings) -> Iterator[Chart]:
    """Bars of all classes, several charts where one would not fit a page."""
    if findings.classes.empty:
        return
    classes = findings.classes.assign(**{"class": findings.classes["class"].map(escaped)})
    order = result_charts.ordered_classes(classes, "frequency", findings.models[0].predictions)
    most = max(4, int(1.25 * PAGE_PIXELS / max(48, 24 * len(findings.models))))  # a page's charts may shrink so much
    parts = math.ceil(len(order) / most)
    size = math.ceil(len(order) / parts)
    for part in range(parts):
        figure = result_charts.class_bars(classes, _looks(findings), order[part * size : (part + 1) * size])
        said = f", part {part + 1} of {parts}" if parts > 1 else ""
        name = f"per-class-{part + 1}" if parts > 1 else "per-class"
        yield Chart(name, f"Top-1 a class, the most frequent first{said}", figure)


def _confusions(findings: Findings) -> Iterator[Chart]:
    answers = findings.answers
    if answers is None or len(answers.classes) > MOST_CELLS_A_SIDE:
        return
    names = [escaped(label) for label in answers.classes]
    for model, said in answers.said.items():
        figure = result_charts.confusion_matrix(confusion(said, answers.target, len(names)), names)
        yield Chart(f"confusion-{model}", findings.looks[model].signed, figure)


def _calibrations(findings: Findings) -> Iterator[Chart]:
    titles = {"learned": "With the logit scale that each model learned",
              "fitted": "With the logit scale fitted on validation pictures"}  # fmt: skip
    for kind, found in findings.calibrations.items():
        if found:
            yield Chart(f"calibration-{kind}", titles[kind], result_charts.reliability(found, _looks(findings)))


def _training(findings: Findings) -> Iterator[Chart]:
    if steps := findings.steps:
        looks = _looks(findings)
        yield Chart("training-loss", "Loss", result_charts.training_losses(steps, looks))
        note = "The ring is the best epoch, whose weights were kept. Epoch 0 is the base."
        figure = result_charts.validation_accuracies(steps, looks)
        yield Chart("training-validation", "Top-1 on the validation pictures", figure, note)


def _sweeps(findings: Findings) -> Iterator[Chart]:
    for result, known in findings.sweeps:
        title = f"{len(result.points)} runs on {len(result.config.sizes)} sizes"
        yield Chart(result.id, title, result_charts.learning_curves(result, known))


def _interpolations(findings: Findings) -> Iterator[Chart]:
    for model, way in findings.interpolations.items():
        look, share = findings.looks[model], way.recommended.share
        figure = result_charts.interpolation_curves(way, look.kind, share)
        note = f"The line is the recommended share, {share:g}: the best one on validation pictures."
        yield Chart(f"interpolation-{model}", look.signed, figure, note)


def _printable(figure: go.Figure) -> go.Figure:
    return figure.update_layout(template="plotly_white", font=_FONT, paper_bgcolor="#ffffff", plot_bgcolor="#ffffff")
