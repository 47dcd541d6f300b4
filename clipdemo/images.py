"""The only place where bytes that nobody vouches for become a picture, and the only one that compares pictures."""

from __future__ import annotations

import hashlib
import io
import logging
import re
import struct
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageOps

from clipdemo.errors import PictureError

MAX_PIXELS = 64_000_000  # 8000 x 8000; a picture is refused by its header, before it is decoded
MAX_BYTES = 256 * 2**20
MAX_ASPECT = 50  # longer side by shorter; `fit_square` enlarges the longer one as much as the shorter
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF")  # and DICOM

# What `PictureError.reason` says
EMPTY = "picture has no bytes"
NOT_A_PICTURE = "file is not a picture"
NO_PICTURE = "file has no picture in it"
TOO_LARGE = "picture is too large"
TOO_NARROW = "picture is too narrow"
DAMAGED = "picture is damaged or cut off"
UNSUPPORTED = "picture is of a kind that is not read"
REASONS = (EMPTY, NOT_A_PICTURE, NO_PICTURE, TOO_LARGE, TOO_NARROW, DAMAGED, UNSUPPORTED)

# Said once, when this module is imported: `warnings.catch_warnings` would not be safe in a pool of threads.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").addHandler(logging.NullHandler())  # else Python prints what Pillow logs


def decode(data: bytes, name: str = "picture") -> Image.Image:
    """The picture in `data` as RGB, upright, first frame, transparency laid on white.

    The content decides on the format, never the name. Pixels of 16 bits or floats are scaled from the picture's own
    minimum to its maximum; DICOM is shown through its window. Raises `PictureError` with one of `REASONS`.
    """
    if not data:
        raise PictureError(f"{name} has no bytes", EMPTY)
    if len(data) > MAX_BYTES:
        raise PictureError(f"{name} has {len(data):,} bytes: at most {MAX_BYTES:,} are read", TOO_LARGE)
    kind = _kind(data)
    try:
        if kind == "DICOM":
            from clipdemo.dicom import decode_dicom

            return decode_dicom(data, name)
        return _decode_with_pillow(data, kind, name)
    except PictureError:
        raise
    except MemoryError:
        raise PictureError(f"{name} needs more memory than is free: make it smaller", TOO_LARGE) from None
    except Image.DecompressionBombError as error:  # Pillow's own, much higher limit
        found, limit = re.search(r"\d+", str(error)), MAX_PIXELS // 1_000_000
        many = f" ({int(found[0]):,})" if found else ""
        raise PictureError(
            f"{name} has far too many pixels{many}: at most {limit} million are read", TOO_LARGE
        ) from None
    except Exception as error:  # Pillow's decoders raise whatever their format's code happens to
        told = "" if isinstance(error, Image.UnidentifiedImageError) else " ".join(str(error).split())[:100]
        raise PictureError(
            f"{name} is a damaged, cut off or unusual {kind} file{told and f' ({told})'}: save it again as PNG or JPEG",
            DAMAGED,
        ) from None


def storable(data: bytes, name: str = "picture") -> tuple[bytes, str, Image.Image]:
    """What a sample keeps of a picture: (bytes, suffix such as ".png", the picture as `decode` gives it).

    A file that any browser shows as `decode` does stays as it is, less everything that is not pixels (place, camera,
    names, comments, colour profile, appended bytes); any other becomes a PNG. `decode` of either gives exactly the
    same pixels. Raises `PictureError` as `decode` does.
    """
    image = decode(data, name)
    bare, suffix = _bare(data)
    if bare is not None and (bare == data or _decodes_to(bare, image)):
        return bare, suffix, image
    return encode_png(np.asarray(image)), ".png", image


def check_size(width: int, height: int, name: str) -> None:
    """Raises `PictureError` for a picture with too many pixels, none, or one that is next to a line."""
    if width < 1 or height < 1:
        raise PictureError(f"{name} has {width} x {height} pixels: its header is damaged", DAMAGED)
    if width * height > MAX_PIXELS:
        limit = MAX_PIXELS // 1_000_000
        raise PictureError(f"{name} has {width} x {height} pixels: at most {limit} million are read", TOO_LARGE)
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise PictureError(
            f"{name} has {width} x {height} pixels: the longer side may be {MAX_ASPECT} times the shorter", TOO_NARROW
        )


_SIGNATURES = {  # the first bytes of each format
    "DICOM": rb".{128}DICM",  # before TIFF, whose first bytes many scanners write into the room that is left for them
    "PNG": rb"\x89PNG\r\n\x1a\n",
    "JPEG": rb"\xff\xd8\xff",
    "WEBP": rb"RIFF....WEBP",
    "TIFF": rb"II[*+]\0|MM\0[*+]",
    "GIF": rb"GIF8[79]a",
    "BMP": rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0",  # two letters alone would be any text
}
_OTHERS = {  # what people name .png by mistake
    "a ZIP archive": rb"PK\x03\x04|PK\x05\x06",
    "a PDF": rb"%PDF",
    "an SVG drawing": rb"(?i)\s*(<\?xml.*)?<svg",
    "a web page": rb"(?i)\s*<(!doctype )?html",
    "a program": rb"MZ|\x7fELF",
    "a gzip archive": rb"\x1f\x8b",
    "a HEIC or AVIF picture": rb"....ftyp(heic|heix|mif1|avif)",
    "a JPEG 2000 picture": rb"\0\0\0\x0cjP|\xff\x4f\xff\x51",
}


def _matching(data: bytes, patterns: dict[str, bytes]) -> str | None:
    head = data[:512]
    return next((kind for kind, start in patterns.items() if re.match(start, head, re.DOTALL)), None)


def _kind(data: bytes) -> str:
    if kind := _matching(data, _SIGNATURES):
        return kind
    from clipdemo.dicom import is_dicom

    return "DICOM" if is_dicom(data) else ""


def _decode_with_pillow(data: bytes, kind: str, name: str) -> Image.Image:
    if not kind:
        found = _matching(data, _OTHERS) or "something else"
        raise PictureError(f"{name} is {found}, not a picture as {', '.join(FORMATS)} or DICOM", NOT_A_PICTURE)
    if kind == "PNG":
        data = _without_texts(data)
    if kind == "WEBP":
        check_size(*_webp_size(data), name)  # Pillow takes memory for two frames before it tells the size
    with Image.open(io.BytesIO(data), formats=(kind,)) as image:
        check_size(*image.size, name)
        image.load()
        turn = _turn(image)
        rgb = _rgb(image, data)
    return rgb.transpose(turn) if turn is not None else rgb


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _turn(image: Image.Image) -> Image.Transpose | None:
    """What makes the picture upright; Pillow has already turned a TIFF."""
    try:
        return _TURNS.get(image.getexif().get(0x0112))
    except Exception:  # broken EXIF says nothing about the pixels
        return None


def _rgb(image: Image.Image, data: bytes) -> Image.Image:
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        return _scaled(image).convert("RGB")
    if image.has_transparency_data:
        _mend_transparency(image, data)
        image = image.convert("RGBA")
        white = Image.new("RGB", image.size, "white")
        white.paste(image, mask=image)
        return white
    return image.convert("RGB")


def _mend_transparency(image: Image.Image, data: bytes) -> None:
    """Brings the transparent colour of a PNG to the 8 bits that Pillow has brought its pixels to."""
    key, depth = image.info.get("transparency"), data[24]
    if image.format == "PNG" and image.mode == "L" and depth in (2, 4):
        image.info["transparency"] = key * 255 // (2**depth - 1)
    if image.format == "PNG" and image.mode == "RGB" and depth == 16:
        image.info["transparency"] = tuple(value >> 8 for value in key)


def bands(height: int, width: int) -> Iterator[slice]:
    """Slices of rows, about a million pixels each, so that wide numbers exist for a part of a picture only."""
    rows = max(1, 2**20 // width)
    for top in range(0, height, rows):
        yield slice(top, min(top + rows, height))


def value_range(values: Iterator[np.ndarray]) -> tuple[float, float]:
    """The smallest and largest finite number; (0, 0) where there is none."""
    low, high = np.inf, -np.inf
    for band in values:
        band = band[np.isfinite(band)]
        if band.size:
            low, high = min(low, float(band.min())), max(high, float(band.max()))
    return (low, high) if low <= high else (0.0, 0.0)


def stretch(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """uint8: `low` and less become 0, `high` and more 255, linear between. NaN becomes 0.

    Where low = high the values above become 255: so a constant picture is black, as its minimum always is.
    """
    with np.errstate(all="ignore"):
        values = values.astype(np.float64)
        scaled = (values > high) * 255.0 if high <= low else (values - low) / (high - low) * 255.0
    return np.rint(np.clip(np.nan_to_num(scaled, nan=0.0, posinf=255.0, neginf=0.0), 0, 255)).astype(np.uint8)


def _scaled(image: Image.Image) -> Image.Image:
    """One channel of wide numbers as mode L. Pillow's own conversion clips at 255: a 12-bit X-ray would be white."""
    width, height = image.size
    hidden = image.info.get("transparency")  # one value of a 16-bit PNG, shown white as all transparency

    def band(rows: slice) -> np.ndarray:
        return np.asarray(image.crop((0, rows.start, width, rows.stop)))

    def seen(rows: slice) -> np.ndarray:
        values = band(rows)
        return values if hidden is None else values[values != hidden]

    low, high = value_range(seen(rows) for rows in bands(height, width))
    grey = np.empty((height, width), np.uint8)
    for rows in bands(height, width):
        grey[rows] = stretch(band(rows), low, high)
        if _zero_is_white(image):
            grey[rows] = 255 - grey[rows]
        if hidden is not None:
            grey[rows][band(rows) == hidden] = 255
    return Image.fromarray(grey)


def _zero_is_white(image: Image.Image) -> bool:
    """Whether a TIFF of wide numbers says "min is white", which Pillow honours for 8 bits only."""
    return image.format == "TIFF" and image.tag_v2.get(262) == 0


def _webp_size(data: bytes) -> tuple[int, int]:
    """Width and height as the first chunk says them."""
    chunk, head = data[12:16], data[20:30]
    if chunk == b"VP8X":
        return 1 + int.from_bytes(head[4:7], "little"), 1 + int.from_bytes(head[7:10], "little")
    if chunk == b"VP8L":
        bits = int.from_bytes(head[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    width, height = struct.unpack("<HH", head[6:10])
    return width & 0x3FFF, height & 0x3FFF


def _png_chunks(data: bytes) -> list[tuple[bytes, int, int]]:
    """(type, start, end) of the chunks up to IEND; [] where they do not follow one another so."""
    chunks, at = [], 8
    while at + 12 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4])
        chunks.append((data[at + 4 : at + 8], at, end))
        if chunks[-1][0] == b"IEND" and end <= len(data):
            return chunks
        at = end
    return []


def _png_of(data: bytes, chunks: list[tuple[bytes, int, int]]) -> bytes:
    return data[:8] + b"".join(data[start:end] for _, start, end in chunks)


def _without_texts(data: bytes) -> bytes:
    """A PNG less its texts and colour profile: they are no pixels, and Pillow refuses a picture for long ones."""
    texts = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")
    chunks = _png_chunks(data)
    if not any(kind in texts for kind, _, _ in chunks):
        return data
    return _png_of(data, [chunk for chunk in chunks if chunk[0] not in texts])


def _bare(data: bytes) -> tuple[bytes | None, str]:
    """The file with nothing but its pixels, where it is one that browsers show as `decode` does; and its suffix."""
    kind = _matching(data, _SIGNATURES)
    if kind == "PNG":
        return _bare_png(data), ".png"
    if kind == "JPEG":
        return _bare_jpeg(data), ".jpg"
    if kind == "WEBP":
        return _bare_webp(data), ".webp"
    return None, ""


def _bare_png(data: bytes) -> bytes | None:
    chunks = _png_chunks(data)
    depth, colour = data[24], data[25]
    shown_otherwise = {b"tRNS", b"acTL"} & {kind for kind, _, _ in chunks}
    if not chunks or depth == 16 or colour not in (0, 2, 3) or shown_otherwise:
        return None
    return _png_of(data, [chunk for chunk in chunks if chunk[0] in (b"IHDR", b"PLTE", b"IDAT", b"IEND")])


_ENTROPY_END = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # the next marker that is no restart and no stuffing
_JPEG_PIXELS = {0xC0, 0xC1, 0xC2, 0xC4, 0xDA, 0xDB, 0xDD, 0xEE}  # 8-bit Huffman frames, tables, scans, Adobe's colours


def _bare_jpeg(data: bytes) -> bytes | None:
    kept, at, components = [b"\xff\xd8"], 2, 0
    while data[at : at + 2] != b"\xff\xd9":
        if at + 10 > len(data) or data[at] != 0xFF:
            return None
        marker, end = data[at + 1], at + 2 + int.from_bytes(data[at + 2 : at + 4])
        if marker in (0xC0, 0xC1, 0xC2):
            components = data[at + 9]
        if marker == 0xDA:
            scan_end = _ENTROPY_END.search(data, end)
            end = scan_end.start() if scan_end else len(data)
        jfif = marker == 0xE0 and end - at == 18  # without the thumbnail that it may hold
        if marker in _JPEG_PIXELS or jfif:
            kept.append(data[at:end])
        elif not (0xE0 <= marker <= 0xEF or marker == 0xFE):
            return None
        at = end
    return b"".join(kept) + b"\xff\xd9" if components in (1, 3) else None


def _bare_webp(data: bytes) -> bytes | None:
    """One chunk of opaque pixels; whatever has more chunks has metadata, transparency or frames."""
    opaque = data[12:16] == b"VP8 " or (data[12:16] == b"VP8L" and not data[24] & 0x10)
    length = int.from_bytes(data[16:20], "little")
    alone = len(data) == 20 + length + length % 2 == 8 + int.from_bytes(data[4:8], "little")
    return data if opaque and alone else None


def _decodes_to(data: bytes, image: Image.Image) -> bool:
    try:
        other = decode(data)
    except PictureError:
        return False
    return other.size == image.size and other.tobytes() == image.tobytes()


def encode_png(picture: np.ndarray) -> bytes:
    """uint8 (height, width, 3) as a PNG file, fast rather than small; a grey picture needs one channel only."""
    red = picture[..., 0]
    if (picture[..., 1] == red).all() and (picture[..., 2] == red).all():
        picture = red
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def fit_square(image: Image.Image, size: int) -> np.ndarray:
    """uint8 (size, size, 3): shorter side resized to `size` (bicubic), then the centre cut out.

    The same pixels as open_clip's evaluation transform gives before it normalises. The picture on the way there has
    size x (size x aspect) pixels, which is why `decode` refuses more than `MAX_ASPECT`.
    """
    width, height = image.size
    if width <= height:
        scaled = (size, max(size, int(size * height / width)))
    else:
        scaled = (max(size, int(size * width / height)), size)
    if scaled != image.size:
        image = image.resize(scaled, Image.Resampling.BICUBIC)
    left, top = round((scaled[0] - size) / 2), round((scaled[1] - size) / 2)
    return np.asarray(image.crop((left, top, left + size, top + size)))


def thumbnail(data: bytes, pixels: int, name: str = "picture") -> bytes:
    """The whole picture as a JPEG file, in a black square of at most so many pixels a side; never enlarged.

    Raises `PictureError`.
    """
    image = decode(data, name)
    side = min(pixels, max(image.size))
    buffer = io.BytesIO()
    ImageOps.pad(image, (side, side), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def pixel_hash(image: Image.Image) -> str:
    """SHA-256 of size and pixels: equal for equal pictures, however they were packed into a file."""
    return hashlib.sha256(repr(image.size).encode() + image.tobytes()).hexdigest()


HASH_SIDE = 16  # a difference hash of 16 x 16 = 256 bits


def difference_hash(image: Image.Image) -> np.ndarray:
    """uint64 (4,): which of 16 x 16 cells are brighter than their left neighbour (imagehash's dhash).

    Resizing and comparing are integer operations in Pillow, so the hash is the same on any machine.
    """
    import imagehash

    bits = imagehash.dhash(image, hash_size=HASH_SIDE).hash
    return np.packbits(bits.ravel()).view(np.uint64)


NEAR_DUPLICATE_BITS = 32  # of 256: finds 19 in 20 planted copies, misjudges 1 in 100 (benchmarks/near_duplicates.py)


@dataclass
class SeenPictures:
    """The pictures met so far, and whether a new one is among them, exactly or nearly."""

    exact: dict[str, str] = field(default_factory=dict)  # pixel hash -> row id
    ids: list[str] = field(default_factory=list)
    _hashes: np.ndarray = field(default_factory=lambda: np.empty((64, HASH_SIDE * HASH_SIDE // 64), np.uint64))

    def find(self, pixels: str, hashed: np.ndarray) -> tuple[str, str] | None:
        """("exact" or "near", id of the picture that it repeats), or None when it is new."""
        if pixels in self.exact:
            return "exact", self.exact[pixels]
        if self.ids:
            distances = np.bitwise_count(self._hashes[: len(self.ids)] ^ hashed).sum(axis=1)
            nearest = int(distances.argmin())
            if distances[nearest] <= NEAR_DUPLICATE_BITS:
                return "near", self.ids[nearest]
        return None

    def add(self, row_id: str, pixels: str, hashed: np.ndarray) -> None:
        """Remembers a picture."""
        if len(self.ids) == len(self._hashes):
            self._hashes = np.concatenate([self._hashes, np.empty_like(self._hashes)])
        self._hashes[len(self.ids)] = hashed
        self.exact[pixels] = row_id
        self.ids.append(row_id)
