"""What a run will take, from a few of its own steps on this device. Importing it imports no torch.

The steps are real ones, of the run's own loop on the sample's own pictures, in a folder that is gone afterwards. What
they tell is kept in the workspace's cache, so that settings that are as fast are measured once.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from clipdemo import __version__
from clipdemo.errors import ClipDemoError
from clipdemo.progress import Activity, Progress
from clipdemo.queues import default_device
from clipdemo.records import Record, RunConfig
from clipdemo.sampling import Sample
from clipdemo.workspace import Workspace, disk_errors, read_json, write_json

if TYPE_CHECKING:
    from clipdemo.training.loop import _Training
    from clipdemo.training.pairs import Pairs

STAGE = "estimate"
DISCARDED = 2  # first steps: memory is taken, kernels are chosen, AdamW's moments are made
STEPS, SECONDS, MOST_SECONDS = 4, 3.0, 30.0  # measured: at least so many, for so long, but not much longer than that
VALIDATED = 256  # pictures at most
_FREE = frozenset(  # settings that leave a step as fast as it is; all others are part of what was measured
    ("epochs", "learning_rate", "weight_decay", "warmup_fraction", "patience", "continues", "interpolation", "seed")
)


class Estimate(Record):
    """What a run is expected to take, with the parts that it is made of. Times are seconds, memory is bytes."""

    device: str  # as torch names it
    device_name: str
    precision: str
    chunk_size: int  # pairs that are in memory at a time
    epochs: int
    interpolation: bool
    epoch_steps: int
    opening_seconds: float  # torch and the base model
    step_seconds: float
    validation_seconds: float  # the whole validation split once
    saving_seconds: float  # best weights and checkpoint, as after an epoch that was better
    memory_bytes: int  # the most that the process had at once: of the GPU, or resident in the machine's memory
    device_bytes: int  # memory that the device has in all
    steps_measured: int

    @property
    def seconds(self) -> float:
        """The whole run, up to its last epoch; `patience` may end it before."""
        mixes = 5 if self.interpolation else 0  # `loop.MIXES`, each of them validated
        epoch = self.epoch_steps * self.step_seconds + self.validation_seconds + self.saving_seconds
        return self.opening_seconds + (1 + mixes) * self.validation_seconds + self.epochs * epoch


def known_estimate(config: RunConfig, sample: Sample, workspace: Workspace) -> Estimate | None:
    """What an earlier measurement of settings as fast tells about this run; None where there is none."""
    path = _path(config, sample, workspace)
    if not path.exists():
        return None
    with suppress(ClipDemoError, TypeError):  # of another version, or damaged: measured again
        return Estimate(**read_json(path) | {"epochs": config.epochs, "interpolation": config.interpolation})
    return None


def estimate(config: RunConfig, sample: Sample, workspace: Workspace) -> Activity[Estimate]:
    """Expected time and memory of a run, measured in seconds with a few of its steps, or known from before.

    Pictures that are not decoded yet are decoded first, for the run to find. To know the memory, it has to run in a
    process of its own. Raises `BadSettings` for a sample without these texts, `TrainingError` where even one pair does
    not fit into memory or the loss is no number.
    """
    sample.require(config.mode)
    found = known_estimate(config, sample, workspace)
    if found is None:
        found = yield from _measured(config, sample, workspace)
        path = _path(config, sample, workspace)
        with disk_errors(path):
            path.parent.mkdir(exist_ok=True)
        write_json(path, found.model_dump(mode="json"))
    yield Progress(stage=STAGE, done=1, total=1, note=f"{found.seconds:.0f} s, {found.memory_bytes / 1e9:.1f} GB")
    return found


def _path(config: RunConfig, sample: Sample, workspace: Workspace) -> Path:
    """Where a measurement is kept: its name is made of all that decides how fast a step is."""
    machine = f"{default_device()} {os.environ.get('CUDA_VISIBLE_DEVICES', '')} {platform.node()} {os.cpu_count()}"
    key = [config.model_dump(mode="json", exclude=set(_FREE)), sample.content_hash, machine, __version__]
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    return workspace.folder("cache", "estimates") / f"{digest}.json"


# ---- measuring


def _measured(config: RunConfig, sample: Sample, workspace: Workspace) -> Activity[Estimate]:
    began = time.perf_counter()
    yield _progress(0, "opening the base model")
    import torch

    from clipdemo import machine
    from clipdemo.models import open_model
    from clipdemo.training.distributed import Ranks
    from clipdemo.training.loop import _Training
    from clipdemo.training.pairs import Pairs
    from clipdemo.training.runs import Run

    device = machine.pick_device()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    if device.type == "cpu":
        machine.prepare_cpu()
    torch.manual_seed(config.seed)
    clip = open_model(config.base, None, machine.pick_precision(config.precision, device), config.compile)
    opening = time.perf_counter() - began
    pairs = yield from Pairs.of(config, sample, clip, workspace)
    share = _validate_less(pairs)
    with tempfile.TemporaryDirectory(prefix="estimate-", dir=workspace.root / ".partial") as folder:
        training = _Training(Run("estimate", Path(folder), config, sample.id), clip, pairs, Ranks())
        training.standing.chunk_size = config.chunk_size or training._chunk_that_fits()
        training.standing.best_top1 = math.inf  # no validation saves weights: that is timed by itself
        first = _seconds(training, training._validate)
        steps, step_seconds = yield from _timed_steps(training)
        again = _seconds(training, training._validate)
        saving = _seconds(training, training._save) + _seconds(training, lambda: _save_weights(training))
    return Estimate(
        device=str(device),
        device_name=name,
        precision=clip.precision,
        chunk_size=min(training.standing.chunk_size, config.batch_size),
        epochs=config.epochs,
        interpolation=config.interpolation,
        epoch_steps=training.epoch_steps,
        opening_seconds=opening + max(0.0, first - again),  # what only the first look costs
        step_seconds=step_seconds,
        validation_seconds=again / share,
        saving_seconds=saving,
        memory_bytes=_peak_bytes(device.type),
        device_bytes=_device_bytes(device.type),
        steps_measured=steps,
    )


def _timed_steps(training: _Training) -> Activity[tuple[int, float]]:
    """How many steps were measured, and the mean seconds of one, once the first few are done."""
    left, seconds, steps = DISCARDED, 0.0, 0
    while True:
        pairs = training.pairs.batches(training._order(), training.ranks)
        for rows, batch in pairs:
            took = _seconds(training, lambda rows=rows, batch=batch: training._train_on(rows, batch))
            training.losses.clear()
            if left:
                left -= 1
            else:
                seconds, steps = seconds + took, steps + 1
                if (steps >= STEPS and seconds >= SECONDS) or seconds >= MOST_SECONDS:
                    pairs.close()
                    return steps, seconds / steps
            yield _progress(steps, f"step {training.standing.step}: {took:.2g} s")


def _progress(steps: int, note: str) -> Progress:
    return Progress(stage=STAGE, done=min(steps, STEPS), total=STEPS + 1, note=note)


def _validate_less(pairs: Pairs) -> float:
    """Leaves validation as many rows as are needed to tell its pace; the share that they are of all comes back."""
    rows = pairs.split("validation")
    if len(rows) <= VALIDATED:
        return 1.0
    pairs._splits = np.where(np.isin(np.arange(len(pairs._splits)), rows[VALIDATED:]), "", pairs._splits)
    return VALIDATED / len(rows)


def _save_weights(training: _Training) -> None:
    training._save_weights(training._state())


def _seconds(training: _Training, work: Callable[[], object]) -> float:
    """How long work takes, what a GPU still has to do of it included."""
    began = time.perf_counter()
    work()
    if training.clip.device.type == "cuda":
        import torch

        torch.cuda.synchronize(training.clip.device)
    return time.perf_counter() - began


def _peak_bytes(device: str) -> int:
    """The most memory that this process has had at once: of the GPU that it uses, else resident."""
    if device == "cuda":
        import torch

        return torch.cuda.max_memory_allocated()
    if sys.platform == "linux":  # not `ru_maxrss`, which begins with what the parent held
        status = Path("/proc/self/status").read_text().split()
        return int(status[status.index("VmHWM:") + 1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _device_bytes(device: str) -> int:
    if device == "cuda":
        import torch

        return torch.cuda.mem_get_info()[1]
    import psutil

    return psutil.virtual_memory().total
