"""How often pictures that do not belong are told, by several rules: the choice behind `clipdemo.novelty`.

    python -m benchmarks.novelty [--real FOLDER_OR_ZIP ...]

Every rule's threshold is the same order statistic of the sample's validation pictures. A rule is chosen by pictures of
one set (crops of one photograph, noise, flat colours); the chosen one is then measured once on the sample's test
pictures (false alarms) and on another set (crops of the other photograph, stripes, text, and what --real names). The
photographs are scikit-learn's two, so "photographs" are crops of two pictures, not draws of a world of photographs.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image, ImageDraw
from sklearn.datasets import load_sample_images

from benchmarks.machine import keep
from clipdemo.classify import Classifier, Model, embed_images, open_classifier
from clipdemo.comparison import load_predictions, measure
from clipdemo.drop import Dropped, from_image, read_drop
from clipdemo.embeddings import image_embeddings, model_id
from clipdemo.evaluation import probabilities, scores_of
from clipdemo.novelty import NEIGHBOURS, kth_distances, novelty_of, quantile_threshold
from clipdemo.progress import finish
from clipdemo.records import Comparison, RunConfig, SampleConfig
from clipdemo.sampling import Sample, draw_sample
from clipdemo.statistics import proportion_interval
from clipdemo.training.loop import train
from clipdemo.training.runs import load_run
from clipdemo.workspace import Workspace

KS = (1, 5, 10, 50)
MOST_REAL = 300  # pictures of each place that --real names


def main(
    samples: int = 1040,
    epochs: int = 2,
    each: int = 100,
    real: Annotated[list[Path] | None, typer.Option(help="Real pictures that do not belong; repeatable.")] = None,
) -> None:
    """Chooses a rule, measures it, and keeps both."""
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(folder)
        sample = finish(draw_sample(SampleConfig(samples=samples), workspace))
        runs = [finish(train(RunConfig(mode="captions", epochs=epochs), sample, workspace))]
        comparison = finish(measure(sample, workspace, runs))
        classifier = finish(open_classifier(workspace, comparison))
        rng = np.random.default_rng(0)
        china, flower = (Image.fromarray(photo) for photo in load_sample_images().images)
        choosing = {
            "crops of a photograph (china)": [_crop(china, rng) for _ in range(each)],
            "noise": [_noise(rng) for _ in range(each)],
            "flat colours": [_flat(rng) for _ in range(each)],
        }
        reporting = {
            "crops of a photograph (flower)": [_crop(flower, rng) for _ in range(each)],
            "stripes": [_stripes(rng) for _ in range(each)],
            "text on a screen": [_text(rng) for _ in range(each)],
        }
        chosen_on = {name: _dropped(pictures, classifier) for name, pictures in choosing.items()}
        rules = {
            f"{model.look.title}: {name}": {
                kind: _told(score, threshold, embed_images(model, found)) for kind, found in chosen_on.items()
            }
            for model in classifier.models
            for name, (score, threshold) in _rules(model, comparison, sample, workspace).items()
        }
        reported_on = {name: _dropped(pictures, classifier) for name, pictures in reporting.items()}
        reported_on |= {path.name: _real(path, classifier) for path in real or ()}
        result = {
            "sample": sample.id,
            "validation pictures": sample.sizes["validation"],
            "share of foreign pictures told, for choosing": rules,
            "mean": {name: float(np.mean([t["share"] for t in told.values()])) for name, told in rules.items()},
            "measured once": {
                model.look.title: _measured(model, sample, comparison, workspace, reported_on)
                for model in classifier.models
            },
        }
    named = "".join(f" --real {path.name}" for path in real or ())
    command = f"python -m benchmarks.novelty --samples {samples} --epochs {epochs} --each {each}{named}"
    keep("novelty", command, result)


def _features(model: Model, sample: Sample, comparison: Comparison, workspace: Workspace) -> dict[str, np.ndarray]:
    evaluation = next(e for e in comparison.models if e.predictions == model.id)
    name = model_id(load_run(workspace, evaluation.run) if evaluation.run else None, evaluation.base)
    return {
        split: finish(image_embeddings(model.clip, name, sample, split, workspace))
        for split in ("train", "validation", "test")
    }


Score = Callable[[np.ndarray], np.ndarray]  # features -> the larger, the stranger


def _rules(
    model: Model, comparison: Comparison, sample: Sample, workspace: Workspace
) -> dict[str, tuple[Score, float]]:
    features = _features(model, sample, comparison, workspace)
    classes = model.class_vectors(sample.classes)
    evaluation = next(e for e in comparison.models if e.predictions == model.id)
    assert scores_of(load_predictions(workspace, evaluation))[2] == list(sample.classes)

    def unsure(rows: np.ndarray) -> np.ndarray:
        """Hendrycks and Gimpel 2017."""
        return 1 - probabilities(rows @ classes.T, model.logit_scale).max(axis=1)

    def energy(rows: np.ndarray) -> np.ndarray:
        """Liu et al. 2020."""
        return -np.logaddexp.reduce(model.logit_scale * (rows @ classes.T).astype(np.float64), axis=1)

    def far(k: int) -> Score:
        return lambda rows: kth_distances(rows, features["train"], k)

    scores = {"1 - highest probability": unsure, "energy": energy} | {f"neighbour {k}": far(k) for k in KS}
    return {name: (score, quantile_threshold(score(features["validation"]))) for name, score in scores.items()}


def _told(score: Score, threshold: float, features: np.ndarray) -> dict[str, float | int]:
    told, n = int((score(features) > threshold).sum()), len(features)
    low, high = proportion_interval(told, n)
    return {"told": told, "n": n, "share": told / n, "low": low, "high": high}


def _measured(
    model: Model, sample: Sample, comparison: Comparison, workspace: Workspace, foreign: dict[str, list[Dropped]]
) -> dict[str, object]:
    rule = novelty_of(**_features(model, sample, comparison, workspace), k=NEIGHBOURS)
    alarms = {"alarms": rule.alarms, "n": rule.tested, **rule.false_alarms._asdict()}
    told = {name: _told(rule.distances, rule.threshold, embed_images(model, found)) for name, found in foreign.items()}
    return {"k": rule.k, "threshold": rule.threshold, "false alarms on test pictures": alarms, "foreign told": told}


# ---- pictures that do not belong


def _dropped(pictures: list[Image.Image], classifier: Classifier) -> list[Dropped]:
    return [from_image(picture, f"{i}", classifier.sizes) for i, picture in enumerate(pictures)]


def _real(path: Path, classifier: Classifier) -> list[Dropped]:
    """Pictures from all over a place: every so many-th of its first files."""
    found = [one for one in islice(read_drop([path], classifier.sizes), 2_000) if isinstance(one, Dropped)]
    return found[:: max(1, len(found) // MOST_REAL)][:MOST_REAL]


def _crop(photo: Image.Image, rng: np.random.Generator) -> Image.Image:
    side = int(rng.integers(100, 400))
    left, top = int(rng.integers(photo.width - side)), int(rng.integers(photo.height - side))
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
