"""Tables for the pages, made of records: one function a table, a DataFrame back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import streamlit as st

from clipdemo.charts import MODEL_SIGNS
from clipdemo.records import SPLITS, CleaningReport, Comparison, percent
from clipdemo.training.runs import Run

# Table 1 of the paper: ViT-B/32, 4,096 entries of PubMedVision; per cent.
PAPER = (("base", "Pre-trained", 49.4, 78.9), ("captions", "Fine-tuned (captions)", 64.3, 83.1),
         ("labels", "Fine-tuned (labels)", 76.9, 92.1))  # fmt: skip
REPORT_COLUMNS = {
    "What": st.column_config.TextColumn(width="medium"),
    "Rows": st.column_config.NumberColumn(format="localized", width="small"),
    "For example": st.column_config.TextColumn(width="large"),
}
PAPER_NAMES = {name: title for name, title, _, _ in PAPER}
SIGN_COLOURS = {"base": "gray", "captions": "blue", "labels": "orange"}  # names in the theme


def signed(name: str, title: str) -> str:
    """A model's title behind its sign in its colour, as Streamlit's Markdown."""
    return f":{SIGN_COLOURS[name]}[{MODEL_SIGNS[name]}] {title}"


def comparison_table(comparison: Comparison) -> pd.DataFrame:
    """One row a model: top-1, top-3, the points above the base in top-1, and n."""
    base = next((model.top1 for model in comparison.models if model.name == "base"), None)
    rows = [
        {
            "Model": signed(model.name, PAPER_NAMES[model.name]),
            "Top-1": _unbroken(percent(model.top1)),
            "Top-3": _unbroken(percent(model.top3)),
            "Over base": "–" if base is None or model.name == "base" else points(model.top1 - base),
            "n": f"{model.n:,}",
        }
        for model in comparison.models
        if model.top1 is not None
    ]
    return pd.DataFrame(rows)


def retrieval_table(comparison: Comparison) -> pd.DataFrame:
    """One row a model: how often a picture finds its caption among the first 1, 5 and 10, and a caption its picture."""
    rows = []
    for model in comparison.models:
        if found := model.retrieval:
            row = {"Model": signed(model.name, PAPER_NAMES[model.name])}
            row |= {f"Caption in first {k}": _unbroken(percent(share)) for k, share in found.image_to_text.items()}
            row |= {f"Picture in first {k}": _unbroken(percent(share)) for k, share in found.text_to_image.items()}
            rows.append(row | {"n": f"{found.n:,}"})
    return pd.DataFrame(rows)


def paper_table() -> pd.DataFrame:
    """Table 1 of the paper, as it stands there, with the points above its base."""
    rows = [
        {
            "Model": signed(name, title),
            "Top-1": _unbroken(f"{top1:.1f} %"),
            "Top-3": _unbroken(f"{top3:.1f} %"),
            "Over base": "–" if name == "base" else points((top1 - PAPER[0][2]) / 100),
        }
        for name, title, top1, top3 in PAPER
    ]
    return pd.DataFrame(rows)


def _unbroken(number: str) -> str:
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
