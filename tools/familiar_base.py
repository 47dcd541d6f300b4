"""Makes assets/base/familiar.safetensors: pictures of the built-in dataset as `clipdemo.novelty` sees them.

    python -m tools.familiar_base

By them the built-in base alone, without any sample, knows what is like pictures that this program draws. Run it again
when the base or what `phantom` draws has changed. No two pictures are of one case. Takes about 10 seconds.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import typer
from safetensors.numpy import save_file

from clipdemo.classify import FAMILIAR_FILE
from clipdemo.embeddings import as_kept
from clipdemo.images import decode, fit_square
from clipdemo.models import open_model
from clipdemo.novelty import seen
from clipdemo.records import BUILT_IN_BASE
from clipdemo.sources.bodyparts import BODY_PARTS
from clipdemo.sources.phantom import PhantomSettings, PhantomSource, draw_png

TRAIN, HELD_OUT = 500, 100  # pictures to compare with, and to count false alarms on
SETTINGS = PhantomSettings(rows=6 * (TRAIN + HELD_OUT), seed=50_000)  # a seed of nobody's sample by default


def main() -> None:
    """Draws the pictures and writes how they are seen."""
    rows = familiar_rows()
    parts = {"train": rows[:TRAIN], "held_out": rows[TRAIN:]}
    found = {f"{part}.{way}": array for part, rows in parts.items() for way, array in drawn(rows).items()}
    save_file(found, FAMILIAR_FILE)


def familiar_rows() -> list[int]:
    """The first rows that have a body part, one of each case."""
    table = PhantomSource(SETTINGS).table()
    usable = table[table["label"].isin(BODY_PARTS) & (table["problem"] == "")]
    return usable.drop_duplicates("group").index[: TRAIN + HELD_OUT].tolist()


def drawn(rows: Sequence[int]) -> dict[str, np.ndarray]:
    """float16: rows of the built-in dataset as the built-in base and the rule see them."""
    clip = open_model(BUILT_IN_BASE, None)
    pixels = np.stack([fit_square(decode(draw_png(SETTINGS, row), f"row {row}"), clip.image_size) for row in rows])
    return {way: array.astype(np.float16) for way, array in seen(pixels, as_kept(clip.encode_images(pixels))).items()}


if __name__ == "__main__":
    typer.run(main)
