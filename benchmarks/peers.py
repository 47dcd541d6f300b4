"""The two training loops that people use, to be timed beside ours: open_clip's own, and the usual one of transformers.

Both train a copy of the same network with the same mathematics in float32: contrastive loss, AdamW, cosine schedule,
temperature clamped. Both run as they come, with their defaults; what is set here is set so that neither is held up
and both learn the same. Nothing here knows of our own loop, or of which results it is compared with.
"""

from __future__ import annotations

import copy
import math
import tempfile
import time
import warnings
from abc import ABC, abstractmethod
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import open_clip
import pandas as pd
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from open_clip_train.data import DataInfo, get_csv_dataset
from open_clip_train.distributed import init_distributed_device
from open_clip_train.params import parse_args
from open_clip_train.scheduler import cosine_lr
from open_clip_train.train import train_one_epoch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel
from transformers.image_utils import PILImageResampling

WEIGHT_DECAY = 0.1
MAX_LOGIT_SCALE = 100.0  # as open_clip clamps it
ARGMAX_POOLING = 2  # as `eos_token_id`, transformers reads it as "the largest id of the row", which is open_clip's rule
ACTIVATIONS = {"QuickGELU()": "quick_gelu", "GELU(approximate='none')": "gelu"}
RESAMPLING = {"bicubic": PILImageResampling.BICUBIC, "bilinear": PILImageResampling.BILINEAR}

TENSORS = {  # open_clip's names and transformers'; a block's own follow in BLOCK
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.ln_pre": "vision_model.pre_layrnorm",  # sic
    "visual.ln_post": "vision_model.post_layernorm",
    "visual.proj": "visual_projection.weight",
    "visual.transformer.resblocks": "vision_model.encoder.layers",
    "token_embedding": "text_model.embeddings.token_embedding",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "transformer.resblocks": "text_model.encoder.layers",
    "ln_final": "text_model.final_layer_norm",
    "text_projection": "text_projection.weight",
}
BLOCK = {
    ".ln_1.": ".layer_norm1.",
    ".ln_2.": ".layer_norm2.",
    ".mlp.c_fc.": ".mlp.fc1.",
    ".mlp.c_proj.": ".mlp.fc2.",
    ".attn.": ".self_attn.",
}


@dataclass(frozen=True)
class Pairs:
    """Picture files and their texts: text i belongs to picture i."""

    images: list[Path]
    texts: list[str]


@dataclass(frozen=True)
class EpochFigures:
    """What one epoch took. `images` were trained on, in full batches; `losses` holds one number a step, in order."""

    seconds: float
    images: int
    losses: list[float]


class Peer(ABC):
    """One training loop with a copy of the network that it trains; `network` is not touched.

    `tokenizer` and `preprocessing` belong to the network: open_clip's `get_tokenizer(...)` and
    `get_model_preprocess_cfg(network)`. Pictures are resized and cropped as for evaluation, without augmentation.
    The cosine falls from `learning_rate` to 0 over `epochs` epochs, after `warmup_steps` steps of warm-up; a call of
    `epoch` beyond them starts it anew.
    """

    def __init__(
        self,
        network: open_clip.CLIP,
        tokenizer: Callable[[Sequence[str]], torch.Tensor],
        preprocessing: Mapping[str, object],
        batch_size: int,
        learning_rate: float,
        workers: int,
        *,
        epochs: int = 1,
        warmup_steps: int = 0,
    ) -> None:
        self.network = self._copied(network).train()
        self.device = network.logit_scale.device
        self.tokenizer, self.preprocessing = tokenizer, preprocessing
        self.batch_size, self.learning_rate, self.workers = batch_size, learning_rate, workers
        self.epochs, self.warmup_steps = epochs, warmup_steps
        self.optimizer = adamw(self.network, learning_rate)
        self.epoch_number = 0  # from 0 to epochs - 1

    def epoch(self, pairs: Pairs) -> EpochFigures:
        """Trains on all pairs once, in an order that `torch.manual_seed` decides, alike for both peers.

        The clock runs from the start of the loader's workers to the last step's weights; making the loader is not
        timed. The odd pairs out of full batches are left out. Raises `ValueError` when there is no full batch.
        """
        if len(pairs.images) < self.batch_size:
            raise ValueError(
                f"{len(pairs.images)} pairs fill no batch of {self.batch_size}: give more, or a smaller batch"
            )
        loader = self._loader(pairs)
        schedule = cosine_lr(self.optimizer, self.learning_rate, self.warmup_steps, len(loader) * self.epochs)
        began = time.perf_counter()
        losses = torch.stack(self._train(loader, schedule)).tolist()  # reading them waits for a GPU's last step
        seconds = time.perf_counter() - began
        self.epoch_number = (self.epoch_number + 1) % self.epochs
        return EpochFigures(seconds, len(loader) * self.batch_size, losses)

    def step_only(self, images: torch.Tensor, tokens: torch.Tensor) -> float:
        """One training step without the data path; the loss before it.

        `images` are float32 (n, 3, size, size), normalised; `tokens` int64 (n, context_length). The learning rate is
        as it stands: `learning_rate` on a new peer, the schedule's last one after an epoch.
        """
        return self._step(images, tokens).item()

    def _step(self, images: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        images = images.to(self.device, non_blocking=True)
        tokens = tokens.to(self.device, non_blocking=True)
        self.optimizer.zero_grad()
        loss = self._loss(images, tokens)
        loss.backward()
        self.optimizer.step()
        with torch.no_grad():
            self.network.logit_scale.clamp_(0, math.log(MAX_LOGIT_SCALE))
        return loss.detach()

    @abstractmethod
    def _copied(self, network: open_clip.CLIP) -> torch.nn.Module:
        """The peer's own form of the network, with weights of its own."""

    @abstractmethod
    def _loader(self, pairs: Pairs) -> DataLoader:
        """Shuffled full batches of (images, tokens), read from the files in every epoch."""

    @abstractmethod
    def _train(self, loader: DataLoader, schedule: Callable[[int], float]) -> list[torch.Tensor]:
        """One pass over the loader; a loss a step, as scalars without gradients."""

    @abstractmethod
    def _loss(self, images: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """The contrastive loss of one batch, with gradients."""


class OpenClipPeer(Peer):
    """open_clip's `train_one_epoch`, fed by its own CSV dataset: what `python -m open_clip_train.main` runs."""

    def _copied(self, network: open_clip.CLIP) -> open_clip.CLIP:
        network = copy.deepcopy(network)
        network.output_dict = True  # as open_clip_train.main builds it
        return network

    def _loader(self, pairs: Pairs) -> DataLoader:
        """Raises `ValueError` when a text does not survive the CSV: pandas reads "NA" as a missing value."""
        transform = image_transform_v2(PreprocessCfg(**self.preprocessing), is_train=False)
        table = pd.DataFrame({"filepath": [str(path) for path in pairs.images], "title": pairs.texts})
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "pairs.csv"
            table.to_csv(path, sep="\t", index=False)
            self._settings.train_data = str(path)
            loader = get_csv_dataset(self._settings, transform, True, tokenizer=self.tokenizer).dataloader
        for sent, read in zip(pairs.texts, loader.dataset.captions, strict=True):
            if sent != str(read):
                raise ValueError(f"open_clip's CSV dataset reads the text {sent!r} as {read!r}: leave it out")
        return loader

    @cached_property
    def _settings(self) -> Namespace:
        """open_clip_train's arguments, with what its `main` adds to them. Logging stays at every 100 steps."""
        given = {
            "model": "ViT-B-32",  # only its name is ever looked at: not a CoCa
            "dataset-type": "csv",
            "batch-size": self.batch_size,
            "workers": self.workers,
            "epochs": self.epochs,
            "lr": self.learning_rate,
            "wd": WEIGHT_DECAY,
            "warmup": self.warmup_steps,
            "precision": "fp32",
            "device": self.device,
        }
        settings = parse_args([f"--{name}={value}" for name, value in given.items()])
        settings.distill = settings.wandb = False
        init_distributed_device(settings)  # fills in rank 0 of 1
        return settings

    def _train(self, loader: DataLoader, schedule: Callable[[int], float]) -> list[torch.Tensor]:
        losses = []

        def noted(**features: torch.Tensor) -> dict[str, torch.Tensor]:  # open_clip itself only logs some of them
            terms = self._contrastive(**features)
            losses.append(terms["contrastive_loss"].detach())
            return terms

        data = {"train": DataInfo(loader)}
        scaler = distilled = None
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*pin_memory")  # it pins always, also where there is no GPU
            train_one_epoch(
                self.network,
                data,
                noted,
                self.epoch_number,
                self.optimizer,
                scaler,
                schedule,
                distilled,
                self._settings,
            )
        return losses

    def _loss(self, images: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        return self._contrastive(**self.network(images, tokens))

    @cached_property
    def _contrastive(self) -> open_clip.ClipLoss:
        return open_clip.create_loss(self._settings)


class TransformersPeer(Peer):
    """The loop of transformers' tutorials: `CLIPModel` with its own loss, its image processor, a plain `DataLoader`.

    Texts are tokenised when the loader is made, hence not timed, as `datasets.map` does it once before training. The
    processor takes whole batches, which is 1.1 to 1.4 times as fast as picture by picture. It rounds resized pixels
    otherwise than Pillow, by at most one level of 255; pictures that need no resizing come out the same.
    """

    def _copied(self, network: open_clip.CLIP) -> CLIPModel:
        return transformers_model(network)

    def _loader(self, pairs: Pairs) -> DataLoader:
        return DataLoader(
            _Files(pairs.images, self.tokenizer(pairs.texts)),
            batch_size=self.batch_size,
            shuffle=True,
            num_workers=self.workers,
            pin_memory=self.device.type == "cuda",
            drop_last=True,
            collate_fn=partial(_collated, image_processor(self.preprocessing)),
        )

    def _train(self, loader: DataLoader, schedule: Callable[[int], float]) -> list[torch.Tensor]:
        """The schedule is open_clip's: transformers' own cosine is the same but for a warm-up that starts at 0."""
        losses = []
        for step, (images, tokens) in enumerate(loader, start=self.epoch_number * len(loader)):
            schedule(step)
            losses.append(self._step(images, tokens))
        return losses

    def _loss(self, images: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        return self.network(
            input_ids=tokens, pixel_values=images, attention_mask=attention_mask(tokens), return_loss=True
        ).loss


class _Files(Dataset):
    """(Picture, not yet decoded; int64 (context_length,) tokens)."""

    def __init__(self, images: list[Path], tokens: torch.Tensor) -> None:
        self.images, self.tokens = images, tokens

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, position: int) -> tuple[Image.Image, torch.Tensor]:
        return Image.open(self.images[position]), self.tokens[position]


def _collated(
    processor: CLIPImageProcessor, batch: list[tuple[Image.Image, torch.Tensor]]
) -> tuple[torch.Tensor, torch.Tensor]:
    images, tokens = zip(*batch, strict=True)
    return processor(images=list(images), return_tensors="pt")["pixel_values"], torch.stack(tokens)


def adamw(network: torch.nn.Module, learning_rate: float) -> torch.optim.AdamW:
    """AdamW as open_clip_train.main makes it: no decay for biases, norms, the class token and the temperature."""
    plain = [p for p in network.parameters() if p.ndim < 2]
    decayed = [p for p in network.parameters() if p.ndim >= 2]
    groups = [{"params": plain, "weight_decay": 0.0}, {"params": decayed, "weight_decay": WEIGHT_DECAY}]
    return torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.98), eps=1e-6)


def attention_mask(tokens: torch.Tensor) -> torch.Tensor:
    """int64, like `tokens` of shape (n, context_length): 1 up to the end-of-text token, 0 for the padding after it."""
    return (torch.arange(tokens.shape[1], device=tokens.device) <= tokens.argmax(dim=1, keepdim=True)).long()


def image_processor(preprocessing: Mapping[str, object]) -> CLIPImageProcessor:
    """transformers' CLIP processor with open_clip's settings.

    Raises `ValueError` unless the shortest side is resized and a square cut out of the middle.
    """
    wanted = PreprocessCfg(**preprocessing)
    height, width = (wanted.size, wanted.size) if isinstance(wanted.size, int) else wanted.size
    if height != width or wanted.resize_mode != "shortest":
        raise ValueError(f"{wanted}: CLIPImageProcessor can only cut a square after resizing the shortest side")
    return CLIPImageProcessor(
        size={"shortest_edge": height},
        crop_size={"height": height, "width": width},
        image_mean=list(wanted.mean),
        image_std=list(wanted.std),
        resample=RESAMPLING[wanted.interpolation],
    )


def transformers_model(network: open_clip.CLIP) -> CLIPModel:
    """transformers' CLIP with the form, the weights, the device and the dtype of an open_clip ViT.

    Takes the plain CLIP: a ViT read at its class token, and open_clip's own causal text tower read at end-of-text.
    Raises `ValueError` for another kind, `RuntimeError` for weights that have no place in `CLIPModel`.
    """
    visual = network.visual
    if not isinstance(network, open_clip.CLIP) or not isinstance(visual, open_clip.transformer.VisionTransformer):
        raise ValueError(f"{type(network).__name__} with {type(visual).__name__}: only a CLIP with a ViT can")
    if (visual.pool_type, network.text_pool_type) != ("tok", "argmax") or network.attn_mask is None:
        raise ValueError(
            f"pooling by {visual.pool_type!r} and {network.text_pool_type!r}: only class token ('tok') and end-of-text "
            "('argmax') behind a causal mask can be converted"
        )
    model = CLIPModel(
        CLIPConfig(
            vision_config={
                **_tower_config(visual.transformer),
                "image_size": _side(visual.image_size),
                "patch_size": _side(visual.patch_size),
            },
            text_config={
                **_tower_config(network.transformer),
                "vocab_size": network.vocab_size,
                "max_position_embeddings": network.context_length,
                "eos_token_id": ARGMAX_POOLING,
            },
            projection_dim=visual.output_dim,
        )
    )
    model.to(network.logit_scale.device, network.logit_scale.dtype).load_state_dict(_renamed(network.state_dict()))
    return model.train(network.training)


def _tower_config(transformer: torch.nn.Module) -> dict[str, object]:
    """What CLIPVisionConfig and CLIPTextConfig have in common, read off a tower of equal blocks."""
    block = transformer.resblocks[0]
    activation = str(block.mlp.gelu)
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation {activation}: only {', '.join(ACTIVATIONS)} can be converted")
    return {
        "hidden_size": block.mlp.c_fc.in_features,
        "intermediate_size": block.mlp.c_fc.out_features,
        "num_hidden_layers": len(transformer.resblocks),
        "num_attention_heads": block.attn.num_heads,
        "hidden_act": ACTIVATIONS[activation],
        "layer_norm_eps": block.ln_1.eps,
    }


def _side(size: tuple[int, int]) -> int:
    height, width = size
    if height != width:
        raise ValueError(f"{height} x {width} pixels: only squares can be converted")
    return height


def _renamed(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """open_clip's state dict under transformers' names: projections transposed, queries, keys and values apart."""
    renamed = {}
    for name, value in weights.items():
        start = next((key for key in TENSORS if name == key or name.startswith(f"{key}.")), "")
        new = TENSORS.get(start, "") + name.removeprefix(start)
        for theirs, ours in BLOCK.items():
            new = new.replace(theirs, ours)
        if "in_proj_" in new:
            for part, rows in zip("qkv", value.chunk(3), strict=True):
                renamed[new.replace("in_proj_", f"{part}_proj.")] = rows
        else:
            renamed[new] = value.T if name in ("visual.proj", "text_projection") else value
    return renamed
