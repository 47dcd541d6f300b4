"""The models that look at a sample, and the work that has to be done before they can."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st

from clipdemo.appearance import Appearance, of_kind
from clipdemo.errors import WorkspaceError
from clipdemo.neighbours import Neighbourhood
from clipdemo.records import BUILT_IN_BASE
from clipdemo.sampling import Sample
from clipdemo.training.runs import Run, readable_runs
from clipdemo.ui import acts, cached, live, roles, state, widgets
from clipdemo.ui.live import Look
from clipdemo.workspace import Workspace

COMMANDS = ("index", "map")
_BASE = "base"
_WORK = {"index": "Encoding", "map": "The map"}


@dataclass
class View:
    """A model through which the sample is looked at; `space` is there once its index is built."""

    run: Run | None
    base: str
    look: Appearance
    space: Neighbourhood | None = None

    @property
    def name(self) -> str:
        """The run's id, or "base"."""
        return self.run.id if self.run else _BASE


def choose_models(workspace: Workspace, sample: Sample) -> list[View]:
    """The base model and up to two runs, by choice the newest of each kind that was trained on this sample."""
    finished = [run for run in readable_runs(workspace) if run.result and run.weights.exists()]
    own = [run for run in finished if run.sample == sample.id]
    runs = {run.id: run for run in [*own, *finished]}
    newest = [next((run.id for run in own if run.config.mode == mode), None) for mode in sample.texts]
    options, most = [_BASE, *runs], 3
    key = state.some_of("models", options, [_BASE, *filter(None, newest)], key=f"models {sample.id}", most=most)
    chosen = st.multiselect(
        "Models", options, max_selections=most, key=key,
        format_func=lambda name: "Base" if name == _BASE else _named(runs[name], sample),
    )  # fmt: skip
    if not chosen:
        st.info("Choose at least one model.", icon=":material/info:")
    some = [runs[name] for name in chosen if name in runs]
    base = next((run.config.base for run in [*some, *own]), BUILT_IN_BASE)
    title = base if len({run.config.base for run in some}) > 1 else ""  # runs of several bases: whose it is
    untuned = View(None, base, of_kind("base", title))
    return [_view(runs[name], some, sample) if name in runs else untuned for name in chosen]


def _named(run: Run, sample: Sample) -> str:
    """A run's kind and name, and what it was trained on where that is another sample."""
    return f"{run.config.mode} · {run.name}" + ("" if run.sample == sample.id else f" · of {run.sample}")


def _view(run: Run, chosen: Sequence[Run], sample: Sample) -> View:
    """A run is called like its kind where it is the only one of it, and of this sample."""
    alone = sum(other.config.mode == run.config.mode for other in chosen) == 1 and run.sample == sample.id
    return View(run, run.config.base, of_kind(run.config.mode, "" if alone else run.id))


def prepared(workspace: Workspace, sample: Sample, views: list[View]) -> bool:
    """Whether all models' indexes are there; else the button that has them built."""
    for view in views:
        try:
            view.space = cached.neighbourhood(workspace, sample, view.run, view.base)
        except WorkspaceError as error:
            st.warning(widgets.plain(f"{view.look.title}: {error}"), icon=":material/broken_image:")
    missing = [view for view in views if view.space is None]
    if missing:
        n = len(sample.manifest)
        st.markdown(
            f"{len(missing)} of {len(views)} models have to look at this sample first. Each encodes its {n:,} "
            "pictures and their captions once; that is kept, and whatever is there already is not done again."
        )
        if roles.button("measure", "Let them look", type="primary", icon=":material/visibility:"):
            _launch(workspace, sample, missing)
    return not missing


def _launch(workspace: Workspace, sample: Sample, missing: list[View]) -> None:
    for view in missing:
        which = ["--run", view.run.id] if view.run else ["--base", view.base]
        settings = {"sample_id": sample.id, "run": view.run.id if view.run else None, "base": view.base}
        job = acts.start(workspace, "index", ["build", "--sample", sample.id, *which], settings)
    state.show_in_address("job", job.id)
    st.rerun()


def job_card(workspace: Workspace, look: Look) -> None:
    """The encoding that is going, live, or why it did not end well."""
    if look.active:
        with st.container(border=True):
            live.watch(workspace, look, lambda now: _draw(workspace, now))
    elif state.asked_for("job") == look.id and look.state != "finished":
        live.outcome(look, _WORK[look.command])


def _draw(workspace: Workspace, look: Look) -> None:
    live.heading(look, workspace, _WORK[look.command])
    live.stages(look, workspace)
