"""Who is best, by how much, and whether that may be chance: a comparison's saved predictions as tables of numbers.

Nothing here asks a model. All numbers can be had again from the predictions and `Evaluation.logit_scale` alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd

from clipdemo.appearance import Appearance, appearances, seed_groups
from clipdemo.errors import ComparisonError
from clipdemo.evaluation import (
    RETRIEVAL_COLUMNS,
    Calibration,
    calibration,
    macro_top1,
    probabilities,
    ranks,
    right_per_class,
    scores_of,
)
from clipdemo.records import RETRIEVAL_DEPTHS, Comparison, Evaluation
from clipdemo.statistics import (
    Paired,
    Spread,
    holm,
    macro_interval,
    paired_difference,
    proportion_interval,
    spread,
    verdict,
    wilson_limits,
)

Predictions = Mapping[str, pd.DataFrame]  # of the test split, by the evaluation's id


@dataclass(frozen=True)
class Estimate:
    """A fraction with its 95 % interval and the number of pictures, or of captions, behind it."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Standing:
    """One model's numbers. What the sample does not have, or what no picture is left for, is None or empty."""

    model: str  # the evaluation's id
    title: str
    kind: str
    n: int  # pictures
    top1: Estimate | None
    top3: Estimate | None
    macro_top1: Estimate | None  # over the classes that have pictures
    caption_recall: dict[int, Estimate]  # by depth: a picture's own caption among the first
    picture_recall: dict[int, Estimate]  # by depth: one of a caption's pictures among the first
    base: str | None  # the id of the model that it is held against
    difference: Paired | None  # in the board's `measure`, this model minus its base
    sentence: str  # the difference in words; empty where there is none


@dataclass(frozen=True)
class SeedGroup:
    """Runs that differ in their seed only, as one row."""

    title: str
    kind: str
    models: tuple[str, ...]
    n: int  # pictures
    top1: Spread | None
    top3: Spread | None


@dataclass(frozen=True)
class Leaderboard:
    """All models of a comparison in its order, and the groups of seeds among them."""

    standings: tuple[Standing, ...]
    groups: tuple[SeedGroup, ...]
    measure: Literal["top1", "caption_recall_1"]  # what differences are of; captions' where there are no classes
    n: int  # pictures that count
    left_out: int  # pictures left out on request

    def frame(self) -> pd.DataFrame:
        """One row a model, then one a seed group, all fractions as plain numbers; NaN where there is none.

        A group's `top1` is the mean over its `seeds`, `_sd` their standard deviation, `_low` and `_high` the t-interval
        of that mean. A model's are Wilson's limits, which say something else: how much pictures matter, not seeds.
        """
        rows = [_model_row(standing) for standing in self.standings] + [_group_row(group) for group in self.groups]
        return pd.DataFrame(rows)


def _model_row(standing: Standing) -> dict[str, object]:
    row: dict[str, object] = {
        "model": standing.model,
        "title": standing.title,
        "kind": standing.kind,
        "seeds": 1,
        "n": standing.n,
    }
    for name in ("top1", "top3"):
        row |= _columns(name, getattr(standing, name)) | {f"{name}_sd": np.nan}
    row |= _columns("macro_top1", standing.macro_top1)
    for name in ("caption_recall", "picture_recall"):
        for depth in RETRIEVAL_DEPTHS:
            row |= _columns(f"{name}_{depth}", getattr(standing, name).get(depth))
    captions = standing.picture_recall.get(1)
    paired = standing.difference
    return row | {
        "captions": captions.n if captions else np.nan,
        "base": standing.base or "",
        "difference": paired.difference if paired else np.nan,
        "difference_low": paired.interval.low if paired else np.nan,
        "difference_high": paired.interval.high if paired else np.nan,
        "fixed": paired.fixed if paired else np.nan,
        "broken": paired.broken if paired else np.nan,
        "p": paired.p if paired else np.nan,
        "p_holm": paired.p_holm if paired else np.nan,
        "verdict": standing.sentence,
    }


def _group_row(group: SeedGroup) -> dict[str, object]:
    row: dict[str, object] = {
        "model": "",
        "title": group.title,
        "kind": group.kind,
        "seeds": len(group.models),
        "n": group.n,
        "base": "",
        "verdict": "",
    }
    for name in ("top1", "top3"):
        over: Spread | None = getattr(group, name)
        if over:
            row |= {name: over.mean, f"{name}_low": over.low, f"{name}_high": over.high, f"{name}_sd": over.sd}
    return row


def _columns(name: str, estimate: Estimate | None) -> dict[str, float]:
    if estimate is None:
        return {name: np.nan, f"{name}_low": np.nan, f"{name}_high": np.nan}
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}


# ---- what is read from predictions, once a model


@dataclass(frozen=True)
class _Read:
    """One model's predictions as places of right answers: int (n,), or None where the sample has no such thing."""

    n: int
    target: np.ndarray
    classes: list[str]
    rank: np.ndarray | None
    caption_rank: np.ndarray | None
    picture_rank: np.ndarray | None  # one a distinct caption

    @property
    def right(self) -> np.ndarray | None:
        """bool (n,): pictures in first place, by their class, or by their caption where there are no classes."""
        rank = self.rank if self.rank is not None else self.caption_rank
        return None if rank is None else rank == 0


def _read(predictions: pd.DataFrame) -> _Read:
    scores, target, classes = scores_of(predictions)
    captions = set(RETRIEVAL_COLUMNS) <= set(predictions)
    return _Read(
        n=len(predictions),
        target=target,
        classes=classes,
        rank=ranks(scores, target) if classes else None,
        caption_rank=predictions["caption_rank"].to_numpy() if captions else None,
        picture_rank=predictions.drop_duplicates("text")["picture_rank"].to_numpy() if captions else None,
    )


def _kept(comparison: Comparison, predictions: Predictions, without: Collection[str]) -> dict[str, pd.DataFrame]:
    """Each model's predictions without some pictures. Raises `ComparisonError` unless all are of the same pictures."""
    missing = [model.predictions for model in comparison.models if model.predictions not in predictions]
    if missing:
        raise ComparisonError(
            f"comparison {comparison.id} lacks the predictions of {', '.join(missing)}: evaluate these models again"
        )
    frames = {model.predictions: predictions[model.predictions] for model in comparison.models}
    first, *others = frames
    ids = frames[first]["id"].to_numpy(object)
    for other in others:
        if not np.array_equal(ids, frames[other]["id"].to_numpy(object)):
            raise ComparisonError(
                f"{other} and {first} were not measured on the same pictures in the same order: evaluate both again"
            )
    if not without:
        return frames
    keep = ~pd.Index(ids).isin(list(without))
    return {name: frame[keep] for name, frame in frames.items()}


# ---- the board


def leaderboard(comparison: Comparison, predictions: Predictions, without: Collection[str] = ()) -> Leaderboard:
    """Every model's numbers with 95 % intervals, and its difference to its base with Holm's p over all differences.

    `predictions` are those of the test split, by `Evaluation.predictions`. Pictures whose ids are in `without` count
    nowhere, but stay among the wrong answers of the others' retrieval, whose places were counted when they were saved.
    Raises `ComparisonError` where predictions are missing or not of the same pictures.
    """
    read = {name: _read(frame) for name, frame in _kept(comparison, predictions, without).items()}
    looks = appearances(comparison)
    bases = bases_of(comparison)
    differences = _differences(read, bases)
    standings = tuple(
        _standing(model, looks, read[model.predictions], bases[model.predictions], differences.get(model.predictions))
        for model in comparison.models
    )
    first = comparison.models[0].predictions
    return Leaderboard(
        standings=standings,
        groups=tuple(_group(group, looks, read) for group in seed_groups(comparison)),
        measure="top1" if read[first].classes else "caption_recall_1",
        n=read[first].n,
        left_out=len(predictions[first]) - read[first].n,
    )


def bases_of(comparison: Comparison) -> dict[str, str | None]:
    """Which model each model is held against, both by id.

    A run against the base model that it started from, or against the first base model where that one was not measured;
    other base models against the first; the first, or a run where there is no base model at all, against none.
    """
    base_models = [model for model in comparison.models if model.run is None]
    first = base_models[0].predictions if base_models else None
    start = {model.base: model.predictions for model in reversed(base_models)}
    found: dict[str, str | None] = {}
    for model in comparison.models:
        base = start.get(model.base, first) if model.run else first
        found[model.predictions] = None if base == model.predictions else base
    return found


def _differences(read: Mapping[str, _Read], bases: Mapping[str, str | None]) -> dict[str, Paired]:
    found = {
        name: paired_difference(read[base].right, read[name].right)
        for name, base in bases.items()
        if base is not None and read[name].n and read[name].right is not None and read[base].right is not None
    }
    adjusted = holm([paired.p for paired in found.values()])
    return {name: replace(found[name], p_holm=float(p)) for name, p in zip(found, adjusted, strict=True)}


def _standing(
    model: Evaluation, looks: Mapping[str, Appearance], read: _Read, base: str | None, difference: Paired | None
) -> Standing:
    look = looks[model.predictions]
    return Standing(
        model=model.predictions,
        title=look.title,
        kind=look.kind,
        n=read.n,
        top1=_estimate(read.rank, 1),
        top3=_estimate(read.rank, 3),
        macro_top1=_macro_estimate(read),
        caption_recall=_estimates(read.caption_rank),
        picture_recall=_estimates(read.picture_rank),
        base=base,
        difference=difference,
        sentence=verdict(difference, read.n, look.title, looks[base].title) if difference and base else "",
    )


def _estimates(rank: np.ndarray | None) -> dict[int, Estimate]:
    """By depth; empty where there are no captions."""
    found = {depth: _estimate(rank, depth) for depth in RETRIEVAL_DEPTHS}
    return {depth: estimate for depth, estimate in found.items() if estimate}


def _estimate(rank: np.ndarray | None, k: int) -> Estimate | None:
    """How many are among the first k."""
    if rank is None or not len(rank):
        return None
    right = int((rank < k).sum())
    return Estimate(right / len(rank), *proportion_interval(right, len(rank)), len(rank))


def _macro_estimate(read: _Read) -> Estimate | None:
    if read.rank is None or not read.n:
        return None
    right, n = right_per_class(read.rank == 0, read.target, len(read.classes))
    return Estimate(macro_top1(right, n), *macro_interval(right, n), read.n)


def _group(group: Sequence[Evaluation], looks: Mapping[str, Appearance], read: Mapping[str, _Read]) -> SeedGroup:
    names = [model.predictions for model in group]
    parts, *others = (looks[name].title.split(", ") for name in names)
    shared = [part for part in parts if all(part in other for other in others)]
    over: dict[int, Spread | None] = {}
    for k in (1, 3):
        values = [estimate.value for name in names if (estimate := _estimate(read[name].rank, k))]
        over[k] = spread(values) if values else None
    return SeedGroup(
        title=", ".join([*shared, f"{len(names)} seeds"]),
        kind=group[0].name,
        models=tuple(names),
        n=read[names[0]].n,
        top1=over[1],
        top3=over[3],
    )


# ---- by class, and how sure


def per_class(comparison: Comparison, predictions: Predictions, without: Collection[str] = ()) -> pd.DataFrame:
    """One row a model and class that has pictures, classes in the predictions' order.

    Columns: `model` (id), `class`, `right` and `n` (pictures), `top1` with its Wilson limits `low` and `high`, and
    `gain`, top1 minus that of the model's base on the same pictures, NaN where it has none. A gain of few pictures is
    mostly chance: look at the limits.
    """
    bases = bases_of(comparison)
    tables, top1 = [], {}
    for name, frame in _kept(comparison, predictions, without).items():
        read = _read(frame)
        if read.rank is None:
            continue
        right, n = right_per_class(read.rank == 0, read.target, len(read.classes))
        seen = n > 0
        low, high = wilson_limits(right[seen], n[seen])
        top1[name] = right[seen] / n[seen]
        tables.append(
            pd.DataFrame(
                {
                    "model": name,
                    "class": np.array(read.classes, dtype=object)[seen],
                    "right": right[seen],
                    "n": n[seen],
                    "top1": top1[name],
                    "low": low,
                    "high": high,
                }
            )
        )
    for table, name in zip(tables, top1, strict=True):
        base = bases[name]
        table["gain"] = top1[name] - top1[base] if base is not None else np.nan
    columns = ["model", "class", "right", "n", "top1", "low", "high", "gain"]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=columns)


def calibrations(
    comparison: Comparison, predictions: Predictions, without: Collection[str] = (), fitted: bool = False
) -> dict[str, Calibration]:
    """Each model's calibration on the test split by its id; empty where the sample has no labels.

    With the logit scale that the model learned, or with the one fitted on validation pictures; models that have none
    are left out then.
    """
    found = {}
    frames = _kept(comparison, predictions, without)
    for model in comparison.models:
        scores, target, classes = scores_of(frames[model.predictions])
        scale = model.validation_logit_scale if fitted else model.logit_scale
        if classes and scale:
            found[model.predictions] = calibration(probabilities(scores, scale), target)
    return found
