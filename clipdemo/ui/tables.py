"""Tables for the pages, made of records: one function a table, a DataFrame back."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import pandas as pd
import streamlit as st

from clipdemo.appearance import Appearance, of_kind
from clipdemo.leaderboard import Estimate, Leaderboard
from clipdemo.paper import PAPER
from clipdemo.records import SPLITS, CleaningReport, percent
from clipdemo.statistics import Paired
from clipdemo.training.runs import Run

REPORT_COLUMNS = {
    "What": st.column_config.TextColumn(width="medium"),
    "Rows": st.column_config.NumberColumn(format="localized", width="small"),
    "For example": st.column_config.TextColumn(width="large"),
}
SIGN_COLOURS = {"base": "gray", "captions": "blue", "labels": "orange"}  # names in the theme


def signed(look: Appearance) -> str:
    """A model's title behind its sign in its kind's colour, as Streamlit's Markdown."""
    title = re.sub(r"([\\`*_\[\]<>~$:])", r"\\\1", look.title)  # it may hold a base's name or a template
    return f":{SIGN_COLOURS[look.kind]}[{look.sign}]\u00a0{title}"  # a sign never stands alone on a line


def board_table(board: Leaderboard, looks: Mapping[str, Appearance]) -> pd.DataFrame:
    """One row a model: top-1, top-3 and macro top-1 with their intervals, the points above its base, and n."""
    rows = []
    for standing in board.standings:
        if standing.top1 is None:
            continue
        row = {"Model": signed(looks[standing.model])}
        row |= {"Top-1": with_interval(standing.top1), "Top-3": with_interval(standing.top3)}
        row["Macro top-1"] = with_interval(standing.macro_top1)
        row["Over base"] = _difference(standing.difference)
        rows.append(row | {"n": f"{standing.n:,}"})
    return pd.DataFrame(rows)


def _difference(paired: Paired | None) -> str:
    if paired is None:
        return "–"
    low, high = (points(limit) for limit in paired.interval)
    return f"{points(paired.difference)} :gray[{unbroken(f'{low} to {high}')}]"


def with_interval(found: Estimate | None) -> str:
    """ "64.3 % 59.6 to 68.8" with the interval in grey; an en dash where there is no number."""
    if found is None:
        return "–"
    interval = unbroken(f"{100 * found.low:.1f} to {100 * found.high:.1f}")
    return f"{unbroken(percent(found.value))} :gray[{interval}]"


def seeds_table(board: Leaderboard) -> pd.DataFrame:
    """One row a group of runs that differ in their seed only: mean, standard deviation and interval of the mean."""
    rows = []
    for group in board.groups:
        row = {"Models": signed(of_kind(group.kind, group.title))}
        for name, over in (("Top-1", group.top1), ("Top-3", group.top3)):
            if over and over.sd is not None:
                interval = f"{100 * over.low:.1f} to {100 * over.high:.1f}"
                row[f"{name}, mean"] = f"{unbroken(percent(over.mean))} :gray[{unbroken(interval)}]"
                row[f"{name}, sd"] = f"{100 * over.sd:.1f}"
        rows.append(row | {"Seeds": str(len(group.models))})
    return pd.DataFrame(rows)


def retrieval_table(board: Leaderboard, looks: Mapping[str, Appearance]) -> pd.DataFrame:
    """One row a model: how often a picture finds its caption among the first 1, 5 and 10, and a caption its picture."""
    rows = []
    for standing in board.standings:
        if standing.caption_recall:
            row = {"Model": signed(looks[standing.model])}
            row |= {f"Caption in first {k}": with_interval(found) for k, found in standing.caption_recall.items()}
            row |= {f"Picture in first {k}": with_interval(found) for k, found in standing.picture_recall.items()}
            rows.append(row)
    return pd.DataFrame(rows)


def paper_table() -> pd.DataFrame:
    """Table 1 of the paper, as it stands there, with the points above its base."""
    rows = [
        {
            "Model": signed(of_kind(kind, title)),
            "Top-1": unbroken(f"{top1:.1f} %"),
            "Top-3": unbroken(f"{top3:.1f} %"),
            "Over base": "–" if kind == "base" else points((top1 - PAPER[0][2]) / 100),
        }
        for kind, title, top1, top3 in PAPER
    ]
    return pd.DataFrame(rows)


def unbroken(number: str) -> str:
    """The number and its sign on one line, however narrow the table."""
    return number.replace(" ", "\u00a0")


def points(difference: float) -> str:
    """A difference of two fractions in percentage points: 0.149 -> "+14.9"."""
    return f"{100 * difference:+.1f}".replace("-", "−")


def cleaning_table(report: CleaningReport) -> pd.DataFrame:
    """Where every row of the source went; the counts between the first line and the last add up to both."""
    lines = [("Rows of the source", report.rows, "")]
    lines += [
        (f"left out: {d.reason}", d.count, " · ".join(e or "(empty)" for e in d.examples)) for d in report.dropped
    ]
    lines += [("clean, not needed", report.not_drawn, "")]
    lines += [(f"in the sample: {split}", sum(report.split_classes[split].values()), "") for split in SPLITS]
    lines += [("Total", sum(count for _, count, _ in lines[1:]), "")]
    return pd.DataFrame(lines, columns=["What", "Rows", "For example"])


def run_table(runs: Sequence[Run], states: Mapping[str, str]) -> pd.DataFrame:
    """One row a run with its settings and how it ended; numbers stay numbers, so that columns sort."""
    rows = []
    for run in runs:
        result = run.result
        rows.append(
            {
                "Run": run.name,
                "Pairs": run.config.mode,
                "State": states[run.id],
                "Best epoch": result.best_epoch if result else None,
                "Validation top-1": 100 * result.best_validation_top1 if result else None,
                "Epochs": run.config.epochs,
                "Batch": run.config.batch_size,
                "Learning rate": run.config.learning_rate,
                "Seconds": result.seconds if result else None,
            }
        )
    return pd.DataFrame(rows)
