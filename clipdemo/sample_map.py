"""Maps of a sample: a base and its runs projected, kept in the workspace, found again, and made again where damaged."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clipdemo.embeddings import model_id, sample_embeddings
from clipdemo.errors import ClipDemoError, ComparisonError
from clipdemo.models import open_model
from clipdemo.progress import Activity, Progress
from clipdemo.projection import (
    STAGE,
    Facts,
    Map,
    MapSettings,
    check_view,
    evenly_by_class,
    import_umap,
    in_short,
    pca_map,
    umap_map,
    umap_version,
)
from clipdemo.records import BUILT_IN_BASE, DEFAULT_TEMPLATE, Record
from clipdemo.sampling import Sample
from clipdemo.training.runs import Run
from clipdemo.workspace import Workspace, atomic_write, disk_errors, read_json, write_json

logger = logging.getLogger(__name__)

FORMAT = 1  # of what a map keeps; another number has all maps made anew
_PCA_IGNORES = {"neighbours", "min_distance", "seed", "most"}


class MappedModel(Record):
    """A model of a map: a run's weights, or a base where `run` is None. `model` is its `embeddings.model_id`."""

    model: str
    run: str | None
    base: str


class MapRecord(Record):
    """What a map was made of, and what it shows; the points lie beside it."""

    id: str
    sample: str
    sample_hash: str
    template: str
    classes: tuple[str, ...]  # the sentences' classes, in their order
    models: tuple[MappedModel, ...]
    settings: MapSettings
    umap: str  # umap-learn's version; "" for PCA
    facts: dict[str, Facts]
    points: str  # digest of the points


@dataclass(frozen=True)
class SampleMap:
    """A finished map with what it was made of."""

    record: MapRecord
    map: Map


def sample_map(
    sample: Sample,
    workspace: Workspace,
    runs: Sequence[Run] = (),
    base: str | None = None,
    settings: MapSettings | None = None,
    template: str | None = None,
) -> Activity[SampleMap]:
    """The map of one sample as a base and runs see it, made and kept, or found again; a damaged one is made again.

    `base` is the first run's, and `template` as well, where they are left out: all models get the same sentences.
    Any run will do, also one that was trained on another sample. Raises `ComparisonError` for one without weights,
    `BadSettings`, `ModelError`.
    """
    settings = settings or MapSettings()
    models, template = _models(runs, base), template or _template(runs)
    record = _record(sample, models, settings, template)
    check_view(settings, bool(sample.classes))
    if settings.method == "umap" and not record.umap:
        import_umap()  # says what is missing before anything is encoded
    with workspace.lock(f"map-{record.id}"):
        if (kept := _kept(workspace.folder("maps", record.id))) is None:
            found = yield from _made(sample, workspace, models, settings, template)
            kept = _keep(workspace, record, found)
    yield Progress(stage=STAGE, done=1, total=1, note=in_short(kept.map))
    return kept


def find_map(
    sample: Sample,
    workspace: Workspace,
    runs: Sequence[Run] = (),
    base: str | None = None,
    settings: MapSettings | None = None,
    template: str | None = None,
) -> SampleMap | None:
    """The finished map of these very weights and settings, if there is one. Opens no model."""
    settings = settings or MapSettings()
    record = _record(sample, _models(runs, base), settings, template or _template(runs))
    return _kept(workspace.folder("maps", record.id))


def load_map(workspace: Workspace, name: str) -> SampleMap:
    """A finished map by its id. Raises `ComparisonError` when there is none, or it is damaged."""
    kept = _kept(workspace.folder("maps", name))
    if kept is None:
        known = ", ".join(workspace.names("maps")[:5]) or "none yet"
        raise ComparisonError(f"there is no whole map {name!r} in {workspace.root}: known are {known}; make it again")
    return kept


def _models(runs: Sequence[Run], base: str | None) -> list[tuple[str, Run | None, str]]:
    for run in runs:
        if run.result is None or not run.weights.exists():
            raise ComparisonError(f"run {run.id} has no weights to map: it has not ended, or was broken off")
    base = base or (runs[0].config.base if runs else BUILT_IN_BASE)
    wanted = [(None, base), *((run, run.config.base) for run in runs)]
    models = [(model_id(run, base), run, base) for run, base in wanted]
    return list({model: (model, run, base) for model, run, base in models}.values())


def _template(runs: Sequence[Run]) -> str:
    return runs[0].config.template if runs else DEFAULT_TEMPLATE


def _record(sample: Sample, models: list, settings: MapSettings, template: str) -> MapRecord:
    """All that is known beforehand; the id is made of it."""
    umap = umap_version() if settings.method == "umap" else ""
    decides = settings.model_dump(exclude=_PCA_IGNORES if settings.method == "pca" else set())
    key = [FORMAT, [model for model, _, _ in models], sample.content_hash, template, decides, umap]
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:8]
    return MapRecord(
        id=f"{settings.method}-{sample.id}-{digest}",
        sample=sample.id,
        sample_hash=sample.content_hash,
        template=template,
        classes=sample.classes,
        models=tuple(MappedModel(model=m, run=run.id if run else None, base=base) for m, run, base in models),
        settings=settings,
        umap=umap,
        facts={},
        points="",
    )


def _made(sample: Sample, workspace: Workspace, models: list, settings: MapSettings, template: str) -> Activity[Map]:
    embeddings, texts = {}, {}
    for model, run, base in models:
        yield Progress(stage=STAGE, done=0, total=1, note=f"opening {run.id if run else base}")
        clip = open_model(base, run.weights if run else None)
        embeddings[model] = images = yield from sample_embeddings(clip, model, sample, workspace)
        empty = np.empty((0, images.shape[1]), np.float32)
        texts[model] = clip.encode_classes(sample.classes, template) if sample.classes else empty
    labels, text_of = sample.manifest["label"], None
    if sample.classes:
        text_of = labels.map({label: i for i, label in enumerate(sample.classes)}).to_numpy()
    if settings.method == "pca":
        return pca_map(embeddings, texts, settings, text_of)
    rows = evenly_by_class(labels, settings.most, settings.seed)
    return (yield from umap_map(embeddings, texts, settings, text_of, rows))


# ---- files


def _arrays(found: Map) -> dict[str, np.ndarray]:
    """The points under names that stay the same whatever models are called."""
    arrays = {"rows": np.asarray(found.rows, dtype=np.int64)}
    for place, model in enumerate(found.models):
        arrays |= {f"images{place}": found.images[model], f"texts{place}": found.texts[model]}
    return arrays


def _digest(arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].dtype} {arrays[name].shape}".encode())
        digest.update(np.ascontiguousarray(arrays[name]))
    return digest.hexdigest()


def _keep(workspace: Workspace, record: MapRecord, found: Map) -> SampleMap:
    arrays = _arrays(found)
    whole = MapRecord(**dict(record) | {"facts": dict(found.facts), "points": _digest(arrays)})
    data = io.BytesIO()
    np.savez(data, **arrays)
    folder = workspace.folder("maps", record.id)
    with disk_errors(folder):
        folder.mkdir(exist_ok=True)
    atomic_write(folder / "map.npz", data.getvalue())
    write_json(folder / "map.json", whole.model_dump(mode="json"))
    return SampleMap(whole, found)


def _kept(folder: Path) -> SampleMap | None:
    """What a folder holds; None where there is nothing, or it is damaged, which is said in the log."""
    if not (folder / "map.json").exists():
        return None
    try:
        record = MapRecord(**read_json(folder / "map.json"))
        with np.load(io.BytesIO((folder / "map.npz").read_bytes()), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        if _digest(arrays) != record.points:
            raise ValueError("its points are not those that were written")
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error, ClipDemoError) as error:
        logger.warning("map %s cannot be used (%s): it has to be made again", folder.name, error)
        return None
    names = [model.model for model in record.models]
    images, texts = ({m: arrays[f"{what}{i}"] for i, m in enumerate(names)} for what in ("images", "texts"))
    return SampleMap(record, Map(record.settings, arrays["rows"], images, texts, record.facts))
