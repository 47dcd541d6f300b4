"""Which texts are nearest to a picture and which pictures to a text, and what fine-tuning changed about that.

A place is a row of the sample's manifest. Scores are cosine similarities of one model: they mean nothing beside those
of another, whose space is its own, and texts score lower than pictures do, so only texts are ranked among texts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from clipdemo.embeddings import (
    as_kept,
    class_embeddings,
    embeddings_id,
    mapped_sample,
    mapped_texts,
    texts_id,
    unit_rows,
)
from clipdemo.errors import BadSettings, ComparisonError, SampleError, WorkspaceError
from clipdemo.evaluation import COSINE_TIE, distinct, probabilities, ranks, top_answers
from clipdemo.images import decode, fit_square
from clipdemo.models import Clip
from clipdemo.progress import Activity, Progress, finish
from clipdemo.records import DEFAULT_TEMPLATE, SPLITS
from clipdemo.sampling import Sample
from clipdemo.search import CACHED, PROBES, Index, exact_scores, index_of
from clipdemo.workspace import Workspace

StandOut = Literal["moved", "worst", "unlikely"]  # by `most_moved`, `worst_matched` or `least_likely`
MOST_PAIRS = 2**28  # of a picture and a caption that a page compares while somebody waits
_PICTURES, _ROWS = 256, 16_384  # that are compared with each other at a time


@dataclass(frozen=True)
class Neighbourhood:
    """A sample's pictures and texts as one model sees them. `captions` are the distinct ones."""

    sample: Sample
    clip: Clip
    pictures: Index  # one row a picture, in the manifest's order
    captions: list[str]
    text_of: np.ndarray  # int (n,): which caption each picture has
    texts: Index | None  # one row a caption; None without captions
    classes: np.ndarray  # float32 (n_classes, dim): what stands for each class; none without labels

    @cached_property
    def target(self) -> np.ndarray:
        """int (n,): the class of each picture; -1 where it has none."""
        return pd.Index(self.sample.classes, dtype=object).get_indexer(self.sample.manifest["label"].astype(object))

    @cached_property
    def right(self) -> np.ndarray:
        """bool (n,): whether a picture's class comes first; nothing is right without classes."""
        right = np.zeros(len(self.pictures), bool)
        for first in range(0, len(right) if len(self.classes) else 0, _ROWS):
            rows = slice(first, first + _ROWS)
            right[rows] = ranks(unit_rows(self.pictures.rows[rows]) @ self.classes.T, self.target[rows]) == 0
        return right & (self.target >= 0)

    @cached_property
    def caption_lengths(self) -> np.ndarray:
        """float32 (m,): of the captions' rows as they are kept, which float16 has made not quite 1."""
        rows = self.texts.rows
        parts = [
            np.linalg.norm(np.asarray(rows[i : i + _ROWS], np.float32), axis=1) for i in range(0, len(rows), _ROWS)
        ]
        return np.concatenate(parts)

    def place(self, picture: str) -> int:
        """The place of a picture by its id. Raises `SampleError` where the sample has none of it."""
        found = np.flatnonzero((self.sample.manifest["id"] == picture).to_numpy())
        if not found.size:
            example = self.sample.manifest["id"].iloc[0]
            raise SampleError(f"sample {self.sample.id} has no picture {picture!r}: its ids look like {example!r}")
        return int(found[0])


def neighbourhood(
    clip: Clip, model: str, sample: Sample, workspace: Workspace, template: str = DEFAULT_TEMPLATE
) -> Activity[Neighbourhood]:
    """All that is needed to find neighbours: embeddings and indexes, made where they are not there yet.

    `model` is the `model_id` of what `clip` was opened from; `template` the sentence of the class prompts.
    """
    pictures = yield from mapped_sample(clip, model, sample, workspace)
    captions, text_of = distinct(sample.manifest["caption"].tolist()) if "captions" in sample.texts else ([], None)
    texts = (yield from mapped_texts(clip, model, captions, workspace)) if captions else None
    classes = np.empty((0, pictures.shape[1]), np.float32)
    if sample.classes:
        classes = yield from class_embeddings(clip, model, sample.classes, workspace, template)
    asked = {"captions": _some(texts)} if captions else {}
    by_picture = yield from index_of(
        pictures, workspace, embeddings_id(model, clip, sample, "all"), asked, stage="index of pictures"
    )
    by_text = None
    if captions:
        name = texts_id(model, clip, captions)
        by_text = yield from index_of(texts, workspace, name, {"pictures": _some(pictures)}, stage="index of captions")
    owns = text_of if captions else np.full(len(pictures), -1)
    return Neighbourhood(sample, clip, by_picture, captions, owns, by_text, classes)


def kept_neighbourhood(
    clip: Clip, model: str, sample: Sample, workspace: Workspace, template: str = DEFAULT_TEMPLATE
) -> Neighbourhood:
    """What `neighbourhood` gives, where all of it is kept and whole; classes' sentences are encoded where they are not.

    Raises `WorkspaceError` where something is missing, damaged or of another version: making it again may take hours.
    """
    if sample.classes:
        finish(class_embeddings(clip, model, sample.classes, workspace, template))
    opening = neighbourhood(clip, model, sample, workspace, template)
    try:
        next(opening)  # it tells of nothing but work
    except StopIteration as end:
        return end.value
    opening.close()
    raise WorkspaceError(
        f"the embeddings or indexes of sample {sample.id} that {model} had kept are damaged or of another version: "
        "they have to be made again"
    )


def _some(rows: np.ndarray) -> np.ndarray:
    """Rows from all over, to measure an index's recall with."""
    return unit_rows(rows[np.linspace(0, len(rows) - 1, min(PROBES, len(rows))).astype(np.int64)])


def index_names(clip: Clip, model: str, sample: Sample) -> list[str]:
    """What the indexes of a sample are called, as one model sees it. Reads all captions."""
    names = [embeddings_id(model, clip, sample, "all")]
    if "captions" in sample.texts:
        names.append(texts_id(model, clip, distinct(sample.manifest["caption"].tolist())[0]))
    return names


def is_ready(clip: Clip, model: str, sample: Sample, workspace: Workspace) -> bool:
    """Whether `neighbourhood` has nothing to make, or only to mend."""
    return all(workspace.folder("indexes", name).is_dir() for name in index_names(clip, model, sample))


# ---- what is asked with


def picture_vector(space: Neighbourhood, place: int) -> np.ndarray:
    """float32 (dim,): a picture of the sample. Raises `BadSettings` for a place that it does not have."""
    if not 0 <= place < len(space.pictures):
        raise BadSettings(f"picture {place} is none of the sample's {len(space.pictures):,}: count from 0")
    return unit_rows(space.pictures.rows[place : place + 1])[0]


def text_vector(clip: Clip, text: str) -> np.ndarray:
    """float32 (dim,): any text. Raises `BadSettings` for an empty one."""
    if not text.strip():
        raise BadSettings("the text to look for is empty: write a few words")
    return as_kept(clip.encode_texts([text]))[0]


def image_vector(clip: Clip, data: bytes, name: str = "picture") -> np.ndarray:
    """float32 (dim,): a picture of anybody's, from the bytes of its file. Raises `PictureError`."""
    return as_kept(clip.encode_images(fit_square(decode(data, name), clip.image_size)[None]))[0]


def allowed(
    space: Neighbourhood, classes: Sequence[str] = (), splits: Sequence[str] = (), right: bool | None = None
) -> np.ndarray:
    """bool (n,): pictures of some classes and splits (empty: all) that the model gets right or wrong (None: either).

    Raises `BadSettings` for a class or split that the sample does not have.
    """
    manifest = space.sample.manifest
    mask = np.ones(len(manifest), bool)
    for column, wanted, known in (("label", classes, space.sample.classes), ("split", splits, SPLITS)):
        if unknown := set(wanted) - set(known):
            what = "class" if column == "label" else "split"
            listed = ", ".join(known) or "none"
            raise BadSettings(f"{what} {min(unknown)!r} is none of sample {space.sample.id}'s: choose of {listed}")
        if wanted:
            mask &= manifest[column].isin(wanted).to_numpy()
    return mask if right is None else mask & (space.right == right)


# ---- neighbours


class NearText(NamedTuple):
    """A text with its cosine to the picture, and how many texts of its kind come before it."""

    text: str
    score: float
    rank: int
    own: bool  # whether it is the picture's own caption or label
    place: int  # among the sample's distinct captions, or its classes


class NearPicture(NamedTuple):
    """A picture of the sample with its cosine to what was asked."""

    place: int
    id: str
    score: float
    label: str
    caption: str
    split: str
    image: str  # its file, see `Sample.picture`


class PictureTexts(NamedTuple):
    """A picture's nearest captions and labels, best first, and its own caption wherever that comes."""

    captions: list[NearText]
    own: NearText | None  # None without captions; its rank counts ties against it, as recall does
    labels: list[NearText]
    own_label: NearText | None  # None without a label


def texts_of_picture(space: Neighbourhood, place: int, k: int = 10, scores: np.ndarray | None = None) -> PictureTexts:
    """The texts nearest to a picture of the sample. The own caption's rank is exact, among all distinct captions.

    `scores` are the picture's `caption_scores`, where they are known.
    """
    vector = picture_vector(space, place)
    own = None
    if space.texts is not None:
        text = int(space.text_of[place])
        scores = caption_scores(space, vector) if scores is None else scores
        score = float(exact_scores(space.texts.rows, vector[None], np.array([[text]]))[0, 0])
        own = NearText(space.captions[text], score, int(caption_ranks(scores, np.array([text]))[0]), True, text)
    labels = near_labels(space, vector, len(space.classes), space.sample.manifest["label"].iloc[place])
    own_label = next((label for label in labels if label.own), None)
    return PictureTexts(near_captions(space, vector, k, own.text if own else None), own, labels[:k], own_label)


def text_among_captions(space: Neighbourhood, vector: np.ndarray, text: str, scores: np.ndarray) -> NearText:
    """Where any text would stand among the sample's captions for a vector with these `caption_scores`.

    Its place is -1, as it is none of them. Raises `BadSettings` for an empty text.
    """
    score = float(exact_scores(text_vector(space.clip, text)[None], vector[None], np.zeros((1, 1), np.int64))[0, 0])
    return NearText(text, score, int(_reached(scores[None], np.array([[score]], np.float32))[0]), False, -1)


def near_captions(space: Neighbourhood, vector: np.ndarray, k: int = 10, own: str | None = None) -> list[NearText]:
    """The sample's distinct captions nearest to a vector, best first; none where it has no captions."""
    if space.texts is None:
        return []
    scores, found = space.texts.search(vector[None], k)
    return [
        NearText(space.captions[i], float(score), rank, space.captions[i] == own, int(i))
        for rank, (i, score) in enumerate(zip(found[0], scores[0], strict=True))
    ]


def near_labels(space: Neighbourhood, vector: np.ndarray, k: int = 10, own: str | None = None) -> list[NearText]:
    """The sample's classes nearest to a vector, by what stands for each, best first."""
    scores = vector[None] @ space.classes.T
    names = space.sample.classes
    order = top_answers(scores, k)[0] if len(names) else []
    return [NearText(names[i], float(scores[0, i]), rank, names[i] == own, int(i)) for rank, i in enumerate(order)]


def near_pictures(
    space: Neighbourhood, vector: np.ndarray, k: int = 10, mask: np.ndarray | None = None
) -> list[NearPicture]:
    """The sample's pictures nearest to a vector, best first; `mask` is bool (n,), as `allowed` gives it."""
    scores, found = space.pictures.search(vector[None], k, mask)
    columns = space.sample.manifest[["id", "label", "caption", "split", "image"]]
    return [  # a row at a time: Arrow puts all its chunks together before it takes several
        NearPicture(place=int(place), score=float(score), **columns.iloc[place].to_dict())
        for place, score in zip(found[0], scores[0], strict=True)
    ]


def pictures_of_text(space: Neighbourhood, text: str, k: int = 10, mask: np.ndarray | None = None) -> list[NearPicture]:
    """The pictures nearest to any text."""
    return near_pictures(space, text_vector(space.clip, text), k, mask)


def pictures_of_picture(
    space: Neighbourhood, place: int, k: int = 10, mask: np.ndarray | None = None
) -> list[NearPicture]:
    """The pictures nearest to one of the sample, without itself."""
    found = near_pictures(space, picture_vector(space, place), k + 1, mask)
    return [near for near in found if near.place != place][:k]


def pictures_of_image(
    space: Neighbourhood, data: bytes, name: str = "picture", k: int = 10, mask: np.ndarray | None = None
) -> list[NearPicture]:
    """The pictures nearest to one that somebody brings, from the bytes of its file. Raises `PictureError`."""
    return near_pictures(space, image_vector(space.clip, data, name), k, mask)


# ---- pictures that stand out


def affordable(space: Neighbourhood, places: np.ndarray) -> np.ndarray:
    """The places, or so many of them, evenly spaced, that comparing each with all captions takes seconds."""
    most = max(1, MOST_PAIRS // max(len(space.captions), len(space.pictures)))
    if len(places) <= most:
        return places
    return places[np.linspace(0, len(places) - 1, most).astype(np.int64)]


def worst_matched(space: Neighbourhood, places: np.ndarray, stage: str = "captions") -> Activity[pd.DataFrame]:
    """Pictures by how many captions a model prefers to their own, the worst first. Columns: place, rank, of.

    Every picture at `places` is compared with every distinct caption: of half a million take what is `affordable`.
    A high rank may be a bad caption, a bad picture or a blind model: a reason to look. Raises `BadSettings` without
    captions.
    """
    if space.texts is None:
        raise BadSettings(f"sample {space.sample.id} has no captions, so none is badly matched")
    rank = yield from own_caption_ranks(space, places, stage)
    found = pd.DataFrame({"place": places, "rank": rank, "of": len(space.captions)})
    return found.sort_values(["rank", "place"], ascending=[False, True], ignore_index=True)


def own_caption_ranks(space: Neighbourhood, places: np.ndarray, stage: str = "captions") -> Activity[np.ndarray]:
    """int (len(places),): how many distinct captions score at least as high as each picture's own.

    What `evaluation.retrieval_ranks` calls caption_rank, but among the captions of all splits.
    """
    parts = [np.empty(0, np.int64)]
    for first in range(0, len(places), _PICTURES):
        here = places[first : first + _PICTURES]
        pictures = unit_rows(space.pictures.rows[here])
        own = exact_scores(space.texts.rows, pictures, space.text_of[here, None])
        parts.append(sum(_reached(scores, own) for scores in _score_blocks(space, pictures)) - 1)  # itself
        yield Progress(stage=stage, done=first + len(here), total=len(places), note="ranking captions")
    return np.concatenate(parts)


def caption_scores(space: Neighbourhood, vector: np.ndarray) -> np.ndarray:
    """float32 (m,): cosines of a vector with all distinct captions, whatever kind of index they have.

    By PyTorch, which widens float16 rows many times as fast as NumPy, and so few at a time that they stay in the
    processor's cache and are not worth a second thread, for which a busy server waits longer than it works.
    """
    import torch

    query, rows = torch.from_numpy(np.array(vector, np.float32)), np.asarray(space.texts.rows)
    scores, step = torch.empty(len(rows)), max(1, CACHED // rows.shape[1])
    for first in range(0, len(rows), step):
        part = torch.from_numpy(np.array(rows[first : first + step])).float()
        torch.mv(part, query, out=scores[first : first + step])
    return scores.numpy() / space.caption_lengths


def caption_ranks(scores: np.ndarray, texts: np.ndarray) -> np.ndarray:
    """int (len(texts),): of all `caption_scores`, how many others are at least as high as those of some captions."""
    return _reached(scores[None], scores[texts, None]) - 1


def _reached(scores: np.ndarray, bars: np.ndarray) -> np.ndarray:
    """int (q,): how many of each row's scores are not below its bar; ties reach it, and so does what is no number."""
    return (~(scores < bars - COSINE_TIE)).sum(axis=1)


def _score_blocks(space: Neighbourhood, vectors: np.ndarray) -> Iterator[np.ndarray]:
    """float32 (q, block) each: cosines of many vectors with all distinct captions, a block after the other."""
    import torch

    queries = torch.from_numpy(np.ascontiguousarray(vectors.T))
    for first in range(0, len(space.captions), _ROWS):
        rows = torch.from_numpy(np.array(space.texts.rows[first : first + _ROWS])).float()
        yield (rows @ queries).T.numpy() / space.caption_lengths[first : first + _ROWS]


def most_moved(
    base: Neighbourhood, tuned: Neighbourhood, places: np.ndarray, k: int = 10, stage: str = "movement"
) -> Activity[pd.DataFrame]:
    """Pictures by how much fine-tuning changed their surroundings, the most moved first.

    Two models' embeddings cannot be subtracted: each space may be turned as a whole without any meaning. What can be
    compared is who is near whom. `moved` is the share of a picture's k nearest pictures that are no longer among them:
    0 the same company, 1 all others. Equal ones come by the change of the own caption's rank, in octaves.
    Columns: place, moved; with captions `caption_base` and `caption_tuned` (ranks among all distinct captions, from 0);
    with labels `label_base` and `label_tuned` (each model's own probability of the picture's class).
    Raises `ComparisonError` for models of different samples.
    """
    if base.sample.content_hash != tuned.sample.content_hash:
        raise ComparisonError(
            f"{base.sample.id} and {tuned.sample.id} are different samples: open both models on the same one"
        )
    found = pd.DataFrame({"place": places, "moved": (yield from _new_company(base, tuned, places, k, stage))})
    octaves = np.zeros(len(places))
    if base.texts is not None:
        for name, space in (("base", base), ("tuned", tuned)):
            found[f"caption_{name}"] = yield from own_caption_ranks(space, places, stage)
        octaves = np.abs(np.log2((1 + found["caption_base"]) / (1 + found["caption_tuned"]))).to_numpy()
    if len(base.classes):
        for name, space in (("base", base), ("tuned", tuned)):
            found[f"label_{name}"] = label_probabilities(space, places)
    order = np.lexsort((places, -octaves, -found["moved"].to_numpy()))
    return found.iloc[order].reset_index(drop=True)


def _new_company(
    base: Neighbourhood, tuned: Neighbourhood, places: np.ndarray, k: int, stage: str
) -> Activity[np.ndarray]:
    k = min(k, len(base.pictures) - 1)
    moved = np.zeros(len(places))
    for first in range(0, len(places) if k else 0, _PICTURES):
        here = places[first : first + _PICTURES]
        before, after = (_company(space, here, k) for space in (base, tuned))
        shared = (before[:, :, None] == after[:, None, :]).sum(axis=(1, 2))
        moved[first : first + len(here)] = 1 - shared / k
        done = first + len(here)
        yield Progress(stage=stage, done=done, total=len(places), note="comparing neighbours")
    return moved


def _company(space: Neighbourhood, places: np.ndarray, k: int) -> np.ndarray:
    """int (len(places), k): the nearest pictures of each, without itself."""
    _, found = space.pictures.search(unit_rows(space.pictures.rows[places]), k + 1)
    others = found != places[:, None]
    others[others.all(axis=1), -1] = False  # enough equal ones that it is not among them: leave out the last
    return found[others].reshape(len(places), k)


def label_probabilities(space: Neighbourhood, places: np.ndarray) -> np.ndarray:
    """float (len(places),): the model's probability of each picture's own class among the classes; NaN without one."""
    target = space.target[places]
    own = np.empty(len(places))
    for first in range(0, len(places), _ROWS):
        here = slice(first, first + _ROWS)
        scores = unit_rows(space.pictures.rows[places[here]]) @ space.classes.T
        own[here] = probabilities(scores, space.clip.logit_scale)[np.arange(len(scores)), target[here]]
    return np.where(target >= 0, own, np.nan)


def least_likely(space: Neighbourhood, places: np.ndarray) -> pd.DataFrame:
    """Pictures by the model's probability of their own class, the lowest first. Columns: place, probability.

    Pictures without a class are left out. A low one may be a wrong label as well as a wrong model.
    """
    found = pd.DataFrame({"place": places, "probability": label_probabilities(space, places)}).dropna()
    return found.sort_values(["probability", "place"], ignore_index=True)
