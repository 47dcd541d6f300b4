"""What is read once and kept for all visitors. Every cache decorator of the app is here."""

from __future__ import annotations

import gc
import threading
from collections.abc import Mapping
from pathlib import Path

import streamlit as st

from clipdemo import charts
from clipdemo.errors import ClipDemoError
from clipdemo.records import MODES, Mode, RunConfig, Step
from clipdemo.sampling import Sample, load_sample
from clipdemo.training.runs import Run, readable_runs, run_id
from clipdemo.workspace import Workspace

_TAIL_BYTES = 256  # before the place where reading stopped: a file that has others there is another file
_FREEZE_LINES = 5000
_LOOK_SECONDS = 5.0


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


def curves(runs: Mapping[Mode, Run]) -> tuple[dict[str, object], dict[str, object]] | None:
    """Loss and top-1 of one run a mode, as ECharts options, made once for all who watch; None before the first line."""
    measured = {mode: steps(runs[mode]) for mode in MODES if mode in runs}
    measured = {mode: values for mode, values in measured.items() if values}
    if not measured:
        return None
    epochs = max(runs[mode].config.epochs for mode in measured)
    where = "\n".join(f"{mode} {runs[mode].folder}" for mode in measured)
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
        new = [step for line in whole.splitlines() if (step := _step(line))]
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


def _step(line: bytes) -> Step | None:
    try:
        return Step.model_validate_json(line)
    except (ClipDemoError, ValueError):
        return None


class _Curves:
    """The charts of some runs, made anew when one of them has measured something."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._of: list[list[Step]] = []

    def curves(self, measured: Mapping[Mode, list[Step]], epochs: int) -> tuple[dict[str, object], dict[str, object]]:
        with self._lock:
            of = list(measured.values())
            if [id(values) for values in of] != [id(values) for values in self._of]:
                self._made = charts.loss_curves(measured, epochs), charts.accuracy_curves(measured, epochs)
                self._of = of  # kept, so that no other list gets one of these ids
            return self._made
