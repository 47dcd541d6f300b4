"""Models measured on the same test pictures, and the folder that keeps what was found."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import pandas as pd

from clipdemo import __version__
from clipdemo.errors import ComparisonError
from clipdemo.evaluation import evaluate_scores, predictions_frame, retrieval
from clipdemo.models import base_digest, files_digest, open_model
from clipdemo.pixels import sample_pixels
from clipdemo.progress import Activity, Progress
from clipdemo.records import BUILT_IN_BASE, DEFAULT_TEMPLATE, MODEL_NAMES, Comparison, Evaluation, percent
from clipdemo.sampling import Sample, load_sample
from clipdemo.training.runs import Run, load_run
from clipdemo.workspace import Workspace, read_json, write_json


def evaluate(
    sample: Sample,
    workspace: Workspace,
    run: Run | None = None,
    base: str = BUILT_IN_BASE,
    template: str = DEFAULT_TEMPLATE,
) -> Activity[Evaluation]:
    """Measures a run's weights, or the base model where `run` is None, on the sample's test split, and saves it.

    Raises `ComparisonError` for a run of another sample, or one that has no weights yet.
    """
    if run is not None and run.sample != sample.id:
        raise ComparisonError(f"run {run.id} was trained on sample {run.sample}, not on {sample.id}")
    if run is not None and run.result is None:
        raise ComparisonError(f"run {run.id} has not ended, or was broken off: train it again with the same settings")
    name, base = (run.config.mode, run.config.base) if run else ("base", base)
    stage = f"evaluate {name}"
    model = f"{run.id}-{files_digest(run.weights)}" if run else f"base-{base_digest(base)}"
    key = f"{model}-{hashlib.sha256(f'{sample.content_hash} {template}'.encode()).hexdigest()[:8]}"
    with workspace.lock(key):
        if not workspace.folder("evaluations", key).is_dir():
            yield Progress(stage=stage, done=0, total=2, note="opening the model")
            clip = open_model(base, run.weights if run else None)
            pixels = yield from sample_pixels(sample, clip.image_size, workspace)
            test = sample.rows("test")
            yield Progress(stage=stage, done=1, total=2, note=f"encoding {len(test):,} test pictures")
            images = clip.encode_images(pixels[test.index.to_numpy()])
            n_classes = len(sample.classes)
            scores = images @ clip.encode_classes(sample.classes, template).T if n_classes else np.empty((len(test), 0))
            numbers = evaluate_scores(scores, test["label"].tolist(), sample.classes) if n_classes else {}
            if "captions" in sample.texts:
                captions = test["caption"].tolist()
                numbers["retrieval"] = retrieval(images @ clip.encode_texts(captions).T, captions)
            evaluation = Evaluation(
                name=name,
                run=run.id if run else None,
                base=base,
                sample=sample.id,
                sample_hash=sample.content_hash,
                template=template,
                predictions=key,
                **{"n": len(test)} | numbers,
            )
            with workspace.new_folder("evaluations", key) as folder:
                predictions_frame(test["id"], test["label"], scores, sample.classes).to_parquet(
                    folder / "predictions.parquet"
                )
                write_json(folder / "evaluation.json", evaluation.model_dump(mode="json"))
    evaluation = load_evaluation(workspace, key)
    yield Progress(stage=stage, done=2, total=2, note=in_short(evaluation))
    return evaluation


def in_short(evaluation: Evaluation) -> str:
    """The number that matters most, with its n: "top-1 64.3 % of 410"."""
    if evaluation.top1 is not None:
        return f"top-1 {percent(evaluation.top1)} of {evaluation.n:,}"
    return f"recall@1 {percent(evaluation.retrieval.image_to_text[1])} of {evaluation.n:,} captions"


def load_evaluation(workspace: Workspace, name: str) -> Evaluation:
    """An evaluation by its id."""
    return Evaluation(**read_json(workspace.folder("evaluations", name) / "evaluation.json"))


def load_predictions(workspace: Workspace, evaluation: Evaluation) -> pd.DataFrame:
    """The predictions that an evaluation's numbers were computed from."""
    return pd.read_parquet(workspace.folder("evaluations", evaluation.predictions) / "predictions.parquet")


def compare(evaluations: Sequence[Evaluation], workspace: Workspace) -> Comparison:
    """Puts evaluations of one sample side by side and saves them. Raises `ComparisonError` if they are not of one."""
    if not evaluations:
        raise ComparisonError("there is nothing to compare: evaluate at least one model first")
    first = evaluations[0]
    for other in evaluations:
        if other.sample_hash != first.sample_hash:
            raise ComparisonError(
                f"{other.name} was measured on sample {other.sample} and {first.name} on {first.sample}: "
                "only models measured on the same test pictures can be compared"
            )
    sample = load_sample(workspace, first.sample)
    models = sorted(evaluations, key=lambda e: MODEL_NAMES.index(e.name))
    key = " ".join(e.predictions for e in models)
    comparison = Comparison(
        id=f"{sample.id}-{hashlib.sha256(key.encode()).hexdigest()[:8]}",
        sample=sample.id,
        sample_hash=sample.content_hash,
        sample_config=sample.config,
        sizes=sample.sizes,
        synthetic=sample.synthetic,
        runs={e.run: load_run(workspace, e.run).config for e in models if e.run},
        models=models,
        version=__version__,
    )
    if not workspace.folder("comparisons", comparison.id).is_dir():
        with workspace.new_folder("comparisons", comparison.id) as folder:
            write_json(folder / "comparison.json", comparison.model_dump(mode="json"))
    return comparison


def load_comparison(workspace: Workspace, name: str) -> Comparison:
    """A comparison by its id. Raises `ComparisonError` when there is none."""
    folder = workspace.folder("comparisons", name)
    if not folder.is_dir():
        known = ", ".join(workspace.names("comparisons")[:5]) or "none yet"
        raise ComparisonError(f"there is no comparison {name!r} in {workspace.root}: known are {known}")
    return Comparison(**read_json(folder / "comparison.json"))
