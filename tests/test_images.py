import io

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms import functional

from clipdemo.errors import PictureError
from clipdemo.images import (
    NEAR_DUPLICATE_BITS,
    SeenPictures,
    decode,
    difference_hash,
    encode_png,
    fit_square,
    pixel_hash,
)
from tests.tiny_source import blotches


def packed(image, kind):
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "CMYK", "I;16", "1"])
def test_every_kind_of_pixel_becomes_rgb(mode):
    image = Image.fromarray(blotches(1)).convert("L" if mode == "I;16" else mode).convert(mode)
    kind = "TIFF" if mode in ("CMYK", "I;16") else "PNG"
    assert decode(packed(image, kind)).mode == "RGB"


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"hello", b"\x89PNG\r\n\x1a\n", encode_png(blotches(0))[:200]])
def test_what_is_no_picture_gives_one_clear_line(data):
    with pytest.raises(PictureError, match=r"scan\.png") as caught:
        decode(data, "scan.png")
    assert "\n" not in str(caught.value)


def test_a_decompression_bomb_is_refused_by_its_header():
    for side, says in [(9_000, "9000 x 9000 pixels"), (20_000, "far too many pixels")]:
        bomb = packed(Image.new("1", (side, side)), "PNG")
        assert len(bomb) < 100_000
        with pytest.raises(PictureError, match=says):
            decode(bomb)


def test_a_photograph_is_turned_upright():
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    buffer = io.BytesIO()
    Image.new("RGB", (40, 20)).save(buffer, "JPEG", exif=exif)
    assert decode(buffer.getvalue()).size == (20, 40)


@pytest.mark.parametrize("size", [(100, 100), (128, 64), (61, 200), (72, 72), (1, 300)])
def test_fit_square_equals_torchvision(size):
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    expected = functional.center_crop(
        functional.resize(image, 72, functional.InterpolationMode.BICUBIC, antialias=True), [72, 72]
    )
    assert np.array_equal(fit_square(image, 72), np.asarray(expected))


def test_pixel_hash_does_not_care_for_the_file():
    image = Image.fromarray(blotches(3))
    assert pixel_hash(decode(packed(image, "PNG"))) == pixel_hash(decode(packed(image, "BMP")))
    assert pixel_hash(image) != pixel_hash(Image.fromarray(blotches(4)))
    assert pixel_hash(Image.new("RGB", (2, 3))) != pixel_hash(Image.new("RGB", (3, 2)))


def test_seen_pictures_equal_the_slow_search():
    """Twin: exact and nearest by comparing all bits of all pictures, one by one."""
    seen, kept = SeenPictures(), []
    rng = np.random.default_rng(0)
    answers = {"exact": 0, "near": 0, "new": 0}
    for i in range(300):
        picture = blotches(int(rng.integers(0, 150)))
        if rng.random() < 0.5:
            picture = np.clip(picture.astype(int) + rng.integers(-4, 5, picture.shape), 0, 255).astype(np.uint8)
        image = Image.fromarray(picture)
        pixels, bits = pixel_hash(image), np.unpackbits(difference_hash(image).view(np.uint8))
        exact = [name for name, other, _ in kept if other == pixels]
        distances = [int((bits != other).sum()) for _, _, other in kept]
        expected = "exact" if exact else "near" if distances and min(distances) <= NEAR_DUPLICATE_BITS else "new"
        found = seen.find(pixels, difference_hash(image))
        assert (found[0] if found else "new") == expected
        answers[expected] += 1
        if found is None:
            seen.add(str(i), pixels, difference_hash(image))
            kept.append((str(i), pixels, bits))
    assert min(answers.values()) > 10
