"""Pictures to try a classifier with, that are of nobody: drawn by this program."""

from __future__ import annotations

from clipdemo.comparison import load_comparison
from clipdemo.errors import ClipDemoError, PictureError
from clipdemo.sampling import Sample, load_sample
from clipdemo.sources.bodyparts import BODY_PARTS
from clipdemo.workspace import Workspace


def drawn_examples(workspace: Workspace, comparison: str | None, count: int) -> dict[str, bytes]:
    """At most `count` pictures of as many classes, a file's name such as "chest.png" -> its bytes.

    From the test split of the comparison's sample where that is drawn, which no model was trained on; else new ones.
    """
    sample = _drawn_sample(workspace, comparison)
    return _of_the_sample(sample, count) if sample else _new(count)


def _drawn_sample(workspace: Workspace, comparison: str | None) -> Sample | None:
    try:
        sample = load_sample(workspace, load_comparison(workspace, comparison).sample) if comparison else None
    except ClipDemoError:  # deleted since
        return None
    return sample if sample and sample.synthetic and sample.classes else None


def _of_the_sample(sample: Sample, count: int) -> dict[str, bytes]:
    rows = sample.rows("test").drop_duplicates("label").head(count)
    return {f"{row.label.lower()}.png": sample.picture(row.image) for row in rows.itertuples() if row.label}


def _new(count: int) -> dict[str, bytes]:
    from clipdemo.sources.phantom import PhantomSettings, PhantomSource

    source = PhantomSource(PhantomSettings(rows=2_000))
    table = source.table()
    first = table[table["label"].isin(BODY_PARTS)].drop_duplicates("label").head(count)
    pictures = zip(first["label"], source.pictures(first.index.tolist()), strict=True)
    return {f"{label.lower()}.png": data for label, data in pictures if not isinstance(data, PictureError)}
