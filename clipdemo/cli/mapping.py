"""The command that lays a sample's pictures and class sentences out in two dimensions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.markup import escape
from rich.table import Table

from clipdemo.cli.common import JobOption, WorkspaceOption, app, plain_errors, screen, this_job, with_bars
from clipdemo.records import percent
from clipdemo.workspace import Workspace

if TYPE_CHECKING:
    from clipdemo.sample_map import SampleMap


@app.command("map")
def map_(
    sample: Annotated[str, typer.Option(help="Id of the sample.")],
    run: Annotated[list[str] | None, typer.Option(help="Id of a run to lay on its base; may be repeated.")] = None,
    base: Annotated[str | None, typer.Option(help="Base model; the first run's, else builtin.")] = None,
    method: Annotated[Literal["pca", "umap"], typer.Option(help="pca: at once; umap: takes a while.")] = "pca",
    view: Annotated[
        Literal["together", "apart", "gap"],
        typer.Option(help="Pictures and sentences about one mean, each about its own, or along the modality gap."),
    ] = "together",
    neighbours: Annotated[int, typer.Option(help="umap: nearest points that a point is kept near to.")] = 15,
    min_distance: Annotated[float, typer.Option(help="umap: how closely points may be packed.")] = 0.1,
    most: Annotated[int, typer.Option(help="umap: pictures in the map, evenly by class.")] = 20_000,
    seed: Annotated[int, typer.Option(help="umap: the same seed gives the same map again.")] = 0,
    template: Annotated[str | None, typer.Option(help="Sentence of a class; the first run's.")] = None,
    workspace: WorkspaceOption = None,
    job: JobOption = None,
) -> None:
    """Lay out a sample's pictures and class sentences in two dimensions, for base and runs. Prints the map's id."""
    from clipdemo.projection import MapSettings
    from clipdemo.sample_map import sample_map
    from clipdemo.sampling import load_sample
    from clipdemo.training.runs import load_run

    with plain_errors():
        place = Workspace(workspace)
        data = load_sample(place, sample)
        runs = [load_run(place, name) for name in run or []]
        settings = MapSettings(
            method=method, view=view, neighbours=neighbours, min_distance=min_distance, most=most, seed=seed
        )
        told = {"sample_id": data.id, "runs": [r.id for r in runs], "base": base, **settings.model_dump(mode="json")}
        with this_job(place, job, "map", told) as recorder:
            found = with_bars(recorder, sample_map(data, place, runs, base, settings, template))
            recorder.made["map"] = found.record.id
        print_map(found)
        print(found.record.id)


def print_map(found: SampleMap) -> None:
    """A row a model, then what the map shows and what it does not."""
    from clipdemo.projection import in_short, in_words

    titles = {model.model: model.run or model.base for model in found.record.models}
    table = Table(title=in_short(found.map))
    for name in ("model", "variance shown", "gap", "own sentence", "others", "unlike base"):
        table.add_column(name, justify="left" if name == "model" else "right")
    for model, facts in found.map.facts.items():
        gap = facts.gap
        numbers = (gap.distance, gap.matching, gap.others) if gap else (None,) * 3
        table.add_row(
            escape(titles[model]),
            percent(sum(facts.variance)) if facts.variance else "–",
            *("–" if number is None else f"{number:.3f}" for number in numbers),
            percent(facts.disparity),
        )
    screen.print(table)
    for sentence in in_words(found.map, titles):
        screen.print(escape(sentence), soft_wrap=True)
