"""Training runs killed with SIGKILL again and again: do they end with the same bits as a run that nobody disturbed?

    python -m benchmarks.kills --kills 100 --seed 0 --minutes 30

Each run is `python -m clipdemo train` in a process of its own, killed at one to five seeded moments: half of them
anywhere between the process's start and its usual end, half just after a file in the run's folder has changed, where a
write that is not atomic would show. The same command is then given again until it ends by itself. After every kill all
JSON and safetensors files of run and job must be readable; at the end weights, metrics and result must be those of the
unbroken run, seconds aside. The program is copied first, so that edits meanwhile do not mix two versions. No new run
begins after `--minutes`; the result says how many kills there were.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import typer
from safetensors import safe_open

from benchmarks.machine import keep
from clipdemo.jobs import list_jobs
from clipdemo.training.runs import Run, load_run
from clipdemo.workspace import PARTIAL, Workspace, read_json

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = ("--samples", "60", "--rows", "1200", "--seed", "0")
RUN = ("--mode", "captions", "--batch-size", "16", "--epochs", "6", "--averaging", "0.5", "--interpolation")
AT_ONCE = 3  # as much of a run is waiting for the disk
MOST_KILLS = 5  # of one run
POLL_SECONDS = 0.002
LONGEST_SECONDS = 300.0


@dataclass
class Outcome:
    """What happened to one run: the phases in which it was killed, and everything that was wrong."""

    phases: list[str] = field(default_factory=list)
    aimed: int = 0
    half_lines: int = 0
    leftovers: int = 0
    continued: int = 0
    too_late: int = 0
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Laboratory:
    """The copied program, the workspace with the sample and the unbroken run, and how long that run took."""

    program: Path
    workspace: Workspace
    run: Run
    seconds: float
    changes: int  # of the files in the run's folder, as often as one can look: the aimed kills choose among them


def main(kills: int = 100, seed: int = 0, minutes: float = 30) -> None:
    """Runs are broken, some at a time, until there were so many kills or time is up; then they are kept."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        laboratory = _prepare(Path(folder))
        print(f"unbroken: {laboratory.seconds:.1f} s, {laboratory.changes} changes of files", flush=True)
        outcomes = _broken_runs(laboratory, Path(folder), kills, seed, began + 60 * minutes)
        seconds = time.monotonic() - began
    command = f"python -m benchmarks.kills --kills {kills} --seed {seed} --minutes {minutes:g}"
    keep("kills", command, _summary(outcomes, laboratory, seconds))
    if any(outcome.faults for outcome in outcomes):
        raise typer.Exit(1)


def _prepare(folder: Path) -> Laboratory:
    """Copies the program, draws the sample, and trains twice undisturbed: the second one is timed and compared with."""
    program = folder / "program"
    for part in ("clipdemo", "assets"):
        shutil.copytree(ROOT / part, program / part, ignore=shutil.ignore_patterns("__pycache__"))
    workspace = Workspace(folder / "unbroken")
    _finish(program, workspace, ["sample", *SAMPLE])
    warm = _fresh(workspace, folder / "warm")
    _finish(program, warm, _train(warm))  # compiles the copy and measures the machine's kernels
    name, began = warm.names("runs")[0], time.monotonic()
    with _start(program, workspace, _train(workspace)) as process:
        changes = _changes(process, workspace.folder("runs", name), most=1_000_000)
    return Laboratory(program, workspace, load_run(workspace, name), time.monotonic() - began, changes)


def _broken_runs(laboratory: Laboratory, folder: Path, kills: int, seed: int, end: float) -> list[Outcome]:
    """One outcome a run. A run's plan depends on the seed and its number alone."""
    outcomes: list[Outcome] = []

    def one(number: int) -> None:
        if sum(len(outcome.phases) for outcome in outcomes) >= kills or time.monotonic() > end:
            return
        place = folder / f"broken-{number}"
        outcome = _break(laboratory, _fresh(laboratory.workspace, place), random.Random(f"{seed} {number}"))
        shutil.rmtree(place)
        outcomes.append(outcome)
        done = sum(len(outcome.phases) for outcome in outcomes)
        print(f"{done} kills, run {number}: {' '.join(outcome.phases)} {outcome.faults or 'the same'}", flush=True)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(one, range(kills)))
    return outcomes


def _fresh(workspace: Workspace, folder: Path) -> Workspace:
    """A workspace that has the sample and nothing else."""
    shutil.copytree(workspace.root / "samples", folder / "samples")
    return Workspace(folder)


def _break(laboratory: Laboratory, workspace: Workspace, dice: random.Random) -> Outcome:
    """Starts, kills and starts again one run as the dice say, until it ends by itself."""
    outcome = Outcome()
    run = Run(laboratory.run.id, workspace.folder("runs", laboratory.run.id), laboratory.run.config, "")
    for _ in range(dice.randint(1, MOST_KILLS)):
        aimed, began = dice.random() < 0.5, time.time()
        outcome.continued += any(run.folder.glob("checkpoint*.safetensors"))
        with _start(laboratory.program, workspace, _train(workspace)) as process:
            if aimed:
                _changes(process, run.folder, most=dice.randint(1, laboratory.changes))
            else:
                _wait(process, dice.uniform(0, laboratory.seconds))
            process.kill()
        if process.returncode != -signal.SIGKILL:
            outcome.too_late += 1
            break
        outcome.aimed += aimed
        outcome.phases.append(_phase(run, began))
        _look_around(workspace, run, outcome)
    outcome.continued += any(run.folder.glob("checkpoint*.safetensors"))
    try:
        _finish(laboratory.program, workspace, _train(workspace))
        outcome.faults += _differences(laboratory.run, load_run(workspace, laboratory.run.id))
    except subprocess.CalledProcessError as error:
        outcome.faults.append(f"the run did not end well: {error.stderr[-300:]}")
    return outcome


def _wait(process: subprocess.Popen, seconds: float) -> None:
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds)


def _changes(process: subprocess.Popen, folder: Path, most: int) -> int:
    """Counts how often the folder's files change, until there were so many changes or the process has ended."""
    seen, before = 0, _listing(folder)
    while seen < most and process.poll() is None:
        now = _listing(folder)
        seen, before = seen + (now != before), now
        time.sleep(POLL_SECONDS)
    return seen


def _listing(folder: Path) -> set[tuple[str, int, int]]:
    """Name, size and time of each file; files that vanish meanwhile are not there."""
    found = set()
    with suppress(FileNotFoundError):
        for entry in os.scandir(folder):
            status = entry.stat()
            found.add((entry.name, status.st_size, status.st_mtime_ns))
    return found


def _phase(run: Run, began: float) -> str:
    """Where in its story a process that began then was killed; the run's log gets its lines when training begins."""
    log, result = run.folder / "log.txt", run.folder / "result.json"
    if result.exists() and json.loads(result.read_bytes())["state"] == "finished":
        return "after"
    return "in" if log.exists() and log.stat().st_mtime >= began else "before"


def _look_around(workspace: Workspace, run: Run, outcome: Outcome) -> None:
    """Reads all that a page or the next process would read."""
    outcome.leftovers += len(list(run.folder.glob(PARTIAL)))
    metrics = run.folder / "metrics.jsonl"
    outcome.half_lines += metrics.exists() and metrics.stat().st_size > 0 and not metrics.read_bytes().endswith(b"\n")
    try:
        run.steps()
        for path in run.folder.glob("[!.]*.json"):
            read_json(path)
        for path in run.folder.glob("[!.]*.safetensors"):
            with safe_open(path, "np") as file:  # which compares the header with the file's length
                file.keys()
        for job in list_jobs(workspace):
            if job.state not in ("interrupted", "starting", "finished"):
                outcome.faults.append(f"a killed job says that it is {job.state}")
            _ = job.progress, job.result, job.seconds
    except Exception as error:  # whatever it is, it is what this benchmark looks for
        outcome.faults.append(f"after a kill: {type(error).__name__}: {error}")


def _differences(unbroken: Run, broken: Run) -> list[str]:
    """What a run that was killed and taken up again has otherwise than the unbroken one."""
    found = []
    if broken.weights.read_bytes() != unbroken.weights.read_bytes():
        found.append("other weights")
    if _metrics(broken) != _metrics(unbroken):
        found.append("other metrics")
    if broken.result.model_copy(update={"seconds": 0}) != unbroken.result.model_copy(update={"seconds": 0}):
        found.append(f"another result: {broken.result}")
    names = {path.name for path in broken.folder.iterdir()} ^ {path.name for path in unbroken.folder.iterdir()}
    return found + ([f"other files: {sorted(names)}"] if names else [])


def _metrics(run: Run) -> list[str]:
    lines = (run.folder / "metrics.jsonl").read_text().splitlines()
    return [json.dumps({name: v for name, v in json.loads(line).items() if name != "seconds"}) for line in lines]


def _train(workspace: Workspace) -> list[str]:
    return ["train", "--sample", workspace.names("samples")[0], *RUN]


def _start(program: Path, workspace: Workspace, arguments: list[str]) -> subprocess.Popen:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CLIPDEMO_DEVICE": "cpu", "NO_COLOR": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "clipdemo", *arguments, "--workspace", str(workspace.root)],
        cwd=program, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def _finish(program: Path, workspace: Workspace, arguments: list[str]) -> None:
    """Lets a command run to its end. Raises `CalledProcessError` when that is a bad one."""
    process = _start(program, workspace, arguments)
    _, said = process.communicate(timeout=LONGEST_SECONDS)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args, stderr=said)


def _summary(outcomes: list[Outcome], laboratory: Laboratory, seconds: float) -> dict[str, object]:
    phases = Counter(phase for outcome in outcomes for phase in outcome.phases)
    faults = [fault for outcome in outcomes for fault in outcome.faults]
    result = {
        "kills": phases.total(),
        "runs": len(outcomes),
        "kills_by_phase": {f"{phase} training": phases[phase] for phase in ("before", "in", "after")},
        "aimed_at_files": sum(outcome.aimed for outcome in outcomes),
        "kills_that_came_too_late": sum(outcome.too_late for outcome in outcomes),
        "starts_from_a_checkpoint": sum(outcome.continued for outcome in outcomes),
        "kills_that_left_half_a_line": sum(outcome.half_lines for outcome in outcomes),
        "kills_that_left_unfinished_files": sum(outcome.leftovers for outcome in outcomes),
        "runs_with_a_fault": sum(bool(outcome.faults) for outcome in outcomes),
        "faults": faults,
        "unbroken_run_seconds": round(laboratory.seconds, 1),
        "seconds": round(seconds),
    }
    print(result)
    return result


if __name__ == "__main__":
    typer.run(main)
