"""Records as tables on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from clipdemo.cli.common import screen
from clipdemo.leaderboard import Estimate, Predictions, leaderboard
from clipdemo.records import RETRIEVAL_DEPTHS, CleaningReport, Comparison, Evaluation, percent


def print_report(report: CleaningReport, source: str, sizes: dict[str, int]) -> None:
    """Where every row went, as a table."""
    table = Table(title=f"{report.rows:,} rows of {source}: where they went")
    table.add_column("rows", justify="right")
    table.add_column("")
    table.add_column("for example", overflow="fold", max_width=60)
    for entry in report.dropped:
        table.add_row(f"{entry.count:,}", f"left out: {entry.reason}", escape("; ".join(entry.examples)))
    table.add_row(f"{report.not_drawn:,}", "clean, not needed" if sizes else "clean")
    for split, size in sizes.items():
        table.add_row(f"{size:,}", split)
    screen.print(table)


def print_comparison(comparison: Comparison, predictions: Predictions) -> None:
    """Every model's numbers with their 95 % intervals, and the differences in words."""
    board = leaderboard(comparison, predictions)
    table = Table(title=f"{board.standings[0].n:,} test pictures of {comparison.sample}, with 95 % intervals")
    table.add_column("model")
    numbers = {
        "top-1": [standing.top1 for standing in board.standings],
        "top-3": [standing.top3 for standing in board.standings],
        "macro top-1": [standing.macro_top1 for standing in board.standings],
        "caption in first 1": [standing.caption_recall.get(1) for standing in board.standings],
        "picture in first 10": [standing.picture_recall.get(10) for standing in board.standings],
    }
    shown = {name: found for name, found in numbers.items() if any(found)}
    for name in shown:
        table.add_column(name, justify="right")
    for standing, *row in zip(board.standings, *shown.values(), strict=True):
        table.add_row(escape(standing.title), *map(_with_interval, row))
    screen.print(table)
    for standing in board.standings:
        if standing.sentence:
            screen.print(standing.sentence, markup=False)
    if comparison.synthetic:
        screen.print("These pictures are synthetic: drawn by this program, of nobody.")


def _with_interval(found: Estimate | None) -> str:
    return f"{percent(found.value)} ({100 * found.low:.1f}-{100 * found.high:.1f})" if found else "-"


def print_models(models: Sequence[Evaluation], title: str) -> None:
    """Class numbers where the sample has labels, retrieval numbers where it has captions."""
    columns: dict[str, list[str]] = {"model": [model.name for model in models]}
    if all(model.top1 is not None for model in models):
        columns["top-1"] = [percent(model.top1) for model in models]
        columns["top-3"] = [percent(model.top3) for model in models]
    if all(model.retrieval for model in models):
        for k in RETRIEVAL_DEPTHS:
            columns[f"caption in first {k}"] = [percent(model.retrieval.image_to_text[k]) for model in models]
        columns["picture in first 10"] = [percent(model.retrieval.text_to_image[10]) for model in models]
    table = Table(title=title)
    for name in columns:
        table.add_column(name, justify="left" if name == "model" else "right")
    for row in zip(*columns.values(), strict=True):
        table.add_row(*row)
    screen.print(table)
