"""Classifying pictures of anybody's: the comparison's own numbers, words for them, and tables of many."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file
from sklearn.datasets import load_sample_images

from clipdemo.classify import (
    FAMILIAR_FILE,
    Answer,
    Ranked,
    Result,
    accuracies,
    agreement,
    batch_table,
    classified,
    classify,
    embed_images,
    embed_text,
    open_classifier,
    zero_shot,
)
from clipdemo.comparison import load_predictions, measure
from clipdemo.drop import Dropped, Refused, dropped_picture, from_image, read_drop
from clipdemo.embeddings import image_embeddings, model_id
from clipdemo.errors import BadSettings
from clipdemo.evaluation import probabilities, scores_of
from clipdemo.models import open_model
from clipdemo.progress import finish
from clipdemo.records import RunConfig
from clipdemo.sources.bodyparts import BODY_PARTS
from clipdemo.statistics import proportion_interval
from clipdemo.workspace import Workspace
from tests.test_drop import hostile_drop
from tests.workspace_factory import make_real_run, make_sample
from tools import familiar_base


@pytest.fixture(scope="module")
def comparison(place, sample, base):
    runs = [make_real_run(place, sample, RunConfig(mode=mode, base=base)) for mode in ("captions", "labels")]
    return finish(measure(sample, place, runs, [base], "a photo of {label}|{label}"))


@pytest.fixture(scope="module")
def classifier(place, comparison):
    return finish(open_classifier(place, comparison))


@pytest.fixture(scope="module")
def dropped(sample, classifier):
    rows = sample.rows("test")
    return [
        dropped_picture(sample.picture(image), f"{label}/{image}", classifier.sizes)
        for image, label in zip(rows["image"], rows["label"], strict=True)
    ]


@pytest.fixture(scope="module")
def results(classifier, dropped):
    return classify(classifier, dropped, k=12)


def chances(result, place=0):
    return {ranked.label: ranked.probability for ranked in result.answers[place].labels}


def test_answers_are_those_that_the_comparison_has_saved(place, comparison, results):
    for number, evaluation in enumerate(comparison.models):
        scores, _, classes = scores_of(load_predictions(place, evaluation))
        expected = probabilities(scores, evaluation.validation_logit_scale)
        for row, result in zip(scores, results, strict=True):
            assert result.answers[number].labels[0].label == classes[int(row.argmax())]
        found = [[chances(result, number)[label] for label in classes] for result in results]
        assert np.array(found) == pytest.approx(expected, abs=1e-4)


def test_pictures_are_embedded_as_the_kept_ones_are(place, sample, base, classifier, dropped):
    clip = open_model(base)
    kept = finish(image_embeddings(clip, model_id(None, base), sample, "test", place))
    assert embed_images(classifier.models[0], dropped) == pytest.approx(kept, abs=2e-4)


def test_one_picture_gets_what_it_gets_among_many(classifier, dropped, results):
    for picture, among in zip(dropped, results, strict=True):
        (alone,) = classify(classifier, [picture], k=12)
        assert alone.familiar == among.familiar and alone.strangeness == pytest.approx(among.strangeness, abs=1e-3)
        for number in range(3):
            assert alone.answers[number].labels[0].label == among.answers[number].labels[0].label
            assert chances(alone, number) == pytest.approx(chances(among, number), abs=1e-4)


def test_more_pictures_than_a_batch_come_back_in_order_with_the_refused_in_their_places(classifier, dropped):
    items = [dropped[i % 12] for i in range(150)]
    items[3] = items[70] = Refused("bad.png", "empty", "bad.png has no bytes")
    found = list(classified(classifier, iter(items), 1))
    assert [one.name for one in found] == [item.name for item in items]
    assert isinstance(found[70], Refused) and found[5].answers == found[17].answers


def test_captions_are_of_training_pictures_best_first(classifier, sample, results):
    known = set(sample.rows("train")["caption"])
    for answer in results[0].answers:
        scores = [near.score for near in answer.captions]
        assert len(scores) == 12 and scores == sorted(scores, reverse=True)
        assert {near.text for near in answer.captions} <= known
    model, near = classifier.models[1], results[0].answers[1].captions[0]
    assert float(embed_text(model, near.text) @ model.caption_vectors[model.captions.index(near.text)]) > 0.9999


def test_what_is_familiar_is_learned_from_training_pictures_and_counted_on_all_others(
    comparison, classifier, results, sample
):
    rule = classifier.novelty
    assert classifier.judge == comparison.models[0].predictions and comparison.models[0].name == "base"
    assert (rule.learned, rule.tested, list(rule.spaces)) == (36, 24, ["content", "looks", "layout"])
    assert {len(space.reference) for space in rule.spaces.values()} == {36}
    assert 0 <= rule.alarms - sum(not result.familiar for result in results) <= 12  # the rest: validation pictures
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    (strange,) = classify(classifier, [Dropped("noise", {16: noise}, b"")])
    assert strange.strangeness > rule.threshold and strange.familiar is False
    assert strange.agreement.endswith("the dataset has no picture like this one.")


def test_without_an_untuned_model_only_looks_and_layout_tell_what_is_familiar(place, comparison, dropped):
    tuned = comparison.model_copy(update={"models": comparison.models[1:]})
    classifier = finish(open_classifier(place, tuned))
    assert classifier.judge == "" and list(classifier.novelty.spaces) == ["looks", "layout"]
    assert isinstance(classify(classifier, dropped[:1])[0].familiar, bool)


def test_own_labels_and_sentence_are_those_of_a_new_encoding(classifier, dropped, base):
    own = zero_shot(classifier, [" Cat", "Dog  bone"], "{label}!")
    (result,) = classify(own, dropped[:1])
    model = open_model(base)
    vectors = model.encode_texts(["cat!", "dog bone!"])
    scores = embed_images(classifier.models[0], dropped[:1]) @ vectors.T
    expected = probabilities(scores, classifier.models[0].logit_scale)[0]
    assert [chances(result)["Cat"], chances(result)["Dog bone"]] == pytest.approx(expected, abs=1e-6)
    assert own.classes == ("Cat", "Dog bone") and classifier.classes != own.classes
    assert result.label is None


def test_the_samples_classes_typed_by_hand_give_the_same_numbers(classifier, dropped, results):
    typed = classify(zero_shot(classifier, classifier.classes), dropped, k=12)
    assert [result.answers for result in typed] == [result.answers for result in results]


def test_a_set_of_labels_is_encoded_once(classifier, dropped, monkeypatch):
    counted = []
    clip = classifier.models[0].clip
    encode = type(clip).encode_classes
    monkeypatch.setattr(type(clip), "encode_classes", lambda self, *a: counted.append(a) or encode(self, *a))
    for _ in range(3):
        classify(zero_shot(classifier, ["Newt", "Owl"]), dropped[:2])
    assert len(counted) == 3  # once a model


@pytest.mark.parametrize(
    ("labels", "template", "says"),
    [
        ([], "", "0 labels: give 2 to 200"),
        (["Cat"], "", "1 labels"),
        (["Cat", " "], "", "label 2 is empty"),
        (["Cat", "Dog", "cat "], "", "'cat' is there twice"),
        (["x" * 201, "y"], "", "201 characters"),
        ([str(i) for i in range(201)], "", "201 labels"),
        (["Cat", "Dog"], "a picture", "holds {label} exactly once"),
        (["Cat", "Dog"], "{label} {0}", "no other braces"),
    ],
)
def test_labels_that_cannot_be_told_apart_are_refused(classifier, labels, template, says):
    with pytest.raises(BadSettings, match=says.replace("{", r"\{").replace("}", r"\}")):
        zero_shot(classifier, labels, template)


def test_a_text_without_words_is_refused(classifier):
    with pytest.raises(BadSettings, match="text is empty"):
        embed_text(classifier.models[0], "  ")


def test_without_a_comparison_the_built_in_base_answers(tmp_path):
    classifier = finish(open_classifier(Workspace(tmp_path)))
    size = classifier.sizes[0]
    black = np.zeros((size, size, 3), np.uint8)
    (result,) = classify(classifier, [Dropped("black", {size: black}, b"")], k=12)
    assert {ranked.label for ranked in result.answers[0].labels} == set(BODY_PARTS)
    assert sum(chances(result).values()) == pytest.approx(1)
    assert result.familiar is False and result.answers[0].captions == ()
    assert classifier.novelty.learned == familiar_base.TRAIN and classifier.novelty.tested == familiar_base.HELD_OUT


def test_what_is_familiar_to_the_built_in_base_is_made_by_its_tool():
    kept, rows = load_file(FAMILIAR_FILE), familiar_base.familiar_rows()
    for way, found in familiar_base.drawn(rows[:4]).items():
        assert kept[f"train.{way}"][:4] == pytest.approx(found, abs=4e-3)
        assert len(kept[f"train.{way}"]) + len(kept[f"held_out.{way}"]) == len(rows)


def test_photographs_and_noise_are_unfamiliar_to_the_built_in_base_more_often_than_its_own_pictures(tmp_path):
    classifier = finish(open_classifier(Workspace(tmp_path)))
    photographs = [Image.fromarray(photograph) for photograph in load_sample_images().images]
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 90, 3), np.uint8))
    strange = classify(classifier, [from_image(one, "x", classifier.sizes) for one in [*photographs, noise]])
    assert [result.familiar for result in strange] == [False] * 3
    rule = classifier.novelty
    assert rule.alarms < 0.2 * rule.tested


def test_models_are_opened_by_the_callers_function(place, comparison, base):
    asked = []
    finish(open_classifier(place, comparison, lambda *what: asked.append(what) or open_model(*what)))
    assert [what[0] for what in asked] == [base] * 3 and [what[1] is None for what in asked] == [True, False, False]


def test_a_deleted_sample_leaves_answers_without_captions_and_familiarity(tmp_path, base):
    place = Workspace(tmp_path)
    sample = make_sample(place)
    comparison = finish(measure(sample, place, [], [base]))
    place.delete("samples", sample.id)
    classifier = finish(open_classifier(place, comparison))
    assert classifier.classes == sample.classes and classifier.novelty is None
    assert classifier.models[0].captions == ()


def test_a_sample_without_labels_needs_labels_of_ones_own(tmp_path, base):
    place = Workspace(tmp_path)
    sample = make_sample(place, texts=("captions",))
    classifier = finish(open_classifier(place, finish(measure(sample, place, [], [base]))))
    picture = dropped_picture(sample.picture(sample.manifest["image"][0]), "a", classifier.sizes)
    (result,) = classify(classifier, [picture])
    assert result.answers[0].labels == () and len(result.answers[0].captions) == 3
    assert "type labels of your own" in result.agreement
    assert batch_table([result])["Base"].tolist() == [None] and accuracies([result]) == []
    (result,) = classify(zero_shot(classifier, ["Cat", "Dog"]), [picture])
    assert {ranked.label for ranked in result.answers[0].labels} == {"Cat", "Dog"}


def answer(title, label, probability):
    return Answer(title.lower(), title, (Ranked(label, probability),), ())


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ([("Base", "Eye", 0.9)], "Base says Eye (90 %)."),
        ([("Base", "Eye", 0.9), ("Labels", "Eye", 0.8)], "Both models say Eye (80 to 90 %)."),
        ([("Base", "Eye", 0.9), ("Captions", "Eye", 0.9), ("Labels", "Eye", 0.9)], "All three models say Eye (90 %)."),
        (
            [("Base", "Foot", 0.4), ("Captions", "Eye", 0.9), ("Labels", "Eye", 0.7)],
            "Captions and Labels say Eye (70 to 90 %), Base says Foot (40 %).",
        ),
        (
            [("Base", "Foot", 0.3), ("Captions", "Eye", 0.4)],
            "The models disagree: Base says Foot (30 %), Captions says Eye (40 %). None is sure.",
        ),
    ],
)
def test_agreement_is_said_in_words(said, sentence):
    answers = [answer(*one) for one in said]
    assert agreement(answers) == agreement(answers, familiar=True) == sentence
    assert "None of these may be right" in agreement(answers, familiar=False)
    own = agreement(answers, familiar=False, own_labels=True)
    assert "None of these" not in own and "taught the models nothing about its kind" in own


def test_accuracy_counts_pictures_whose_class_is_known():
    def result(label, said):
        return Result("a", label, (answer("Base", said, 0.9), answer("Labels", "Eye", 0.9)), None, None, "")

    found = accuracies([result("Eye", "Eye"), result("Foot", "Eye"), result(None, "Eye"), result("Foot", "Foot")])
    assert [(one.title, one.right, one.n) for one in found] == [("Base", 2, 3), ("Labels", 1, 3)]
    assert (found[0].low, found[0].high) == proportion_interval(2, 3)


def test_accuracy_of_the_test_pictures_is_the_comparisons(comparison, results):
    for found, evaluation in zip(accuracies(results), comparison.models, strict=True):
        assert found.n == 12 and found.right / 12 == pytest.approx(evaluation.top1)


def test_the_table_has_a_row_a_picture(results):
    table = batch_table(results)
    assert list(table) == [
        *("name", "Base", "Base probability", "Captions", "Captions probability", "Labels", "Labels probability"),
        *("agreement", "familiar", "label"),
    ]
    assert table["Captions"].tolist() == [result.answers[1].labels[0].label for result in results]
    assert table["label"].tolist() == [result.label for result in results]
    assert batch_table([replace(results[0], label=None)])["label"].tolist() == [None]


def test_five_hundred_mixed_files_every_good_one_is_answered_and_each_bad_one_named(classifier):
    files = list(hostile_drop())
    found = list(classified(classifier, read_drop([(name, data) for name, data, _ in files], classifier.sizes)))
    assert [one.name for one in found] == [name for name, _, _ in files]
    by_name = {one.name: one for one in found}
    assert all(isinstance(by_name[name], Result) for name, _, good in files if good)
    refused = [one for one in found if isinstance(one, Refused)]
    assert len(refused) > 50 and all(one.name in one.message for one in refused)
