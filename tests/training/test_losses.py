import math

import numpy as np
import pytest
import torch
from open_clip.loss import ClipLoss

from clipdemo.training.losses import contrastive_loss


def features(n=7, dim=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, dim, generator=generator, dtype=torch.float64)
    return torch.nn.functional.normalize(x, dim=1).requires_grad_()


def test_two_perfect_pairs_by_hand():
    eye = torch.eye(2, dtype=torch.float64)
    # each row of the similarity matrix is (1, 0): softmax gives e / (e + 1)
    assert contrastive_loss(eye, eye, torch.tensor(1.0)).item() == pytest.approx(math.log(1 + math.exp(-1)))


def test_equals_open_clips_loss_and_gradients():
    images, texts, scale = (
        features(seed=1),
        features(seed=2),
        torch.tensor(14.3, dtype=torch.float64, requires_grad=True),
    )
    ours = torch.autograd.grad(contrastive_loss(images, texts, scale), (images, texts, scale))
    theirs = torch.autograd.grad(ClipLoss()(images, texts, scale), (images, texts, scale))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_multi_positive_is_the_paper_loss_when_all_classes_differ():
    images, texts, scale = features(seed=1), features(seed=2), torch.tensor(10.0)
    assert contrastive_loss(images, texts, scale, torch.arange(7)).item() == pytest.approx(
        contrastive_loss(images, texts, scale).item()
    )


def test_multi_positive_by_the_formula():
    images, texts = features(4, seed=3), features(4, seed=4)
    classes = [0, 1, 0, 2]
    logits = (5 * images @ texts.T).detach().numpy()
    total = 0.0
    for matrix in (logits, logits.T):
        log_p = matrix - np.log(np.exp(matrix).sum(axis=1, keepdims=True))
        total += np.mean([-np.mean([log_p[i, j] for j in range(4) if classes[j] == classes[i]]) for i in range(4)])
    ours = contrastive_loss(images, texts, torch.tensor(5.0, dtype=torch.float64), torch.tensor(classes))
    assert ours.item() == pytest.approx(total / 2)


def test_with_equal_texts_multi_positive_is_the_paper_loss_and_has_its_gradient():
    """So it is in fine-tuning on labels, where a class has one sentence."""
    classes = torch.tensor([0, 1, 0, 2, 1, 0, 0])
    images, prompts, scale = features(seed=1), features(3, seed=2), torch.tensor(10.0, dtype=torch.float64)

    def gradients(*target):
        return torch.autograd.grad(contrastive_loss(images, prompts[classes], scale, *target), (images, prompts))

    for a, b in zip(gradients(), gradients(classes), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_the_parts_of_several_processes_add_up_to_the_loss():
    images, texts, scale, classes = features(seed=1), features(seed=2), torch.tensor(9.0), torch.arange(7) % 3
    for target in (None, classes):
        parts = [
            contrastive_loss(images, texts, scale, target, rows) for rows in (slice(0, 3), slice(3, 4), slice(4, 7))
        ]
        assert sum(parts).item() == pytest.approx(contrastive_loss(images, texts, scale, target).item(), abs=1e-12)
