"""Charts as SVG and PNG files, drawn by a Chromium that kaleido finds on this machine."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from clipdemo.reporting.figures import Chart

logger = logging.getLogger(__name__)

Format = Literal["svg", "png"]
FORMATS: tuple[Format, ...] = ("svg", "png")
WIDTH = 900  # pixels; PNG has twice as many
_INSTALL = "install Chromium or Chrome, or say with BROWSER_PATH where it is; report.html draws all charts without"


class Drawn(NamedTuple):
    """Files by their names, and in one sentence why some or all are missing; "" where none is."""

    files: dict[str, bytes]
    problem: str


def draw(charts: Sequence[Chart], formats: Sequence[Format]) -> Drawn:
    """All charts in all formats, by one browser, which takes seconds to start. Nothing is fetched."""
    if not charts or not formats:
        return Drawn({}, "")
    if problem := _cannot():
        logger.warning(problem)
        return Drawn({}, problem)
    with tempfile.TemporaryDirectory() as folder:
        wanted = [Path(folder) / f"{chart.name}.{kind}" for chart in charts for kind in formats]
        problem = _draw_into(Path(folder), charts, formats)
        files = {path.name: path.read_bytes() for path in wanted if path.exists()}
    if missing := len(wanted) - len(files):
        problem = f"{missing} of {len(wanted)} pictures of charts were not drawn ({problem}): {_INSTALL}"
        logger.warning(problem)
        return Drawn(files, problem)
    return Drawn(files, "")


def _cannot() -> str:
    """Why this machine cannot draw, in one sentence; "" where it can."""
    try:
        import kaleido  # noqa: F401
        from choreographer.browsers.chromium import Chromium
    except ImportError as error:
        return f"no pictures of charts: {error}; pip install kaleido brings it"
    if Chromium.find_browser(skip_local=False) is None:
        return f"no pictures of charts: there is no Chromium or Chrome on this machine; {_INSTALL}"
    return ""


def _draw_into(folder: Path, charts: Sequence[Chart], formats: Sequence[Format]) -> str:
    """Writes NAME.FORMAT for each chart; what went wrong, if anything."""
    import kaleido

    orders = [
        {
            "fig": chart.figure,
            "path": folder / f"{chart.name}.{kind}",
            "opts": {
                "format": kind,
                "width": WIDTH,
                "height": chart.figure.layout.height,
                "scale": 1 + (kind == "png"),
            },
        }
        for chart in charts
        for kind in formats
    ]
    try:
        errors = kaleido.write_fig_from_object_sync(orders, kopts={"mathjax": False})
    except Exception as error:  # kaleido raises whatever a browser may do; a report does without its pictures
        errors = (error,)
    return "; ".join(dict.fromkeys(f"{type(error).__name__}: {error}" for error in errors or ()))
