"""Pictures and the texts that they are paired with, a batch at a time: their captions, or sentences of their label."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from clipdemo.errors import TrainingError
from clipdemo.models import Clip
from clipdemo.pixels import sample_pixels
from clipdemo.progress import Activity
from clipdemo.prompts import prompts_for, templates_of
from clipdemo.records import Mode, RunConfig, Split
from clipdemo.sampling import Sample
from clipdemo.tokens import sample_tokens
from clipdemo.training.distributed import Ranks
from clipdemo.training.vocabulary import used_tokens
from clipdemo.workspace import Workspace


@dataclass(frozen=True)
class Batch:
    """Pairs as the towers take them. Equal texts are there once."""

    pixels: Tensor  # uint8 (n, size, size, 3), on the device
    tokens: Tensor  # int64 (n_texts x templates, context_length), on the CPU, where their lengths are read
    text_of: Tensor  # int64 (n,), on the device: which text belongs to each picture
    templates: int = 1  # how many sentences in a row stand for one text

    def __len__(self) -> int:
        return len(self.pixels)


class Pairs:
    """A sample as one kind of pairs. Reads only the rows that are asked for, so its size costs no memory.

    `pixels` is uint8 (n_rows, size, size, 3), `captions` int32 (n_rows, context_length), both mapped from disk;
    `classes` int64 (n_rows,), a row's class as a place in the sample's list of classes.
    """

    def __init__(
        self,
        mode: Mode,
        pixels: np.ndarray,
        captions: np.ndarray,
        prompts: np.ndarray,
        classes: np.ndarray,
        splits: np.ndarray,
        templates: int = 1,
        device: torch.device | None = None,
    ) -> None:
        self.mode, self.pixels, self.captions, self.templates = mode, pixels, captions, templates
        self.prompts, self.classes, self._splits = prompts, classes, splits
        self.device = device or torch.device("cpu")
        self.places = lambda tokens: torch.as_tensor(np.asarray(tokens, dtype=np.int64))  # what the text tower takes

    @classmethod
    def of(cls, config: RunConfig, sample: Sample, clip: Clip, workspace: Workspace) -> Activity[Pairs]:
        """The sample's pairs, its pictures decoded and its captions tokenised where that is not done yet.

        Of training rows only those that `config.pictures` asks for belong to a split. Raises `TrainingError` where the
        sample has fewer.
        """
        columns = pd.read_parquet(sample.folder / "manifest.parquet", columns=["label", "split"])
        classes = pd.Index(list(sample.classes), dtype="str").get_indexer(columns["label"]).astype(np.int64)  # -1: none
        splits = with_pictures(columns["split"].to_numpy(), classes, config.pictures, config.seed)
        pixels = yield from sample_pixels(sample, clip.image_size, workspace)
        captions = yield from sample_tokens(sample, clip, workspace)
        sentences = prompts_for(sample.classes, config.template)
        prompts = clip.tokens(sentences).numpy().astype(np.int32) if sentences else captions[:0]
        templates = len(templates_of(config.template))
        return cls(config.mode, pixels, captions, prompts, classes, splits, templates, clip.device)

    def split(self, split: Split) -> np.ndarray:
        """Places of a split's rows in the manifest."""
        return np.flatnonzero(self._splits == split)

    def vocabulary(self) -> np.ndarray:
        """Distinct token ids of all texts that training or validation can ask for, in ascending order."""
        return used_tokens(self.prompts) if self.mode == "labels" else used_tokens(self.prompts, self.captions)

    def batch(self, rows: np.ndarray) -> Batch:
        """These rows' pictures and texts."""
        if self.mode == "captions":
            tokens, text_of = np.unique(self.captions[rows], axis=0, return_inverse=True)
            templates = 1
        else:
            distinct, text_of = np.unique(self.classes[rows], return_inverse=True)
            templates = self.templates
            tokens = self.prompts.reshape(-1, templates, self.prompts.shape[1])[distinct].reshape(
                -1, self.prompts.shape[1]
            )
        return Batch(
            self._moved(torch.from_numpy(self.pixels[rows])),
            self.places(tokens),
            self._moved(torch.from_numpy(text_of.reshape(-1))),
            templates,
        )

    def classes_of(self, rows: np.ndarray) -> Tensor:
        """int64 (n,), on the device: these rows' classes."""
        return self._moved(torch.from_numpy(self.classes[rows]))

    def answers(self, rows: np.ndarray) -> tuple[np.ndarray, int, np.ndarray]:
        """What validation lets the pictures of these rows choose from: the classes, or the rows' captions without them.

        Tokens (n_answers x templates, context_length), the number of templates, and each row's right answer, int (n,).
        """
        if len(self.prompts):
            return self.prompts, self.templates, self.classes[rows]
        tokens, own = np.unique(self.captions[rows], axis=0, return_inverse=True)
        return tokens, 1, own.reshape(-1)

    def _moved(self, tensor: Tensor) -> Tensor:
        """On the device; from pinned memory, so that the copy runs beside the computation."""
        if self.device.type != "cuda":
            return tensor.to(self.device)
        return tensor.pin_memory().to(self.device, non_blocking=True)

    def batches(self, order: Iterable[np.ndarray], ranks: Ranks | None = None) -> Iterator[tuple[np.ndarray, Batch]]:
        """The rows of each batch, and this rank's share of it, read while the one before is being worked on."""
        ranks = ranks or Ranks()
        with ThreadPoolExecutor(1) as reader:
            ahead: tuple[np.ndarray, Future[Batch]] | None = None
            for rows in order:
                read = reader.submit(self.batch, rows[ranks.share(len(rows))])
                if ahead is not None:
                    yield ahead[0], ahead[1].result()
                ahead = rows, read
            if ahead is not None:
                yield ahead[0], ahead[1].result()


def with_pictures(splits: np.ndarray, classes: np.ndarray, pictures: int, seed: int) -> np.ndarray:
    """The rows' splits, (n_rows,), with "" for training rows that are not among the `pictures` chosen; 0: all are.

    Raises `TrainingError` where there are fewer training rows.
    """
    rows = np.flatnonzero(splits == "train")
    if pictures > len(rows):
        raise TrainingError(
            f"pictures = {pictures:,}: the sample has {len(rows):,} training pictures; ask for at most so many, or 0 "
            "for all, or draw a larger sample"
        )
    if not pictures:
        return splits
    chosen = splits.copy()
    chosen[np.setdiff1d(rows, rows[balanced_choice(classes[rows], pictures, seed)])] = ""
    return chosen


def balanced_choice(classes: np.ndarray, n: int, seed: int) -> np.ndarray:
    """int (n,): places in `classes`, int (n_rows,), the same number a class as far as its rows go.

    Rows are ranked within their class in a seeded order; first come all of rank 0, then all of rank 1, and so on. The
    smaller choice of one seed is therefore the beginning of the larger.
    """
    order = np.random.default_rng([seed, 0, 1]).permutation(len(classes))  # [seed, epoch] shuffles batches
    rank = pd.Series(classes[order]).groupby(classes[order]).cumcount().to_numpy()
    return order[np.argsort(rank, kind="stable")][:n]
