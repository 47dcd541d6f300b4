import json
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip.loss import ClipLoss
from open_clip.model import CLIP, CustomTextCLIP
from torch.nn.functional import normalize

from clipdemo.models import Clip
from clipdemo.training.gradients import accumulate_gradient, text_features
from clipdemo.training.losses import contrastive_loss
from clipdemo.training.pairs import Batch

DIM, LENGTH, END = 16, 12, 49  # of the features; of the context; the end-of-text token
VISION = {"image_size": 16, "layers": 2, "width": 16, "head_width": 8, "patch_size": 8}
TEXT = {"context_length": LENGTH, "vocab_size": END + 1, "width": 16, "heads": 2, "layers": 2}
DROPPING = {"patch_dropout": 0.5, "pool_type": "avg"}  # an image tower that runs open_clip's own forward, with dropout


class DoubleClip(Clip):
    def normalised(self, pixels):
        return super().normalised(pixels).double()


def build(dtype=torch.float64, kind=CLIP, vision=None, text=None, precision="float32"):
    torch.manual_seed(0)
    network = kind(DIM, VISION | (vision or {}), TEXT | (text or {}), quick_gelu=True)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    clip = DoubleClip if dtype == torch.float64 else Clip
    return clip(network.to(dtype), None, 16, (0.5,) * 3, (0.25,) * 3, torch.device("cpu"), precision)


def make_batch(text_of, templates=1, size=16, seed=1):
    """Pictures with texts of mixed lengths, as many as `text_of` speaks of."""
    generator = torch.Generator().manual_seed(seed)
    n_texts = max(text_of) + 1
    tokens = torch.randint(1, END, (n_texts * templates, LENGTH), generator=generator)
    for i, row in enumerate(tokens):
        end = 1 + (5 * i) % (LENGTH - 1)
        row[end], row[end + 1 :] = END, 0
    pixels = torch.randint(0, 256, (len(text_of), size, size, 3), generator=generator, dtype=torch.uint8)
    return Batch(pixels, tokens, torch.tensor(text_of), templates)


CAPTIONS = make_batch([3, 0, 1, 1, 4, 2, 0])  # seven pictures, two pairs of equal captions
LABELS = make_batch([0, 1, 1, 0, 1, 1, 1])
ENSEMBLE = make_batch([2, 0, 1, 1, 0, 2, 1], templates=3)
BATCHES = {"captions": CAPTIONS, "labels": LABELS, "ensemble": ENSEMBLE}


def computed(clip, batch, **settings):
    """The loss and every parameter's gradient."""
    clip.network.zero_grad()
    loss = accumulate_gradient(clip, batch, **settings)
    assert not loss.requires_grad
    return loss, [p.grad for p in clip.network.parameters()]


def plain(clip, batch, classes=None):
    """Twin: open_clip's forward and loss, every picture with a text of its own, in memory all at once."""
    network = clip.network
    network.zero_grad()
    images = network.encode_image(clip.normalised(batch.pixels), normalize=True)
    tokens = batch.tokens.view(-1, batch.templates, LENGTH)[batch.text_of]  # (n, templates, length)
    sentences = network.encode_text(tokens.flatten(0, 1), normalize=True)
    texts = normalize(sentences.view(len(batch), batch.templates, DIM).mean(dim=1), dim=-1)
    scale = network.logit_scale.exp()
    if classes is None:
        loss = ClipLoss()(images, texts, scale)
    else:
        logits = scale * images @ texts.T
        log_p = torch.stack([logits.log_softmax(dim=1), logits.T.log_softmax(dim=1)])
        n = len(classes)
        alike = [[j for j in range(n) if classes[j] == classes[i]] for i in range(n)]
        loss = -torch.stack([log_p[:, i, alike[i]].mean(dim=1) for i in range(n)]).mean()
    loss.backward()
    return loss.detach(), [p.grad for p in network.parameters()]


def assert_equal(a, b, limit=1e-12):
    """Losses and gradients, the latter as parts of the largest number in them."""
    torch.testing.assert_close(a[0], b[0], rtol=limit, atol=limit)
    assert [x is None for x in a[1]] == [x is None for x in b[1]]
    largest = max(float(x.abs().max()) for x in b[1] if x is not None)
    for x, y in zip(a[1], b[1], strict=True):
        if x is not None:
            assert float((x - y).abs().max()) <= limit * max(1, largest)


# ---- the gradient of the plain batch


@pytest.mark.parametrize("chunk_size", [0, 1, 3, 5, 7, 8])
@pytest.mark.parametrize("name", BATCHES)
def test_loss_and_gradients_are_those_of_open_clip(name, chunk_size):
    clip, batch = build(), BATCHES[name]
    assert_equal(computed(clip, batch, chunk_size=chunk_size), plain(clip, batch))
    assert clip.network.logit_scale.grad.abs() > 1e-3


@pytest.mark.parametrize("chunk_size", [0, 2])
@pytest.mark.parametrize("name", BATCHES)
def test_pictures_of_a_class_may_share_their_targets(name, chunk_size):
    clip, batch = build(), BATCHES[name]
    classes = torch.tensor([0, 1, 0, 2, 2, 0, 3])
    shared = computed(clip, batch, chunk_size=chunk_size, classes=classes)
    assert_equal(shared, plain(clip, batch, classes.tolist()))
    assert shared[0] != computed(clip, batch)[0]


@pytest.mark.parametrize("chunk_size", [0, 1, 2])
def test_one_text_for_all_pictures_and_one_pair_alone_are_batches_too(chunk_size):
    clip = build()
    for text_of, templates in (([0, 0, 0], 1), ([0, 0, 0], 2), ([0], 1), ([0], 2)):
        batch = make_batch(text_of, templates)
        assert_equal(computed(clip, batch, chunk_size=chunk_size), plain(clip, batch))


@pytest.mark.parametrize("name", BATCHES)
def test_in_float32_chunks_change_no_more_than_rounding(name):
    clip, batch = build(torch.float32), BATCHES[name]
    whole = computed(clip, batch)
    for chunk_size in (1, 3, 5):
        assert_equal(computed(clip, batch, chunk_size=chunk_size), whole, 1e-5)


def test_checkpointing_gives_the_same_gradient_whole_or_in_chunks():
    clip = build()
    expected = plain(clip, ENSEMBLE)
    clip.network.set_grad_checkpointing(True)
    for chunk_size in (0, 2):
        assert_equal(computed(clip, ENSEMBLE, chunk_size=chunk_size), expected)


@pytest.mark.parametrize("chunk_size", [0, 3])
def test_gradients_add_up(chunk_size):
    clip = build()
    _, once = computed(clip, CAPTIONS, chunk_size=chunk_size)
    once = [g.clone() for g in once]
    accumulate_gradient(clip, CAPTIONS, chunk_size=chunk_size)
    for parameter, gradient in zip(clip.network.parameters(), once, strict=True):
        torch.testing.assert_close(parameter.grad, 2 * gradient, rtol=0, atol=1e-12)


@pytest.mark.parametrize("chunk_size", [0, 3])
@pytest.mark.parametrize("side", ["pictures", "texts", "both"])
def test_a_fixed_tower_gets_no_gradient_and_the_other_the_same(side, chunk_size):
    clip = build()
    _, expected = plain(clip, CAPTIONS)
    names = [name for name, _ in clip.network.named_parameters()]
    fixed = {
        name
        for name in names
        if name != "logit_scale" and (side == "both" or name.startswith("visual.") == (side == "pictures"))
    }
    for name, parameter in clip.network.named_parameters():
        parameter.requires_grad_(name not in fixed)
    _, found = computed(clip, CAPTIONS, chunk_size=chunk_size)
    for name, a, b in zip(names, found, expected, strict=True):
        if name in fixed:
            assert a is None
        else:
            torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_the_mean_of_several_sentences_has_unit_length():
    clip = build()
    features = text_features(clip, ENSEMBLE.tokens, 3)
    torch.testing.assert_close(features.norm(dim=1), torch.ones(3, dtype=torch.float64))
    sentences = text_features(clip, ENSEMBLE.tokens, 1)
    torch.testing.assert_close(features[1], normalize(sentences[3:6].mean(dim=0), dim=0))


# ---- chance


@pytest.mark.parametrize("chunk_size", [1, 3])
def test_a_seed_augments_alike_whole_or_in_chunks(chunk_size):
    clip = build()
    whole = computed(clip, CAPTIONS, augment=True, seed=5)
    assert_equal(computed(clip, CAPTIONS, augment=True, seed=5, chunk_size=chunk_size), whole)
    assert computed(clip, CAPTIONS, augment=True, seed=6)[0] != whole[0] != computed(clip, CAPTIONS)[0]


def with_bert(folder):
    pytest.importorskip("transformers", reason="open_clip's HF text towers need transformers")
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", "vocab_size": END + 1, **sizes}))
    text = {"hf_model_name": str(folder), "hf_model_pretrained": False}
    return build(torch.float32, CustomTextCLIP, text=text)


@pytest.mark.parametrize("chunk_size", [0, 2])
@pytest.mark.parametrize("tower", ["short", "open_clip's", "BERT"])
def test_a_seed_drops_the_same_whatever_happened_before(tower, chunk_size, tmp_path):
    clip = {
        "short": lambda: build(vision={"patch_dropout": 0.5}),
        "open_clip's": lambda: build(vision=DROPPING),
        "BERT": lambda: with_bert(tmp_path),
    }[tower]()
    clip.network.train()
    first = computed(clip, CAPTIONS, seed=3, chunk_size=chunk_size)
    torch.rand(17)
    assert_equal(computed(clip, CAPTIONS, seed=3, chunk_size=chunk_size), first, 0)
    assert computed(clip, CAPTIONS, seed=4, chunk_size=chunk_size)[0] != first[0]


@pytest.mark.parametrize("chunk_size", [0, 2])
def test_the_random_numbers_of_others_are_left_alone(chunk_size):
    clip = build(vision=DROPPING)
    clip.network.train()
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    accumulate_gradient(clip, CAPTIONS, chunk_size=chunk_size)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("chunk_size", [0, 2])
@pytest.mark.parametrize("name", ["visual.proj", "visual.conv1.weight", "text_projection", "logit_scale"])
def test_with_dropout_the_gradient_is_the_slope_of_the_loss(name, chunk_size):
    clip = build(vision=DROPPING)
    clip.network.train()
    weight = clip.network.get_parameter(name)
    direction = torch.randn(weight.shape, dtype=weight.dtype, generator=torch.Generator().manual_seed(1))
    direction = direction / direction.norm()
    computed(clip, CAPTIONS, seed=9, chunk_size=chunk_size)
    slope = float((weight.grad * direction).sum())
    losses = []
    for step in (1e-5, -1e-5):
        with torch.no_grad():
            weight.add_(step * direction)
        losses.append(float(computed(clip, CAPTIONS, seed=9, chunk_size=chunk_size)[0]))
        with torch.no_grad():
            weight.sub_(step * direction)
    assert (losses[0] - losses[1]) / 2e-5 == pytest.approx(slope, rel=1e-6, abs=1e-8)


def with_batch_norms():
    """open_clip's ResNet, whose running statistics are not those of a batch of noise."""
    clip = build(vision={"layers": [1, 1, 1, 1], "width": 8, "head_width": 64, "image_size": 32})
    return clip, make_batch([0, 1, 2, 3, 4, 5], size=32)


@pytest.mark.parametrize("chunk_size", [0, 1, 2, 4])
def test_batch_norms_take_their_running_statistics_and_leave_them(chunk_size):
    clip, batch = with_batch_norms()
    clip.network.eval()
    expected = plain(clip, batch)
    clip.network.train()
    before = {name: value.clone() for name, value in clip.network.named_buffers()}
    assert_equal(computed(clip, batch, chunk_size=chunk_size), expected)
    assert all(torch.equal(value, before[name]) for name, value in clip.network.named_buffers())
    assert all(module.training for module in clip.network.modules())


def test_fixed_batch_norms_stay_fixed():
    clip, batch = with_batch_norms()
    clip.network.train()
    clip.network.visual.bn1.eval()
    computed(clip, batch, chunk_size=2)
    assert not clip.network.visual.bn1.training and clip.network.visual.bn2.training


# ---- bfloat16


@pytest.mark.parametrize("chunk_size", [0, 3])
@pytest.mark.parametrize("name", BATCHES)
def test_bf16_gives_nearly_the_loss_and_the_direction_of_float32(name, chunk_size):
    exact = computed(build(torch.float32), BATCHES[name])
    clip = build(torch.float32, precision="bf16")
    coarse = computed(clip, BATCHES[name], chunk_size=chunk_size)
    assert abs(coarse[0] - exact[0]) < 2e-2
    a, b = (torch.cat([g.flatten() for g in x[1]]) for x in (coarse, exact))
    assert a.dtype == torch.float32
    assert torch.cosine_similarity(a, b, dim=0) > 0.99
    assert not torch.equal(a, b)


# ---- shares of the loss


@settings(max_examples=50, deadline=None)
@given(
    n=st.integers(1, 9),
    cuts=st.lists(st.integers(0, 9), max_size=4),
    classes=st.none() | st.lists(st.integers(0, 3), min_size=9, max_size=9),
    seed=st.integers(0, 99),
)
def test_the_parts_of_the_loss_add_up_with_their_gradients(n, cuts, classes, seed):
    generator = torch.Generator().manual_seed(seed)
    images, texts = (
        normalize(torch.randn(n, 5, generator=generator, dtype=torch.float64), dim=1).requires_grad_() for _ in range(2)
    )
    scale = torch.tensor(14.3, dtype=torch.float64, requires_grad=True)
    classes = None if classes is None else torch.tensor(classes[:n])
    bounds = [0, *sorted(min(cut, n) for cut in cuts), n]
    whole = contrastive_loss(images, texts, scale, classes)
    parts = sum(contrastive_loss(images, texts, scale, classes, slice(a, b)) for a, b in pairwise(bounds))
    torch.testing.assert_close(parts, whole, rtol=0, atol=1e-12)
    inputs = images, texts, scale
    torch.testing.assert_close(
        torch.autograd.grad(parts, inputs), torch.autograd.grad(whole, inputs), rtol=0, atol=1e-12
    )
