"""Opens a CLIP: network, tokenizer and preprocessing as one value. Imports torch only when a model is opened."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from clipdemo.errors import ModelError
from clipdemo.prompts import Wordings, averaged, prompts_of
from clipdemo.records import BUILT_IN_BASE, DEFAULT_TEMPLATE
from clipdemo.workspace import file_state

if TYPE_CHECKING:
    import torch

ASSETS = Path(__file__).resolve().parent.parent / "assets"
BUILT_IN_FOLDER = ASSETS / "base"
ENCODING_BATCH = 256


@dataclass(frozen=True)
class Clip:
    """One CLIP. `network` is open_clip's own module; `mean` and `std` are a channel's, for pixels in [0, 1]."""

    network: torch.nn.Module
    tokenizer: object
    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    device: torch.device
    precision: str = "float32"  # or "bf16": of the towers' products; features and weights are float32
    compiled: bool = False  # whether the image tower runs through torch.compile

    def tokens(self, texts: Sequence[str]) -> torch.Tensor:
        """int64 (n_texts, context_length), zero after the end of the text; longer texts are cut."""
        return self.tokenizer(list(texts))

    def normalised(self, pixels: np.ndarray | torch.Tensor) -> torch.Tensor:
        """uint8 (n, size, size, 3) -> float32 (n, 3, size, size) on the model's device, as the network expects it.

        Float pixels in [0, 255] are taken as well: augmented pictures.
        """
        import torch

        x = torch.as_tensor(pixels).to(self.device, non_blocking=True).permute(0, 3, 1, 2).float() / 255
        mean, std = self._moments
        return (x - mean) / std

    @cached_property
    def _moments(self) -> tuple[torch.Tensor, torch.Tensor]:
        import torch

        mean, std = (torch.tensor(v, device=self.device).view(3, 1, 1) for v in (self.mean, self.std))
        return mean, std

    def image_features(self, pixels: np.ndarray | torch.Tensor) -> torch.Tensor:
        """float32 (n, dim), rows of unit length, with gradients where they are on."""
        from clipdemo import towers

        encode = _compiled(towers.encode_image) if self.compiled else towers.encode_image
        with self._autocast():
            return encode(self.network, self.normalised(pixels))

    def text_features(self, tokens: torch.Tensor) -> torch.Tensor:
        """float32 (n, dim), rows of unit length, with gradients where they are on. `tokens` may stay on the CPU."""
        from clipdemo import towers

        with self._autocast():
            return towers.encode_text(self.network, tokens)

    def _autocast(self) -> torch.autocast:
        import torch

        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")

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

    def encode_classes(
        self, classes: Sequence[str], template: str = DEFAULT_TEMPLATE, wordings: Wordings | None = None
    ) -> np.ndarray:
        """float32 (n_classes, dim): what stands for each class, the mean of its sentences where there are several."""
        prompts = [prompts_of(label, template, wordings) for label in classes]
        return averaged(self.encode_texts([sentence for sentences in prompts for sentence in sentences]), prompts)

    @property
    def logit_scale(self) -> float:
        """1 / learned temperature: what a cosine is multiplied with before the softmax."""
        return float(self.network.logit_scale.detach().exp())


@cache
def _compiled(function: Callable) -> Callable:
    import torch

    return torch.compile(function)


def open_model(
    base: str = BUILT_IN_BASE, weights: Path | None = None, precision: str = "float32", compiled: bool = False
) -> Clip:
    """A new CLIP, never shared, in evaluation mode.

    `base` is "builtin", or what open_clip opens: "NAME:PRETRAINED" (such as "ViT-B-32:openai"), "hf-hub:..." or
    "local-dir:...". `weights` is a safetensors file of a run, loaded over the base's. `precision` and `compiled` as in
    `Clip`. Raises `ModelError`.
    """
    import open_clip
    from safetensors.torch import load_file

    from clipdemo.machine import pick_device

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
        precision=precision,
        compiled=compiled,
    )


def mixed(base: dict[str, torch.Tensor], tuned: dict[str, torch.Tensor], share: float) -> dict[str, torch.Tensor]:
    """share x tuned + (1 - share) x base, for what is a real number; the rest as tuned. Exact at 0 and 1."""
    import torch

    return {
        name: torch.lerp(base[name], value, share) if value.is_floating_point() else value
        for name, value in tuned.items()
    }


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
    """8 hexadecimal digits of the SHA-256 of the files' contents, which are read once for each state of them."""
    return _files_digest(tuple((path, file_state(path)) for path in paths))


@lru_cache(maxsize=256)
def _files_digest(files: tuple[tuple[Path, tuple[int, ...]], ...]) -> str:
    digest = hashlib.sha256()
    for path, _ in files:
        with path.open("rb") as file:
            for part in iter(lambda: file.read(1 << 20), b""):
                digest.update(part)
    return digest.hexdigest()[:8]
