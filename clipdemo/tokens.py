"""A sample's captions, tokenised once for each tokenizer and mapped into memory ever after."""

from __future__ import annotations

import hashlib

import numpy as np
import pyarrow.parquet as pq

from clipdemo.models import Clip
from clipdemo.progress import Activity, Progress
from clipdemo.sampling import Sample
from clipdemo.workspace import Workspace

_ROWS = 4096  # captions in memory at a time
_PROBES = ("a chest", "Axial CT, T2-weighted; the left lung’s “nodule” (3.5 cm).", "ÄÖ 胸部 1/2", "word " * 99)


def sample_tokens(sample: Sample, clip: Clip, workspace: Workspace) -> Activity[np.ndarray]:
    """int32 (n, context_length), one caption a row of the manifest, memory-mapped and read-only."""
    name = f"tokens-{sample.content_hash[:12]}-{tokenizer_digest(clip)}"
    with workspace.lock(name):
        if not workspace.folder("cache", name).is_dir():
            with workspace.new_folder("cache", name) as folder:
                source = pq.ParquetFile(sample.folder / "manifest.parquet")
                total, length = source.metadata.num_rows, clip.tokens([""]).shape[1]
                out = np.lib.format.open_memmap(folder / "tokens.npy", "w+", np.int32, (total, length))
                done = 0
                for batch in source.iter_batches(_ROWS, columns=["caption"]):
                    out[done : done + len(batch)] = clip.tokens(batch.column(0).to_pylist()).numpy()
                    done += len(batch)
                    if total > _ROWS:
                        yield Progress(stage="pictures", done=done, total=total, note="reading captions")
                out.flush()
    return np.load(workspace.folder("cache", name) / "tokens.npy", mmap_mode="r")


def tokenizer_digest(clip: Clip) -> str:
    """8 hexadecimal digits that two tokenizers share if they read some telling texts alike."""
    return hashlib.sha256(clip.tokens(list(_PROBES)).numpy().astype(np.int32).tobytes()).hexdigest()[:8]
