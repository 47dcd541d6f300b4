import io
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin
from torchvision.transforms import functional

from clipdemo import images
from clipdemo.errors import PictureError
from clipdemo.images import (
    DAMAGED,
    EMPTY,
    MAX_ASPECT,
    MAX_BYTES,
    NEAR_DUPLICATE_BITS,
    NOT_A_PICTURE,
    TOO_LARGE,
    TOO_NARROW,
    SeenPictures,
    decode,
    difference_hash,
    encode_png,
    fit_square,
    pixel_hash,
    storable,
    thumbnail,
)
from tests.picture_fuzz import packed, png_chunk, raw_png, whole_pictures, with_chunk
from tests.tiny_source import blotches

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "../shared/data"


def pixels(data):
    return np.asarray(decode(data))


def tiff(values, **options):
    return packed(Image.fromarray(np.asarray(values)), "TIFF", **options)


def refusal(data):
    with pytest.raises(PictureError, match="x-ray 7") as caught:
        decode(data, "x-ray 7")
    assert "\n" not in str(caught.value)
    return caught.value


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


@pytest.mark.parametrize(
    ("data", "reason", "says"),
    [
        (b"", EMPTY, "no bytes"),
        (b"PK\x03\x04" + bytes(40), NOT_A_PICTURE, "a ZIP archive"),
        (b"%PDF-1.7 and so on", NOT_A_PICTURE, "a PDF"),
        (b"\n<!DOCTYPE html><html>404</html>", NOT_A_PICTURE, "a web page"),
        (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', NOT_A_PICTURE, "an SVG drawing"),
        (b"MZ\x90\0" + bytes(60), NOT_A_PICTURE, "a program"),
        (b"\0\0\0\x18ftypheic" + bytes(20), NOT_A_PICTURE, "a HEIC"),
        (b"BMI of 40 patients\n", NOT_A_PICTURE, "something else"),
        (b"MM-hmm, a text", NOT_A_PICTURE, "something else"),
        (b"\x89PNG\r\n\x1a\n", DAMAGED, "PNG"),
        (packed(Image.new("L", (8001, 8000)), "PNG"), TOO_LARGE, "8001 x 8000 pixels: at most 64 million"),
        (packed(Image.new("1", (20_000, 20_000)), "PNG"), TOO_LARGE, "400,000,000"),
        (packed(Image.new("L", (51, 1)), "PNG"), TOO_NARROW, "51 x 1 pixels.*50 times"),
        (packed(Image.new("L", (10, 501)), "BMP"), TOO_NARROW, "10 x 501"),
    ],
)
def test_each_refusal_says_its_reason_and_what_was_found(data, reason, says):
    error = refusal(data)
    assert error.reason == reason
    assert re.search(says, str(error))


def test_a_picture_at_the_limits_is_read():
    assert decode(packed(Image.new("L", (MAX_ASPECT, 1)), "PNG")).size == (MAX_ASPECT, 1)
    assert decode(packed(Image.new("1", (8000, 8000)), "PNG")).size == (8000, 8000)


def test_too_many_bytes_are_refused_unread():
    assert refusal(bytes(MAX_BYTES + 1)).reason == TOO_LARGE


@pytest.mark.filterwarnings("ignore")  # pytest sets the filters of `images` aside
def test_no_prefix_of_a_file_is_taken_for_another_picture():
    """A file that was cut off is refused, unless all of its pixels are there."""
    for name, data in whole_pictures().items():
        if name.startswith("dicom"):
            continue  # tests/test_dicom.py
        whole, cuts = decode(data), np.linspace(1, len(data) - 1, 60).astype(int)
        read = 0
        for cut in cuts:
            try:
                picture = decode(data[:cut], name)
            except PictureError as error:
                reason = error.reason
            else:
                reason = DAMAGED
                assert picture.tobytes() == whole.tobytes(), (name, cut, len(data))
                read += cut < len(data) / 3
            assert reason == DAMAGED or (reason == NOT_A_PICTURE and cut < 32)
        assert "animated" in name or "exif" in name or read == 0, name


def test_a_16_bit_ramp_becomes_all_256_greys():
    ramp = np.arange(65_536, dtype=np.uint16).reshape(256, 256)
    expected = np.rint(ramp / 257).astype(np.uint8)
    for data in (
        packed(Image.fromarray(ramp), "PNG"),
        tiff(ramp),
        tiff(ramp.astype(np.int32)),
        tiff(ramp.astype(np.float32)),
    ):
        assert np.array_equal(pixels(data)[..., 0], expected)


def test_wide_numbers_are_scaled_from_their_own_minimum_to_their_maximum():
    assert pixels(tiff(np.array([[1000, 2000, 3000]], np.uint16)))[0, :, 0].tolist() == [0, 128, 255]
    assert pixels(tiff(np.array([[-1, 0, 1]], np.float32)))[0, :, 0].tolist() == [0, 128, 255]
    assert pixels(tiff(np.array([[-70_000, 70_000]], np.int32)))[0, :, 0].tolist() == [0, 255]
    big_endian = struct.pack(">2sHI", b"MM", 42, 8) + struct.pack(">H", 8)
    for tag, kind, value in [
        (256, 3, 3),
        (257, 3, 1),
        (258, 3, 16),
        (259, 3, 1),
        (262, 3, 1),
        (273, 4, 110),
        (278, 3, 1),
        (279, 4, 6),
    ]:
        big_endian += struct.pack(">HHI", tag, kind, 1) + (
            struct.pack(">HH", value, 0) if kind == 3 else struct.pack(">I", value)
        )
    big_endian += bytes(4)
    assert len(big_endian) == 110
    data = big_endian + struct.pack(">3H", 256, 512, 768)
    assert Image.open(io.BytesIO(data)).mode == "I;16B"
    assert pixels(data)[0, :, 0].tolist() == [0, 128, 255]


def test_a_constant_picture_of_wide_numbers_is_black():
    assert not pixels(tiff(np.full((3, 3), 40_000, np.uint16))).any()
    assert not pixels(tiff(np.full((3, 3), np.nan, np.float32))).any()


def test_what_is_no_number_is_left_out_of_the_scale():
    row = pixels(tiff(np.array([[np.nan, -np.inf, 10, 20, np.inf]], np.float32)))[0, :, 0]
    assert row.tolist() == [0, 0, 0, 255, 255]


def test_min_is_white_is_honoured_for_16_bits():
    data = tiff(np.array([[0, 1, 2]], np.uint16), tiffinfo={262: 0})
    assert Image.open(io.BytesIO(data)).tag_v2[262] == 0
    assert pixels(data)[0, :, 0].tolist() == [255, 127, 0]


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_laid_on_white(mode):
    image = Image.new(mode, (2, 1))
    image.putpixel((1, 0), (0, 0, 0, 127) if mode == "RGBA" else (0, 127))
    for data in (packed(image, "PNG"), packed(image, "TIFF")):
        assert pixels(data)[0].tolist() == [[255] * 3, [128] * 3]


def test_palettes_keep_their_colours_and_their_holes():
    image = Image.new("P", (3, 1))
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.putdata([0, 1, 2])
    colours = [[255, 0, 0], [0, 255, 0], [0, 0, 255]]
    assert pixels(packed(image, "PNG"))[0].tolist() == colours
    white = [255, 255, 255]
    assert pixels(packed(image, "PNG", transparency=1))[0].tolist() == [colours[0], white, colours[2]]
    assert pixels(packed(image, "GIF", transparency=1))[0].tolist() == [colours[0], white, colours[2]]
    half = pixels(packed(image, "PNG", transparency=b"\x80\xff\x00"))[0].tolist()
    assert half == [[255, 127, 127], colours[1], white]


def test_a_palette_with_alpha_is_laid_on_white():
    image = Image.new("PA", (2, 1))
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.putpixel((0, 0), (1, 255))
    data = packed(image.convert("RGBA"), "PNG")
    assert np.array_equal(np.asarray(images._rgb(image, data)), pixels(data))
    assert pixels(data)[0].tolist() == [[0, 255, 0], [255] * 3]


@pytest.mark.parametrize(
    ("depth", "colour", "row", "key", "expected"),
    [
        (1, 0, b"\x40", b"\0\1", [0, 255, 0, 0]),  # the only white is the transparent one
        (2, 0, b"\x1b", b"\0\2", [0, 85, 255, 255]),
        (4, 0, b"\x12\x34", b"\0\2", [17, 255, 51, 68]),
        (8, 0, bytes([1, 2, 3, 4]), b"\0\2", [1, 255, 3, 4]),
        (16, 0, struct.pack(">4H", 500, 7, 1000, 1500), b"\0\7", [0, 255, 128, 255]),
        (8, 2, bytes([1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]), b"\0\2\0\2\0\2", [1, 255, 3, 4]),
        (16, 2, bytes(6) + b"\2\x22" * 3 + b"\3\0" * 6, b"\2\x22" * 3, [0, 255, 3, 3]),
    ],
)
def test_a_transparent_colour_of_a_png_is_white_at_every_depth(depth, colour, row, key, expected):
    data = raw_png((4, 1), depth, colour, [row], png_chunk(b"tRNS", key))
    assert pixels(data)[0, :, 0].tolist() == expected


def test_cmyk_red_is_red():
    red = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    assert np.abs(pixels(packed(red, "JPEG", quality=100)).astype(int) - [255, 0, 0]).max() <= 3  # Adobe's are inverted
    assert pixels(packed(red, "TIFF"))[0, 0].tolist() == [255, 0, 0]


def test_ycck_red_is_red():
    """Adobe stores the inverse of the inks as YCbCr: of red's that is the YCbCr of cyan, and no black."""
    stored = (179, 171, 1, 255)
    data = packed(
        Image.new("CMYK", (16, 16), tuple(255 - value for value in stored)), "JPEG", quality=100, subsampling=0
    )
    at = data.index(b"Adobe") + 11
    data = data[:at] + b"\2" + data[at + 1 :]  # says YCCK instead of CMYK
    assert Image.open(io.BytesIO(data)).info["adobe_transform"] == 2
    assert np.abs(pixels(data).astype(int) - [255, 0, 0]).max() <= 6


def test_lab_and_ycbcr_keep_their_colours():
    colours = Image.new("RGB", (16, 16), (200, 60, 90))
    for mode, kind, options in [("LAB", "TIFF", {}), ("YCbCr", "JPEG", {}), ("YCbCr", "TIFF", {"compression": "jpeg"})]:
        assert np.abs(pixels(packed(colours.convert(mode), kind, **options)).astype(int) - [200, 60, 90]).max() <= 4


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_equals_the_turned_original(kind, orientation):
    options = {"lossless": True} if kind == "WEBP" else {}
    image = Image.fromarray(blotches(2)).resize((48, 32))
    stored = pixels(packed(image, kind, **options))
    turned = {
        1: stored,
        2: stored[:, ::-1],
        3: stored[::-1, ::-1],
        4: stored[::-1],
        5: stored.swapaxes(0, 1),
        6: np.rot90(stored, -1),
        7: stored[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(stored),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert np.array_equal(pixels(packed(image, kind, exif=exif, **options)), turned)


@pytest.mark.filterwarnings("ignore")  # pytest sets the filters of `images` aside
def test_broken_exif_does_not_spoil_a_picture():
    image = Image.fromarray(blotches(1))
    data = packed(image, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7fjunk")
    assert decode(data).tobytes() == decode(packed(image, "JPEG")).tobytes()


def test_the_first_frame_of_a_film_is_the_picture():
    first, others = Image.new("RGB", (20, 10), "red"), [Image.new("RGB", (20, 10), "blue")] * 3
    for kind in ("GIF", "PNG", "WEBP", "TIFF"):
        options = {"lossless": True} if kind == "WEBP" else {}
        film = packed(first, kind, save_all=True, append_images=others, **options)
        assert pixels(film)[5, 5].tolist() == [255, 0, 0]
    film = packed(first, "GIF", save_all=True, append_images=others)
    assert decode(film[:-1] + film[13:-1] * 5000 + b";").size == (20, 10)


@pytest.mark.parametrize("kind", [b"iCCP", b"zTXt", b"iTXt", b"tEXt"])
def test_a_png_with_a_bomb_beside_its_pixels_is_read_without_it(kind):
    plain = encode_png(blotches(5))
    head = {b"iTXt": b"note\0\1\0\0\0", b"tEXt": b"note\0"}.get(kind, b"note\0\0")
    body = bytes(3_000_000) if kind == b"tEXt" else zlib.compress(bytes(100_000_000))
    data = with_chunk(plain, kind, head + body)
    if kind != b"iCCP":
        with pytest.raises(ValueError, match="MAX_TEXT|too large"):
            Image.open(io.BytesIO(data)).load()
            Image.open(io.BytesIO(data)).text  # noqa: B018
            raise ValueError("MAX_TEXT: Pillow reads a long plain text")
    assert decode(data).tobytes() == decode(plain).tobytes()
    assert storable(data)[0] == plain


def test_the_size_of_a_webp_is_read_before_pillow_makes_room_for_it():
    small = packed(Image.new("RGBA", (30, 20), (1, 2, 3, 99)), "WEBP", lossless=True, exif=b"Exif\0\0MM\0*")
    assert small[12:16] == b"VP8X" and images._webp_size(small) == (30, 20)
    assert images._webp_size(packed(Image.new("RGB", (31, 21)), "WEBP")) == (31, 21)
    assert images._webp_size(packed(Image.new("RGB", (32, 22)), "WEBP", lossless=True)) == (32, 22)
    huge = small[:24] + b"\xff\x3f\0\xff\x3f\0" + small[30:]
    assert "16384 x 16384" in str(refusal(huge))


def test_reading_prints_nothing_and_a_plain_picture_needs_no_dicom():
    code = (
        "import io, sys, warnings; from PIL import Image; from clipdemo.images import decode\n"
        "def tried(data):\n"
        "    try: decode(data)\n"
        "    except Exception as error: return error.reason\n"
        "b = io.BytesIO(); Image.new('1', (10_000, 10_000)).save(b, 'PNG'); assert tried(b.getvalue())\n"
        "b = io.BytesIO(); Image.new('P', (9, 9)).save(b, 'PNG', transparency=b'\\1\\2'); assert not tried(b.getvalue())\n"
        "b = io.BytesIO(); Image.new('L', (9, 9)).save(b, 'TIFF'); tried(b.getvalue()[:-20]); tried(b'II*\\0' + bytes(90))\n"
        "warnings.warn('heard', UserWarning)\n"
        "assert 'pydicom' not in sys.modules and 'clipdemo.dicom' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-W", "default", "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "heard" in done.stderr and len(done.stderr.strip().splitlines()) <= 2  # the world's other warnings stay


def gps_exif():
    exif = Image.Exif()
    exif[0x010E] = "SECRET place"
    return exif


def texts():
    info = PngImagePlugin.PngInfo()
    info.add_text("Patient", "SECRET name")
    return info


PLAIN = Image.fromarray(blotches(6))
KEPT = {
    "png": packed(PLAIN, "PNG"),
    "png grey": packed(PLAIN.convert("L"), "PNG"),
    "png palette": packed(PLAIN.convert("P"), "PNG"),
    "png 1 bit": packed(PLAIN.convert("1"), "PNG"),
    "jpeg": packed(PLAIN, "JPEG"),
    "jpeg grey": packed(PLAIN.convert("L"), "JPEG"),
    "jpeg progressive": packed(PLAIN, "JPEG", progressive=True),
    "webp": packed(PLAIN, "WEBP"),
    "webp lossless": packed(PLAIN, "WEBP", lossless=True),
}


@pytest.mark.parametrize("name", KEPT)
def test_what_browsers_show_alike_is_kept_byte_for_byte(name):
    data, suffix, picture = storable(KEPT[name])
    assert data == KEPT[name]
    assert suffix == {"png": ".png", "jpeg": ".jpg", "webp": ".webp"}[name.split()[0]]
    assert picture.tobytes() == decode(data).tobytes()


STRIPPED = {
    "png text": (packed(PLAIN, "PNG", pnginfo=texts()), ".png"),
    "png exif": (packed(PLAIN, "PNG", exif=gps_exif()), ".png"),
    "png tail": (packed(PLAIN, "PNG") + b"SECRET archive", ".png"),
    "jpeg exif": (packed(PLAIN, "JPEG", exif=gps_exif()), ".jpg"),
    "jpeg xmp": (packed(PLAIN, "JPEG", xmp=b"<x>SECRET</x>"), ".jpg"),
    "jpeg comment": (packed(PLAIN, "JPEG", comment=b"SECRET"), ".jpg"),
    "jpeg profile": (packed(PLAIN, "JPEG", icc_profile=b"SECRET" * 30), ".jpg"),
    "jpeg tail": (packed(PLAIN, "JPEG") + b"SECRET archive", ".jpg"),
    "webp exif": (packed(PLAIN, "WEBP", exif=b"Exif\0\0SECRET"), ".png"),
    "webp tail": (packed(PLAIN, "WEBP") + b"SECRET!!", ".png"),
    "gif comment": (packed(PLAIN, "GIF", comment=b"SECRET"), ".png"),
    "tiff text": (packed(PLAIN, "TIFF", tiffinfo={270: "SECRET"}), ".png"),
}


@pytest.mark.parametrize("name", STRIPPED)
def test_a_sample_carries_pixels_and_nothing_else(name):
    original, expected = STRIPPED[name]
    assert b"SECRET" in original
    data, suffix, picture = storable(original)
    assert b"SECRET" not in data and suffix == expected
    assert decode(data).tobytes() == decode(original).tobytes() == picture.tobytes()
    assert len(data) < len(original) or suffix == ".png"


def turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


ODD = {
    "rgba": packed(Image.merge("RGBA", [*PLAIN.split(), PLAIN.getchannel(0)]), "PNG"),
    "hole": packed(PLAIN.convert("P"), "PNG", transparency=3),
    "16 bits": packed(Image.fromarray(np.arange(900, dtype=np.uint16).reshape(30, 30)), "PNG"),
    "48 bits": raw_png((2, 1), 16, 2, [bytes(range(12))]),
    "film": packed(PLAIN, "PNG", save_all=True, append_images=[PLAIN.rotate(90)]),
    "film of webp": packed(PLAIN, "WEBP", save_all=True, append_images=[PLAIN.rotate(90)]),
    "cmyk": packed(PLAIN.convert("CMYK"), "JPEG"),
    "turned jpeg": packed(PLAIN.resize((40, 30)), "JPEG", exif=turned()),
    "turned png": packed(PLAIN.resize((40, 30)), "PNG", exif=turned()),
    "clear webp": packed(Image.merge("RGBA", [*PLAIN.split(), PLAIN.getchannel(0)]), "WEBP"),
    "gif": packed(PLAIN, "GIF"),
    "bmp": packed(PLAIN, "BMP"),
    "tiff": packed(PLAIN, "TIFF"),
}


@pytest.mark.parametrize("name", ODD)
def test_what_browsers_show_otherwise_becomes_a_png_of_the_same_pixels(name):
    data, suffix, picture = storable(ODD[name])
    assert suffix == ".png" and data != ODD[name]
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data)).convert("RGB")), np.asarray(picture))
    assert picture.tobytes() == decode(ODD[name]).tobytes()


def test_what_is_no_picture_cannot_be_stored():
    with pytest.raises(PictureError, match="scan"):
        storable(b"hello", "scan")


def test_real_figures_are_kept_at_their_size():
    archive = DATA / "mednist.zip"
    if not archive.exists():
        pytest.skip("shared/data/mednist.zip is not here")
    import zipfile

    with zipfile.ZipFile(archive) as pictures:
        for name in pictures.namelist()[:: len(pictures.namelist()) // 40]:
            if not name.endswith("/") and name.lower().endswith((".jpeg", ".jpg", ".png")):
                original = pictures.read(name)
                data, _, picture = storable(original, name)
                assert len(data) <= len(original)
                assert decode(data).tobytes() == picture.tobytes()


@pytest.mark.parametrize("size", [(MAX_ASPECT, 1), (1, MAX_ASPECT), (2000, 40), (7, 350)])
def test_the_narrowest_picture_grows_to_no_more_than_its_aspect_when_it_is_fitted(size, monkeypatch):
    made, resize = [], Image.Image.resize

    def watched(self, size, *rest):
        made.append(size)
        return resize(self, size, *rest)

    monkeypatch.setattr(Image.Image, "resize", watched)
    assert fit_square(decode(packed(Image.new("RGB", size), "PNG")), 64).shape == (64, 64, 3)
    assert max(w * h for w, h in made) <= 64 * 64 * MAX_ASPECT


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


@pytest.mark.parametrize(("size", "pixels", "side"), [((300, 100), 120, 120), ((60, 90), 120, 90), ((50, 50), 20, 20)])
def test_a_thumbnail_shows_the_whole_picture_in_a_black_square_and_is_never_larger(size, pixels, side):
    buffer = io.BytesIO()
    Image.new("RGB", size, "white").save(buffer, "PNG")
    small = decode(thumbnail(buffer.getvalue(), pixels))
    assert small.size == (side, side)
    white = (np.asarray(small)[..., 0] > 128).mean()
    assert white == pytest.approx(min(size) / max(size), abs=0.03)


def test_a_broken_picture_has_no_thumbnail():
    with pytest.raises(PictureError):
        thumbnail(b"not a picture", 100)
