"""How well heat maps find what was planted, beside occlusion and shuffled weights, and what they cost.

Three models that know what is planted: the built-in base on small textbook plates, of which only those count that it
names right; a ViT and a ModifiedResNet taught coloured shapes here, with two shapes in a picture and one asked for.
Seeds are not those on which the method was chosen.

python -m benchmarks.saliency
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import fmean, median

import numpy as np
from PIL import Image, ImageDraw

from benchmarks.machine import keep
from clipdemo.models import Clip, open_model
from clipdemo.progress import finish
from clipdemo.saliency import heat_map, occlusion_map, rank_correlation, sanity
from clipdemo.sources.bodyparts import BODY_PARTS
from clipdemo.sources.phantom.catalogue import NORMAL, VIEWS_OF, Case
from clipdemo.sources.phantom.plates import draw_plate

PLANTINGS, ROUNDS = 60, 3
PAPER = (240, 230, 210)
SHAPES = tuple((colour, kind) for colour in ("#c03030", "#30a040", "#3050c0") for kind in ("disc", "cross"))
Box = tuple[int, int, int]  # left, top, side
TINY_VISION = {
    "vit": {"image_size": 64, "layers": 3, "width": 48, "head_width": 16, "patch_size": 8},
    "resnet": {"image_size": 64, "layers": (1, 1, 1, 1), "width": 8, "patch_size": None},
}
TINY_TEXT = {"context_length": 4, "vocab_size": 8, "width": 8, "heads": 1, "layers": 1}  # never asked


@dataclass(frozen=True)
class Planting:
    """A picture, uint8 (size, size, 3), the class that is asked for and where it lies; `present` are all classes."""

    pixels: np.ndarray
    wanted: int
    box: Box
    present: tuple[int, ...]


def plates(clip: Clip, texts: np.ndarray, count: int, seed: int) -> Iterator[Planting]:
    """Plates of 60 to 70 % of the picture's side on bare paper, those that the model names right."""
    rng, size = random.Random(seed), clip.image_size
    while count:
        wanted = rng.randrange(len(BODY_PARTS))
        case = Case(rng.choice(VIEWS_OF[BODY_PARTS[wanted]]), NORMAL, "left", rng.getrandbits(63))
        side = rng.randint(size * 6 // 10, size * 7 // 10)
        left, top = rng.randint(0, size - side), rng.randint(0, size - side)
        picture = Image.new("RGB", (size, size), PAPER)
        plate = Image.fromarray(draw_plate(case, rng.getrandbits(63)))
        picture.paste(plate.resize((side, side), Image.Resampling.BICUBIC), (left, top))
        pixels = np.asarray(picture)
        if int((texts @ clip.encode_images(pixels[None])[0]).argmax()) == wanted:
            count -= 1
            yield Planting(pixels, wanted, (left, top, side), (wanted,))


def shapes(count: int, seed: int, size: int = 64) -> Iterator[Planting]:
    """Two different shapes in two halves of a noisy ground; the first is asked for."""
    rng = random.Random(seed)
    for _ in range(count):
        picture = Image.new("RGB", (size, size), tuple(rng.randint(110, 200) for _ in range(3)))
        present, boxes, upright = rng.sample(range(len(SHAPES)), 2), [], rng.random() < 0.5
        halves = rng.sample((0, size // 2), 2)
        for shape, half in zip(present, halves, strict=True):
            side = rng.randint(size // 4, size * 2 // 5)
            a, b = half + rng.randint(0, size // 2 - side), rng.randint(0, size - side)
            boxes.append((a, b, side) if upright else (b, a, side))
            _draw_shape(ImageDraw.Draw(picture), *SHAPES[shape], boxes[-1])
        noise = np.random.default_rng(rng.getrandbits(32)).integers(-12, 13, (size, size, 3))
        pixels = (np.asarray(picture).astype(np.int16) + noise).clip(0, 255).astype(np.uint8)
        yield Planting(pixels, present[0], boxes[0], tuple(present))


def _draw_shape(draw: ImageDraw.ImageDraw, colour: str, kind: str, box: Box) -> None:
    x, y, side = box
    end, third = side - 1, side // 3
    if kind == "disc":
        draw.ellipse((x, y, x + end, y + end), fill=colour)
    else:
        draw.rectangle((x + third, y, x + end - third, y + end), fill=colour)
        draw.rectangle((x, y + third, x + end, y + end - third), fill=colour)


def taught(kind: str, steps: int, seed: int = 0) -> tuple[Clip, np.ndarray]:
    """A small CLIP whose image tower has learned which shapes a picture holds, and the shapes' vectors (6, dim)."""
    import torch
    from open_clip.model import CLIP
    from torch.nn import functional

    torch.manual_seed(seed)
    network = CLIP(16, TINY_VISION[kind], TINY_TEXT, init_logit_scale=math.log(20))
    clip = Clip(network, None, 64, (0.5,) * 3, (0.5,) * 3, torch.device("cpu"))
    pool = list(shapes(960, seed))
    images = clip.normalised(np.stack([p.pixels for p in pool]))
    target = torch.zeros(len(pool), len(SHAPES))
    for row, planting in zip(target, pool, strict=True):
        row[list(planting.present)] = 1
    texts = torch.eye(16)[: len(SHAPES)]
    optimizer = torch.optim.AdamW(network.visual.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    for _ in range(steps):
        rows = torch.randint(len(pool), (32,))
        logits = 20 * functional.normalize(network.visual(images[rows]), dim=-1) @ texts.T - 5
        loss = functional.binary_cross_entropy_with_logits(logits, target[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    network.eval()
    network.zero_grad(set_to_none=True)
    return clip, texts.numpy()


def mass_ratio(heat: np.ndarray, box: Box) -> float:
    """The share of the heat inside the box by the box's share of the picture: 1 is chance."""
    x, y, side = box
    inside = heat[y : y + side, x : x + side].sum() / max(heat.sum(), 1e-9)
    return float(inside / (side * side / heat.size))


def pointed(heat: np.ndarray, box: Box) -> bool:
    """The pointing game: whether the hottest place lies in the box."""
    (x, y, side), (row, column) = box, np.unravel_index(heat.argmax(), heat.shape)
    return bool(heat.max() > 0 and x <= column < x + side and y <= row < y + side)


def names_both(clip: Clip, texts: np.ndarray, plantings: list[Planting]) -> float:
    """The share of pictures whose shapes are the model's first answers: whether it has learned what is asked."""
    logits = clip.encode_images(np.stack([p.pixels for p in plantings])) @ texts.T
    tops = (np.argsort(-row)[: len(p.present)] for row, p in zip(logits, plantings, strict=True))
    return fmean(set(top) == set(p.present) for top, p in zip(tops, plantings, strict=True))


def localisation(clip: Clip, texts: np.ndarray, plantings: list[Planting]) -> dict[str, object]:
    """Of gradient, occlusion and shuffled weights: pointing game and mass ratio; and how far they agree in ranks.

    All plantings count, named right or not, but for `plates`, which gives no others.
    """
    names = ("gradient", "gradient_for_absent_text", "occlusion", "gradient_with_shuffled_weights")
    found: dict[str, list[tuple[np.ndarray, Box]]] = {name: [] for name in names}
    agreement, sane = [], []
    for seed, planting in enumerate(plantings):
        pixels, box, wanted = planting.pixels, planting.box, planting.wanted
        absent = next(k for k in range(wanted, wanted + len(texts)) if k % len(texts) not in planting.present)
        checked = finish(sanity(clip, pixels, *_question(texts, wanted), seed=seed, shuffles=1))
        truth = finish(occlusion_map(clip, pixels, *_question(texts, wanted)))
        other = heat_map(clip, pixels, *_question(texts, absent % len(texts)))
        for name, heat in zip(found, (checked.heat, other, truth, checked.shuffled), strict=True):
            found[name].append((heat, box))
        agreement.append((rank_correlation(checked.heat, truth), rank_correlation(checked.shuffled, truth)))
        sane.append(checked.correlation)
    return {
        "plantings": len(plantings),
        "named_right": names_both(clip, texts, plantings),
        "area_share_of_box": fmean(p.box[2] ** 2 / p.pixels[..., 0].size for p in plantings),
        **{
            name: {
                "pointing_game": fmean(pointed(*pair) for pair in pairs),
                "mass_ratio": fmean(mass_ratio(*pair) for pair in pairs),
            }
            for name, pairs in found.items()
        },
        "rank_correlation": {
            "gradient_with_occlusion": fmean(a for a, _ in agreement),
            "shuffled_with_occlusion": fmean(b for _, b in agreement),
            "gradient_with_shuffled": fmean(sane),
        },
    }


def _question(texts: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """A class's vector and those of all others."""
    return texts[k], np.delete(texts, k, axis=0)


def seconds(clip: Clip, texts: np.ndarray) -> dict[str, float]:
    """Medians over rounds, after one to warm up."""
    pixels = np.random.default_rng(0).integers(0, 256, (clip.image_size, clip.image_size, 3), dtype=np.uint8)
    question = _question(texts, 0)
    return {
        "heat_map": _median_seconds(lambda: heat_map(clip, pixels, *question)),
        "occlusion_map": _median_seconds(lambda: finish(occlusion_map(clip, pixels, *question))),
        "sanity": _median_seconds(lambda: finish(sanity(clip, pixels, *question))),
    }


def _median_seconds(work: Callable[[], object]) -> float:
    taken = []
    for _ in range(ROUNDS + 1):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return median(taken[1:])


def random_vit_b_32() -> Clip:
    """ViT-B-32 as it is born: its speed is that of any weights."""
    import open_clip
    import torch

    network = open_clip.create_model("ViT-B-32", pretrained=None).eval()
    return Clip(network, None, 224, (0.5,) * 3, (0.25,) * 3, torch.device("cpu"))


def main() -> None:
    """Places first, then times."""
    import torch

    builtin = open_model()
    classes = builtin.encode_classes(BODY_PARTS)
    places = {"built-in base, plates": localisation(builtin, classes, list(plates(builtin, classes, PLANTINGS, 1000)))}
    for kind, steps in (("vit", 400), ("resnet", 150)):
        clip, texts = taught(kind, steps, seed=1)
        places[f"taught {kind}, pairs of shapes"] = localisation(clip, texts, list(shapes(PLANTINGS, 2000)))
    for name, result in places.items():
        print(name, result, flush=True)
    random_texts = np.random.default_rng(1).normal(size=(12, 512)).astype(np.float32)
    random_texts /= np.linalg.norm(random_texts, axis=1, keepdims=True)
    times = {
        "built-in base": seconds(builtin, classes),
        "ViT-B-32 (random weights)": seconds(random_vit_b_32(), random_texts),
        "threads": torch.get_num_threads(),
    }
    print(times)
    keep("saliency", "python -m benchmarks.saliency", {"localisation": places, "seconds": times})


if __name__ == "__main__":
    main()
