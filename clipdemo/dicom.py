"""DICOM: the bytes of a file become the picture that a viewer would show first. Knows nothing of patients.

Only the elements that make the picture are read, and no message holds anything that a file says about people.

GDCM alone decodes JPEG lossless, JPEG-LS and 12-bit JPEG, and damaged bytes can crash it. So it works in a process
of its own, started with the first such picture: a crash costs one picture instead of the program.
"""

from __future__ import annotations

import atexit
import io
import json
import logging
import os
import re
import struct
import subprocess
import sys
import threading
import warnings
import zlib
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from PIL import Image

from clipdemo import images
from clipdemo.errors import PictureError

if TYPE_CHECKING:
    from pydicom import Dataset

PREAMBLE = 128
GDCM_SECONDS = 60  # longer than the largest picture takes; a damaged one can send a decoder round in circles
GDCM_BYTES = 4 * 2**30  # address space of its process

_TAGS = """
    SOPClassUID SamplesPerPixel PhotometricInterpretation PlanarConfiguration NumberOfFrames Rows Columns BitsAllocated
    BitsStored HighBit PixelRepresentation PixelPaddingValue PixelPaddingRangeLimit RescaleIntercept RescaleSlope
    ModalityLUTSequence VOILUTSequence VOILUTFunction WindowCenter WindowWidth PixelData FloatPixelData
    DoubleFloatPixelData ExtendedOffsetTable ExtendedOffsetTableLengths SharedFunctionalGroupsSequence
    PerFrameFunctionalGroupsSequence RedPaletteColorLookupTableDescriptor GreenPaletteColorLookupTableDescriptor
    BluePaletteColorLookupTableDescriptor RedPaletteColorLookupTableData GreenPaletteColorLookupTableData
    BluePaletteColorLookupTableData SegmentedRedPaletteColorLookupTableData
    SegmentedGreenPaletteColorLookupTableData SegmentedBluePaletteColorLookupTableData
""".split()  # noqa: SIM905 - thirty lines shorter than a list
_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_COLOURS = ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
_DEFLATED = "1.2.840.10008.1.2.1.99"
_PLAIN = "1.2.840.10008.1.2.1"  # explicit little endian

# What pydicom warns of and logs may quote a patient's data. Said once: `catch_warnings` is not safe among threads.
warnings.filterwarnings("ignore", module=r"pydicom\.|clipdemo\.dicom")
logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)  # and with it all loggers below


def is_dicom(data: bytes) -> bool:
    """Whether these bytes begin as DICOM: with its preamble, or, as old files do, at once with plausible elements."""
    if data[PREAMBLE : PREAMBLE + 4] == b"DICM":
        return True
    return any(_plausible(data, order) for order in "<>")


def _plausible(data: bytes, order: str) -> bool:
    """Whether two elements of group 2 or 8 follow each other, in rising order."""
    at, last = 0, (0, -1)
    for _ in range(2):
        if at + 12 > len(data):
            return False
        tag, vr = struct.unpack_from(order + "HH", data, at), data[at + 4 : at + 6]
        if tag[0] not in (2, 8) or tag <= last:
            return False
        if re.fullmatch(rb"O[BW]|SQ|U[CNRT]", vr):
            at += 12 + struct.unpack_from(order + "I", data, at + 8)[0]
        elif re.fullmatch(rb"AE|AS|CS|D[AST]|FD|FL|IS|L[OT]|PN|S[HLST]|TM|U[ILS]", vr):
            at += 8 + struct.unpack_from(order + "H", data, at + 6)[0]
        elif order == "<":  # implicit: there is no big-endian form of it
            at += 8 + struct.unpack_from("<I", data, at + 4)[0]
        else:
            return False
        last = tag
    return at <= len(data)


def decode_dicom(data: bytes, name: str) -> Image.Image:
    """The first frame as RGB, as its own window shows it; from minimum to maximum where it has none.

    Raises `PictureError` when there is no picture in the file, or one that is too large, damaged or compressed in a
    way that is not read. `MemoryError` is the caller's.
    """
    try:
        dataset = _read(data, name)
        _check(dataset, name)
        frame, photometric = _first_frame(dataset, name)
        return _picture(dataset, frame, photometric)
    except (PictureError, MemoryError):
        raise
    except Exception:  # pydicom raises whatever comes; its texts quote the file, so they are not passed on
        raise _damaged(name) from None


def _damaged(name: str) -> PictureError:
    return PictureError(f"{name} is a DICOM file that is damaged or cut off: export it again", images.DAMAGED)


def _read(data: bytes, name: str) -> Dataset:
    """The elements of `_TAGS`, with the transfer syntax in `file_meta`."""
    from pydicom import config, dcmread
    from pydicom.dataset import FileMetaDataset
    from pydicom.filereader import read_dataset
    from pydicom.tag import Tag
    from pydicom.uid import UID

    config.settings.reading_validation_mode = config.IGNORE  # what is odd in a text is no matter to the pixels
    file = io.BytesIO(data)
    file.seek(PREAMBLE + 4 if data[PREAMBLE : PREAMBLE + 4] == b"DICM" else 0)
    meta = read_dataset(file, False, True, stop_when=lambda tag, vr, length: tag >> 16 != 2)
    syntax = str(meta.get("TransferSyntaxUID") or "")
    if syntax == _DEFLATED:
        inflated = io.BytesIO(_inflate(data[file.tell() :], name))
        dataset = read_dataset(inflated, False, True, specific_tags=[Tag(tag) for tag in _TAGS])
        syntax = _PLAIN
    else:
        dataset = dcmread(io.BytesIO(data), force=True, specific_tags=_TAGS)
    if not syntax:
        implicit, little = dataset.original_encoding
        syntax = "1.2.840.10008.1.2" if implicit else _PLAIN if little else "1.2.840.10008.1.2.2"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    dataset.SOPClassUID = UID(str(dataset.get("SOPClassUID") or meta.get("MediaStorageSOPClassUID") or ""))
    _promote_functional_groups(dataset)
    return dataset


def _inflate(data: bytes, name: str) -> bytes:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    inflated = inflater.decompress(data, images.MAX_BYTES)
    if inflater.unconsumed_tail:
        raise PictureError(f"{name} inflates to more than {images.MAX_BYTES:,} bytes, the limit", images.TOO_LARGE)
    if not inflater.eof:
        raise _damaged(name)
    return inflated


def _promote_functional_groups(dataset: Dataset) -> None:
    """Puts an enhanced file's rescale and window of the first frame where a plain file has them."""
    for groups in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for element in (dataset.get(groups) or [()])[0]:
            if element.keyword in ("PixelValueTransformationSequence", "FrameVOILUTSequence") and element.value:
                for inner in element.value[0]:
                    dataset[inner.tag] = inner


def _check(dataset: Dataset, name: str) -> None:
    """Everything that can be refused before a pixel is decoded."""
    if not any(pixels in dataset for pixels in _PIXELS):
        if "Rows" in dataset or "Image Storage" in dataset.SOPClassUID.name:
            raise _damaged(name)
        raise PictureError(
            f"{name} is a DICOM file without pixels, such as a report or a directory: leave it out", images.NO_PICTURE
        )
    images.check_size(_integer(dataset, "Columns"), _integer(dataset, "Rows"), name)
    samples, bits = _integer(dataset, "SamplesPerPixel", 1), _integer(dataset, "BitsAllocated")
    if samples not in (1, 3) or bits not in ((1, 8, 16, 32, 64) if samples == 1 else (8, 16)):
        raise PictureError(
            f"{name} is a DICOM file with {samples} samples of {bits} bits a pixel: 1 sample of 1 to 64 bits or 3 of 8 "
            "or 16 are read",
            images.UNSUPPORTED,
        )
    if dataset.PhotometricInterpretation not in _COLOURS:
        raise PictureError(
            f"{name} is a DICOM file with colours of another kind than {', '.join(_COLOURS)}: convert it to RGB",
            images.UNSUPPORTED,
        )
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax not in _READERS:
        known = syntax.name if syntax.name != syntax else syntax if re.fullmatch(r"[0-9.]{1,64}", syntax) else "unknown"
        raise PictureError(
            f"{name} is a DICOM file of the transfer syntax {known}, which is not read: convert it to Explicit VR "
            "Little Endian, with gdcmconv --raw for instance",
            images.UNSUPPORTED,
        )


def _integer(dataset: Dataset, keyword: str, default: int | None = None) -> int:
    value = dataset.get(keyword)
    return default if value is None and default is not None else int(value)


def _number(dataset: Dataset, keyword: str) -> float | None:
    """The first of possibly several numbers; None where there is no finite one."""
    value = dataset.get(keyword)
    if value is None or isinstance(value, str | bytes):
        return None
    first = float(value) if np.isscalar(value) or not hasattr(value, "__len__") else float(value[0]) if value else None
    return first if first is not None and np.isfinite(first) else None


# From a dataset to its first frame: numbers as they are stored, (rows, columns) or (rows, columns, 3)


def _first_frame(dataset: Dataset, name: str) -> tuple[np.ndarray, str]:
    return _READERS[dataset.file_meta.TransferSyntaxUID](dataset, name)


def _with_pydicom(dataset: Dataset, name: str, plugin: str = "") -> tuple[np.ndarray, str]:
    from pydicom.pixels import get_decoder

    decoder = get_decoder(dataset.file_meta.TransferSyntaxUID)
    frame, properties = decoder.as_array(dataset, index=0, raw=True, decoding_plugin=plugin)
    return frame, str(properties["photometric_interpretation"])


def _encoded_frame(dataset: Dataset) -> bytes:
    from pydicom.encaps import get_frame

    offsets = None
    if "ExtendedOffsetTable" in dataset:
        offsets = (dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths)
    frames = max(1, _integer(dataset, "NumberOfFrames", 1))
    return get_frame(dataset.PixelData, 0, number_of_frames=frames, extended_offsets=offsets)


def _plain_again(dataset: Dataset, raw: bytes, photometric: str) -> tuple[np.ndarray, str]:
    """Decoded bytes, samples of a pixel side by side, read as an uncompressed file would be."""
    from pydicom.uid import UID

    pixels = _integer(dataset, "Rows") * _integer(dataset, "Columns") * _integer(dataset, "SamplesPerPixel", 1)
    if len(raw) % pixels:
        raise ValueError("not a whole number of bytes a pixel")
    dataset.BitsAllocated = 8 * (len(raw) // pixels)
    dataset.BitsStored = min(_integer(dataset, "BitsStored"), dataset.BitsAllocated)
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PlanarConfiguration, dataset.NumberOfFrames = 0, 1
    dataset.PhotometricInterpretation = photometric
    dataset.PixelData = raw
    dataset.file_meta.TransferSyntaxUID = UID(_PLAIN)
    return _with_pydicom(dataset, "")


def _rle(dataset: Dataset, name: str) -> tuple[np.ndarray, str]:
    """PS3.5 annex G: a segment for each byte of each sample, highest byte first."""
    frame = _encoded_frame(dataset)
    size, samples = _integer(dataset, "Rows") * _integer(dataset, "Columns"), _integer(dataset, "SamplesPerPixel", 1)
    width = _integer(dataset, "BitsAllocated") // 8
    count, *starts = struct.unpack_from("<16I", frame)
    if count != samples * width:
        raise _damaged(name)
    ends = [*starts[1:count], len(frame)]
    planes = np.empty((size, samples, width), np.uint8)
    for i, (start, end) in enumerate(zip(starts, ends, strict=False)):
        sample, byte = divmod(i, width)
        planes[:, sample, width - 1 - byte] = np.frombuffer(_unpack_bits(frame[start:end], size), np.uint8)
    return _plain_again(dataset, planes.tobytes(), dataset.PhotometricInterpretation)


def _unpack_bits(segment: bytes, size: int) -> bytearray:
    """PackBits, but never more than `size` bytes: repeats could make 64 of each that is stored."""
    unpacked, at, last = bytearray(), 0, len(segment) - 1
    while at < last and len(unpacked) < size:
        code = segment[at]
        if code < 128:
            unpacked += segment[at + 1 : at + 2 + code]
            at += 2 + code
        elif code > 128:
            unpacked += segment[at + 1 : at + 2] * (257 - code)
            at += 2
        else:
            at += 1
    return unpacked[:size]


def _jpeg(dataset: Dataset, name: str) -> tuple[np.ndarray, str]:
    """8-bit JPEG, with the colours that the JPEG itself says; where it says none, as the dataset does."""
    frame, photometric = _encoded_frame(dataset), dataset.PhotometricInterpretation
    if _check_codestream(dataset, frame, name) > 8:
        return _apart(dataset, name)
    with Image.open(io.BytesIO(frame), formats=("JPEG",)) as image:
        if image.mode == "L":
            return np.array(image), photometric
        whole = len({layer[1:3] for layer in image.layer}) == 1  # RGB is never stored with coarser colours
        if photometric == "RGB" and whole and not {"adobe_transform", "jfif"} & image.info.keys():
            image.draft("YCbCr", image.size)  # the three components as they are
            return np.array(image), "RGB"
        return np.array(image.convert("RGB")), "RGB"


def _jpeg_2000(dataset: Dataset, name: str) -> tuple[np.ndarray, str]:
    precision = _check_codestream(dataset, _encoded_frame(dataset), name)
    if precision > 8 and _integer(dataset, "SamplesPerPixel", 1) == 3:  # Pillow would cut these to 8 bits
        return _apart(dataset, name)
    return _with_pydicom(dataset, name, "pillow")


def _check_codestream(dataset: Dataset, frame: bytes, name: str) -> int:
    """Bits a sample of a JPEG of any kind; refuses one whose own header says another size than the dataset."""
    found = re.search(rb"\xff\x4f\xff\x51.{4}(.{16}).{18}(.)", frame, re.DOTALL)
    if found:  # JPEG 2000
        right, bottom, left, top = struct.unpack(">4I", found[1])
        size, precision = (right - left, bottom - top), (found[2][0] & 0x7F) + 1
    else:
        found = re.search(rb"\xff[\xc0-\xc3\xc5-\xc7\xc9-\xcb\xcd-\xcf\xf7]\0[\x0b\x11](.)(..)(..)", frame, re.DOTALL)
        if not found:
            raise _damaged(name)
        size, precision = (int.from_bytes(found[3]), int.from_bytes(found[2])), found[1][0]
    if size != (_integer(dataset, "Columns"), _integer(dataset, "Rows")):
        raise _damaged(name)
    return precision


def _apart(dataset: Dataset, name: str) -> tuple[np.ndarray, str]:
    """What only GDCM decodes, by its process."""
    if find_spec("gdcm") is None:
        raise PictureError(
            f"{name} is compressed as {dataset.file_meta.TransferSyntaxUID.name}: install the package python-gdcm to "
            "read it",
            images.UNSUPPORTED,
        )
    frame, photometric = _encoded_frame(dataset), str(dataset.PhotometricInterpretation)
    syntax = str(dataset.file_meta.TransferSyntaxUID)
    stored = _integer(dataset, "BitsStored")
    allocated = _integer(dataset, "BitsAllocated")
    precision = _check_codestream(dataset, frame, name)
    if syntax in _SIZED_BY_PRECISION:
        stored, allocated = precision, 8 if precision <= 8 else 16
    raw = _GDCM.decode(
        frame,
        columns=_integer(dataset, "Columns"),
        rows=_integer(dataset, "Rows"),
        samples=_integer(dataset, "SamplesPerPixel", 1),
        allocated=allocated,
        stored=stored,
        signed=_integer(dataset, "PixelRepresentation", 0),
        photometric=photometric,
        syntax=syntax,
    )
    if not raw:
        raise _damaged(name)
    if photometric in ("YBR_ICT", "YBR_RCT"):
        photometric = "RGB"
    return _plain_again(dataset, raw, "YBR_FULL" if photometric == "YBR_FULL_422" else photometric)


_SIZED_BY_PRECISION = {f"1.2.840.10008.1.2.4.{last}" for last in (80, 81, 90, 91)}  # JPEG-LS, JPEG 2000
_READERS: dict[str, Callable[[Dataset, str], tuple[np.ndarray, str]]] = {
    "1.2.840.10008.1.2": _with_pydicom,  # implicit little endian
    _PLAIN: _with_pydicom,
    "1.2.840.10008.1.2.2": _with_pydicom,  # explicit big endian
    "1.2.840.10008.1.2.5": _rle,
    "1.2.840.10008.1.2.4.50": _jpeg,  # baseline
    "1.2.840.10008.1.2.4.51": _jpeg,  # extended, 8 or 12 bits
    "1.2.840.10008.1.2.4.57": _apart,  # JPEG lossless
    "1.2.840.10008.1.2.4.70": _apart,  # JPEG lossless SV1
    "1.2.840.10008.1.2.4.80": _apart,  # JPEG-LS lossless
    "1.2.840.10008.1.2.4.81": _apart,  # JPEG-LS near lossless
    "1.2.840.10008.1.2.4.90": _jpeg_2000,  # lossless
    "1.2.840.10008.1.2.4.91": _jpeg_2000,
}


# From stored numbers to what is seen


def _picture(dataset: Dataset, frame: np.ndarray, photometric: str) -> Image.Image:
    if photometric == "PALETTE COLOR":
        from pydicom.pixels import apply_color_lut

        frame, photometric = apply_color_lut(frame, dataset), "RGB"
        shift = max(0, dataset.RedPaletteColorLookupTableDescriptor[2] - 8)
    else:
        shift = max(0, _integer(dataset, "BitsStored", 8) - 8)
    if frame.ndim == 3:
        frame = np.ascontiguousarray(frame if frame.dtype == np.uint8 else (frame >> shift).astype(np.uint8))
        mode = "YCbCr" if photometric.startswith("YBR_FULL") else "RGB"
        return Image.frombuffer(mode, frame.shape[1::-1], frame.tobytes(), "raw", mode, 0, 1).convert("RGB")
    return Image.fromarray(_grey(dataset, frame, photometric == "MONOCHROME1")).convert("RGB")


def _grey(dataset: Dataset, frame: np.ndarray, inverted: bool) -> np.ndarray:
    """uint8 (rows, columns): modality, then window, then black for pixels that only fill up the frame."""
    modality, padding = _modality(dataset), _padding(dataset, frame)
    rows_of_bands = list(images.bands(*frame.shape))

    def in_range(rows: slice) -> np.ndarray:
        return modality(frame[rows][~padding(frame[rows])])

    window = _window(dataset)
    if window is None:
        low, high = images.value_range(in_range(rows) for rows in rows_of_bands)
        window = lambda values: images.stretch(values, low, high)  # noqa: E731
    grey = np.empty(frame.shape, np.uint8)
    for rows in rows_of_bands:
        seen = window(modality(frame[rows]))
        grey[rows] = np.where(padding(frame[rows]), 0, 255 - seen if inverted else seen)
    return grey


Values = Callable[[np.ndarray], np.ndarray]


def _modality(dataset: Dataset) -> Values:
    """From stored numbers to those of the modality, such as Hounsfield units; float64."""
    if dataset.get("ModalityLUTSequence"):
        table, first, _ = _table(dataset, dataset.ModalityLUTSequence[0])
        return lambda values: _look_up(table, first, values)
    slope, intercept = _number(dataset, "RescaleSlope"), _number(dataset, "RescaleIntercept")
    slope, intercept = 1.0 if slope is None else slope, intercept or 0.0
    return lambda values: values.astype(np.float64) * slope + intercept


def _window(dataset: Dataset) -> Values | None:
    """From the modality's numbers to uint8 (PS3.3 C.11.2); None where the file says nothing that can be used."""
    if dataset.get("VOILUTSequence"):
        table, first, bits = _table(dataset, dataset.VOILUTSequence[0])
        return lambda values: images.stretch(_look_up(table, first, values), 0, 2**bits - 1)
    centre, width = _number(dataset, "WindowCenter"), _number(dataset, "WindowWidth")
    if centre is None or width is None or width <= 0:
        return None
    function = str(dataset.get("VOILUTFunction") or "LINEAR")
    if function == "SIGMOID":
        return lambda values: images.stretch(1 / (1 + np.exp(-4 * (values - centre) / width)), 0, 1)
    if function == "LINEAR":
        centre, width = centre - 0.5, max(width - 1, 0)
    return lambda values: images.stretch(values, centre - width / 2, centre + width / 2)


def _table(dataset: Dataset, item: Dataset) -> tuple[np.ndarray, int, int]:
    """A lookup table, the stored number that its first entry is for, and the bits of its entries."""
    count, first, bits = (int(value) for value in item.LUTDescriptor)
    if _integer(dataset, "PixelRepresentation", 0) and first >= 2**15:
        first -= 2**16
    data = item.LUTData
    if isinstance(data, bytes):
        order = "<" if dataset.file_meta.TransferSyntaxUID.is_little_endian else ">"
        data = np.frombuffer(data, np.uint8 if len(data) == count else order + "u2")
    table = np.atleast_1d(np.asarray(data, np.float64))[: count or 2**16]
    if not len(table) or not 1 <= bits <= 16:
        raise ValueError("no lookup table")
    return table, first, bits


def _look_up(table: np.ndarray, first: int, values: np.ndarray) -> np.ndarray:
    return table[np.clip(np.nan_to_num(values.astype(np.float64)) - first, 0, len(table) - 1).astype(np.intp)]


def _padding(dataset: Dataset, frame: np.ndarray) -> Values:
    """Which stored numbers only fill up the frame."""
    if frame.dtype.kind == "f" or "PixelPaddingValue" not in dataset:
        return lambda values: np.zeros(values.shape, bool)
    low = _stored(dataset, "PixelPaddingValue")
    high = _stored(dataset, "PixelPaddingRangeLimit") if "PixelPaddingRangeLimit" in dataset else low
    low, high = min(low, high), max(low, high)
    return lambda values: (values >= low) & (values <= high)


def _stored(dataset: Dataset, keyword: str) -> int:
    """A number that is signed where the pixels are, whatever the file took it for."""
    value = dataset.get(keyword)
    if isinstance(value, bytes):
        value = int.from_bytes(value, "little" if dataset.file_meta.TransferSyntaxUID.is_little_endian else "big")
    signed = _integer(dataset, "PixelRepresentation", 0)
    return int(value) - 2**16 if signed and int(value) >= 2**15 else int(value)


# GDCM in a process of its own


class _GdcmProcess:
    """One process that decodes frames, one after another; a new one where the last one died."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.process: subprocess.Popen | None = None

    def decode(self, frame: bytes, **header: str | int) -> bytes:
        """The decoded bytes, samples of a pixel side by side; none when the frame cannot be decoded."""
        with self.lock:
            if self.process is None or self.process.poll() is not None:
                self._start()
            watchdog = threading.Timer(GDCM_SECONDS, self.process.kill)
            watchdog.daemon = True
            watchdog.start()
            try:
                _send(self.process.stdin, json.dumps(header).encode())
                _send(self.process.stdin, frame)
                return _receive(self.process.stdout)
            except (OSError, EOFError):  # it died
                self.close()
                return b""
            finally:
                watchdog.cancel()

    def _start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "clipdemo.dicom"],
            cwd=Path(__file__).resolve().parents[1],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def close(self) -> None:
        """Ends the process."""
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
        self.process = None


_GDCM = _GdcmProcess()
atexit.register(_GDCM.close)
if hasattr(os, "register_at_fork"):  # a process that is forked off ours must not share the pipe
    os.register_at_fork(after_in_child=_GDCM.__init__)


def _send(pipe: BinaryIO, data: bytes) -> None:
    pipe.write(struct.pack("<Q", len(data)) + data)
    pipe.flush()


def _receive(pipe: BinaryIO) -> bytes:
    head = pipe.read(8)
    length = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
    data = pipe.read(length)
    if len(head) < 8 or len(data) < length:
        raise EOFError
    return data


def _serve() -> None:
    """The other side: decodes what comes through the pipe until it is closed."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # whatever GDCM prints must not be taken for an answer
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (GDCM_BYTES, GDCM_BYTES))
    except (ImportError, ValueError, OSError):  # not on this system, or a lower limit holds already
        pass
    questions = sys.stdin.buffer
    while True:
        try:
            header, frame = json.loads(_receive(questions)), _receive(questions)
        except EOFError:
            return
        try:
            answer = _decode_with_gdcm(frame, **header)
        except Exception:
            answer = b""
        _send(answers, answer)


def _decode_with_gdcm(
    frame: bytes,
    columns: int,
    rows: int,
    samples: int,
    allocated: int,
    stored: int,
    signed: int,
    photometric: str,
    syntax: str,
) -> bytes:
    import gdcm

    fragment, fragments = gdcm.Fragment(), gdcm.SequenceOfFragments.New()
    fragment.SetByteStringValue(frame)
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((columns, rows, 1))
    image.SetDataElement(element)
    kind = gdcm.PhotometricInterpretation.GetPIType(photometric)
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(kind))
    if samples > 1:
        image.SetPlanarConfiguration(0)
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(syntax)))
    image.SetPixelFormat(gdcm.PixelFormat(samples, allocated, stored, stored - 1, signed))
    return image.GetBuffer().encode("utf-8", "surrogateescape")  # GDCM's char* arrives as a text


if __name__ == "__main__":
    _serve()
