import threading

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clipdemo import sampling
from clipdemo.errors import TrainingError
from clipdemo.models import open_model
from clipdemo.progress import finish
from clipdemo.prompts import prompts_for
from clipdemo.records import MODES, RunConfig, SampleConfig
from clipdemo.training.distributed import Ranks
from clipdemo.training.pairs import Pairs, balanced_choice, with_pictures
from clipdemo.training.vocabulary import UsedRows
from clipdemo.workspace import Workspace

N, CLASSES, LENGTH = 40, 5, 6
SPLITS = np.array(["train"] * 24 + ["validation"] * 8 + ["test"] * 8)


def made(mode, templates=1, seed=0, mapped=None):
    """Forty small pictures of five classes; only eight different captions, so that some are equal in every batch."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (N, 4, 4, 3), dtype=np.uint8)
    captions = rng.integers(0, 90, (8, LENGTH), dtype=np.int32)[rng.integers(0, 8, N)]
    prompts = rng.integers(0, 90, (CLASSES * templates, LENGTH), dtype=np.int32)
    if mapped:
        pixels, captions = on_disk(mapped / "pixels.npy", pixels), on_disk(mapped / "captions.npy", captions)
    return Pairs(mode, pixels, captions, prompts, rng.integers(0, CLASSES, N), SPLITS, templates)


def on_disk(path, array):
    np.save(path, array)
    return np.load(path, mmap_mode="r")


def text_rows(pairs, row):
    """What belongs to a row, looked up the obvious way: its caption, or each sentence of its class."""
    if pairs.mode == "captions":
        return [pairs.captions[row].tolist()]
    first = pairs.classes[row] * pairs.templates
    return [pairs.prompts[first + i].tolist() for i in range(pairs.templates)]


@pytest.mark.parametrize("templates", [1, 3])
@pytest.mark.parametrize("mode", MODES)
@given(rows=st.lists(st.integers(0, N - 1), min_size=1, max_size=30), seed=st.integers(0, 3))
def test_a_batch_holds_what_one_finds_row_by_row(mode, templates, rows, seed):
    pairs = made(mode, templates, seed)
    batch = pairs.batch(np.array(rows))
    assert len(batch) == len(rows)
    assert batch.templates == (templates if mode == "labels" else 1)
    texts = batch.tokens.reshape(-1, batch.templates, LENGTH)
    for place, row in enumerate(rows):
        assert np.array_equal(batch.pixels[place].numpy(), pairs.pixels[row])
        assert texts[batch.text_of[place]].tolist() == text_rows(pairs, row)
    assert (batch.pixels.dtype, batch.tokens.dtype, batch.text_of.dtype) == (torch.uint8, torch.int64, torch.int64)


@given(rows=st.lists(st.integers(0, N - 1), min_size=1, max_size=30), seed=st.integers(0, 3))
@pytest.mark.parametrize("mode", MODES)
def test_equal_texts_are_there_once_and_none_that_nobody_needs(mode, rows, seed):
    pairs = made(mode, seed=seed)
    batch = pairs.batch(np.array(rows))
    wanted = {tuple(text_rows(pairs, row)[0]) for row in rows}
    found = [tuple(tokens) for tokens in batch.tokens.tolist()]
    assert sorted(found) == sorted(wanted)
    assert sorted(set(batch.text_of.tolist())) == list(range(len(found)))


def test_two_classes_with_one_sentence_stay_two_texts_of_which_each_row_gets_its_own():
    pairs = made("labels", templates=2)
    pairs.prompts[2:4] = pairs.prompts[0:2]
    pairs.classes[:4] = [1, 0, 1, 4]
    assert pairs.batch(np.arange(4)).text_of.tolist() == [1, 0, 1, 2]


def test_classes_of_rows_are_theirs_in_the_order_asked_for():
    pairs, rows = made("captions"), np.array([3, 9, 3])
    assert pairs.classes_of(rows).tolist() == pairs.classes[rows].tolist()


def test_rows_may_come_in_any_order_and_twice():
    pairs = made("captions")
    batch = pairs.batch(np.array([7, 3, 7]))
    assert torch.equal(batch.pixels[0], batch.pixels[2])
    assert not torch.equal(batch.pixels[0], batch.pixels[1])
    assert batch.text_of[0] == batch.text_of[2]


def test_a_batch_is_a_copy_that_may_be_written_to(tmp_path):
    pairs = made("captions", mapped=tmp_path)
    batch = pairs.batch(np.arange(3))
    before = pairs.pixels[:3].copy()
    batch.pixels.zero_()
    assert np.array_equal(pairs.pixels[:3], before)


def test_splits_are_places_in_the_manifest():
    pairs = made("captions")
    assert pairs.split("train").tolist() == list(range(24))
    assert pairs.split("validation").tolist() == list(range(24, 32))


# ---- batches


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("mode", MODES)
def test_batches_give_all_rows_in_order_and_to_every_rank_its_share(mode, size):
    pairs = made(mode)
    order = [np.array([5, 1, 9, 30, 2, 2, 8]), np.arange(8), np.array([39] * 7)]
    shares = [list(pairs.batches(order, Ranks(rank, size))) for rank in range(size)]
    for place, rows in enumerate(order):
        for share in shares:
            assert np.array_equal(share[place][0], rows)
        pixels = torch.cat([share[place][1].pixels for share in shares])
        assert np.array_equal(pixels.numpy(), pairs.pixels[rows])
        tokens = torch.cat([batch.tokens[batch.text_of] for batch in (share[place][1] for share in shares)])
        assert torch.equal(tokens, torch.tensor([text_rows(pairs, row)[0] for row in rows]))


def test_without_rows_there_are_no_batches():
    assert list(made("captions").batches([])) == []


def test_one_batch_is_read_ahead_and_no_more():
    pairs, asked = made("captions"), []

    def order():
        for start in range(0, 20, 4):
            asked.append(start)
            yield np.arange(start, start + 4)

    for i, (rows, _) in enumerate(pairs.batches(order())):
        assert rows[0] == 4 * i
        assert asked == list(range(0, min(20, 4 * (i + 2)), 4))


def test_the_next_batch_is_read_while_the_one_before_is_worked_on():
    """Each reading ends only once the batch before it is in our hands, and is then done without our asking for it."""
    pairs, held, was_read = made("captions"), *([threading.Event() for _ in range(3)] for _ in range(2))
    read = pairs.batch

    def reading(rows):
        place = rows[0] // 4
        if place:
            assert held[place - 1].wait(60)
        was_read[place].set()
        return read(rows)

    pairs.batch = reading
    for i, _ in enumerate(pairs.batches(np.arange(12).reshape(3, 4))):
        held[i].set()
        assert was_read[min(i + 1, 2)].wait(60)


def test_an_error_of_reading_is_raised_where_its_batch_is_due():
    pairs = made("captions")
    batches = pairs.batches([np.arange(2), np.array([N + 1])])
    assert next(batches)[0].tolist() == [0, 1]
    with pytest.raises(IndexError):
        next(batches)


def test_whoever_leaves_early_leaves_no_thread_behind():
    before = threading.active_count()
    batches = made("captions").batches(np.arange(40).reshape(10, 4))
    next(batches)
    assert threading.active_count() == before + 1
    batches.close()
    assert threading.active_count() == before


# ---- memory


class Watched(np.ndarray):
    """An array that notes which of its rows are asked for."""

    asked = None

    def __getitem__(self, key):
        if self.asked is not None:
            self.asked.append(key)
        return super().__getitem__(key)

    def __array_finalize__(self, source):
        self.asked = None


def watched(array):
    view = array.view(Watched)
    view.asked = []
    return view


@pytest.mark.parametrize("mode", MODES)
def test_only_the_rows_that_are_asked_for_are_read(mode):
    pairs = made(mode)
    pairs.pixels, pairs.captions = pixels, captions = watched(pairs.pixels), watched(pairs.captions)
    for _ in pairs.batches([np.array([1, 5]), np.array([30])]):
        pass
    pairs.vocabulary()
    assert [np.asarray(rows).tolist() for rows in pixels.asked] == [[1, 5], [30]]
    if mode == "labels":
        assert captions.asked == []


def test_a_batch_of_a_file_larger_than_any_memory_is_read():
    """A quarter of a terabyte, all of it one number in memory."""
    rows, size = 2**24, 72
    pairs = made("labels")
    pairs.pixels = np.broadcast_to(pairs.pixels[:1, :1, :1], (rows, size, size, 3))
    pairs.classes = np.broadcast_to(pairs.classes[:1], (rows,))
    assert pairs.batch(np.array([0, rows - 1])).pixels.shape == (2, size, size, 3)


# ---- the whole way from a sample


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    place = Workspace(tmp_path_factory.mktemp("pairs"))
    return place, finish(sampling.draw_sample(SampleConfig(samples=60, options={"rows": 1200}), place)), open_model()


@pytest.mark.parametrize("template", ["A {label}", "A {label}|Look at this: {label}!"])
@pytest.mark.parametrize("mode", MODES)
def test_a_samples_pairs_are_its_pictures_with_their_captions_or_the_sentences_of_their_label(drawn, mode, template):
    place, sample, clip = drawn
    pairs = finish(Pairs.of(RunConfig(mode=mode, template=template), sample, clip, place))
    rows = pairs.split("validation")
    batch = pairs.batch(rows)
    texts = batch.tokens.view(-1, batch.templates, batch.tokens.shape[1])
    for place_in_batch, row in enumerate(rows):
        entry = sample.manifest.iloc[row]
        assert entry["split"] == "validation"
        own = [entry["caption"]] if mode == "captions" else prompts_for([entry["label"]], template)
        assert torch.equal(texts[batch.text_of[place_in_batch]], clip.tokens(own))
        assert sample.classes[pairs.classes[row]] == entry["label"]
    assert isinstance(pairs.pixels, np.memmap)
    assert isinstance(pairs.captions, np.memmap)


@pytest.mark.parametrize("mode", MODES)
def test_the_vocabulary_has_every_token_of_every_batch_and_of_the_prompts(drawn, mode):
    place, sample, clip = drawn
    pairs = finish(Pairs.of(RunConfig(mode=mode, template="A {label}|Two {label}"), sample, clip, place))
    vocabulary = pairs.vocabulary()
    assert np.array_equal(vocabulary, np.unique(vocabulary))
    splits = np.concatenate([pairs.split("train"), pairs.split("validation")])
    for _, batch in pairs.batches(np.array_split(splits, 7)):
        assert np.isin(batch.tokens.numpy(), vocabulary).all()
    assert np.isin(pairs.prompts, vocabulary).all()
    assert len(vocabulary) < 1000


@pytest.mark.parametrize("mode", MODES)
def test_places_among_the_used_rows_stand_for_the_same_tokens(drawn, mode):
    place, sample, _ = drawn
    clip = open_model()
    pairs = finish(Pairs.of(RunConfig(mode=mode), sample, clip, place))
    plain, prompts = pairs.batch(pairs.split("train")), pairs.places(pairs.prompts)
    rows = UsedRows(clip.network, pairs.vocabulary())
    pairs.places = rows.ids
    assert torch.equal(rows.used[pairs.batch(pairs.split("train")).tokens], plain.tokens)
    assert torch.equal(rows.used[pairs.places(pairs.prompts)], prompts)


# ---- fewer pictures

SOME_CLASSES = st.lists(st.integers(-1, 6), min_size=1, max_size=80).map(np.array)


@given(classes=SOME_CLASSES, n=st.integers(0, 80), seed=st.integers(0, 2**32 - 1))
def test_a_choice_is_as_equal_over_classes_as_they_allow(classes, n, seed):
    chosen = balanced_choice(classes, n, seed)
    assert len(chosen) == len(set(chosen.tolist())) == min(n, len(classes))
    taken, there = ({c: int((of == c).sum()) for c in set(classes.tolist())} for of in (classes[chosen], classes))
    most = max(taken.values())
    for label, number in taken.items():  # nobody has two more than a class that still had some to give
        assert number >= most - 1 or number == there[label]


@given(
    classes=SOME_CLASSES, sizes=st.tuples(st.integers(0, 80), st.integers(0, 80)).map(sorted), seed=st.integers(0, 9)
)
def test_the_smaller_choice_of_a_seed_is_part_of_the_larger(classes, sizes, seed):
    small, large = (set(balanced_choice(classes, n, seed).tolist()) for n in sizes)
    assert small <= large


def test_another_seed_chooses_others_and_every_row_has_the_same_chance():
    classes = np.repeat([0, 1, 2], [4, 8, 12])
    choices = [balanced_choice(classes, 6, seed) for seed in range(3000)]
    assert len({tuple(sorted(choice.tolist())) for choice in choices}) > 1000
    share = np.bincount(np.concatenate(choices), minlength=24) / 3000
    expected = np.repeat([2 / 4, 2 / 8, 2 / 12], [4, 8, 12])
    assert np.abs(share - expected).max() < 5 * np.sqrt(0.25 / 3000)  # five standard errors


def test_seven_of_three_classes_give_the_odd_one_to_each_class_by_chance():
    odd = [np.bincount(np.arange(30)[balanced_choice(np.arange(30) % 3, 7, seed)] % 3).argmax() for seed in range(60)]
    assert set(odd) == {0, 1, 2}


def test_without_labels_a_choice_is_the_beginning_of_one_permutation():
    nothing = np.full(20, -1)
    assert balanced_choice(nothing, 8, 3).tolist() == balanced_choice(nothing, 20, 3)[:8].tolist()


@pytest.mark.parametrize("pictures", [1, 7, 24])
def test_fewer_pictures_are_fewer_training_rows_and_nothing_else(pictures):
    classes = made("labels").classes
    splits = with_pictures(SPLITS, classes, pictures, seed=5)
    assert (splits == "train").sum() == pictures
    assert (SPLITS[splits == "train"] == "train").all()
    for split in ("validation", "test"):
        assert np.flatnonzero(splits == split).tolist() == np.flatnonzero(split == SPLITS).tolist()
    assert (SPLITS == "train").sum() == 24  # the sample's own are as they were


def test_no_number_means_all_pictures():
    assert with_pictures(SPLITS, made("labels").classes, 0, seed=5) is SPLITS


def test_more_pictures_than_there_are_are_refused_with_both_numbers():
    with pytest.raises(TrainingError, match="pictures = 25: the sample has 24 training pictures"):
        with_pictures(SPLITS, made("labels").classes, 25, seed=5)


@pytest.mark.parametrize("seed", [0, 1])
def test_both_kinds_of_pairs_choose_the_same_pictures_of_a_sample_equally_over_its_classes(drawn, seed):
    place, sample, clip = drawn
    configs = [RunConfig(mode=mode, pictures=20, seed=seed) for mode in MODES]
    captions, labels = (finish(Pairs.of(config, sample, clip, place)) for config in configs)
    rows = captions.split("train")
    assert rows.tolist() == labels.split("train").tolist()
    entries = sample.manifest.iloc[rows]
    assert set(entries["split"]) == {"train"}
    numbers = entries["label"].value_counts().reindex(list(sample.classes), fill_value=0)
    assert numbers.sum() == 20
    assert numbers.max() - numbers.min() <= 1
    whole = finish(Pairs.of(RunConfig(mode="labels"), sample, clip, place))
    assert captions.split("validation").tolist() == whole.split("validation").tolist()
