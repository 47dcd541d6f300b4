"""Opens a CLIP: network, tokenizer and preprocessing as one value. Imports torch only when a model is opened."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from clipdemo.errors import ModelError
from clipdemo.records import BUILT_IN_BASE

if TYPE_CHECKING:
    import torch

ASSETS = Path(__file__).resolve().parent.parent / "assets"
BUILT_IN_FOLDER = ASSETS / "base"
ENCODING_BATCH = 256
TEXT_GROUP = 16  # texts that go through the text tower together


@dataclass(frozen=True)
class Clip:
    """One CLIP. `network` is open_clip's own module; `mean` and `std` are a channel's, for pixels in [0, 1]."""

    network: torch.nn.Module
    tokenizer: object
    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    device: torch.device

    def tokens(self, texts: Sequence[str]) -> torch.Tensor:
        """int64 (n_texts, context_length), zero after the end of the text; longer texts are cut."""
        return self.tokenizer(list(texts))

    def normalised(self, pixels: np.ndarray | torch.Tensor) -> torch.Tensor:
        """uint8 (n, size, size, 3) -> float32 (n, 3, size, size) on the model's device, as the network expects it."""
        import torch

        x = torch.as_tensor(pixels).to(self.device).permute(0, 3, 1, 2).float() / 255
        mean, std = (torch.tensor(v, device=self.device).view(3, 1, 1) for v in (self.mean, self.std))
        return (x - mean) / std

    def image_features(self, pixels: np.ndarray | torch.Tensor) -> torch.Tensor:
        """float32 (n, dim), rows of unit length, with gradients where they are on."""
        return self.network.encode_image(self.normalised(pixels), normalize=True)

    def text_features(self, tokens: torch.Tensor) -> torch.Tensor:
        """float32 (n, dim), rows of unit length, with gradients where they are on."""
        return encode_text(self.network, tokens.to(self.device))

    def encode_images(self, pixels: np.ndarray) -> np.ndarray:
        """float32 (n, dim) without gradients, in batches."""
        import torch

        batches = (pixels[i : i + ENCODING_BATCH] for i in range(0, len(pixels), ENCODING_BATCH))
        with torch.inference_mode():
            return np.concatenate([self.image_features(np.array(batch)).cpu().numpy() for batch in batches])

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """float32 (n, dim) without gradients, in batches."""
        import torch

        tokens = self.tokens(texts)
        with torch.inference_mode():
            batches = (self.text_features(t) for t in tokens.split(ENCODING_BATCH))
            return np.concatenate([batch.cpu().numpy() for batch in batches])


def encode_text(network: torch.nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    """What `network.encode_text(tokens, normalize=True)` gives, without computing what cannot matter.

    In open_clip's own text tower a token sees only earlier ones and the end-of-text token is read out, so columns
    past a text's end change nothing. Texts of like length go through together, each group only as long as its longest
    one: a few captions of 77 tokens then do not make all others as long. Other towers run as they are.
    """
    import torch
    from torch.nn import functional

    pool, mask = getattr(network, "text_pool_type", None), getattr(network, "attn_mask", None)
    if pool != "argmax" or mask is None or network.text_projection is None:
        return network.encode_text(tokens, normalize=True)
    ends = tokens.argmax(dim=1)  # end-of-text has the largest id
    order = ends.argsort()
    pooled = [_pooled_text(network, tokens[group], ends[group], mask) for group in order.split(TEXT_GROUP)]
    features = torch.cat(pooled)[order.argsort()] @ network.text_projection
    return functional.normalize(features, dim=-1)


def _pooled_text(
    network: torch.nn.Module, tokens: torch.Tensor, ends: torch.Tensor, mask: torch.Tensor
) -> torch.Tensor:
    length = int(ends.max()) + 1
    x = network.token_embedding(tokens[:, :length]) + network.positional_embedding[:length]
    x = network.transformer(x, attn_mask=mask[:length, :length])
    return network.ln_final(x[range(len(x)), ends])


def pick_device() -> torch.device:
    """CUDA, else Apple's GPU, else the CPU; `CLIPDEMO_DEVICE` overrides."""
    import torch

    if name := os.environ.get("CLIPDEMO_DEVICE"):
        return torch.device(name)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def open_model(base: str = BUILT_IN_BASE, weights: Path | None = None) -> Clip:
    """A new CLIP, never shared, in evaluation mode.

    `base` is "builtin", or what open_clip opens: "NAME:PRETRAINED" (such as "ViT-B-32:openai"), "hf-hub:..." or
    "local-dir:...". `weights` is a safetensors file of a run, loaded over the base's. Raises `ModelError`.
    """
    import open_clip
    from safetensors.torch import load_file

    name, pretrained = _open_clip_name(base)
    try:
        network, _, _ = open_clip.create_model_and_transforms(name, pretrained=pretrained)
        tokenizer = open_clip.get_tokenizer(name)
        if weights is not None:
            network.load_state_dict(load_file(weights))
    except Exception as error:  # open_clip, huggingface_hub and safetensors each raise their own
        what = f"weights {weights} for base {base!r}" if weights else f"base model {base!r}"
        raise ModelError(f"{what} cannot be opened ({type(error).__name__}: {error})") from error
    settings = open_clip.get_model_preprocess_cfg(network)
    size = settings["size"]
    device = pick_device()
    return Clip(
        network=network.to(device).eval(),
        tokenizer=tokenizer,
        image_size=size[0] if isinstance(size, (tuple, list)) else size,
        mean=tuple(settings["mean"]),
        std=tuple(settings["std"]),
        device=device,
    )


def _open_clip_name(base: str) -> tuple[str, str | None]:
    if base == BUILT_IN_BASE:
        return f"local-dir:{BUILT_IN_FOLDER}", None
    if base.startswith(("hf-hub:", "local-dir:")):
        return base, None
    name, _, pretrained = base.partition(":")
    if not pretrained:
        raise ModelError(
            f"base = {base!r}: write NAME:PRETRAINED (such as ViT-B-32:openai), hf-hub:ID or local-dir:PATH"
        )
    return name, pretrained


def base_digest(base: str) -> str:
    """8 hexadecimal digits that change when the base's weights do; of its name where they are not ours to read."""
    if base == BUILT_IN_BASE:
        return files_digest(*sorted(BUILT_IN_FOLDER.glob("open_clip*")))
    if base.startswith("local-dir:"):
        return files_digest(*sorted(Path(base.removeprefix("local-dir:")).glob("open_clip*")))
    return hashlib.sha256(base.encode()).hexdigest()[:8]


def files_digest(*paths: Path) -> str:
    """8 hexadecimal digits of the SHA-256 of the files' contents."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:8]
