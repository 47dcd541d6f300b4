"""What each model of a comparison says to each test picture: for looking, not for counting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from clipdemo.errors import ComparisonError
from clipdemo.evaluation import answers, flips, nobody, probabilities, scores_of, suspected_labels
from clipdemo.records import Comparison

SHOWN = 3  # answers of a model that are shown


@dataclass(frozen=True)
class Answers:
    """All models on the same n test pictures. Models are evaluations' ids, in the comparison's order."""

    ids: np.ndarray  # str (n,)
    labels: np.ndarray  # str (n,)
    classes: tuple[str, ...]
    target: np.ndarray  # int (n,)
    scores: Mapping[str, np.ndarray]  # a model -> float (n, n_classes)
    logit_scales: Mapping[str, float]  # a model -> 1 / its learned temperature
    said: Mapping[str, np.ndarray]  # a model -> int (n,): the class in first place
    probabilities: Mapping[str, np.ndarray]  # a model -> float (n, n_classes), by its learned temperature

    def right(self, model: str) -> np.ndarray:
        """bool (n,): which pictures a model got right at once."""
        return self.said[model] == self.target

    def top(self, model: str, picture: int) -> list[tuple[str, float]]:
        """A model's first three answers to a picture with their probabilities."""
        row = self.probabilities[model][picture]
        best = np.argsort(-row, kind="stable")[:SHOWN]
        return [(self.classes[i], float(row[i])) for i in best]

    def cell(self, model: str, label: str, answer: str) -> np.ndarray:
        """Places of the pictures of a class that a model called `answer`: a cell of its confusion matrix."""
        true, given = self.classes.index(label), self.classes.index(answer)
        return np.flatnonzero((self.target == true) & (self.said[model] == given))

    def of_class(self, label: str) -> np.ndarray:
        """Places of a class's pictures, those first that most models get wrong."""
        places = np.flatnonzero(self.target == self.classes.index(label))
        wrong = sum((~self.right(model)[places]).astype(int) for model in self.said)
        return places[np.argsort(-wrong, kind="stable")]

    def changed(self, before: str, after: str, what: str) -> np.ndarray:
        """Places of the pictures that `after` fixed, broke, or that neither model gets; surest answers first."""
        chosen = getattr(flips(self.right(before), self.right(after)), what)
        return self._surest(np.flatnonzero(chosen), [after])

    def nobody(self) -> np.ndarray:
        """Places of the pictures that no model gets, surest answers first."""
        wrong = nobody(np.array([self.right(model) for model in self.said]))
        return self._surest(np.flatnonzero(wrong), list(self.said))

    def against_label(self) -> np.ndarray:
        """Places of the pictures where all models agree with each other and not with the label: perhaps it is wrong.

        Surest answers first.
        """
        found = suspected_labels(list(self.scores.values()), list(self.logit_scales.values()), self.target)
        return found["row"].to_numpy()

    def _surest(self, places: np.ndarray, models: Sequence[str]) -> np.ndarray:
        sure = np.mean([self.probabilities[m][places].max(axis=1) for m in models], axis=0) if len(places) else places
        return places[np.argsort(-np.asarray(sure), kind="stable")]


def answers_of(comparison: Comparison, predictions: Mapping[str, pd.DataFrame]) -> Answers | None:
    """The answers behind a comparison; None where there are no classes. `predictions` by evaluation's id.

    Raises `ComparisonError` where they are not of the same pictures.
    """
    names = [model.predictions for model in comparison.models]
    for name in names:
        if predictions[name]["id"].tolist() != predictions[names[0]]["id"].tolist():
            raise ComparisonError(
                f"{name} and {names[0]} were not measured on the same pictures in the same order: evaluate both again"
            )
    scores = {name: scores_of(predictions[name])[0] for name in names}
    _, target, classes = scores_of(predictions[names[0]])
    if not classes:
        return None
    scales = {model.predictions: model.logit_scale for model in comparison.models}
    first = predictions[names[0]]
    return Answers(
        ids=first["id"].to_numpy(),
        labels=first["label"].to_numpy(),
        classes=tuple(classes),
        target=target,
        scores=scores,
        logit_scales=scales,
        said={name: answers(found, target) for name, found in scores.items()},
        probabilities={name: probabilities(found, scales[name]) for name, found in scores.items()},
    )
