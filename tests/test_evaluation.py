import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import top_k_accuracy_score

from clipdemo.evaluation import SCORE, evaluate_scores, predictions_frame, ranks, retrieval, top_k_accuracy

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


# ---- retrieval


def test_retrieval_by_hand():
    similarity = np.array([[0.9, 0.1, 0.2], [0.8, 0.7, 0.1], [0.3, 0.4, 0.2]])
    found = retrieval(similarity, ["a", "b", "c"])
    assert found.image_to_text == {1: 1 / 3, 5: 1.0, 10: 1.0}  # only the first picture finds its caption at once
    assert found.text_to_image == {
        1: 2 / 3,
        5: 1.0,
        10: 1.0,
    }  # texts a and b find theirs; c is a tie, which counts against
    assert (found.n, found.n_texts) == (3, 3)


def test_equal_captions_are_right_answers_for_each_other():
    similarity = np.array([[0.5, 0.5, 0.1], [0.4, 0.4, 0.9], [0.1, 0.1, 0.8]])
    found = retrieval(similarity, ["same", "same", "other"])
    assert found.n_texts == 2
    assert found.image_to_text[1] == 2 / 3
    assert (
        found.text_to_image[1] == 0.5
    )  # the first picture is a right one for "same"; picture 1 is above 2 for "other"


def test_a_model_that_says_the_same_of_everything_finds_nothing_at_once():
    found = retrieval(np.ones((20, 20)), [f"text {i}" for i in range(20)])
    assert found.image_to_text[10] == found.text_to_image[10] == 0.0


@given(st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_retrieval_equals_looking_one_by_one(n, seed):
    rng = np.random.default_rng(seed)
    similarity, texts = rng.integers(0, 5, (n, n)).astype(float), [f"t{i}" for i in rng.integers(0, n, n)]
    for i in range(n):  # equal texts have equal columns, as a model gives them
        similarity[:, i] = similarity[:, texts.index(texts[i])]
    found = retrieval(similarity, texts)
    distinct = sorted(set(texts))
    score = {text: similarity[:, texts.index(text)] for text in distinct}
    for k in (1, 5, 10):
        to_text = [sum(score[t][i] >= score[texts[i]][i] for t in distinct if t != texts[i]) < k for i in range(n)]
        own = {t: [i for i in range(n) if texts[i] == t] for t in distinct}
        to_image = [
            sum(score[t][i] >= max(score[t][own[t]]) for i in range(n) if i not in own[t]) < k for t in distinct
        ]
        assert found.image_to_text[k] == pytest.approx(np.mean(to_text))
        assert found.text_to_image[k] == pytest.approx(np.mean(to_image))
