"""The parts of the Train page."""

from __future__ import annotations

import streamlit as st

from clipdemo import commands
from clipdemo.errors import ClipDemoError
from clipdemo.records import (
    MODES,
    PRETRAINING_BATCH_SIZE,
    PRETRAINING_LEARNING_RATE,
    Mode,
    RunConfig,
    paper_learning_rate,
)
from clipdemo.sampling import Sample
from clipdemo.training.runs import Run, load_run
from clipdemo.ui import live, state, tables, widgets
from clipdemo.ui.live import Look
from clipdemo.workspace import Workspace

_DEFAULTS = RunConfig(mode="captions")
_MODE_TITLES = {"captions": "▲ captions", "labels": "■ labels"}


def launch_form(workspace: Workspace, sample: Sample, busy: bool) -> None:
    """Settings of a new run. What cannot work is said before anything starts."""
    with st.container(border=True):
        st.subheader("A new run", anchor=False)
        mode = st.segmented_control(
            "Pair each picture with its", MODES, default="captions", required=True, format_func=_MODE_TITLES.get
        )
        with st.grid(3, min_column_width=200, gap="small"):
            epochs = st.number_input("Epochs", 1, 1000, _DEFAULTS.epochs, help="Passes over the training pictures.")
            batch_size = st.number_input(
                "Batch size", 2, PRETRAINING_BATCH_SIZE, _DEFAULTS.batch_size, key=state.BATCH_SIZE,
                help="Pairs a step. Each picture is told from all other texts of its batch.",
            )  # fmt: skip
            st.session_state.setdefault(state.LEARNING_RATE, _DEFAULTS.learning_rate)
            learning_rate = st.number_input(
                "Learning rate", 0.0, 1.0, step=1e-5, format="%.2e", key=state.LEARNING_RATE,
                help="The highest rate, reached after the warm-up; it falls to zero along a cosine.",
            )  # fmt: skip
        _paper_rule(batch_size)
        rest = _rest(sample)
        config = widgets.checked(
            lambda: RunConfig(mode=mode, epochs=epochs, batch_size=batch_size, learning_rate=learning_rate, **rest)
        )
        if st.button(
            "Start fine-tuning", type="primary", icon=":material/play_arrow:", disabled=busy or config is None,
            help="One run at a time: wait for the other one, or stop it." if busy else None,
        ):  # fmt: skip
            settings = {"sample_id": sample.id, "runs": [config.model_dump(mode="json")]}
            live.launch(workspace, "train", commands.train_arguments(config, sample.id), settings)


def _paper_rule(batch_size: int) -> None:
    """The paper's arithmetic for this batch size, and a button that takes it over."""
    rate = paper_learning_rate(batch_size)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(
            f"The paper’s rule scales CLIP’s pretraining rate with the batch: {PRETRAINING_LEARNING_RATE:g} × "
            f"{batch_size:,} / {PRETRAINING_BATCH_SIZE:,} = **{rate:.2g}**. It suits a large pretrained CLIP; the "
            f"small built-in one learns faster with {_DEFAULTS.learning_rate:g}.",
            width="stretch",
        )
        st.button("Use the paper’s rate", on_click=_use_paper_rate, icon=":material/calculate:")


def _use_paper_rate() -> None:
    rate = paper_learning_rate(st.session_state[state.BATCH_SIZE])
    st.session_state[state.LEARNING_RATE] = rate


def _rest(sample: Sample) -> dict[str, object]:
    """The settings that most runs leave as they are."""
    with st.expander("More settings", icon=":material/tune:"), st.grid(3, min_column_width=200, gap="small"):
        return {
            "loss": st.selectbox(
                "Loss", ["paper", "multi-positive"],
                help="paper: two pictures of one class count as negatives of each other. multi-positive: they do not.",
            ),
            "weight_decay": st.number_input("Weight decay", 0.0, 10.0, _DEFAULTS.weight_decay, step=0.05),
            "warmup_fraction": st.number_input(
                "Warm-up fraction", 0.0, 1.0, _DEFAULTS.warmup_fraction, step=0.05,
                help="Fraction of the steps in which the learning rate rises.",
            ),
            "seed": st.number_input("Seed", 0, 2**32 - 1, sample.config.seed, help="Decides the pictures’ order."),
            "template": st.text_input(
                "Sentence made of a label", _DEFAULTS.template, help="Holds {label} exactly once."
            ),
            "base": st.text_input(
                "Base model", _DEFAULTS.base,
                help="builtin, or NAME:PRETRAINED of open_clip, hf-hub:ID, local-dir:PATH.",
            ),
        }  # fmt: skip


def job_card(workspace: Workspace, look: Look) -> None:
    """The run that is going, live; or how the last one ended, where this visitor started it or it went wrong."""
    if look.active:
        state.show_in_address("job", look.id)
    elif state.asked_for("job") != look.id and look.state == "finished":
        return
    with st.container(border=True):
        live.watch(workspace, look, lambda now: _draw(workspace, now))


def _draw(workspace: Workspace, look: Look) -> None:
    if not look.active:
        live.outcome(look, "The run")
        return
    live.heading(look, workspace, "Fine-tuning")
    live.stages(look, workspace)
    going = live.runs_of(workspace, look)
    for run in going.values():  # beside the newest run of the other mode on the same sample
        going = {other.config.mode: other for other in reversed(runs_of_sample(workspace, run.sample))} | going
    live.curves(going, key="live")


def past_runs(workspace: Workspace, sample: Sample, with_curves: bool) -> None:
    """A table of this sample's runs and, unless curves are live above, those of one captions and one labels run."""
    runs = runs_of_sample(workspace, sample.id)
    st.subheader("Runs of this sample", anchor=False)
    if not runs:
        st.info("There is none yet: start one above.", icon=":material/info:")
        return
    if with_curves:
        with st.container(horizontal=True):
            shown = {mode: run for mode in MODES if (run := _pick(mode, [r for r in runs if r.config.mode == mode]))}
        live.curves(shown, key="past")
    st.dataframe(
        tables.run_table(runs),
        hide_index=True,
        placeholder="–",
        column_config={
            "Validation top-1": st.column_config.NumberColumn(format="%.1f %%"),
            "Learning rate": st.column_config.NumberColumn(format="%.2e"),
            "Seconds": st.column_config.NumberColumn(format="%.0f"),
        },
        alt="Runs of this sample",
    )
    n = sample.sizes["validation"]
    st.caption(
        f"Top-1 of n = {n:,} validation pictures. It chooses the epoch; the final number comes from test pictures."
    )


def _pick(mode: Mode, runs: list[Run]) -> Run | None:
    """The run of this mode to draw, the newest unless another is chosen."""
    if not runs:
        return None
    names = {run.id: run for run in runs}
    chosen = st.selectbox(f"{_MODE_TITLES[mode]} run", [*names, "none"], width=280)
    return names.get(chosen)


def runs_of_sample(workspace: Workspace, sample: str) -> list[Run]:
    """All runs of a sample, newest first; a folder that cannot be read is left out, with a line that says so."""
    runs, damaged = [], []
    for name in workspace.names("runs"):
        try:
            run = load_run(workspace, name)
            _ = run.result
        except (ClipDemoError, KeyError, TypeError):
            damaged.append(name)
        else:
            runs.append(run)
    if damaged:
        st.caption(f":material/warning: Runs that cannot be read: {widgets.plain(', '.join(damaged))}")
    return [run for run in runs if run.sample == sample]
