import json
from contextlib import nullcontext

import open_clip
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip.coca_model import CoCa
from open_clip.loss import ClipLoss
from open_clip.model import CLIP, CustomTextCLIP
from safetensors.torch import load_file, save_file

from clipdemo.models import BUILT_IN_FOLDER
from clipdemo.towers import describe, encode_image, encode_text, is_plain_image_tower, is_plain_text_tower
from clipdemo.training.losses import contrastive_loss

DIM, LENGTH, END = 16, 12, 49  # of the features; of the context; the end-of-text token, the largest id
VISION = {"image_size": 16, "layers": 3, "width": 16, "head_width": 8, "patch_size": 8}
TEXT = {"context_length": LENGTH, "vocab_size": END + 1, "width": 16, "heads": 2, "layers": 3}
MIXED, CUT, EQUAL = (2, 12, 5, 3, 9, 2, 1), (12, 12, 12), (7, 7, 7, 7)  # tokens of each text, its end included


def build(kind=CLIP, vision=None, text=None, seed=0, **settings):
    """A tiny network whose every weight is random, biases, norms and layer scales included."""
    torch.manual_seed(seed)
    network = kind(DIM, VISION | (vision or {}), TEXT | (text or {}), **settings).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return network


def pictures(n, size=16, dtype=torch.float32):
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(1)).to(dtype)


def texts(*lengths, length=LENGTH, end=END):
    ids = torch.randint(1, end, (len(lengths), length), generator=torch.Generator().manual_seed(2))
    for row, n in zip(ids, lengths, strict=True):
        row[n - 1], row[n:] = end, 0
    return ids


def ours(network, images, tokens):
    features = encode_image(network, images), encode_text(network, tokens)
    return *features, contrastive_loss(*features, network.logit_scale.exp())


def theirs(network, images, tokens):
    features = network.encode_image(images, normalize=True), network.encode_text(tokens, normalize=True)
    return *features, ClipLoss()(*features, network.logit_scale.exp())


def gradients(network, loss):
    return torch.autograd.grad(loss, list(network.parameters()), allow_unused=True)


def assert_twins(network, images, tokens, limit=1e-9):
    """Features, loss and every parameter's gradient are open_clip's."""
    a, b = ours(network, images, tokens), theirs(network, images, tokens)
    for mine, other in zip(a, b, strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=limit)
    names = [name for name, _ in network.named_parameters()]
    for name, mine, other in zip(names, gradients(network, a[-1]), gradients(network, b[-1]), strict=True):
        assert (mine is None) == (other is None), name
        if other is not None:
            assert (mine - other).abs().max() <= limit, name


# ---- twins


PLAIN = {
    "gelu": {},
    "quick gelu": {"quick_gelu": True},
    "gelu by its tanh formula": {
        "vision": {"act_kwargs": {"approximate": "tanh"}},
        "text": {"act_kwargs": {"approximate": "tanh"}},
    },
    "layer scale": {"vision": {"ls_init_value": 0.3}, "text": {"ls_init_value": 0.5}},
    "norm after the pool": {"vision": {"final_ln_after_pool": True}, "text": {"final_ln_after_pool": True}},
    "norms with another epsilon": {"vision": {"norm_kwargs": {"eps": 0.1}}, "text": {"norm_kwargs": {"eps": 0.1}}},
    "no norm before the blocks": {"vision": {"no_ln_pre": True}},
    "fixed positions": {"vision": {"pos_embed_type": "sin_cos_2d"}},
    "projection with a bias": {"text": {"proj_bias": True}},
    "no projection of texts": {"text": {"proj_type": "none"}},
    "one block": {"vision": {"layers": 1}, "text": {"layers": 1}, "quick_gelu": True},
    "other perceptrons": {"vision": {"mlp_ratio": 2.5}, "text": {"mlp_ratio": 1.5}, "quick_gelu": True},
    "temperature in a row of one": {"nonscalar_logit_scale": True},
    "text tower as a module": {"kind": CustomTextCLIP, "quick_gelu": True},
    "text tower as a module, projection with a bias": {"kind": CustomTextCLIP, "text": {"proj_bias": True}},
}


@pytest.mark.parametrize("lengths", [MIXED, CUT, EQUAL, (2,), (1, 1)], ids=str)
@pytest.mark.parametrize("name", PLAIN)
def test_features_loss_and_gradients_are_those_of_open_clip(name, lengths):
    network = build(**PLAIN[name]).double()
    assert is_plain_image_tower(network.visual) and is_plain_text_tower(network)
    for parameter in network.parameters():
        parameter.requires_grad_()
    assert_twins(network, pictures(len(lengths), dtype=torch.float64), texts(*lengths))


@pytest.mark.parametrize("kind", [CLIP, CustomTextCLIP])
def test_checkpointing_changes_nothing(kind):
    network = build(kind, quick_gelu=True).double()
    images, tokens = pictures(len(MIXED), dtype=torch.float64), texts(*MIXED)
    plain = theirs(network, images, tokens)
    expected = gradients(network, plain[-1])
    network.set_grad_checkpointing(True)
    short = ours(network, images, tokens)
    torch.testing.assert_close(short, plain, rtol=0, atol=1e-9)
    torch.testing.assert_close(gradients(network, short[-1]), expected, rtol=0, atol=1e-9)
    with torch.no_grad():
        torch.testing.assert_close(ours(network, images, tokens), plain, rtol=0, atol=1e-9)


def test_the_built_in_base_reads_texts_as_open_clip_does():
    network, _, _ = open_clip.create_model_and_transforms(f"local-dir:{BUILT_IN_FOLDER}")
    network.double().eval()
    written = ["a chest", "", "A medical image of brain", "Axial CT image " * 60, "胸部 " * 10, "word " * 80]
    tokens = open_clip.get_tokenizer(f"local-dir:{BUILT_IN_FOLDER}")(written)
    assert tokens[:, -1].count_nonzero() == 2  # cut at the context length
    assert_twins(network, pictures(len(written), 72, torch.float64), tokens)


NETWORK = build(quick_gelu=True).double()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(0, END), min_size=LENGTH, max_size=LENGTH), min_size=1, max_size=5))
def test_any_table_of_tokens_is_read_as_open_clip_does(rows):
    """Also what no tokenizer makes: several ends, none, zeros in the middle."""
    tokens = torch.tensor(rows)
    with torch.no_grad():
        torch.testing.assert_close(
            encode_text(NETWORK, tokens), NETWORK.encode_text(tokens, normalize=True), rtol=0, atol=1e-12
        )


def test_patch_dropout_leaves_out_the_same_patches():
    network = build(vision={"patch_dropout": 0.5}, quick_gelu=True).double().train()
    images = pictures(5, dtype=torch.float64)
    torch.manual_seed(3)
    mine = encode_image(network, images)
    torch.manual_seed(3)
    torch.testing.assert_close(mine, network.encode_image(images, normalize=True), rtol=0, atol=1e-12)
    assert (mine - encode_image(network, images)).abs().max() > 1e-3


def test_a_text_does_not_depend_on_its_neighbours():
    tokens = texts(*MIXED)
    alone = torch.cat([encode_text(NETWORK, row[None]) for row in tokens])
    torch.testing.assert_close(encode_text(NETWORK, tokens), alone, rtol=0, atol=1e-12)


# ---- rounding


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("quick_gelu", [False, True], ids=["gelu", "quick gelu"])
def test_rounding_is_no_coarser_than_that_of_open_clip(quick_gelu, precision):
    """Distances of features and gradients from float64: ours within three times open_clip's own."""
    wide = {"width": 64, "layers": 4}
    network = build(vision=wide | {"head_width": 16}, text=wide | {"heads": 4}, quick_gelu=quick_gelu)
    lengths = MIXED * 3
    images, tokens = pictures(len(lengths)), texts(*lengths)

    def computed(run, dtype, cast):
        with cast:
            images_, texts_, _ = run(network.to(dtype), images.to(dtype), tokens)
        loss = contrastive_loss(images_.to(dtype), texts_.to(dtype), network.logit_scale.exp())
        found = images_, texts_, *gradients(network, loss)
        return [x.detach().double() for x in found]

    exact = computed(theirs, torch.float64, nullcontext())
    cast = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16")
    mine, other = (computed(run, torch.float32, cast) for run in (ours, theirs))
    sizes = [x.norm() for x in exact]
    distances = [
        [float((a - b).norm() / size) for a, b, size in zip(x, exact, sizes, strict=True)] for x in (mine, other)
    ]
    for part in (slice(0, 1), slice(1, 2), slice(2, None)):  # pictures, texts, the gradients together
        assert sum(distances[0][part]) <= 3 * sum(distances[1][part])
    assert max(distances[1]) < (0.2 if precision == "bf16" else 1e-3)


# ---- the weights are open_clip's


@pytest.mark.parametrize("kind", [CLIP, CustomTextCLIP])
def test_weights_go_to_open_clip_and_back(kind, tmp_path):
    network = build(kind, quick_gelu=True, seed=5)
    images, tokens = pictures(3), texts(4, 2, 12)
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    ours(network, images, tokens)[-1].backward()
    optimizer.step()
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    fresh = build(kind, quick_gelu=True, seed=6)
    fresh.load_state_dict(load_file(tmp_path / "weights.safetensors"))  # strict
    torch.testing.assert_close(ours(network, images, tokens), theirs(fresh, images, tokens), rtol=0, atol=1e-6)
    back = build(kind, quick_gelu=True, seed=7)
    back.load_state_dict(fresh.state_dict())
    assert all(map(torch.equal, ours(back, images, tokens), ours(network, images, tokens)))


# ---- towers of another make


POOLED = {"attentional_pool": True, "attn_pooler_heads": 2, "attn_pooler_queries": 3}
OTHER_IMAGE_TOWERS = {
    "a ResNet": ({"layers": [1, 1, 1, 1], "width": 8, "head_width": 64, "image_size": 32}, "ModifiedResNet"),
    "a ViT of timm's": ({"timm_model_name": "test_vit", "image_size": 160}, "TimmModel"),
    "a ResNet of timm's": ({"timm_model_name": "test_resnet", "timm_proj": "mlp", "image_size": 32}, "TimmModel"),
    "an attentional pool": (POOLED, "VisionTransformer"),
    "two attentional pools": (POOLED | {"attentional_pool": "parallel"}, "VisionTransformer"),
    "the mean of all patches": ({"pool_type": "avg", "final_ln_after_pool": True}, "VisionTransformer"),
    "blocks of another kind": ({"qk_norm": True}, "VisionTransformer"),
}
OTHER_TEXT_TOWERS = {
    "every token sees all": (CLIP, {"no_causal_mask": True}, "CLIP"),
    "every token sees all, as a module": (CustomTextCLIP, {"no_causal_mask": True}, "TextTransformer"),
    "read out at the last token": (CustomTextCLIP, {"pool_type": "last"}, "TextTransformer"),
    "read out at the first token": (CLIP, {"pool_type": "first"}, "CLIP"),
    "read out at a token of its own": (CustomTextCLIP, {"pool_type": "eos", "eos_id": END}, "TextTransformer"),
    "a class token": (CustomTextCLIP, {"embed_cls": True}, "TextTransformer"),
    "blocks of another kind": (CLIP, {"scale_fc": True}, "CLIP"),
}


def assert_same(a, b, network):
    assert torch.equal(a, b)
    for mine, other in zip(gradients(network, a[:, 0].sum()), gradients(network, b[:, 0].sum()), strict=True):
        assert (mine is None and other is None) or torch.equal(mine, other)


@pytest.mark.parametrize("name", OTHER_IMAGE_TOWERS)
def test_another_image_tower_runs_open_clips_own_forward(name):
    vision, make = OTHER_IMAGE_TOWERS[name]
    network = build(vision=vision)
    images = pictures(3, network.visual.image_size[0] if name != "a ResNet" else 32)
    assert not is_plain_image_tower(network.visual)
    assert describe(network) == f"image tower: open_clip’s own forward ({make}); text tower: short and fused"
    assert_same(encode_image(network, images), network.encode_image(images, normalize=True), network)
    torch.testing.assert_close(
        encode_text(network, texts(*MIXED)), network.encode_text(texts(*MIXED), normalize=True), rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("name", OTHER_TEXT_TOWERS)
def test_another_text_tower_runs_open_clips_own_forward(name):
    kind, text, make = OTHER_TEXT_TOWERS[name]
    network = build(kind, text=text)
    assert not is_plain_text_tower(network)
    assert describe(network) == f"image tower: short and fused; text tower: open_clip’s own forward ({make})"
    tokens = texts(*MIXED)
    assert_same(encode_text(network, tokens), network.encode_text(tokens, normalize=True), network)


def test_a_text_tower_of_hugging_face_runs_as_it_is(tmp_path):
    """As in BiomedCLIP: BERT, whose end-of-text token is not its largest."""
    pytest.importorskip("transformers", reason="open_clip's HF text towers need transformers")
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert", "vocab_size": 50, **sizes}))
    text = {
        "hf_model_name": str(tmp_path),
        "hf_model_pretrained": False,
        "hf_pooler_type": "cls_last_hidden_state_pooler",
    }
    network = build(CustomTextCLIP, text=text)
    assert describe(network) == "image tower: short and fused; text tower: open_clip’s own forward (HFTextEncoder)"
    tokens = texts(*MIXED)
    assert_same(encode_text(network, tokens), network.encode_text(tokens, normalize=True), network)


def test_plain_towers_are_said_to_be_short_and_fused():
    assert describe(build()) == "image tower: short and fused; text tower: short and fused"


@pytest.fixture
def coca():
    torch.manual_seed(0)
    text = TEXT | {"embed_cls": True, "output_tokens": True}
    return CoCa(DIM, TEXT | {"attn_pooler_heads": 2}, text, VISION | POOLED | {"output_tokens": True}).eval()


def test_coca_reads_texts_as_it_does(coca):
    tokens = texts(3, 12, 5)
    torch.testing.assert_close(encode_text(coca, tokens), coca.encode_text(tokens, normalize=True), rtol=0, atol=1e-6)


def test_coca_sees_pictures_as_it_does(coca):
    images = pictures(3)
    torch.testing.assert_close(encode_image(coca, images), coca.encode_image(images, normalize=True), rtol=0, atol=1e-6)
