"""The command line: the same engine as the app, without a screen. One module a kind of command."""

from clipdemo.cli import data, training, sweeping, estimating, comparing, interpolating  # noqa: F401, I001  (in the order of the help)
from clipdemo.cli import indexing, mapping, reporting, exporting, classifying, serving, watching  # noqa: F401
from clipdemo.cli.common import app

__all__ = ["app"]
