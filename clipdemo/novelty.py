"""Whether a picture is like anything in a sample: the honest "none of these". Pure arrays in, plain values out.

A softmax always has a first place, so a photograph of a cat gets a body part too. The rule here looks at the picture
alone: it is unfamiliar where its k-th nearest training picture is further away than that of nearly all validation
pictures (Sun et al. 2022, "Out-of-distribution detection with deep nearest neighbors"). Nothing but the sample's own
pictures decides the threshold, so no foreign picture has to be at hand. It cannot know pictures that a model takes for
the sample's own: `benchmarks/novelty.py` measures how often that happens, with what kinds of pictures.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from clipdemo.errors import BadSettings
from clipdemo.statistics import Interval, proportion_interval

NEIGHBOURS = 1  # k; it and the base's space told most foreign pictures for choosing in benchmarks/novelty.py
QUANTILE = 0.95  # of the validation pictures that are to stay familiar
MOST_REFERENCES = 50_000  # training pictures looked through; more are thinned out evenly
_ROWS = 256  # pictures compared at a time


@dataclass(frozen=True)
class Novelty:
    """The rule for one model's space, and how often it was wrong about pictures that do belong."""

    reference: np.ndarray  # float32 (n, dim), rows of unit length: training pictures
    k: int
    threshold: float  # cosine distance; further away is unfamiliar
    validated: int  # validation pictures that the threshold is of
    alarms: int = 0  # test pictures called unfamiliar
    tested: int = 0

    def distances(self, features: np.ndarray) -> np.ndarray:
        """float32 (n,): see `kth_distances`."""
        return kth_distances(features, self.reference, self.k)

    @property
    def false_alarms(self) -> Interval:
        """95 % interval of the share of the sample's own kind that is called unfamiliar, from its test pictures."""
        return proportion_interval(self.alarms, self.tested)


def novelty_of(
    train: np.ndarray,
    validation: np.ndarray,
    test: np.ndarray,
    k: int = NEIGHBOURS,
    quantile: float = QUANTILE,
) -> Novelty:
    """The rule made of a sample's embeddings, float32 (n, dim) a split with rows of unit length.

    `test` is only counted, it decides nothing. Fewer training pictures than `k` make k smaller. Raises `BadSettings`
    without training or validation pictures.
    """
    if not len(train) or not len(validation):
        raise BadSettings(
            f"{len(train):,} training and {len(validation):,} validation pictures: what is familiar needs one of each"
        )
    reference = train[np.linspace(0, len(train) - 1, min(MOST_REFERENCES, len(train))).astype(np.int64)]
    k = min(k, len(reference))
    threshold = quantile_threshold(kth_distances(validation, reference, k), quantile)
    alarms = int((kth_distances(test, reference, k) > threshold).sum())
    return Novelty(reference, k, threshold, len(validation), alarms, len(test))


def kth_distances(features: np.ndarray, reference: np.ndarray, k: int) -> np.ndarray:
    """float32 (n,): 1 - cosine of each row's k-th nearest row of `reference`, between 0 and 2.

    Both are float32 with rows of unit length; 1 <= k <= len(reference). A picture that is itself among the reference
    has it as its first neighbour.
    """
    found = np.empty(len(features), np.float32)
    for first in range(0, len(features), _ROWS):
        rows = slice(first, first + _ROWS)
        cosines = features[rows] @ reference.T
        found[rows] = 1 - np.partition(cosines, -k, axis=1)[:, -k]
    return np.maximum(found, 0)


def quantile_threshold(scores: np.ndarray, quantile: float = QUANTILE) -> float:
    """The ceil(quantile x (n + 1))-th smallest of float (n,) scores, the largest where there are too few for that.

    This order statistic, unlike an interpolated quantile, holds for small n too: of pictures drawn as the n were, at
    most a share of 1 - quantile is expected above it (split conformal prediction, Vovk et al. 2005). With fewer than
    quantile / (1 - quantile) pictures (19 for 95 %) it promises 1 / (n + 1) instead.
    """
    place = min(math.ceil(round(quantile * (len(scores) + 1), 9)), len(scores))
    return float(np.sort(scores)[max(place, 1) - 1])
