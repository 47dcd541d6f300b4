"""Commands that measure models and put them side by side."""

from __future__ import annotations

from typing import Annotated

import typer

from clipdemo.cli.common import JobOption, WorkspaceOption, app, plain_errors, this_job, with_bars
from clipdemo.cli.printing import print_comparison, print_models
from clipdemo.errors import BadSettings
from clipdemo.records import BUILT_IN_BASE, DEFAULT_TEMPLATE, RunConfig
from clipdemo.workspace import Workspace


@app.command()
def evaluate(
    sample: Annotated[str, typer.Option(help="Id of a sample.")],
    run: Annotated[str | None, typer.Option(help="Id of a run; left out, the base model is measured.")] = None,
    base: Annotated[str, typer.Option(help=RunConfig.model_fields["base"].description)] = BUILT_IN_BASE,
    template: Annotated[str, typer.Option(help=RunConfig.model_fields["template"].description)] = DEFAULT_TEMPLATE,
    workspace: WorkspaceOption = None,
    job: JobOption = None,
) -> None:
    """Measure one model on a sample's test pictures. Prints the evaluation's id."""
    from clipdemo.comparison import evaluate as measure
    from clipdemo.sampling import load_sample
    from clipdemo.training.runs import load_run

    with plain_errors():
        place = Workspace(workspace)
        data = load_sample(place, sample)
        trained = load_run(place, run) if run else None
        with this_job(place, job, "evaluate", {"sample_id": sample, "run": run, "base": base}) as recorder:
            result = with_bars(recorder, measure(data, place, trained, base, template))
            recorder.made["evaluation"] = result.predictions
        print_models([result], f"{result.n:,} test pictures of {result.sample}")
        print(result.predictions)


@app.command()
def compare(
    evaluations: Annotated[
        list[str] | None, typer.Argument(help="Ids of evaluations of one sample, as `evaluate` printed them.")
    ] = None,
    sample: Annotated[str | None, typer.Option(help="Instead: id of a sample whose models are to be measured.")] = None,
    run: Annotated[list[str] | None, typer.Option(help="With --sample: id of a run; may be repeated.")] = None,
    base: Annotated[
        list[str] | None, typer.Option(help="With --sample: a base model; may be repeated. The built-in one by itself.")
    ] = None,
    template: Annotated[str, typer.Option(help="With --sample: the base models' sentence.")] = DEFAULT_TEMPLATE,
    workspace: WorkspaceOption = None,
    job: JobOption = None,
) -> None:
    """Put any number of models side by side on the same test pictures. Prints the path of the comparison."""
    from clipdemo.comparison import all_predictions, load_evaluation, measure
    from clipdemo.comparison import compare as put_side_by_side
    from clipdemo.sampling import load_sample
    from clipdemo.training.runs import load_run

    with plain_errors():
        place = Workspace(workspace)
        if bool(evaluations) == bool(sample):
            raise BadSettings("say which models: either ids of evaluations, or --sample with --run and --base")
        if sample:
            data, runs = load_sample(place, sample), [load_run(place, name) for name in run or ()]
            bases = base or ([BUILT_IN_BASE] if not runs else list(dict.fromkeys(r.config.base for r in runs)))
            asked = {"sample_id": data.id, "runs": [r.config.model_dump(mode="json") for r in runs], "bases": bases}
            with this_job(place, job, "compare", asked) as recorder:
                comparison = with_bars(recorder, measure(data, place, runs, bases, template))
                recorder.made["comparison"] = comparison.id
        else:
            comparison = put_side_by_side([load_evaluation(place, name) for name in evaluations], place)
        print_comparison(comparison, all_predictions(place, comparison))
        print(place.folder("comparisons", comparison.id) / "comparison.json")
