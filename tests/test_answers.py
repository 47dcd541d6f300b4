"""Four pictures of cats, dogs and eels, worked by hand."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipdemo.answers import answers_of
from clipdemo.errors import ComparisonError
from clipdemo.evaluation import predictions_frame
from clipdemo.records import Comparison, Evaluation, SampleConfig

CLASSES = ("Cat", "Dog", "Eel")
LABELS = ("Cat", "Cat", "Dog", "Eel")
# what each model says to the four pictures, with how sure it is of it
SAID = {
    "base": (("Cat", 0.1), ("Dog", 0.9), ("Eel", 0.2), ("Dog", 0.3)),
    "tuned": (("Dog", 0.2), ("Cat", 0.4), ("Eel", 0.6), ("Dog", 0.9)),
}


def evaluation(key, n, **more):
    values = {"name": "base", "run": None, "base": key, "sample": "s", "sample_hash": "h", "template": "a {label}"}
    return Evaluation(**values | {"predictions": key, "n": n, "logit_scale": 1.0} | more)


def comparison(models):
    sizes = {"train": 1, "validation": 1, "test": models[0].n}
    values = {"id": "c", "sample": "s", "sample_hash": "h", "sample_config": SampleConfig(), "sizes": sizes}
    return Comparison(**values, synthetic=True, runs={}, models=models, version="0")


def frame(labels, scores, classes=CLASSES):
    return predictions_frame([f"p{i}" for i in range(len(labels))], labels, np.asarray(scores, float), classes)


@pytest.fixture
def found():
    frames = {
        key: frame(LABELS, [[sure if name == said else 0 for name in CLASSES] for said, sure in answers])
        for key, answers in SAID.items()
    }
    return answers_of(comparison([evaluation(key, 4) for key in SAID]), frames)


def test_who_is_right(found):
    assert found.right("base").tolist() == [True, False, False, False]
    assert found.right("tuned").tolist() == [False, True, False, False]
    assert found.ids.tolist() == ["p0", "p1", "p2", "p3"] and found.labels.tolist() == list(LABELS)


def test_a_models_first_answers_come_with_the_probability_of_its_own_temperature(found):
    (first, sure), *others = found.top("base", 1)
    assert first == "Dog" and sure == pytest.approx(np.exp(0.9) / (np.exp(0.9) + 2))
    assert [name for name, _ in others] == ["Cat", "Eel"]
    sharper = answers_of(
        comparison([evaluation("base", 4, logit_scale=10.0)]),
        {"base": frame(LABELS, [[0.1, 0, 0], [0, 0.9, 0], [0, 0, 0.2], [0, 0.3, 0]])},
    )
    assert sharper.top("base", 1)[0][1] == pytest.approx(np.exp(9) / (np.exp(9) + 2))


def test_pictures_of_a_cell_a_class_and_of_what_changed(found):
    assert found.cell("base", "Cat", "Dog").tolist() == [1]
    assert found.cell("base", "Cat", "Cat").tolist() == [0]
    assert found.cell("tuned", "Dog", "Dog").tolist() == []
    assert found.of_class("Cat").tolist() == [0, 1]
    assert found.changed("base", "tuned", "fixed").tolist() == [1]
    assert found.changed("base", "tuned", "broken").tolist() == [0]
    assert found.changed("base", "tuned", "neither").tolist() == [3, 2]  # tuned is surer of 3
    assert found.changed("base", "base", "fixed").tolist() == []


def test_what_nobody_gets_and_what_all_say_against_the_label_come_surest_first(found):
    assert found.nobody().tolist() == [3, 2]
    assert found.against_label().tolist() == [3, 2]  # both say Dog to the Eel, and Eel to the Dog


def test_pictures_that_most_models_get_wrong_come_first():
    frames = {"a": frame(("Cat", "Cat"), [[1, 0, 0], [0, 1, 0]]), "b": frame(("Cat", "Cat"), [[1, 0, 0], [1, 0, 0]])}
    found = answers_of(comparison([evaluation(key, 2) for key in frames]), frames)
    assert found.of_class("Cat").tolist() == [1, 0]


@given(st.integers(0, 10_000), st.integers(2, 5), st.integers(1, 30))
def test_cells_hold_every_picture_once_and_kinds_of_change_too(seed, k, n):
    rng = np.random.default_rng(seed)
    classes = tuple(f"class {i}" for i in range(k))
    labels = [classes[i] for i in rng.integers(0, k, n)]
    frames = {key: frame(labels, np.round(rng.normal(size=(n, k)), 1), classes) for key in ("a", "b")}
    found = answers_of(comparison([evaluation(key, n) for key in frames]), frames)
    cells = [found.cell("a", label, answer) for label in classes for answer in classes]
    assert sorted(np.concatenate(cells)) == list(range(n))
    both = found.right("a") & found.right("b")
    changed = [found.changed("a", "b", what) for what in ("fixed", "broken", "neither")]
    assert sorted(np.concatenate([*changed, np.flatnonzero(both)])) == list(range(n))
    assert set(found.against_label()) <= set(found.nobody()) == set(changed[2])


def test_without_classes_there_are_no_answers():
    frames = {"base": frame(("", ""), np.empty((2, 0)), ())}
    assert answers_of(comparison([evaluation("base", 2)]), frames) is None


def test_two_classes_have_two_answers():
    frames = {"base": frame(("Cat", "Dog"), [[1, 0], [1, 0]], ("Cat", "Dog"))}
    assert len(answers_of(comparison([evaluation("base", 2)]), frames).top("base", 0)) == 2


def test_models_of_other_pictures_are_refused():
    frames = {"a": frame(("Cat", "Dog"), np.eye(3)[:2]), "b": frame(("Cat",), np.eye(3)[:1])}
    with pytest.raises(ComparisonError, match="b and a were not measured on the same pictures"):
        answers_of(comparison([evaluation(key, 2) for key in frames]), frames)


def test_a_label_that_is_no_class_is_named():
    damaged = {"base": pd.DataFrame({"id": ["p0"], "label": ["Fox"], "score: Cat": [1.0], "score: Dog": [0.0]})}
    with pytest.raises(ComparisonError, match=r"picture p0 is labelled 'Fox'"):
        answers_of(comparison([evaluation("base", 1)]), damaged)
