"""What is read once and kept for all visitors. Every cache decorator of the app is here."""

from __future__ import annotations

import gc
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import streamlit as st
from pydantic import BaseModel, TypeAdapter, ValidationError

from clipdemo import charts, quota
from clipdemo.answers import Answers, answers_of
from clipdemo.comparison import all_predictions
from clipdemo.comparison import reworded as reworded_predictions
from clipdemo.embeddings import model_id
from clipdemo.errors import ClipDemoError, ComparisonError
from clipdemo.evaluation import Calibration, macro_top1, ranks, right_per_class, scores_of
from clipdemo.hosting import Door
from clipdemo.images import decode, fit_square
from clipdemo.images import thumbnail as thumbnail_of
from clipdemo.interpolation import Interpolation, find_interpolation
from clipdemo.leaderboard import Leaderboard, leaderboard, per_class
from clipdemo.leaderboard import calibrations as leaderboard_calibrations
from clipdemo.models import Clip
from clipdemo.progress import finish
from clipdemo.quota import Usage
from clipdemo.records import MODES, Comparison, Evaluation, Mode, RunConfig, Split, Step
from clipdemo.sampling import Sample, load_sample
from clipdemo.sweep import SweepResult
from clipdemo.training.runs import Run, load_run, readable_runs, run_id
from clipdemo.workspace import Workspace
from clipdemo.worth import Worth
from clipdemo.worth import worth as worth_of_sweep

if TYPE_CHECKING:
    from clipdemo.classify import Classifier
    from clipdemo.map_charts import Hover
    from clipdemo.neighbours import Neighbourhood, StandOut
    from clipdemo.projection import Map, MapSettings
    from clipdemo.ui.explore.views import View

_TAIL_BYTES = 256  # before the place where reading stopped: a file that has others there is another file
_FREEZE_LINES = 5000
_LOOK_SECONDS = 5.0
_THUMBNAIL_PIXELS = 240  # twice what a row shows, for sharp screens


def sample(workspace: Workspace, name: str) -> Sample:
    """An existing sample with its manifest kept in memory. Raises `SampleError` when there is none."""
    written = workspace.folder("samples", name) / "sample.json"
    return _sample(str(workspace.root), name, written.stat().st_mtime_ns if written.exists() else 0)


def run_name(config: RunConfig, of: Sample) -> str:
    """The id of the run with these settings on this sample; to know it, the base model's file is read once."""
    return _run_name(config.model_dump_json(), of.content_hash, of)


def steps(run: Run) -> list[Step]:
    """All that a run has measured so far: the same list for everybody, so it is not to be changed.

    Only lines that are new are read. It is another list when there were any, and the same one when there were none.
    """
    return _metrics(str(run.folder / "metrics.jsonl")).read()


def curves(
    runs: Mapping[Mode, Run], until: Mapping[str, int] | None = None
) -> tuple[dict[str, object], dict[str, object]] | None:
    """Loss and top-1 of one run a mode, as ECharts options, made once for all who watch; None before the first line.

    `until` has how many of its lines are drawn of each run; all of them where it is None.
    """
    lines = {mode: None if until is None else until.get(runs[mode].id, 0) for mode in MODES if mode in runs}
    measured = {mode: values for mode in lines if (values := steps(runs[mode])[: lines[mode]])}
    if not measured:
        return None
    epochs = max(runs[mode].config.epochs for mode in measured)
    where = "\n".join(f"{mode} {runs[mode].folder} {lines[mode]}" for mode in measured)
    return _drawn(where).curves(measured, epochs)


def newest_runs(workspace: Workspace, sample: str) -> dict[Mode, Run]:
    """The newest run of each mode on a sample, looked up every few seconds for all who watch."""
    return _newest_runs(str(workspace.root), sample)


@st.cache_resource(max_entries=16, show_spinner=False, ttl=_LOOK_SECONDS)
def _newest_runs(root: str, sample: str) -> dict[Mode, Run]:
    newest: dict[Mode, Run] = {}
    for run in readable_runs(Workspace(root)):
        if run.sample == sample:
            newest.setdefault(run.config.mode, run)
    return newest


@st.cache_resource(max_entries=16, show_spinner=False)
def _sample(root: str, name: str, written: int) -> Sample:
    loaded = load_sample(Workspace(root), name)
    gc.freeze()  # the page's imports too: Streamlit collects garbage after every rerun, and would look through them all
    return loaded


@st.cache_data(max_entries=256, show_spinner=False)
def _run_name(config: str, content_hash: str, _sample: Sample) -> str:
    return run_id(RunConfig.model_validate_json(config), _sample)


@st.cache_resource(max_entries=64, show_spinner=False)
def _metrics(path: str) -> Metrics:
    return Metrics(Path(path))


@st.cache_resource(max_entries=32, show_spinner=False)
def _drawn(where: str) -> _Curves:
    return _Curves()


class Metrics:
    """A growing file of steps, of which every line is read once, whoever asks first."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._start_over()

    def read(self) -> list[Step]:
        """The file's steps. Damaged lines are left out, and a half-written last one until it is whole."""
        with self._lock:
            try:
                status = self._path.stat()
                seen = (status.st_ino, status.st_size, status.st_mtime_ns)
                if seen != self._seen:
                    self._read_on()
                    self._seen = seen  # of before the reading: what came meanwhile is read the next time
            except FileNotFoundError:
                self._start_over()
            return self._steps

    def _start_over(self) -> None:
        self._seen: tuple[int, int, int] | None = None
        self._tail = b""
        self._offset = self._unfrozen = 0
        self._steps: list[Step] = []

    def _read_on(self) -> None:
        """Takes in what has been appended; all of it when the file is another one than the last time."""
        with self._path.open("rb") as file:
            file.seek(self._offset - len(self._tail))
            if file.read(len(self._tail)) != self._tail:
                self._start_over()
                file.seek(0)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        new = _parsed(whole.splitlines())
        self._offset += len(whole)
        self._tail = (self._tail + whole)[-_TAIL_BYTES:]
        if new:
            self._steps = self._steps + new  # another list: whoever holds the one before is not surprised
        self._spare_collector(len(new))

    def _spare_collector(self, more: int) -> None:
        """Streamlit collects garbage after every rerun of every visitor; it need not look through all steps then."""
        self._unfrozen += more
        if self._unfrozen >= _FREEZE_LINES:
            gc.freeze()
            self._unfrozen = 0


class _Line(Step):
    """A step without `Record`'s constructor, whose complaints nobody reads here: reading takes half as long."""

    __init__ = BaseModel.__init__


_LINES = TypeAdapter(list[_Line])


def _parsed(lines: list[bytes]) -> list[Step]:
    """The steps of all lines, read at once; line by line, to leave out the damaged ones, where there are any."""
    try:
        return _LINES.validate_json(b"[" + b",".join(lines) + b"]")
    except ValidationError:
        return [] if len(lines) == 1 else [step for line in lines for step in _parsed([line])]


class _Curves:
    """The charts of some runs, made anew when one of them has measured something."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._of: list[tuple[int, Step]] = []

    def curves(self, measured: Mapping[Mode, list[Step]], epochs: int) -> tuple[dict[str, object], dict[str, object]]:
        with self._lock:
            of = [(len(values), values[-1]) for values in measured.values()]
            if [(n, id(last)) for n, last in of] != [(n, id(last)) for n, last in self._of]:
                self._made = charts.loss_curves(measured, epochs), charts.accuracy_curves(measured, epochs)
                self._of = of  # kept, so that no other step gets one of these ids
            return self._made


# ---- what the Compare page draws from: read and computed once for everybody who looks


def predictions(workspace: Workspace, of: Comparison) -> dict[str, pd.DataFrame]:
    """Each model's test predictions, by its evaluation's id. Raises `ComparisonError` for files that are gone."""
    return _predictions(str(workspace.root), of.id, of)


def board(workspace: Workspace, of: Comparison, without: frozenset[str]) -> Leaderboard:
    """All numbers of a comparison, with some pictures left out."""
    return _board(str(workspace.root), of.id, without, of)


def classes(workspace: Workspace, of: Comparison, without: frozenset[str]) -> pd.DataFrame:
    """Numbers a model and class."""
    return _classes(str(workspace.root), of.id, without, of)


def answers(workspace: Workspace, of: Comparison) -> Answers | None:
    """What each model said to each test picture."""
    return _answers(str(workspace.root), of.id, of)


def calibrations(workspace: Workspace, of: Comparison, without: frozenset[str], fitted: bool) -> dict[str, Calibration]:
    """How sure each model is, and how right: with the temperature it learned, or with the one fitted on validation."""
    return _calibrations(str(workspace.root), of.id, without, fitted, of)


@st.cache_resource(max_entries=16, show_spinner=False)
def _predictions(root: str, name: str, _of: Comparison) -> dict[str, pd.DataFrame]:
    return all_predictions(Workspace(root), _of)


@st.cache_resource(max_entries=64, show_spinner=False)
def _board(root: str, name: str, without: frozenset[str], _of: Comparison) -> Leaderboard:
    return leaderboard(_of, _predictions(root, name, _of), without)


@st.cache_resource(max_entries=64, show_spinner=False)
def _classes(root: str, name: str, without: frozenset[str], _of: Comparison) -> pd.DataFrame:
    return per_class(_of, _predictions(root, name, _of), without)


@st.cache_resource(max_entries=16, show_spinner=False)
def _answers(root: str, name: str, _of: Comparison) -> Answers | None:
    return answers_of(_of, _predictions(root, name, _of))


@st.cache_resource(max_entries=64, show_spinner=False)
def _calibrations(
    root: str, name: str, without: frozenset[str], fitted: bool, _of: Comparison
) -> dict[str, Calibration]:
    return leaderboard_calibrations(_of, _predictions(root, name, _of), without, fitted)


# ---- the server


@st.cache_resource(show_spinner=False)
def door() -> Door:
    """The one door of this server, which counts wrong codes of all sessions."""
    return Door()


@st.cache_data(ttl=30, show_spinner=False)
def usage(root: str, quota_bytes: int) -> Usage:
    """What the workspace at `root` takes of its quota."""
    return quota.usage(Workspace(root), quota_bytes)


# ---- models: opened once for everybody, and never trained


def model(workspace: Workspace, of: Evaluation) -> Clip:
    """The network that an evaluation measured, for encoding only. Raises `TrainingError` when its run is gone."""
    run = load_run(workspace, of.run) if of.run else None
    name = model_id(run, of.base)
    if name != of.predictions.rpartition("-")[0]:
        raise ComparisonError(f"the weights of {of.run or of.base} are others than those measured: measure it again")
    return _model(run.weights if run else None, of.base)


def _model(weights: Path | None, base: str) -> Clip:
    from clipdemo import opened  # imports torch when the first model is opened: not before somebody needs one

    return opened.model(base, weights)


def neighbourhood(workspace: Workspace, on: Sample, run: Run | None, base: str) -> Neighbourhood | None:
    """A sample's pictures and texts as a model sees them; None while its index has not been built.

    Raises `WorkspaceError` where what had been built is damaged.
    """
    name = model_id(run, base)
    with st.spinner("Opening the model…"):
        clip = _model(run.weights if run else None, base)
    if not all(workspace.folder("indexes", part).is_dir() for part in _index_names(name, on.content_hash, clip, on)):
        return None
    return _neighbourhood(str(workspace.root), name, on.content_hash, clip, on)


@st.cache_data(max_entries=64, show_spinner=False)
def _index_names(name: str, content_hash: str, _clip: Clip, _on: Sample) -> list[str]:
    from clipdemo.neighbours import index_names

    return index_names(_clip, name, _on)


@st.cache_resource(max_entries=12, show_spinner="Opening the index…")
def _neighbourhood(root: str, name: str, content_hash: str, _clip: Clip, _on: Sample) -> Neighbourhood:
    from clipdemo.neighbours import kept_neighbourhood

    return kept_neighbourhood(_clip, name, _on, Workspace(root))


def classifier(workspace: Workspace, comparison: str | None) -> Classifier:
    """A comparison's models with all they need to answer, the built-in base without one; one for everybody."""
    from clipdemo import opened

    with st.spinner("Opening the models…"):
        return opened.classifier(workspace, comparison)


def thumbnail(of: Sample, image: str) -> bytes:
    """A picture of a sample, small and square, for rows of them. Raises `PictureError`, `OSError` without its file."""
    return _thumbnail(of.content_hash, image, of)


@st.cache_data(max_entries=4096, show_spinner=False)  # 40 MB
def _thumbnail(content_hash: str, image: str, _of: Sample) -> bytes:
    return thumbnail_of(_of.picture(image), _THUMBNAIL_PIXELS, image)


def examples(workspace: Workspace, comparison: str, count: int) -> dict[str, bytes]:
    """Drawn pictures to click, name -> file: of the comparison's test split where that is drawn, else new ones."""
    return _examples(str(workspace.root), comparison, count)


@st.cache_data(max_entries=8, show_spinner="Drawing examples…")
def _examples(root: str, comparison: str, count: int) -> dict[str, bytes]:
    from clipdemo.examples import drawn_examples

    return drawn_examples(Workspace(root), comparison, count)


def stand_out(kind: StandOut, first: Neighbourhood, space: Neighbourhood, places: np.ndarray) -> pd.DataFrame:
    """Pictures at some places, those that stand out most first, with the column `place`.

    They moved most between the first model and this one, have the captions that this one finds worst, or the classes
    that it finds least likely. Of very large samples an even part is compared, see `neighbours.affordable`.
    """
    return _stand_out((_name(first), _name(space)), kind, places, first, space)


def _name(space: Neighbourhood) -> str:
    """Other pictures, labels, splits or weights have another one."""
    return f"{space.sample.content_hash} {space.pictures.card.model_dump_json()}"


@st.cache_data(max_entries=64, show_spinner="Comparing neighbours…")
def _stand_out(
    names: tuple[str, str], kind: StandOut, places: np.ndarray, _first: Neighbourhood, _space: Neighbourhood
) -> pd.DataFrame:
    from clipdemo.neighbours import affordable, least_likely, most_moved, worst_matched

    places = affordable(_space, places)
    if kind == "unlikely":
        return least_likely(_space, places)
    return finish(most_moved(_first, _space, places) if kind == "moved" else worst_matched(_space, places))


def hover(of: Sample, rows: np.ndarray) -> Hover:
    """What hovering over a map's points shows, by their rows of the manifest."""
    return _hover(of.content_hash, rows, of)


@st.cache_resource(max_entries=8, show_spinner=False)  # nobody changes it, and copies of 100,000 texts take a while
def _hover(content_hash: str, rows: np.ndarray, _of: Sample) -> Hover:
    from clipdemo.map_charts import hover_of

    return hover_of(_of.manifest.iloc[rows])


def pca_map(views: Sequence[View], settings: MapSettings) -> Map:
    """The map of several models by PCA, of at most `MOST_DRAWN` pictures, as many of each class as far as they go.

    Raises `BadSettings` for a view that the sample has nothing for.
    """
    names = tuple(_name(view.space) for view in views)
    return _pca_map(names, settings.model_dump_json(), [view.space for view in views], settings)


@st.cache_data(max_entries=8, show_spinner="Drawing the map…")
def _pca_map(names: tuple[str, ...], told: str, _spaces: list[Neighbourhood], _settings: MapSettings) -> Map:
    from clipdemo.embeddings import unit_rows
    from clipdemo.map_charts import MOST_DRAWN
    from clipdemo.projection import evenly_by_class
    from clipdemo.projection import pca_map as mapped

    target = _spaces[0].target
    rows = evenly_by_class(target, MOST_DRAWN)  # first, as half a million rows in float32 are a gigabyte a model
    pictures = {name: unit_rows(space.pictures.rows[rows]) for name, space in zip(names, _spaces, strict=True)}
    texts = {name: space.classes for name, space in zip(names, _spaces, strict=True)}
    found = mapped(pictures, texts, _settings, target[rows] if (target >= 0).all() else None)
    return replace(found, rows=rows)


def reworded(
    workspace: Workspace,
    of: Evaluation,
    on: Sample,
    template: str,
    wordings: Mapping[str, tuple[str, ...]],
    split: Split,
    without: frozenset[str],
) -> dict[str, float]:
    """Top-1, top-3 and macro top-1 of a model with other sentences for the classes, NaN where no picture counts."""
    wanted = tuple(sorted(wordings.items()))
    return _reworded(str(workspace.root), of.predictions, template, wanted, split, without, of, on)


@st.cache_data(max_entries=512, show_spinner=False)
def _reworded(
    root: str,
    name: str,
    template: str,
    wordings: tuple[tuple[str, tuple[str, ...]], ...],
    split: Split,
    without: frozenset[str],
    _of: Evaluation,
    _on: Sample,
) -> dict[str, float]:
    place = Workspace(root)
    found = finish(reworded_predictions(model(place, _of), _of, _on, place, template, dict(wordings), split))
    found = found[~found["id"].isin(without)]
    scores, target, names = scores_of(found)
    rank = ranks(scores, target)
    right, n = right_per_class(rank == 0, target, len(names))
    return {"Top-1": float((rank < 1).mean()), "Top-3": float((rank < 3).mean()), "Macro top-1": macro_top1(right, n)}


def worth(of: SweepResult) -> Worth | None:
    """What a sweep says about captions, as far as it is."""
    return _worth(of.id, len(of.points), of)


@st.cache_data(max_entries=32, show_spinner=False)
def _worth(name: str, points: int, _of: SweepResult) -> Worth | None:
    return worth_of_sweep(_of)


def interpolation(workspace: Workspace, of: Evaluation, on: Sample) -> Interpolation | None:
    """What has been measured between a run's base and the run; None where that was not done, or the run is gone."""
    try:
        return find_interpolation(load_run(workspace, of.run), on, workspace)
    except ClipDemoError:
        return None


def report(workspace: Workspace, of: Comparison, without: frozenset[str], pictures: bool) -> str:
    """The report as one HTML file."""
    from clipdemo.reporting import report_html  # imports plotly's whole script

    return report_html(workspace, of, without, pictures)


def report_files(workspace: Workspace, of: Comparison, without: frozenset[str], pictures: bool) -> bytes:
    """The files behind the report as a ZIP."""
    from clipdemo.reporting import report_zip

    return report_zip(workspace, of, without, pictures)


def preview(data: bytes, name: str) -> np.ndarray:
    """A picture of a visitor's as the models are shown it, larger. Raises `PictureError`."""
    return fit_square(decode(data, name), 448)
