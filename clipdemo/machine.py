"""What this machine computes with: its device, its fastest float32 products, and memory that is not handed back."""

from __future__ import annotations

import ctypes
import hashlib
import json
import logging
import os
import platform
import sys
import time
from functools import cache
from pathlib import Path
from statistics import median

import psutil
import torch
from platformdirs import user_cache_path
from torch.nn import functional

from clipdemo.errors import BadSettings

log = logging.getLogger(__name__)

FLOAT32_ERROR = 1e-3  # of a product of two 512 x 768 normal matrices; bfloat16's is 0.3, TensorFloat's 0.05
WORTH_SWITCHING = 1.15  # how many times as fast another kernel must be
_SHAPES = ((8, 50, 768, 12), (64, 37, 192, 3))  # pictures, tokens, width, heads: of ViT-B/32 and the built-in model


def pick_device() -> torch.device:
    """CUDA, else Apple's GPU, else the CPU; `CLIPDEMO_DEVICE` overrides. One GPU a process under torchrun."""
    if name := os.environ.get("CLIPDEMO_DEVICE"):
        try:
            return torch.device(name)
        except RuntimeError:
            raise BadSettings(f"CLIPDEMO_DEVICE = {name!r} is no device: use cpu, cuda, cuda:1 or mps") from None
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count())
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def pick_precision(asked: str, device: torch.device) -> str:
    """ "float32" or "bf16"; for "auto", bf16 on GPUs whose hardware multiplies it."""
    if asked != "auto":
        return asked
    return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False) else "float32"


def available_bytes(device: torch.device) -> int:
    """Memory that training may still take: the GPU's free memory, or the machine's."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return psutil.virtual_memory().available


def used_bytes(device: torch.device) -> int:
    """Memory that this process has: the most it took of a GPU so far, or what it holds of the machine's now."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return psutil.Process().memory_info().rss


@cache
def prepare_cpu() -> str:
    """Sets up this process for fast exact training on the CPU, once; a line for the log comes back."""
    return f"float32 products by {choose_float32_kernel()}; {keep_freed_memory()}"


# ---- float32 products


def choose_float32_kernel() -> str:
    """Takes oneDNN's float32 products where they are exact and clearly faster here than MKL's; its name comes back.

    The choice is measured once on a machine and kept in the user's cache folder, because another kernel rounds in
    another order: the same run must find the same one again. What "medium" allows (bfloat16 inside) is not accepted.
    """
    key = f"{_processor()} torch {torch.__version__} {torch.get_num_threads()} threads"
    path = (
        user_cache_path("clipdemo", appauthor=False) / f"float32-{hashlib.sha256(key.encode()).hexdigest()[:12]}.json"
    )
    chosen = _kept(path)
    if chosen is None:
        # without a place to keep it, no choice that might be another one next time
        chosen = _first_kept(path, {"machine": key, **_measured()}) or {"kernel": "highest"}
    torch.set_float32_matmul_precision(chosen["kernel"])
    return {"highest": "PyTorch's default kernel", "medium": "oneDNN"}[chosen["kernel"]]


def _kept(path: Path) -> dict | None:
    try:
        value = json.loads(path.read_text())
        return value if value["kernel"] in ("highest", "medium") else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _first_kept(path: Path, choice: dict) -> dict | None:
    """What the file holds from now on: another process's choice where it was first. None where nothing can be kept."""
    partial = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(choice))
        if path.exists() and _kept(path) is None:
            path.unlink()  # damaged
        try:
            os.link(partial, path)
        except FileExistsError:
            pass
        finally:
            partial.unlink(missing_ok=True)
    except OSError:
        return None
    return _kept(path)


def _measured() -> dict:
    before = torch.get_float32_matmul_precision()
    try:
        seconds = {kernel: [] for kernel in ("highest", "medium")}
        if product_error("medium") < FLOAT32_ERROR:
            for _ in range(5):
                for kernel, rounds in seconds.items():
                    rounds.append(_seconds(kernel))
            ratio = median(seconds["highest"]) / median(seconds["medium"])
            return {"kernel": "medium" if ratio > WORTH_SWITCHING else "highest", "ratio": round(ratio, 3)}
        return {"kernel": "highest", "ratio": None}
    finally:
        torch.set_float32_matmul_precision(before)


def product_error(kernel: str) -> float:
    """Largest error of a float32 product under this setting, against float64: how one tells what it really computes."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(kernel)
    try:
        generator = torch.Generator().manual_seed(0)
        a, b = (torch.randn(512, 768, generator=generator) for _ in range(2))
        return float((functional.linear(a, b).double() - a.double() @ b.double().T).abs().max())
    finally:
        torch.set_float32_matmul_precision(before)


def _seconds(kernel: str) -> float:
    """One way there and back through attention's parts; it too changes its speed with this setting, at times a lot."""
    torch.set_float32_matmul_precision(kernel)
    total = 0.0
    for n, length, width, heads in _SHAPES:
        x = torch.ones(n, length, width)
        w_in, w_out = (torch.ones(rows, width, requires_grad=True) for rows in (3 * width, width))
        for measured in (False, True):
            began = time.perf_counter()
            q, k, v = functional.linear(x, w_in).view(n, length, 3, heads, -1).permute(2, 0, 3, 1, 4)
            out = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, length, width)
            functional.linear(out, w_out).sum().backward()
            total += measured * (time.perf_counter() - began)
    return total


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":")[1].strip() for line in cpuinfo.open() if line.startswith(("model name", "flags"))][:2]
        return " ".join(names)
    return platform.processor() or platform.machine()


# ---- memory

_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD, _M_TOP_PAD = -3, -1, -2  # glibc's malloc.h


def keep_freed_memory() -> str:
    """Has glibc keep what is freed for the next step; a line for the log comes back.

    Large blocks are otherwise handed back to the kernel and taken again, zeroed page by page, many times a step.
    """
    if not sys.platform.startswith("linux"):
        return "memory as the system likes it"
    try:
        libc = ctypes.CDLL("libc.so.6")
        done = libc.mallopt(_M_MMAP_THRESHOLD, 32 << 20) and libc.mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)
        done = done and libc.mallopt(_M_TOP_PAD, 64 << 20)
    except (OSError, AttributeError):  # another C library
        done = 0
    return "freed memory is kept" if done else "memory as the system likes it"
