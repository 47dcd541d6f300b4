"""1,000 broken pictures, in a process that may take 2 GiB of addresses: nothing but a picture or a clear refusal."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from clipdemo.errors import PictureError
from clipdemo.images import MAX_ASPECT, MAX_PIXELS, REASONS, decode, fit_square, storable
from tests.picture_fuzz import mutated_pictures, whole_pictures

ROOT = Path(__file__).resolve().parents[1]
COUNT = 1000
ADDRESS_SPACE = 2 * 2**30  # with Python, NumPy, Pillow and pydicom in it


def look_at(name: str, data: bytes) -> str:
    """ "picture", or why there is none. Raises for anything that must not happen."""
    try:
        kept, suffix, image = storable(data, name)
    except PictureError as error:
        return checked(error, name)
    assert image.mode == "RGB" and image.width * image.height <= MAX_PIXELS
    assert max(image.size) <= MAX_ASPECT * min(image.size)
    assert suffix in (".png", ".jpg", ".webp") and b"SECRET" not in kept
    again = decode(kept, name)
    assert again.size == image.size and again.tobytes() == image.tobytes(), name
    assert fit_square(image, 32).shape == (32, 32, 3)
    return "picture"


def checked(error: PictureError, name: str) -> str:
    line = str(error)
    assert error.reason in REASONS
    assert name in line and "\n" not in line and "SECRET" not in line
    assert "more memory than" not in line, line  # the limit was reached
    return error.reason


def look_at_all() -> dict[str, int]:
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    for name, data in whole_pictures().items():
        assert look_at(name, data) == "picture", name
    return Counter(look_at(name, data) for name, data in mutated_pictures(COUNT))


def test_a_thousand_broken_pictures_give_a_picture_or_a_known_reason_and_no_warning():
    pytest.importorskip("resource", reason="this system cannot limit a process's memory")
    done = subprocess.run(
        [sys.executable, "-W", "default", "-m", "tests.test_hostile_pictures"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Warning" not in done.stderr and "SECRET" not in done.stderr  # libtiff's own lines cannot be switched off
    counts = json.loads(done.stdout)
    assert sum(counts.values()) == COUNT
    assert counts["picture"] > 100 and counts["picture is damaged or cut off"] > 100
    assert len(counts) >= 5


def test_the_same_seed_breaks_pictures_the_same_way():
    assert list(mutated_pictures(50, seed=3)) == list(mutated_pictures(50, seed=3))
    assert list(mutated_pictures(50, seed=3)) != list(mutated_pictures(50, seed=4))


if __name__ == "__main__":
    sys.stdout.write(json.dumps(look_at_all()))
