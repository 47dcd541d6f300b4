"""Where the limit for near-duplicates lies: planted copies against the nearest of unrelated pictures.

    python -m benchmarks.near_duplicates

Prints how far apart (in bits of the 256-bit difference hash) a picture and its retouched copy are, how far a picture
and its nearest unrelated neighbour among thousands are, and what share of each falls under `NEAR_DUPLICATE_BITS`.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from benchmarks.machine import keep
from clipdemo.images import NEAR_DUPLICATE_BITS, difference_hash
from clipdemo.sources.phantom import PhantomSettings, PhantomSource

ROWS = 4000


def main() -> None:
    """Distances of planted pairs, and of chance pairs."""
    settings = PhantomSettings(seed=90, rows=ROWS, duplicates=0, near_duplicates=0.25, same_case=0.15)
    source = PhantomSource(settings)
    made = [source.row(i) for i in range(ROWS)]
    pictures = source.pictures(range(ROWS))
    hashes = np.stack([difference_hash(Image.open(io.BytesIO(data)).convert("RGB")) for data in pictures])
    first: dict[int, int] = {}
    planted, originals = [], []
    for i, row in enumerate(made):
        j = first.setdefault(row.take_seed, i)
        if j == i:
            originals.append(i)
        else:
            planted.append(int(np.bitwise_count(hashes[i] ^ hashes[j]).sum()))
    alone = hashes[originals]
    nearest = []
    for i in range(len(alone)):
        distance = np.bitwise_count(alone ^ alone[i]).sum(axis=1)
        distance[i] = 999
        nearest.append(int(distance.min()))
    cuts = [1, 5, 25, 50, 75, 95, 99]
    result = {
        "limit_bits": NEAR_DUPLICATE_BITS,
        "planted_pairs": len(planted),
        "planted_percentiles": dict(zip(map(str, cuts), np.percentile(planted, cuts).tolist(), strict=True)),
        "planted_found_fraction": float(np.mean(np.array(planted) <= NEAR_DUPLICATE_BITS)),
        "unrelated_pictures": len(alone),
        "nearest_unrelated_percentiles": dict(zip(map(str, cuts), np.percentile(nearest, cuts).tolist(), strict=True)),
        "wrongly_called_fraction": float(np.mean(np.array(nearest) <= NEAR_DUPLICATE_BITS)),
    }
    for name, value in result.items():
        print(f"{name}: {value}")
    keep("near_duplicates", "python -m benchmarks.near_duplicates", result)


if __name__ == "__main__":
    main()
