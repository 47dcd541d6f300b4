"""A job on a page: where it stands, its curves, its stop button, and how it ended. Polls only while it is going."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import streamlit as st
from pydantic import ValidationError

from clipdemo import jobs, queues
from clipdemo.errors import ClipDemoError
from clipdemo.experiment import STAGES
from clipdemo.jobs import ENDED, Job
from clipdemo.progress import Progress
from clipdemo.records import Mode, RunConfig, SampleConfig
from clipdemo.sampling import sample_id
from clipdemo.training.runs import Run, load_run
from clipdemo.ui import acts, cached, roles, state, widgets
from clipdemo.workspace import Workspace

POLL_SECONDS = 1.0
LOG_LINES = 12
_TELLING_SECONDS = 2.0  # a pace over less says nothing

STAGE_TITLES = {
    "waiting": "Wait for the device",
    "source": "Read the source",
    "sample": "Draw the sample",
    "pictures": "Prepare the pictures",
    "captions": "Fine-tune on captions",
    "labels": "Fine-tune on labels",
    "evaluate base": "Measure the base model",
    "evaluate captions": "Measure the captions model",
    "evaluate labels": "Measure the labels model",
    "embeddings": "Encode the pictures",
    "index of pictures": "Index the pictures",
    "index of captions": "Index the captions",
    "sweep": "All runs of the sweep",
    "interpolate": "Mix and measure",
}
_STAGES_OF = {"experiment": STAGES, "sample": ("source", "sample"), "look": ("source",)}
_DAMAGED = (ClipDemoError, ValidationError, OSError, KeyError, TypeError, ValueError, AttributeError)


@dataclass(frozen=True)
class Look:
    """A job's folder as it was at one moment, read whole."""

    id: str
    command: str
    settings: dict
    state: jobs.State
    message: str
    seconds: float
    stages: dict[str, Progress]
    made: dict[str, str]
    log: str

    @property
    def active(self) -> bool:
        """Whether it may still change."""
        return self.state not in ENDED


def look_at(job: Job) -> Look | None:
    """What the job's folder says; None for one that is half-written or damaged."""
    try:
        asked, now = job.asked, job.state
        result = job.result or {}
        return Look(
            id=job.id,
            command=str(asked["command"]),
            settings=dict(asked["settings"]),
            state=now,
            message=str(result.get("message", "")),
            seconds=float(job.seconds),
            stages=job.progress,
            made=dict(result.get("made", {})),
            log=job.log(LOG_LINES),
        )
    except _DAMAGED:
        return None


def current(workspace: Workspace, commands: Sequence[str], moving_on: bool = False) -> Look | None:
    """The job that this page is about: the one its address names, else one that is going, else the newest.

    `moving_on`: a job that has ended gives way to one that is going.
    """
    asked = None
    if name := state.asked_for("job"):
        with widgets.guarded():  # an address that names no job says so, and the page goes on without it
            asked = look_at(jobs.load_job(workspace, name))
    if asked and (asked.command not in commands):
        asked = None
    if asked and (asked.active or not moving_on):
        return asked
    looks = [look for job in jobs.list_jobs(workspace) if (look := look_at(job)) and look.command in commands]
    going = [look for look in looks if look.active]
    running = [look for look in going if look.state != "waiting"]
    return next(iter([*running, *going, *([asked] if asked else []), *looks]), None)


def launch(workspace: Workspace, command: str, arguments: Sequence[str], settings: dict[str, object]) -> None:
    """Starts a job, puts it into the page's address and draws the page anew."""
    job = acts.start(workspace, command, arguments, settings)
    state.show_in_address("job", job.id)
    st.rerun()


def runs_of(workspace: Workspace, look: Look) -> dict[Mode, Run]:
    """The runs that a job has begun or found, by mode."""
    try:
        configs = [RunConfig(**values) for values in look.settings.get("runs", [])]
        name = look.settings.get("sample_id") or sample_id(SampleConfig(**look.settings["sample"]))
        if not configs or not workspace.folder("samples", name).is_dir():
            return {}
        sample = cached.sample(workspace, name)
        names = {config.mode: cached.run_name(config, sample) for config in configs}
        there = workspace.names("runs")
        return {mode: load_run(workspace, name) for mode, name in names.items() if name in there}
    except _DAMAGED:
        return {}


def watch(workspace: Workspace, look: Look, draw: Callable[[Look], None]) -> None:
    """Draws a job, again every second while it is going, and the whole page once when it has ended."""
    if not look.active:
        draw(look)
        return

    @st.fragment(run_every=POLL_SECONDS)
    def live() -> None:
        with widgets.guarded():
            now = look_at(jobs.load_job(workspace, look.id))
            if now is None or not now.active:
                st.rerun()
            draw(now)

    live()


# ---- what a job looks like


def heading(look: Look, workspace: Workspace, what: str) -> None:
    """One line that says what is going on, with the stop button where there is something to stop."""
    with st.container(horizontal=True, vertical_alignment="center"):
        busy = {"starting": "is starting", "waiting": "waits for its turn", "running": "is running"}
        st.markdown(f"**{what} {busy.get(look.state, 'is stopping')}** · {widgets.clock(look.seconds)}")
        st.space("stretch")
        if look.state == "stopping":
            st.caption("It stops at the next safe place.")
        elif look.state == "waiting" or look.command not in queues.TRAINING:
            if roles.may("stop") and st.button("Stop", icon=":material/stop_circle:", key="stop_job"):
                acts.stop(workspace, look.id)
        elif roles.may("stop"):
            _stops(workspace, look)


def _stops(workspace: Workspace, look: Look) -> None:
    """The three ways to stop a training, each with what it keeps."""
    titles = {"pause": "Stop, go on later", "keep": "Stop, keep the best so far", "discard": "Discard"}
    with st.popover("Stop", icon=":material/stop_circle:", key="stop_job"):
        for how, says in jobs.STOPS.items():
            if st.button(titles[how], key=f"stop {how}", width="stretch"):
                acts.stop(workspace, look.id, how)
            st.caption(says.partition(": ")[2].capitalize() + ".")


def outcome(look: Look, what: str) -> None:
    """How a job ended, in plain words, and what to do next."""
    after = widgets.clock(look.seconds)
    if look.state == "finished":
        st.success(f"{what} finished after {after}.", icon=":material/check_circle:")
    elif look.state == "stopped":
        st.warning(
            f"{what} was stopped after {after}. {_how_it_stopped(look)}",
            icon=":material/stop_circle:",
        )
    elif look.state == "interrupted":
        st.warning(
            f"{what} was interrupted: its process is gone, perhaps because the computer was switched off or ran out of "
            "memory. Parts that were finished are kept: start it again with the same settings.",
            icon=":material/power_off:",
        )
    else:
        reason = widgets.plain(look.message) or "it did not say why"
        st.error(f"{what} failed: {reason}", icon=":material/error:")
    if look.state in ("failed", "interrupted") and look.log:
        with st.expander("Last lines of its log"):
            st.code(look.log, language=None)


def _how_it_stopped(look: Look) -> str:
    if look.message == jobs.STOPS["keep"] or look.message == jobs.STOPS["discard"]:
        return look.message.partition(": ")[2].capitalize() + "."
    return "Parts that were finished are kept: start it again with the same settings, and it goes on from them."


def stages(look: Look, workspace: Workspace) -> None:
    """Each stage of the job: done, under way with a bar and the time left, or still to come."""
    runs = runs_of(workspace, look)
    names = list(dict.fromkeys([*_STAGES_OF.get(look.command, ()), *look.stages]))
    # the stages' own order: a run opens its model before it prepares its pictures
    names.sort(key=lambda name: STAGES.index(name) if name in STAGES else -1)
    furthest = max((names.index(name) for name in look.stages), default=-1)
    for place, name in enumerate(names):
        title = STAGE_TITLES.get(name, name)
        progress = look.stages.get(name)
        if name == "waiting" and look.state != "waiting":
            continue
        note = f" :gray[· {widgets.plain(progress.note)}]" if progress and progress.note else ""
        if place < furthest or (progress and progress.done >= progress.total):
            st.markdown(f":green[:material/check_circle:] {title}{note}")
        elif progress is None:
            st.markdown(f":gray[:material/radio_button_unchecked: {title}]")
        else:
            seconds = _seconds(runs[name]) if name in runs else progress.seconds
            left = time_left(seconds, progress)
            st.progress(min(1.0, progress.done / max(1, progress.total)), f"**{title}**{note} :gray[{left}]")


def _seconds(run: Run) -> float:
    """How long a run has been going, earlier parts of a broken-off one included."""
    steps = cached.steps(run)
    return steps[-1].seconds if steps else 0.0


def time_left(seconds: float, progress: Progress) -> str:
    """ " · about 40 s left", from the stage's own pace so far; nothing while it has none."""
    if seconds < _TELLING_SECONDS or not progress.done:
        return ""
    return f" · about {widgets.clock(seconds * (progress.total - progress.done) / progress.done)} left"


def instruments(run: Run) -> None:
    """Speed, rate and temperature of a run at its last report, and what it runs on."""
    lines = [step for step in cached.steps(run)[-40:] if step.training_loss is not None]
    if len(lines) < 2 or lines[-1].seconds <= lines[0].seconds:
        return
    pictures = run.config.batch_size * (lines[-1].step - lines[0].step) / (lines[-1].seconds - lines[0].seconds)
    said = [f"{pictures:,.0f} pictures/s", f"learning rate {lines[-1].learning_rate:.2e}"]
    if lines[-1].logit_scale:
        said.append(f"temperature {1 / lines[-1].logit_scale:.4f}")
    if on := run.runs_on():
        said.append(widgets.plain(on))
    st.caption(" · ".join(said))


def followed_curves(runs: Mapping[Mode, Run]) -> None:
    """The curves of runs that go on, redrawn as they grow, or left alone: a chart that is redrawn loses its zoom."""
    with st.container(horizontal=True, vertical_alignment="center"):
        following = st.toggle(
            "Follow live", value=True, key=state.FOLLOW,
            help="Off: the curves stay as they are, and so does what you have zoomed to. On: the newest.",
        )  # fmt: skip
        if following or state.SHOWN not in st.session_state:
            st.session_state[state.SHOWN] = {run.id: len(cached.steps(run)) for run in runs.values()}
        if not following and (said := _gone_on(runs, st.session_state[state.SHOWN])):
            st.caption(said)
    curves(runs, key="live", until=None if following else st.session_state[state.SHOWN])


def _gone_on(runs: Mapping[Mode, Run], shown: Mapping[str, int]) -> str:
    """Where the runs stand that have gone on since: "captions: drawn to step 40, now at step 72"."""
    said = []
    for mode, run in runs.items():
        steps, lines = cached.steps(run), shown.get(run.id, 0)
        if len(steps) > lines:
            drawn = f"drawn to step {steps[lines - 1].step:,}" if lines else "not drawn yet"
            said.append(f"{mode}: {drawn}, now at step {steps[-1].step:,} (epoch {steps[-1].epoch:.1f})")
    return " · ".join(said)


def curves(runs: Mapping[Mode, Run], key: str, until: Mapping[str, int] | None = None) -> None:
    """Loss and validation top-1 of runs, side by side where there is room; `until` as `cached.curves` takes it."""
    if (drawn := cached.curves(runs, until)) is None:
        return
    loss, top1 = drawn
    with st.grid(2, min_column_width=340, gap="small") as grid:
        with grid.cell():
            st.markdown("**Loss** :gray[· solid: training, dashed: validation]")
            st.echarts_chart(loss, height=350, key=f"{key}_loss", alt="Loss by epoch")
        with grid.cell():
            st.markdown("**Validation top-1** :gray[· epoch 0 is the base model; the best epoch is ringed]")
            st.echarts_chart(top1, height=350, key=f"{key}_top1", alt="Validation top-1 by epoch")
