"""Commands that make or look at a sample, and the one that does the whole experiment."""

from __future__ import annotations

from clipdemo.cli.common import (
    JobOption,
    PresetOption,
    WorkspaceOption,
    app,
    plain_errors,
    screen,
    this_job,
    trained,
    with_bars,
)
from clipdemo.cli.printing import print_comparison, print_report
from clipdemo.errors import ClipDemoError
from clipdemo.jobs import load_job, recorded
from clipdemo.options import Settings, source_options, takes
from clipdemo.records import CleaningRules, RunConfig, SampleConfig
from clipdemo.sources import resolved
from clipdemo.workspace import Workspace

NOT_TYPED = {"cleaning", "options", "fingerprint"}  # a sample's settings that come from other records' options
SourceOptions = source_options()


def _sample_config(
    place: Workspace, job: str | None, sample: Settings, cleaning: Settings, source: Settings
) -> SampleConfig:
    """What was asked for, resolved; where that cannot be, a job that a page has prepared ends with the reason."""
    try:
        return resolved(SampleConfig(**sample, cleaning=CleaningRules(**cleaning), options=source))
    except ClipDemoError:
        if job:
            with recorded(load_job(place, job)):
                raise
        raise


@app.command()
@takes(without={"mode", *NOT_TYPED}, sample=SampleConfig, cleaning=CleaningRules, source=SourceOptions, run=RunConfig)
def experiment(
    sample: Settings,
    cleaning: Settings,
    source: Settings,
    run: Settings,
    preset: PresetOption = "plain",
    workspace: WorkspaceOption = None,
    job: JobOption = None,
) -> None:
    """Do everything: draw a sample, fine-tune on captions and on labels, compare both with the base model."""
    from clipdemo.comparison import all_predictions
    from clipdemo.experiment import run_experiment, runs_for

    with plain_errors():
        place = Workspace(workspace)
        sample_config = _sample_config(place, job, sample, cleaning, source)
        runs = runs_for(sample_config, preset, run)
        settings = {"sample": sample_config.model_dump(mode="json"), "runs": [r.model_dump(mode="json") for r in runs]}
        with this_job(place, job, "experiment", settings) as recorder:
            comparison = trained(recorder, place, lambda: run_experiment(sample_config, runs, place, recorder.job.id))
            recorder.made["comparison"] = comparison.id
        print_comparison(comparison, all_predictions(place, comparison))
        print(place.folder("comparisons", comparison.id) / "comparison.json")


@app.command()
@takes(without=NOT_TYPED, sample=SampleConfig, cleaning=CleaningRules, source=SourceOptions)
def sample(
    sample: Settings,
    cleaning: Settings,
    source: Settings,
    workspace: WorkspaceOption = None,
    job: JobOption = None,
) -> None:
    """Draw a sample: clean the source, balance the classes, split without leaks. Prints the sample's id."""
    from clipdemo.sampling import draw_sample

    with plain_errors():
        place = Workspace(workspace)
        config = _sample_config(place, job, sample, cleaning, source)
        with this_job(place, job, "sample", {"sample": config.model_dump(mode="json")}) as recorder:
            drawn = with_bars(recorder, draw_sample(config, place))
            recorder.made["sample"] = drawn.id
        print_report(drawn.report, config.source, drawn.sizes)
        print(drawn.id)


@app.command()
@takes(without=NOT_TYPED, sample=SampleConfig, cleaning=CleaningRules, source=SourceOptions)
def look(
    sample: Settings,
    cleaning: Settings,
    source: Settings,
    workspace: WorkspaceOption = None,
    job: JobOption = None,
) -> None:
    """Look at a source before drawing from it: columns, classes, what would be left out, what a sample costs."""
    from clipdemo.survey import survey_source

    with plain_errors():
        place = Workspace(workspace)
        config = _sample_config(place, job, sample, cleaning, source)
        with this_job(place, job, "look", {"sample": config.model_dump(mode="json")}) as recorder:
            found = with_bars(recorder, survey_source(config, place))
        print_report(found.report, config.source, {})
        for use, column in found.columns.items():
            screen.print(f"{use} column: {column} (of {', '.join(found.available_columns)})", markup=False)
        classes = ", ".join(f"{label} {n:,}" for label, n in found.report.source_classes.items())
        screen.print(f"classes: {classes or 'none, there are no labels'}", markup=False)
        if found.report.no_labels:
            values = ", ".join(f"{value!r} {n:,}" for value, n in list(found.report.no_labels.items())[:20])
            screen.print(f"no labels (take one back with --synonym VALUE=CLASS): {values}", markup=False)
        seconds, to_fetch = found.cost(config.samples)
        screen.print(
            f"{min(config.samples, found.report.kept):,} pictures: about {seconds:.0f} s"
            + (f" and {to_fetch / 1e6:,.0f} MB to fetch" if to_fetch else "")
        )
