"""How far a number can be trusted: intervals and tests for accuracies, pure arrays in, plain values out.

All intervals are 95 %. They take pictures as independent draws, so they say what other pictures of the same source
would give, not what another source, another training seed or another set of classes would.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from clipdemo.errors import ComparisonError

Z = 1.959963984540054  # the normal distribution's 97.5 % point: 2.5 % are left out on either side


class Interval(NamedTuple):
    """The two ends of a 95 % interval."""

    low: float
    high: float


def wilson_limits(right: np.ndarray, n: np.ndarray, z: float = Z) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper limits of many proportions at once, float of the arguments' shape; 95 % with the default `z`.

    Wilson's score interval (1927), the closed form of `scipy.stats.binomtest(...).proportion_ci(method="wilson")`. Of
    the usual methods it keeps closest to 95 % at the numbers of pictures seen here (see the tests). Where n is 0 it
    says 0 to 1: nothing is known.
    """
    right, n = np.asarray(right, float), np.asarray(n, float)
    centre = (right + z**2 / 2) / (n + z**2)
    half = z * np.sqrt(right * (n - right) / np.maximum(n, 1) + z**2 / 4) / (n + z**2)
    low = np.where(right == 0, 0.0, centre - half)  # exactly 0 and 1, as rounding would not have it
    high = np.where(right == n, 1.0, centre + half)
    return low, high


def proportion_interval(right: int, n: int) -> Interval:
    """95 % Wilson interval of `right` of `n`."""
    low, high = wilson_limits(right, n)
    return Interval(float(low), float(high))


def macro_interval(right: Sequence[int] | np.ndarray, n: Sequence[int] | np.ndarray) -> Interval:
    """95 % interval of the mean over classes of right / n, where n counts a class's pictures.

    The stratified Wilson interval with equal weights (Yan and Su 2010, Statistics in Biopharmaceutical Research 2): the
    mean of the classes' Wilson limits for a smaller z, as the mean of many classes varies less than one of them. MOVER
    (Zou and Donner 2008) was tried too and promises too much for many small classes: with 13 classes of 8 pictures it
    held the truth in 87 to 92 % of draws, this one in 94 to 96 % (see the tests). Classes without pictures are left
    out; where all are, it says 0 to 1.
    """
    right, n = np.asarray(right), np.asarray(n)
    right, n = right[n > 0], n[n > 0]
    if not len(n):
        return Interval(0.0, 1.0)
    share = right / n
    variance = share * (1 - share) / n
    alike = 1 / math.sqrt(len(n))  # what the ratio below is for classes that vary alike
    ratio = math.sqrt(variance.sum()) / np.sqrt(variance).sum() if variance.any() else alike
    low, high = wilson_limits(right, n, Z * ratio)
    return Interval(float(low.mean()), float(high.mean()))


@dataclass(frozen=True)
class Paired:
    """Two models on the same pictures: how much more often the second is right, and whether that may be chance."""

    difference: float  # of the accuracies, second minus first
    interval: Interval
    fixed: int  # only the second is right
    broken: int  # only the first is right
    p: float  # McNemar's exact test, two-sided
    p_holm: float  # the same, adjusted for all comparisons made together; equal to p for a single one


def paired_difference(right_a: np.ndarray, right_b: np.ndarray) -> Paired:
    """How b differs from a, from which pictures (bool of shape (n,)) each has right.

    Raises `ComparisonError` where there are no pictures, or not the same number.
    """
    from scipy.special import bdtr  # scipy.stats takes as long to import as the rest of a page takes to be drawn

    right_a, right_b = np.asarray(right_a, bool), np.asarray(right_b, bool)
    if right_a.shape != right_b.shape or not right_a.size:
        raise ComparisonError(
            f"{right_a.size:,} and {right_b.size:,} pictures: two models can only be compared on the same pictures, "
            "and on one at least"
        )
    both, fixed = int((right_a & right_b).sum()), int((~right_a & right_b).sum())
    broken, neither = int((right_a & ~right_b).sum()), int((~right_a & ~right_b).sum())
    # twice the smaller tail; both halves of a coin are alike, so this is scipy.stats.binomtest's p-value
    p = min(1.0, 2 * float(bdtr(min(fixed, broken), fixed + broken, 0.5)))
    return Paired(
        difference=(fixed - broken) / right_a.size,
        interval=paired_interval(both, fixed, broken, neither),
        fixed=fixed,
        broken=broken,
        p=p,
        p_holm=p,
    )


def paired_interval(both: int, fixed: int, broken: int, neither: int) -> Interval:
    """95 % interval of (fixed - broken) / n, from how many pictures both, only b, only a and neither have right.

    Method 10 of Newcombe 1998 (Statistics in Medicine 17, 2635-2650): the Wilson limits of both accuracies, and their
    correlation phi, with a continuity correction where it is positive. Cautious, that is wide, where only a handful of
    pictures differ.
    """
    n = both + fixed + broken + neither
    a, b = both + broken, both + fixed
    low_a, high_a = proportion_interval(a, n)
    low_b, high_b = proportion_interval(b, n)
    together = both * neither - fixed * broken
    if together > 0:
        together = max(together - n / 2, 0)
    margins = a * (n - a) * b * (n - b)
    phi = together / math.sqrt(margins) if margins else 0.0
    down = _combined(b / n - low_b, high_a - a / n, phi)
    up = _combined(high_b - b / n, a / n - low_a, phi)
    return Interval((fixed - broken) / n - down, (fixed - broken) / n + up)


def _combined(x: float, y: float, phi: float) -> float:
    return math.sqrt(max(0.0, x * x - 2 * phi * x * y + y * y))


def holm(p_values: Sequence[float] | np.ndarray) -> np.ndarray:
    """p-values adjusted for being so many: float (m,), in the given order (Holm 1979).

    Calling those below 0.05 a difference is wrong about any of them in at most 5 % of such families.
    """
    p = np.asarray(p_values, float)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return adjusted


@dataclass(frozen=True)
class Spread:
    """What several seeds gave. No standard deviation and no interval from a single one."""

    mean: float
    sd: float | None  # over seeds, with n - 1
    low: float | None  # 95 % t-interval of the mean; may leave [0, 1]
    high: float | None
    n: int  # seeds


def spread(values: Sequence[float]) -> Spread:
    """Mean and spread over seeds. Says how much training varies on these pictures, nothing about other pictures.

    Raises `ComparisonError` where there are no values.
    """
    from scipy.special import stdtrit

    n = len(values)
    if not n:
        raise ComparisonError("there is no spread of no values: measure at least one seed")
    mean = float(np.mean(values))
    if n == 1:
        return Spread(mean, None, None, None, 1)
    sd = float(np.std(values, ddof=1))
    half = float(stdtrit(n - 1, 0.975)) * sd / math.sqrt(n)
    return Spread(mean, sd, mean - half, mean + half, n)


def verdict(paired: Paired, n: int, name: str, base_name: str) -> str:
    """The difference in plain words: "captions beat base by 14.9 points (9.8 to 20.1): very unlikely to be chance".

    Words follow Holm's p and nothing else: below 0.001 very unlikely, below 0.01 unlikely to be chance, below 0.05
    probably not chance, else too close to call. Interval and test are different methods, so near the border an
    interval may touch 0 where the words do not, or the other way round.
    """
    low, high = paired.interval
    if paired.p_holm >= 0.05:
        pictures = f"{n:,} picture" + "s" * (n != 1)
        return (
            f"{name} and {base_name}: too close to call on {pictures} "
            f"(difference {_points(paired.difference)} points, {_points(low)} to {_points(high)})"
        )
    if paired.p_holm < 0.001:
        chance = "very unlikely to be chance"
    else:
        chance = "unlikely to be chance" if paired.p_holm < 0.01 else "probably not chance"
    many = name.partition(",")[0].endswith("s")  # captions and labels are many words, base is one
    if paired.difference > 0:
        verb, points = "beat" if many else "beats", (paired.difference, low, high)
    else:
        verb, points = "fall behind" if many else "falls behind", (-paired.difference, -high, -low)
    by, least, most = map(_points, points)
    return f"{name} {verb} {base_name} by {by} points ({least} to {most}): {chance}"


def _points(fraction: float) -> str:
    return f"{round(100 * fraction, 1) + 0.0:.1f}"  # + 0.0 turns -0.0 into 0.0
