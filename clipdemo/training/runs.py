"""A run's folder: config.json, log.txt, metrics.jsonl (one `Step` a line), weights.safetensors of the best epoch,
checkpoint.safetensors and the one before it while it can be gone on with, and result.json at its end."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from clipdemo import __version__
from clipdemo.errors import ClipDemoError, TrainingError
from clipdemo.jobs import ENDED, State, Stop, load_job
from clipdemo.models import base_digest
from clipdemo.records import RunConfig, RunResult, Step
from clipdemo.sampling import Sample
from clipdemo.workspace import PARTIAL, Workspace, atomic_write, disk_errors, read_json, write_json

logger = logging.getLogger(__name__)
_SPEED = ("mode", "base", "batch_size", "tune", "precision", "chunk_size", "checkpointing", "template", "augmentation")
_DEVICES = ("cpu", "cuda", "mps")
PREVIOUS = "checkpoint-before.safetensors"


@dataclass(frozen=True)
class Run:
    """One fine-tuning on one sample, finished or not."""

    id: str
    folder: Path
    config: RunConfig
    sample: str

    @property
    def weights(self) -> Path:
        """The weights of the best epoch so far, in open_clip's state dict, as safetensors."""
        return self.folder / "weights.safetensors"

    @property
    def checkpoint(self) -> Path:
        """Where the run stands, for going on with it; there only while it has not finished."""
        return self.folder / "checkpoint.safetensors"

    @property
    def checkpoints(self) -> list[Path]:
        """Where the run stands and where it stood before that, newest first: as many as are there, two at most."""
        return [path for path in (self.checkpoint, self.folder / PREVIOUS) if path.exists()]

    @property
    def job(self) -> str:
        """The id of the job that trained it last."""
        return str(read_json(self.folder / "config.json").get("job", ""))

    @property
    def name(self) -> str:
        """What somebody has called it, else its id."""
        path = self.folder / "name.txt"
        return path.read_text() if path.exists() else self.id

    def rename(self, name: str) -> None:
        """Calls it so from now on; "" is its id again."""
        name = " ".join(name.split())[:80]
        path = self.folder / "name.txt"
        if name:
            atomic_write(path, name.encode())
        else:
            path.unlink(missing_ok=True)

    @property
    def result(self) -> RunResult | None:
        """How the run ended; None while it has not."""
        path = self.folder / "result.json"
        return RunResult(**read_json(path)) if path.exists() else None

    def steps(self) -> list[Step]:
        """Everything measured so far. A half-written last line, of a run that is being killed, is left out."""
        try:
            text = (self.folder / "metrics.jsonl").read_text()
        except FileNotFoundError:
            return []
        return [Step(**json.loads(line)) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def runs_on(self) -> str:
        """Device and precision, as the run noted them at its last start."""
        path = self.folder / "log.txt"
        lines = path.read_text(errors="replace").splitlines() if path.exists() else []
        return next((line[9:].partition(";")[0] for line in reversed(lines) if line[9:].startswith(_DEVICES)), "")

    def log(self, line: str) -> None:
        """Notes something that a reader may want to know, in the run's log.txt and in the process's log."""
        logger.info(line)
        with disk_errors(self.folder), (self.folder / "log.txt").open("a") as file:
            file.write(f"{time.strftime('%H:%M:%S')} {line}\n")


def run_id(config: RunConfig, sample: Sample) -> str:
    """A name made of all that decides the weights: settings, sample, base weights and version.

    A run that continues another has that one's id, which stands for its weights, among its settings.
    """
    key = f"{config.digest()} {sample.content_hash} {base_digest(config.base)} {__version__}"
    return f"{config.mode}-s{config.seed}-{hashlib.sha256(key.encode()).hexdigest()[:8]}"


def load_run(workspace: Workspace, name: str) -> Run:
    """A run by its id. Raises `TrainingError` when there is none."""
    folder = workspace.folder("runs", name)
    if not (folder / "config.json").exists():
        known = ", ".join(workspace.names("runs")[:5]) or "none yet"
        raise TrainingError(f"there is no run {name!r} in {workspace.root}: known are {known}")
    meta = read_json(folder / "config.json")
    return Run(name, folder, RunConfig(**meta["config"]), meta["sample"])


def run_state(run: Run, workspace: Workspace) -> State:
    """What is true of a run right now, whoever trains it: a job's state, or how it ended."""
    result = run.result
    if result and result.state != "stopped":
        return "finished"
    with suppress(ClipDemoError, KeyError):
        job = load_job(workspace, run.job)
        if (state := job.state) not in ENDED or state == "failed":
            return state
    return "stopped" if result else "interrupted"


def readable_runs(workspace: Workspace) -> Iterator[Run]:
    """All runs, newest first, but those whose folder is damaged or just being made."""
    for name in workspace.names("runs"):
        with suppress(ClipDemoError, KeyError, TypeError):
            yield load_run(workspace, name)


def runs_of_job(workspace: Workspace, job: str) -> list[Run]:
    """The runs that a job has trained or is training."""
    return [run for run in readable_runs(workspace) if run.job == job]


def expected_seconds(config: RunConfig, earlier: Sequence[Run]) -> float | None:
    """How long a run takes, by an epoch of the newest of its sample with settings as fast; None where there is none."""
    for run in earlier:
        result, other = run.result, run.config
        alike = all(getattr(other, name) == getattr(config, name) for name in _SPEED)
        if result and result.epochs_done and alike:
            return result.seconds / result.epochs_done * config.epochs
    return None


def settle(run: Run, how: Stop, workspace: Workspace) -> None:
    """Does with a run that was stopped what was asked for; one that had finished before is left alone."""
    result = run.result
    if result and result.state != "stopped":
        return
    if how == "discard" or (how == "keep" and result is None):
        workspace.delete("runs", run.id)
    elif how == "keep":
        kept = result.model_copy(update={"state": "kept"})
        write_json(run.folder / "result.json", kept.model_dump(mode="json"))
        for checkpoint in run.checkpoints:
            checkpoint.unlink(missing_ok=True)


def begin_run(config: RunConfig, sample: Sample, workspace: Workspace, job: str = "") -> Run:
    """The folder of a run: as it was left, where there is a checkpoint to go on from, else empty of leftovers."""
    name = run_id(config, sample)
    folder = workspace.folder("runs", name)
    with disk_errors(folder):
        folder.mkdir(exist_ok=True)
        run = Run(name, folder, config, sample.id)
        leftovers = ("result.json",)
        if not run.checkpoints:
            leftovers += ("metrics.jsonl", "weights.safetensors", "log.txt")
        for leftover in leftovers:
            (folder / leftover).unlink(missing_ok=True)
        for partial in folder.glob(PARTIAL):
            partial.unlink(missing_ok=True)
        write_json(folder / "config.json", {"config": config.model_dump(mode="json"), "sample": sample.id, "job": job})
    return run
