"""The command that shows pictures of anybody's to a comparison's models."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from clipdemo.cli.common import WorkspaceOption, app, plain_errors, screen
from clipdemo.errors import BadSettings
from clipdemo.records import RunConfig, percent
from clipdemo.workspace import Workspace, disk_errors

if TYPE_CHECKING:
    from clipdemo.classify import Classifier, Result


@app.command()
def classify(
    files: Annotated[list[Path], typer.Argument(help="Pictures, folders and ZIP archives.")],
    comparison: Annotated[
        str | None, typer.Option(help="Id of a comparison; left out, the built-in base model answers.")
    ] = None,
    label: Annotated[list[str] | None, typer.Option(help="A class of your own to choose from; repeatable.")] = None,
    template: Annotated[str, typer.Option(help=f"With --label: {RunConfig.model_fields['template'].description}")] = "",
    k: Annotated[int, typer.Option("--k", min=1, max=100, help="Answers and captions a model.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="A line of JSON a picture instead of a table.")] = False,
    csv: Annotated[Path | None, typer.Option(help="Write the table into this file.")] = None,
    workspace: WorkspaceOption = None,
) -> None:
    """See what each model says to any pictures. Exit code 1 where none of the files can be read."""
    from clipdemo.classify import answers_csv, classified
    from clipdemo.drop import Dropped, Refused, read_drop

    with plain_errors():
        if template and not label:
            raise BadSettings("--template is a sentence for labels of your own: give them with --label")
        classifier = _opened(Workspace(workspace), comparison, label, template)
        results: list[Result] = []
        refused: Counter[str] = Counter()

        def reading() -> Iterator[Dropped | Refused]:
            junk = yield from read_drop(files, classifier.sizes)
            if junk:
                print(f"{junk:,} hidden files of the operating system skipped", file=sys.stderr)

        for one in classified(classifier, reading(), k):
            if isinstance(one, Refused):
                refused[one.reason] += 1
                print(f"refused: {one.message}", file=sys.stderr)
                continue
            results.append(one)
            if as_json:
                print(json.dumps(one.plain(), ensure_ascii=False), flush=True)
        if csv and results:
            with disk_errors(csv):
                csv.write_bytes(answers_csv(results))
        if not as_json and results:
            _print(classifier, results)
        for reason, count in refused.most_common():
            print(f"{count:,} x {reason}", file=sys.stderr)
        if not results:
            print("none of the files is a picture that can be read", file=sys.stderr)
            raise typer.Exit(1)


def _opened(place: Workspace, comparison: str | None, labels: list[str] | None, template: str) -> Classifier:
    from clipdemo.classify import checked_labels, open_classifier, zero_shot
    from clipdemo.comparison import load_comparison

    if labels:
        checked_labels(labels)  # before models are opened
    chosen = load_comparison(place, comparison) if comparison else None
    opening = open_classifier(place, chosen)
    with Console(stderr=True).status("opening models") as status:
        while True:
            try:
                status.update(escape(next(opening).note))
            except StopIteration as end:
                classifier = end.value
                break
    return zero_shot(classifier, labels, template) if labels else classifier


def _print(classifier: Classifier, results: list[Result]) -> None:
    from clipdemo.classify import accuracies

    table = Table(title=f"{len(results):,} pictures")
    table.add_column("picture", overflow="fold")
    for model in classifier.models:
        table.add_column(model.look.signed, overflow="fold")
    table.add_column("in words", overflow="fold")
    for result in results:
        said = [
            "\n".join(f"{first.label} {percent(first.probability)}" for first in answer.labels)
            for answer in result.answers
        ]
        table.add_row(*map(escape, (result.name, *said, result.agreement)))
    screen.print(table)
    for found in accuracies(results):
        interval = f"95 % interval {100 * found.low:.1f} to {100 * found.high:.1f}"
        share = percent(found.right / found.n)
        screen.print(f"{found.title}: {share} of {found.n:,} pictures with a known class right ({interval})")
    if classifier.novelty is not None:
        rule = classifier.novelty
        screen.print(
            f"Familiar: of {rule.tested:,} more pictures that belong {rule.alarms:,} would be called unfamiliar "
            f"({100 * rule.false_alarms.low:.1f} to {100 * rule.false_alarms.high:.1f} %); "
            f"threshold from {rule.learned:,} training pictures"
        )
