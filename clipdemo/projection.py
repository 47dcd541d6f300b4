"""All pictures and class sentences of a sample in two dimensions: by PCA at once, by UMAP in a while.

PCA turns the space and leaves two axes standing, so distances are true where the axes show them. UMAP (McInnes, Healy &
Melville 2018) keeps who lies near whom, and nothing else: distances between islands, and their sizes, mean nothing.

Several models are drawn one over another: the first is the base, each other one is laid on it (`aligned`). What lies
between two models is for the eye, as the spaces of two models have no axes in common.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from clipdemo.errors import BadSettings
from clipdemo.progress import Activity, Progress
from clipdemo.records import Fraction, Record, percent
from clipdemo.sampling import equal_shares

logger = logging.getLogger(__name__)

STAGE = "map"
_CHUNK = 8192  # rows in float64 at a time
Embeddings = Mapping[str, np.ndarray]  # a model's id -> float32 (n, dim), rows of unit length


class MapSettings(Record):
    """How a map is drawn. Descriptions are the command line's help."""

    method: Literal["pca", "umap"] = Field("pca", description="pca: at once, true distances; umap: neighbourhoods.")
    view: Literal["together", "apart", "gap"] = Field(
        "together",
        description="together: pictures and sentences about one mean; apart: each about its own, which takes the "
        "modality gap away; gap: the first axis leads from the mean picture to the mean sentence (pca).",
    )
    neighbours: int = Field(15, ge=2, le=200, description="umap: how many nearest points a point is kept near to.")
    min_distance: Fraction = Field(0.1, description="umap: how closely points may be packed.")
    seed: int = Field(0, ge=0, lt=2**32, description="umap: the same seed gives the same map again.")
    most: int = Field(20_000, ge=12, description="umap: pictures in the map, as many of each class as far as they go.")

    @model_validator(mode="after")
    def _umap_has_no_axes(self) -> Self:
        if self.view == "gap" and self.method == "umap":
            raise ValueError("view = gap: UMAP has no axes to choose; use the method pca, or another view")
        return self


class Gap(Record):
    """How far pictures and sentences lie apart in one model's space. Says nothing about how good the model is.

    Liang et al. 2022, "Mind the Gap": most CLIPs keep the two in separate cones, since training asks only that the
    matching pair be nearer than the others, not that it be near.
    """

    distance: Annotated[float, Field(ge=0)]  # between the mean picture and the mean sentence, both inside the unit ball
    matching: float | None = None  # mean cosine of a picture with its own sentence
    others: float | None = None  # mean cosine over all pairs that do not match: what random pairs have on average
    n_images: int
    n_texts: int

    @property
    def sentence(self) -> str:
        """The numbers in plain words."""
        said = f"The mean of {self.n_images:,} pictures and the mean of {self.n_texts:,} sentences lie "
        said += f"{self.distance:.2f} apart (0: no gap; 2 at most)."
        if self.matching is None or self.others is None:
            return said
        more = self.matching - self.others
        return (
            f"{said} A picture's cosine with its own sentence is {self.matching:.2f} on average, with the others "
            f"{self.others:.2f}. Only differences such as these {more:.2f} decide: what all sentences have in common "
            "adds the same to each of a picture's scores, and so the gap changes no answer."
        )


class Facts(Record):
    """What one model's part of a map shows, and what was done to it."""

    variance: tuple[Fraction, ...] = ()  # share of all variance on each axis, before alignment; PCA only
    gap: Gap | None = None  # None where there are no sentences
    gap_shown: Fraction | None = None  # the gap's length in the plane of the axes / its length; PCA together, or gap
    scale: float = 1.0  # distances are drawn so many times as large as they are in this model's own map
    disparity: Fraction = 0.0  # share of the spread that the base's map does not explain; 0: the same map


@dataclass(frozen=True)
class Map:
    """Points of one or more models, the base first, on shared axes."""

    settings: MapSettings
    rows: np.ndarray  # int64 (n,): of which picture each point is, as a row of the embeddings; ascending
    images: Mapping[str, np.ndarray]  # a model's id -> float32 (n, 2)
    texts: Mapping[str, np.ndarray]  # a model's id -> float32 (m, 2)
    facts: Mapping[str, Facts]

    @property
    def models(self) -> tuple[str, ...]:
        """Ids of the models, the base first."""
        return tuple(self.images)


# ---- PCA


@dataclass(frozen=True)
class Axes:
    """Directions in a model's space, and where their zero is."""

    mean: np.ndarray  # float64 (dim,)
    directions: np.ndarray  # float64 (n_axes, dim), orthonormal
    variance: tuple[float, ...]  # share of all variance on each

    def place(self, rows: np.ndarray) -> np.ndarray:
        """float32 (n, n_axes)."""
        return ((rows - self.mean) @ self.directions.T).astype(np.float32)


def principal_axes(rows: np.ndarray, count: int = 2) -> Axes:
    """Exact PCA: eigenvectors of the covariance of float rows (n, dim), the one with most variance first.

    An axis points where its largest weight (by size) is positive, which is scikit-learn's rule as well.
    """
    mean = rows.mean(axis=0, dtype=np.float64)
    values, vectors = np.linalg.eigh(_scatter(rows, mean))
    directions = vectors.T[::-1][:count]
    largest = np.take_along_axis(directions, np.abs(directions).argmax(axis=1)[:, None], axis=1)
    shares = np.clip(values[::-1][:count], 0, None) / max(values.sum(), np.finfo(float).tiny)
    return Axes(mean, directions * np.where(largest < 0, -1, 1), tuple(float(min(s, 1)) for s in shares))


def _scatter(rows: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """float64 (dim, dim): the covariance times n, summed in stretches, so that 100,000 rows need no second copy."""
    total = np.zeros((rows.shape[1],) * 2)
    for first in range(0, len(rows), _CHUNK):
        part = rows[first : first + _CHUNK] - mean
        total += part.T @ part
    return total


def gap_axes(images: np.ndarray, texts: np.ndarray) -> Axes:
    """First from the mean picture to the mean text, then the direction with most variance at right angles to that.

    Both means lie on the same level of the second axis, so the drawn distance between them is the gap itself.
    """
    both = np.concatenate([images, texts]).astype(np.float64)
    way = texts.mean(axis=0, dtype=np.float64) - images.mean(axis=0, dtype=np.float64)
    if not (length := np.linalg.norm(way)):
        raise BadSettings("view = gap: the mean picture and the mean sentence are the same, so no axis joins them")
    way /= length
    centred = both - both.mean(axis=0)
    along = centred @ way
    rest = principal_axes(centred - along[:, None] * way, 1)
    total = (centred**2).sum()
    second = rest.directions[0] - (rest.directions[0] @ way) * way  # exactly at right angles
    directions = np.stack([way, second / np.linalg.norm(second)])
    shares = ((centred @ directions.T) ** 2).sum(axis=0) / total
    return Axes(both.mean(axis=0), directions, tuple(float(min(s, 1)) for s in shares))


def pca_map(
    embeddings: Embeddings,
    texts: Embeddings,
    settings: MapSettings | None = None,
    text_of: np.ndarray | None = None,
) -> Map:
    """Each model's pictures and texts on its own two main axes, the other models laid on the first one's map.

    The rows of all models are the same pictures and texts. `text_of` (n,) is each picture's own text, for the gap.
    Raises `BadSettings` for rows that do not fit together, and for the view of a gap without texts.
    """
    settings = settings or MapSettings()
    _check(embeddings, texts, settings)
    images_at, texts_at, facts = {}, {}, {}
    for model, images in embeddings.items():
        own = texts[model]
        gap = modality_gap(images, own, text_of) if len(own) else None
        if settings.view == "gap":
            axes = gap_axes(images, own)
        else:
            images, own = _centred(images, own, settings.view)
            axes = principal_axes(np.concatenate([images, own]))
        images_at[model], texts_at[model] = axes.place(images), axes.place(own)
        shown = _gap_shown(images_at[model], texts_at[model], gap) if settings.view != "apart" else None
        facts[model] = Facts(variance=axes.variance, gap=gap, gap_shown=shown)
    found = Map(settings, np.arange(len(images)), images_at, texts_at, facts)
    return _laid_on_the_first(found)


def _gap_shown(images: np.ndarray, texts: np.ndarray, gap: Gap | None) -> float | None:
    if gap is None or not gap.distance:
        return None
    shown = np.linalg.norm(images.mean(axis=0, dtype=np.float64) - texts.mean(axis=0, dtype=np.float64))
    return float(min(shown / gap.distance, 1))


def _centred(images: np.ndarray, texts: np.ndarray, view: str) -> tuple[np.ndarray, np.ndarray]:
    """As they are, or each about its own mean."""
    if view != "apart" or not len(texts):
        return images, texts
    return images - images.mean(axis=0), texts - texts.mean(axis=0)


def _check(embeddings: Embeddings, texts: Embeddings, settings: MapSettings) -> None:
    sizes = {(len(embeddings[model]), len(texts[model])) for model in embeddings}
    if len(sizes) != 1 or 0 in {n for n, _ in sizes}:
        raise BadSettings(f"a map needs the same pictures and texts of all its models: found (pictures, texts) {sizes}")
    check_view(settings, all(len(own) for own in texts.values()))


def check_view(settings: MapSettings, sentences: bool) -> None:
    """Raises `BadSettings` for a view that needs sentences where there are none."""
    if settings.view == "gap" and not sentences:
        raise BadSettings("view = gap: this sample has no classes, and so no sentences to lie apart from its pictures")


# ---- the modality gap


def modality_gap(images: np.ndarray, texts: np.ndarray, text_of: np.ndarray | None = None) -> Gap:
    """How far float (n, dim) pictures and (m, dim) texts, rows of unit length, lie apart; see `Gap`.

    `text_of` (n,) is the row of each picture's own text. "Others" is the mean over all n (m - 1) pairs that do not
    match, so nothing is drawn by chance.
    """
    mean_image, mean_text = (rows.mean(axis=0, dtype=np.float64) for rows in (images, texts))
    sizes = {"n_images": len(images), "n_texts": len(texts)}
    distance = float(np.linalg.norm(mean_image - mean_text))
    if text_of is None or len(texts) < 2:
        return Gap(distance=distance, **sizes)
    matching = float(np.einsum("nd,nd->n", images, texts[text_of]).mean(dtype=np.float64))
    everything = float(mean_image @ mean_text) * len(texts)  # of a picture, with all texts
    others = (everything - matching) / (len(texts) - 1)
    return Gap(distance=distance, matching=matching, others=others, **sizes)


# ---- one map laid on another


@dataclass(frozen=True)
class Alignment:
    """points -> scale x points @ rotation + shift."""

    rotation: np.ndarray  # float64 (2, 2), orthogonal: turns, and mirrors where that fits better
    scale: float
    shift: np.ndarray  # float64 (2,)
    disparity: float  # 1 - r squared: share of the spread that one map does not explain of the other, in [0, 1]

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """float32 (n, 2)."""
        return (self.scale * (points @ self.rotation) + self.shift).astype(np.float32)


def aligned(points: np.ndarray, onto: np.ndarray) -> Alignment:
    """Orthogonal Procrustes with shift and scale: lays float (n, 2) points on others, row by row.

    The scale gives both the same spread. That of least squares would draw a map the smaller, the less it is like the
    other, as if its clusters had tightened.

    It makes two maps easy to compare and changes no ratio of distances within either. It does not make their spaces
    one: where a point has moved says how it lies among the others, not which way its embedding went.
    """
    from scipy.linalg import orthogonal_procrustes

    from_mean, to_mean = (rows.mean(axis=0, dtype=np.float64) for rows in (points, onto))
    a, b = points - from_mean, onto - to_mean
    spread_a, spread_b = (a**2).sum(), (b**2).sum()
    if not spread_a or not spread_b:  # all points in one place
        return Alignment(np.eye(points.shape[1]), 1.0, to_mean - from_mean, 0.0)
    rotation, together = orthogonal_procrustes(a, b)
    scale = np.sqrt(spread_b / spread_a)
    disparity = float(np.clip(1 - together**2 / (spread_a * spread_b), 0, 1))
    return Alignment(rotation, float(scale), to_mean - scale * from_mean @ rotation, disparity)


def _laid_on_the_first(found: Map) -> Map:
    """All other models' points aligned to the first one's, pictures and texts in one piece."""
    first = found.models[0]
    images, texts, facts = dict(found.images), dict(found.texts), dict(found.facts)
    fixed = np.concatenate([images[first], texts[first]])
    for model in found.models[1:]:
        own = np.concatenate([images[model], texts[model]])
        # The axes of the gap have a meaning, so at most the second is turned round.
        fit = _upright(own, fixed) if found.settings.view == "gap" else aligned(own, fixed)
        images[model], texts[model] = fit(images[model]), fit(texts[model])
        facts[model] = Facts(**dict(facts[model]) | {"scale": fit.scale, "disparity": fit.disparity})
    return replace(found, images=images, texts=texts, facts=facts)


def _upright(points: np.ndarray, onto: np.ndarray) -> Alignment:
    a, b = (rows - rows.mean(axis=0, dtype=np.float64) for rows in (points, onto))
    sign = -1.0 if (a[:, 1] * b[:, 1]).sum() < 0 else 1.0
    rotation = np.diag([1.0, sign])
    spread_a, spread_b = (a**2).sum(), (b**2).sum()
    disparity = float(np.clip(1 - ((a @ rotation) * b).sum() ** 2 / (spread_a * spread_b), 0, 1))
    return Alignment(rotation, 1.0, np.zeros(2), disparity)


# ---- UMAP


def umap_version() -> str:
    """The installed umap-learn's version, without importing it; "" where there is none."""
    try:
        return metadata.version("umap-learn")
    except metadata.PackageNotFoundError:
        return ""


def umap_map(
    embeddings: Embeddings,
    texts: Embeddings,
    settings: MapSettings,
    text_of: np.ndarray | None = None,
    rows: np.ndarray | None = None,
) -> Activity[Map]:
    """UMAP by cosine, of the pictures in `rows` (all where it is left out) with the texts.

    The base starts from its PCA map, which keeps more of the large shape than chance does (Kobak & Linderman 2021) and
    needs no eigensolver; each other model starts from the base's finished map and is then aligned to it, so that what
    need not move stays. AlignedUMAP would tie the models' points together all along and so hide part of the change.
    Reproducible on one machine: one thread, a seed, exact neighbours. Raises `BadSettings` without umap-learn.
    """
    _check(embeddings, texts, settings)
    first = next(iter(embeddings))
    rows = np.arange(len(embeddings[first])) if rows is None else rows
    # Two stages a model; UMAP's layout tells nothing in between.
    stages = _Stages(2 * len(embeddings) + 1)
    yield stages.begin("importing UMAP")
    umap = import_umap()
    start, images_at, texts_at, facts = None, {}, {}, {}
    for model, images in embeddings.items():
        gap = modality_gap(images, texts[model], text_of) if len(texts[model]) else None
        facts[model] = Facts(gap=gap)
        points = _unit(np.concatenate(_centred(images[rows], texts[model], settings.view)))
        neighbours = min(settings.neighbours, len(points) - 1)
        yield stages.begin(f"{model}: nearest neighbours of {len(points):,} points")
        knn = _nearest(points, neighbours)
        if start is None:
            start = principal_axes(points).place(points)
        yield stages.begin(f"{model}: laying out {len(points):,} points; UMAP says nothing until it is done")
        start = _laid_out(umap, points, knn, neighbours, settings, start)
        images_at[model], texts_at[model] = start[: len(rows)], start[len(rows) :]
        start = np.concatenate([images_at[first], texts_at[first]])
    yield stages.begin("aligning")
    return _laid_on_the_first(Map(settings, rows, images_at, texts_at, facts))


class _Stages:
    """Counts what has been done when the next thing begins."""

    def __init__(self, total: int) -> None:
        self._total, self._done = total, -1

    def begin(self, note: str) -> Progress:
        self._done = min(self._done + 1, self._total)
        return Progress(stage=STAGE, done=self._done, total=self._total, note=note)


def import_umap() -> object:
    """The module. Raises `BadSettings` that says how to install it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of TensorFlow, which only its parametric form needs
            import umap
    except Exception as error:  # numba and llvmlite raise their own where they do not fit NumPy or Python
        raise BadSettings(
            f"method = umap: umap-learn cannot be imported ({type(error).__name__}: {error}): "
            "pip install umap-learn, or use the method pca, which needs nothing more"
        ) from error
    return umap


def _unit(rows: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.ascontiguousarray(rows / np.maximum(lengths, 1e-12), dtype=np.float32)


def _nearest(points: np.ndarray, neighbours: int) -> tuple[np.ndarray, np.ndarray]:
    """Exact: int64 and float32 (n, neighbours) of each unit row's nearest ones, itself among them; 1 - cosine."""
    import faiss

    cosines, places = faiss.knn(points, points, neighbours, metric=faiss.METRIC_INNER_PRODUCT)
    return places.astype(np.int64), np.clip(1 - cosines, 0, None).astype(np.float32)


def _laid_out(
    umap: object,
    points: np.ndarray,
    knn: tuple[np.ndarray, np.ndarray],
    neighbours: int,
    settings: MapSettings,
    start: np.ndarray,
) -> np.ndarray:
    """float32 (n, 2)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that new points cannot be added, and n_jobs is 1 with a seed
        layout = umap.UMAP(
            n_neighbors=neighbours,
            min_dist=settings.min_distance,
            metric="cosine",
            init=start,
            precomputed_knn=knn,
            random_state=settings.seed,
            n_jobs=1,
        )
        return layout.fit_transform(points).astype(np.float32)


# ---- choosing pictures


def evenly_by_class(labels: Sequence[str], most: int, seed: int = 0) -> np.ndarray:
    """int64, ascending: places of at most `most` pictures, the same number a class as far as they go."""
    labels = np.asarray(labels, dtype=object)
    if len(labels) <= most:
        return np.arange(len(labels))
    names, class_of, counts = np.unique(labels.astype(str), return_inverse=True, return_counts=True)
    shares = equal_shares(dict(zip(names.tolist(), counts.tolist(), strict=True)), most)
    order = np.random.default_rng(seed).permutation(len(labels))
    chosen = [order[class_of[order] == place][: shares[name]] for place, name in enumerate(names.tolist())]
    return np.sort(np.concatenate(chosen))


# ---- in words


def in_short(found: Map) -> str:
    """ "pca: 4,096 pictures, 13 sentences, 2 models"."""
    n, m, models = len(found.rows), len(found.texts[found.models[0]]), len(found.models)
    return f"{found.settings.method}: {n:,} pictures, {m:,} sentences, {models} model{'s' if models > 1 else ''}"


def in_words(found: Map, titles: Mapping[str, str]) -> list[str]:
    """What the map shows and what it does not, a sentence or two a fact. `titles` are the models' names."""
    return [*_of_the_method(found, titles), *_of_the_gap(found, titles), *_of_the_alignment(found, titles)]


def _of_the_method(found: Map, titles: Mapping[str, str]) -> Iterator[str]:
    if found.settings.method == "umap":
        yield (
            "UMAP keeps who lies near whom. Distances between islands, their sizes and their places mean nothing, and "
            "another seed gives another map."
        )
        return
    for model in found.models:
        yield f"{titles[model]}: the two axes show {percent(sum(found.facts[model].variance), 0)} of the variance."


def _of_the_gap(found: Map, titles: Mapping[str, str]) -> Iterator[str]:
    for model in found.models:
        facts = found.facts[model]
        if facts.gap is None:
            continue
        yield f"{titles[model]}: {facts.gap.sentence}"
        if facts.gap_shown is not None and facts.gap_shown < 0.9:
            yield f"{titles[model]}: these axes show {percent(facts.gap_shown, 0)} of that distance; the view gap, all."
    if found.settings.view == "apart":
        yield "Pictures and sentences are each drawn about their own mean, so the gap is not in this picture."


def _of_the_alignment(found: Map, titles: Mapping[str, str]) -> Iterator[str]:
    base = titles[found.models[0]]
    for model in found.models[1:]:
        facts = found.facts[model]
        how = "mirrored where needed" if found.settings.view == "gap" else f"turned and scaled by {facts.scale:.2f}"
        yield (
            f"{titles[model]} is {how} to lie on {base}; {percent(facts.disparity, 0)} of the spread stays different. "
            "The two spaces have no axes in common: a point's way says how it lies among the others, and what is drawn "
            "between the two models is drawn, not measured."
        )
