"""What captions are worth: both fine-tunings on ever more pictures, and how many labels give as much as the captions.

A sweep trains on parts of one sample's training pictures, nested and balanced, and measures every run on the same test
pictures. `sweep` does it, `load_sweep` reads it, also while it is under way, and `clipdemo.worth` draws the conclusion.

How long small parts are trained: for about as many steps as the whole sample, as far as `MAX_EPOCHS` passes allow, so
that fewer pictures are not less training as well. Every run keeps its best epoch by validation top-1.
"""

from __future__ import annotations

import hashlib
import math
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, field_validator, model_validator

from clipdemo.errors import BadSettings, ClipDemoError, TrainingError, WorkspaceError
from clipdemo.progress import Activity, Progress
from clipdemo.records import MODES, Evaluation, Mode, Record, RunConfig
from clipdemo.sampling import Sample
from clipdemo.training.runs import Run, run_id
from clipdemo.workspace import Workspace, disk_errors, read_json, write_json

Kind = Literal["base", "captions", "labels"]
MAX_EPOCHS = 32
SMALLEST_SIZE = 64


# ---- what is asked


class SweepConfig(Record):
    """Which runs a sweep makes: every size with every seed and every kind of fine-tuning."""

    sample: str
    sizes: tuple[Annotated[int, Field(ge=2)], ...] = ()  # training pictures, ascending; none: `halvings` of all
    seeds: tuple[Annotated[int, Field(ge=0, lt=2**32)], ...] = Field((0, 1, 2), min_length=1)
    runs: tuple[RunConfig, ...] = Field(  # one a mode, as all training pictures would be trained on; seed is not used
        tuple(RunConfig(mode=mode) for mode in MODES), min_length=1
    )

    @field_validator("sizes")
    @classmethod
    def _sizes_ascend(cls, sizes: tuple[int, ...]) -> tuple[int, ...]:
        if list(sizes) != sorted(set(sizes)):
            raise ValueError("write each size once, the smallest first")
        return sizes

    @field_validator("seeds")
    @classmethod
    def _seeds_differ(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) < len(seeds):
            raise ValueError("write each seed once: the same seed gives the same run")
        return seeds

    @field_validator("runs")
    @classmethod
    def _runs_make_curves(cls, runs: tuple[RunConfig, ...]) -> tuple[RunConfig, ...]:
        if len({run.mode for run in runs}) < len(runs):
            raise ValueError("each mode can be there once")
        if len({(run.base, run.template) for run in runs}) > 1:
            raise ValueError("all have to start from one base, and to be measured with one template")
        if any(run.pictures or run.continues for run in runs):
            raise ValueError("a sweep chooses the pictures itself and starts from the base: leave out those settings")
        if any(run.mode == "captions" and run.loss == "multi-positive" for run in runs):
            raise ValueError("captions with the multi-positive loss are told the labels that they are compared with")
        return tuple(run.model_copy(update={"seed": 0}) for run in runs)

    @property
    def modes(self) -> tuple[Mode, ...]:
        """The kinds of fine-tuning."""
        return tuple(run.mode for run in self.runs)


def halvings(pictures: int) -> tuple[int, ...]:
    """All pictures, half of them, a quarter, and so on as long as that is about `SMALLEST_SIZE`; ascending."""
    steps = max(0, round(math.log2(max(1, pictures) / SMALLEST_SIZE)))
    return tuple(pictures >> step for step in range(steps, -1, -1))


def resolved(config: SweepConfig, sample: Sample) -> SweepConfig:
    """The sweep with its sizes in numbers. Raises `BadSettings` for what this sample does not allow."""
    available = sample.sizes["train"]
    if sample.id != config.sample:
        raise BadSettings(f"the sweep is of sample {config.sample}, not of {sample.id}")
    for mode in ("labels", *config.modes):  # top-1 is told by labels
        sample.require(mode)
    sizes = config.sizes or halvings(available)
    if sizes[-1] > available:
        raise BadSettings(
            f"size {sizes[-1]:,}: sample {sample.id} has {available:,} training pictures; ask for at most so many, or "
            "draw a larger sample"
        )
    return config.model_copy(update={"sizes": sizes})


def runs_of(config: SweepConfig, sample: Sample) -> list[RunConfig]:
    """All runs of a sweep, seed by seed, so that the first seed soon shows a whole curve."""
    config = resolved(config, sample)
    available = sample.sizes["train"]
    return [run_on(run, size, seed, available) for seed, size, run in product(config.seeds, config.sizes, config.runs)]


def run_on(whole: RunConfig, pictures: int, seed: int, available: int) -> RunConfig:
    """The run on so many of the `available` training pictures that is as long as `whole` on all of them, or nearly.

    As many epochs as give about the same number of steps, `MAX_EPOCHS` at most (more only where the whole has more);
    patience grows with them. All pictures are `pictures` = 0, so that an ordinary run is found again.
    """
    steps = whole.epochs * _epoch_steps(available, whole.batch_size)
    epochs = min(round(steps / _epoch_steps(pictures, whole.batch_size)), max(MAX_EPOCHS, whole.epochs))
    return RunConfig(
        **whole.model_dump()
        | {
            "pictures": 0 if pictures == available else pictures,
            "seed": seed,
            "epochs": epochs,
            "batch_size": min(whole.batch_size, pictures),
            "patience": min(1000, math.ceil(whole.patience * epochs / whole.epochs)),
        }
    )


def _epoch_steps(pictures: int, batch_size: int) -> int:
    return max(1, pictures // batch_size)


def sweep_id(config: SweepConfig, sample: Sample) -> str:
    """A name made of the runs' ids, which are made of all that decides their weights."""
    names = " ".join(run_id(run, sample) for run in runs_of(config, sample))
    return f"sweep-{hashlib.sha256(names.encode()).hexdigest()[:8]}"


# ---- what is found


class Point(Record):
    """One model on the test pictures. Keeps which ones it got right, so that runs may be deleted."""

    kind: Kind
    pictures: int = Field(ge=0)  # that it was trained on; 0: base
    seed: int | None  # None: base
    run: str | None
    evaluation: str
    n: int = Field(ge=1)
    right: int = Field(ge=0)
    bits: str  # one bit a test picture, in the sample's order, packed, in hexadecimal

    @property
    def top1(self) -> float:
        """Fraction of the test pictures whose class it put first."""
        return self.right / self.n

    @property
    def correct(self) -> np.ndarray:
        """bool (n,): which test pictures it got right."""
        return np.unpackbits(np.frombuffer(bytes.fromhex(self.bits), np.uint8), count=self.n).astype(bool)

    @model_validator(mode="after")
    def _counts_agree(self) -> Self:
        if self.right != int(self.correct.sum()):
            raise ValueError(f"right = {self.right}, but {int(self.correct.sum())} pictures are marked so")
        return self


class SweepResult(Record):
    """All that a sweep has found so far."""

    id: str
    sample: str
    sample_hash: str
    synthetic: bool  # True when the pictures are drawn, not taken of anybody
    config: SweepConfig  # with its sizes in numbers
    total: int  # runs, when it is finished
    base: Point | None = None
    points: tuple[Point, ...] = ()  # in the order of `runs_of`

    @property
    def finished(self) -> bool:
        """Whether all runs have been measured."""
        return len(self.points) == self.total

    def point(self, kind: Mode, pictures: int, seed: int) -> Point | None:
        """What was found there; None while nothing was."""
        wanted = (kind, pictures, seed)
        return next((p for p in self.points if (p.kind, p.pictures, p.seed) == wanted), None)

    def curve(self, kind: Mode) -> list[Place]:
        """What has been found of one kind, by the number of pictures, ascending; sizes without any run are left out."""
        found = {
            size: [p.top1 for p in self.points if p.kind == kind and p.pictures == size] for size in self.config.sizes
        }
        return [Place(size, tuple(values)) for size, values in found.items() if values]


@dataclass(frozen=True)
class Place:
    """A curve's place: top-1 of each seed on so many training pictures."""

    pictures: int
    top1: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return float(np.mean(self.top1))


def sweep(config: SweepConfig, sample: Sample, workspace: Workspace, job: str = "") -> Activity[SweepResult]:
    """Trains and measures every run that is not found finished, and saves what is known after each.

    Progress of the stage "sweep" counts the runs; between its words come those of the run under way. Leaving it early
    keeps what was finished, and the run under way can be gone on with. Raises `TrainingError` for a run that somebody
    has ended before its time.
    """
    from clipdemo.comparison import evaluate
    from clipdemo.training.loop import train

    config = resolved(config, sample)
    name, runs = sweep_id(config, sample), runs_of(config, sample)
    with workspace.lock(f"sweep-{name}"):
        result = _begun(config, sample, workspace, name, len(runs))
        first = config.runs[0]
        if result.base is None:
            found = yield from evaluate(sample, workspace, base=first.base, template=first.template)
            base = _point("base", 0, None, found, workspace)
            result = _saved(result.model_copy(update={"base": base}), workspace)
        known = {point.run: point for point in result.points}
        for done, run in enumerate(runs):
            yield Progress(stage="sweep", done=done, total=len(runs), note=_in_short(run, sample))
            if run_id(run, sample) in known:
                continue
            trained = yield from train(run, sample, workspace, job)
            _check_whole(trained)
            found = yield from evaluate(sample, workspace, trained, template=run.template)
            point = _point(run.mode, _pictures(run, sample), run.seed, found, workspace)
            result = _saved(result.model_copy(update={"points": (*result.points, point)}), workspace)
        yield Progress(stage="sweep", done=len(runs), total=len(runs), note=f"{len(runs)} runs measured")
    return result


def load_sweep(workspace: Workspace, name: str) -> SweepResult:
    """A sweep by its id, as far as it is. Raises `WorkspaceError` when there is none, or its file is damaged."""
    path = workspace.folder("sweeps", name) / "sweep.json"
    if not path.exists():
        known = ", ".join(workspace.names("sweeps")[:5]) or "none yet"
        raise WorkspaceError(f"there is no sweep {name!r} in {workspace.root}: known are {known}")
    try:
        return SweepResult(**read_json(path))
    except (BadSettings, ValueError) as error:
        raise WorkspaceError(
            f"{path} is damaged ({error}): delete its folder and start the sweep again; runs that are there are found"
        ) from None


def readable_sweeps(workspace: Workspace) -> list[SweepResult]:
    """All sweeps, newest first, but those whose file is damaged or not there yet."""
    found = []
    for name in workspace.names("sweeps"):
        with suppress(ClipDemoError):
            found.append(load_sweep(workspace, name))
    return found


def _begun(config: SweepConfig, sample: Sample, workspace: Workspace, name: str, total: int) -> SweepResult:
    """The sweep as it was left, or a new one."""
    folder = workspace.folder("sweeps", name)
    if (folder / "sweep.json").exists():
        return load_sweep(workspace, name)
    with disk_errors(folder):
        folder.mkdir(exist_ok=True)
    new = SweepResult(
        id=name,
        sample=sample.id,
        sample_hash=sample.content_hash,
        synthetic=sample.synthetic,
        config=config,
        total=total,
    )
    return _saved(new, workspace)


def _saved(result: SweepResult, workspace: Workspace) -> SweepResult:
    write_json(workspace.folder("sweeps", result.id) / "sweep.json", result.model_dump(mode="json"))
    return result


def _pictures(run: RunConfig, sample: Sample) -> int:
    return run.pictures or sample.sizes["train"]


def _in_short(run: RunConfig, sample: Sample) -> str:
    return f"{run.mode} of {_pictures(run, sample):,} pictures, seed {run.seed}"


def _check_whole(run: Run) -> None:
    """Raises `TrainingError` for a run that was stopped for good: it would make its size look worse than it is."""
    if run.result.state == "kept":
        raise TrainingError(
            f"run {run.id} was stopped for good after {run.result.epochs_done} of {run.config.epochs} epochs, which is "
            "no fair point of a curve: delete it, and the sweep trains it whole"
        )


def _point(
    kind: Literal["base", "captions", "labels"],
    pictures: int,
    seed: int | None,
    found: Evaluation,
    workspace: Workspace,
) -> Point:
    """A model's point from the predictions that its evaluation has saved."""
    from clipdemo.comparison import load_predictions
    from clipdemo.evaluation import ranks, scores_of

    scores, target, _ = scores_of(load_predictions(workspace, found))
    correct = ranks(scores, target) == 0
    return Point(
        kind=kind,
        pictures=pictures,
        seed=seed,
        run=found.run,
        evaluation=found.predictions,
        n=len(correct),
        right=int(correct.sum()),
        bits=np.packbits(correct).tobytes().hex(),
    )
