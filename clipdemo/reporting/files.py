"""The report with the files behind it: in a folder, as a ZIP, or one after the other."""

from __future__ import annotations

import hashlib
import io
import json
import tempfile
import zipfile
from collections.abc import Collection, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

from clipdemo.errors import WorkspaceError
from clipdemo.records import Comparison
from clipdemo.reporting.figures import all_charts, charts_of
from clipdemo.reporting.findings import Findings
from clipdemo.reporting.images import Format, draw
from clipdemo.reporting.page import page_of
from clipdemo.reporting.tables import tables_of
from clipdemo.workspace import Workspace, disk_errors

PAGE, SUMS = "report.html", "SHA256SUMS"
_SIGNS = {PAGE, SUMS, "comparison.json"}  # files by which an earlier report is known


@dataclass(frozen=True)
class Written:
    """A report in a folder. `problem` says which pictures of charts are missing and why; "" where none is."""

    page: Path
    bytes: int
    problem: str


def report_files(
    workspace: Workspace,
    comparison: Comparison,
    without: Collection[str] = (),
    pictures: bool = True,
    charts: Sequence[Format] = (),
) -> Generator[tuple[str, bytes], None, str]:
    """Name and content of each file: page, comparison, tables, charts in the formats wanted, README and checksums.

    Returns what `Written.problem` is. Everything else as `report_html` has it.
    """
    findings = Findings.of(workspace, comparison, without)
    figures = charts_of(findings)
    sums: dict[str, str] = {}

    def file(name: str, data: bytes) -> tuple[str, bytes]:
        sums[name] = hashlib.sha256(data).hexdigest()
        return name, data

    yield file(PAGE, page_of(findings, figures, pictures).encode())
    record = json.dumps(comparison.model_dump(mode="json"), indent=2, ensure_ascii=False)
    yield file("comparison.json", f"{record}\n".encode())
    tables = []
    for table in tables_of(findings, examples=pictures):
        yield file(table.name, table.csv())
        tables.append(table.explained())
    drawn = draw(all_charts(figures), charts)
    for name, data in drawn.files.items():
        yield file(f"charts/{name}", data)
    yield file("README.txt", _readme(comparison, findings.left_out, tables, drawn.problem).encode())
    yield SUMS, "".join(f"{digest}  {name}\n" for name, digest in sums.items()).encode()
    return drawn.problem


def report_zip(
    workspace: Workspace,
    comparison: Comparison,
    without: Collection[str] = (),
    pictures: bool = True,
    charts: Sequence[Format] = (),
) -> bytes:
    """All of `report_files` in one folder of a ZIP."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in report_files(workspace, comparison, without, pictures, charts):
            archive.writestr(f"{comparison.id}/{name}", content)
    return data.getvalue()


def write_report(
    workspace: Workspace,
    comparison: Comparison,
    folder: Path,
    without: Collection[str] = (),
    pictures: bool = True,
    charts: Sequence[Format] = (),
) -> Written:
    """Puts all of `report_files` into a folder, which has its name only when it is whole.

    An earlier report there is replaced. Raises `WorkspaceError` for a folder that holds anything else.
    """
    folder = folder.expanduser().absolute()
    _check_free(folder)
    with disk_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as partial:
            new = Path(partial) / "new"
            (new / "charts").mkdir(parents=True)
            files, size = report_files(workspace, comparison, without, pictures, charts), 0
            while True:
                try:
                    name, data = next(files)
                except StopIteration as end:
                    problem = end.value
                    break
                (new / name).write_bytes(data)
                size += len(data)
            if not any((new / "charts").iterdir()):
                (new / "charts").rmdir()
            if folder.exists():
                folder.rename(Path(partial) / "old")
            new.rename(folder)
    return Written(folder / PAGE, size, problem)


def _check_free(folder: Path) -> None:
    """Raises `WorkspaceError` unless the folder is missing, empty, or an earlier report that nobody added to."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise WorkspaceError(f"{folder} is a file: name a folder with --out")
    there = {path.name for path in folder.iterdir()}
    if there and not there >= _SIGNS:
        raise WorkspaceError(
            f"{folder} holds {len(there)} other files or folders and no report: name another with --out"
        )
    known = {line.partition("  ")[2].partition("/")[0] for line in _sums(folder)} | {SUMS}
    if strange := sorted(there - known):
        raise WorkspaceError(
            f"{folder} holds an earlier report and {strange[0]!r}, which is no part of it: move it, or name another "
            "folder with --out"
        )


def _sums(folder: Path) -> list[str]:
    path = folder / SUMS
    return path.read_text(errors="replace").splitlines() if path.exists() else []


def _readme(comparison: Comparison, left_out: Sequence[str], tables: Sequence[str], problem: str) -> str:
    parts = [
        f"Comparison {comparison.id}",
        "report.html shows everything and needs no network. comparison.json is the comparison as the program keeps it: "
        "settings of sample and runs, and all models' numbers. SHA256SUMS holds the files' checksums (sha256sum -c).",
        "All fractions lie in [0, 1]. Numbers have all their digits: scores are float32, all others float64. Intervals "
        "are 95 %. Files are UTF-8, divided by commas. Text that a spreadsheet would take for a formula, and text that "
        "begins with an apostrophe, has an apostrophe put before it: take one away to have the value.",
    ]
    if comparison.synthetic:
        parts.append("These pictures are synthetic: drawn by the program, of nobody.")
    parts.append("For teaching and research. Not for diagnosis.")
    if left_out:
        parts.append(f"{len(left_out)} test pictures marked as wrongly labelled count nowhere: {', '.join(left_out)}")
    if problem:
        parts.append(f"charts/: {problem}")
    return "\n\n".join([*parts, *tables]) + "\n"
