import pytest
import torch
from open_clip.model import CLIP

from clipdemo.models import Clip
from clipdemo.training import memory
from clipdemo.training.gradients import accumulate_gradient
from clipdemo.training.memory import USABLE, chunk_that_fits, stored_bytes
from clipdemo.training.pairs import Batch

VISION = {"image_size": 32, "layers": 3, "width": 32, "head_width": 16, "patch_size": 8}
TEXT = {"context_length": 12, "vocab_size": 50, "width": 32, "heads": 2, "layers": 3}


@pytest.fixture
def clip():
    torch.manual_seed(0)
    network = CLIP(16, VISION, TEXT, quick_gelu=True)
    return Clip(network, None, 32, (0.5,) * 3, (0.25,) * 3, torch.device("cpu"))


def make_batch(n, templates=1, lengths=(12,)):
    tokens = torch.zeros(n * templates, 12, dtype=torch.int64)
    for i, row in enumerate(tokens):
        length = lengths[i % len(lengths)]
        row[: length - 1], row[length - 1] = 7, 49
    return Batch(torch.zeros(n, 32, 32, 3, dtype=torch.uint8), tokens, torch.arange(n), templates)


def per_pair(clip, templates=1):
    return (stored_bytes(clip, make_batch(8, templates)) - stored_bytes(clip, make_batch(4, templates))) / 4


def room_for(clip, pairs):
    """Free memory in which so many pairs fit, half a pair more, and what the first step makes beside them."""
    return made_by_the_first_step(clip) + int((pairs + 0.5) * per_pair(clip) / USABLE)


def made_by_the_first_step(clip):
    """Bytes of the gradients and of Adam's two moments, each as large as the weights."""
    return 3 * sum(p.numel() * p.element_size() for p in clip.network.parameters() if p.requires_grad)


@pytest.mark.parametrize("templates", [1, 3])
def test_what_is_stored_grows_with_the_pairs_along_a_line(clip, templates):
    stored = {n: stored_bytes(clip, make_batch(n, templates)) for n in (2, 4, 8, 16)}
    slope = (stored[16] - stored[8]) / 8
    assert slope > 0
    assert (stored[8] - stored[4]) / 4 == pytest.approx(slope, rel=0.01)
    assert (stored[4] - stored[2]) / 2 == pytest.approx(slope, rel=0.01)


def test_what_is_stored_is_about_what_backward_has_to_read(clip):
    """By hand, in float32 numbers of width 32: a token of a block keeps at least its 2 norms' outputs (32 each), q, k
    and v (96), what it gathered (32), and the perceptron's 2 x 128; of the last block only one token does.
    """
    blocks, width = 3, 32
    tokens = 17 + 12  # patches with the class token, and a text's tokens
    least = 4 * (blocks - 1) * tokens * (2 * width + 3 * width + width + 2 * 4 * width)
    assert least < per_pair(clip) < 3 * least


def test_several_sentences_a_text_longer_texts_and_all_gradients_cost_more(clip):
    assert per_pair(clip, templates=3) > per_pair(clip)
    assert stored_bytes(clip, make_batch(8)) > stored_bytes(clip, make_batch(8, lengths=(3,)))
    whole = per_pair(clip)
    clip.network.lock_image_tower()
    assert per_pair(clip) < whole


def test_weights_are_not_counted_and_nothing_is_left_behind(clip):
    few, many = (stored_bytes(clip, make_batch(n)) for n in (4, 8))
    blocks = [*clip.network.visual.transformer.resblocks, *clip.network.transformer.resblocks]
    perceptrons = sum(4 * p.numel() for block in blocks for p in block.mlp.parameters())  # QuickGELU's scaled copies
    assert 2 * few - many <= perceptrons  # what no pair causes
    assert all(p.grad is None for p in clip.network.parameters())
    with torch.no_grad():
        assert stored_bytes(clip, make_batch(4)) == few


def test_checkpointing_stores_little_more_than_what_the_blocks_begin_with(clip):
    whole = per_pair(clip)
    clip.network.set_grad_checkpointing(True)
    least = 4 * 32 * (17 + 12) * 3  # bytes of a float, width, tokens of both towers, blocks
    assert least <= per_pair(clip) < whole / 2


# ---- how many fit


@pytest.mark.parametrize("n", [12, 16, 100])
def test_all_pairs_at_once_where_there_is_room(clip, n):
    batch = make_batch(n)
    assert chunk_that_fits(clip, batch, free=10**12) == n
    assert chunk_that_fits(clip, batch, free=room_for(clip, n)) == n


@pytest.mark.parametrize(("room", "fit"), [(11, 8), (8, 8), (7, 4), (3, 2), (2, 2), (1, 1), (0, 1)])
def test_else_the_largest_power_of_two_that_fits_and_one_at_least(clip, room, fit):
    assert chunk_that_fits(clip, make_batch(12), free=room_for(clip, room)) == fit
    assert chunk_that_fits(clip, make_batch(12), free=0) == 1


def test_more_room_never_means_fewer_pairs(clip):
    batch = make_batch(24)
    chunks = [chunk_that_fits(clip, batch, free=free) for free in range(0, room_for(clip, 30), 100_000)]
    assert chunks == sorted(chunks)
    assert (chunks[0], chunks[-1]) == (1, 24)
    assert set(chunks) <= {1, 2, 4, 8, 16, 24}


def test_every_text_counts_as_the_longest(clip):
    room = room_for(clip, 8)
    mixed = make_batch(12, lengths=(2, 12, 3, 2, 5))
    assert chunk_that_fits(clip, mixed, free=room) == chunk_that_fits(clip, make_batch(12), free=room) == 8


def test_several_sentences_a_text_mean_fewer_pairs(clip):
    room = room_for(clip, 8)
    assert chunk_that_fits(clip, make_batch(12, templates=4), free=room) < 8


def test_the_machine_is_asked_where_nothing_is_said(clip, monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda device: room_for(clip, 4))
    assert chunk_that_fits(clip, make_batch(12)) == 4


@pytest.mark.parametrize("pairs", [1, 2, 3, 5])
def test_a_small_batch_fits_whole_and_trains(clip, pairs):
    batch = make_batch(pairs)
    chunk = chunk_that_fits(clip, batch, free=10**12)
    assert chunk == pairs
    assert accumulate_gradient(clip, batch, chunk_size=chunk).isfinite()


@pytest.mark.parametrize("pairs", [2, 3])
def test_a_small_batch_is_measured_too(clip, pairs):
    assert chunk_that_fits(clip, make_batch(pairs), free=room_for(clip, 1)) == 1


def test_with_checkpointing_the_block_that_is_computed_again_fits_as_well(clip):
    block = per_pair(clip) / 3  # of three
    clip.network.set_grad_checkpointing(True)
    kept = per_pair(clip)
    for pairs in (4, 8, 32, 64):
        free = room_for(clip, pairs)
        chunk = chunk_that_fits(clip, make_batch(64), free=free)
        assert chunk * (kept + block) <= free - made_by_the_first_step(clip)
        assert 8 * chunk > pairs  # and not out of fear
    assert clip.network.visual.transformer.grad_checkpointing and clip.network.transformer.grad_checkpointing


def test_checkpointing_lets_more_pairs_in(clip):
    free = room_for(clip, 20)
    plain = chunk_that_fits(clip, make_batch(512), free=free)
    clip.network.set_grad_checkpointing(True)
    assert chunk_that_fits(clip, make_batch(512), free=free) > plain == 16


def test_gradients_and_moments_of_the_trained_weights_need_room_too(clip):
    batch = make_batch(32)
    free = made_by_the_first_step(clip)
    assert chunk_that_fits(clip, batch, free=free) == 1
    clip.network.lock_image_tower()
    assert chunk_that_fits(clip, batch, free=free) > 1
