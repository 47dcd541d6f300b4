"""A source whose every row and picture a test can plan."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from clipdemo.errors import PictureError
from clipdemo.images import encode_png
from clipdemo.sources import Source


def blotches(seed: int) -> np.ndarray:
    """A picture unlike any with another seed: 8 x 8 random squares, 64 pixels wide."""
    squares = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return squares.repeat(8, axis=0).repeat(8, axis=1)


class TinySource(Source):
    """Rows as a test lists them: (label, caption, group, picture), a picture being a seed, bytes or None (missing)."""

    name, synthetic, synonyms = "tiny", True, {}

    def __init__(self, rows: Sequence[tuple[str, str, str, int | bytes | None]], classes: Sequence[str] | None) -> None:
        self.rows, self.classes = rows, classes and tuple(classes)

    def table(self) -> pd.DataFrame:
        ids = [f"row_{i:04d}" for i in range(len(self.rows))]
        columns = {"label": 0, "caption": 1, "group": 2}
        data = {name: [row[i] for row in self.rows] for name, i in columns.items()}
        return pd.DataFrame({"id": ids, **data, "modality": "", "problem": ""}, dtype="str")

    def pictures(self, rows: Sequence[int]) -> Iterator[bytes | PictureError]:
        for row in rows:
            picture = self.rows[row][3]
            if picture is None:
                yield PictureError(f"row {row} has none", "picture is missing")
            else:
                yield encode_png(blotches(picture)) if isinstance(picture, int) else picture
