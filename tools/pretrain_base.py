"""Makes assets/base: a small CLIP pretrained from nothing on synthetic textbook plates.

    python -m tools.pretrain_base                        # 8 epochs, about 12 minutes on 2 idle cores
    python -m tools.pretrain_base --resume --first-epoch 8   # 8 more, from the weights in assets/base

The model learns from `clipdemo.sources.phantom.plates`, flat-coloured, engraved and chalk drawings of normal anatomy
with textbook captions. The app fine-tunes it on the phantom source, which imitates clinical pictures with clinical
captions. That gap is the point: it was fixed in plates.py before any fine-tuned model was compared, and is not tuned.
"""

from __future__ import annotations

import json
import math
import os
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from clipdemo.general import Plate
from clipdemo.images import fit_square
from clipdemo.models import BUILT_IN_FOLDER

MODEL_CFG = {
    "embed_dim": 128,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 72, "layers": 4, "width": 192, "head_width": 64, "patch_size": 12},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 128, "heads": 2, "layers": 3},
}
MEAN, STD = (0.481, 0.458, 0.408), (0.269, 0.261, 0.276)  # OpenAI's, rounded; kept so that the format is theirs
IMAGE_SIZE = MODEL_CFG["vision_cfg"]["image_size"]
MARGIN = 8  # pixels more than the network sees, for random crops
BATCH_SIZE = 128
HELD_OUT = 1000
WEIGHTS = "open_clip_model.safetensors"  # the name that open_clip looks for


def plate(seed: int, index: int) -> tuple[np.ndarray, str, str]:
    """Plate `index`: uint8 (size, size, 3), its caption and its body part. Every view comes equally often."""
    from PIL import Image

    from clipdemo.sources.phantom.plates import plate_caption

    plan = Plate.of(seed, index)
    caption = plate_caption(plan.case, np.random.default_rng(plan.caption_seed))
    return fit_square(Image.fromarray(plan.drawn()), IMAGE_SIZE + MARGIN), caption, plan.case.view.part


def draw_plates(seed: int, count: int) -> tuple[np.ndarray, list[str], list[str]]:
    """All plates with their captions and parts, drawn on all cores."""
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        drawn = list(pool.map(partial(plate, seed), range(count), chunksize=64))
    pictures, captions, parts = zip(*drawn, strict=True)
    return np.stack(pictures), list(captions), list(parts)


def augmented(pictures: np.ndarray, rng: np.random.Generator, reproduced: bool) -> np.ndarray:
    """A random crop of each picture, a third of them without colour.

    `reproduced`: as textbooks are copied and scanned, two thirds lose their colour, a third is printed in negative,
    and all get another contrast and some grain.
    """
    left, top = rng.integers(0, MARGIN + 1, (2, len(pictures)))
    crops = [p[y : y + IMAGE_SIZE, x : x + IMAGE_SIZE] for p, x, y in zip(pictures, left, top, strict=True)]
    out = np.stack(crops)
    grey = rng.random(len(out)) < (2 / 3 if reproduced else 1 / 3)
    out[grey] = out[grey].mean(axis=3, keepdims=True).astype(np.uint8)
    return _reproduced(out, rng) if reproduced else out


def _reproduced(pictures: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    per_picture = (len(pictures), 1, 1, 1)
    x = pictures / np.float32(255)
    x = np.where(rng.random(per_picture) < 1 / 3, 1 - x, x)
    contrast = rng.uniform(0.5, 1.4, per_picture).astype(np.float32)
    x = (x - 0.5) * contrast + 0.5 + rng.uniform(-0.15, 0.15, per_picture).astype(np.float32)
    x += rng.normal(0, 1, (*pictures.shape[:3], 1)).astype(np.float32) * rng.uniform(0, 0.1, per_picture).astype(
        np.float32
    )
    return (x.clip(0, 1) * 255).astype(np.uint8)


def main(
    out: Annotated[Path, typer.Option(help="Folder to write.")] = BUILT_IN_FOLDER,
    plates: Annotated[int, typer.Option(help="Plates to draw.")] = 12_000,
    epochs: Annotated[int, typer.Option(help="Passes over them.")] = 8,
    learning_rate: Annotated[float, typer.Option(help="Peak rate.")] = 1e-3,
    seed: Annotated[int, typer.Option(help="Fixes plates, weights and order.")] = 20_000,
    resume: Annotated[bool, typer.Option(help="Go on from the weights in the folder, with a new cosine.")] = False,
    reproduced: Annotated[bool, typer.Option(help="Augment as textbooks are copied: grey, negative, grainy.")] = False,
    first_epoch: Annotated[int, typer.Option(help="Number of the first epoch, which decides the order.")] = 0,
) -> None:
    """Pretrain the built-in base model."""
    import torch
    from open_clip import get_tokenizer
    from open_clip.model import CLIP
    from safetensors.torch import load_file

    from clipdemo.models import Clip
    from clipdemo.training.losses import contrastive_loss
    from clipdemo.training.schedule import batches, learning_rate_at

    began = time.time()
    pictures, captions, parts = draw_plates(seed, plates + HELD_OUT)
    print(f"{len(pictures):,} plates drawn in {time.time() - began:.0f} s", flush=True)
    torch.manual_seed(seed)
    network = CLIP(MODEL_CFG["embed_dim"], MODEL_CFG["vision_cfg"], MODEL_CFG["text_cfg"], quick_gelu=True)
    if resume:
        network.load_state_dict(load_file(out / WEIGHTS))
    clip = Clip(network, get_tokenizer("ViT-B-32"), IMAGE_SIZE, MEAN, STD, torch.device("cpu"))
    tokens = clip.tokens(captions)
    decayed = [p for p in network.parameters() if p.ndim >= 2]
    plain = [p for p in network.parameters() if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.98), eps=1e-6, fused=True)
    steps, step = epochs * len(batches(plates, BATCH_SIZE, seed, 0)), 0
    for epoch in range(first_epoch, first_epoch + epochs):
        network.train()
        rng = np.random.default_rng([seed, epoch])
        total = 0.0
        order = batches(plates, BATCH_SIZE, seed, epoch)
        for rows in order:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate_at(step, steps, learning_rate, 0.05)
            images = clip.image_features(augmented(pictures[rows], rng, reproduced))
            texts = clip.text_features(tokens[rows])
            loss = contrastive_loss(images, texts, network.logit_scale.exp())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                network.logit_scale.clamp_(0, math.log(100))
            total += float(loss.detach())
            step += 1
        print(f"epoch {epoch + 1}: loss {total / len(order):.3f}, {time.time() - began:.0f} s", flush=True)
        save(network, out)
    network.eval()
    top1 = plate_accuracy(clip, pictures[plates:], parts[plates:])
    print(f"top-1 on {HELD_OUT} held-out plates: {100 * top1:.1f} % (12 body parts)")


def plate_accuracy(clip: object, pictures: np.ndarray, parts: list[str]) -> float:
    """Zero-shot top-1 on plates that were not trained on, with the program's own prompt."""
    from clipdemo.evaluation import evaluate_scores
    from clipdemo.prompts import prompts_for

    classes = sorted(set(parts))
    cut = MARGIN // 2
    images = clip.encode_images(pictures[:, cut:-cut, cut:-cut])
    return evaluate_scores(images @ clip.encode_texts(prompts_for(classes)).T, parts, classes)["top1"]


def save(network: object, folder: Path) -> None:
    """open_clip's own folder format, weights in half precision; `local-dir:FOLDER` opens it."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "model_cfg": MODEL_CFG,
        "preprocess_cfg": {"mean": MEAN, "std": STD, "interpolation": "bicubic", "resize_mode": "shortest"},
    }
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n")
    weights = {name: value.half().contiguous() for name, value in network.state_dict().items()}
    save_file(weights, folder / WEIGHTS)


if __name__ == "__main__":
    typer.run(main)
