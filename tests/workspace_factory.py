"""A workspace made of the library's own records with numbers that are plainly made up: fast, and never trained.

python tests/workspace_factory.py /tmp/workspace     # to look at the pages by hand
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from filelock import FileLock

from clipdemo.comparison import compare
from clipdemo.embeddings import model_id
from clipdemo.evaluation import (
    RETRIEVAL_COLUMNS,
    RetrievalRanks,
    distinct,
    evaluate_scores,
    predictions_frame,
    retrieval_of,
)
from clipdemo.images import encode_png
from clipdemo.jobs import Job, create_job
from clipdemo.models import open_model
from clipdemo.records import (
    BUILT_IN_BASE,
    DEFAULT_TEMPLATE,
    MODES,
    SPLITS,
    CleaningReport,
    Comparison,
    DroppedRows,
    Evaluation,
    Mode,
    RunConfig,
    RunResult,
    SampleConfig,
    Split,
    Step,
)
from clipdemo.sampling import MANIFEST_COLUMNS, Sample, content_hash, load_sample, sample_id
from clipdemo.sources.bodyparts import BODY_PARTS
from clipdemo.training.runs import Run, begin_run
from clipdemo.workspace import Workspace, write_json

SIZES = {"train": 36, "validation": 12, "test": 12}
RIGHT = {"base": 0.25, "captions": 0.5, "labels": 0.75}  # of the test pictures; exact, as 12 is divisible by 4


def disc(seed: int) -> np.ndarray:
    """A bright disc somewhere on a dark ground, 64 pixels wide."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:64, :64]
    inside = (x - rng.integers(20, 44)) ** 2 + (y - rng.integers(20, 44)) ** 2 < rng.integers(8, 18) ** 2
    return np.where(inside[..., None], rng.integers(120, 255, 3), rng.integers(5, 40, 3)).astype(np.uint8)


def make_sample(
    workspace: Workspace,
    seed: int = 0,
    classes: Sequence[str] = BODY_PARTS,
    texts: Sequence[Mode] = MODES,
    sizes: Mapping[Split, int] = SIZES,
    caption: str = "Made-up caption {} of a *disc* that shows [nothing] at all",
) -> Sample:
    """60 discs: 3 training, 1 validation and 1 test picture of each of 12 classes; or without labels or captions."""
    config = SampleConfig(samples=sum(sizes.values()), seed=seed, train=0.6, validation=0.2, test=0.2)
    labels = tuple(classes) if "labels" in texts else ("",)
    first = {"train": 0, "validation": sizes["train"], "test": sizes["train"] + sizes["validation"]}
    rows = [
        {
            "id": f"made_up_{i:03d}",
            "split": split,
            "label": labels[i % len(labels)],
            "caption": caption.format(i)
            + (" and goes on for much longer than any card has room for" * 3 if i % 7 == 0 else "")
            if "captions" in texts
            else "",
            "modality": ("CT", "MR", "X-ray")[i % 3],
            "group": "",
            "image": f"{i:08d}.png",
            "pixels": f"{i + 1000 * seed:016x}",
            "tokens": 20 + 4 * (i % 20),
        }
        for split in SPLITS
        for i in range(first[split], first[split] + sizes[split])
    ]
    manifest = pd.DataFrame(rows, columns=list(MANIFEST_COLUMNS))
    report = CleaningReport(
        rows=len(manifest) + 940,
        dropped=[
            DroppedRows(reason="label is empty", count=30, examples=["made_up_900"]),
            DroppedRows(reason="caption is a placeholder", count=20, examples=["Replace this - DESCRIPTION", "n/a"]),
        ],
        sampled=len(manifest),
        not_drawn=940 - 50,
        relabelled=11,
        source_classes={label: 211 - 22 * i for i, label in enumerate(BODY_PARTS[:9])}
        | dict(zip(BODY_PARTS[9:], (20, 12, 11), strict=True)),
        split_classes={
            split: manifest["label"][manifest["split"] == split].value_counts().to_dict() for split in SPLITS
        },
        shortfall={"Foot": 2},
        long_captions=7,
    )
    name = sample_id(config)
    with workspace.new_folder("samples", name) as folder:
        (folder / "images").mkdir()
        (folder / "dropped").mkdir()
        for i, row in enumerate(rows):
            (folder / "images" / row["image"]).write_bytes(encode_png(disc(i + 1000 * seed)))
        manifest.to_parquet(folder / "manifest.parquet")
        meta = {
            "config": config.model_dump(mode="json"),
            "content_hash": content_hash(manifest),
            "classes": sorted(classes) if "labels" in texts else [],
            "synthetic": True,
            "texts": list(texts),
            "origin": {},
            "report": report.model_dump(mode="json"),
        }
        write_json(folder / "sample.json", meta)
    return load_sample(workspace, name)


def make_run(workspace: Workspace, sample: Sample, config: RunConfig, finished: bool = True) -> Run:
    """A run whose losses fall along a hyperbola and whose top-1 rises to `RIGHT`."""
    run = begin_run(config, sample, workspace)
    steps_an_epoch = 10
    with (run.folder / "metrics.jsonl").open("w") as file:
        for step in range(0, config.epochs * steps_an_epoch + 1, 2):
            epoch = step / steps_an_epoch
            if step:
                line = Step(step=step, epoch=epoch, seconds=step / 2, training_loss=4 / (1 + epoch), learning_rate=1e-4)
                file.write(line.model_dump_json(exclude_none=True) + "\n")
            if step % steps_an_epoch == 0:
                share = RIGHT["base"] + (RIGHT[config.mode] - RIGHT["base"]) * min(1, epoch / 4)
                line = Step(
                    step=step,
                    epoch=epoch,
                    seconds=step / 2,
                    validation_loss=4 / (1 + 0.8 * epoch),
                    validation_top1=share,
                )
                file.write(line.model_dump_json(exclude_none=True) + "\n")
    if finished:
        run.weights.write_bytes(b"not weights")
        result = RunResult(
            state="finished",
            best_epoch=4,
            best_validation_top1=RIGHT[config.mode],
            epochs_done=config.epochs,
            steps=config.epochs * steps_an_epoch,
            seconds=30.0,
            device="made-up",
        )
        write_json(run.folder / "result.json", result.model_dump(mode="json"))
    return run


def make_real_run(workspace: Workspace, sample: Sample, config: RunConfig) -> Run:
    """A run that was never trained, but whose weights open: its base's, each moved a little."""
    import torch
    from safetensors.torch import save_file

    run = make_run(workspace, sample, config)
    generator = torch.Generator().manual_seed(config.seed)
    moved = {
        name: value + 0.01 * torch.randn(value.shape, generator=generator) if value.is_floating_point() else value
        for name, value in open_model(config.base).network.state_dict().items()
    }
    save_file(moved, run.weights)
    return run


def made_up_scores(sample: Sample, name: str) -> np.ndarray:
    """Scores that put `RIGHT` of the test pictures in first place, and as many again second."""
    target = np.array([sample.classes.index(label) for label in sample.rows("test")["label"]])
    n, k = len(target), len(sample.classes)
    scores = np.zeros((n, k))
    right = int(n * RIGHT[name])
    for i, column in enumerate(target):
        scores[i, column] = 1.0
        if i >= right:
            scores[i, (column + 1) % k] = 2.0
        if i >= 2 * right:
            scores[i, (column + 2) % k] = scores[i, (column + 3) % k] = 1.5
    return scores


def make_evaluation(
    workspace: Workspace,
    sample: Sample,
    name: str,
    run: Run | None,
    scores: np.ndarray | None = None,
    key: str = "",
    template: str = DEFAULT_TEMPLATE,
) -> Evaluation:
    """An evaluation with `made_up_scores`, or with other float (n_test, n_classes) ones; `key` tells it from others."""
    test, labelled = sample.rows("test"), bool(sample.classes)
    n = len(test)
    if scores is None:
        scores = made_up_scores(sample, name) if labelled else np.empty((n, 0))
    key = f"{model_id(run, BUILT_IN_BASE)}-{key or name}{sample.content_hash[:8]}"
    ranks = None
    if "captions" in sample.texts:
        _, text_of = distinct(test["caption"].tolist())
        ranks = RetrievalRanks(text_of, np.arange(n) % 7, np.arange(n)[text_of] % 5)
    frame = predictions_frame(test["id"], test["label"], scores, sample.classes, ranks)
    evaluation = Evaluation(
        name=name,
        run=run.id if run else None,
        base="builtin",
        sample=sample.id,
        sample_hash=sample.content_hash,
        template=template,
        predictions=key,
        logit_scale=4.0,
        validation_logit_scale=2.0 if labelled else None,
        retrieval=retrieval_of(frame),
        **(evaluate_scores(scores, test["label"].tolist(), sample.classes) if labelled else {"n": n}),
    )
    with workspace.new_folder("evaluations", key) as folder:
        frame.to_parquet(folder / "predictions.parquet")
        frame.drop(columns=list(RETRIEVAL_COLUMNS), errors="ignore").to_parquet(folder / "validation.parquet")
        write_json(folder / "evaluation.json", evaluation.model_dump(mode="json"))
    return evaluation


def make_comparison(workspace: Workspace, sample: Sample) -> Comparison:
    """The base and a finished run a kind of text, measured and put side by side."""
    runs = {mode: make_run(workspace, sample, RunConfig(mode=mode)) for mode in sample.texts}
    names = ("base", *sample.texts)
    return compare([make_evaluation(workspace, sample, name, runs.get(name)) for name in names], workspace)


def make_job(
    workspace: Workspace,
    command: str,
    settings: dict[str, object],
    stages: dict[str, tuple[int, int]] | None = None,
    result: dict[str, object] | None = None,
) -> Job:
    """A job that has begun, with its stages (done, total), and with how it ended where `result` says so."""
    job = create_job(workspace, command, settings)
    (job.folder / "began").touch()
    (job.folder / "log.txt").write_text("first line of a made-up log\nlast line of a made-up log\n")
    progress = {
        name: {"stage": name, "done": done, "total": total, "note": "made-up note"}
        for name, (done, total) in (stages or {}).items()
    }
    write_json(job.folder / "progress.json", progress)
    if result:
        write_json(job.folder / "result.json", {"message": "", "seconds": 151.0, "made": {}, **result})
    return job


def keep_alive(job: Job) -> FileLock:
    """Holds the lock that a running job holds. Release it to end the pretence."""
    lock = FileLock(job.folder / "alive")
    lock.acquire()
    return lock


def experiment_settings(sample: Sample) -> dict[str, object]:
    """What `experiment` writes into its job."""
    runs = [RunConfig(mode=mode).model_dump(mode="json") for mode in MODES]
    return {"sample": sample.config.model_dump(mode="json"), "runs": runs}


def make_workspace(root: Path) -> tuple[Workspace, Comparison, FileLock]:
    """A sample, two runs, three evaluations, a comparison, one finished job and one running under the lock."""
    workspace = Workspace(root)
    sample = make_sample(workspace)
    comparison = make_comparison(workspace, sample)
    settings = experiment_settings(sample)
    done = {"sample": (60, 60), "pictures": (60, 60), "captions": (60, 60), "labels": (60, 60)}
    made = {"comparison": comparison.id}
    make_job(workspace, "experiment", settings, done, {"state": "finished", "made": made})
    other = make_sample(workspace, seed=1)
    make_run(workspace, other, RunConfig(mode="captions", epochs=3), finished=False)
    running = make_job(
        workspace,
        "train",
        {"sample_id": other.id, "runs": [RunConfig(mode="captions", epochs=3).model_dump(mode="json")]},
        {"pictures": (60, 60), "captions": (18, 30)},
    )
    return workspace, comparison, keep_alive(running)


if __name__ == "__main__":
    place, _, lock = make_workspace(Path(sys.argv[1]))
    print(json.dumps({kind: place.names(kind) for kind in ("samples", "runs", "comparisons", "jobs")}, indent=2))
    while "--hold" in sys.argv:
        time.sleep(60)
