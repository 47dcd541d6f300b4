"""A run's folder: config.json, log.txt, metrics.jsonl (one `Step` a line), weights.safetensors of the best epoch,
checkpoint.safetensors while it can be gone on with, and result.json at its end."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from dataclasses import dataclass
from pathlib import Path

from clipdemo import __version__
from clipdemo.errors import TrainingError
from clipdemo.models import base_digest
from clipdemo.records import RunConfig, RunResult, Step
from clipdemo.sampling import Sample
from clipdemo.workspace import PARTIAL, Workspace, disk_errors, read_json, write_json

logger = logging.getLogger(__name__)


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

    def log(self, line: str) -> None:
        """Notes something that a reader may want to know, in the run's log.txt and in the process's log."""
        logger.info(line)
        with disk_errors(self.folder), (self.folder / "log.txt").open("a") as file:
            file.write(f"{time.strftime('%H:%M:%S')} {line}\n")


def run_id(config: RunConfig, sample: Sample) -> str:
    """A name made of all that decides the weights: settings, sample, base weights and version."""
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


def begin_run(config: RunConfig, sample: Sample, workspace: Workspace) -> Run:
    """The folder of a run: as it was left, where there is a checkpoint to go on from, else empty of leftovers."""
    name = run_id(config, sample)
    folder = workspace.folder("runs", name)
    with disk_errors(folder):
        folder.mkdir(exist_ok=True)
        run = Run(name, folder, config, sample.id)
        leftovers = ("result.json",)
        if not run.checkpoint.exists():
            leftovers += ("metrics.jsonl", "weights.safetensors", "log.txt")
        for leftover in leftovers:
            (folder / leftover).unlink(missing_ok=True)
        for partial in folder.glob(PARTIAL):
            partial.unlink(missing_ok=True)
        write_json(folder / "config.json", {"config": config.model_dump(mode="json"), "sample": sample.id})
    return run
