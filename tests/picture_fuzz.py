"""Pictures of every format that is read, and seeded ways of breaking them. The same seed gives the same bytes."""

import io
import random
import struct
import tempfile
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

SYNTAXES = {  # what GDCM can make of an uncompressed DICOM file
    "jpeg": "JPEGBaselineProcess1",
    "jpeg-extended": "JPEGExtendedProcess2_4",
    "jpeg-lossless": "JPEGLosslessProcess14",
    "jpeg-lossless-sv1": "JPEGLosslessProcess14_1",
    "jpeg-ls": "JPEGLSLossless",
    "jpeg-2000": "JPEG2000Lossless",
    "rle": "RLELossless",
}
EXPLICIT, IMPLICIT, BIG, DEFLATED = (f"1.2.840.10008.1.2{tail}" for tail in (".1", "", ".2", ".1.99"))


def packed(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def with_chunk(png: bytes, kind: bytes, body: bytes) -> bytes:
    """A PNG with one more chunk behind its header."""
    return png[:33] + png_chunk(kind, body) + png[33:]


def raw_png(size, depth, colour, rows: list[bytes], extra: bytes = b"") -> bytes:
    """A PNG of any depth, for what Pillow does not write."""
    header = struct.pack(">IIBBBBB", *size, depth, colour, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    chunks = png_chunk(b"IHDR", header) + extra + png_chunk(b"IDAT", pixels) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def dicom_file(pixels: np.ndarray, bits: int | None = None, syntax: str = EXPLICIT, preamble=True, **elements) -> bytes:
    """A DICOM file of these stored numbers: (rows, columns), (rows, columns, 3), or as `elements` say."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import UID, SecondaryCaptureImageStorage

    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = SecondaryCaptureImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = "1.2.3"
    dataset.PatientName, dataset.PatientID = "SECRET^PATIENT", "SECRET-7"
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    if pixels.ndim == 3:
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "RGB", 0
    dataset.BitsAllocated = pixels.dtype.itemsize * 8
    if pixels.dtype.kind != "f":
        dataset.BitsStored = bits or dataset.BitsAllocated
        dataset.HighBit = dataset.BitsStored - 1
        dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    stored = pixels.astype(pixels.dtype.newbyteorder(">" if syntax == BIG else "<")).tobytes()
    keyword = {"f4": "FloatPixelData", "f8": "DoubleFloatPixelData"}.get(pixels.dtype.str[1:], "PixelData")
    setattr(dataset, keyword, stored + b"\0" * (len(stored) % 2))
    if keyword == "PixelData":
        dataset["PixelData"].VR = "OW" if dataset.BitsAllocated > 8 else "OB"
    for name, value in elements.items():
        setattr(dataset, name, value)
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue() if preamble else without_preamble(buffer.getvalue())


def without_preamble(data: bytes) -> bytes:
    """Nothing but the elements of group 8 and on, as old files are."""
    return data[data.index(b"\x08\x00\x16\x00") :]


def recompressed(data: bytes, name: str) -> bytes:
    """The same DICOM file in another transfer syntax of `SYNTAXES`: GDCM's pixels in pydicom's file."""
    import gdcm
    import pydicom

    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder, "before"), Path(folder, "after")
        before.write_bytes(data)
        reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
        reader.SetFileName(str(before))
        assert reader.Read()
        change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, SYNTAXES[name])))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer.SetFileName(str(after))
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        assert writer.Write()
        compressed = pydicom.dcmread(io.BytesIO(after.read_bytes()))
    dataset, buffer = pydicom.dcmread(io.BytesIO(data)), io.BytesIO()
    dataset.file_meta.TransferSyntaxUID = compressed.file_meta.TransferSyntaxUID
    for keyword in ("PhotometricInterpretation", "PlanarConfiguration"):
        if keyword in compressed:
            setattr(dataset, keyword, compressed[keyword].value)
    dataset["PixelData"] = compressed["PixelData"]
    dataset.save_as(buffer)
    return buffer.getvalue()


def grey_numbers(bits: int) -> np.ndarray:
    """A slope with an edge, 24 x 32, that uses all of `bits`."""
    slope = np.add.outer(np.arange(24), np.arange(32)).astype(np.uint32) * (2**bits - 1) // 54
    slope[6:12, 8:20] = 2**bits - 1
    return slope.astype(np.uint8 if bits == 8 else np.uint16)


def whole_pictures() -> dict[str, bytes]:
    """A good file of each kind."""
    grey, wide = Image.fromarray(grey_numbers(8)), grey_numbers(12)
    colour = Image.merge("RGB", [grey, grey.transpose(Image.Transpose.FLIP_LEFT_RIGHT), Image.new("L", grey.size, 90)])
    clear = colour.copy()
    clear.putalpha(grey)
    frames = [colour, clear.convert("RGB").rotate(90), grey.convert("RGB")]
    several = {"save_all": True, "append_images": frames}
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "SECRET place"
    lab = colour.convert("LAB")
    lab.info.pop("icc_profile")  # Pillow makes one that holds the time
    whole = {
        **{f"png-{mode}": packed(colour.convert(mode), "PNG") for mode in ("1", "L", "P", "RGB")},
        "png-RGBA": packed(clear, "PNG"),
        "png-LA": packed(clear.convert("LA"), "PNG"),
        "png-16": packed(Image.fromarray(wide), "PNG"),
        "png-animated": packed(colour, "PNG", **several),
        "png-exif": packed(colour, "PNG", exif=exif),
        "jpeg": packed(colour, "JPEG"),
        "jpeg-grey": packed(grey, "JPEG"),
        "jpeg-progressive": packed(colour, "JPEG", progressive=True),
        "jpeg-cmyk": packed(colour.convert("CMYK"), "JPEG"),
        "jpeg-exif": packed(colour, "JPEG", exif=exif),
        "webp": packed(colour, "WEBP"),
        "webp-lossless": packed(clear, "WEBP", lossless=True),
        "webp-animated": packed(colour, "WEBP", **several),
        "gif": packed(colour, "GIF"),
        "gif-animated": packed(colour, "GIF", **several),
        "bmp": packed(colour, "BMP"),
        "tiff": packed(colour, "TIFF"),
        "tiff-lzw": packed(colour, "TIFF", compression="tiff_lzw"),
        "tiff-jpeg": packed(colour, "TIFF", compression="jpeg"),
        "tiff-deflate-16": packed(Image.fromarray(wide), "TIFF", compression="tiff_adobe_deflate"),
        "tiff-float": packed(Image.fromarray(wide.astype(np.float32)), "TIFF"),
        "tiff-lab": packed(lab, "TIFF"),
        "dicom": dicom_file(wide, 12, WindowCenter=2000, WindowWidth=3000, RescaleSlope=2, RescaleIntercept=-1024),
        "dicom-old": dicom_file(wide, 12, IMPLICIT, preamble=False),
        "dicom-big": dicom_file(wide, 12, BIG),
        "dicom-deflated": dicom_file(wide, 12, DEFLATED),
        "dicom-colour": dicom_file(np.asarray(colour)),
    }
    for name in SYNTAXES:
        source = dicom_file(grey_numbers(8)) if name == "jpeg" else whole["dicom"]
        whole[f"dicom-{name}"] = recompressed(source, name)
    return whole


def _flip(rng, data, _):
    for _ in range(rng.choice((1, 2, 8, 40))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _cut_off(rng, data, _):
    del data[rng.randrange(len(data)) :]


def _splice(rng, data, others):
    at = rng.randrange(min(len(data), 600))
    data[:at] = rng.choice(others)[: rng.randrange(600)]


def _take_out(rng, data, _):
    at = rng.randrange(len(data))
    del data[at : at + rng.randrange(1, 60)]


def _repeat(rng, data, _):
    at = rng.randrange(len(data))
    data[at:at] = data[at : at + rng.randrange(1, 60)] * rng.choice((1, 50))


def _fill(rng, data, _):
    at, length = rng.randrange(len(data)), rng.randrange(1, 16)
    data[at : at + length] = bytes([rng.choice((0, 0x7F, 0x80, 0xFF))]) * length


def _append(rng, data, _):
    data += rng.randbytes(rng.choice((1, 100, 20_000)))


def size_fields(data: bytes) -> list[tuple[int, str]]:
    """(offset, struct format) of the numbers that say how large a picture is."""
    if data[:4] == b"\x89PNG":
        return [(16, ">I"), (20, ">I")]
    if data[:3] == b"GIF":
        return [(6, "<H"), (8, "<H")]
    if data[:2] == b"BM":
        return [(18, "<i"), (22, "<i")]
    if data[:4] == b"RIFF":
        return [(24, "<H"), (27, "<H")] if data[12:16] == b"VP8X" else [(26, "<H"), (28, "<H")]
    if data[:2] == b"\xff\xd8":
        at = next((at for at in (data.find(bytes((0xFF, kind, 0))) for kind in (0xC0, 0xC2)) if at > 0), 0)
        return [(at + 5, ">H"), (at + 7, ">H")]
    if data[:4] == b"II*\0":
        return [(at + 8, "<I") for at in (data.find(struct.pack("<H", tag) + b"\4\0\1\0\0\0") for tag in (256, 257))]
    rows = data.find(b"\x28\0\x10\0US"), data.find(b"\x28\0\x11\0US")
    return [(at + 8, "<H") for at in rows if at > 0]


def _swap_sides(rng, data, _):
    fields = size_fields(bytes(data))
    if len(fields) == 2 and max(at for at, _ in fields) + 4 <= len(data):
        (a, kind), (b, _) = fields
        values = struct.unpack_from(kind, data, a)[0], struct.unpack_from(kind, data, b)[0]
        struct.pack_into(kind, data, a, values[1])
        struct.pack_into(kind, data, b, values[0])


def _lie_about_size(rng, data, _):
    for at, kind in size_fields(bytes(data)):
        most = 2 ** (8 * struct.calcsize(kind) - 1) - 1
        if at + 4 <= len(data):
            struct.pack_into(kind, data, at, rng.choice((0, 1, 23, 33, 1000, 2500, 32_767, most)))


def _bomb(rng, data, _):
    """Chunks that say little in the file and much in memory, or much of nothing."""
    zeros = zlib.compress(bytes(20_000_000), 1)
    if data[:4] == b"\x89PNG":
        kind = rng.choice((b"iCCP", b"zTXt", b"iTXt"))
        body = b"x\0\1\0\0\0" + zeros if kind == b"iTXt" else b"x\0\0" + zeros
        data[:] = with_chunk(bytes(data), kind, body)
    elif data[:2] == b"\xff\xd8":
        data[2:2] = (b"\xff\xfe\xff\xff" + bytes(65_533)) * 20
    elif data[:3] == b"GIF":
        data[:] = data[:-1] + data[13:-1] * 300 + b";"
    elif data[:4] == b"II*\0":
        start = struct.unpack_from("<I", data, 4)[0]
        if start + 110 < len(data):
            struct.pack_into(
                "<HHI", data, start + 2 + 12 * rng.randrange(8), rng.choice((273, 320, 34675)), 4, 2**31 - 1
            )
    elif data[128:132] == b"DICM":
        data[:] = dicom_file(grey_numbers(8), syntax=DEFLATED)[:-40] + zeros


_WAYS = (
    *(_flip, _cut_off, _splice, _take_out, _repeat, _fill, _append, _swap_sides, _lie_about_size),
    _bomb,
)


def repaired(data: bytes) -> bytes:
    """A PNG whose checksums are right again, so that what lies behind them is reached."""
    at, parts = 8, [data[:8]]
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4])
        if at + 12 + length > len(data):
            break
        parts.append(png_chunk(data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    return b"".join(parts) + data[at:]


def mutated_pictures(count: int, seed: int = 0):
    """Yields (name, bytes) of `count` broken files: each format in turn, one to three ways of breaking it."""
    whole = whole_pictures()
    rng, others = random.Random(seed), list(whole.values())
    for i in range(count):
        kind = list(whole)[i % len(whole)]
        data, ways = bytearray(whole[kind]), rng.choices(_WAYS, k=rng.choice((1, 1, 2, 3)))
        for way in ways:
            if data:
                way(rng, data, others)
        broken = bytes(data)
        if broken[:4] == b"\x89PNG" and rng.random() < 0.7:
            broken = repaired(broken)
        yield f"{i} {kind} {'+'.join(way.__name__.strip('_') for way in ways)}", broken
