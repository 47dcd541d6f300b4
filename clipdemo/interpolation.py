"""Between a base and a run: what mixing their weights gains on the sample, and what it forgets elsewhere.

WiSE-FT (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models"): weights = share x tuned + (1 - share) x base.
Of each share the folder keeps which pictures were right (share-*.npz), written when the share is done, so that a killed
computation loses one share at most; interpolation.json sums them up once all are there.

The share that is recommended is chosen on validation pictures. Accuracy on test pictures is there to look at: whoever
chooses a share by it has no test left.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import zipfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from clipdemo.embeddings import as_kept
from clipdemo.errors import BadSettings, ComparisonError
from clipdemo.evaluation import distinct, ranks, retrieval_ranks
from clipdemo.general import CLASSES, GENERAL_SET, general_plates, general_set
from clipdemo.models import Clip, base_digest, files_digest, mixed, open_model
from clipdemo.pixels import sample_pixels
from clipdemo.progress import Activity, Progress
from clipdemo.records import Fraction, Mode, Record, percent
from clipdemo.sampling import Sample
from clipdemo.statistics import Interval, Paired, paired_difference, proportion_interval
from clipdemo.training.runs import Run
from clipdemo.workspace import Workspace, atomic_write, disk_errors, read_json, write_json

if TYPE_CHECKING:
    pass

logger = logging.getLogger(__name__)

Measured = Literal["validation", "test", "general"]
MEASURED: tuple[Measured, ...] = ("validation", "test", "general")
SHARES = tuple(i / 10 for i in range(11))
STAGE = "interpolate"
Correct = dict[Measured, np.ndarray]  # bool (n,) each: whether a picture's first place was right


class Hits(Record):
    """How many of `n` pictures had the right answer in first place; a tie counts as wrong."""

    right: int
    n: int

    @property
    def fraction(self) -> float:
        """Top-1 accuracy."""
        return self.right / self.n

    @property
    def interval(self) -> Interval:
        """95 %, for these pictures as a draw from their source."""
        return proportion_interval(self.right, self.n)


class Point(Record):
    """One share of the tuned weights, and what the mixed model gets right."""

    share: Fraction
    validation: Hits
    test: Hits
    general: Hits


class Interpolation(Record):
    """The way from a base (share 0) to a run (share 1), in ascending order of shares.

    The base is the run's `config.base`, for a run that continues another one as well: the way then leads over both
    runs' training. Share 1 is the run as it is saved, which may be a mix already (`RunConfig.interpolation`).
    """

    id: str
    run: str
    base: str
    sample: str
    sample_hash: str
    template: str
    choices: Mode  # what sample pictures choose from: the classes or, where there are none, their split's captions
    general_set: str  # see `clipdemo.general`; its pictures choose from body parts
    points: tuple[Point, ...]

    @property
    def recommended(self) -> Point:
        """The share that is best on validation pictures; of equally good ones the largest."""
        return max(self.points, key=lambda point: (point.validation.right, point.share))


def interpolate(
    run: Run, sample: Sample, workspace: Workspace, shares: Iterable[float] = SHARES, template: str | None = None
) -> Activity[Interpolation]:
    """Measures the mixes of a run with its base, and saves them; shares that are there already are not done again.

    `template` is the run's own where it is left out. Raises `ComparisonError` for a run of another sample or without
    weights, `BadSettings` for shares outside [0, 1], `ModelError` for weights that do not load.
    """
    shares, template = _ascending(shares), template or run.config.template
    _require_weights(run, sample)
    key = interpolation_id(run, sample, shares, template)
    folder = workspace.folder("interpolations", key)
    with workspace.lock(f"interpolation-{key}"):
        with disk_errors(folder):
            folder.mkdir(exist_ok=True)
        sizes = {"validation": sample.sizes["validation"], "test": sample.sizes["test"]}
        sizes["general"] = len(general_plates())
        known = {share: found for share in shares if (found := _kept(folder, share, sizes)) is not None}
        if missing := [share for share in shares if share not in known]:
            yield Progress(stage=STAGE, done=len(known), total=len(shares), note="opening the models")
            yield from _measure(run, sample, workspace, template, missing, known, folder)
        result = Interpolation(
            id=key,
            run=run.id,
            base=run.config.base,
            sample=sample.id,
            sample_hash=sample.content_hash,
            template=template,
            choices="labels" if sample.classes else "captions",
            general_set=GENERAL_SET,
            points=tuple(_point(share, known[share]) for share in shares),
        )
        write_json(folder / "interpolation.json", result.model_dump(mode="json"))
    yield Progress(stage=STAGE, done=len(shares), total=len(shares), note=in_short(result))
    return result


def in_short(result: Interpolation) -> str:
    """ "share 0.7 is best on validation: 81.7 % of 104"."""
    best = result.recommended
    return f"share {best.share:g} is best on validation: {percent(best.validation.fraction)} of {best.validation.n:,}"


def interpolation_id(run: Run, sample: Sample, shares: Iterable[float] = SHARES, template: str | None = None) -> str:
    """A name made of all that decides the numbers: both models' weights, pictures, sentences and shares."""
    models = [files_digest(run.weights), base_digest(run.config.base)]
    key = [*models, sample.content_hash, template or run.config.template, _ascending(shares), GENERAL_SET]
    return f"{run.id}-{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:8]}"


def find_interpolation(
    run: Run, sample: Sample, workspace: Workspace, shares: Iterable[float] = SHARES, template: str | None = None
) -> Interpolation | None:
    """The finished interpolation of these very weights, if there is one. Reads the weights' bytes, opens no model."""
    if not run.weights.exists():
        return None
    key = interpolation_id(run, sample, shares, template)
    there = (workspace.folder("interpolations", key) / "interpolation.json").exists()
    return load_interpolation(workspace, key) if there else None


def load_interpolation(workspace: Workspace, name: str) -> Interpolation:
    """A finished interpolation by its id. Raises `ComparisonError` when there is none."""
    path = workspace.folder("interpolations", name) / "interpolation.json"
    if not path.exists():
        known = ", ".join(workspace.names("interpolations")[:5]) or "none yet"
        raise ComparisonError(
            f"there is no finished interpolation {name!r} in {workspace.root}: started or finished are {known}; "
            "interpolate the run (again) to finish it"
        )
    return Interpolation(**read_json(path))


def load_correct(workspace: Workspace, result: Interpolation, share: float) -> Correct:
    """Which pictures a share got right, for paired comparisons: bool (n,) a set, in the manifest's or plates' order.

    Raises `ComparisonError` for a share that was not measured, or whose file is damaged.
    """
    point = next((point for point in result.points if point.share == share), None)
    if point is None:
        known = ", ".join(f"{point.share:g}" for point in result.points)
        raise ComparisonError(f"share {share:g} of interpolation {result.id} was not measured: measured are {known}")
    sizes = {name: getattr(point, name).n for name in MEASURED}
    correct = _kept(workspace.folder("interpolations", result.id), share, sizes)
    if correct is None:
        raise ComparisonError(f"share {share:g} of interpolation {result.id} is lost: interpolate run {result.run}")
    return correct


def change_from_base(workspace: Workspace, result: Interpolation, share: float, measured: Measured) -> Paired:
    """How a share differs from share 0 on the same pictures: gain on the sample's, forgetting on the general set's.

    A hypothesis test for one share that was chosen beforehand or on validation; not for picking one of eleven.
    """
    base, mix = (load_correct(workspace, result, s)[measured] for s in (0.0, share))
    return paired_difference(base, mix)


# ---- measuring


@dataclass(frozen=True)
class _Exam:
    """Pictures, and what decides from their features, float32 (n, dim), whether each is right."""

    pixels: np.ndarray
    right: Callable[[Clip, np.ndarray], np.ndarray]

    def correct(self, clip: Clip) -> np.ndarray:
        """bool (n,). Features are rounded as an evaluation's are, so that share 1 has the run's own numbers exactly."""
        return self.right(clip, as_kept(clip.encode_images(self.pixels)))


def _measure(
    run: Run,
    sample: Sample,
    workspace: Workspace,
    template: str,
    missing: list[float],
    known: dict[float, Correct],
    folder: Path,
) -> Activity[None]:
    """Adds the missing shares to the known ones and to the folder. One network is there, its weights overwritten."""
    from clipdemo.machine import keep_freed_memory

    keep_freed_memory()  # every mix takes as much memory as the last: a sixth of the page faults
    tuned = open_model(run.config.base, run.weights).network.state_dict()
    clip = open_model(run.config.base)
    base = {name: value.clone() for name, value in clip.network.state_dict().items()}
    exams = yield from _exams(sample, clip, workspace, template)
    total = len(missing) + len(known)
    for share in missing:
        clip.network.load_state_dict(mixed(base, tuned, share))
        correct: Correct = {}
        for name, exam in exams.items():
            note = f"share {share:g}: encoding {len(exam.pixels):,} {name} pictures"
            yield Progress(stage=STAGE, done=len(known), total=total, note=note)
            correct[name] = exam.correct(clip)
        _keep(folder, share, correct)
        known[share] = correct


def _exams(sample: Sample, clip: Clip, workspace: Workspace, template: str) -> Activity[dict[Measured, _Exam]]:
    pixels = yield from sample_pixels(sample, clip.image_size, workspace)
    general = yield from general_set(clip.image_size, workspace)
    exams: dict[Measured, _Exam] = {}
    for split in ("validation", "test"):
        rows = sample.rows(split)
        own = pixels[rows.index[0] : rows.index[-1] + 1]  # a split's rows lie together; a slice stays on the disk
        if sample.classes:
            place = {label: i for i, label in enumerate(sample.classes)}
            exams[split] = _Exam(own, _by_class(sample.classes, rows["label"].map(place).to_numpy(), template))
        else:
            exams[split] = _Exam(own, _by_caption(rows["caption"].tolist()))
    exams["general"] = _Exam(general.pixels, _by_class(CLASSES, general.target, template))
    return exams


def _by_class(classes: Sequence[str], target: np.ndarray, template: str) -> Callable[[Clip, np.ndarray], np.ndarray]:
    return lambda clip, images: ranks(images @ clip.encode_classes(classes, template).T, target) == 0


def _by_caption(captions: Sequence[str]) -> Callable[[Clip, np.ndarray], np.ndarray]:
    texts, text_of = distinct(captions)
    return lambda clip, images: retrieval_ranks(images, clip.encode_texts(texts), text_of).caption_rank == 0


def _ascending(shares: Iterable[float]) -> tuple[float, ...]:
    shares = tuple(sorted({float(share) for share in shares}))
    if not shares or not all(0 <= share <= 1 for share in shares):
        raise BadSettings(f"shares = {shares}: give at least one, each from 0 (the base) to 1 (the run)")
    return shares


def _require_weights(run: Run, sample: Sample) -> None:
    if run.sample != sample.id:
        raise ComparisonError(f"run {run.id} was trained on sample {run.sample}, not on {sample.id}")
    if run.result is None or not run.weights.exists():
        raise ComparisonError(
            f"run {run.id} has no weights to mix: it has not ended, or was broken off; train it again with the same "
            "settings"
        )


# ---- files


def _file(folder: Path, share: float) -> Path:
    return folder / f"share-{share!r}.npz"


def _keep(folder: Path, share: float, correct: Correct) -> None:
    data = io.BytesIO()
    np.savez_compressed(data, **correct)
    atomic_write(_file(folder, share), data.getvalue())


def _kept(folder: Path, share: float, sizes: dict[Measured, int]) -> Correct | None:
    """What a share's file holds; None where there is none, or where it is damaged, which is said in the log."""
    path = _file(folder, share)
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            correct = {name: file[name] for name in MEASURED}
        if any(correct[name].dtype != bool or correct[name].shape != (n,) for name, n in sizes.items()):
            raise ValueError("it is of other pictures")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        logger.warning(f"{path.name} of interpolation {folder.name} cannot be used ({error}): it has to be made again")
        return None
    return correct


def _point(share: float, correct: Correct) -> Point:
    return Point(share=share, **{name: Hits(right=int(c.sum()), n=len(c)) for name, c in correct.items()})
