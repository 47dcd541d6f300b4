import numpy as np
import pytest
from sklearn.metrics import top_k_accuracy_score

from clipdemo.evaluation import SCORE, evaluate_scores, predictions_frame, ranks, top_k_accuracy

SCORES = np.array([[0.9, 0.5, 0.1], [0.2, 0.3, 0.4], [0.1, 0.8, 0.7], [0.6, 0.5, 0.4]])
TARGET = np.array([0, 0, 2, 1])


def test_ranks_by_hand():
    assert ranks(SCORES, TARGET).tolist() == [0, 2, 1, 1]


def test_a_model_that_cannot_tell_classes_apart_is_never_right():
    assert top_k_accuracy(np.ones((5, 3)), np.zeros(5, int), k=1) == 0


def test_evaluation_by_hand():
    numbers = evaluate_scores(SCORES, ["a", "a", "c", "b"], ["a", "b", "c", "never seen"][:3])
    assert numbers["top1"] == 0.25
    assert numbers["top3"] == 1
    assert numbers["n"] == 4
    assert {label: (s.correct, s.n) for label, s in numbers["per_class"].items()} == {
        "a": (1, 2),
        "b": (0, 1),
        "c": (0, 1),
    }


def test_a_class_without_test_pictures_has_no_score():
    assert set(evaluate_scores(SCORES, ["a", "a", "a", "b"], ["a", "b", "c"])["per_class"]) == {"a", "b"}


@pytest.mark.parametrize("k", [1, 3])
def test_top_k_equals_scikit_learn(k):
    rng = np.random.default_rng(k)
    scores, target = rng.normal(size=(200, 12)), rng.integers(0, 12, 200)
    expected = top_k_accuracy_score(target, scores, k=k, labels=range(12))
    assert top_k_accuracy(scores, target, k) == pytest.approx(expected)


def test_numbers_can_be_recomputed_from_the_predictions():
    frame = predictions_frame(["w", "x", "y", "z"], ["a", "a", "c", "b"], SCORES, ["a", "b", "c"])
    scores = frame[[c for c in frame.columns if c.startswith(SCORE)]].to_numpy()
    assert evaluate_scores(scores, frame["label"].tolist(), ["a", "b", "c"]) == evaluate_scores(
        SCORES, ["a", "a", "c", "b"], ["a", "b", "c"]
    )
