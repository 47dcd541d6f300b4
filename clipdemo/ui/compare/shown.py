"""The comparison that a visitor looks at, with all that its sections draw from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from clipdemo.answers import Answers
from clipdemo.appearance import Appearance, appearances
from clipdemo.comparison import load_comparison
from clipdemo.errors import ClipDemoError
from clipdemo.leaderboard import Leaderboard
from clipdemo.records import Comparison
from clipdemo.result_charts import escaped_looks
from clipdemo.sampling import Sample
from clipdemo.ui import cached
from clipdemo.workspace import Workspace


@dataclass(frozen=True)
class Shown:
    """One comparison. Nothing of it is read or computed before a section asks for it, and then once for everybody."""

    workspace: Workspace
    comparison: Comparison
    without: frozenset[str]  # ids of pictures that somebody marked as wrongly labelled, where they are to be left out

    @classmethod
    def of(cls, workspace: Workspace, name: str, without: frozenset[str] = frozenset()) -> Shown:
        """The comparison of that id. Raises `ComparisonError` when there is none."""
        return cls(workspace, load_comparison(workspace, name), without)

    @cached_property
    def looks(self) -> dict[str, Appearance]:
        """Each model's name and colour, by its evaluation's id."""
        return appearances(self.comparison)

    @cached_property
    def chart_looks(self) -> dict[str, Appearance]:
        """The same for Plotly's charts."""
        return escaped_looks(self.looks)

    @property
    def predictions(self) -> Mapping[str, pd.DataFrame]:
        """Each model's predictions, by its evaluation's id."""
        return cached.predictions(self.workspace, self.comparison)

    @property
    def board(self) -> Leaderboard:
        """All models' numbers with their intervals and differences."""
        return cached.board(self.workspace, self.comparison, self.without)

    @property
    def classes(self) -> pd.DataFrame:
        """Numbers a model and class."""
        return cached.classes(self.workspace, self.comparison, self.without)

    @property
    def answers(self) -> Answers:
        """What each model said to each test picture."""
        return cached.answers(self.workspace, self.comparison)

    @cached_property
    def sample(self) -> Sample | None:
        """The sample with its pictures; None where it has been deleted."""
        try:
            return cached.sample(self.workspace, self.comparison.sample)
        except ClipDemoError:
            return None

    @property
    def has_labels(self) -> bool:
        """Whether there are classes to be right or wrong about."""
        return all(model.top1 is not None for model in self.comparison.models)

    @property
    def n(self) -> int:
        """Test pictures that count."""
        return self.board.standings[0].n
