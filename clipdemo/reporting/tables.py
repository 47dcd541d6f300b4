"""The report's numbers as CSV files, precise enough to compute all of them again, and what every column is.

Text that a spreadsheet would take for a formula gets an apostrophe before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from clipdemo.evaluation import RETRIEVAL_COLUMNS, SCORE, confusion
from clipdemo.records import RETRIEVAL_DEPTHS, SPLITS, RunConfig
from clipdemo.reporting.findings import Findings
from clipdemo.reporting.sections import KINDS

# What spreadsheets calculate, also in full width, after OWASP's "CSV Injection"; an apostrophe, so that one can always
# be taken off again.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠", "'")

_LIMITS = {"low": "lower end of the 95 % interval", "high": "upper end"}
_MODEL = {"model": "the evaluation's id", "title": "the model's name in the report"}
_PICTURE = {"id": "the picture's id in the sample", "label": "its class; empty without labels"}


@dataclass(frozen=True)
class CsvTable:
    """One CSV file: what it is, and what each column is. A name that ends with * stands for all that begin so."""

    name: str
    about: str
    columns: dict[str, str]
    frame: pd.DataFrame

    def csv(self) -> bytes:
        """UTF-8, floats with all their digits, nothing that is a formula."""
        safe = self.frame.rename(columns=_safe)
        for column in safe.columns[[dtype.kind not in "biuf" for dtype in map(np.dtype, map(_numpy, safe.dtypes))]]:
            safe[column] = safe[column].map(_safe)
        return safe.to_csv(index=False, lineterminator="\n").encode()

    def explained(self) -> str:
        """Its part of README.txt."""
        lines = [f"{name}: {what}" for name, what in self.columns.items()]
        return "\n".join([self.name, f"    {self.about}", *(f"      {line}" for line in lines)])


def _numpy(dtype: object) -> object:
    return dtype if isinstance(dtype, np.dtype) else object  # pandas' own types hold text


def _safe(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def tables_of(findings: Findings, examples: bool = True) -> Iterator[CsvTable]:
    """All tables that there is something in; `examples`: with values that were found in rows that cleaning left out."""
    yield _leaderboard(findings)
    if findings.has_classes:
        titles = {model: look.title for model, look in findings.looks.items()}
        yield CsvTable(
            "per_class.csv", "one row a model and class that has test pictures",
            _MODEL | {"class": "the class", "right": "pictures right in first place", "n": "pictures",
                      "top1": "right / n", **_LIMITS, "gain": "top1 minus that of the model's base"},
            findings.classes.assign(title=findings.classes["model"].map(titles)),
        )  # fmt: skip
        yield _flips(findings)
        yield _calibration(findings)
        yield from _confusions(findings)
    yield _predictions(findings, findings.predictions, "predictions.csv", "test")
    if findings.validation:
        yield _predictions(findings, findings.validation, "validation.csv", "validation")
    if findings.comparison.runs:
        yield _settings(findings)
    if findings.steps:
        yield _steps(findings)
    if findings.sample:
        yield from _sample(findings, examples)
    yield from _sweeps(findings)
    yield from _interpolations(findings)


def _leaderboard(findings: Findings) -> CsvTable:
    recall = {f"{name}_{k}*": f"a {what} among the first {k}, with _low and _high" for name, what in
              (("caption_recall", "picture's caption"), ("picture_recall", "caption's picture"))
              for k in RETRIEVAL_DEPTHS}  # fmt: skip
    columns = _MODEL | {
        "kind": "base, captions or labels",
        "seeds": "1; more in a row that sums up runs which differ in their seed only",
        "n": "test pictures that count",
        "top1*": "fraction right in first place, with _low and _high; in a row of seeds _sd is their standard "
        "deviation and the interval a t-interval of their mean",
        "top3*": "fraction right among the first three, likewise",
        "macro_top1*": "mean of the classes' top1, with _low and _high",
        **recall,
        "captions": "distinct captions",
        "base": "the model that it is held against",
        "difference*": "top1 (without labels caption_recall_1) minus that of its base, with _low and _high",
        "fixed": "pictures that only this model has right",
        "broken": "pictures that only its base has right",
        "p": "McNemar's exact test, two-sided",
        "p_holm": "the same, adjusted for all differences of the table (Holm)",
        "verdict": "the difference in words",
    }
    return CsvTable("leaderboard.csv", "one row a model", columns, findings.board.frame())


def _flips(findings: Findings) -> CsvTable:
    answers = findings.answers
    rows = [
        {"model": model, "base": base} | {kind: len(answers.changed(base, model, kind)) for kind in KINDS}
        for model, base in findings.bases.items()
        if base is not None
    ]
    columns = {"model": "the evaluation's id", "base": "the model that it is held against"}
    columns |= {"fixed": "pictures that only the model has right", "broken": "pictures that only the base has right"}
    columns |= {"both": "pictures that both have right", "neither": "pictures that neither has right"}
    return CsvTable("flips.csv", "one row a model and its base", columns, pd.DataFrame(rows, columns=list(columns)))


def _calibration(findings: Findings) -> CsvTable:
    rows = []
    for model in findings.models:
        for kind, scale in (("learned", model.logit_scale), ("fitted", model.validation_logit_scale)):
            if found := findings.calibrations[kind].get(model.predictions):
                rows += [
                    {"model": model.predictions, "scale": kind, "logit_scale": scale, "low": b.low, "high": b.high,
                     "n": b.n, "confidence": b.confidence, "accuracy": b.accuracy, "ece": found.ece}
                    for b in found.bins
                ]  # fmt: skip
    columns = {
        "model": "the evaluation's id",
        "scale": "learned: the logit scale in the weights; fitted: the one that suits validation pictures best",
        "logit_scale": "softmax(logit_scale * score) is the model's probability",
        "low": "confidence of the bin's answers is above it",
        "high": "and at most this",
        "n": "answers in the bin",
        "confidence": "their mean confidence",
        "accuracy": "how many of them are right",
        "ece": "expected calibration error over all bins",
    }
    return CsvTable(
        "calibration.csv", "one row a model, scale and bin", columns, pd.DataFrame(rows, columns=list(columns))
    )


def _confusions(findings: Findings) -> Iterator[CsvTable]:
    answers = findings.answers
    about = "rows are true classes, columns what the model said, cells how many test pictures that count"
    for model, said in answers.said.items():
        frame = pd.DataFrame(confusion(said, answers.target, len(answers.classes)), columns=list(answers.classes))
        frame.insert(0, "true class", list(answers.classes), allow_duplicates=True)
        columns = {"true class": "the class", "*": "one a class"}
        yield CsvTable(f"confusion-{model}.csv", about, columns, frame)


def _predictions(findings: Findings, of: dict[str, pd.DataFrame], name: str, split: str) -> CsvTable:
    frames = []
    for model in findings.models:
        if (frame := of.get(model.predictions)) is not None:
            facts = {"model": model.predictions, "title": findings.looks[model.predictions].title}
            facts |= {"logit_scale": model.logit_scale, "validation_logit_scale": model.validation_logit_scale}
            facts["counts"] = (~frame["id"].isin(findings.without)).astype(int)
            own = frame.assign(**facts)
            scores = [column for column in frame if column.startswith(SCORE)]
            first = [*facts, "id", "label", *(c for c in RETRIEVAL_COLUMNS if c in frame)]
            frames.append(own[[*first, *scores]])
    columns = _MODEL | {
        "logit_scale": "softmax(logit_scale * score) is the model's probability",
        "validation_logit_scale": "the scale that suits validation pictures best",
        "counts": "1; 0 for pictures that were left out of all numbers as wrongly labelled",
        **_PICTURE,
    }
    joined = pd.concat(frames, ignore_index=True)
    if set(RETRIEVAL_COLUMNS) <= set(joined):
        columns |= {
            "text": "number of the picture's distinct caption",
            "caption_rank": "distinct captions that score at least as high as the picture's own; 0 is the first place",
            "picture_rank": "wrong pictures that score at least as high as the best right one of this caption",
        }
    columns[f"{SCORE}*"] = "cosine similarity of the picture with the class, float32"
    about = f"one row a model and {split} picture; every number of the report follows from it"
    return CsvTable(name, about if split == "test" else f"one row a model and {split} picture", columns, joined)


def _settings(findings: Findings) -> CsvTable:
    rows = [{"run": name, **config.model_dump(mode="json")} for name, config in findings.comparison.runs.items()]
    columns = {"run": "the run's id"} | {n: field.description or n for n, field in RunConfig.model_fields.items()}
    return CsvTable("settings.csv", "one row a run", columns, pd.DataFrame(rows))


def _steps(findings: Findings) -> CsvTable:
    rows = [{"model": name, **step.model_dump()} for name, steps in findings.steps.items() for step in steps]
    columns = {
        "model": "the evaluation's id",
        "step": "steps done",
        "epoch": "passes over the training pictures",
        "seconds": "since the run began",
        "training_loss": "mean over the steps since the last row",
        "learning_rate": "at this step",
        "logit_scale": "at this step",
        "validation_loss": "at an epoch's end",
        "validation_top1": "at an epoch's end; among validation's captions where there are no classes",
    }
    return CsvTable("training.csv", "one row a line of a run's metrics.jsonl", columns, pd.DataFrame(rows))


def _sample(findings: Findings, examples: bool) -> Iterator[CsvTable]:
    report = findings.sample.report
    lines = [("row of the source", report.rows, [])] + [
        (f"left out: {d.reason}", d.count, d.examples) for d in report.dropped
    ]
    lines += [("clean, not needed", report.not_drawn, [])]
    lines += [(f"in the sample: {split}", findings.sample.sizes[split], []) for split in SPLITS]
    columns = {"what": "where rows went; the first line is the sum of the others", "rows": "how many"}
    rows = [
        {"what": what, "rows": n} | ({"examples": " · ".join(found)} if examples else {}) for what, n, found in lines
    ]
    if examples:
        columns["examples"] = "a few of the values that were found"
    yield CsvTable("cleaning.csv", "where every row of the source went", columns, pd.DataFrame(rows))
    if report.source_classes:
        counts = [
            {"class": label, "source": n} | {split: report.split_classes[split].get(label, 0) for split in SPLITS}
            for label, n in report.source_classes.items()
        ]
        columns = {"class": "the class", "source": "rows of the cleaned source"}
        columns |= {split: f"pictures for {split}" for split in SPLITS}
        yield CsvTable("classes.csv", "pictures a class", columns, pd.DataFrame(counts))


def _sweeps(findings: Findings) -> Iterator[CsvTable]:
    columns = {"kind": "base, captions or labels", "pictures": "training pictures", "seed": "of the run",
               "evaluation": "its id", "right": "test pictures right in first place", "n": "test pictures"}  # fmt: skip
    for result, _ in findings.sweeps:
        points = [*([result.base] if result.base else []), *result.points]
        rows = [{name: getattr(point, name) for name in columns} for point in points]
        yield CsvTable(f"{result.id}.csv", "one row a run of the sweep", columns, pd.DataFrame(rows))


def _interpolations(findings: Findings) -> Iterator[CsvTable]:
    sets = {"validation": "validation pictures", "test": "test pictures", "general": "pictures of the general set"}
    columns = {"share": "of the tuned weights: 0 is the base, 1 the run"}
    columns |= {f"{name}_right": f"{what} right in first place" for name, what in sets.items()}
    columns |= {f"{name}_n": what for name, what in sets.items()}
    for model, way in findings.interpolations.items():
        rows = [
            {"share": point.share}
            | {f"{name}_{field}": getattr(getattr(point, name), field) for field in ("right", "n") for name in sets}
            for point in way.points
        ]
        yield CsvTable(f"interpolation-{model}.csv", "one row a mix of weights", columns, pd.DataFrame(rows))
