"""How many phantom pictures a second this machine draws, encodes as PNG and hands over, on all cores.

python -m benchmarks.drawing
"""

from __future__ import annotations

import time
from statistics import median

from benchmarks.machine import keep
from clipdemo.sources.phantom import PhantomSource

PICTURES, ROUNDS = 2048, 5


def main() -> None:
    """Median over rounds, start of the worker processes included."""
    source = PhantomSource()
    began = time.perf_counter()
    rows = len(source.table())
    table_seconds = time.perf_counter() - began
    rates = []
    for round_ in range(ROUNDS):
        began = time.perf_counter()
        count = sum(1 for _ in source.pictures(range(round_ * PICTURES, (round_ + 1) * PICTURES)))
        rates.append(count / (time.perf_counter() - began))
        print(f"round {round_ + 1}: {rates[-1]:.0f} pictures a second", flush=True)
    print(f"median {median(rates):.0f} pictures a second; a table of {rows:,} rows in {table_seconds:.1f} s")
    result = {
        "pictures_per_second": {"median": median(rates), "rounds": rates},
        "table_rows_per_second": rows / table_seconds,
    }
    keep("drawing", "python -m benchmarks.drawing", result)


if __name__ == "__main__":
    main()
