"""The report as one HTML file: nothing in it asks for anything outside of it, and a policy in its head forbids that."""

from __future__ import annotations

import base64
import hashlib
import io
import platform
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from itertools import zip_longest
from pathlib import Path

from clipdemo import __version__
from clipdemo.commands import redo_commands
from clipdemo.errors import ClipDemoError
from clipdemo.general import meaning
from clipdemo.images import decode
from clipdemo.models import ASSETS, base_digest
from clipdemo.records import Comparison, percent
from clipdemo.reporting import sections
from clipdemo.reporting.figures import Charts, all_charts, charts_of
from clipdemo.reporting.findings import Findings
from clipdemo.workspace import Workspace

EXAMPLES = 12  # pictures
_SIDE = 160  # pixels of an example's longer side
_LIBRARIES = ("torch", "open_clip_torch", "numpy", "scipy", "pandas", "pyarrow", "pillow", "pydantic", "plotly")


def report_html(
    workspace: Workspace, comparison: Comparison, without: Collection[str] = (), pictures: bool = True
) -> str:
    """The report as one HTML file of about 5 MB, nearly all of it Plotly's script: works offline, prints on A4.

    Test pictures whose ids are in `without` count nowhere and are listed. Without `pictures` no picture is in it, nor
    texts of rows that cleaning left out; ids and class names stay. Raises `ComparisonError` where predictions are gone.
    """
    findings = Findings.of(workspace, comparison, without)
    return page_of(findings, charts_of(findings), pictures)


def page_of(findings: Findings, charts: Charts, pictures: bool) -> str:
    """The page of findings whose charts are there already."""
    figures = "{" + ",".join(f'"{chart.name}":{chart.figure.to_json()}' for chart in all_charts(charts)) + "}"
    template = _environment().get_template("report.html.j2")
    plotly, drawing = _plotly(), (ASSETS / "report.js").read_text()
    sample, comparison = findings.sample, findings.comparison
    return template.render(
        comparison=comparison,
        board=findings.board,
        left_out=findings.left_out,
        summary=sections.summary(findings),
        synthetic=comparison.synthetic,
        charts=charts,
        tables=_tables(findings, pictures),
        examples=_examples(findings, pictures),
        pictures=pictures,
        sample=sample,
        has_classes=findings.has_classes,
        worths=[known.in_words(answer) for _, known in findings.sweeps if known for answer in known.equivalents],
        interpolations=[
            f"{findings.looks[model].signed}: share {way.recommended.share:g} is best on validation pictures, "
            f"{percent(way.recommended.validation.fraction)} of {way.recommended.validation.n:,}. {meaning(way.base)}"
            for model, way in findings.interpolations.items()
        ],
        commands=redo_commands(comparison),
        versions=_versions(comparison),
        hashes=hashes_of(findings),
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        figures=_inert(figures),
        plotly=plotly,
        drawing=drawing,
        script_hashes=" ".join(f"'sha256-{_sha256_base64(script)}'" for script in (plotly, drawing)),
    )


def _environment():  # noqa: ANN202  (jinja2 is imported when a page is made, not before)
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(ASSETS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@cache
def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    return get_plotlyjs().replace("\r\n", "\n")  # as the browser reads it, for the hash in the page's policy


def _sha256_base64(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _inert(json: str) -> str:
    """JSON that cannot end the element that it stands in."""
    return json.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _tables(findings: Findings, examples: bool) -> dict[str, sections.Table | None]:
    report = findings.sample.report if findings.sample else None
    return {
        "leaderboard": sections.leaderboard_table(findings),
        "retrieval": sections.retrieval_table(findings),
        "seeds": sections.seeds_table(findings),
        "paper": sections.paper_table(),
        "classes": sections.classes_table(findings),
        "calibration": sections.calibration_table(findings),
        "flips": sections.flips_table(findings),
        "sample": sections.sample_table(findings),
        "cleaning": sections.cleaning_table(report, examples) if report else None,
        "splits": sections.splits_table(report) if report else None,
        "models": sections.models_table(findings),
        "runs": sections.runs_table(findings) if findings.comparison.runs else None,
        "settings": sections.settings_table(findings) if findings.comparison.runs else None,
    }


# ---- pictures that changed


@dataclass(frozen=True)
class Said:
    """A model's first three answers to a picture, with whether each is the label."""

    model: str
    right: bool
    answers: list[tuple[str, str, bool]]


@dataclass(frozen=True)
class Example:
    """A test picture, why it is shown, and what every model says to it. `source` is a data URI; "" without picture."""

    id: str
    label: str
    why: str
    source: str
    said: list[Said]


def _examples(findings: Findings, pictures: bool) -> list[Example]:
    """Up to `EXAMPLES` pictures in turn from all models' fixed, broken and neither; surest answers first."""
    if (answers := findings.answers) is None:
        return []
    queues = [
        [(int(place), f"{kind} by {findings.looks[model].title}" if kind != "neither" else
          f"neither {findings.looks[base].title} nor {findings.looks[model].title}") for place in
         answers.changed(base, model, kind)[:EXAMPLES]]
        for model, base in findings.bases.items() if base for kind in ("fixed", "broken", "neither")
    ]  # fmt: skip
    chosen: dict[int, str] = {}
    for place, why in (entry for turn in zip_longest(*queues) for entry in turn if entry):
        if len(chosen) < EXAMPLES:
            chosen.setdefault(place, why)
    return [_example(findings, place, why, pictures) for place, why in chosen.items()]


def _example(findings: Findings, place: int, why: str, pictures: bool) -> Example:
    answers = findings.answers
    label = str(answers.labels[place])
    said = [
        Said(
            look.signed,
            bool(answers.right(model)[place]),
            [(name, sections.unbroken(percent(sure, 0)), name == label) for name, sure in answers.top(model, place)],
        )
        for model, look in findings.looks.items()
    ]
    name = str(answers.ids[place])
    return Example(name, label, why, _thumbnail(findings, name) if pictures else "", said)


def _thumbnail(findings: Findings, picture: str) -> str:
    """A small JPEG without metadata as a data URI; "" where the picture is gone or does not open."""
    if findings.sample is None:
        return ""
    try:
        rows = findings.sample.rows("test")
        file = rows.loc[rows["id"] == picture, "image"].iloc[0]
        image = decode(findings.sample.picture(file), picture).convert("RGB")
    except (ClipDemoError, OSError, IndexError):
        return ""
    image.thumbnail((_SIDE, _SIDE))
    data = io.BytesIO()
    image.save(data, "JPEG", quality=82)
    return f"data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode()}"


# ---- what it can be checked by


def _versions(comparison: Comparison) -> list[tuple[str, str]]:
    """Of the machine that writes the report, which need not be the one that trained."""
    found = [
        ("clipdemo, when the models were compared", comparison.version),
        ("clipdemo, for this report", __version__),
    ]
    found.append(("Python", platform.python_version()))
    for name in _LIBRARIES:
        try:
            found.append((name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            found.append((name, "not installed"))
    return [*found, ("system", f"{platform.system()} {platform.machine()}")]


def hashes_of(findings: Findings) -> list[tuple[str, str]]:
    """What and its SHA-256, whole or the first 8 digits: sample, predictions, weights."""
    place, comparison = findings.workspace, findings.comparison
    found = [(f"content of sample {comparison.sample}", comparison.sample_hash)]
    for model in findings.models:
        folder = place.folder("evaluations", model.predictions)
        files = (folder / "predictions.parquet", folder / "validation.parquet")
        found += [(f"{model.predictions}/{file.name}", _file_sha256(file)) for file in files if file.exists()]
    for name, run in findings.runs.items():
        if run.weights.exists():
            found.append((f"weights of run {name}", _file_sha256(run.weights)))
    for base in dict.fromkeys(model.base for model in findings.models):
        found.append((f"base {base} (first 8 digits)", base_digest(base)))
    return found


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
