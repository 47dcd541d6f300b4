"""The parts of the Train page."""

from __future__ import annotations

from typing import get_args

import streamlit as st

from clipdemo import commands
from clipdemo.errors import ClipDemoError
from clipdemo.presets import PRESETS, preset
from clipdemo.records import (
    MODES,
    PRETRAINING_BATCH_SIZE,
    PRETRAINING_LEARNING_RATE,
    Mode,
    RunConfig,
    Tune,
    paper_learning_rate,
)
from clipdemo.sampling import Sample
from clipdemo.training.runs import Run, load_run
from clipdemo.ui import live, sources, state, tables, widgets
from clipdemo.ui.live import Look
from clipdemo.workspace import Workspace

_DEFAULTS = RunConfig(mode="captions")
_MODE_TITLES = {"captions": "▲ captions", "labels": "■ labels"}
_RECIPE_TITLES = {
    "paper": "The paper’s rule for the rate",
    "plain": "Plain: a rate that suits the base",
}


def launch_form(workspace: Workspace, sample: Sample, busy: bool) -> None:
    """Settings of a new run. What cannot work is said before anything starts."""
    with st.container(border=True):
        st.subheader("A new run", anchor=False)
        with st.container(horizontal=True, vertical_alignment="bottom"):
            mode = st.segmented_control(
                "Pair each picture with its", sample.texts, default=sample.texts[0], required=True, key=state.MODE,
                format_func=_MODE_TITLES.get, on_change=_take_recipe,
            )  # fmt: skip
            recipe = st.selectbox(
                "Recipe", list(PRESETS), index=list(PRESETS).index("plain"), key=state.RECIPE, width=280,
                format_func=_RECIPE_TITLES.get, on_change=_take_recipe,
                help="Settings to start from; everything can still be changed below.",
            )  # fmt: skip
        if len(sample.texts) == 1:
            st.caption(sources.possible(sample.texts))
        start = RunConfig(mode=mode, **preset(recipe, mode))
        with st.grid(3, min_column_width=200, gap="small"):
            epochs = st.number_input("Epochs", 1, 1000, start.epochs, help="Passes over the training pictures.")
            batch_size = st.number_input(
                "Batch size", 2, PRETRAINING_BATCH_SIZE, start.batch_size, key=state.BATCH_SIZE,
                help="Pairs a step. Each picture is told from all other texts of its batch.",
            )  # fmt: skip
            st.session_state.setdefault(state.LEARNING_RATE, start.learning_rate)
            learning_rate = st.number_input(
                "Learning rate", 0.0, 1.0, step=1e-5, format="%.2e", key=state.LEARNING_RATE,
                help="The highest rate, reached after the warm-up; it falls to zero along a cosine.",
            )  # fmt: skip
        _paper_rule(batch_size)
        rest = _rest(sample, start, key=f"{recipe} {mode}")
        config = widgets.checked(
            lambda: RunConfig(mode=mode, epochs=epochs, batch_size=batch_size, learning_rate=learning_rate, **rest)
        )
        if st.button(
            "Start fine-tuning", type="primary", icon=":material/play_arrow:", disabled=busy or config is None,
            help="One run at a time: wait for the other one, or stop it." if busy else None,
        ):  # fmt: skip
            settings = {"sample_id": sample.id, "runs": [config.model_dump(mode="json")]}
            live.launch(workspace, "train", commands.train_arguments(config, sample.id), settings)


def _take_recipe() -> None:
    """Sets the learning rate of the recipe; the other settings' widgets are made anew with its values."""
    mode, recipe = st.session_state[state.MODE], st.session_state[state.RECIPE]
    st.session_state[state.LEARNING_RATE] = RunConfig(mode=mode, **preset(recipe, mode)).learning_rate


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


def _rest(sample: Sample, start: RunConfig, key: str) -> dict[str, object]:
    """The settings that most runs leave as they are. `key` names the recipe that they start from."""

    def choice(title: str, name: str, options: tuple[str, ...], say: str) -> str:
        return st.selectbox(title, options, options.index(getattr(start, name)), help=say, key=f"{name} {key}")

    def number(title: str, name: str, low: float, high: float, step: float, say: str) -> float:
        return st.number_input(title, low, high, getattr(start, name), step=step, help=say, key=f"{name} {key}")

    def switch(title: str, name: str, say: str) -> bool:
        return st.toggle(title, getattr(start, name), help=say, key=f"{name} {key}")

    with st.expander("More settings", icon=":material/tune:"):
        learning, weights, machine = st.tabs(["Learning", "Weights", "Machine"])
        with learning, st.grid(3, min_column_width=200, gap="small"):
            chosen = {
                "loss": choice(
                    "Loss", "loss", ("paper", "multi-positive"),
                    "multi-positive: texts of one class are right answers for each other. With captions this uses the "
                    "labels too; with labels it is the same loss.",
                ),
                "augmentation": choice(
                    "Augmentation", "augmentation", ("none", "light"),
                    "light: zoom, shift, brightness and contrast change a little at every look.",
                ),
                "weight_decay": number("Weight decay", "weight_decay", 0.0, 10.0, 0.05, "AdamW’s pull towards zero."),
                "warmup_fraction": number(
                    "Warm-up fraction", "warmup_fraction", 0.0, 1.0, 0.05, "Part of the steps with a rising rate."
                ),
                "template": st.text_input(
                    "Sentence made of a label", start.template, key=f"template {key}",
                    help="Holds {label} once. Several sentences, divided by |, are averaged.",
                ),
                "seed": st.number_input(
                    "Seed", 0, 2**32 - 1, sample.config.seed, help="Decides the pictures’ order.", key=f"seed {key}"
                ),
            }  # fmt: skip
        with weights, st.grid(3, min_column_width=200, gap="small"):
            chosen |= {
                "base": st.text_input(
                    "Base model", start.base,
                    help="builtin, or NAME:PRETRAINED of open_clip, hf-hub:ID, local-dir:PATH.",
                ),
                "tune": choice(
                    "What is trained", "tune", get_args(Tune), "Everything, one tower, the last blocks, or LoRA."
                ),
                "tuned_blocks": number("Last blocks", "tuned_blocks", 1, 100, 1, "Only with last-blocks."),
                "lora_rank": number("LoRA rank", "lora_rank", 1, 256, 1, "Only with lora."),
                "layer_decay": number(
                    "Layer-wise decay", "layer_decay", 0.1, 1.0, 0.05,
                    "Each block further from the output learns so many times as fast as the next. 1: all alike.",
                ),
                "averaging": number(
                    "Averaging", "averaging", 0.0, 0.9999, 0.01, "Share of the weights’ running mean that a step keeps."
                ),
                "interpolation": switch(
                    "Mix with the base (WiSE-FT)", "interpolation",
                    "At the end, base and tuned weights are mixed as validation likes best.",
                ),
            }  # fmt: skip
        with machine, st.grid(3, min_column_width=200, gap="small"):
            chosen |= {
                "precision": choice(
                    "Precision", "precision", ("auto", "float32", "bf16"), "auto: bf16 on GPUs that have it."
                ),
                "chunk_size": number(
                    "Pairs in memory", "chunk_size", 0, PRETRAINING_BATCH_SIZE, 8,
                    "The batch in parts, with the whole batch’s gradient. 0: as many as fit.",
                ),
                "checkpointing": switch("Save memory", "checkpointing", "Blocks are computed again on the way back."),
                "compile": switch("torch.compile", "compile", "Pays on a GPU in long runs only."),
            }  # fmt: skip
    return chosen


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
    among = "" if sample.classes else ", among their captions"
    st.caption(
        f"Top-1 of n = {n:,} validation pictures{among}. It chooses the epoch; the final one comes from test pictures."
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
