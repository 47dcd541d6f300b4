"""Charts of samples and runs: Plotly figures, and ECharts options for what ticks. No widget, no file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from clipdemo.appearance import COLOURS
from clipdemo.records import CONTEXT_TOKENS, SPLITS, CleaningReport, Mode, Step, percent

SYMBOLS = {"base": "circle", "captions": "triangle", "labels": "rect"}  # of ECharts

SPLIT_COLOURS = {"train": "#009E73", "validation": "#CC79A7", "test": "#E69F00"}
_SPLIT_SYMBOLS = {"train": "diamond", "validation": "triangle-up-open", "test": "circle"}

_TEXT = {"size": 14}  # pixels: to be read from the back of a classroom
_SMOOTHED_POINTS = 24  # of a training curve; fewer are as smooth as they get
MOST_POINTS = 1500  # a live curve's, so that a refresh stays small


def class_shares(report: CleaningReport) -> go.Figure:
    """Each class's share of the cleaned source (bars) and of the three splits (signs), the most frequent on top."""
    source = report.source_classes
    labels = sorted(source, key=lambda label: (-source[label], label))
    figure = go.Figure()

    def shares(counts: Mapping[str, int]) -> dict[str, object]:
        whole = sum(counts.values())
        numbers = [counts.get(label, 0) for label in labels]
        return {
            "y": labels,
            "x": [100 * n / whole if whole else 0.0 for n in numbers],
            "customdata": [[n, whole] for n in numbers],
        }

    hover = "%{y}: %{customdata[0]:,} of %{customdata[1]:,} (%{x:.1f} %)"
    figure.add_bar(
        name=f"cleaned source, n = {sum(source.values()):,}",
        orientation="h",
        marker={"color": "rgba(142, 145, 153, 0.42)", "line": {"width": 0}},
        hovertemplate=hover,
        **shares(source),
    )
    for split in SPLITS:
        counts = report.split_classes.get(split, {})
        figure.add_scatter(
            name=f"{split}, n = {sum(counts.values()):,}",
            mode="markers",
            marker={
                "symbol": _SPLIT_SYMBOLS[split],
                "size": 20 if split == "validation" else 12,  # around the test's sign, which often has the same place
                "color": SPLIT_COLOURS[split],
                "line": {"width": 2 if split == "validation" else 0},
            },
            hovertemplate=hover,
            **shares(counts),
        )
    figure.update_layout(
        height=120 + 34 * len(labels),
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0, "font": _TEXT},
        margin={"l": 8, "r": 16, "t": 60, "b": 44},
        xaxis={
            "rangemode": "tozero",
            "title": {"text": "share of the pictures, %"},
            "ticksuffix": " %",
            "tickfont": _TEXT,
        },
        yaxis={"autorange": "reversed", "automargin": True, "tickfont": _TEXT},
    )
    return figure


def caption_lengths(tokens: np.ndarray) -> go.Figure:
    """How many captions have so many tokens, with the line where CLIP stops reading; the last bar is all longer ones.

    `tokens` is int (n_captions,), start and end included.
    """
    width, most = 7, 25 * 7
    bars = np.bincount(np.minimum(tokens, most) // width, minlength=most // width + 1)
    starts = np.arange(len(bars)) * width
    names = [f"{start} to {start + width - 1} tokens" for start in starts[:-1]] + [f"{most} tokens or more"]
    figure = go.Figure()
    figure.add_bar(
        x=starts + width / 2,
        y=bars,
        width=width * 0.92,
        marker={
            "color": [COLOURS["captions"][0] if start < CONTEXT_TOKENS else "#8E9199" for start in starts],
            "line": {"width": 0},
        },
        customdata=names,
        hovertemplate="%{customdata}: %{y:,} captions<extra></extra>",
    )
    cut = int((tokens > CONTEXT_TOKENS).sum())
    figure.add_vline(
        x=CONTEXT_TOKENS,
        line={"dash": "dash", "width": 2, "color": "#8E9199"},
        annotation={"text": f"CLIP reads {CONTEXT_TOKENS}; {cut:,} of {len(tokens):,} are cut", "font": _TEXT},
    )
    figure.update_layout(
        height=340,
        showlegend=False,
        margin={"l": 8, "r": 16, "t": 32, "b": 44},
        xaxis={"title": {"text": "tokens of the caption"}, "tickfont": _TEXT, "range": [0, most + width]},
        yaxis={"title": {"text": "captions"}, "tickfont": _TEXT},
    )
    return figure


# ---- curves of runs, for st.echarts_chart: they are redrawn every second without a flicker


def best_step(steps: Sequence[Step]) -> Step | None:
    """The first epoch with the highest validation top-1 so far; epoch 0 is the base model and does not count."""
    validated = [step for step in steps if step.validation_top1 is not None and step.epoch > 0]
    return max(validated, key=lambda step: step.validation_top1, default=None)


def loss_curves(runs: Mapping[Mode, Sequence[Step]], epochs: int) -> dict[str, object]:
    """Training loss (solid) and validation loss (dashed) over epochs, as an ECharts option."""
    wanted = {"training": "training_loss", "validation": "validation_loss"}
    frame, series = _long_frame(runs, wanted), []
    for mode in runs:
        for kind in wanted:
            line = _line(mode, f"{mode}, {kind}")
            line["name"] = mode  # one entry in the legend hides both
            line["lineStyle"] = {"width": 2, "type": "solid" if kind == "training" else [6, 4]}
            line["showSymbol"] = kind == "validation"
            series.append(line)
        smoothed = _smoothed(runs[mode], f"{mode}, smoothed")
        if smoothed is not None:
            series[-2]["lineStyle"] |= {"width": 1, "opacity": 0.35}
            frame = pd.concat([frame, smoothed], ignore_index=True)
            series.append(_line(mode, f"{mode}, smoothed") | {"name": mode, "showSymbol": False})
    return _option(frame, series, epochs, "loss", "%.3f")


def accuracy_curves(runs: Mapping[Mode, Sequence[Step]], epochs: int) -> dict[str, object]:
    """Validation top-1 in per cent over epochs, the best epoch ringed, as an ECharts option."""
    frame, series = _long_frame(runs, {"validation": "validation_top1"}, factor=100), []
    for mode, steps in runs.items():
        line = _line(mode, f"{mode}, validation")
        line["name"] = mode
        if best := best_step(steps):
            line["markPoint"] = _ring(mode, best)
        series.append(line)
    return _option(frame, series, epochs, "top-1, %", "%.1f %%")


def thinned(frame: pd.DataFrame, column: str, most: int = MOST_POINTS) -> pd.DataFrame:
    """At most about `most` rows, in order, with the smallest and largest value of every stretch still among them."""
    if len(frame) <= most:
        return frame
    values = frame[column].to_numpy()
    edges = np.linspace(0, len(frame), most // 2 + 1).astype(int)
    stretches = [(a, b) for a, b in pairwise(edges) if b > a]
    kept = {a + int(pick(values[a:b])) for a, b in stretches for pick in (np.argmin, np.argmax)}
    return frame.iloc[sorted(kept | {0, len(frame) - 1})]


def _long_frame(runs: Mapping[Mode, Sequence[Step]], fields: Mapping[str, str], factor: float = 1.0) -> pd.DataFrame:
    """One column `epoch` and one a curve, named "captions, training" and so on; a row belongs to one curve."""
    curves = []
    for mode, steps in runs.items():
        for kind, name in fields.items():
            points = [(s.epoch, factor * getattr(s, name)) for s in steps if getattr(s, name) is not None]
            curve = pd.DataFrame(points, columns=["epoch", f"{mode}, {kind}"], dtype=float)
            curves.append(thinned(curve, f"{mode}, {kind}"))
    return pd.concat(curves, ignore_index=True) if curves else pd.DataFrame({"epoch": []})


def _smoothed(steps: Sequence[Step], column: str) -> pd.DataFrame | None:
    """The training loss as a running mean over a twentieth of it; None for a curve too short to need one."""
    points = [(step.epoch, step.training_loss) for step in steps if step.training_loss is not None]
    if len(points) < _SMOOTHED_POINTS:
        return None
    curve = pd.DataFrame(points, columns=["epoch", column], dtype=float)
    curve[column] = curve[column].ewm(span=max(5, len(points) // 20)).mean()
    return thinned(curve, column)


def _line(mode: Mode, column: str) -> dict[str, object]:
    return {
        "type": "line",
        "name": column,
        "encode": {"x": "epoch", "y": column, "tooltip": [column]},
        "connectNulls": True,
        "color": COLOURS[mode][0],
        "symbol": SYMBOLS[mode],
        "symbolSize": 8,
        "lineStyle": {"width": 2},
    }


def _ring(mode: Mode, best: Step) -> dict[str, object]:
    label = {
        "show": True,
        "formatter": f"best: {percent(best.validation_top1)}",
        "position": "top" if mode == "labels" else "bottom",
        "distance": 8,
        "color": "#ffffff",
        "backgroundColor": COLOURS[mode][0],
        "padding": [4, 7],
        "borderRadius": 5,
        "fontSize": 13,
        "fontWeight": 600,
    }
    return {
        "symbol": "circle",
        "symbolSize": 18,
        "itemStyle": {"color": "transparent", "borderColor": COLOURS[mode][0], "borderWidth": 2},
        "label": label,
        "data": [{"coord": [best.epoch, 100 * best.validation_top1]}],
    }


def _option(frame: pd.DataFrame, series: list[dict], epochs: int, unit: str, number: str) -> dict[str, object]:
    text = {"fontSize": 13}
    return {
        "animation": False,
        "dataset": {"source": frame},
        "grid": {"left": 8, "right": 52, "top": 60, "bottom": 56, "containLabel": True},
        "dataZoom": [  # the wheel scrolls the page
            {"type": "inside", "zoomOnMouseWheel": "shift"},
            {"type": "slider", "height": 18, "bottom": 4, "brushSelect": False, "labelFormatter": ""},
        ],
        "legend": {"top": 0, "left": 0, "itemGap": 16, "textStyle": {"fontSize": 14}},
        "tooltip": {"trigger": "item", "valueFormatter": number},
        "xAxis": {
            "type": "value", "name": "epoch", "nameLocation": "middle", "nameGap": 26,
            "min": 0, "max": epochs, "minInterval": 1, "axisLabel": text, "nameTextStyle": text,
        },
        "yAxis": {"type": "value", "name": unit, "scale": True, "axisLabel": text, "nameTextStyle": text},
        "series": series,
    }  # fmt: skip
