"""All that a report is made of, read once. What has been deleted since is None or empty, and the report says so."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from clipdemo.answers import Answers, answers_of
from clipdemo.appearance import Appearance, appearances
from clipdemo.comparison import all_predictions, load_predictions
from clipdemo.errors import ClipDemoError
from clipdemo.evaluation import Calibration
from clipdemo.interpolation import Interpolation, find_interpolation
from clipdemo.leaderboard import Leaderboard, bases_of, calibrations, leaderboard, per_class
from clipdemo.records import Comparison, Evaluation, RunResult, Step
from clipdemo.sampling import Sample, load_sample
from clipdemo.sweep import SweepResult, readable_sweeps
from clipdemo.training.runs import Run, load_run
from clipdemo.workspace import Workspace
from clipdemo.worth import Worth, worth

_DAMAGED = (ClipDemoError, OSError, KeyError, TypeError, ValueError)  # of files that a report can do without


@dataclass(frozen=True)
class Findings:
    """A comparison with everything of the workspace that belongs to it. Models are evaluations' ids."""

    workspace: Workspace
    comparison: Comparison
    without: frozenset[str]  # ids of pictures that count nowhere

    @classmethod
    def of(cls, workspace: Workspace, comparison: Comparison, without: Collection[str] = ()) -> Findings:
        """Nothing is read before it is asked for. Whoever asks may meet a `ComparisonError`: see `load_predictions`."""
        return cls(workspace, comparison, frozenset(without))

    @property
    def models(self) -> Sequence[Evaluation]:
        """In the comparison's order."""
        return self.comparison.models

    @cached_property
    def looks(self) -> dict[str, Appearance]:
        """Each model's name and look."""
        return appearances(self.comparison)

    @cached_property
    def predictions(self) -> dict[str, pd.DataFrame]:
        """Of all test pictures."""
        return all_predictions(self.workspace, self.comparison)

    @cached_property
    def validation(self) -> dict[str, pd.DataFrame]:
        """Of the validation pictures, for the models whose file can be read."""
        found = {}
        for model in self.models:
            with suppress(ClipDemoError):
                found[model.predictions] = load_predictions(self.workspace, model, "validation")
        return found

    @cached_property
    def counted(self) -> dict[str, pd.DataFrame]:
        """Predictions of the pictures that count."""
        return {
            name: frame[~frame["id"].isin(self.without)].reset_index(drop=True)
            for name, frame in self.predictions.items()
        }

    @cached_property
    def left_out(self) -> list[str]:
        """Ids of the test pictures that do not count."""
        ids = next(iter(self.predictions.values()))["id"]
        return ids[ids.isin(self.without)].tolist()

    @cached_property
    def board(self) -> Leaderboard:
        """All models' numbers."""
        return leaderboard(self.comparison, self.predictions, self.without)

    @property
    def has_classes(self) -> bool:
        """Whether there are classes to be right about, and pictures that count."""
        return self.board.n > 0 and self.board.measure == "top1"

    @cached_property
    def classes(self) -> pd.DataFrame:
        """Numbers a model and class, see `leaderboard.per_class`."""
        return per_class(self.comparison, self.predictions, self.without)

    @cached_property
    def answers(self) -> Answers | None:
        """What each model said to each picture that counts."""
        return answers_of(self.comparison, self.counted) if self.has_classes else None

    @cached_property
    def bases(self) -> dict[str, str | None]:
        """Which model each one is held against."""
        return bases_of(self.comparison)

    @cached_property
    def calibrations(self) -> dict[str, dict[str, Calibration]]:
        """By "learned" and "fitted" logit scale, then by model."""
        kinds = {"learned": False, "fitted": True}
        return {
            kind: calibrations(self.comparison, self.predictions, self.without, fitted) if self.has_classes else {}
            for kind, fitted in kinds.items()
        }

    @cached_property
    def sample(self) -> Sample | None:
        """None where it has been deleted, or where other pictures have its name by now."""
        with suppress(*_DAMAGED):
            found = load_sample(self.workspace, self.comparison.sample)
            return found if found.content_hash == self.comparison.sample_hash else None
        return None

    @cached_property
    def runs(self) -> dict[str, Run]:
        """By their ids, those that are still there."""
        found = {}
        for name in self.comparison.runs:
            with suppress(*_DAMAGED):
                found[name] = load_run(self.workspace, name)
        return found

    @cached_property
    def results(self) -> dict[str, RunResult]:
        """How runs ended, by their ids."""
        found = {}
        for name, run in self.runs.items():
            with suppress(*_DAMAGED):
                if result := run.result:
                    found[name] = result
        return found

    @cached_property
    def steps(self) -> dict[str, list[Step]]:
        """What was measured while training, by the model."""
        found: dict[str, list[Step]] = {}
        for model in self.models:
            with suppress(*_DAMAGED):
                if model.run in self.runs and (steps := self.runs[model.run].steps()):
                    found[model.predictions] = steps
        return found

    @cached_property
    def sweeps(self) -> list[tuple[SweepResult, Worth | None]]:
        """Sweeps over this very sample with what they say, newest first."""
        found = [s for s in readable_sweeps(self.workspace) if s.sample_hash == self.comparison.sample_hash]
        return [(result, worth(result)) for result in found if result.points]

    @cached_property
    def interpolations(self) -> dict[str, Interpolation]:
        """Finished ways between a base and a run's present weights, by the run's model."""
        found: dict[str, Interpolation] = {}
        names = self.workspace.names("interpolations")
        for model in self.models:
            run = self.runs.get(model.run or "")
            if run and self.sample and any(name.startswith(f"{run.id}-") for name in names):  # spares reading weights
                with suppress(*_DAMAGED):
                    if way := find_interpolation(run, self.sample, self.workspace):
                        found[model.predictions] = way
        return found
