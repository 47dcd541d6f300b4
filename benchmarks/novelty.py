"""How often pictures that do not belong are told, by several rules: the choice behind `clipdemo.novelty`.

    python -m benchmarks.novelty [--real FOLDER_OR_ZIP ...]

A rule is made of a sample's training pictures. It was chosen on four samples of the built-in dataset, by pictures of
one set: crops of eight photographs, noise, flat colours. The chosen one is then measured once, on two more samples and
on the built-in base alone: false alarms on their held-out pictures, and what it tells of another set: crops of nine
other photographs, stripes, text, and what --real names. The photographs are those that scikit-learn and scikit-image
bring along, so they are seventeen pictures, not draws of a world of photographs.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from importlib.resources import files
from itertools import combinations, islice
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image, ImageDraw

from benchmarks.machine import keep
from clipdemo.classify import open_classifier
from clipdemo.drop import Dropped, from_image, read_drop
from clipdemo.embeddings import as_kept, image_embeddings, model_id
from clipdemo.evaluation import probabilities
from clipdemo.models import Clip, open_model
from clipdemo.novelty import SHARPNESS, Novelty, Seen, novelty_of, quantile_threshold, seen
from clipdemo.pixels import sample_pixels
from clipdemo.progress import finish
from clipdemo.records import BUILT_IN_BASE, DEFAULT_TEMPLATE, SampleConfig
from clipdemo.sampling import Sample, draw_sample
from clipdemo.sources.bodyparts import BODY_PARTS
from clipdemo.statistics import proportion_interval
from clipdemo.workspace import Workspace

CHOOSING = ("china.jpg", "astronaut.png", "brick.png", "camera.png", "clock_motion.png", "coffee.png", "grass.png",
            "motorcycle_left.png")  # fmt: skip
REPORTING = ("flower.jpg", "chelsea.png", "coins.png", "color.png", "gravel.png", "hubble_deep_field.jpg", "moon.png",
             "page.png", "rocket.jpg")  # fmt: skip
CHOOSING_SEEDS, REPORTING_SEEDS = (1, 2, 3, 4), (5, 6)
MOST_REAL = 300  # pictures of each place that --real names

Rule = Callable[[Seen], np.ndarray]  # whether each picture is unfamiliar


def main(
    samples: int = 1040,
    each: int = 60,
    real: Annotated[list[Path] | None, typer.Option(help="Real pictures that do not belong; repeatable.")] = None,
) -> None:
    """Compares rules, measures the chosen one, and keeps both."""
    clip, rng = open_model(BUILT_IN_BASE, None), np.random.default_rng(0)
    noise, flat, stripes, text = (partial(make, rng) for make in (_noise, _flat, _stripes, _text))
    choosing = _drawn({name: partial(_crop, _photograph(name), rng) for name in CHOOSING}, each, clip)
    choosing |= _drawn({"noise": noise, "flat colours": flat}, each, clip)
    reporting = _drawn({name: partial(_crop, _photograph(name), rng) for name in REPORTING}, each, clip)
    reporting |= _drawn({"stripes": stripes, "text": text}, each, clip)
    reporting |= {path.name: _real(path, clip) for path in real or ()}
    told: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(folder)
        for seed in CHOOSING_SEEDS:
            for name, rule in _rules(clip, _splits(clip, samples, seed, workspace)).items():
                told.setdefault(name, []).append({kind: float(rule(rows).mean()) for kind, rows in choosing.items()})
        measured = {}
        for seed in REPORTING_SEEDS:
            train, held_out, groups = _splits(clip, samples, seed, workspace)
            measured[f"sample of seed {seed}"] = _measured(novelty_of(train, held_out, groups), reporting)
        alone = finish(open_classifier(workspace)).novelty
        measured["built-in base alone"] = _measured(alone, reporting | {"the last sample": held_out})
    kinds = {
        name: {kind: float(np.mean([one[kind] for one in found])) for kind in choosing} for name, found in told.items()
    }
    result = {
        "share of foreign pictures told, for choosing": kinds,
        "mean": {name: float(np.mean(list(shares.values()))) for name, shares in kinds.items()},
        "measured once": measured,
    }
    named = "".join(f" --real {path.name}" for path in real or ())
    keep("novelty", f"python -m benchmarks.novelty --samples {samples} --each {each}{named}", result)


def _splits(clip: Clip, samples: int, seed: int, workspace: Workspace) -> tuple[Seen, Seen, list[str]]:
    """Training pictures, the others, and the training pictures' cases."""
    sample: Sample = finish(draw_sample(SampleConfig(samples=samples, seed=seed), workspace))
    pixels = finish(sample_pixels(sample, clip.image_size, workspace))
    found = {
        split: seen(
            pixels[sample.rows(split).index.to_numpy()],
            finish(image_embeddings(clip, model_id(None, BUILT_IN_BASE), sample, split, workspace)),
        )
        for split in ("train", "validation", "test")
    }
    held_out = {way: np.concatenate([found["validation"][way], found["test"][way]]) for way in found["train"]}
    return found["train"], held_out, sample.rows("train")["group"].tolist()


def _rules(clip: Clip, splits: tuple[Seen, Seen, list[str]]) -> dict[str, Rule]:
    """Softmax (Hendrycks and Gimpel 2017), energy (Liu et al. 2020), and the nearest picture in all ways of seeing."""
    train, held_out, groups = splits
    classes = clip.encode_classes(BODY_PARTS, DEFAULT_TEMPLATE)

    def unsure(rows: Seen) -> np.ndarray:
        return 1 - probabilities(rows["content"] @ classes.T, clip.logit_scale).max(axis=1)

    def energy(rows: Seen) -> np.ndarray:
        return -np.logaddexp.reduce(clip.logit_scale * (rows["content"] @ classes.T).astype(np.float64), axis=1)

    def nearest(ways: tuple[str, ...], sharpness: float = SHARPNESS) -> Rule:
        some = {way: train[way] for way in ways}
        return _above(novelty_of(some, held_out, groups, sharpness=sharpness))

    thresholds = {score: quantile_threshold(score(train)) for score in (unsure, energy)}
    found: dict[str, Rule] = {
        "1 - highest probability": lambda rows: unsure(rows) > thresholds[unsure],
        "energy": lambda rows: energy(rows) > thresholds[energy],
    }
    found |= {" + ".join(ways): nearest(ways) for n in (1, 2, 3) for ways in combinations(train, n)}
    return found | {"all, mean": nearest(tuple(train), 0.01), "all, maximum": nearest(tuple(train), 100)}


def _above(rule: Novelty) -> Rule:
    return lambda rows: rule.strangeness(rows) > rule.threshold


def _measured(rule: Novelty, foreign: dict[str, Seen]) -> dict[str, object]:
    told = {}
    for name, rows in foreign.items():
        unfamiliar = _above(rule)(rows)
        low, high = proportion_interval(int(unfamiliar.sum()), len(unfamiliar))
        told[name] = {"n": len(unfamiliar), "share": float(unfamiliar.mean()), "low": low, "high": high}
    return {
        "false alarms": {"alarms": rule.alarms, "n": rule.tested, **rule.false_alarms._asdict()},
        "foreign told": told,
        "photographs told, mean": float(np.mean([told[name]["share"] for name in REPORTING])),
    }


# ---- pictures that do not belong


def _seen(pictures: list[Dropped], clip: Clip) -> Seen:
    pixels = np.stack([picture.pixels[clip.image_size] for picture in pictures])
    return seen(pixels, as_kept(clip.encode_images(pixels)))


def _drawn(makers: dict[str, Callable[[], Image.Image]], each: int, clip: Clip) -> dict[str, Seen]:
    return {
        name: _seen([from_image(make(), name, (clip.image_size,)) for _ in range(each)], clip)
        for name, make in makers.items()
    }


def _real(path: Path, clip: Clip) -> Seen:
    """Pictures from all over a place: every so many-th of its first files."""
    found = [one for one in islice(read_drop([path], (clip.image_size,)), 2_000) if isinstance(one, Dropped)]
    return _seen(found[:: max(1, len(found) // MOST_REAL)][:MOST_REAL], clip)


def _photograph(name: str) -> Image.Image:
    """Of those that scikit-learn and scikit-image bring along."""
    place = files("sklearn.datasets.images" if name in ("china.jpg", "flower.jpg") else "skimage.data")
    with (place / name).open("rb") as file:
        return Image.open(file).convert("RGB")


def _crop(photo: Image.Image, rng: np.random.Generator) -> Image.Image:
    side = int(rng.integers(100, min(400, *photo.size) + 1))
    left, top = int(rng.integers(photo.width - side + 1)), int(rng.integers(photo.height - side + 1))
    return photo.crop((left, top, left + side, top + side))


def _noise(rng: np.random.Generator) -> Image.Image:
    return Image.fromarray(rng.integers(0, 256, (128, 128, 3), np.uint8))


def _flat(rng: np.random.Generator) -> Image.Image:
    return Image.new("RGB", (128, 128), tuple(int(v) for v in rng.integers(0, 256, 3)))


def _stripes(rng: np.random.Generator) -> Image.Image:
    y, x = np.mgrid[:128, :128]
    angle, width = rng.uniform(0, np.pi), rng.uniform(3, 20)
    dark = np.sin((x * np.cos(angle) + y * np.sin(angle)) / width * np.pi) > 0
    return Image.fromarray(np.where(dark[..., None], *rng.integers(0, 256, (2, 3))).astype(np.uint8))


def _text(rng: np.random.Generator) -> Image.Image:
    picture = Image.new("RGB", (320, 320), "white")
    draw = ImageDraw.Draw(picture)
    for top in range(10, 310, int(rng.integers(14, 30))):
        words = ["".join(chr(97 + c) for c in rng.integers(0, 26, rng.integers(2, 9))) for _ in range(8)]
        draw.text((10, top), " ".join(words), fill="black")
    return picture


if __name__ == "__main__":
    typer.run(main)
