"""Charts of a comparison: Plotly figures from numbers that `leaderboard` and `evaluation` made.

Plotly takes some HTML in texts, so whoever calls gives names of classes and models through `escaped`.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from clipdemo.appearance import COLOURS, SIGNS, TITLES, Appearance
from clipdemo.charts import SYMBOLS, best_step, thinned
from clipdemo.interpolation import Interpolation
from clipdemo.records import Step
from clipdemo.sweep import SweepResult
from clipdemo.worth import Worth

TEXT = {"size": 14}  # pixels: to be read from the back of a classroom
GREY = "#8E9199"
ORDERS = ("frequency", "gain", "difficulty", "name")
# One scale for all matrices, from the page's ground to the darkest: it reads on white and on dark ground.
_SHARES = ((0.0, "rgba(0, 114, 178, 0)"), (1.0, "rgba(0, 114, 178, 1)"))
_CELL_PIXELS = 26


def escaped(text: str) -> str:
    """The text as Plotly shows it letter by letter; `html.unescape` takes it back, as on a click."""
    return html.escape(text, quote=False).replace("$", "&#36;")  # $...$ would be a formula for MathJax


def escaped_looks(looks: Mapping[str, Appearance]) -> dict[str, Appearance]:
    """The models' looks with titles that Plotly shows letter by letter: they may hold a template or a base's name."""
    return {model: replace(look, title=escaped(look.title)) for model, look in looks.items()}


def _layout(figure: go.Figure, height: int, **more: object) -> go.Figure:
    return figure.update_layout(
        height=height,
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0, "traceorder": "normal", "font": TEXT},
        margin={"l": 8, "r": 28, "t": 44, "b": 44},
        **more,
    )


def ordered_classes(classes: pd.DataFrame, order: str, model: str) -> list[str]:
    """Class names in an order: by frequency, by `model`'s gain over its base, by difficulty for it, or by name.

    `classes` is `leaderboard.per_class`'s table.
    """
    own = classes[classes["model"] == model]
    if order == "name":
        return sorted(own["class"])
    by = {"frequency": "n", "gain": "gain", "difficulty": "top1"}[order]
    return list(own.sort_values([by, "class"], ascending=[by == "top1", True])["class"])


def class_bars(classes: pd.DataFrame, looks: Mapping[str, Appearance], order: Sequence[str]) -> go.Figure:
    """Top-1 a class and model as lying bars with their 95 % intervals, the first of `order` on top.

    A bar's customdata begins with its class and its model's id.
    """
    figure = go.Figure()
    sizes = classes.drop_duplicates("class").set_index("class")["n"]
    names = [f"{label}<br><span style='font-size: 12px'>n = {sizes[label]:,}</span>" for label in order]
    for model, look in looks.items():
        own = classes[classes["model"] == model].set_index("class").loc[list(order)]
        share = 100 * own["top1"]
        figure.add_bar(
            name=look.signed,
            y=names,
            x=share,
            orientation="h",
            marker={"color": look.colour, "pattern": _pattern(look), "line": {"width": 0}},
            error_x={
                "array": 100 * own["high"] - share,
                "arrayminus": share - 100 * own["low"],
                "symmetric": False,
                "thickness": 1.2,
                "width": 3,
                "color": "rgba(128, 128, 128, 0.9)",
            },
            customdata=[[label, model, *row] for label, row in zip(order, own[["right", "n"]].values, strict=True)],
            hovertemplate="%{customdata[0]}: %{customdata[2]} of %{customdata[3]} right (%{x:.1f} %)",
        )
    figure.update_layout(
        barmode="group",
        bargap=0.26,
        bargroupgap=0.06,
        xaxis={"range": [0, 101], "title": {"text": "right in first place, % of the class, with 95 % interval"},
               "ticksuffix": " %", "tickfont": TEXT},
        yaxis={"autorange": "reversed", "automargin": True, "tickfont": TEXT},
    )  # fmt: skip
    return _layout(figure, 110 + max(48, 24 * len(looks)) * len(order))


def _pattern(look: Appearance) -> dict[str, object]:
    # "overlay", as "replace" would paint the bar in the pattern's colour
    return {"shape": look.pattern, "fillmode": "overlay", "fgcolor": "rgba(255, 255, 255, 0.4)", "size": 6,
            "solidity": 0.2}  # fmt: skip


def model_intervals(rows: Sequence[tuple[Appearance, float, float, float]], unit: str = "top-1, %") -> go.Figure:
    """One line a model: a number with its 95 % interval, all fractions, the first on top."""
    figure = go.Figure()
    for look, value, low, high in rows:
        figure.add_scatter(
            x=[100 * value],
            y=[look.signed],
            mode="markers",
            marker={"color": look.colour, "size": 13, "symbol": _SYMBOLS[look.kind]},
            error_x={"array": [100 * (high - value)], "arrayminus": [100 * (value - low)], "symmetric": False,
                     "thickness": 3, "width": 0, "color": look.colour},
            hovertemplate=f"{100 * value:.1f} % (95 %: {100 * low:.1f} to {100 * high:.1f})<extra></extra>",
            showlegend=False,
        )  # fmt: skip
    figure.update_layout(
        xaxis={"title": {"text": f"{unit}, with 95 % interval"}, "ticksuffix": " %", "tickfont": TEXT},
        yaxis={"autorange": "reversed", "automargin": True, "tickfont": TEXT},
    )
    return _layout(figure, 90 + 38 * len(rows))


def interval_bars(rows: Sequence[tuple[Appearance, float, float, float]]) -> dict[str, object]:
    """The same as an ECharts option, which a page draws much sooner than its first Plotly chart."""
    looks = [look for look, *_ in rows]
    bars = [
        {"value": round(100 * (high - low), 2), "itemStyle": {"color": look.colour, "borderRadius": 4}}
        for look, _, low, high in rows
    ]
    signs = [
        {"value": [round(100 * value, 1), i], "symbol": SYMBOLS[look.kind], "itemStyle": {"color": look.colour},
         "label": {"formatter": f"{100 * value:.1f} %"}}
        for i, (look, value, _, _) in enumerate(rows)
    ]  # fmt: skip
    hidden = {"type": "bar", "stack": "interval", "silent": True, "barWidth": 6}
    return {
        "animation": False,
        "grid": {"left": 8, "right": 28, "top": 8, "bottom": 24, "containLabel": True},
        "xAxis": {"type": "value", "min": 0, "max": 100, "axisLabel": {"formatter": "{value} %", "fontSize": 13}},
        "yAxis": {"type": "category", "inverse": True, "data": [look.signed for look in looks],
                  "axisLabel": {"fontSize": 13}},
        "series": [
            hidden | {"data": [round(100 * low, 2) for _, _, low, _ in rows], "itemStyle": {"color": "transparent"}},
            hidden | {"data": bars},
            {"type": "scatter", "data": signs, "symbolSize": 15, "silent": True,
             "label": {"show": True, "position": "top", "fontSize": 13}},
        ],
    }  # fmt: skip


_SYMBOLS = {"base": "circle", "captions": "triangle-up", "labels": "square"}


def confusion_matrix(counts: np.ndarray, classes: Sequence[str]) -> go.Figure:
    """Rows are true classes, columns answers; colour is the share of the row, from 0 to 1 in every matrix.

    `counts` is int (n_classes, n_classes). An invisible sign lies on each cell, since Plotly's heat maps cannot be
    clicked in Streamlit; its customdata is the true class and the answer.
    """
    k = len(classes)
    rows = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, rows, out=np.zeros(counts.shape), where=rows > 0)
    figure = go.Figure()
    figure.add_heatmap(
        z=shares, zmin=0, zmax=1, colorscale=_SHARES, showscale=False, xgap=1, ygap=1, hoverinfo="skip",
    )  # fmt: skip
    y, x = np.divmod(np.arange(k * k), k)
    for dark in (True, False):  # white figures on dark cells, the page's own colour on the others
        shown = (counts.ravel() > 0) & ((shares.ravel() > 0.45) == dark)
        figure.add_scatter(
            x=x[shown], y=y[shown], mode="text", text=counts.ravel()[shown].astype(str), hoverinfo="skip",
            textfont={"size": 11} | ({"color": "#ffffff"} if dark else {}), showlegend=False,
        )  # fmt: skip
    figure.add_scatter(
        x=x,
        y=y,
        mode="markers",
        marker={"symbol": "square", "size": 17, "color": "rgba(128, 128, 128, 0.01)"},
        customdata=[[classes[i], classes[j], int(counts[i, j])] for i, j in zip(y, x, strict=True)],
        hovertemplate="%{customdata[2]} of %{customdata[0]} called %{customdata[1]}<extra></extra>",
        selected={"marker": {"color": "rgba(213, 94, 0, 0.55)"}},
        unselected={"marker": {"opacity": 1}},
        showlegend=False,
    )
    ticks = {"tickmode": "array", "tickvals": list(range(k)), "ticktext": list(classes), "showgrid": False,
             "zeroline": False, "tickfont": {"size": 11}, "constrain": "domain"}  # fmt: skip
    figure.update_layout(
        height=130 + _CELL_PIXELS * k,
        margin={"l": 8, "r": 8, "t": 8, "b": 8},
        xaxis=ticks | {"tickangle": -55, "automargin": True, "range": [-0.5, k - 0.5]},
        yaxis=ticks | {"automargin": True, "range": [k - 0.5, -0.5]},
        clickmode="event+select",
        dragmode=False,
    )
    return figure


def reliability(calibrations: Mapping[str, object], looks: Mapping[str, Appearance]) -> go.Figure:
    """How often answers of a certain confidence are right, a line a model; on the diagonal a model is as good as it
    says. A sign's area is the number of pictures in its bin."""
    figure = go.Figure()
    figure.add_scatter(
        x=[0, 100], y=[0, 100], mode="lines", name="as good as it says", hoverinfo="skip",
        line={"dash": "dot", "color": GREY, "width": 2},
    )  # fmt: skip
    for model, found in calibrations.items():
        look, bins = looks[model], [b for b in found.bins if b.n]
        figure.add_scatter(
            name=look.signed,
            x=[100 * b.confidence for b in bins],
            y=[100 * b.accuracy for b in bins],
            mode="lines+markers",
            line={"color": look.colour, "width": 2},
            marker={"symbol": _SYMBOLS[look.kind], "color": look.colour,
                    "size": [8 + 18 * (b.n / max(c.n for c in bins)) ** 0.5 for b in bins]},
            customdata=[[b.n] for b in bins],
            hovertemplate="%{y:.1f} % right of %{customdata[0]} answers with %{x:.1f} % confidence",
        )  # fmt: skip
    axis = {"range": [0, 102], "ticksuffix": " %", "tickfont": TEXT}
    figure.update_layout(
        xaxis=axis | {"title": {"text": "confidence of the answer"}}, yaxis=axis | {"title": {"text": "right"}}
    )
    return _layout(figure, 440)


def interpolation_curves(found: Interpolation, kind: str, share: float) -> go.Figure:
    """Accuracy on the way from the base's weights to the tuned ones, and a line at the share that is looked at."""
    figure = go.Figure()
    x = [point.share for point in found.points]
    curves = (
        ("validation", "this sample, validation", COLOURS[kind][1], "dash", "circle-open"),
        ("test", "this sample, test", COLOURS[kind][0], "solid", _SYMBOLS[kind]),
        ("general", "general set", GREY, "solid", "diamond"),
    )
    for field, name, colour, dash, symbol in curves:
        hits = [getattr(point, field) for point in found.points]
        figure.add_scatter(
            name=name,
            x=x,
            y=[100 * hit.fraction for hit in hits],
            mode="lines+markers",
            line={"color": colour, "width": 2, "dash": dash},
            marker={"symbol": symbol, "size": 9},
            customdata=[[hit.right, hit.n] for hit in hits],
            hovertemplate="%{customdata[0]} of %{customdata[1]} right (%{y:.1f} %)",
        )
    figure.add_vline(x=share, line={"width": 2, "dash": "dot", "color": GREY})
    figure.update_layout(
        hovermode="x unified",
        xaxis={"title": {"text": "share of the tuned weights: 0 is the base, 1 the run"}, "tickfont": TEXT},
        yaxis={"title": {"text": "top-1"}, "ticksuffix": " %", "tickfont": TEXT, "rangemode": "tozero"},
    )
    return _layout(figure, 420)


def learning_curves(found: SweepResult, known: Worth | None) -> go.Figure:
    """Top-1 over the number of training pictures, a line a kind through the seeds' means and a sign a run.

    An arrow leads from the most captions to the labels that give as much, where that lies between the sizes tried.
    """
    figure = go.Figure()
    sizes = list(found.config.sizes)
    if found.base:
        figure.add_hline(
            y=100 * found.base.top1, line={"dash": "dot", "width": 2, "color": GREY},
            annotation={"text": "base model", "font": TEXT}, annotation_position="bottom right",
        )  # fmt: skip
    for kind in ("captions", "labels"):
        curve, colour = found.curve(kind), COLOURS[kind][0]
        x = [place.pictures for place in curve]
        figure.add_scatter(
            x=[*x, *reversed(x)],
            y=[100 * max(place.top1) for place in curve] + [100 * min(place.top1) for place in reversed(curve)],
            fill="toself", mode="lines", line={"width": 0}, fillcolor=colour, opacity=0.16, hoverinfo="skip",
            showlegend=False,
        )  # fmt: skip
        figure.add_scatter(
            name=f"{SIGNS[kind]} {TITLES[kind]}",
            x=x,
            y=[100 * place.mean for place in curve],
            mode="lines",
            line={"color": colour, "width": 3},
            customdata=[[len(place.top1)] for place in curve],
            hovertemplate="%{x:,} pictures: %{y:.1f} % (mean of %{customdata[0]} seeds)",
        )
        figure.add_scatter(
            x=[place.pictures for place in curve for _ in place.top1],
            y=[100 * value for place in curve for value in place.top1],
            mode="markers",
            marker={"symbol": _SYMBOLS[kind], "size": 8, "color": colour, "line": {"width": 1, "color": "#ffffff"}},
            hovertemplate="one seed: %{y:.1f} %<extra></extra>",
            showlegend=False,
        )
    if known and math.isfinite(known.answer.labels):
        y = 100 * known.captions[-1]
        figure.add_annotation(
            x=math.log10(known.answer.labels), y=y, ax=math.log10(known.answer.captions), ay=y, axref="x", ayref="y",
            arrowhead=2, arrowwidth=2, arrowcolor=COLOURS["labels"][0], showarrow=True, text="",
        )  # fmt: skip
    figure.update_layout(
        xaxis={"type": "log", "tickvals": sizes, "ticktext": [f"{size:,}" for size in sizes], "tickfont": TEXT,
               "title": {"text": "training pictures"}},
        yaxis={"title": {"text": "top-1 on the test pictures"}, "ticksuffix": " %", "tickfont": TEXT},
    )  # fmt: skip
    return _layout(figure, 460)


def training_losses(steps: Mapping[str, Sequence[Step]], looks: Mapping[str, Appearance]) -> go.Figure:
    """Loss over epochs, a colour a model: training as a thin line, validation dashed with a sign an epoch.

    `steps` is what each model's run measured, by the model.
    """
    figure = go.Figure()
    for model, measured in steps.items():
        look = looks[model]
        own = [(step.epoch, step.training_loss) for step in measured if step.training_loss is not None]
        training = thinned(pd.DataFrame(own, columns=["epoch", "loss"], dtype=float), "loss")
        figure.add_scatter(
            name=f"{look.signed}, training", x=training["epoch"], y=training["loss"], mode="lines",
            line={"color": look.colour, "width": 1.5}, hovertemplate="epoch %{x:.2f}: %{y:.3f}",
        )  # fmt: skip
        figure.add_scatter(
            name=f"{look.signed}, validation", **_an_epoch(measured, "validation_loss"), mode="lines+markers",
            line={"color": look.colour, "width": 2, "dash": "dash"},
            marker={"symbol": _SYMBOLS[look.kind], "size": 8}, hovertemplate="epoch %{x:g}: %{y:.3f}",
        )  # fmt: skip
    return _over_epochs(figure, "loss")


def validation_accuracies(steps: Mapping[str, Sequence[Step]], looks: Mapping[str, Appearance]) -> go.Figure:
    """Validation top-1 over epochs, a line a model, its best epoch ringed."""
    figure = go.Figure()
    for model, measured in steps.items():
        look = looks[model]
        figure.add_scatter(
            name=look.signed, **_an_epoch(measured, "validation_top1", 100), mode="lines+markers",
            line={"color": look.colour, "width": 2}, marker={"symbol": _SYMBOLS[look.kind], "size": 8},
            hovertemplate="epoch %{x:g}: %{y:.1f} %",
        )  # fmt: skip
        if best := best_step(measured):
            top1 = 100 * best.validation_top1
            figure.add_scatter(
                x=[best.epoch], y=[top1], mode="markers", showlegend=False,
                marker={"symbol": "circle-open", "size": 19, "color": look.colour, "line": {"width": 2}},
                hovertemplate=f"best epoch, %{{x:g}}: {top1:.1f} %<extra></extra>",
            )  # fmt: skip
    return _over_epochs(figure, "validation top-1", ticksuffix=" %")


def _an_epoch(measured: Sequence[Step], field: str, factor: float = 1) -> dict[str, list[float]]:
    """The points of a line that has one an epoch."""
    points = [(step.epoch, factor * value) for step in measured if (value := getattr(step, field)) is not None]
    return {"x": [x for x, _ in points], "y": [y for _, y in points]}


def _over_epochs(figure: go.Figure, unit: str, **axis: object) -> go.Figure:
    figure.update_layout(
        xaxis={"title": {"text": "epoch"}, "tickfont": TEXT, "rangemode": "tozero"},
        yaxis={"title": {"text": unit}, "tickfont": TEXT, **axis},
    )
    return _layout(figure, 400)
