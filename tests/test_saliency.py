import copy
import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from statistics import fmean

import numpy as np
import pytest
import torch
from open_clip.model import CLIP, CustomTextCLIP
from PIL import Image

from benchmarks.saliency import TINY_TEXT, TINY_VISION, mass_ratio, plates, pointed, shapes, taught
from clipdemo import saliency
from clipdemo.errors import BadSettings, ModelError
from clipdemo.images import fit_square
from clipdemo.models import Clip, open_model
from clipdemo.progress import finish
from clipdemo.saliency import heat_map, occlusion_map, overlaid, rank_correlation, sanity
from clipdemo.sources.bodyparts import BODY_PARTS

TIMM = {"timm_model_name": "test_convnext", "timm_model_pretrained": False, "timm_pool": "avg", "timm_proj": "linear"}
VISIONS = {
    **TINY_VISION,
    "read out as a mean": {**TINY_VISION["vit"], "pool_type": "avg"},
    "attentional pool": {**TINY_VISION["vit"], "attentional_pool": True, "attn_pooler_heads": 4},
    "timm": {**TIMM, "image_size": 64},
}


def untaught(vision, kind=CLIP):
    """Random weights, larger than those that open_clip begins with: else the picture would hardly matter."""
    torch.manual_seed(0)
    network = kind(16, vision, TINY_TEXT).eval()
    with torch.no_grad():
        for parameter in network.visual.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    for norm in (m for m in network.visual.modules() if isinstance(m, torch.nn.BatchNorm2d)):
        torch.nn.init.uniform_(norm.weight, 0.5, 1.5)  # open_clip's are born zero, and close whole blocks
    return Clip(network, None, 64, (0.5,) * 3, (0.5,) * 3, torch.device("cpu"))


def unit(*shape, seed=0):
    vectors = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def state(clip):
    """Everything that another visitor of the same network could notice."""
    digest = hashlib.sha256()
    for name, tensor in clip.network.state_dict().items():
        digest.update(name.encode() + tensor.numpy().tobytes())
    modules = [(m.training, len(m._forward_hooks), len(m._backward_hooks)) for m in clip.network.modules()]
    return digest.hexdigest(), modules, [(p.requires_grad, p.grad) for p in clip.network.parameters()]


def others(texts, k):
    return np.delete(texts, k, axis=0)


@pytest.fixture(scope="module")
def builtin():
    """(model, texts, plantings) as the others."""
    clip = open_model()
    texts = clip.encode_classes(BODY_PARTS)
    return clip, texts, list(plates(clip, texts, 12, seed=3))


@pytest.fixture(scope="module")
def resnet():
    clip, texts = taught("resnet", steps=60)
    return clip, texts, list(shapes(24, seed=4))


@pytest.fixture(scope="module")
def vit():
    clip, texts = taught("vit", steps=150)
    return clip, texts, list(shapes(24, seed=4))


@pytest.fixture(params=["vit", "resnet"])
def pairs(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(params=["builtin", "resnet"])
def planted(request):
    return request.getfixturevalue(request.param)


PICTURE = next(shapes(1, seed=5)).pixels


# ---- planted objects


def maps_of(planted, absent=False):
    """(map, box) of each planting: for the text of what is asked for, or of something that is not there."""
    clip, texts, plantings = planted
    for p in plantings:
        k = next(k for k in range(len(texts)) if k not in p.present) if absent else p.wanted
        yield heat_map(clip, p.pixels, texts[k], others(texts, k)), p.box


def test_the_heat_lies_on_the_planted_object(planted):
    found = list(maps_of(planted))
    boxes = [box for _, box in found]
    assert fmean(mass_ratio(*pair) for pair in found) > 1.5
    chance = fmean(side * side / planted[0].image_size ** 2 for *_, side in boxes)
    assert fmean(pointed(*pair) for pair in found) > chance + 0.25


def test_less_heat_lies_on_it_for_a_text_that_is_not_there(pairs):
    """Of pairs only: a lone plate is the only thing that any text can be about, and the map says so."""
    there, absent = list(maps_of(pairs)), list(maps_of(pairs, absent=True))
    assert fmean(mass_ratio(*pair) for pair in there) > 1.2 * fmean(mass_ratio(*pair) for pair in absent)
    assert fmean(pointed(*pair) for pair in there) > fmean(pointed(*pair) for pair in absent)


def test_each_of_two_things_in_a_picture_is_found_by_its_own_name(pairs):
    clip, texts, plantings = pairs
    own, other = [], []
    for p in plantings:
        wanted, beside = (heat_map(clip, p.pixels, texts[k]) for k in p.present)
        own.append(mass_ratio(wanted, p.box))
        other.append(mass_ratio(beside, p.box))
    assert fmean(own) > 2 * fmean(other)


def test_it_agrees_with_occlusion_more_than_shuffled_weights_do(planted):
    clip, texts, plantings = planted
    agreement = []
    for seed, p in enumerate(plantings[:6]):
        question = texts[p.wanted], others(texts, p.wanted)
        checked = finish(sanity(clip, p.pixels, *question, seed=seed, shuffles=1))
        truth = finish(occlusion_map(clip, p.pixels, *question))
        agreement.append((rank_correlation(checked.heat, truth), rank_correlation(checked.shuffled, truth)))
        assert pointed(truth, p.box) or len(p.present) > 1
    true, shuffled = np.mean(agreement, axis=0)
    assert true > shuffled + 0.1


# ---- what the sums are


@pytest.mark.parametrize("against", [None, 3], ids=["alone", "against"])
@pytest.mark.parametrize("name", VISIONS)
def test_attributions_add_up_to_what_the_picture_scores_above_a_blank_one(name, against, monkeypatch):
    """The axiom of completeness (Sundararajan et al. 2017), with the scores as the whole model gives them."""
    monkeypatch.setattr(saliency, "POINTS", 256)  # the sum nears the integral
    clip, text = untaught(VISIONS[name], CustomTextCLIP if name == "timm" else CLIP), unit(16)
    rest = None if against is None else unit(against, 16, seed=1)
    blank = np.broadcast_to(PICTURE.mean(axis=(0, 1)), PICTURE.shape)
    with torch.no_grad():
        features = clip.image_features(np.stack([PICTURE, blank]).astype(np.float32)).double().numpy()
    scores = clip.logit_scale * features @ text
    if against is not None:
        scores -= np.log(np.exp(clip.logit_scale * features @ rest.T).sum(axis=1))
    assert abs(scores[0] - scores[1]) > 0.005  # else there is nothing to add up
    total = saliency._attributions(clip, clip.network.visual, PICTURE, text, rest).sum()
    assert total == pytest.approx(scores[0] - scores[1], rel=0.02)


def test_occlusion_of_a_model_that_sees_one_corner_only_is_hot_there(monkeypatch):
    clip = untaught(TINY_VISION["vit"])

    def corner(_, pixels):
        bright = torch.as_tensor(pixels)[:, :16, :16].float().mean(dim=(1, 2, 3)) / 255
        return torch.stack([bright, (1 - bright**2).sqrt()], dim=1)

    monkeypatch.setattr(Clip, "image_features", corner)
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[:16, :16] = 255
    heat = finish(occlusion_map(clip, pixels, np.array([1, 0], np.float32), grid=8))
    assert pointed(heat, (0, 0, 16))
    assert heat[:16, :16].min() > 0.3 and heat[32:].max() == 0 and heat[:, 32:].max() == 0


@pytest.mark.parametrize(("size", "grid"), [(72, 12), (64, 7), (5, 5), (224, 2)])
def test_every_pixel_is_hidden_by_some_window(size, grid):
    windows = saliency._windows(size, grid)
    assert windows.shape == (grid * grid, size, size)
    assert windows.sum(axis=0).min() >= 1 and windows.any(axis=(1, 2)).all()


def test_occlusion_tells_how_far_it_is():
    steps, activity = [], occlusion_map(untaught(TINY_VISION["vit"]), PICTURE, unit(16), grid=7)
    for progress in activity:
        steps.append((progress.done, progress.total))
        assert not torch.is_inference_mode_enabled()  # left on, it would reach whoever is watching
    assert steps == [(32, 49), (49, 49)]


# ---- many visitors, one network


@pytest.mark.parametrize("name", VISIONS)
@pytest.mark.parametrize("grad", [True, False], ids=["weights with gradients", "frozen weights"])
def test_nothing_of_the_network_is_touched(name, grad):
    clip = untaught(VISIONS[name], CustomTextCLIP if name == "timm" else CLIP)
    clip.network.requires_grad_(grad)
    before = state(clip)
    heat_map(clip, PICTURE, unit(16))
    finish(occlusion_map(clip, PICTURE, unit(16), grid=3))
    finish(sanity(clip, PICTURE, unit(16), shuffles=1))
    assert state(clip) == before


def test_many_threads_at_one_network_get_the_maps_that_one_would(planted):
    clip, texts, plantings = planted
    asked = [(p.pixels, texts[k], others(texts, k)) for p in plantings[:4] for k in (0, 1, 2)]
    alone = [heat_map(clip, *question) for question in asked]
    with ThreadPoolExecutor(8) as pool:
        checks = [pool.submit(finish, sanity(clip, *question, seed=1, shuffles=1)) for question in asked[:4]]
        together = list(pool.map(lambda question: heat_map(clip, *question), asked))
    np.testing.assert_allclose(np.stack(together), np.stack(alone), atol=1e-4)
    np.testing.assert_allclose(np.stack([c.result().heat for c in checks]), np.stack(alone[:4]), atol=1e-4)
    assert len({heat.tobytes() for heat in alone}) > 6  # else any mix-up would pass


def test_it_works_where_gradients_are_off():
    clip = untaught(TINY_VISION["resnet"])
    expected = heat_map(replace(clip), PICTURE, unit(16))
    with torch.inference_mode():
        clip.normalised(PICTURE[None])  # keeps the moments as tensors of this mode
        np.testing.assert_array_equal(heat_map(clip, PICTURE, unit(16)), expected)
    np.testing.assert_array_equal(heat_map(clip, PICTURE, unit(16)), expected)


# ---- shuffled weights


def test_same_seed_same_answer_and_another_seed_another():
    clip = untaught(TINY_VISION["vit"])
    first, again, other = (finish(sanity(clip, PICTURE, unit(16), seed=s)) for s in (3, 3, 4))
    np.testing.assert_array_equal(first.shuffled, again.shuffled)
    assert first.correlations == again.correlations != other.correlations
    assert len(set(first.correlations)) == 3 and first.correlation == fmean(first.correlations)


@pytest.mark.parametrize("kind", TINY_VISION)
def test_shuffling_keeps_each_tensors_numbers_and_moves_them(kind):
    visual = untaught(TINY_VISION[kind]).network.visual
    before, after = visual.state_dict(), saliency._shuffled(visual, 0).state_dict()
    for name, tensor in before.items():
        assert torch.equal(tensor.flatten().sort().values, after[name].flatten().sort().values), name
        if tensor.ndim > 1:
            assert not torch.equal(tensor, after[name]), name


def test_rank_correlation_knows_order_only_and_says_nothing_of_flat_maps():
    a = np.arange(9.0).reshape(3, 3)
    assert rank_correlation(a, a**3) == pytest.approx(1) and rank_correlation(a, -a) == pytest.approx(-1)
    assert rank_correlation(a, np.zeros((3, 3))) == 0


# ---- what is refused


def test_a_tower_without_a_known_grid_is_refused_by_name():
    clip = untaught(TINY_VISION["vit"])
    network = copy.deepcopy(clip.network)
    network.visual = torch.nn.Flatten().eval()
    with pytest.raises(ModelError, match="image tower Flatten"):
        heat_map(replace(clip, network=network), PICTURE, unit(16))


def test_a_timm_tower_of_tokens_is_refused_by_name():
    vision = {**TIMM, "timm_model_name": "test_vit", "timm_pool": "token", "image_size": 160}
    clip = replace(untaught(vision, CustomTextCLIP), image_size=160)
    with pytest.raises(ModelError, match="TimmModel .VisionTransformer"):
        heat_map(clip, np.zeros((160, 160, 3), np.uint8), unit(16))


def test_a_network_that_trains_is_refused():
    clip = untaught(TINY_VISION["resnet"])
    clip.network.train()
    before = state(clip)
    with pytest.raises(ModelError, match="training mode"):
        heat_map(clip, PICTURE, unit(16))
    assert state(clip) == before


def test_pixels_and_numbers_that_cannot_be_are_refused():
    clip, good = untaught(TINY_VISION["vit"]), PICTURE
    for pixels in (good[:32], good.astype(np.float32), good[None]):
        with pytest.raises(BadSettings, match="uint8 of shape"):
            heat_map(clip, pixels, unit(16))
    for grid in (1, 65):
        with pytest.raises(BadSettings, match=f"grid = {grid}"):
            finish(occlusion_map(clip, good, unit(16), grid=grid))
    with pytest.raises(BadSettings, match="shuffles = 0"):
        finish(sanity(clip, good, unit(16), shuffles=0))
    with pytest.raises(BadSettings, match="strength = 2"):
        overlaid(Image.new("RGB", (8, 8)), np.zeros((4, 4), np.float32), 2)


# ---- laid over the picture


def test_a_map_is_float32_between_zero_and_one():
    heat = heat_map(untaught(TINY_VISION["vit"]), PICTURE, unit(16))
    assert heat.shape == (64, 64) and heat.dtype == np.float32 and heat.min() >= 0 and heat.max() == 1


def test_a_uniform_picture_has_no_heat():
    flat = np.full((64, 64, 3), 128, np.uint8)
    assert heat_map(untaught(TINY_VISION["vit"]), flat, unit(16)).max() == 0


@pytest.mark.parametrize("size", [(300, 200), (200, 300), (72, 72), (1000, 21), (50, 51), (40, 30)])
def test_the_map_lies_on_what_fit_square_cut_out(size):
    """A spot in the picture, found by `fit_square`, is where the overlay is hottest."""
    rows, columns = np.indices(size[::-1])
    x, y = size[0] / 2 + min(size) / 4, size[1] / 2 - min(size) / 4
    spot = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (min(size) / 8) ** 2)
    grey = Image.fromarray(np.rint(255 * spot).astype(np.uint8)).convert("RGB")
    heat = fit_square(grey, 72)[..., 0].astype(np.float32) / 255
    white = Image.new("RGB", size, "white")
    covered = 255 - np.asarray(overlaid(white, heat, 1.0)).astype(float)[..., 2]  # the hot end has no blue
    left, top, right, bottom = saliency._seen(size, 72)
    inside = np.zeros(size[::-1], bool)
    inside[top:bottom, left:right] = True
    assert right - left == bottom - top == min(size)
    weight = covered * inside
    assert (weight * columns).sum() / weight.sum() == pytest.approx(x, abs=max(1, min(size) / 40))
    assert (weight * rows).sum() / weight.sum() == pytest.approx(y, abs=max(1, min(size) / 40))


def test_what_was_not_seen_is_dark_and_what_is_cold_stays_as_it_was():
    picture = Image.new("RGB", (90, 30), (200, 100, 60))
    out = np.asarray(overlaid(picture, np.zeros((8, 8), np.float32)))
    assert (out[:, 30:60] == (200, 100, 60)).all()
    assert (out[:, :30] == (70, 35, 21)).all() and (out[:, 60:] == (70, 35, 21)).all()


def test_strength_is_how_much_the_hottest_place_is_covered():
    picture, heat = Image.new("RGB", (8, 8)), np.ones((8, 8), np.float32)
    full, half, none = (np.asarray(overlaid(picture, heat, s))[0, 0].astype(int) for s in (1, 0.5, 0))
    assert tuple(full) == (253, 231, 37)  # the hot end of Viridis
    assert np.abs(half - full / 2).max() <= 1 and not none.any()


def test_colours_grow_lighter_all_the_way():
    """So that a map can be read in grey and by the colour-blind."""
    colours = np.frombuffer(saliency._palette(), np.uint8).reshape(256, 3)
    luminance = (colours / 255) ** 2.2 @ (0.2126, 0.7152, 0.0722)
    assert len(colours) == 256 and (np.diff(luminance) > -1e-3).all() and luminance[-1] - luminance[0] > 0.6
