"""The loss of CLIP's pretraining, which the paper fine-tunes with (Goyal et al. 2023, "FLYP")."""

from __future__ import annotations

import torch
from torch.nn import functional


def contrastive_loss(
    image_features: torch.Tensor,
    text_features: torch.Tensor,
    logit_scale: torch.Tensor,
    classes: torch.Tensor | None = None,
) -> torch.Tensor:
    """Symmetric cross-entropy over the N x N matrix of scaled cosine similarities; a scalar.

    Features are float (N, dim) with rows of unit length, pair i in row i of both; `logit_scale` is 1 / temperature.
    Without `classes` each picture's own text is its only target, as in Radford et al. 2021: two pictures of one class
    then count as wrong answers for each other. With `classes`, int (N,), a picture's target is shared equally among
    all texts of its class (Khosla et al. 2020, "supervised contrastive").
    """
    logits = logit_scale * image_features @ text_features.T
    if classes is None:
        target = torch.arange(len(logits), device=logits.device)
    else:
        same = (classes[:, None] == classes[None, :]).to(logits.dtype)
        target = same / same.sum(dim=1, keepdim=True)  # symmetric up to its rows' sums, which are its columns' too
    return (functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)) / 2
