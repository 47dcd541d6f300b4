"""The loss of CLIP's pretraining, which the paper fine-tunes with (Goyal et al. 2023, "FLYP")."""

from __future__ import annotations

import torch
from torch.nn import functional


def contrastive_loss(
    image_features: torch.Tensor,
    text_features: torch.Tensor,
    logit_scale: torch.Tensor,
    classes: torch.Tensor | None = None,
    rows: slice = slice(None),
) -> torch.Tensor:
    """Symmetric cross-entropy over the N x N matrix of scaled cosine similarities; a scalar.

    Features are float (N, dim) with rows of unit length, pair i in row i of both; `logit_scale` is 1 / temperature.
    Without `classes` each picture's own text is its only target, as in Radford et al. 2021: two pictures of one class
    then count as wrong answers for each other. With `classes`, int (N,), a picture's target is shared equally among
    all texts of its class (Khosla et al. 2020, "supervised contrastive"). Where the pairs of a class have equal
    texts, as in fine-tuning on labels, that is the very same loss: equal texts have equal logits, so it does not matter
    which of them is the target. With captions it is another, and one that is told their labels.

    `rows` takes the part of the sum that belongs to these pictures and these texts; the parts of all rows add up to
    the loss, so that several processes can share the work.
    """
    n = len(image_features)
    if classes is None:
        target = torch.arange(n, device=image_features.device)[rows]
    else:
        same = (classes[rows, None] == classes[None, :]).to(image_features.dtype)
        target = same / same.sum(dim=1, keepdim=True)  # the matrix of all rows is symmetric: it serves both ways
    scaled = logit_scale * image_features
    total = functional.cross_entropy(scaled[rows] @ text_features.T, target, reduction="sum")
    total = total + functional.cross_entropy(text_features[rows] @ scaled.T, target, reduction="sum")
    return total / (2 * n)
