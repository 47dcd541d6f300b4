"""Looks for settings that beat the paper's at equal cost, on validation pictures alone; then measures them once.

    python -m benchmarks.recipes search DIR     # validation only: about half an hour on 2 cores
    python -m benchmarks.recipes measure DIR    # the presets on test pictures, seeds 0 to 4

The search goes factor by factor: each is tried on top of what was best before it and kept if validation top-1 rises.
Equal cost means four passes over the same pictures. Data: the built-in source, drawn with a seed
that no other measurement uses, a validation split of 1,600 pictures and a test split that nobody looks at; and, for
labels, MedNIST's 2,400 pictures where ../shared/data/mednist.zip is there.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import typer

from benchmarks.machine import keep
from clipdemo.comparison import evaluate, load_predictions
from clipdemo.evaluation import SCORE
from clipdemo.presets import PRESETS, preset
from clipdemo.progress import finish
from clipdemo.records import DEFAULT_TEMPLATE, MODES, CleaningRules, Mode, RunConfig, SampleConfig
from clipdemo.sampling import Sample, draw_sample
from clipdemo.training.loop import train
from clipdemo.workspace import Workspace

app = typer.Typer()
MEDNIST = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "mednist.zip"
ENSEMBLE = f"{DEFAULT_TEMPLATE}|a scan of the {{label}}|a picture that shows the {{label}}|{{label}}"

# Factor by factor, each with what it may be; the first try is always "as it is".
FACTORS: dict[Mode, list[list[dict[str, object]]]] = {
    "captions": [
        [{"learning_rate": 1e-4}, {"learning_rate": 1e-3}],
        [{"layer_decay": 0.7}],
        [{"augmentation": "light"}],
        [{"averaging": 0.98}],
        [{"interpolation": True}],
        [{"batch_size": 32}, {"batch_size": 128}],
    ],
    "labels": [
        [{"learning_rate": 1e-4}, {"learning_rate": 1e-3}],
        [{"layer_decay": 0.7}],
        [{"loss": "multi-positive"}],
        [{"augmentation": "light"}],
        [{"averaging": 0.98}],
        [{"template": ENSEMBLE}],
        [{"interpolation": True}],
        [{"batch_size": 32}, {"batch_size": 128}],
    ],
}


MEDNIST_NAMES = {
    "AbdomenCT": "abdomen CT", "BreastMRI": "breast MRI", "CXR": "chest X-ray", "ChestCT": "chest CT",
    "Hand": "hand X-ray", "HeadCT": "head CT",
}  # fmt: skip
PHANTOM = SampleConfig(samples=5120, seed=100, train=0.64, validation=0.32, test=0.04)
REAL = SampleConfig(
    source="folder", samples=1200, seed=100, train=0.32, validation=0.64, test=0.04,
    options={"path": str(MEDNIST)}, cleaning=CleaningRules(synonyms=MEDNIST_NAMES),
)  # fmt: skip


@app.command()
def search(workspace: Path) -> None:
    """Factor by factor, on validation pictures."""
    place, result = Workspace(workspace), {}
    for name, config, modes in (("phantom", PHANTOM, MODES), ("mednist", REAL, ("labels",))):
        if name == "mednist" and not MEDNIST.exists():
            print(f"{MEDNIST} is not there: left out")
            continue
        sample = finish(draw_sample(config, place))
        for mode in modes:
            result[f"{name}, {mode}"] = _search(sample, mode, place)
    keep("recipes-search", "python -m benchmarks.recipes search DIR", result)


def _search(sample: Sample, mode: Mode, place: Workspace) -> dict[str, object]:
    tries = []

    def validated(settings: dict[str, object]) -> float:
        run = finish(train(RunConfig(mode=mode, **settings), sample, place))
        tries.append({"settings": settings, "validation_top1": run.result.best_validation_top1})
        print(f"{sample.config.source}, {mode}: {run.result.best_validation_top1:.4f} {settings}", flush=True)
        return run.result.best_validation_top1

    validated(preset("paper", mode))
    best: dict[str, object] = {}
    top = validated(best)
    for factor in FACTORS[mode]:
        found = [(validated(best | change), change) for change in factor]
        value, change = max(found, key=lambda pair: pair[0])
        if value > top:
            top, best = value, best | change
    return {"n": sample.sizes["validation"], "best": best, "validation_top1": top, "tries": tries}


@app.command()
def measure(workspace: Path, seeds: int = 5) -> None:
    """Every preset, on test pictures, once; differences are paired by picture, intervals by bootstrap over pictures."""
    place = Workspace(workspace)
    right: dict[str, dict[Mode, list[np.ndarray]]] = {name: {mode: [] for mode in MODES} for name in PRESETS}
    for seed in range(seeds):
        sample = finish(draw_sample(SampleConfig(seed=seed), place))
        for name in PRESETS:
            for mode in MODES:
                config = RunConfig(mode=mode, seed=seed, **preset(name, mode))
                run = finish(train(config, sample, place))
                evaluation = finish(evaluate(sample, place, run, template=config.template))
                right[name][mode].append(_right(load_predictions(place, evaluation)))
                print(f"seed {seed}, {name}, {mode}: {evaluation.top1:.4f} of {evaluation.n}", flush=True)
    result: dict[str, object] = {"seeds": seeds}
    for name in PRESETS:
        for mode in MODES:
            own, paper = (np.concatenate(right[which][mode]) for which in (name, "paper"))
            result[f"{name}, {mode}"] = {
                "n": len(own),
                "top1": _with_interval(own),
                "top1 minus the paper preset's": _with_interval(own - paper),
                "by_seed": [float(values.mean()) for values in right[name][mode]],
            }
    print(json.dumps(result, indent=1))
    keep("recipes-test", "python -m benchmarks.recipes measure DIR", result)


def _right(predictions: pd.DataFrame) -> np.ndarray:
    """float (n,): 1 where the true class has the best score."""
    scores = predictions.filter(like=SCORE)
    named = scores.columns.str.removeprefix(SCORE)[scores.to_numpy().argmax(axis=1)]
    return (named == predictions["label"]).to_numpy(dtype=float)


def _with_interval(values: np.ndarray) -> dict[str, float]:
    """Mean and 95 % percentile bootstrap over pictures, those of all seeds pooled."""
    rng = np.random.default_rng(0)
    means = [values[rng.integers(0, len(values), len(values))].mean() for _ in range(4000)]
    low, high = np.percentile(means, [2.5, 97.5])
    return {"mean": float(values.mean()), "low": float(low), "high": float(high)}


if __name__ == "__main__":
    app()
