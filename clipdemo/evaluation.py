"""From predictions to numbers: pure arrays in, plain values out. No model, no file."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from clipdemo.records import RETRIEVAL_DEPTHS, ClassScore, Retrieval

SCORE = "score: "  # prefix of the predictions' columns that hold a class's cosine similarity


def ranks(scores: np.ndarray, target: np.ndarray) -> np.ndarray:
    """int (n,): 0 where the true class scores highest, 1 where one class beats it, and so on.

    `scores` is float (n, n_classes), `target` int (n,). A tie counts against the true class, so that a model which
    gives every class the same score is not called right.
    """
    own = np.take_along_axis(scores, target[:, None], axis=1)
    return (scores >= own).sum(axis=1) - 1


def top_k_accuracy(scores: np.ndarray, target: np.ndarray, k: int) -> float:
    """Fraction of rows whose true class is among the `k` best. Not for unequal classes without the per-class view."""
    return float((ranks(scores, target) < k).mean())


def retrieval(similarity: np.ndarray, texts: Sequence[str]) -> Retrieval:
    """Recall between pictures and their own texts, both ways.

    `similarity` is float (n, n): picture i against the text of picture j. Pictures with equal texts are right answers
    for each other, and equal texts take one place. Recall depends on n: not for comparing samples of other sizes.
    """
    distinct, text_of = np.unique(np.asarray(texts, dtype=object).astype(str), return_inverse=True)
    first = np.array([np.flatnonzero(text_of == i)[0] for i in range(len(distinct))])
    from_images = ranks(similarity[:, first], text_of)
    best = np.where(text_of[:, None] == np.arange(len(distinct)), similarity[:, first], -np.inf).max(axis=0)
    others = np.where(text_of[:, None] == np.arange(len(distinct)), -np.inf, similarity[:, first])
    from_texts = (others >= best).sum(axis=0)
    depths = {k: (float((from_images < k).mean()), float((from_texts < k).mean())) for k in RETRIEVAL_DEPTHS}
    return Retrieval(
        image_to_text={k: a for k, (a, _) in depths.items()},
        text_to_image={k: b for k, (_, b) in depths.items()},
        n=len(similarity),
        n_texts=len(distinct),
    )


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
    ids: Sequence[str], labels: Sequence[str], scores: np.ndarray, classes: Sequence[str]
) -> pd.DataFrame:
    """One row a picture: id, label and a cosine similarity a class. Everything else is computed from it."""
    columns = {SCORE + label: scores[:, i].astype(np.float32) for i, label in enumerate(classes)}
    return pd.DataFrame({"id": list(ids), "label": list(labels), **columns})
