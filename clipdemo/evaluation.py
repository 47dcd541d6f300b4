"""From predictions to numbers: pure arrays in, plain values out. No model, no file.

`n` counts pictures, `k` classes; a class is its column's number. Scores are cosine similarities, so that only their
order and, times a logit scale, their differences mean something.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from clipdemo.errors import ComparisonError
from clipdemo.records import RETRIEVAL_DEPTHS, ClassScore, Retrieval

SCORE = "score: "  # prefix of the predictions' columns that hold a class's cosine similarity
RETRIEVAL_COLUMNS = ("text", "caption_rank", "picture_rank")

# Products of float32 matrices round equal rows differently, by their place in the matrix; real cosines so near to each
# other tell nothing either. Without it a model that says the same of everything would find some captions by chance.
COSINE_TIE = 1e-6
_CELLS = 4_000_000  # similarities in memory at a time, about 16 MB

LOGIT_SCALES = (0.01, 1000.0)  # where `fit_logit_scale` looks; CLIP starts at 14.3 and learns up to 100


# ---- which class comes first


def ranks(scores: np.ndarray, target: np.ndarray) -> np.ndarray:
    """int (n,): 0 where the true class scores highest, 1 where one class beats it, and so on.

    `scores` is float (n, k), `target` int (n,). A tie counts against the true class, so that a model which gives every
    class the same score is not called right; neither is one whose scores are NaN.
    """
    own = np.take_along_axis(scores, target[:, None], axis=1)
    return (~(scores < own)).sum(axis=1) - 1


def top_k_accuracy(scores: np.ndarray, target: np.ndarray, k: int) -> float:
    """Fraction of rows whose true class is among the `k` best. Not for unequal classes without the per-class view."""
    return float((ranks(scores, target) < k).mean())


def answers(scores: np.ndarray, target: np.ndarray) -> np.ndarray:
    """int (n,): the class that scores highest. In a tie one that is not the true class, so that it agrees with `ranks`.

    `answers(scores, target) == target` exactly where `ranks(scores, target) == 0`.
    """
    others = scores.copy()
    np.put_along_axis(others, target[:, None], -np.inf, axis=1)
    best = others.argmax(axis=1)
    rows = np.arange(len(scores))
    return np.where(others[rows, best] < scores[rows, target], target, best)


def top_answers(scores: np.ndarray, k: int = 3) -> np.ndarray:
    """int (n, k): the best classes, best first; fewer columns where there are fewer classes. In a tie the first class.

    For showing, not for counting: only `answers` and `ranks` hold ties against the model.
    """
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


def confusion(answers: np.ndarray, target: np.ndarray, n_classes: int) -> np.ndarray:
    """int (k, k): how many pictures of the row's class were taken for the column's."""
    return np.bincount(target * n_classes + answers, minlength=n_classes**2).reshape(n_classes, n_classes)


def right_per_class(right: np.ndarray, target: np.ndarray, n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """How many pictures of each class are right, and how many there are: both int (k,)."""
    return np.bincount(target[right], minlength=n_classes), np.bincount(target, minlength=n_classes)


def macro_top1(right: np.ndarray, n: np.ndarray) -> float | None:
    """Mean of the classes' top-1 accuracies, from `right_per_class`; None where no class has pictures.

    Also called balanced accuracy. Every class with pictures counts the same, however few they are.
    """
    return float((right[n > 0] / n[n > 0]).mean()) if n.any() else None


# ---- pictures and captions


class RetrievalRanks(NamedTuple):
    """Places of right answers among all pictures' captions, three times int (n,). 0 is the first place."""

    text: np.ndarray  # number of the picture's distinct caption
    caption_rank: np.ndarray  # distinct captions that score at least as high as the picture's own
    picture_rank: np.ndarray  # wrong pictures that score at least as high as the best right one of the row's caption


def distinct(texts: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """The different texts in order of first appearance, and int (n,): which of them each text is."""
    text_of, names = pd.factorize(np.asarray(texts, dtype=object))
    return list(names), text_of


def retrieval_ranks(images: np.ndarray, texts: np.ndarray, text_of: np.ndarray) -> RetrievalRanks:
    """Where each picture finds its caption, and each caption one of its pictures.

    `images` is float (n, dim); `texts` float (m, dim), the features of the distinct captions; `text_of` int (n,), each
    picture's caption among them, as `distinct` gives it. Pictures with equal captions are right answers for each other,
    and equal captions take one place. Ties count against, and so do scores within `COSINE_TIE`. Works in blocks of
    rows: never holds a matrix of n x m.
    """
    caption_rank = np.empty(len(images), np.int64)
    for rows in _blocks(len(images), len(texts)):
        similarity = images[rows] @ texts.T
        own = np.take_along_axis(similarity, text_of[rows, None], axis=1)
        caption_rank[rows] = _at_least(similarity, own) - 1
    return RetrievalRanks(text_of, caption_rank, _picture_ranks(images, texts, text_of)[text_of])


def _picture_ranks(images: np.ndarray, texts: np.ndarray, text_of: np.ndarray) -> np.ndarray:
    """int (m,): for each text, which has one picture at least, how many wrong pictures reach its best right one."""
    by_text = np.argsort(text_of, kind="stable")  # pictures of one text beside each other
    begin = np.searchsorted(text_of[by_text], np.arange(len(texts) + 1))
    rank = np.empty(len(texts), np.int64)
    for rows in _blocks(len(texts), len(images)):
        similarity = texts[rows] @ images.T
        own = by_text[begin[rows.start] : begin[rows.stop]]
        at = (text_of[own] - rows.start, own)
        best = np.maximum.reduceat(similarity[at], begin[rows] - begin[rows.start])
        similarity[at] = -np.inf
        rank[rows] = _at_least(similarity, best[:, None])
    return rank


def _at_least(similarity: np.ndarray, own: np.ndarray) -> np.ndarray:
    """int (rows,): how many of a row reach its own score, or come so near that it is a tie. NaN counts as reaching."""
    return (~(similarity < own - COSINE_TIE)).sum(axis=1)


def _blocks(n: int, width: int) -> Iterator[slice]:
    """Slices of n rows, as many at a time as a matrix of `width` columns may have."""
    step = max(1, _CELLS // max(1, width))
    return (slice(first, min(first + step, n)) for first in range(0, n, step))


def retrieval_of(predictions: pd.DataFrame) -> Retrieval | None:
    """Recall both ways from saved predictions; None where they know nothing of captions.

    Recall depends on the number of pictures: not for comparing samples of other sizes.
    """
    if not set(RETRIEVAL_COLUMNS) <= set(predictions) or predictions.empty:
        return None
    from_images = predictions["caption_rank"].to_numpy()
    from_texts = predictions.drop_duplicates("text")["picture_rank"].to_numpy()
    return Retrieval(
        image_to_text={k: float((from_images < k).mean()) for k in RETRIEVAL_DEPTHS},
        text_to_image={k: float((from_texts < k).mean()) for k in RETRIEVAL_DEPTHS},
        n=len(from_images),
        n_texts=len(from_texts),
    )


# ---- predictions as they are saved


def evaluate_scores(scores: np.ndarray, labels: Sequence[str], classes: Sequence[str]) -> dict[str, object]:
    """The numbers of an `Evaluation` (top1, top3, n, per_class) from float (n, n_classes) scores."""
    position = {label: i for i, label in enumerate(classes)}
    target = np.array([position[label] for label in labels])
    rank = ranks(scores, target)
    per_class = {
        label: ClassScore(
            correct=int((rank[target == i] < 1).sum()),
            top3=int((rank[target == i] < 3).sum()),
            n=int((target == i).sum()),
        )
        for i, label in enumerate(classes)
        if (target == i).any()
    }
    return {"top1": float((rank < 1).mean()), "top3": float((rank < 3).mean()), "n": len(rank), "per_class": per_class}


def predictions_frame(
    ids: Sequence[str],
    labels: Sequence[str],
    scores: np.ndarray,
    classes: Sequence[str],
    ranks: RetrievalRanks | None = None,
) -> pd.DataFrame:
    """One row a picture: id, label, a cosine similarity a class, and the places of captions where there are any.

    Everything else is computed from it.
    """
    columns = {SCORE + label: scores[:, i].astype(np.float32) for i, label in enumerate(classes)}
    places = dict(zip(RETRIEVAL_COLUMNS, ranks, strict=True)) if ranks else {}
    return pd.DataFrame({"id": list(ids), "label": list(labels), **columns, **places})


def scores_of(predictions: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Saved predictions as arrays: scores float32 (n, k), target int (n,), and the k classes.

    Without classes k is 0 and every target is -1. Raises `ComparisonError` for a label that is none of the classes.
    """
    classes = [column.removeprefix(SCORE) for column in predictions if column.startswith(SCORE)]
    scores = predictions[[SCORE + label for label in classes]].to_numpy(np.float32)
    target = pd.Index(classes, dtype=object).get_indexer(predictions["label"].astype(object))
    if classes and (target < 0).any():
        row = int((target < 0).argmax())
        raise ComparisonError(
            f"picture {predictions['id'].iloc[row]} is labelled {predictions['label'].iloc[row]!r}, which is none of "
            f"the predictions' {len(classes)} classes: evaluate the model again"
        )
    return scores, target, classes


# ---- how sure a model is


def probabilities(scores: np.ndarray, logit_scale: float) -> np.ndarray:
    """float64 (n, k): softmax of logit_scale * scores; rows add up to 1."""
    return np.exp(_log_softmax(scores, logit_scale))


def negative_log_likelihood(scores: np.ndarray, target: np.ndarray, logit_scale: float) -> float:
    """Mean of -log(probability of the true class), in nats; what `fit_logit_scale` makes small."""
    return float(-_log_softmax(scores, logit_scale)[np.arange(len(target)), target].mean())


def _log_softmax(scores: np.ndarray, logit_scale: float) -> np.ndarray:
    logits = logit_scale * scores.astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True, initial=-np.inf)  # the largest becomes 0, so that nothing overflows
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def fit_logit_scale(scores: np.ndarray, target: np.ndarray) -> float | None:
    """The logit scale with which validation pictures' true classes are likeliest: temperature scaling.

    After Guo et al. 2017. Changes no order, so no accuracy either. Lies in `LOGIT_SCALES`: where every picture is right
    by some margin, the larger the better without end, and the upper bound comes back; where scores mislead, about the
    lower one. None without pictures or classes. Not to be fitted on the pictures that calibration is then measured on.
    """
    from scipy.optimize import minimize_scalar

    if not scores.size:
        return None
    low, high = LOGIT_SCALES
    if (ranks(scores, target) == 0).all():
        return high
    found = minimize_scalar(  # unimodal: convex in the scale, so with one valley in its logarithm
        lambda log_scale: negative_log_likelihood(scores, target, math.exp(log_scale)),
        bounds=(math.log(low), math.log(high)),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return math.exp(found.x)


@dataclass(frozen=True)
class CalibrationBin:
    """Pictures whose answer was given with a confidence in (low, high]."""

    low: float
    high: float
    n: int
    confidence: float | None  # mean; None where there are no pictures
    accuracy: float | None


@dataclass(frozen=True)
class Calibration:
    """Whether a model is as often right as it says, by how sure it says it is."""

    bins: tuple[CalibrationBin, ...]
    ece: float | None  # expected calibration error: |accuracy - confidence|, weighted by pictures
    n: int


def calibration(probabilities: np.ndarray, target: np.ndarray, bins: int = 10) -> Calibration:
    """Confidence against accuracy in bins of equal width, and the expected calibration error (Guo et al. 2017).

    `probabilities` is float (n, k). The error depends on the number of bins and is too large for few pictures.
    """
    edges = np.linspace(0, 1, bins + 1)
    answer = answers(probabilities, target)
    confidence = probabilities[np.arange(len(target)), answer]
    place = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)  # rounding may reach past 1
    n = np.bincount(place, minlength=bins)
    sure = np.bincount(place, confidence, minlength=bins)
    right = np.bincount(place, answer == target, minlength=bins)
    rows = [
        CalibrationBin(
            float(edges[i]),
            float(edges[i + 1]),
            int(n[i]),
            float(sure[i] / n[i]) if n[i] else None,
            float(right[i] / n[i]) if n[i] else None,
        )
        for i in range(bins)
    ]
    return Calibration(tuple(rows), float(np.abs(right - sure).sum() / n.sum()) if n.any() else None, int(n.sum()))


# ---- several models on the same pictures


class Flips(NamedTuple):
    """Which pictures two models agree on, four times bool (n,); each picture is in exactly one."""

    fixed: np.ndarray  # only the other model has it right
    broken: np.ndarray  # only the base has it right
    both: np.ndarray
    neither: np.ndarray


def flips(right_base: np.ndarray, right_other: np.ndarray) -> Flips:
    """What another model changes, from the pictures, bool (n,), that each has right."""
    return Flips(
        ~right_base & right_other, right_base & ~right_other, right_base & right_other, ~right_base & ~right_other
    )


def nobody(rights: np.ndarray) -> np.ndarray:
    """bool (n,): pictures that none of the m models has right, from bool (m, n)."""
    return ~np.asarray(rights, bool).any(axis=0)


def suspected_labels(scores: Sequence[np.ndarray], logit_scales: Sequence[float], target: np.ndarray) -> pd.DataFrame:
    """Pictures on which all models give one answer that is not the label, the most certain first.

    `scores` is a float (n, k) a model. Columns: `row` (place in the arrays), `answer` (class number), `probability`
    (mean over the models of the answer's). A reason to look, not a proof: models trained alike err alike.
    """
    given = np.array([answers(model, target) for model in scores])
    rows = np.flatnonzero((given == given[0]).all(axis=0) & (given[0] != target))
    answer = given[0, rows]
    sure = [
        probabilities(model[rows], scale)[np.arange(len(rows)), answer]
        for model, scale in zip(scores, logit_scales, strict=True)
    ]
    found = pd.DataFrame({"row": rows, "answer": answer, "probability": np.mean(sure, axis=0)})
    return found.sort_values("probability", ascending=False, kind="stable", ignore_index=True)
