"""Where a model looked: which parts of a picture speak for a text, and whether such a map can be believed.

`heat_map` is the fast answer: integrated gradients (Sundararajan et al. 2017) where the image tower has just become a
grid, on the straight way from a blank picture of the same mean colour to this one. `occlusion_map` is the slow truth
that needs no gradient (Zeiler and Fergus 2014): it hides a place and asks again. `sanity` draws the same map with a
network whose weights were shuffled (Adebayo et al. 2018): a map that looks the same then shows edges, not the model.

On validation plantings (small networks that know coloured shapes, and the built-in base) integrated gradients lay on
the object more than Grad-CAM, HiResCAM, LayerCAM, gradient x input, LeGrad and Chefer's relevance did;
`python -m benchmarks.saliency` measures what remains on plantings that chose nothing.

A model is shared by many visitors at once, so nothing is hooked to it, switched in it or written into it. Gradients are
taken to features, never to weights; `torch.func.functional_call` would swap the weights under other threads.

A map says what moved this model's score, not what is in the picture, and is no evidence for a diagnosis. Where only one
thing is to be seen, it is hot for any text, present or not. Heights of two maps cannot be compared.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageFilter

from clipdemo.errors import BadSettings, ModelError
from clipdemo.models import Clip
from clipdemo.progress import Activity, Progress

if TYPE_CHECKING:
    from torch import Tensor, nn

COLOUR_SCALE = "Viridis"  # uniform in lightness, so the colour-blind and grey printers see it; a legend's name for it
UNSEEN = 0.35  # of its brightness is left to what the model was not shown
POINTS = 16  # on the way from blank to picture; validation plantings gave the same with 8
GRID = 12  # places a side that are hidden in turn
_BATCH = 32  # hidden pictures between two reports


def heat_map(clip: Clip, pixels: np.ndarray, text: np.ndarray, against: np.ndarray | None = None) -> np.ndarray:
    """float32 (size, size) in [0, 1]: how much each place speaks for the text. All zero where none does.

    `pixels` is uint8 (size, size, 3) as `images.fit_square` gives it, `text` a float32 (dim,) of unit length. With
    `against`, float32 (m, dim), it is what speaks for the text rather than for those: the text's logit less the
    log-sum-exp of theirs. Raises `ModelError` for an image tower that it does not know, and while a network trains.
    """
    _check(clip, pixels)
    return _heat(_attributions(clip, clip.network.visual, pixels, text, against), clip.image_size)


def occlusion_map(
    clip: Clip, pixels: np.ndarray, text: np.ndarray, against: np.ndarray | None = None, grid: int = GRID
) -> Activity[np.ndarray]:
    """As `heat_map`, of any tower: how far the score falls when a place is hidden behind a blurred picture.

    There are `grid` x `grid` places, each two steps wide; a pixel has the mean of the places that it lies in.
    """
    _check(clip, pixels)
    if not 2 <= grid <= clip.image_size:
        raise BadSettings(f"grid = {grid}: an occlusion map takes 2 to {clip.image_size} places a side")
    windows = _windows(clip.image_size, grid)
    blurred = np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(clip.image_size / 8)))
    whole = _scores_of(clip, pixels[None], text, against)
    falls = np.zeros(len(windows), np.float32)
    for first in range(0, len(windows), _BATCH):
        batch = slice(first, first + _BATCH)
        hidden = np.where(windows[batch, :, :, None], blurred, pixels)
        falls[batch] = whole - _scores_of(clip, hidden, text, against)
        yield Progress(stage="occlusion", done=min(first + _BATCH, len(windows)), total=len(windows))
    return _heat(np.tensordot(falls, windows, (0, 0)) / windows.sum(axis=0), clip.image_size)


@dataclass(frozen=True)
class Sanity:
    """A heat map beside one of the same network with shuffled weights; both float32 (size, size) in [0, 1].

    `correlations` are Spearman's, of the map with that of each shuffle. Near 0 the map depends on what the model has
    learned; near 1 it would look the same without. Nothing follows from a low one about whether the map is right.
    """

    heat: np.ndarray
    shuffled: np.ndarray  # of the first shuffle
    correlations: tuple[float, ...]

    @property
    def correlation(self) -> float:
        """The mean over shuffles."""
        return fmean(self.correlations)


def sanity(
    clip: Clip,
    pixels: np.ndarray,
    text: np.ndarray,
    against: np.ndarray | None = None,
    seed: int = 0,
    shuffles: int = 3,
) -> Activity[Sanity]:
    """The heat map and what is left of it when the image tower's weights are shuffled, `shuffles` times.

    A private copy is shuffled, all layers at once, each weight among those of its own tensor. The same seed gives the
    same answer. Takes the memory of a second image tower. Raises as `heat_map`.
    """
    if shuffles < 1:
        raise BadSettings(f"shuffles = {shuffles}: a sanity check takes 1 or more")
    heat = heat_map(clip, pixels, text, against)
    maps = []
    for i in range(shuffles):
        visual = _shuffled(clip.network.visual, seed * shuffles + i)
        maps.append(_heat(_attributions(clip, visual, pixels, text, against), clip.image_size))
        yield Progress(stage="sanity", done=i + 1, total=shuffles)
    return Sanity(heat, maps[0], tuple(rank_correlation(heat, other) for other in maps))


def rank_correlation(heat: np.ndarray, other: np.ndarray) -> float:
    """Spearman's correlation of two maps of one shape, in [-1, 1]; 0 where either is flat and so has no ranks."""
    from scipy.stats import spearmanr

    if np.ptp(heat) == 0 or np.ptp(other) == 0:
        return 0.0
    return float(spearmanr(heat, other, axis=None).statistic)


def overlaid(picture: Image.Image, heat: np.ndarray, strength: float = 0.7) -> Image.Image:
    """The whole picture, RGB of its own size, with the map on the centre square that `fit_square` cut out.

    Colour covers as far as it is hot: `strength`, in [0, 1], at the hottest place. What the model has not seen is dark.
    """
    if not 0 <= strength <= 1:
        raise BadSettings(f"strength = {strength}: a map covers the picture by 0 to 1")
    picture = picture.convert("RGB")
    box = _seen(picture.size, len(heat))
    side = (box[2] - box[0], box[3] - box[1])
    levels = Image.fromarray(np.rint(heat * 255).astype(np.uint8)).resize(side, Image.Resampling.BILINEAR)
    colours = levels.copy()
    colours.putpalette(_palette())
    out = picture.point(lambda value: value * UNSEEN)
    out.paste(picture.crop(box), box)
    out.paste(colours.convert("RGB"), box, levels.point(lambda value: value * strength))
    return out


def _seen(size: tuple[int, int], fitted: int) -> tuple[int, int, int, int]:
    """The (left, top, right, bottom) of a picture that `fit_square(picture, fitted)` shows."""
    short = min(size)
    corner = []
    for side in size:
        scaled = max(fitted, int(fitted * side / short))
        corner.append(min(round(round((scaled - fitted) / 2) * side / scaled), side - short))
    left, top = corner
    return left, top, left + short, top + short


@cache
def _palette() -> bytes:
    """256 colours, three bytes each."""
    from plotly.colors import sample_colorscale

    colours = sample_colorscale(COLOUR_SCALE, 256, colortype="tuple")
    return np.rint(np.array(colours) * 255).astype(np.uint8).tobytes()


# ---- towers, cut in two


@dataclass(frozen=True)
class _Tower:
    """An image tower in two parts, cut where the picture has just become a grid of features."""

    start: Callable[[Tensor], Tensor]  # pictures (n, 3, size, size) -> features
    rest: Callable[[Tensor], Tensor]  # features -> (n, dim), of any length
    cells: Callable[[Tensor], Tensor]  # one picture's features -> (rows, columns), summed over what is in a cell


def _tower(visual: nn.Module) -> _Tower:
    from open_clip.modified_resnet import ModifiedResNet
    from open_clip.timm_model import TimmModel
    from open_clip.transformer import VisionTransformer

    cut = {VisionTransformer: _transformer, ModifiedResNet: _resnet, TimmModel: _timm}.get(type(visual))
    if cut is None:
        raise _unknown(type(visual).__name__)
    return cut(visual)


def _unknown(name: str) -> ModelError:
    return ModelError(
        f"image tower {name}: heat maps know open_clip's VisionTransformer and ModifiedResNet, and TimmModel where it "
        "ends in a grid; an occlusion map works with any tower"
    )


def _transformer(visual: nn.Module) -> _Tower:
    rows, columns = visual.grid_size

    def rest(tokens: Tensor) -> Tensor:
        pooled, _ = visual._pool(visual.transformer(tokens))
        return pooled if visual.proj is None else pooled @ visual.proj

    return _Tower(visual._embeds, rest, lambda tokens: tokens[-rows * columns :].sum(dim=-1).view(rows, columns))


def _resnet(visual: nn.Module) -> _Tower:
    """Cut after the second stage: of all stages, validation plantings were found best there, and least at the last."""

    def start(images: Tensor) -> Tensor:
        return visual.layer2(visual.layer1(visual.stem(images)))

    def rest(features: Tensor) -> Tensor:
        return visual.attnpool(visual.layer4(visual.layer3(features)))

    return _Tower(start, rest, lambda features: features.sum(dim=0))


def _timm(visual: nn.Module) -> _Tower:
    """Cut before the pooling, the only place that all of timm's convolutional networks name alike."""
    trunk = visual.trunk
    channel = -1 if getattr(trunk, "output_fmt", "NCHW") == "NHWC" else 0

    def start(images: Tensor) -> Tensor:
        features = trunk.forward_features(images)
        if features.ndim != 4:
            raise _unknown(f"TimmModel ({type(trunk).__name__}, features of shape {tuple(features.shape)})")
        return features

    return _Tower(
        start,
        lambda features: visual.head(trunk.forward_head(features)),
        lambda features: features.sum(dim=channel),
    )


# ---- scores and what they are due to


def _check(clip: Clip, pixels: np.ndarray) -> None:
    wanted = (clip.image_size, clip.image_size, 3)
    if pixels.shape != wanted or pixels.dtype != np.uint8:
        raise BadSettings(
            f"pixels: {pixels.dtype} of shape {pixels.shape}, where this model takes uint8 of shape {wanted}: "
            "make them with images.fit_square"
        )
    if clip.network.visual.training:  # its norms would note our blank pictures
        raise ModelError("the network is in training mode: call eval() on it, or open another copy")


def _attributions(
    clip: Clip, visual: nn.Module, pixels: np.ndarray, text: np.ndarray, against: np.ndarray | None
) -> np.ndarray:
    """float32 (rows, columns), signed: each cell's share of score(picture) - score(blank), in logits."""
    import torch

    tower = _tower(visual)
    blank = np.broadcast_to(pixels.mean(axis=(0, 1)), pixels.shape)
    with torch.inference_mode(False), torch.enable_grad():  # the caller may be in a mode without gradients
        with torch.no_grad():
            picture, blank = tower.start(clip.normalised(np.stack([pixels, blank]).astype(np.float32))).split(1)
        step = picture - blank
        shares = (torch.arange(POINTS, device=step.device) + 0.5) / POINTS
        way = (blank + shares.view(-1, *[1] * (step.ndim - 1)) * step).requires_grad_()
        score = _scores(tower.rest(way), clip.logit_scale, text, against).sum()
        (slopes,) = torch.autograd.grad(score, [way])
        return tower.cells(step[0] * slopes.mean(dim=0)).float().cpu().numpy()


def _scores(features: Tensor, scale: float, text: np.ndarray, against: np.ndarray | None) -> Tensor:
    """float32 (n,): the text's logit, less the log-sum-exp of the others' where there are any."""
    import torch
    from torch.nn import functional

    features = scale * functional.normalize(features.float(), dim=-1)
    own = features @ torch.tensor(text, device=features.device)
    if against is None or not len(against):
        return own
    return own - torch.logsumexp(features @ torch.tensor(against, device=features.device).T, dim=-1)


def _scores_of(clip: Clip, pixels: np.ndarray, text: np.ndarray, against: np.ndarray | None) -> np.ndarray:
    import torch

    with torch.inference_mode():
        return _scores(clip.image_features(np.array(pixels)), clip.logit_scale, text, against).cpu().numpy()


def _heat(attributions: np.ndarray, size: int) -> np.ndarray:
    """What speaks for the text, at the size of the picture; the hottest place is 1."""
    positive = Image.fromarray(np.maximum(attributions, 0).astype(np.float32))
    heat = np.maximum(np.asarray(positive.resize((size, size), Image.Resampling.BILINEAR)), 0)
    return heat / heat.max() if heat.max() > 0 else np.zeros_like(heat)


def _windows(size: int, grid: int) -> np.ndarray:
    """bool (grid * grid, size, size): the places to hide. Together they cover every pixel."""
    step = size / grid
    edges = [(max(0, round((i - 0.5) * step)), min(size, round((i + 1.5) * step))) for i in range(grid)]
    along = np.array([[first <= k < last for k in range(size)] for first, last in edges])
    return (along[:, None, :, None] & along[None, :, None, :]).reshape(-1, size, size)


def _shuffled(visual: nn.Module, seed: int) -> nn.Module:
    """A copy whose tensors, weights and the norms' running statistics, each hold their own numbers in another order."""
    import torch

    other = copy.deepcopy(visual)
    generator = torch.Generator().manual_seed(seed)
    for tensor in other.state_dict().values():  # shares its memory with the copy
        if tensor.is_floating_point():
            order = torch.randperm(tensor.numel(), generator=generator).to(tensor.device)
            tensor.copy_(tensor.flatten()[order].view_as(tensor))
    return other
