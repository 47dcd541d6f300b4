from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from clipdemo import embeddings, neighbours
from clipdemo.embeddings import (
    caption_embeddings,
    class_embeddings,
    image_embeddings,
    mapped_sample,
    model_id,
    sample_embeddings,
    text_embeddings,
    unit_rows,
)
from clipdemo.errors import BadSettings, ComparisonError, PictureError, SampleError
from clipdemo.evaluation import COSINE_TIE, distinct, ranks, retrieval_ranks
from clipdemo.images import encode_png
from clipdemo.models import Clip, open_model
from clipdemo.neighbours import (
    Neighbourhood,
    affordable,
    allowed,
    caption_ranks,
    caption_scores,
    is_ready,
    label_probabilities,
    least_likely,
    most_moved,
    near_captions,
    near_labels,
    near_pictures,
    neighbourhood,
    own_caption_ranks,
    picture_vector,
    pictures_of_image,
    pictures_of_picture,
    pictures_of_text,
    text_among_captions,
    text_vector,
    texts_of_picture,
    worst_matched,
)
from clipdemo.progress import finish
from clipdemo.records import SPLITS, SampleConfig
from clipdemo.sampling import draw_sample
from clipdemo.search import build_index
from tests.tiny_source import blotches
from tests.training.test_loop import small_base

CLASSES = ("Cat", "Dog", "Eel")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return small_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def clip(base):
    return open_model(base)


@pytest.fixture
def sample(workspace, tiny_source):
    """60 pictures; every third has the caption "a common one"."""
    rows = [(CLASSES[i % 3], f"caption {i}" if i % 3 else "a common one", "", i) for i in range(60)]
    tiny_source(rows, classes=CLASSES)
    config = SampleConfig(source="tiny", samples=60, train=0.5, validation=0.25, test=0.25)
    return finish(draw_sample(config, workspace))


@pytest.fixture
def space(clip, base, sample, workspace):
    return finish(neighbourhood(clip, model_id(None, base), sample, workspace))


@pytest.fixture
def encoded(monkeypatch):
    """How many pictures and texts were encoded, a number a call."""
    calls = []

    def counting(encode):
        return lambda clip, given: calls.append(len(given)) or encode(clip, given)

    for name in ("encode_images", "encode_texts"):
        monkeypatch.setattr(Clip, name, counting(getattr(Clip, name)))
    return calls


def with_rows(space, pictures=None, texts=None):
    """The same sample in a space that a test has made up."""
    changes = {} if pictures is None else {"pictures": finish(build_index(pictures))}
    return replace(space, **changes | ({} if texts is None else {"texts": finish(build_index(texts))}))


def unit(seed, n, dim=16):
    return unit_rows(np.random.default_rng(seed).standard_normal((n, dim), np.float32))


def everything(space):
    return np.arange(len(space.pictures))


# ---- embeddings of a whole sample and of texts


def test_a_sample_has_its_splits_rows_in_the_manifests_order(clip, base, sample, workspace):
    whole = finish(sample_embeddings(clip, model_id(None, base), sample, workspace))
    assert whole.shape == (len(sample.manifest), 16) and whole.dtype == np.float32
    for split in SPLITS:
        part = finish(image_embeddings(clip, model_id(None, base), sample, split, workspace))
        np.testing.assert_array_equal(whole[sample.rows(split).index], part)


def test_a_manifest_in_any_order_is_followed(clip, base, sample, workspace):
    mixed = sample.manifest.sample(frac=1, random_state=0, ignore_index=True)
    shuffled = replace(sample, content_hash="another")
    shuffled.__dict__["manifest"] = mixed
    whole = finish(sample_embeddings(clip, model_id(None, base), sample, workspace))
    found = finish(sample_embeddings(clip, model_id(None, base), shuffled, workspace))
    order = sample.manifest.set_index("id").index.get_indexer(mixed["id"])
    np.testing.assert_allclose(found, whole[order], atol=2e-3)  # other batches round otherwise


def test_a_mapped_sample_is_read_from_disk_and_cannot_be_written(clip, base, sample, workspace):
    rows = finish(mapped_sample(clip, model_id(None, base), sample, workspace))
    assert isinstance(rows, np.memmap) and rows.dtype == np.float16 and not rows.flags.writeable
    np.testing.assert_array_equal(
        unit_rows(rows[5:9]), finish(sample_embeddings(clip, model_id(None, base), sample, workspace))[5:9]
    )


def test_captions_are_encoded_once_and_kept_for_the_same_texts_only(clip, base, sample, workspace, encoded):
    model = model_id(None, base)
    captions, _ = distinct(sample.manifest["caption"].tolist())
    first = finish(caption_embeddings(clip, model, sample, workspace))
    assert encoded == [len(captions)] and len(captions) == sample.manifest["caption"].nunique() < len(sample.manifest)
    np.testing.assert_array_equal(finish(text_embeddings(clip, model, captions, workspace)), first)
    assert len(encoded) == 1
    turned = finish(text_embeddings(clip, model, captions[::-1], workspace))
    assert len(encoded) == 2
    np.testing.assert_allclose(turned, first[::-1], atol=2e-3)
    finish(text_embeddings(clip, "base-other", captions, workspace))
    assert len(encoded) == 3


def test_broken_off_texts_are_gone_on_with(clip, base, workspace, encoded, monkeypatch):
    monkeypatch.setattr(embeddings, "STEP", 4)
    texts = [f"text {i}" for i in range(10)]
    activity = embeddings.mapped_texts(clip, model_id(None, base), texts, workspace)
    next(activity)
    activity.close()
    finish(text_embeddings(clip, model_id(None, base), texts, workspace))
    assert encoded == [4, 4, 2]


@pytest.mark.parametrize("template", ["A picture of a {label}", "a {label}|one more {label}|{label}"])
def test_classes_are_what_the_model_makes_of_their_sentences(clip, base, workspace, template):
    kept = finish(class_embeddings(clip, model_id(None, base), CLASSES, workspace, template))
    np.testing.assert_allclose(kept, clip.encode_classes(CLASSES, template), atol=2e-3)


def test_damaged_texts_are_encoded_again(clip, base, workspace, caplog):
    model, texts = model_id(None, base), ["one", "two"]
    before = finish(text_embeddings(clip, model, texts, workspace))
    path = workspace.folder("embeddings", embeddings.texts_id(model, clip, texts)) / "texts.npy"
    path.write_bytes(path.read_bytes()[:-3])
    np.testing.assert_array_equal(finish(text_embeddings(clip, model, texts, workspace)), before)
    assert "are made again" in caplog.text


# ---- opening


def test_the_second_opening_encodes_nothing(clip, base, sample, workspace, encoded):
    model = model_id(None, base)
    assert not is_ready(clip, model, sample, workspace)
    first = finish(neighbourhood(clip, model, sample, workspace))
    assert is_ready(clip, model, sample, workspace)
    done = len(encoded)
    second = finish(neighbourhood(clip, model, sample, workspace))
    assert len(encoded) == done > 0
    assert first.pictures.card == second.pictures.card and first.texts.card == second.texts.card
    np.testing.assert_array_equal(first.classes, second.classes)


def test_the_built_in_numbers_fit_each_other(space, sample):
    assert len(space.pictures) == len(sample.manifest) == len(space.text_of)
    assert len(space.texts) == len(space.captions)
    assert [space.captions[i] for i in space.text_of] == sample.manifest["caption"].tolist()
    assert space.classes.shape == (3, 16)


# ---- texts of a picture


def test_the_nearest_captions_are_those_of_numpy_and_the_own_one_is_marked(space):
    for place in (0, 17, 59):
        found = texts_of_picture(space, place, k=7)
        scores = unit_rows(space.texts.rows).astype(float) @ picture_vector(space, place).astype(float)
        order = np.argsort(-scores.astype(np.float32), kind="stable")[:7]
        assert [near.text for near in found.captions] == [space.captions[i] for i in order]
        assert [near.score for near in found.captions] == pytest.approx(scores[order].tolist())
        own = space.sample.manifest["caption"].iloc[place]
        assert found.own.text == own and found.own.own
        assert [near.own for near in found.captions] == [near.text == own for near in found.captions]


def test_the_own_captions_rank_is_that_of_the_evaluation(space):
    ranked = retrieval_ranks(unit_rows(space.pictures.rows), unit_rows(space.texts.rows), space.text_of)
    np.testing.assert_array_equal(finish(own_caption_ranks(space, everything(space))), ranked.caption_rank)
    assert texts_of_picture(space, 11).own.rank == ranked.caption_rank[11]
    assert ranked.caption_rank.max() > 0  # or all zeros would do


def test_ranks_of_any_captions_count_all_that_reach_them(space):
    vector = picture_vector(space, 3)
    scores = unit_rows(space.texts.rows) @ vector
    texts = np.arange(len(space.captions))
    expected = [int((scores >= scores[text] - COSINE_TIE).sum()) - 1 for text in texts]
    assert caption_ranks(caption_scores(space, vector), texts).tolist() == expected


def test_a_captions_own_words_stand_where_the_caption_does(space):
    vector, text = picture_vector(space, 5), space.captions[7]
    scores = caption_scores(space, vector)
    np.testing.assert_allclose(scores, unit_rows(space.texts.rows) @ vector, atol=1e-6)
    asked = text_among_captions(space, vector, text, scores)
    assert (asked.rank - 1, asked.place) == (int(caption_ranks(scores, np.array([7]))[0]), -1)  # it meets itself
    assert asked.score == pytest.approx(float(scores[7]), abs=1e-4)
    with pytest.raises(BadSettings, match="is empty"):
        text_among_captions(space, vector, " ", scores)


def test_ranks_are_the_same_in_blocks(space, monkeypatch):
    whole = finish(own_caption_ranks(space, everything(space)))
    monkeypatch.setattr(neighbours, "_ROWS", 7)
    monkeypatch.setattr(neighbours, "_PICTURES", 11)
    told = []
    activity = own_caption_ranks(space, everything(space), "here")
    while True:
        try:
            told.append(next(activity))
        except StopIteration as end:
            np.testing.assert_array_equal(end.value, whole)
            break
    assert [(p.done, p.total) for p in told] == [(11, 60), (22, 60), (33, 60), (44, 60), (55, 60), (60, 60)]


def test_labels_come_by_their_sentences_and_the_own_one_is_marked(space):
    found = texts_of_picture(space, 5).labels
    scores = space.classes @ picture_vector(space, 5)
    assert [near.text for near in found] == [CLASSES[i] for i in np.argsort(-scores)]
    assert [near.own for near in found] == [near.text == space.sample.manifest["label"].iloc[5] for near in found]
    assert [near.rank for near in found] == [0, 1, 2]


def test_a_sample_without_captions_has_labels_only(workspace, tiny_source, clip, base):
    tiny_source([(CLASSES[i % 3], "", "", i) for i in range(60)], classes=CLASSES)
    config = SampleConfig(source="tiny", samples=60, train=0.5, validation=0.25, test=0.25)
    config = config.model_copy(update={"cleaning": config.cleaning.model_copy(update={"texts": "labels"})})
    sample = finish(draw_sample(config, workspace))
    space = finish(neighbourhood(clip, model_id(None, base), sample, workspace))
    found = texts_of_picture(space, 0)
    assert found.captions == [] and found.own is None and len(found.labels) == 3
    with pytest.raises(BadSettings, match="no captions"):
        finish(worst_matched(space, everything(space)))
    assert set(finish(most_moved(space, space, everything(space)))) == {"place", "moved", "label_base", "label_tuned"}


# ---- pictures


def test_a_text_finds_the_pictures_that_numpy_finds(space):
    vector = text_vector(space.clip, "anything at all")
    scores = (unit_rows(space.pictures.rows).astype(float) @ vector.astype(float)).astype(np.float32)
    found = pictures_of_text(space, "anything at all", k=9)
    assert [near.place for near in found] == np.argsort(-scores, kind="stable")[:9].tolist()
    row = space.sample.manifest.iloc[found[0].place]
    assert found[0][1:2] + found[0][3:] == (row["id"], row["label"], row["caption"], row["split"], row["image"])


def test_an_empty_text_is_refused(space):
    with pytest.raises(BadSettings, match="write a few words"):
        pictures_of_text(space, " \n")


def test_a_picture_is_not_its_own_neighbour_even_among_equals(space):
    rows = unit(0, 60)
    rows[10:40] = rows[10]  # thirty equal pictures
    space = with_rows(space, rows)
    assert [near.place for near in pictures_of_picture(space, 35, k=5)] == [10, 11, 12, 13, 14]
    assert [near.place for near in pictures_of_picture(space, 12, k=5)] == [10, 11, 13, 14, 15]
    assert len(pictures_of_picture(space, 12, k=100)) == 59


def test_a_picture_that_somebody_brings_is_found_in_the_sample(space, sample):
    place = 23
    data = sample.picture(sample.manifest["image"].iloc[place])
    nearest = pictures_of_image(space, data, k=3)[0]
    assert nearest.place == place and nearest.score == pytest.approx(1, abs=1e-4)
    assert len(pictures_of_image(space, encode_png(blotches(777)), k=3)) == 3
    with pytest.raises(PictureError, match="mine.png"):
        pictures_of_image(space, b"nothing", "mine.png")


def test_places_and_ids_that_are_not_there_are_named(space):
    with pytest.raises(BadSettings, match="picture 60 is none of the sample's 60"):
        texts_of_picture(space, 60)
    with pytest.raises(SampleError, match="has no picture 'x'"):
        space.place("x")
    assert space.place(space.sample.manifest["id"].iloc[31]) == 31


# ---- filters


def test_filters_leave_what_they_say(space):
    manifest = space.sample.manifest
    assert allowed(space).all()
    np.testing.assert_array_equal(allowed(space, classes=["Cat", "Eel"]), manifest["label"].isin(["Cat", "Eel"]))
    np.testing.assert_array_equal(allowed(space, splits=["test"]), manifest["split"] == "test")
    right = ranks(unit_rows(space.pictures.rows) @ space.classes.T, space.target) == 0
    np.testing.assert_array_equal(allowed(space, right=True), right)
    np.testing.assert_array_equal(allowed(space, right=False), ~right)
    assert 0 < right.sum() < len(right)
    mask = allowed(space, ["Dog"], ["train"], False)
    found = near_pictures(space, unit(0, 1)[0], 60, mask)
    assert {near.place for near in found} == set(np.flatnonzero(mask))


@pytest.mark.parametrize(("filters", "says"), [({"classes": ["Fox"]}, "class 'Fox'"), ({"splits": ["tset"]}, "'tset'")])
def test_a_filter_that_cannot_be_is_named(space, filters, says):
    with pytest.raises(BadSettings, match=says):
        allowed(space, **filters)


# ---- pictures that stand out


def test_the_worst_matched_pictures_come_first(space):
    texts = unit(1, len(space.captions))
    pictures = texts[space.text_of].copy()
    bad = 31
    pictures[bad] = -texts[space.text_of[bad]]  # as far from its caption as can be
    found = finish(worst_matched(with_rows(space, pictures, texts), everything(space)))
    assert found.iloc[0].tolist() == [bad, len(space.captions) - 1, len(space.captions)]
    assert (found["rank"].iloc[1:] == 0).all() and found["place"].iloc[1:].is_monotonic_increasing
    some = finish(worst_matched(with_rows(space, pictures, texts), np.array([3, bad])))
    assert some["place"].tolist() == [bad, 3]


def turned(rows, seed=0):
    """The same rows in a space turned at random: nobody is nearer to anybody."""
    q, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((rows.shape[1],) * 2))
    return unit_rows((rows @ q).astype(np.float32))


def test_a_space_that_is_only_turned_has_moved_nobody(space):
    pictures, texts = unit(0, 60), unit(1, len(space.captions))
    before, after = with_rows(space, pictures, texts), with_rows(space, turned(pictures), turned(texts))
    assert np.linalg.norm(pictures - turned(pictures), axis=1).min() > 0.1
    found = finish(most_moved(before, after, everything(space)))
    assert (found["moved"] == 0).all()
    assert (found["caption_base"] == found["caption_tuned"]).all()


def test_who_gets_other_neighbours_has_moved_most(space):
    """Two heaps of thirty; picture 0 goes from one to the other."""
    heaps = unit_rows(np.repeat(np.eye(16, dtype=np.float32)[:2], 30, axis=0) + 0.05 * unit(0, 60))
    gone = heaps.copy()
    gone[0] = heaps[45]
    found = finish(most_moved(with_rows(space, heaps), with_rows(space, gone), everything(space), k=29))
    assert found.iloc[0][["place", "moved"]].tolist() == [0, 1.0]
    assert found["moved"].iloc[1] <= 1 / 29 + 1e-9


def test_among_more_equal_pictures_than_neighbours_nobody_moves(space):
    rows = unit(0, 60)
    rows[10:40] = rows[10]
    still = finish(most_moved(with_rows(space, rows), with_rows(space, rows), everything(space), k=5))
    assert (still["moved"] == 0).all()


def test_equal_movers_come_by_their_captions_rank(space):
    pictures, texts = unit(0, 60), unit(1, len(space.captions))
    better = pictures.copy()
    place = int(
        np.flatnonzero(pd.Series(space.text_of).duplicated(keep=False).to_numpy() == 0)[4]
    )  # alone with its text
    texts_after = texts.copy()
    texts_after[space.text_of[place]] = pictures[place]
    found = finish(
        most_moved(with_rows(space, pictures, texts), with_rows(space, better, texts_after), everything(space))
    )
    assert (found["moved"] == 0).all()
    assert found["caption_tuned"][found["place"] == place].item() == 0
    octaves = np.abs(np.log2((1 + found["caption_base"]) / (1 + found["caption_tuned"])))
    assert octaves.is_monotonic_decreasing and octaves.iloc[0] > 0


def test_label_probabilities_are_the_softmax_of_each_models_own_scale(space):
    scores = space.clip.logit_scale * unit_rows(space.pictures.rows).astype(float) @ space.classes.T
    softmax = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    expected = softmax[np.arange(60), space.target]
    np.testing.assert_allclose(label_probabilities(space, everything(space)), expected, rtol=1e-4)


def test_models_of_different_samples_are_not_compared(space):
    other = replace(space, sample=replace(space.sample, content_hash="another"))
    with pytest.raises(ComparisonError, match="different samples"):
        finish(most_moved(space, other, everything(space)))


def test_a_space_is_what_its_type_says(space):
    assert isinstance(space, Neighbourhood)
    assert near_captions(space, unit(0, 1)[0], 2)[0].rank == 0
    assert len(near_labels(space, unit(0, 1)[0], 2)) == 2


def test_the_least_likely_classes_come_first_and_pictures_without_one_are_left_out(space):
    places = np.arange(len(space.pictures))
    found = least_likely(space, places)
    expected = label_probabilities(space, places)
    assert len(found) == np.isfinite(expected).sum()
    assert found["probability"].is_monotonic_increasing
    assert np.allclose(found["probability"], expected[found["place"]])


def test_of_very_many_pictures_an_even_part_is_compared(space, monkeypatch):
    places = np.arange(10, 50)
    assert affordable(space, places) is places
    monkeypatch.setattr(neighbours, "MOST_PAIRS", 5 * max(len(space.captions), len(space.pictures)))
    assert affordable(space, places).tolist() == [10, 19, 29, 39, 49]
