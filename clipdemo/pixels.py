"""A sample's pictures, decoded once for each picture size and mapped into memory ever after."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from clipdemo.images import decode, fit_square
from clipdemo.progress import Activity, Progress
from clipdemo.sampling import Sample
from clipdemo.workspace import Workspace


def sample_pixels(sample: Sample, size: int, workspace: Workspace) -> Activity[np.ndarray]:
    """uint8 (n, size, size, 3), one picture a row of the manifest, memory-mapped and read-only."""
    name = f"pixels-{sample.content_hash[:12]}-{size}"
    with workspace.lock(name):
        if not workspace.folder("cache", name).is_dir():
            with workspace.new_folder("cache", name) as folder:
                yield from _decode_all(sample, size, folder / "pixels.npy")
    return np.load(workspace.folder("cache", name) / "pixels.npy", mmap_mode="r")


def _decode_all(sample: Sample, size: int, path: Path) -> Activity[None]:
    names = sample.manifest["image"].tolist()
    out = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(len(names), size, size, 3))

    def fill(i: int) -> None:
        out[i] = fit_square(decode(sample.picture(names[i]), names[i]), size)

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow lets other threads run while it decodes
        for i, _ in enumerate(pool.map(fill, range(len(names))), start=1):
            if i % 256 == 0 or i == len(names):
                yield Progress(stage="pictures", done=i, total=len(names), note="decoding pictures")
    out.flush()
