import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from open_clip.model import CLIP, CustomTextCLIP

from clipdemo.records import RunConfig
from clipdemo.towers import encode_image, encode_text, text_tower
from clipdemo.training.losses import contrastive_loss
from clipdemo.training.optimizer import make_optimizer, set_rate
from clipdemo.training.vocabulary import UsedRows, used_tokens

VISION = {"image_size": 16, "layers": 1, "width": 16, "head_width": 8, "patch_size": 8}
TEXT = {"context_length": 8, "vocab_size": 40, "width": 16, "heads": 2, "layers": 2}
USED = np.array([0, 3, 4, 9, 17, 30, 38, 39])  # 0 fills up, 39 ends a text
UNUSED = np.setdiff1d(np.arange(40), USED)
RATES = (0.01, 0.03, 0.02, 0.01, 0.002)
CONFIG = RunConfig(mode="captions", weight_decay=0.4)


def build(kind=CLIP):
    torch.manual_seed(0)
    return kind(16, VISION, TEXT, quick_gelu=True).double()


def captions(seed, n=5):
    """int32 (n, 8), as they lie on disk: only ids of `USED`, texts of mixed lengths."""
    rng = np.random.default_rng(seed)
    tokens = rng.choice(USED[1:-1], (n, 8)).astype(np.int32)
    for row, end in zip(tokens, rng.integers(1, 8, n), strict=True):
        row[end], row[end + 1 :] = 39, 0
    return tokens


def trained(network, config=CONFIG, rows=None):
    """Five steps, as the loop takes them; the network's state, with the whole table."""
    optimizer = make_optimizer(network, config)
    for step, rate in enumerate(RATES):
        set_rate(optimizer, rate)
        images = torch.randn(5, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(step))
        tokens = rows.ids(captions(step)) if rows else torch.from_numpy(captions(step).astype(np.int64))
        optimizer.zero_grad()
        features = encode_image(network, images), encode_text(network, tokens)
        contrastive_loss(*features, network.logit_scale.exp()).backward()
        optimizer.step()
        for group in optimizer.param_groups:
            if rows and any(p is rows.weight for p in group["params"]):
                rows.stepped(group["lr"], group["weight_decay"])
    state = {name: value.detach().clone() for name, value in network.state_dict().items()}
    if rows:
        name = next(name for name in state if name.endswith("token_embedding.weight"))
        state[name] = rows.table(state[name])
    return state


@pytest.mark.parametrize("layer_decay", [1.0, 0.7])
@pytest.mark.parametrize("kind", [CLIP, CustomTextCLIP])
def test_training_the_used_rows_is_training_the_whole_table(kind, layer_decay):
    config = CONFIG.model_copy(update={"layer_decay": layer_decay})
    whole = trained(build(kind), config)
    network = build(kind)
    before = text_tower(network).token_embedding.weight.detach().clone()
    few = trained(network, config, UsedRows(network, USED))
    assert few.keys() == whole.keys()
    for name in whole:
        torch.testing.assert_close(few[name], whole[name], rtol=0, atol=1e-12, msg=lambda m, name=name: f"{name}: {m}")
    table = next(value for name, value in few.items() if name.endswith("token_embedding.weight"))
    scale = layer_decay ** (2 + 1)  # the table lies before both blocks
    decayed = np.prod([1 - rate * scale * 0.4 for rate in RATES])
    torch.testing.assert_close(table[UNUSED], before[UNUSED] * decayed, rtol=0, atol=1e-12)
    read = USED[1:]  # what fills up is never read
    assert (table[read] - before[read] * decayed).abs().amax(dim=1).min() > 1e-4


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from(USED.tolist()), min_size=8, max_size=8))
def test_ids_keep_their_order_and_the_largest_stays_in_its_place(row):
    network = build()
    rows = UsedRows(network, USED)
    ids = rows.ids(np.array([row], dtype=np.int32))
    assert ids.dtype == torch.int64 and ids.shape == (1, 8)
    assert USED[ids[0].numpy()].tolist() == row
    assert int(ids.argmax(dim=1)) == int(np.argmax(row))


def test_features_are_the_same_before_the_first_step():
    network = build()
    tokens = torch.from_numpy(captions(0).astype(np.int64))
    before = encode_text(network, tokens)
    rows = UsedRows(network, USED)
    assert torch.equal(encode_text(network, rows.ids(tokens)), before)
    torch.testing.assert_close(network.encode_text(rows.ids(tokens), normalize=True), before)


def test_the_table_goes_there_and_back():
    network = build()
    before = network.token_embedding.weight.detach().clone()
    rows = UsedRows(network, USED)
    assert rows.weight.shape == (8, 16) and rows.weight is network.token_embedding.weight
    assert torch.equal(rows.table(rows.weight.detach()), before)
    changed = rows.table(torch.zeros(8, 16, dtype=torch.float64))
    assert not changed[USED].any() and torch.equal(changed[UNUSED], before[UNUSED])
    assert torch.equal(rows.whole, before)  # what came back was a copy


def test_a_fixed_table_neither_learns_nor_decays():
    network = build()
    network.token_embedding.weight.requires_grad_(False)
    before = network.token_embedding.weight.detach().clone()
    rows = UsedRows(network, USED)
    assert not rows.weight.requires_grad
    whole = copy.deepcopy(before)
    assert torch.equal(trained(network, rows=rows)["token_embedding.weight"], whole)
    rows.stepped(0.1, 0.1)
    assert rows.decayed == 1


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        arrays(np.int32, st.tuples(st.integers(0, 9), st.just(4)), elements=st.integers(0, 60)), min_size=1, max_size=3
    ),
    st.integers(1, 5),
)
def test_used_tokens_are_all_ids_once_in_order_however_they_are_read(tables, rows):
    expected = sorted({int(i) for table in tables for i in table.flatten()})
    assert used_tokens(*tables, rows=rows).tolist() == expected
