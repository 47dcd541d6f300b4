"""What a measurement was made on: written into every file of benchmarks/results."""

from __future__ import annotations

import json
import os
import platform
from importlib.metadata import version
from pathlib import Path

RESULTS = Path(__file__).resolve().parent / "results"


def machine() -> dict[str, object]:
    """Processor, cores and the versions that matter."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        model = next((line.split(":")[1].strip() for line in cpuinfo.open() if line.startswith("model name")), model)
    packages = {name: version(name) for name in ("torch", "open_clip_torch", "streamlit", "numpy")}
    return {"processor": model, "cores": os.cpu_count(), "python": platform.python_version(), **packages}


def keep(name: str, command: str, result: dict[str, object]) -> None:
    """Writes a result with the machine and the command that made it, and prints where."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"command": command, "machine": machine(), **result}, indent=2) + "\n")
    print(f"written to {path}")


def peak_bytes() -> int:
    """The most memory that this process has had at once. Not `ru_maxrss`, which begins with what its parent held."""
    status = Path("/proc/self/status").read_text().split()
    return int(status[status.index("VmHWM:") + 1]) * 1024
