"""This engine against the loops that people use, with equal mathematics in float32, in turns within one run.

    python -m benchmarks.engine steps      # about 5 minutes on 2 cores
    python -m benchmarks.engine files      # about 5 minutes
    python -m benchmarks.engine memory     # about 10 minutes

Three things are timed. A step (forward, loss, backward, AdamW) on tensors that lie ready, batch 32; an epoch from JPEG
files of 640 x 480 to new weights, batch 32, the built-in model; and the peak memory of a step, in a process of its own.
The peers are open_clip's `train_one_epoch` with its data loader and loss, and the usual transformers loop: see `peers`.
All three see the same pictures: open_clip's random crop in training is left out. The limit is the best rate of large
float32 matrix products in this process; the share of it that a step reaches counts the step's own operations only.
"""

from __future__ import annotations

import io
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Annotated

import numpy as np
import pandas as pd
import psutil
import torch
import typer
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.machine import keep, peak_bytes
from benchmarks.peers import OpenClipPeer, TransformersPeer
from benchmarks.peers import Pairs as Files
from clipdemo import machine
from clipdemo.images import decode, fit_square
from clipdemo.models import BUILT_IN_FOLDER, Clip
from clipdemo.prompts import prompts_for
from clipdemo.records import MODES, Mode, RunConfig
from clipdemo.sources.phantom import PhantomSource
from clipdemo.sources.phantom.captions import PLACEHOLDERS
from clipdemo.training.gradients import accumulate_gradient
from clipdemo.training.optimizer import make_optimizer
from clipdemo.training.pairs import Batch, Pairs
from clipdemo.training.vocabulary import UsedRows

app = typer.Typer()
BATCH, RATE = 32, 1e-5
NAMES = {"builtin": f"local-dir:{BUILT_IN_FOLDER}", "ViT-B-32": "ViT-B-32-quickgelu"}  # random weights do for speed
FILES, EPOCHS, SIDES = 1024, 2, (640, 480)


class Engine:
    """One step of this program's loop, without its files."""

    def __init__(self, clip: Clip, pairs: Pairs, chunk_size: int = 0) -> None:
        self.clip, self.pairs, self.chunk_size = clip, pairs, chunk_size
        self.rows = UsedRows(clip.network, pairs.vocabulary())
        pairs.places = self.rows.ids
        self.optimizer = make_optimizer(clip.network, RunConfig(mode=pairs.mode, learning_rate=RATE))
        clip.network.train()

    def step(self, batch: Batch) -> float:
        """Forward, loss, backward, AdamW."""
        self.optimizer.zero_grad()
        loss = accumulate_gradient(self.clip, batch, chunk_size=self.chunk_size)
        self.optimizer.step()
        self.rows.stepped(RATE, 0.1)
        with torch.no_grad():
            self.clip.network.logit_scale.clamp_(0, np.log(100))
        return float(loss)


def make_clip(model: str) -> Clip:
    """The model, the same weights at every call."""
    import open_clip

    torch.manual_seed(0)
    network, _, _ = open_clip.create_model_and_transforms(NAMES[model], pretrained=None)
    settings = open_clip.get_model_preprocess_cfg(network)
    size = settings["size"][0] if isinstance(settings["size"], (list, tuple)) else settings["size"]
    tokenizer = open_clip.get_tokenizer(NAMES[model])
    return Clip(network, tokenizer, size, tuple(settings["mean"]), tuple(settings["std"]), torch.device("cpu"))


def make_pairs(clip: Clip, mode: Mode, n: int, pixels: np.ndarray | None = None) -> Pairs:
    """n pairs with the built-in source's captions and labels; noise for pictures where none are given."""
    source = PhantomSource()
    table = _rows(n)
    names = [label if label in source.classes else source.classes[0] for label in table["label"]]
    classes = np.array([source.classes.index(name) for name in names])
    captions = clip.tokens(table["caption"].tolist()).numpy().astype(np.int32)
    prompts = clip.tokens(prompts_for(source.classes)).numpy().astype(np.int32)
    if pixels is None:
        size = clip.image_size
        pixels = np.random.default_rng(0).integers(0, 256, (n, size, size, 3), dtype=np.uint8)
    return Pairs(mode, pixels, captions, prompts, classes, np.array(["train"] * n))


def _rows(n: int) -> pd.DataFrame:
    """The built-in source's first n rows with a caption that says something; "null" is what some loaders stumble on."""
    table = PhantomSource().table()
    return table[~table["caption"].isin(PLACEHOLDERS)].iloc[:n]


def tokens_of(pairs: Pairs, rows: np.ndarray) -> torch.Tensor:
    """int64 (n, context_length): each row's text, as the peers take it."""
    table = pairs.captions[rows] if pairs.mode == "captions" else pairs.prompts[pairs.classes[rows]]
    return torch.from_numpy(table.astype(np.int64))


# ---- a step


def steps(model: str, mode: Mode, rounds: int) -> dict[str, object]:
    """Median seconds of a step for each loop, in turns, and the first step's losses, which must agree."""
    clip, rows = make_clip(model), np.arange(BATCH)
    preprocessing = _preprocessing(clip)
    pairs = make_pairs(clip, mode, BATCH)
    tokens, images = tokens_of(pairs, rows), clip.normalised(pairs.pixels)
    peers = {
        "open_clip": OpenClipPeer(clip.network, clip.tokenizer, preprocessing, BATCH, RATE, 0),
        "transformers": TransformersPeer(clip.network, clip.tokenizer, preprocessing, BATCH, RATE, 0),
    }
    engine = Engine(make_clip(model), pairs)
    batch = pairs.batch(rows)
    turns: dict[str, Callable[[], float]] = {"clipdemo": lambda: engine.step(batch)}
    turns |= {name: (lambda peer=peer: peer.step_only(images, tokens)) for name, peer in peers.items()}
    losses = {name: turn() for name, turn in turns.items()}  # not timed: the first step allocates
    seconds: dict[str, list[float]] = {name: [] for name in turns}
    for _ in range(rounds):
        for name, turn in turns.items():
            began = time.perf_counter()
            turn()
            seconds[name].append(time.perf_counter() - began)
    with FlopCounterMode(display=False) as counter:
        engine.step(batch)
    middle = {name: median(values) for name, values in seconds.items()}
    return {
        "batch": BATCH,
        "rounds": rounds,
        "seconds": {name: round(value, 4) for name, value in middle.items()},
        "images_per_second": {name: round(BATCH / value, 1) for name, value in middle.items()},
        "times_as_fast": {name: round(middle[name] / middle["clipdemo"], 2) for name in peers},
        "first_loss": losses,
        "gflop": round(counter.get_total_flops() / 1e9, 1),
        "gflop_per_second": round(counter.get_total_flops() / 1e9 / middle["clipdemo"], 1),
    }


def product_limit() -> float:
    """GFLOP/s of float32 products: the best of a large square one and ViT-B/32's own, each the median of several."""
    rates = []
    for m, k, n in ((4096, 4096, 4096), (1600, 768, 3072), (1600, 3072, 768)):
        a, b, seconds = torch.ones(m, k), torch.ones(k, n), []
        for _ in range(7):
            began = time.perf_counter()
            a @ b
            seconds.append(time.perf_counter() - began)
        rates.append(2 * m * k * n / median(seconds) / 1e9)
    return max(rates)


# ---- an epoch from files


def epochs(mode: Mode, folder: Path) -> dict[str, object]:
    """Images a second from JPEG files to weights, over `EPOCHS` epochs; this engine's decoding is counted in."""
    files = _files(folder)
    clip = make_clip("builtin")
    pairs = make_pairs(clip, mode, FILES)
    sentences = prompts_for(PhantomSource().classes)
    texts = _rows(FILES)["caption"].tolist() if mode == "captions" else [sentences[c] for c in pairs.classes]
    preprocessing = _preprocessing(clip)
    seconds = {}
    for workers in (0, 2):
        for name, kind in (("open_clip", OpenClipPeer), ("transformers", TransformersPeer)):
            network = make_clip("builtin").network
            peer = kind(network, clip.tokenizer, preprocessing, BATCH, RATE, workers, epochs=EPOCHS)
            seconds[f"{name}, {workers} workers"] = sum(peer.epoch(Files(files, texts)).seconds for _ in range(EPOCHS))
        seconds.setdefault("clipdemo", 0.0)
        seconds["clipdemo"] += _own_epochs(mode, files, folder / f"pixels-{mode}-{workers}.npy") / 2
    fastest = {
        name: min(value for key, value in seconds.items() if key.startswith(name))
        for name in ("open_clip", "transformers")
    }
    return {
        "files": FILES,
        "epochs": EPOCHS,
        "images_per_second": {name: round(FILES * EPOCHS / value, 1) for name, value in seconds.items()},
        "times_as_fast_as_its_best": {name: round(v / seconds["clipdemo"], 2) for name, v in fastest.items()},
    }


def _own_epochs(mode: Mode, files: list[Path], cache: Path) -> float:
    clip = make_clip("builtin")
    began = time.perf_counter()
    pixels = np.lib.format.open_memmap(cache, "w+", np.uint8, (FILES, clip.image_size, clip.image_size, 3))

    def fill(i: int) -> None:
        pixels[i] = fit_square(decode(files[i].read_bytes()), clip.image_size)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(fill, range(FILES)))
    pairs = make_pairs(clip, mode, FILES, pixels)
    engine = Engine(clip, pairs)
    rng = np.random.default_rng(0)
    for _ in range(EPOCHS):
        order = rng.permutation(FILES).reshape(-1, BATCH)
        for _, batch in pairs.batches(order):
            engine.step(batch)
    return time.perf_counter() - began


def _files(folder: Path) -> list[Path]:
    """The built-in source's pictures, blown up, as JPEG files."""
    files = [folder / f"{i}.jpg" for i in range(FILES)]
    if not files[-1].exists():
        for path, png in zip(files, PhantomSource().pictures(range(FILES)), strict=True):
            Image.open(io.BytesIO(png)).convert("RGB").resize(SIDES).save(path, quality=90)
    return files


def _preprocessing(clip: Clip) -> dict[str, object]:
    import open_clip

    return open_clip.get_model_preprocess_cfg(clip.network)


# ---- memory


def peak_megabytes(model: str, mode: Mode, loop: str, batch: int, chunk_size: int) -> int:
    """What two steps take at most beside what was there before them: weights' moments and gradients included."""
    command = [sys.executable, "-m", "benchmarks.engine", "one-memory", model, mode, loop, str(batch), str(chunk_size)]
    return int(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.split()[-1])


@app.command(hidden=True)
def one_memory(model: str, mode: str, loop: str, n: int, chunk_size: int) -> None:
    """What `memory` starts: two steps, and how much more memory the process has taken by then."""
    clip = make_clip(model)
    pairs = make_pairs(clip, mode, n)
    rows = np.arange(n)
    if loop == "clipdemo":
        engine = Engine(clip, pairs, chunk_size)
        made = pairs.batch(rows)
        turn: Callable[[], float] = lambda: engine.step(made)  # noqa: E731
    else:
        kind = OpenClipPeer if loop == "open_clip" else TransformersPeer
        peer = kind(clip.network, clip.tokenizer, _preprocessing(clip), n, RATE, 0)
        images, tokens = clip.normalised(pairs.pixels), tokens_of(pairs, rows)
        turn = lambda: peer.step_only(images, tokens)  # noqa: E731
    before = psutil.Process().memory_info().rss
    for _ in range(2 if n < 512 else 1):  # a second step has the moments beside the activations
        turn()
    print((peak_bytes() - before) >> 20)


@app.command("steps")
def measure_steps(
    rounds: Annotated[int, typer.Option(help="Of steps of the built-in model; a third for ViT-B/32.")] = 9,
) -> None:
    """Steps on tensors that lie ready, both models, both kinds of pairs."""
    how = machine.prepare_cpu()  # for all loops alike
    limit = product_limit()
    print(f"{how}; limit {limit:.0f} GFLOP/s", flush=True)
    result: dict[str, object] = {"cpu": how, "limit_gflop_per_second": round(limit, 1)}
    for model in NAMES:
        for mode in MODES:
            figures = steps(model, mode, rounds if model == "builtin" else max(3, rounds // 3))
            figures["share_of_limit"] = round(figures["gflop_per_second"] / limit, 3)
            result[f"{model}, {mode}"] = figures
            print(f"{model}, {mode}: {figures}", flush=True)
            keep("engine-steps", "python -m benchmarks.engine steps", result)


@app.command("files")
def measure_files() -> None:
    """Epochs from JPEG files to weights, the built-in model."""
    machine.prepare_cpu()
    with tempfile.TemporaryDirectory() as folder:
        result = {mode: epochs(mode, Path(folder)) for mode in MODES}
    print(result)
    keep("engine-files", "python -m benchmarks.engine files", result)


@app.command("memory")
def measure_memory() -> None:
    """Peak memory of steps of ViT-B/32 on captions, each in a process of its own."""
    result: dict[str, object] = {}
    for name, loop, batch, chunk in (
        ("open_clip, batch 64", "open_clip", 64, 0),
        ("transformers, batch 64", "transformers", 64, 0),
        ("clipdemo, batch 64", "clipdemo", 64, 0),
        ("clipdemo, batch 64, 16 pairs at a time", "clipdemo", 64, 16),
        ("clipdemo, batch 1024, 16 pairs at a time", "clipdemo", 1024, 16),
    ):
        result[name] = peak_megabytes("ViT-B-32", "captions", loop, batch, chunk)
        print(name, result[name], "MB", flush=True)
        keep("engine-memory", "python -m benchmarks.engine memory", {"peak_megabytes": result})


if __name__ == "__main__":
    app()
