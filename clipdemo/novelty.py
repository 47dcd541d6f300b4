"""Whether a picture is like anything in a sample: the honest "none of these". Pure arrays in, plain values out.

A softmax always has a first place, so a photograph of a cat gets a body part too. The rule here looks at the picture
alone, in up to three ways: its content (the embedding of a model that was not tuned on the sample), its looks (colour,
brightness and texture) and its layout (a tiny version of it). In each, the distance to the nearest training picture
says how strange it is (Sun et al. 2022, "Out-of-distribution detection with deep nearest neighbors", with k = 1), and a
soft maximum puts them together. A picture is unfamiliar where that is more than for nearly all training pictures, each
looked at as if its case were not in the sample. So no foreign picture has to be at hand, and all other pictures of the
sample are left to count false alarms. The rule cannot know pictures that are like the sample's in every way:
`benchmarks/novelty.py` measures how often that happens, with what kinds of pictures, and why these ways were chosen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from clipdemo.errors import BadSettings
from clipdemo.statistics import Interval, proportion_interval

QUANTILE = 0.95  # of pictures that are to stay familiar
SHARPNESS = 1.5  # of the soft maximum: near 0 it orders as the mean does, far from it as the maximum
MOST_REFERENCES = 50_000  # captions looked through; more are thinned out evenly
MOST_PICTURES = 4_096  # of each split, likewise
LOOKS, LAYOUT = 41, 243  # numbers that a picture's looks and layout have
_LOOKED_AT = 64  # pixels of the side at which looks are taken, or up to twice as many
_GRID = 9  # places a side in a layout
_ROWS = 256  # pictures compared at a time
_TINY = 1e-6

WAYS = ("content", "looks", "layout")
Seen = Mapping[str, np.ndarray]  # a way of seeing -> float32 (n, dim), the same n pictures in each


@dataclass(frozen=True)
class Space:
    """One way of seeing pictures, with what is usual in it."""

    reference: np.ndarray  # float32 (n, dim): training pictures, less `shift`, by `scale`
    shift: np.ndarray | float
    scale: np.ndarray | float
    usual: float  # mean of the logarithms of training pictures' distances to other cases
    spread: float  # and their standard deviation

    def strangeness(self, rows: np.ndarray) -> np.ndarray:
        """float32 (n,): how many standard deviations a picture is further away than is usual."""
        return self.of_distances(nearest_distances((rows - self.shift) / self.scale, self.reference))

    def of_distances(self, distances: np.ndarray) -> np.ndarray:
        """The same, of distances (n,) to the reference."""
        return (_log(distances) - self.usual) / self.spread


@dataclass(frozen=True)
class Novelty:
    """The rule, and how often it was wrong about pictures that do belong."""

    spaces: dict[str, Space]
    threshold: float  # of strangeness; more is unfamiliar
    learned: int  # training pictures that the threshold is of
    alarms: int = 0  # held-out pictures called unfamiliar
    tested: int = 0
    sharpness: float = SHARPNESS

    def strangeness(self, seen: Seen) -> np.ndarray:
        """float32 (n,) of pictures seen in the ways of `spaces`; others are ignored."""
        return _together([space.strangeness(seen[way]) for way, space in self.spaces.items()], self.sharpness)

    @property
    def false_alarms(self) -> Interval:
        """95 % interval of the share of the sample's own kind that is called unfamiliar, from held-out pictures."""
        return proportion_interval(self.alarms, self.tested)


def novelty_of(
    train: Seen,
    held_out: Seen,
    groups: Sequence[str] | None = None,
    quantile: float = QUANTILE,
    sharpness: float = SHARPNESS,
) -> Novelty:
    """The rule made of a sample's training pictures, and counted on others.

    Content has to come in rows of unit length of a model that was not trained on these pictures. `groups` names the
    case of each training picture; "" is a case by itself, as are all without `groups`. Raises `BadSettings` where
    there are not two cases.
    """
    n = len(next(iter(train.values())))
    group = _numbered(groups if groups is not None else [""] * n)
    if len(np.unique(group)) < 2:
        raise BadSettings(f"{n:,} training pictures of one case: what is familiar needs two cases")
    spaces, strange = {}, []
    for way, rows in train.items():
        shift, scale = (rows.mean(axis=0), rows.std(axis=0) + _TINY) if way == "looks" else (0.0, 1.0)
        reference = ((rows - shift) / scale).astype(np.float32)
        distances = nearest_distances(reference, reference, group)
        spaces[way] = Space(reference, shift, scale, float(_log(distances).mean()), max(_log(distances).std(), _TINY))
        strange.append(spaces[way].of_distances(distances))
    threshold = quantile_threshold(_together(strange, sharpness), quantile)
    rule = Novelty(spaces, threshold, n, sharpness=sharpness)
    tested = len(next(iter(held_out.values())))
    alarms = int((rule.strangeness(held_out) > threshold).sum()) if tested else 0
    return replace(rule, alarms=alarms, tested=tested)


def _numbered(groups: Sequence[str]) -> np.ndarray:
    """int (n,): equal for equal groups; an empty one equals no other."""
    names = [name or f"\0{i}" for i, name in enumerate(groups)]
    return np.unique(names, return_inverse=True)[1]


def _together(strangeness: Sequence[np.ndarray], sharpness: float) -> np.ndarray:
    return np.logaddexp.reduce(sharpness * np.stack(strangeness), axis=0) / sharpness


def _log(distances: np.ndarray) -> np.ndarray:
    """As distances are never negative, and a few are large. (Of unit rows, cosines give the same order.)"""
    return np.log(np.maximum(distances, _TINY))


def nearest_distances(rows: np.ndarray, reference: np.ndarray, group: np.ndarray | None = None) -> np.ndarray:
    """float32 (n,): Euclidean distance of each row to the nearest row of `reference`, both float32.

    With `group`, int (n,), rows are the reference, and those of a row's own group are left out.
    """
    squares = (reference**2).sum(axis=1)
    found = np.empty(len(rows), np.float32)
    for first in range(0, len(rows), _ROWS):
        some = slice(first, first + _ROWS)
        square = squares - 2 * rows[some] @ reference.T  # less the row's own, which changes no order
        if group is not None:
            square[group[some, None] == group] = np.inf
        found[some] = np.sqrt(np.maximum(square.min(axis=1) + (rows[some] ** 2).sum(axis=1), 0))
    return found


def thinned(n: int, most: int) -> np.ndarray:
    """int (at most `most`,): places in 0..n-1, evenly spread."""
    return np.linspace(0, n - 1, min(most, n)).astype(np.int64)


# ---- ways of seeing


def seen(pixels: np.ndarray, content: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Pictures, uint8 (n, side, side, 3), in all ways; without `content`, their embeddings, in the other two."""
    found = dict(zip(WAYS, (content, looks(pixels), layout(pixels)), strict=True))
    return {way: rows for way, rows in found.items() if rows is not None}


def looks(pixels: np.ndarray) -> np.ndarray:
    """float32 (n, LOOKS): colour, brightness, and texture from fine to coarse, of uint8 (n, side, side, 3) pictures."""
    block = max(1, pixels.shape[1] // _LOOKED_AT)
    return _in_blocks(pixels, lambda some: _looks(_means(some, block, pixels.shape[1] // block)), LOOKS)


def layout(pixels: np.ndarray) -> np.ndarray:
    """float32 (n, LAYOUT): the mean colours of 9 x 9 places of uint8 (n, side, side, 3) pictures, side at least 9."""
    return _in_blocks(pixels, lambda some: _means(some, pixels.shape[1] // _GRID, _GRID).reshape(-1, LAYOUT), LAYOUT)


def _in_blocks(pixels: np.ndarray, see: Callable[[np.ndarray], np.ndarray], dim: int) -> np.ndarray:
    found = [see(pixels[first : first + _ROWS]) for first in range(0, len(pixels), _ROWS)]
    return np.concatenate(found) if found else np.empty((0, dim), np.float32)


def _means(pixels: np.ndarray, block: int, count: int) -> np.ndarray:
    """float32 (n, count, count, 3) between 0 and 1: the means of `block` x `block` pixels."""
    cut = pixels[:, : count * block, : count * block].reshape(len(pixels), count, block, count, block, 3)
    return cut.mean(axis=(2, 4), dtype=np.float32) / 255


def _looks(rgb: np.ndarray) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    grey = rgb @ np.array([0.299, 0.587, 0.114], np.float32)
    colours = (rgb[..., 2] - grey, rgb[..., 0] - grey, np.ptp(rgb, axis=-1))  # blueness, redness, saturation
    found = [part for colour in colours for part in _spread(colour, (0.1, 0.5, 0.9))]
    found += _spread(grey, (0.05, 0.25, 0.5, 0.75, 0.95))
    coarse = grey
    for _ in range(4):  # octaves
        smooth = gaussian_filter(coarse, (0, 1, 1))
        found += [np.log(part + 1e-3) for part in _spread(np.abs(coarse - smooth), (0.5, 0.99))]
        coarse = smooth[:, ::2, ::2]
    across, down = np.diff(grey, axis=2)[:, :-1], np.diff(grey, axis=1)[:, :, :-1]
    energy = across**2, down**2
    found.append(np.log(energy[0].mean(axis=(1, 2)) + 1e-5) - np.log(energy[1].mean(axis=(1, 2)) + 1e-5))
    found.append((energy[0] + energy[1] < 1e-4).mean(axis=(1, 2)))  # share that is flat
    edge = np.ones(grey.shape[1:], bool)
    edge[4:-4, 4:-4] = False
    found.append(grey[:, edge].mean(axis=1))
    return np.stack(found, axis=1).astype(np.float32)


def _spread(values: np.ndarray, quantiles: tuple[float, ...]) -> list[np.ndarray]:
    """Mean, standard deviation and quantiles of each picture's values."""
    flat = values.reshape(len(values), -1)
    return [flat.mean(axis=1), flat.std(axis=1), *np.quantile(flat, quantiles, axis=1)]


# ---- thresholds


def quantile_threshold(scores: np.ndarray, quantile: float = QUANTILE) -> float:
    """The ceil(quantile x (n + 1))-th smallest of float (n,) scores, the largest where there are too few for that.

    This order statistic, unlike an interpolated quantile, holds for small n too: of pictures drawn as the n were, at
    most a share of 1 - quantile is expected above it (split conformal prediction, Vovk et al. 2005). With fewer than
    quantile / (1 - quantile) pictures (19 for 95 %) it promises 1 / (n + 1) instead.
    """
    place = min(math.ceil(round(quantile * (len(scores) + 1), 9)), len(scores))
    return float(np.sort(scores)[max(place, 1) - 1])
