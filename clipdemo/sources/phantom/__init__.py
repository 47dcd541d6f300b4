"""The built-in source: synthetic pictures that look like medical ones, with captions and the messes of real data.

Row i is made of (seed, settings, i) alone, so the source is as long as one asks and any row can be redrawn.
Rows come in blocks of `BLOCK`; inside a block a row may be another picture of an earlier row's case, or repeat one.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from multiprocessing import get_context
from typing import Annotated, TypeVar

import numpy as np
import pandas as pd
from pydantic import Field

from clipdemo.errors import PictureError
from clipdemo.images import encode_png
from clipdemo.sources.base import Source
from clipdemo.sources.bodyparts import BODY_PARTS, SYNONYMS
from clipdemo.sources.phantom.captions import PLACEHOLDERS, bad_label, caption, label_variant
from clipdemo.sources.phantom.catalogue import NORMAL, PART_SHARES, VIEWS_OF, Case, View
from clipdemo.sources.settings import PhantomOptions

K = TypeVar("K")
BLOCK = 8
NORMAL_SHARE = 0.4  # of the cases have nothing wrong


class PhantomSettings(PhantomOptions):
    """The options, and the seed that everything is drawn from."""

    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0


@dataclass(frozen=True, slots=True)
class PhantomRow:
    """All that one row is made of, before anything is drawn."""

    case: Case
    group: str
    take_seed: int
    retouch_seed: int | None  # not None: a near-duplicate, the take slightly changed
    label: str
    text_seed: int
    placeholder: bool  # its caption says nothing

    @property
    def caption(self) -> str:
        """Written when it is asked for: whoever draws the picture does not need it."""
        rng = random.Random(self.text_seed)
        return PLACEHOLDERS[rng.randrange(len(PLACEHOLDERS))] if self.placeholder else caption(self.case, rng)


class PhantomSource(Source):
    """See `clipdemo.sources.Source`. Drawing uses all cores; a row costs about 5 ms of one (benchmarks/drawing.py)."""

    name = "phantom"
    synthetic = True
    classes: tuple[str, ...] | None = BODY_PARTS
    synonyms: Mapping[str, str] = SYNONYMS

    def __init__(self, settings: PhantomSettings | None = None) -> None:
        self.settings = settings or PhantomSettings()

    def __len__(self) -> int:
        return self.settings.rows

    def row(self, index: int) -> PhantomRow:
        """What row `index` is made of."""
        return _block(self.settings, index // BLOCK)[index % BLOCK]

    @cached_property
    def _table(self) -> pd.DataFrame:
        rows = self.settings.rows
        blocks = (_block(self.settings, b) for b in range(-(-rows // BLOCK)))
        made = [row for block in blocks for row in block][:rows]
        return pd.DataFrame(
            {
                "id": [f"phantom_{i:07d}" for i in range(rows)],
                "caption": [row.caption for row in made],
                "label": [row.label for row in made],
                "modality": [row.case.view.modality for row in made],
                "group": [row.group for row in made],
                "problem": "",
            },
            dtype="str",
        )

    def table(self) -> pd.DataFrame:
        """All rows without their pictures: about 50 µs a row, made once."""
        return self._table

    def pictures(self, rows: Sequence[int]) -> Iterator[bytes | PictureError]:
        """The pictures of these rows as PNG files, in order."""
        draw = partial(draw_png, self.settings)
        workers = min(os.cpu_count() or 1, len(rows) // 64)
        if workers < 2:
            yield from map(draw, rows)
            return
        # "spawn": a fork of a process that has torch's threads may hang
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            yield from pool.map(draw, rows, chunksize=32)


def draw_png(settings: PhantomSettings, index: int) -> bytes:
    """Row `index`'s picture as a PNG file."""
    from clipdemo.sources.phantom.drawing import draw

    row = _block(settings, index // BLOCK)[index % BLOCK]
    picture = draw(row.case, row.take_seed)
    return encode_png(picture if row.retouch_seed is None else _retouched(picture, row.retouch_seed))


def _retouched(picture: np.ndarray, seed: int) -> np.ndarray:
    """The picture as another journal would print it: a little brighter or darker, and shifted by a pixel."""
    rng = random.Random(seed)
    gain = np.float32(0.95 + 0.1 * rng.random())
    shifted = np.roll(picture, (rng.randrange(3) - 1, rng.randrange(3) - 1), axis=(0, 1))
    return np.minimum(shifted.astype(np.float32) * gain, np.float32(255)).astype(np.uint8)


def _block(settings: PhantomSettings, block: int) -> list[PhantomRow]:
    """The `BLOCK` rows of a block."""
    rng = random.Random(settings.seed << 32 | block)
    rows: list[PhantomRow] = []
    for slot in range(BLOCK):
        rows.append(_next_row(settings, rng, rows, f"case_{block * BLOCK + slot:07d}"))
    return rows


def _next_row(settings: PhantomSettings, rng: random.Random, rows: list[PhantomRow], group: str) -> PhantomRow:
    # A block's first row cannot repeat anything, so the others repeat a little more often.
    luck = rng.random() * (BLOCK - 1) / BLOCK
    earlier = rows[rng.randrange(len(rows))] if rows else None
    case, take_seed, retouch_seed = None, rng.getrandbits(63), None
    if earlier and luck < settings.duplicates:
        case, group, take_seed, retouch_seed = earlier.case, earlier.group, earlier.take_seed, earlier.retouch_seed
    elif earlier and luck < settings.duplicates + settings.near_duplicates:
        case, group, take_seed, retouch_seed = earlier.case, earlier.group, earlier.take_seed, rng.getrandbits(32)
    elif earlier and luck < settings.duplicates + settings.near_duplicates + settings.same_case:
        case, group = earlier.case, earlier.group
    case = case or _new_case(rng)
    if retouch_seed is not None or (earlier and take_seed == earlier.take_seed):
        group = ""  # nobody wrote down that these are copies: finding them is the cleaning's work
    label = _label(settings, rng, case.view.part)
    placeholder = rng.random() < settings.placeholders
    return PhantomRow(case, group, take_seed, retouch_seed, label, rng.getrandbits(63), placeholder)


def _new_case(rng: random.Random) -> Case:
    part = _pick(rng, PART_SHARES.items())
    view: View = _pick(rng, ((view, view.share) for view in VIEWS_OF[part]))
    finding = NORMAL if rng.random() < NORMAL_SHARE else rng.choice(view.findings)
    return Case(view, finding, "left" if rng.random() < 0.5 else "right", rng.getrandbits(63))


def _pick(rng: random.Random, shares: Iterable[tuple[K, float]]) -> K:
    """One of the keys of (key, share) pairs, as often as its share says."""
    luck, chosen = rng.random(), None
    for key, share in shares:
        chosen = key
        luck -= share
        if luck < 0:
            break
    return chosen


def _label(settings: PhantomSettings, rng: random.Random, part: str) -> str:
    luck = rng.random()
    if luck < settings.bad_labels:
        return bad_label(part, rng)
    if luck < settings.bad_labels + settings.wrong_labels:
        return BODY_PARTS[(BODY_PARTS.index(part) + 1 + rng.randrange(len(BODY_PARTS) - 1)) % len(BODY_PARTS)]
    return label_variant(part, rng) if rng.random() < settings.label_variants else part
