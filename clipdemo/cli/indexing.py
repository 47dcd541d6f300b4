"""Commands that find neighbours: which texts are nearest to a picture, and the other way round."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.markup import escape
from rich.table import Table

from clipdemo.cli.common import JobOption, WorkspaceOption, app, plain_errors, screen, this_job, with_bars
from clipdemo.errors import BadSettings, ClipDemoError, PictureError
from clipdemo.records import BUILT_IN_BASE, RunConfig
from clipdemo.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np

    from clipdemo.neighbours import Neighbourhood
    from clipdemo.search import Index

index = typer.Typer(help="Find neighbours: texts of pictures and pictures of texts.", no_args_is_help=True)
app.add_typer(index, name="index")

SampleOption = Annotated[str, typer.Option(help="Id of a sample.")]
RunOption = Annotated[str | None, typer.Option(help="Id of a run; left out, the base model looks.")]
_PIPED = "- reads one a line from standard input."
BaseOption = Annotated[str, typer.Option(help=RunConfig.model_fields["base"].description)]


@index.command()
def build(
    sample: SampleOption,
    run: RunOption = None,
    base: BaseOption = BUILT_IN_BASE,
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON instead of a line each.")] = False,
    workspace: WorkspaceOption = None,
    job: JobOption = None,
) -> None:
    """Encode a sample and build the indexes of its pictures and captions. Prints what they are, a line each."""
    from clipdemo.search import in_short

    with plain_errors():
        space = _opened(Workspace(workspace), sample, run, base, job, always_a_job=True)
        built = {"pictures": space.pictures} | ({"captions": space.texts} if space.texts is not None else {})
        if as_json:
            cards = {name: one.card.model_dump(mode="json") for name, one in built.items()}
            print(json.dumps({"sample": sample, "run": run, **cards}))
        else:
            for name, one in built.items():
                print(f"{name}: {in_short(one.card)}")


@index.command()
def search(
    sample: SampleOption,
    run: RunOption = None,
    base: BaseOption = BUILT_IN_BASE,
    text: Annotated[str | None, typer.Option(help=f"Any text to look for; {_PIPED}")] = None,
    picture: Annotated[str | None, typer.Option(help=f"Id of a picture of the sample; {_PIPED}")] = None,
    image: Annotated[str | None, typer.Option(help=f"File of any picture; {_PIPED}")] = None,
    k: Annotated[int, typer.Option("--k", min=1, max=1000, help="How many neighbours.")] = 10,
    where: Annotated[
        Literal["captions", "pictures"] | None,
        typer.Option("--in", help="What to look through; left out, pictures for a text and captions for a picture."),
    ] = None,
    label: Annotated[list[str] | None, typer.Option(help="Only pictures of this class; may be repeated.")] = None,
    split: Annotated[list[str] | None, typer.Option(help="Only pictures of this split; may be repeated.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="A line of JSON a question instead of a table.")] = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Find the nearest captions or pictures of a text, a picture of the sample, or any picture file.

    With - as the question, each line of standard input is one: the model is opened once for all of them.
    """
    from clipdemo import neighbours

    with plain_errors():
        given = {"text": text, "picture": picture, "image": image}
        given = {name: value for name, value in given.items() if value is not None}
        if len(given) != 1:
            raise BadSettings(f"say what to look for: one of --text, --picture and --image, not {len(given)} of them")
        ((kind, question),) = given.items()
        where = where or ("pictures" if kind == "text" else "captions")
        if where == "captions" and (label or split):
            raise BadSettings("--label and --split choose pictures: use them with --in pictures")
        if kind == "image" and question != "-":
            _bytes(question)  # says that it is not there before a model is opened
        space = _opened(Workspace(workspace), sample, run, base)
        looked_through = space.texts if where == "captions" else space.pictures
        if looked_through is None:
            raise BadSettings(f"sample {sample} has no captions: use --in pictures")
        mask = neighbours.allowed(space, label or (), split or ())
        failed = 0
        for one in _lines() if question == "-" else [question]:
            told = {"sample": sample, "run": run, kind: one, "in": where}
            try:
                vector, place = _asked_with(space, kind, one)
            except ClipDemoError as error:
                if question != "-":
                    raise
                failed += 1  # the others are answered all the same
                if as_json:
                    print(json.dumps(told | {"error": str(error)}), flush=True)
                else:
                    typer.echo(error, err=True)
                continue
            answer = _answer(space, vector, place, k, where, mask)
            if as_json:
                print(json.dumps(told | answer | {"index": _of(looked_through)}), flush=True)
            else:
                _print_neighbours(answer["neighbours"], f"Nearest {where} in {sample}: {one}")
        if failed:
            raise BadSettings(f"{failed:,} lines could not be looked for: each says why where its answer would stand")


def _lines() -> Iterator[str]:
    """Questions from standard input, as they come; empty lines are counted and said at the end."""
    empty = 0
    sys.stdin.reconfigure(errors="replace")  # a line that is no text finds nothing, and the next may
    for line in sys.stdin:
        if line.strip():
            yield line.rstrip("\r\n")
        else:
            empty += 1
    if empty:
        typer.echo(f"{empty:,} empty lines were left out", err=True)


def _opened(
    place: Workspace, sample: str, run: str | None, base: str, job: str | None = None, always_a_job: bool = False
) -> Neighbourhood:
    """The sample as a model sees it; a job where there is something to build."""
    from clipdemo.embeddings import model_id
    from clipdemo.models import open_model
    from clipdemo.neighbours import is_ready, neighbourhood
    from clipdemo.progress import finish
    from clipdemo.sampling import load_sample
    from clipdemo.training.runs import load_run

    data, trained = load_sample(place, sample), load_run(place, run) if run else None
    if trained and trained.result is None:
        raise BadSettings(f"run {run} has not ended, or was broken off: train it again with the same settings")
    base = trained.config.base if trained else base
    clip, model = open_model(base, trained.weights if trained else None), model_id(trained, base)
    opening = neighbourhood(clip, model, data, place)
    if not always_a_job and is_ready(clip, model, data, place):
        return finish(opening)
    with this_job(place, job, "index", {"sample_id": sample, "run": run, "base": base}) as recorder:
        return with_bars(recorder, opening)


def _bytes(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:  # a name with a zero byte is no OSError
        why = error.strerror if isinstance(error, OSError) else error
        raise PictureError(f"{path} cannot be read ({why}): name a picture file") from None


def _asked_with(space: Neighbourhood, kind: str, question: str) -> tuple[np.ndarray, int | None]:
    """What is looked for as the model sees it, and its place where it is one of the sample's pictures."""
    from clipdemo import neighbours

    if kind == "picture":
        place = space.place(question)
        return neighbours.picture_vector(space, place), place
    if kind == "text":
        return neighbours.text_vector(space.clip, question), None
    return neighbours.image_vector(space.clip, _bytes(question), question), None


def _answer(
    space: Neighbourhood, vector: np.ndarray, place: int | None, k: int, where: str, mask: np.ndarray
) -> dict[str, object]:
    """Neighbours as plain values, best first; for a picture of the sample its own caption as well."""
    from clipdemo import neighbours

    if where == "pictures":
        if place is None:
            found = neighbours.near_pictures(space, vector, k, mask)
        else:
            found = neighbours.pictures_of_picture(space, place, k, mask)
        return {"neighbours": [near._asdict() for near in found]}
    if place is None:
        return {"neighbours": [near._asdict() for near in neighbours.near_captions(space, vector, k)]}
    texts = neighbours.texts_of_picture(space, place, k)
    return {"neighbours": [near._asdict() for near in texts.captions], "own": texts.own._asdict()}


def _of(index: Index) -> dict[str, object]:
    """What was looked through, and how much of the truth it finds."""
    return index.card.model_dump(include={"kind", "n", "dim", "effort", "recall", "probes"})


def _print_neighbours(found: list[dict[str, object]], title: str) -> None:
    """A row a neighbour."""
    names = ("id", "label", "split", "caption") if found and "id" in found[0] else ("text", "own")
    table = Table(title=escape(title))
    table.add_column("cosine", justify="right")
    for name in names:
        table.add_column(name, overflow="fold")
    for near in found:
        values = ("yes" if near[name] is True else "" if near[name] is False else str(near[name]) for name in names)
        table.add_row(f"{near['score']:.3f}", *map(escape, values))
    screen.print(table)
