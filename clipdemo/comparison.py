"""Models measured on the same test pictures, and the folder that keeps what was found."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence

import numpy as np
import pandas as pd

from clipdemo import __version__
from clipdemo.embeddings import image_embeddings, model_id
from clipdemo.errors import BadSettings, ClipDemoError, ComparisonError
from clipdemo.evaluation import (
    SCORE,
    distinct,
    evaluate_scores,
    fit_logit_scale,
    predictions_frame,
    retrieval_of,
    retrieval_ranks,
    scores_of,
)
from clipdemo.models import Clip, open_model
from clipdemo.progress import Activity, Progress
from clipdemo.prompts import Wordings
from clipdemo.records import (
    BUILT_IN_BASE,
    DEFAULT_TEMPLATE,
    MODEL_NAMES,
    Comparison,
    Evaluation,
    RunConfig,
    Split,
    percent,
)
from clipdemo.sampling import Sample, load_sample
from clipdemo.training.runs import Run, load_run
from clipdemo.workspace import Workspace, read_json, write_json

logger = logging.getLogger(__name__)
FORMAT = 2  # of what an evaluation keeps; another number has everything measured anew


def evaluate(
    sample: Sample,
    workspace: Workspace,
    run: Run | None = None,
    base: str = BUILT_IN_BASE,
    template: str = DEFAULT_TEMPLATE,
) -> Activity[Evaluation]:
    """Measures a run's weights, or a base model where `run` is None, on the sample's test split, and saves it.

    Raises `ComparisonError` for a run of another sample, or one that has no weights yet.
    """
    if run is not None and run.sample != sample.id:
        raise ComparisonError(f"run {run.id} was trained on sample {run.sample}, not on {sample.id}")
    if run is not None and run.result is None:
        raise ComparisonError(f"run {run.id} has not ended, or was broken off: train it again with the same settings")
    RunConfig(mode="labels", template=template)  # checks it
    name, base = (run.config.mode, run.config.base) if run else ("base", base)
    stage = f"evaluate {name}"
    model = model_id(run, base)
    key = f"{model}-{hashlib.sha256(f'{FORMAT} {sample.content_hash} {template}'.encode()).hexdigest()[:8]}"
    with workspace.lock(key):
        if _broken(workspace, key):
            workspace.delete("evaluations", key)
        if not workspace.folder("evaluations", key).is_dir():
            yield Progress(stage=stage, done=0, total=2, note="opening the model")
            clip = open_model(base, run.weights if run else None)
            predictions = yield from predict(clip, model, sample, "test", workspace, template, stage)
            validation = yield from predict(clip, model, sample, "validation", workspace, template, stage)
            evaluation = Evaluation(
                name=name,
                run=run.id if run else None,
                base=base,
                sample=sample.id,
                sample_hash=sample.content_hash,
                template=template,
                predictions=key,
                logit_scale=clip.logit_scale,
                validation_logit_scale=fit_logit_scale(*scores_of(validation)[:2]) if sample.classes else None,
                retrieval=retrieval_of(predictions),
                **_class_numbers(predictions),
            )
            with workspace.new_folder("evaluations", key) as folder:
                predictions.to_parquet(folder / "predictions.parquet")
                validation.to_parquet(folder / "validation.parquet")
                write_json(folder / "evaluation.json", evaluation.model_dump(mode="json"))
    evaluation = load_evaluation(workspace, key)
    yield Progress(stage=stage, done=2, total=2, note=in_short(evaluation))
    return evaluation


def _broken(workspace: Workspace, key: str) -> bool:
    """Whether an evaluation is there that cannot be read any more."""
    if not workspace.folder("evaluations", key).is_dir():
        return False
    try:
        load_evaluation(workspace, key)
    except ClipDemoError as error:
        logger.warning("%s: it is measured again", error)
        return True
    return False


def _class_numbers(predictions: pd.DataFrame) -> dict[str, object]:
    scores, _, classes = scores_of(predictions)
    if not classes:
        return {"n": len(predictions)}
    return evaluate_scores(scores, predictions["label"].tolist(), classes)


def predict(
    clip: Clip, model: str, sample: Sample, split: Split, workspace: Workspace, template: str, stage: str
) -> Activity[pd.DataFrame]:
    """A model's predictions of one split, see `evaluation.predictions_frame`."""
    images = yield from image_embeddings(clip, model, sample, split, workspace, stage)
    rows = sample.rows(split)
    scores = class_scores(clip, images, sample.classes, template)
    caption_ranks = None
    if "captions" in sample.texts and split == "test":
        texts, text_of = distinct(rows["caption"].tolist())
        caption_ranks = retrieval_ranks(images, clip.encode_texts(texts), text_of)
    return predictions_frame(rows["id"], rows["label"], scores, sample.classes, caption_ranks)


def class_scores(
    clip: Clip, images: np.ndarray, classes: Sequence[str], template: str, wordings: Wordings | None = None
) -> np.ndarray:
    """float32 (n, n_classes): cosine of each picture with what stands for each class."""
    if not classes:
        return np.empty((len(images), 0), dtype=np.float32)
    return images @ clip.encode_classes(classes, template, wordings).T


def in_short(evaluation: Evaluation) -> str:
    """The number that matters most, with its n: "top-1 64.3 % of 410"."""
    if evaluation.top1 is not None:
        return f"top-1 {percent(evaluation.top1)} of {evaluation.n:,}"
    return f"recall@1 {percent(evaluation.retrieval.image_to_text[1])} of {evaluation.n:,} captions"


def load_evaluation(workspace: Workspace, name: str) -> Evaluation:
    """An evaluation by its id. Raises `ComparisonError` when there is none, or an older version made it."""
    folder = workspace.folder("evaluations", name)
    if not folder.is_dir():
        raise ComparisonError(f"there is no evaluation {name!r} in {workspace.root}: `evaluate` prints the ids")
    try:
        return Evaluation(**read_json(folder / "evaluation.json"))
    except BadSettings as error:
        raise ComparisonError(f"evaluation {name} was made by another version ({error}): measure it again") from None


def load_predictions(workspace: Workspace, evaluation: Evaluation, split: Split = "test") -> pd.DataFrame:
    """The predictions that an evaluation's numbers were computed from, or those of the validation pictures."""
    file = "validation.parquet" if split == "validation" else "predictions.parquet"
    path = workspace.folder("evaluations", evaluation.predictions) / file
    try:
        found = pd.read_parquet(path)
        expected = {"id", "label", *(SCORE + label for label in evaluation.per_class)}
        if missing := expected - set(found):
            raise ValueError(f"columns are missing: {', '.join(sorted(missing)[:3])}")
        if found.empty or (split == "test" and len(found) != evaluation.n):
            raise ValueError(f"{len(found):,} rows, but {evaluation.n:,} test pictures were measured")
    except (OSError, ValueError) as error:
        raise ComparisonError(
            f"{path} cannot be read ({error}): delete its folder and measure {evaluation.name} again"
        ) from None
    return found


def all_predictions(workspace: Workspace, comparison: Comparison) -> dict[str, pd.DataFrame]:
    """Each model's test predictions, by its evaluation's id."""
    return {model.predictions: load_predictions(workspace, model) for model in comparison.models}


def measure(
    sample: Sample,
    workspace: Workspace,
    runs: Sequence[Run] = (),
    bases: Sequence[str] = (BUILT_IN_BASE,),
    template: str = DEFAULT_TEMPLATE,
) -> Activity[Comparison]:
    """Base models and runs of one sample, measured where they are not yet, and put side by side.

    Base models are measured with `template`, runs with their own.
    """
    evaluations = []
    for base in dict.fromkeys(bases):
        evaluations.append((yield from evaluate(sample, workspace, base=base, template=template)))
    for run in runs:
        evaluations.append((yield from evaluate(sample, workspace, run, template=run.config.template)))
    return compare(evaluations, workspace)


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
    different = {evaluation.predictions: evaluation for evaluation in evaluations}
    models = sorted(different.values(), key=lambda e: MODEL_NAMES.index(e.name))
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
    folder = workspace.folder("comparisons", comparison.id)
    if folder.is_dir():  # marks may lie beside it, so only the file is written anew
        write_json(folder / "comparison.json", comparison.model_dump(mode="json"))
    else:
        with workspace.new_folder("comparisons", comparison.id) as new:
            write_json(new / "comparison.json", comparison.model_dump(mode="json"))
    return comparison


def load_comparison(workspace: Workspace, name: str) -> Comparison:
    """A comparison by its id. Raises `ComparisonError` when there is none, or an older version made it."""
    folder = workspace.folder("comparisons", name)
    if not folder.is_dir():
        known = ", ".join(workspace.names("comparisons")[:5]) or "none yet"
        raise ComparisonError(f"there is no comparison {name!r} in {workspace.root}: known are {known}")
    try:
        return Comparison(**read_json(folder / "comparison.json"))
    except BadSettings as error:
        raise ComparisonError(
            f"comparison {name} was made by another version of clipdemo ({error}): compare its models again"
        ) from None


def reworded(
    clip: Clip,
    evaluation: Evaluation,
    sample: Sample,
    workspace: Workspace,
    template: str,
    wordings: Wordings | None = None,
    split: Split = "test",
) -> Activity[pd.DataFrame]:
    """The evaluation's predictions with other sentences for the classes. Texts are encoded again, pictures never.

    `clip` is the evaluation's model.
    """
    model = evaluation.predictions.rpartition("-")[0]
    images = yield from image_embeddings(clip, model, sample, split, workspace)
    scores = class_scores(clip, images, sample.classes, template, wordings)
    rows = sample.rows(split)
    return predictions_frame(rows["id"], rows["label"], scores, sample.classes)
