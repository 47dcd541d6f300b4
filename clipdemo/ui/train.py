"""The parts of the Train page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import get_args

import streamlit as st

from clipdemo import commands, jobs, queues, quota
from clipdemo.errors import ClipDemoError
from clipdemo.presets import PRESETS, preset, warnings
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
from clipdemo.training.estimate import known_estimate
from clipdemo.training.runs import Run, expected_seconds, load_run, run_state
from clipdemo.ui import acts, cached, live, roles, sources, state, tables, widgets
from clipdemo.ui.live import Look
from clipdemo.workspace import Workspace

_DEFAULTS = RunConfig(mode="captions")
_BOTH = "both"
_MORE = [name for name in RunConfig.model_fields if name not in ("mode", "continues", *state.BASIC)]
_MODE_TITLES = {"captions": "▲ captions", "labels": "■ labels", _BOTH: "▲■ both"}
_RECIPE_TITLES = {
    "plain": "Plain: a rate that suits the base",
    "quick": "Quick: two passes",
    "thorough": "Thorough: until validation gets no better",
    "paper": "The paper’s rule for the rate",
}


def launch_form(workspace: Workspace, sample: Sample, earlier: list[Run]) -> None:
    """Settings of a new run, or of one a mode. What cannot work is said before anything starts."""
    if roles.says_why_not("train"):
        return
    with st.container(border=True):
        st.subheader("A new run", anchor=False)
        pairs = [*sample.texts, _BOTH] if len(sample.texts) > 1 else list(sample.texts)
        with st.container(horizontal=True, vertical_alignment="bottom"):
            chosen = st.segmented_control(
                "Pair each picture with its", pairs, default=pairs[0], required=True, key=state.MODE,
                format_func=_MODE_TITLES.get,
            )  # fmt: skip
            recipe = st.selectbox(
                "Recipe", list(PRESETS), index=list(PRESETS).index("plain"), key=state.RECIPE, width=330,
                format_func=_RECIPE_TITLES.get, on_change=_take_recipe, args=(sample.sizes["train"],),
                help="Settings to start from; everything can still be changed below.",
            )  # fmt: skip
        if len(sample.texts) == 1:
            st.caption(sources.possible(sample.texts))
        modes = list(sample.texts) if chosen == _BOTH else [chosen]
        available = sample.sizes["train"]
        start = state.duplicated() or RunConfig(mode=modes[0], **preset(recipe, modes[0], available))
        key = f"{recipe} {chosen}"
        if state.duplicated():
            key += f" {start.digest()}"
            _say_duplicated(available)
        for name in state.BASIC:
            st.session_state.setdefault(name, getattr(start, name))
        with st.grid(4, min_column_width=170, gap="small"):
            basic = {
                "epochs": st.number_input("Epochs", 1, 1000, key="epochs", help="Passes over the training pictures."),
                "batch_size": st.number_input(
                    "Batch size", 2, PRETRAINING_BATCH_SIZE, key="batch_size",
                    help="Pairs a step. Each picture is told from all other texts of its batch.",
                ),
                "learning_rate": st.number_input(
                    "Learning rate", 0.0, 1.0, step=1e-5, format="%.2e", key="learning_rate",
                    help="The highest rate, reached after the warm-up; it falls to zero along a cosine.",
                ),
                "patience": st.number_input(
                    "Patience", 0, 1000, key="patience",
                    help="Stop after so many epochs without a better validation top-1. 0: never.",
                ),
            }  # fmt: skip
        _paper_rule(basic["batch_size"])
        rest = _rest(sample, _Fields(start, key))
        configs = widgets.checked(lambda: [RunConfig(mode=mode, **basic, **rest) for mode in modes]) or []
        for line in configs and warnings(configs[0], sample.sizes["train"]):
            st.warning(line, icon=":material/warning:")
        _expected(workspace, sample, configs, earlier)
        if st.button("Start fine-tuning", type="primary", icon=":material/play_arrow:", disabled=not configs):
            _launch(workspace, sample, configs)


def _expected(workspace: Workspace, sample: Sample, configs: list[RunConfig], earlier: list[Run]) -> None:
    """Time and memory that the runs should take, as far as earlier ones or a measurement tell, and a way to measure."""
    if not configs:
        return
    timed = [expected_seconds(config, earlier) for config in configs]
    measured = [known_estimate(config, sample, workspace) for config in configs]
    said = []
    if None not in timed:
        said.append(f"About {widgets.clock(sum(timed))}, as long as the last run like it took an epoch.")
    elif None not in measured:
        said.append(f"About {widgets.clock(sum(found.seconds for found in measured))}, as a few of its steps took.")
    if None not in measured:
        most = max(measured, key=lambda found: found.memory_bytes)
        said.append(
            f"At most {most.memory_bytes / 1e9:.1f} of {most.device_bytes / 1e9:.0f} GB of memory, measured on "
            f"{most.device} ({widgets.plain(most.device_name)})."
        )
    with st.container(horizontal=True, vertical_alignment="center"):
        if said:
            st.caption(f":material/schedule: {' '.join(said)}", width="stretch")
        if None in measured:
            _measuring(workspace, sample, configs)


def _measuring(workspace: Workspace, sample: Sample, configs: list[RunConfig]) -> None:
    """The measurement that is going, or a button to start one where no other job has the device.

    Nothing is measured unasked, since it takes the device for some seconds. It would be its turn only when what runs
    now has ended, which is too late for whoever wonders whether to start a run.
    """
    asked = [_asked(config, sample) for config in configs]
    look = _newest_measurement(workspace)
    if look and look.active:
        live.watch(workspace, look, _say_measuring)
        return
    if look and look.state == "failed" and look.settings in asked:
        st.caption(f":material/warning: It could not be measured: {widgets.plain(look.message)}", width="stretch")
    taken = queues.owner(workspace, queues.default_device()) or queues.waiting(workspace)
    if roles.button(
        "train", "Measure on this device", icon=":material/speed:", disabled=bool(taken),
        help="A few real steps of these settings tell the time and the memory that the run will take. "
        + ("Not now: another job has the device." if taken else "It takes some seconds, and keeps no run."),
    ):  # fmt: skip
        for config, settings in zip(configs, asked, strict=True):
            acts.start(workspace, "estimate", commands.train_arguments(config, sample.id), settings)
        st.rerun()


def _newest_measurement(workspace: Workspace) -> Look | None:
    names = [name for name in workspace.names("jobs") if name.endswith("-estimate")]
    return live.look_at(jobs.load_job(workspace, max(names))) if names else None


def _say_measuring(look: Look) -> None:
    notes = [progress.note for progress in look.stages.values() if progress.note]
    said = f": {widgets.plain(notes[-1])}" if notes else ""
    st.caption(f":material/speed: Measuring{said} …", width="stretch")


def _launch(workspace: Workspace, sample: Sample, configs: list[RunConfig]) -> None:
    """Every run as a job of its own, one after another in the device's queue; the page follows the first."""
    state.duplicate(None)
    started = []
    for config in configs:
        arguments = commands.train_arguments(config, sample.id)
        started.append(acts.start(workspace, "train", arguments, _asked(config, sample)))
    state.show_in_address("job", started[0].id)
    st.rerun()


def _asked(config: RunConfig, sample: Sample) -> dict[str, object]:
    return {"sample_id": sample.id, "runs": [config.model_dump(mode="json")]}


def _say_duplicated(available: int) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(":material/content_copy: The settings of another run, to be changed.")
        st.button("Back to the recipe", on_click=_take_recipe, args=(available,))


def _take_recipe(available: int) -> None:
    """Sets the basic settings of the recipe; the other settings' widgets are made anew with its values."""
    state.duplicate(None)
    mode = st.session_state[state.MODE] if st.session_state[state.MODE] in MODES else "labels"
    config = RunConfig(mode=mode, **preset(st.session_state[state.RECIPE], mode, available))
    for name in state.BASIC:
        st.session_state[name] = getattr(config, name)


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


@dataclass(frozen=True)
class _Fields:
    """Widgets named like settings, which start with a run's values. `key` names the recipe that those come from."""

    start: RunConfig
    key: str

    def kept(self, name: str, sample: Sample) -> object:
        """What a widget held when it was last there, or what it would start with."""
        start = sample.config.seed if name == "seed" else getattr(self.start, name)
        return st.session_state.get(f"{name} {self.key}", start)

    def choice(self, title: str, name: str, options: tuple[str, ...], say: str) -> str:
        now = options.index(getattr(self.start, name))
        return st.selectbox(title, options, now, help=say, key=f"{name} {self.key}", persist_state="session")

    def number(self, title: str, name: str, low: float, high: float, step: float, say: str) -> float:
        now = min(getattr(self.start, name), high)
        return st.number_input(
            title, low, high, now, step=step, help=say, key=f"{name} {self.key}", persist_state="session"
        )

    def switch(self, title: str, name: str, say: str) -> bool:
        return st.toggle(title, getattr(self.start, name), help=say, key=f"{name} {self.key}", persist_state="session")

    def text(self, title: str, name: str, say: str) -> str:
        return st.text_input(
            title, getattr(self.start, name), help=say, key=f"{name} {self.key}", persist_state="session"
        )


def _rest(sample: Sample, fields: _Fields) -> dict[str, object]:
    """The settings that most runs leave as they are. Their widgets are made when somebody opens them, and keep."""
    more = st.expander("More settings", icon=":material/tune:", key=state.MORE, on_change="rerun")
    if not more.open:
        return {name: fields.kept(name, sample) for name in _MORE}
    with more:
        learning, weights, machine = st.tabs(["Learning", "Weights", "Machine"])
        with learning, st.grid(3, min_column_width=200, gap="small"):
            chosen = _learning(sample, fields)
        with weights, st.grid(3, min_column_width=200, gap="small"):
            chosen |= _weights(fields)
        with machine, st.grid(3, min_column_width=200, gap="small"):
            chosen |= _machine(fields)
    return chosen


def _learning(sample: Sample, fields: _Fields) -> dict[str, object]:
    return {
        "loss": fields.choice(
            "Loss", "loss", ("paper", "multi-positive"),
            "multi-positive: texts of one class are right answers for each other. With captions this uses the labels "
            "too; with labels it is the same loss.",
        ),
        "augmentation": fields.choice(
            "Augmentation", "augmentation", ("none", "light"),
            "light: zoom, shift, brightness and contrast change a little at every look.",
        ),
        "weight_decay": fields.number("Weight decay", "weight_decay", 0.0, 10.0, 0.05, "AdamW’s pull towards zero."),
        "warmup_fraction": fields.number(
            "Warm-up fraction", "warmup_fraction", 0.0, 1.0, 0.05, "Part of the steps with a rising rate."
        ),
        "template": fields.text(
            "Sentence made of a label", "template",
            "Holds {label} once. Several sentences, divided by |, are averaged.",
        ),
        "seed": st.number_input(
            "Seed", 0, 2**32 - 1, sample.config.seed, help="Decides the pictures’ order.", key=f"seed {fields.key}",
            persist_state="session",
        ),
        "pictures": fields.number(
            "Training pictures", "pictures", 0, sample.sizes["train"], 16,
            f"So many of the sample’s {sample.sizes['train']:,}, the same number a class. 0: all.",
        ),
    }  # fmt: skip


def _weights(fields: _Fields) -> dict[str, object]:
    return {
        "base": fields.text(
            "Base model", "base", "builtin, or NAME:PRETRAINED of open_clip, hf-hub:ID, local-dir:PATH."
        ),
        "tune": fields.choice(
            "What is trained", "tune", get_args(Tune), "Everything, one tower, the last blocks, or LoRA."
        ),
        "tuned_blocks": fields.number("Last blocks", "tuned_blocks", 1, 100, 1, "Only with last-blocks."),
        "lora_rank": fields.number("LoRA rank", "lora_rank", 1, 256, 1, "Only with lora."),
        "layer_decay": fields.number(
            "Layer-wise decay", "layer_decay", 0.1, 1.0, 0.05,
            "Each block further from the output learns so many times as fast as the next. 1: all alike.",
        ),
        "averaging": fields.number(
            "Averaging", "averaging", 0.0, 0.9999, 0.01, "Share of the weights’ running mean that a step keeps."
        ),
        "interpolation": fields.switch(
            "Mix with the base (WiSE-FT)", "interpolation",
            "At the end, base and tuned weights are mixed as validation likes best.",
        ),
    }  # fmt: skip


def _machine(fields: _Fields) -> dict[str, object]:
    return {
        "precision": fields.choice(
            "Precision", "precision", ("auto", "float32", "bf16"), "auto: bf16 on GPUs that have it."
        ),
        "chunk_size": fields.number(
            "Pairs in memory", "chunk_size", 0, PRETRAINING_BATCH_SIZE, 8,
            "The batch in parts, with the whole batch’s gradient. 0: as many as fit.",
        ),
        "checkpointing": fields.switch("Save memory", "checkpointing", "Blocks are computed again on the way back."),
        "compile": fields.switch("torch.compile", "compile", "Pays on a GPU in long runs only."),
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
        live.instruments(run)
        going = cached.newest_runs(workspace, run.sample) | going
    live.followed_curves(going)


def queue(workspace: Workspace) -> None:
    """Who waits for which device, with the means to change it; looked at again while anybody waits."""
    if not queues.waiting(workspace):
        return

    @st.fragment(run_every=2 * live.POLL_SECONDS)
    def line() -> None:
        with widgets.guarded():
            _line(workspace)

    line()


def _line(workspace: Workspace) -> None:
    if not (tickets := queues.waiting(workspace)):
        st.rerun()
    with st.expander(f"Waiting: {len(tickets)}", icon=":material/hourglass_top:", expanded=True):
        for ticket in tickets:
            place = [other.job for other in queues.tickets(workspace, ticket.device)].index(ticket.job)
            has_it = queues.owner(workspace, ticket.device)
            with st.container(horizontal=True, vertical_alignment="center"):
                st.markdown(
                    f"**{place + 1}.** {_what(workspace, ticket.job)} :gray[waits for {ticket.device}"
                    + (f", which {_what(workspace, has_it)} has]" if has_it else "]"),
                    width="stretch",
                )
                _change(ticket, "up", ":material/arrow_upward:", lambda t=ticket: acts.move(workspace, t.job, -1))
                _change(ticket, "down", ":material/arrow_downward:", lambda t=ticket: acts.move(workspace, t.job, 1))
                _change(ticket, "cancel", ":material/close:", lambda t=ticket: acts.stop(workspace, t.job))
                with st.popover("Device", key=f"device {ticket.job}"):
                    device = st.text_input("Wait for another device", ticket.device, key=f"to {ticket.job}")
                    if device != ticket.device:
                        with widgets.guarded():
                            acts.change_device(workspace, ticket.job, device)
                            st.rerun()


def _change(ticket: queues.Ticket, what: str, icon: str, do: Callable[[], None]) -> None:
    if roles.button("stop", what, icon=icon, key=f"{what} {ticket.job}"):
        with widgets.guarded():
            do()
            st.rerun()


def _what(workspace: Workspace, job: str) -> str:
    """A job in words: "labels on phantom-1024-s0"."""
    try:
        asked = jobs.load_job(workspace, job).asked
        settings, what = asked["settings"], "a measurement of " if asked["command"] == "estimate" else ""
        modes = " and ".join(run["mode"] for run in settings["runs"])
        return widgets.plain(f"{what}{modes} on {settings.get('sample_id') or settings['sample']['source']}")
    except (ClipDemoError, KeyError, TypeError):
        return widgets.plain(job)


def past_runs(workspace: Workspace, sample: Sample, runs: list[Run], with_curves: bool) -> None:
    """A table of this sample's runs and, unless curves are live above, those of one captions and one labels run."""
    st.subheader("Runs of this sample", anchor=False)
    if not runs:
        st.info("There is none yet: start one above.", icon=":material/info:")
        return
    if with_curves:
        with st.container(horizontal=True):
            shown = {mode: run for mode in MODES if (run := _pick(mode, [r for r in runs if r.config.mode == mode]))}
        live.curves(shown, key="past")
    _settle_selected([run.id for run in runs])
    event = st.dataframe(
        tables.run_table(runs, {run.id: run_state(run, workspace) for run in runs}),
        hide_index=True,
        placeholder="–",
        key=state.RUNS,
        on_select="rerun",
        selection_mode="single-row",
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
        f"Top-1 of n = {n:,} validation pictures{among}. It chooses the epoch; the final one comes from test pictures. "
        "Select a run to rename, continue, copy or delete it."
    )
    selected = [runs[row] for row in event["selection"]["rows"] if row < len(runs)]
    state.show_in_address("run", selected[0].id if selected else None)
    for run in selected:
        _manage(workspace, run)


def _settle_selected(names: list[str]) -> None:
    """Selects the run that the address asks for, and keeps the one that is selected when the table gets other rows."""
    asked, listed = state.asked_view("run"), st.session_state.get(state.RUNS_LISTED, names)
    selected = asked[-1:]
    if not asked and listed != names:
        rows = st.session_state.get(state.RUNS, {"selection": {"rows": []}})["selection"]["rows"]
        selected = [listed[row] for row in rows if row < len(listed)]
    if asked or listed != names:
        rows = [names.index(name) for name in selected if name in names]
        st.session_state[state.RUNS] = {"selection": {"rows": rows, "columns": [], "cells": []}}
    st.session_state[state.RUNS_LISTED] = names


def _manage(workspace: Workspace, run: Run) -> None:
    """What can be done with one run."""
    result, now = run.result, run_state(run, workspace)
    active = now not in jobs.ENDED
    with st.container(border=True):
        st.markdown(f"**{widgets.plain(run.name)}** :gray[{run.id} · {now}]")
        if result and result.early:
            st.caption(f"It ended early: {run.config.patience} epochs in a row were no better than the best one.")
        with st.container(horizontal=True, vertical_alignment="bottom"):
            name = st.text_input("Name", run.name, key=f"name {run.id}", width=280, disabled=not roles.may("mark"))
            if name != run.name:
                acts.rename(run, name if name != run.id else "")
                st.rerun()
            if run.checkpoints and not active and roles.button("train", "Go on", icon=":material/play_arrow:"):
                _again(workspace, run, "resume", [run.id], run.config)
            if result and roles.button(
                "train", "A bit longer", icon=":material/more_time:", help="Two epochs from its best weights."
            ):
                longer = RunConfig(**run.config.model_dump() | {"epochs": 2, "continues": run.id})
                _again(workspace, run, "extend", [run.id, "--epochs", "2"], longer)
            st.button(
                "Copy its settings", icon=":material/content_copy:", key=f"copy {run.id}",
                on_click=state.duplicate, args=(run.config,),
            )  # fmt: skip
            _downloads(run)
            if roles.rules().hosted and roles.may("delete"):
                pinned = st.toggle("Pin", quota.is_pinned(run), key=f"pin {run.id}", help="It stays when room is made.")
                if pinned != quota.is_pinned(run):
                    acts.pin(run, pinned)
            with st.popover("Delete", icon=":material/delete:", disabled=active or not roles.may("delete")):
                st.markdown("Its weights and curves will be gone for good. Comparisons that hold its numbers stay.")
                if st.button("Delete the run for good", icon=":material/delete_forever:", type="primary"):
                    acts.delete(workspace, "runs", run.id)
                    st.rerun()


def _again(workspace: Workspace, run: Run, command: str, arguments: list[str], config: RunConfig) -> None:
    settings = {"sample_id": run.sample, "runs": [config.model_dump(mode="json")]}
    job = acts.start(workspace, command, arguments, settings)
    state.show_in_address("job", job.id)
    st.rerun()


def _downloads(run: Run) -> None:
    for name, kind in (("config.json", "application/json"), ("metrics.jsonl", "application/jsonl")):
        if (path := run.folder / name).exists():
            st.download_button(
                name, path.read_bytes(), f"{run.id}-{name}", kind, icon=":material/download:", on_click="ignore",
                key=f"{name} {run.id}",
            )  # fmt: skip


def _pick(mode: Mode, runs: list[Run]) -> Run | None:
    """The run of this mode to draw, the newest unless another is chosen."""
    if not runs:
        return None
    names = {run.id: run for run in runs}
    options = [*names, "none"]
    chosen = st.selectbox(
        f"{_MODE_TITLES[mode]} run", options, width=280, key=state.one_of(f"{mode}_run", options),
        format_func=lambda name: names[name].name if name in names else name,
    )  # fmt: skip
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
