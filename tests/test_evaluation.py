import tracemalloc

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import softmax
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, log_loss, top_k_accuracy_score
from statsmodels.discrete.conditional_models import ConditionalLogit

from clipdemo import evaluation
from clipdemo.errors import ComparisonError
from clipdemo.evaluation import (
    LOGIT_SCALES,
    SCORE,
    answers,
    calibration,
    confusion,
    distinct,
    evaluate_scores,
    fit_logit_scale,
    flips,
    macro_top1,
    negative_log_likelihood,
    nobody,
    predictions_frame,
    probabilities,
    ranks,
    retrieval_of,
    retrieval_ranks,
    right_per_class,
    scores_of,
    suspected_labels,
    top_answers,
    top_k_accuracy,
)
from clipdemo.records import Retrieval

SCORES = np.array([[0.9, 0.5, 0.1], [0.2, 0.3, 0.4], [0.1, 0.8, 0.7], [0.6, 0.5, 0.4]])
TARGET = np.array([0, 0, 2, 1])


def test_ranks_by_hand():
    assert ranks(SCORES, TARGET).tolist() == [0, 2, 1, 1]


def test_a_model_that_cannot_tell_classes_apart_is_never_right():
    assert top_k_accuracy(np.ones((5, 3)), np.zeros(5, int), k=1) == 0


def test_a_model_whose_scores_are_no_numbers_is_never_right():
    scores = np.full((5, 3), np.nan)
    assert top_k_accuracy(scores, np.zeros(5, int), k=1) == 0
    assert (answers(scores, np.zeros(5, int)) != 0).all()


# Few different scores, so that there are many ties.
TIED = st.integers(1, 5).flatmap(
    lambda k: st.integers(1, 20).flatmap(
        lambda n: st.tuples(
            arrays(np.float32, (n, k), elements=st.sampled_from([0.0, 0.25, 0.5])),
            arrays(np.int64, n, elements=st.integers(0, k - 1)),
        )
    )
)


@given(TIED)
def test_an_answer_is_a_best_class_and_right_exactly_where_no_other_class_reaches_the_true_one(drawn):
    scores, target = drawn
    given_answers = answers(scores, target)
    assert (scores[np.arange(len(target)), given_answers] == scores.max(axis=1)).all()
    assert ((given_answers == target) == (ranks(scores, target) == 0)).all()


def test_in_a_tie_the_answer_is_not_the_true_class():
    scores = np.array([[0.5, 0.5, 0.1], [0.5, 0.5, 0.1]])
    assert answers(scores, np.array([0, 1])).tolist() == [1, 0]


def test_top_answers_come_best_first_and_no_more_than_there_are_classes():
    assert top_answers(SCORES, 2).tolist() == [[0, 1], [2, 1], [1, 2], [0, 1]]
    assert top_answers(SCORES, 9).shape == (4, 3)


@given(TIED)
def test_confusion_and_balanced_accuracy_are_scikit_learns(drawn):
    scores, target = drawn
    k = scores.shape[1]
    given_answers = answers(scores, target)
    expected = confusion_matrix(target, given_answers, labels=range(k))
    assert (confusion(given_answers, target, k) == expected).all()
    present = np.isin(
        given_answers, target
    )  # scikit-learn warns of answers that are no true class, and is right anyway
    macro = macro_top1(*right_per_class(given_answers == target, target, k))
    if present.all() and len(set(target)) > 1:
        assert macro == pytest.approx(balanced_accuracy_score(target, given_answers))
    seen = expected.sum(axis=1) > 0
    assert macro == pytest.approx((expected.diagonal()[seen] / expected.sum(axis=1)[seen]).mean())


def test_a_class_without_pictures_does_not_count_in_macro_top1():
    assert macro_top1(np.array([1, 0, 3]), np.array([2, 0, 3])) == 0.75
    assert macro_top1(np.array([0, 0]), np.array([0, 0])) is None


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


def test_saved_predictions_come_back_as_arrays(tmp_path):
    predictions_frame(["w", "x"], ["b", "a"], SCORES[:2], ["a", "b", "c"]).to_parquet(tmp_path / "p.parquet")
    scores, target, classes = scores_of(pd.read_parquet(tmp_path / "p.parquet"))
    assert scores.dtype == np.float32 and (scores == SCORES[:2].astype(np.float32)).all()
    assert (target.tolist(), classes) == ([1, 0], ["a", "b", "c"])


def test_predictions_without_classes_have_no_targets():
    scores, target, classes = scores_of(predictions_frame(["w", "x"], ["", ""], np.empty((2, 0)), []))
    assert (scores.shape, target.tolist(), classes) == ((2, 0), [-1, -1], [])


def test_a_label_that_is_no_class_is_named():
    frame = predictions_frame(["w", "x"], ["a", "Elbow"], SCORES[:2], ["a", "b", "c"])
    with pytest.raises(ComparisonError, match="x is labelled 'Elbow'.* 3 classes"):
        scores_of(frame)


# ---- retrieval


def retrieval(similarity: np.ndarray, texts: list[str]) -> Retrieval:
    """The slow twin: looks at one picture and one text at a time, by a float (n, n) matrix of pictures x their texts."""
    n, names = len(texts), sorted(set(texts))
    score = {text: similarity[:, texts.index(text)] for text in names}
    own = {text: [i for i in range(n) if texts[i] == text] for text in names}
    from_images = [sum(score[t][i] >= score[texts[i]][i] for t in names if t != texts[i]) for i in range(n)]
    from_texts = [sum(score[t][i] >= max(score[t][own[t]]) for i in range(n) if i not in own[t]) for t in names]
    return Retrieval(
        image_to_text={k: float(np.mean([rank < k for rank in from_images])) for k in (1, 5, 10)},
        text_to_image={k: float(np.mean([rank < k for rank in from_texts])) for k in (1, 5, 10)},
        n=n,
        n_texts=len(names),
    )


def measured(images: np.ndarray, texts: np.ndarray, text_of: np.ndarray) -> Retrieval:
    """Recall by way of the saved columns."""
    n = len(images)
    frame = predictions_frame(range(n), [""] * n, np.empty((n, 0)), [], retrieval_ranks(images, texts, text_of))
    return retrieval_of(frame)


def test_different_texts_in_order_of_first_appearance():
    names, text_of = distinct(["b", "a", "b", "c", "a"])
    assert (names, text_of.tolist()) == (["b", "a", "c"], [0, 1, 0, 2, 1])


def test_retrieval_by_hand():
    similarity = np.array([[0.9, 0.1, 0.2], [0.8, 0.7, 0.1], [0.3, 0.4, 0.2]])
    found = retrieval_ranks(similarity, np.eye(3), np.arange(3))
    assert found.caption_rank.tolist() == [0, 1, 2]  # only the first picture finds its caption at once
    assert found.picture_rank.tolist() == [0, 0, 1]  # the third caption's is a tie, which counts against
    recall = measured(similarity, np.eye(3), np.arange(3))
    assert recall.image_to_text == {1: 1 / 3, 5: 1.0, 10: 1.0}
    assert recall.text_to_image == {1: 2 / 3, 5: 1.0, 10: 1.0}
    assert (recall.n, recall.n_texts) == (3, 3)
    assert recall == retrieval(similarity, ["a", "b", "c"])


def test_equal_captions_are_right_answers_for_each_other():
    similarity = np.array([[0.5, 0.1], [0.4, 0.9], [0.1, 0.8]])  # to "same" and "other"
    names, text_of = distinct(["same", "same", "other"])
    found = retrieval_ranks(similarity, np.eye(2), text_of)
    assert found.text.tolist() == [0, 0, 1]
    assert found.caption_rank.tolist() == [0, 1, 0]
    assert found.picture_rank.tolist() == [0, 0, 1]  # the first is a right one for "same"; the second beats the third
    recall = measured(similarity, np.eye(2), text_of)
    assert (recall.image_to_text[1], recall.text_to_image[1], recall.n_texts) == (2 / 3, 0.5, len(names))


@pytest.mark.parametrize("dim", [64, 512])
def test_a_model_that_says_the_same_of_everything_finds_nothing(dim):
    features = np.random.default_rng(dim).normal(size=(2, dim)).astype(np.float32)
    image, text = features / np.linalg.norm(features, axis=1, keepdims=True)
    found = retrieval_ranks(np.tile(image, (257, 1)), np.tile(text, (257, 1)), np.arange(257))
    assert set(found.caption_rank) == set(found.picture_rank) == {256}


def test_scores_that_differ_by_rounding_only_are_a_tie():
    half = np.float32(0.5)
    images = np.array([[half, np.nextafter(half, np.float32(0))], [0.4, 0.5]], np.float32)
    found = retrieval_ranks(images, np.eye(2, dtype=np.float32), np.arange(2))
    assert found.caption_rank.tolist() == [1, 0]
    assert found.picture_rank.tolist() == [0, 1]


def test_a_model_whose_features_are_no_numbers_finds_nothing():
    found = retrieval_ranks(np.full((20, 3), np.nan), np.full((20, 3), np.nan), np.arange(20))
    assert found.caption_rank.min() >= 19 and found.picture_rank.min() >= 19


@given(st.integers(1, 12), st.integers(0, 2**32 - 1), st.sampled_from([1, 7, 30, 10**6]))
def test_retrieval_equals_looking_one_by_one(n, seed, cells):
    rng = np.random.default_rng(seed)
    texts = [f"t{i}" for i in rng.integers(0, n, n)]
    names, text_of = distinct(texts)
    similarity = rng.integers(0, 5, (n, len(names))).astype(float)
    with pytest.MonkeyPatch.context() as patch:  # blocks of one row, of some, of all
        patch.setattr(evaluation, "_CELLS", cells)
        assert measured(similarity, np.eye(len(names)), text_of) == retrieval(similarity[:, text_of], texts)


def test_no_matrix_of_all_pictures_and_captions_is_ever_held():
    rng, n = np.random.default_rng(0), 5000
    images, texts = (rng.normal(size=(n, 8)).astype(np.float32) for _ in range(2))
    tracemalloc.start()
    retrieval_ranks(images, texts, np.arange(n))
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < n * n * 4 / 2


def test_predictions_that_know_nothing_of_captions_have_no_retrieval():
    frame = predictions_frame(["w"], ["a"], SCORES[:1], ["a", "b", "c"])
    assert retrieval_of(frame) is None
    ranked = predictions_frame(
        ["w"], ["a"], SCORES[:1], ["a", "b", "c"], retrieval_ranks(SCORES[:1], SCORES[:1], np.array([0]))
    )
    assert retrieval_of(ranked).n == 1
    assert retrieval_of(ranked[:0]) is None


# ---- how sure a model is


@given(arrays(np.float32, (6, 4), elements=st.floats(-1, 1, width=32)), st.floats(0.01, 1e5))
def test_probabilities_are_scipys_softmax_and_never_overflow(scores, scale):
    found = probabilities(scores, scale)
    assert found == pytest.approx(softmax(scale * scores.astype(np.float64), axis=1), abs=1e-12)
    assert found.sum(axis=1) == pytest.approx(1)


def made_up(n: int = 300, k: int = 5, seed: int = 0, help_: float = 0.08) -> tuple[np.ndarray, np.ndarray]:
    """Cosines that help, but not always."""
    rng = np.random.default_rng(seed)
    target = rng.integers(0, k, n)
    scores = rng.normal(0.2, 0.06, (n, k))
    scores[np.arange(n), target] += help_
    return scores.astype(np.float32), target


def test_the_likelihood_is_scikit_learns_log_loss():
    scores, target = made_up()
    assert negative_log_likelihood(scores, target, 30.0) == pytest.approx(log_loss(target, probabilities(scores, 30.0)))


@pytest.mark.parametrize("seed", range(3))
def test_the_fitted_scale_is_the_coefficient_of_statsmodels_conditional_logit(seed):
    scores, target = made_up(seed=seed)
    n, k = scores.shape
    chosen = (np.arange(k) == target[:, None]).astype(int).ravel()
    model = ConditionalLogit(chosen, scores.astype(float).reshape(-1, 1), groups=np.repeat(np.arange(n), k))
    assert fit_logit_scale(scores, target) == pytest.approx(model.fit(disp=0).params[0], rel=1e-3)


def test_the_fitted_scale_is_likelier_than_its_neighbours_and_changes_no_answer():
    scores, target = made_up()
    best = fit_logit_scale(scores, target)
    least = negative_log_likelihood(scores, target, best)
    assert all(least < negative_log_likelihood(scores, target, best * factor) for factor in (0.5, 0.98, 1.02, 2))
    assert (answers(probabilities(scores, best), target) == answers(scores, target)).all()


def test_a_scale_is_bounded_where_all_pictures_are_right_and_where_scores_mislead():
    target = np.array([0, 1])
    right = np.array([[0.3, 0.1], [0.2, 0.25]])
    assert fit_logit_scale(right, target) == LOGIT_SCALES[1]
    assert fit_logit_scale(-right, target) == pytest.approx(LOGIT_SCALES[0], rel=0.01)
    assert LOGIT_SCALES[0] <= fit_logit_scale(np.ones((2, 2)), target) <= LOGIT_SCALES[1]


def test_no_validation_pictures_or_classes_give_no_scale():
    assert fit_logit_scale(np.empty((0, 3)), np.empty(0, int)) is None
    assert fit_logit_scale(np.empty((3, 0)), np.full(3, -1)) is None


def test_calibration_by_hand():
    sure = np.array([[0.95, 0.05], [0.85, 0.15], [0.1, 0.9], [0.4, 0.6]])
    found = calibration(sure, np.array([0, 1, 1, 0]))
    bins = {round(b.low, 1): b for b in found.bins if b.n}
    assert {low: b.n for low, b in bins.items()} == {0.5: 1, 0.8: 2, 0.9: 1}  # 0.9 is the end of its bin, 0.6 too
    assert bins[0.8].confidence == pytest.approx(0.875) and bins[0.8].accuracy == 0.5
    assert found.ece == pytest.approx((1 * 0.05 + 2 * 0.375 + 1 * 0.6) / 4)
    assert len(found.bins) == 10 and found.n == 4
    empty = found.bins[0]
    assert (empty.n, empty.confidence, empty.accuracy) == (0, None, None)


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 5, 10, 15]), st.sampled_from([1.0, 20.0, 500.0]))
def test_calibration_equals_going_through_the_bins_one_by_one(seed, bins, scale):
    scores, target = made_up(n=60, seed=seed)
    chances = probabilities(scores, scale)
    answer, sure = chances.argmax(axis=1), chances.max(axis=1)
    error = 0.0
    for i in range(bins):
        inside = (sure > i / bins) & (sure <= (i + 1) / bins + 1e-15)
        if inside.any():
            error += inside.mean() * abs((answer == target)[inside].mean() - sure[inside].mean())
    found = calibration(chances, target, bins)
    assert found.ece == pytest.approx(error, abs=1e-9)
    assert sum(b.n for b in found.bins) == found.n == 60
    assert sum(b.n * b.accuracy for b in found.bins if b.n) == pytest.approx((answer == target).sum())


def test_there_is_no_calibration_error_of_no_pictures():
    found = calibration(np.empty((0, 3)), np.empty(0, int))
    assert (found.ece, found.n) == (None, 0)


def test_the_fitted_scale_calibrates_a_model_that_is_far_too_sure():
    scores, target = made_up(n=2000)
    half, rest = slice(0, 1000), slice(1000, 2000)
    fitted = fit_logit_scale(scores[half], target[half])
    sure, calm = (calibration(probabilities(scores[rest], s), target[rest]).ece for s in (500.0, fitted))
    assert calm < 0.05 < sure


# ---- several models


def test_flips_by_hand():
    base, other = np.array([True, True, False, False]), np.array([True, False, True, False])
    found = flips(base, other)
    assert {name: np.flatnonzero(mask).tolist() for name, mask in found._asdict().items()} == {
        "fixed": [2],
        "broken": [1],
        "both": [0],
        "neither": [3],
    }


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=30))
def test_each_picture_flips_in_one_way(pairs):
    base, other = np.array(pairs, dtype=bool).reshape(-1, 2).T
    found = flips(base, other)
    assert (np.sum(found, axis=0) == 1).all()
    assert found.fixed.sum() - found.broken.sum() == other.sum() - base.sum()


def test_nobody_is_where_no_model_is_right():
    assert nobody(np.array([[True, False, False], [False, False, True]])).tolist() == [False, True, False]


def test_labels_are_suspected_where_all_models_give_one_other_answer_the_surest_first():
    target = np.array([0, 0, 0, 0, 1])
    one = np.array([[0.1, 0.2, 0.0], [0.1, 0.5, 0.0], [0.1, 0.9, 0.0], [0.9, 0.1, 0.0], [0.1, 0.9, 0.0]])
    two = np.array([[0.1, 0.2, 0.0], [0.1, 0.5, 0.0], [0.1, 0.0, 0.9], [0.1, 0.9, 0.0], [0.1, 0.9, 0.0]])
    found = suspected_labels([one, two], [10.0, 20.0], target)
    assert found["row"].tolist() == [1, 0]  # in 2 they say different things, in 3 one agrees with the label, in 4 both
    assert found["answer"].tolist() == [1, 1]
    expected = np.mean([softmax(10 * one[1])[1], softmax(20 * two[1])[1]])
    assert found["probability"][0] == pytest.approx(expected)


def test_no_label_is_suspected_where_models_are_right():
    found = suspected_labels([SCORES[:1]], [10.0], TARGET[:1])
    assert found.empty and list(found) == ["row", "answer", "probability"]
