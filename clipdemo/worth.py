"""What a sweep says: how many labels give as much as the captions, from the numbers alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from clipdemo.records import MODES
from clipdemo.sweep import SweepResult

RESAMPLES = 2000


@dataclass(frozen=True)
class Equivalent:
    """Labels on `labels` pictures give as much top-1 as captions of `captions`, with the ends of a 95 % interval.

    -inf: fewer than the smallest size tried; inf: more than the largest.
    """

    captions: int
    labels: float
    low: float
    high: float


@dataclass(frozen=True)
class Worth:
    """What captions are worth in labels, at every size."""

    sizes: tuple[int, ...]
    seeds: int
    n: int  # test pictures
    captions: tuple[float, ...]  # the curves from which this is read: they never fall
    labels: tuple[float, ...]
    equivalents: tuple[Equivalent, ...]  # one a size, ascending

    @property
    def answer(self) -> Equivalent:
        """That of the most captions."""
        return self.equivalents[-1]

    def in_words(self, answer: Equivalent | None = None) -> str:
        """One sentence: of the most captions, or of the answer given."""
        it = answer or self.answer
        first, last = self.sizes[0], self.sizes[-1]
        captions = f"Captions of {it.captions:,} pictures give"
        interval = f"({self._amount(it.low)} to {self._amount(it.high)})"
        if it.low == it.high and math.isinf(it.low):
            interval = "(so in all of the 95 % interval)"
        if it.labels == math.inf:
            return f"{captions} more top-1 than labels on {last:,}, the most tried {interval}"
        if it.labels == -math.inf:
            return f"{captions} less top-1 than labels on {first:,}, the fewest tried {interval}"
        return f"{captions} as much top-1 as labels on about {self._amount(it.labels)} {interval}"

    def _amount(self, pictures: float) -> str:
        """Two digits are all that such a number is good for."""
        first, last = self.sizes[0], self.sizes[-1]
        if pictures == -math.inf:
            return f"fewer than {first:,}"
        if pictures == math.inf:
            return f"more than {last:,}"
        step = 10 ** max(0, math.floor(math.log10(pictures)) - 1)
        return f"{min(last, max(first, round(pictures / step) * step)):,}"


def worth(result: SweepResult, resamples: int = RESAMPLES, seed: int = 0) -> Worth | None:
    """What a sweep says about captions, from the seeds that are whole; None where there is none yet, or one mode."""
    sizes = result.config.sizes
    found = {(p.kind, p.pictures, p.seed): p.correct for p in result.points}
    whole = [s for s in result.config.seeds if all((mode, size, s) in found for mode in MODES for size in sizes)]
    if not whole:
        return None
    captions, labels = (np.array([[found[mode, size, s] for s in whole] for size in sizes]) for mode in MODES)
    return worth_of(sizes, captions, labels, resamples, seed)


def worth_of(
    sizes: Sequence[int], captions: np.ndarray, labels: np.ndarray, resamples: int = RESAMPLES, seed: int = 0
) -> Worth:
    """What captions are worth, from bool (n_sizes, n_seeds, n_pictures): which test pictures each model got right.

    A curve is the mean over seeds, made monotone (isotonic regression) and linear in log2(size) between the sizes. The
    95 % interval is a percentile bootstrap (Efron and Tibshirani 1993, chapter 13) over test pictures and seeds, the
    same ones for both curves. Seeds are few, so what they differ by is stretched by sqrt(k / (k - 1)), by which the
    spread of a mean of k resampled values is too small. With one seed the interval is about test pictures alone.
    """
    places = np.log2(np.asarray(sizes, dtype=float))
    curves = [_monotone(correct.mean(axis=(1, 2))) for correct in (captions, labels)]
    equal = [_equivalent(value, curves[1], places, own) for value, own in zip(curves[0], places, strict=True)]
    rng = np.random.default_rng(seed)
    drawn = [
        [_as_much(value, of_labels, places) for value in of_captions]
        for of_captions, of_labels in _resampled(captions, labels, resamples, rng)
    ]
    ends = np.array(drawn)  # (resamples, n_sizes, 2)
    low = np.quantile(ends[:, :, 0], 0.025, axis=0, method="lower")  # no mean of a number and an infinity
    high = np.quantile(ends[:, :, 1], 0.975, axis=0, method="higher")
    return Worth(
        sizes=tuple(sizes),
        seeds=captions.shape[1],
        n=captions.shape[2],
        captions=tuple(curves[0].tolist()),
        labels=tuple(curves[1].tolist()),
        equivalents=tuple(
            Equivalent(size, _size(value), _size(min(value, a)), _size(max(value, b)))
            for size, value, a, b in zip(sizes, equal, low, high, strict=True)
        ),
    )


def _resampled(
    captions: np.ndarray, labels: np.ndarray, resamples: int, rng: np.random.Generator
) -> Iterator[list[np.ndarray]]:
    """Pairs of monotone curves, each from test pictures and seeds drawn with replacement."""
    both = np.stack([captions, labels])  # (2, n_sizes, n_seeds, n)
    seeds, n = both.shape[2:]
    stretch = math.sqrt(seeds / (seeds - 1)) if seeds > 1 else 0.0
    cells = both.reshape(-1, n).T.astype(np.float32)
    for _ in range(resamples):
        pictures = np.bincount(rng.integers(0, n, n), minlength=n).astype(np.float32)
        means = (pictures @ cells / n).reshape(both.shape[:3])
        center = means.mean(axis=2)
        share = np.bincount(rng.integers(0, seeds, seeds), minlength=seeds) / seeds
        yield [_monotone(curve) for curve in center + stretch * (means @ share - center)]


def _monotone(values: np.ndarray) -> np.ndarray:
    """The nearest curve that never falls, in squares."""
    from scipy.optimize import isotonic_regression

    return isotonic_regression(values).x


def _as_much(value: float, curve: np.ndarray, places: np.ndarray) -> tuple[float, float]:
    """Between which places a curve that never falls has this value; -inf where all is above it, inf where below.

    Two equal places, but where the curve is flat.
    """
    near = 1e-7  # float32 sums differ in their last digits
    if value < curve[0] - near:
        return -math.inf, -math.inf
    if value > curve[-1] + near:
        return math.inf, math.inf
    same = np.flatnonzero(np.abs(curve - value) <= near)
    if len(same):
        return float(places[same[0]]), float(places[same[-1]])
    place = float(np.interp(value, curve, places))
    return place, place


def _equivalent(value: float, curve: np.ndarray, places: np.ndarray, own: float) -> float:
    """Where the curve has this value; where that is a stretch, what is nearest to the captions' own place."""
    low, high = _as_much(value, curve, places)
    return min(max(own, low), high)


def _size(place: float) -> float:
    return place if math.isinf(place) else 2.0**place
