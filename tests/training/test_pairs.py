import threading

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clipdemo import sampling
from clipdemo.models import open_model
from clipdemo.progress import finish
from clipdemo.prompts import prompts_for
from clipdemo.records import MODES, RunConfig, SampleConfig
from clipdemo.training.distributed import Ranks
from clipdemo.training.pairs import Pairs
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
