"""The gradient of a whole batch's loss, however little of the batch fits into memory and however many share it.

A contrastive loss needs all features of a batch at once, but features are small. So the loss and its gradient with
respect to the features come first; then the towers are led backwards from there, all at once or a chunk at a time
(gradient caching, Gao et al. 2021, "GradCache"): the same gradient, one more forward pass, a fraction of the memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional

from clipdemo.models import Clip
from clipdemo.training.augmentation import augmented
from clipdemo.training.distributed import Ranks
from clipdemo.training.losses import contrastive_loss
from clipdemo.training.pairs import Batch


def text_features(clip: Clip, tokens: Tensor, templates: int) -> Tensor:
    """float32 (n_texts, dim), unit length: each text's features, the mean of its sentences' where it has several."""
    features = clip.text_features(tokens)
    if templates == 1:
        return features
    return functional.normalize(features.view(-1, templates, features.shape[1]).mean(dim=1), dim=-1)


def accumulate_gradient(
    clip: Clip,
    batch: Batch,
    *,
    n: int | None = None,
    chunk_size: int = 0,
    classes: Tensor | None = None,
    seed: int = 0,
    augment: bool = False,
    ranks: Ranks | None = None,
) -> Tensor:
    """Adds the loss's gradient to every trained parameter; the loss comes back, a scalar without gradient.

    `batch` is this rank's share of a batch of `n` pairs, and the gradient that of the whole batch, added up over the
    ranks. At most `chunk_size` pairs (0: all) are in memory at a time. `classes`, int (n,), makes the loss
    multi-positive. `seed` decides augmentation and dropout. Networks that normalise over the batch (BatchNorm) do so
    with their running statistics, which stay the base's: a chunk or a rank's share has others than the batch.
    """
    ranks, n = ranks or Ranks(), n or len(batch)
    share = ranks.share(n)

    def picture_features(rows: Tensor) -> Tensor:
        first, last = int(rows[0]), int(rows[-1]) + 1
        pixels = batch.pixels[first:last]
        if augment:  # a chunk at a time: augmented pictures are four times as large
            start = share.start or 0
            pixels = augmented(pixels, seed, n, slice(start + first, start + last))
        return clip.image_features(pixels)

    with _fixed_statistics(clip.network):
        pictures = _Side(picture_features, torch.arange(len(batch)), chunk_size, 2 * seed)
        texts = _Side(
            lambda tokens: text_features(clip, tokens, batch.templates),
            batch.tokens, chunk_size * batch.templates, 2 * seed + 1,
        )  # fmt: skip
        loss = contrastive_loss(
            ranks.gather(pictures.leaf, n),
            ranks.gather(texts.leaf[batch.text_of], n),
            clip.network.logit_scale.exp(),
            classes,
            share,
        )
        loss.backward()
        pictures.go_back()
        texts.go_back()
    if ranks.size > 1:
        total = loss.detach().clone()
        # a rank whose share never touches a weight has no gradient for it, and the others' must still arrive
        trained = [p for p in clip.network.parameters() if p.requires_grad]
        for parameter in trained:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        ranks.add_up([total, *(p.grad for p in trained)])
        return total
    return loss.detach()


@contextmanager
def _fixed_statistics(network: nn.Module) -> Iterator[None]:
    """Has BatchNorm use and keep its running statistics for a while."""
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training]
    for norm in norms:
        norm.eval()
    try:
        yield
    finally:
        for norm in norms:
            norm.train()


class _Side:
    """One tower's features of a batch: computed now, led backwards once the loss has left its gradient on `leaf`."""

    def __init__(self, encode: Callable[[Tensor], Tensor], inputs: Tensor, chunk_size: int, seed: int) -> None:
        self._encode, self._seed = encode, seed
        self._chunks = inputs.split(chunk_size) if 0 < chunk_size < len(inputs) else [inputs]
        if len(self._chunks) == 1:
            self._features = self._chunk(0)
        else:
            with torch.no_grad():
                self._features = torch.cat([self._chunk(i) for i in range(len(self._chunks))])
        self.leaf = self._features.detach().requires_grad_()

    def go_back(self) -> None:
        """Adds the parameters' gradients."""
        if len(self._chunks) == 1:
            if self._features.requires_grad:  # not where the whole tower is fixed
                self._features.backward(self.leaf.grad)
            return
        total = sum(len(chunk) for chunk in self._chunks)  # several sentences may make one row of the features
        sizes = [len(chunk) * len(self.leaf) // total for chunk in self._chunks]
        for i, gradient in enumerate(self.leaf.grad.split(sizes)):
            features = self._chunk(i)
            if features.requires_grad:
                features.backward(gradient)

    def _chunk(self, i: int) -> Tensor:
        """The same numbers at every call, dropout included."""
        inputs = self._chunks[i]
        devices = [inputs.device] if inputs.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            torch.manual_seed((self._seed << 16) + i)
            return self._encode(inputs)
