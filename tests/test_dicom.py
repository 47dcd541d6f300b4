import io
import logging
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import JPEG2000, JPEG2000Lossless, JPEGBaseline8Bit

from clipdemo import dicom, images
from clipdemo.dicom import is_dicom
from clipdemo.errors import PictureError
from clipdemo.images import DAMAGED, NO_PICTURE, TOO_LARGE, TOO_NARROW, UNSUPPORTED, decode, storable
from tests.picture_fuzz import (
    BIG,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    dicom_file,
    grey_numbers,
    packed,
    recompressed,
    without_preamble,
)

ROOT = Path(__file__).resolve().parents[1]


def grey(data):
    """The decoded picture, which must be grey, as (rows, columns)."""
    pixels = np.asarray(decode(data, "scan"))
    assert (pixels == pixels[..., :1]).all()
    return pixels[..., 0]


def row(values, dtype=np.uint16, **elements):
    """What becomes of one row of stored numbers."""
    return grey(dicom_file(np.array([values], dtype), **elements))[0].tolist()


def refusal(data):
    with pytest.raises(PictureError, match="scan 7") as caught:
        decode(data, "scan 7")
    assert "SECRET" not in str(caught.value) and "\n" not in str(caught.value)
    return caught.value


def changed(data, **elements):
    """The same file with other elements; None takes one out."""
    dataset = pydicom.dcmread(io.BytesIO(data))
    for name, value in elements.items():
        if value is None:
            delattr(dataset, name)
        else:
            setattr(dataset, name, value)
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def encapsulated(pixels, frame, syntax, photometric=None):
    data = dicom_file(pixels, **({"PhotometricInterpretation": photometric} if photometric else {}))
    dataset = pydicom.dcmread(io.BytesIO(data))
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = encapsulate([frame])
    dataset["PixelData"].is_undefined_length = True
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def test_dicom_is_known_by_its_content():
    data = dicom_file(grey_numbers(12), 12)
    assert is_dicom(data)
    assert is_dicom(without_preamble(data))
    assert is_dicom(dicom_file(grey_numbers(12), 12, IMPLICIT, preamble=False))
    for other in (b"", b"DICM", bytes(200), b"\x08\x00 and a text that goes on", packed(Image.new("L", (9, 9)), "PNG")):
        assert not is_dicom(other)


def test_a_preamble_that_looks_like_tiff_is_still_dicom():
    data = dicom_file(grey_numbers(12), 12)
    assert decode(b"II*\0" + data[4:]).tobytes() == decode(data).tobytes()


def test_one_scan_in_the_files_that_pydicom_brings_is_the_same_picture_in_every_syntax():
    from pydicom.data import get_testdata_file

    kinds = ("", "_RLE", "_bigendian", "_implicit", "_jp2klossless", "_jpeg_ls_lossless")
    files = [get_testdata_file(f"MR_small{kind}.dcm", download=False) for kind in kinds]
    files = [Path(file) for file in files if file]
    if len(files) < 2:
        pytest.skip("this pydicom came without its test files")
    assert len({decode(file.read_bytes()).tobytes() for file in files}) == 1


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG, DEFLATED])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.uint32, np.int32, np.float32, np.float64])
def test_every_plain_encoding_gives_the_same_picture(syntax, dtype):
    numbers = grey_numbers(8).astype(np.float64) - (100 if np.dtype(dtype).kind in "if" else 0)
    expected = np.rint((numbers - numbers.min()) / np.ptp(numbers) * 255)
    assert np.array_equal(grey(dicom_file(numbers.astype(dtype), syntax=syntax)), expected)


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
def test_a_file_without_preamble_is_read(syntax):
    data = dicom_file(grey_numbers(12), 12, syntax)
    assert np.array_equal(grey(without_preamble(data)), grey(data))


def test_bits_become_black_and_white():
    bits = np.array([[0b00000101], [0b10000000]], np.uint8)
    data = dicom_file(bits, 1, Columns=8, BitsAllocated=1, BitsStored=1, HighBit=0)
    assert grey(data).tolist() == [[255, 0, 255, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 255]]


def test_without_a_window_the_frame_goes_from_its_minimum_to_its_maximum():
    assert row([1000, 1500, 2000]) == [0, 128, 255]
    assert row([-1000, 0, 1000], np.int16) == [0, 128, 255]
    assert row([7, 7, 7]) == [0, 0, 0]


def test_a_window_maps_as_the_standard_says():
    """PS3.3 C.11.2.1.2: LINEAR, centre 2048 and width 4096, goes from 0 to 4095."""
    window = {"WindowCenter": 2048, "WindowWidth": 4096}
    assert row([0, 1, 2048, 4094, 4095, 60_000], **window) == [0, 0, 128, 255, 255, 255]
    assert row([0, 100, 101, 102], WindowCenter=101, WindowWidth=1) == [0, 0, 255, 255]
    exact = {"VOILUTFunction": "LINEAR_EXACT", "WindowCenter": 100, "WindowWidth": 100}
    assert row([0, 50, 75, 100, 150, 200], **exact) == [0, 0, 64, 128, 255, 255]
    sigmoid = {"VOILUTFunction": "SIGMOID", "WindowCenter": 100, "WindowWidth": 100}
    assert row([0, 75, 100, 125, 200], **sigmoid) == [5, 69, 128, 186, 250]  # 255 / (1 + exp(-4 (x - c) / w))


def test_the_first_of_several_windows_counts():
    assert row([0, 50, 100], WindowCenter=[50.5, 5000], WindowWidth=[101, 9000]) == [0, 128, 255]


def test_a_window_that_cannot_be_is_left_aside():
    assert row([0, 50, 100], WindowCenter=50, WindowWidth=0) == [0, 128, 255]


def test_rescale_comes_before_the_window():
    """A CT: 0 .. 2000 stored, less 1000 are Hounsfield units; a window of 200 around 0."""
    ct = {"RescaleSlope": 1, "RescaleIntercept": -1000, "WindowCenter": 0.5, "WindowWidth": 201}
    assert row([0, 900, 1000, 1100, 2000], **ct) == [0, 0, 128, 255, 255]


def table(values, first=0, bits=8):
    item = Dataset()
    item.LUTDescriptor, item.LUTData = [len(values), first, bits], values
    item["LUTDescriptor"].VR = item["LUTData"].VR = "US"
    return Sequence([item])


def test_lookup_tables_are_looked_up():
    assert row([9, 10, 11, 12, 90], VOILUTSequence=table([0, 200, 255], first=10)) == [0, 0, 200, 255, 255]
    assert row([0, 1, 2], VOILUTSequence=table([0, 2048, 4095], bits=12)) == [0, 128, 255]
    assert row([0, 1, 2], ModalityLUTSequence=table([500, 100, 300], bits=16)) == [255, 0, 128]


def test_monochrome1_is_the_inverse():
    data = dicom_file(grey_numbers(12), 12, WindowCenter=2000, WindowWidth=3000)
    assert np.array_equal(grey(changed(data, PhotometricInterpretation="MONOCHROME1")), 255 - grey(data))


def test_padding_has_no_part_in_the_range_and_is_black():
    assert row([60_000, 100, 150, 200], PixelPaddingValue=60_000) == [0, 0, 128, 255]
    dataset = pydicom.dcmread(io.BytesIO(dicom_file(np.array([[-2000, 100, 200]], np.int16))))
    dataset.add_new("PixelPaddingValue", "SS", -2000)
    dataset.PhotometricInterpretation = "MONOCHROME1"
    buffer = io.BytesIO()
    dataset.save_as(buffer)
    assert grey(buffer.getvalue())[0].tolist() == [0, 255, 0]


def test_bits_that_are_not_stored_do_not_count():
    assert row([0xF000, 0x0800, 0xAFFF], bits=12) == [0, 128, 255]


def test_only_the_first_frame_is_read():
    frames = np.stack([grey_numbers(8), 255 - grey_numbers(8), 0 * grey_numbers(8)]).reshape(-1, 32)
    data = dicom_file(frames, Rows=24, NumberOfFrames=3)
    assert np.array_equal(grey(data), grey(dicom_file(grey_numbers(8))))


def test_an_enhanced_file_keeps_rescale_and_window_in_its_functional_groups():
    shared, frame, rescale, window = Dataset(), Dataset(), Dataset(), Dataset()
    rescale.RescaleSlope, rescale.RescaleIntercept = 1, -1000
    window.WindowCenter, window.WindowWidth = 0.5, 201
    shared.PixelValueTransformationSequence, frame.FrameVOILUTSequence = Sequence([rescale]), Sequence([window])
    groups = {
        "SharedFunctionalGroupsSequence": Sequence([shared]),
        "PerFrameFunctionalGroupsSequence": Sequence([frame]),
    }
    assert row([0, 900, 1000, 1100, 2000], **groups) == [0, 0, 128, 255, 255]


COLOURS = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [90, 90, 90]], [[255, 255, 255], [1, 2, 3]]], np.uint8)


def test_colours_by_pixel_and_by_plane():
    assert np.array_equal(np.asarray(decode(dicom_file(COLOURS))), COLOURS)
    planes = dicom_file(COLOURS, PlanarConfiguration=1, PixelData=COLOURS.transpose(2, 0, 1).tobytes())
    assert np.array_equal(np.asarray(decode(planes)), COLOURS)
    wide = dicom_file(COLOURS.astype(np.uint16) * 257)
    assert np.array_equal(np.asarray(decode(wide)), COLOURS)


def test_ybr_becomes_rgb():
    ybr = np.asarray(Image.fromarray(COLOURS).convert("YCbCr"))
    data = dicom_file(ybr, PhotometricInterpretation="YBR_FULL")
    assert np.abs(np.asarray(decode(data)).astype(int) - COLOURS).max() <= 2
    shared = np.array([[[100, 90, 200], [180, 90, 200]]], np.uint8)  # one Cb and Cr for two pixels: Y Y Cb Cr
    data = dicom_file(shared, PhotometricInterpretation="YBR_FULL_422", PixelData=bytes([100, 180, 90, 200]))
    expected = np.asarray(Image.frombytes("YCbCr", (2, 1), shared.tobytes()).convert("RGB"))
    assert np.array_equal(np.asarray(decode(data)), expected)


@pytest.mark.parametrize(("bits", "stored"), [(8, "u1"), (8, "<u2"), (16, "<u2")])
def test_a_palette_is_looked_up(bits, stored):
    tables = {}
    for colour, values in [("Red", [255, 0, 9, 1]), ("Green", [0, 255, 8, 1]), ("Blue", [0, 0, 7, 1])]:
        entries = np.array(values) * (257 if bits == 16 else 1)
        tables[f"{colour}PaletteColorLookupTableDescriptor"] = [4, 0, bits]
        tables[f"{colour}PaletteColorLookupTableData"] = entries.astype(stored).tobytes()
    data = dicom_file(np.array([[0, 1, 2, 3]], np.uint8), PhotometricInterpretation="PALETTE COLOR", **tables)
    assert np.asarray(decode(data))[0].tolist() == [[255, 0, 0], [0, 255, 0], [9, 8, 7], [1, 1, 1]]


@pytest.mark.parametrize("name", ["rle", "jpeg-lossless", "jpeg-lossless-sv1", "jpeg-ls", "jpeg-2000"])
@pytest.mark.parametrize("kind", ["8", "12", "16", "signed", "colour"])
def test_lossless_compression_gives_exactly_the_same_picture(name, kind):
    if kind == "colour":
        numbers = np.stack([grey_numbers(8), grey_numbers(8)[::-1], grey_numbers(8)[:, ::-1]], axis=-1)
        plain = dicom_file(numbers)
    elif kind == "signed":
        plain = dicom_file((grey_numbers(12).astype(int) - 2000).astype(np.int16), WindowCenter=0, WindowWidth=3000)
    else:
        plain = dicom_file(grey_numbers(int(kind)), int(kind))
    smaller = recompressed(plain, name)
    syntax = pydicom.dcmread(io.BytesIO(smaller)).file_meta.TransferSyntaxUID
    assert syntax.is_compressed and syntax != EXPLICIT
    assert np.array_equal(np.asarray(decode(smaller)), np.asarray(decode(plain)))


def test_what_pydicom_compresses_as_rle_comes_back():
    rng = np.random.default_rng(0)
    for numbers in (rng.integers(0, 2**16, (20, 30), np.uint16), rng.integers(0, 256, (20, 30, 3), np.uint8)):
        dataset = pydicom.dcmread(io.BytesIO(dicom_file(numbers)))
        plain = decode(dicom_file(numbers))
        dataset.compress(pydicom.uid.RLELossless)
        buffer = io.BytesIO()
        dataset.save_as(buffer)
        assert decode(buffer.getvalue()).tobytes() == plain.tobytes()


def test_12_bit_jpeg_is_read():
    numbers = np.clip(grey_numbers(12), 200, 3900)  # GDCM lets what overshoots the 12 bits start again at 0
    lossy = recompressed(dicom_file(numbers, 12), "jpeg-extended")
    assert np.abs(grey(lossy).astype(int) - grey(dicom_file(numbers, 12))).max() <= 1


def test_jpeg_baseline_has_the_colours_that_the_jpeg_itself_says():
    smooth = np.asarray(Image.fromarray(COLOURS).resize((32, 32), Image.Resampling.BICUBIC))
    frame = packed(Image.fromarray(smooth), "JPEG", quality=95, subsampling=0)
    for photometric in ("YBR_FULL_422", "YBR_FULL", "RGB"):  # with its JFIF marker it is YCbCr, whatever else is said
        data = encapsulated(smooth, frame, JPEGBaseline8Bit, photometric)
        assert np.array_equal(np.asarray(decode(data)), np.asarray(Image.open(io.BytesIO(frame))))
    bare = frame[:2] + frame[20:]
    assert b"JFIF" not in bare
    components = np.asarray(Image.open(io.BytesIO(frame)).convert("YCbCr")).astype(int)
    data = encapsulated(smooth, bare, JPEGBaseline8Bit, "RGB")  # nothing in the JPEG: the dataset says RGB
    assert np.abs(np.asarray(decode(data)).astype(int) - components).max() <= 3
    coarse = recompressed(dicom_file(smooth), "jpeg")  # says RGB, but RGB is never stored with coarser colours
    assert np.abs(np.asarray(decode(coarse)).astype(int) - smooth).mean() < 12


def test_jpeg_baseline_grey_goes_through_the_window():
    frame = packed(Image.new("L", (16, 16), 100), "JPEG", quality=100)
    data = encapsulated(np.zeros((16, 16), np.uint8), frame, JPEGBaseline8Bit)
    assert grey(changed(data, WindowCenter=100.5, WindowWidth=101))[0, 0] == 128


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEG2000])
def test_jpeg_2000_of_pillow_is_read(syntax):
    numbers = grey_numbers(8)
    buffer = io.BytesIO()
    Image.fromarray(numbers).save(buffer, "JPEG2000", no_jp2=True)
    assert np.array_equal(grey(encapsulated(numbers, buffer.getvalue(), syntax)), numbers)


@pytest.mark.parametrize(
    ("data", "reason", "says"),
    [
        (changed(dicom_file(grey_numbers(8)), Rows=60_000, Columns=60_000), TOO_LARGE, "60000 x 60000"),
        (dicom_file(np.zeros((1, 90), np.uint8)), TOO_NARROW, "90 x 1"),
        (changed(dicom_file(grey_numbers(8)), Rows=0), DAMAGED, "32 x 0"),
        (changed(dicom_file(grey_numbers(8)), Rows=48), DAMAGED, "cut off"),
        (changed(dicom_file(grey_numbers(8)), PixelData=None), DAMAGED, "cut off"),
        (changed(dicom_file(grey_numbers(8)), BitsAllocated=12), UNSUPPORTED, "12 bits"),
        (changed(dicom_file(grey_numbers(8)), SamplesPerPixel=4), UNSUPPORTED, "4 samples"),
        (changed(dicom_file(COLOURS), PhotometricInterpretation="CMYK"), UNSUPPORTED, "convert it to RGB"),
    ],
)
def test_each_refusal_says_its_reason(data, reason, says):
    error = refusal(data)
    assert error.reason == reason and says in str(error)


def test_a_file_without_pixels_says_so():
    report = changed(
        dicom_file(grey_numbers(8)),
        PixelData=None,
        Rows=None,
        Columns=None,
        SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11",
    )
    assert refusal(report).reason == NO_PICTURE


@pytest.mark.parametrize(
    ("syntax", "says"),
    [
        ("1.2.840.10008.1.2.4.102", "MPEG-4"),
        ("1.2.840.10008.1.2.4.201", "High-Throughput JPEG 2000"),
        ("1.2.3.4.5", "1.2.3.4.5"),
    ],
)
def test_a_transfer_syntax_that_is_not_read_is_named_with_the_way_out(syntax, says):
    error = refusal(encapsulated(grey_numbers(8), b"film", pydicom.uid.UID(syntax)))
    assert error.reason == UNSUPPORTED and says in str(error) and "convert it" in str(error)


def test_without_gdcm_the_package_is_named(monkeypatch):
    monkeypatch.setattr(dicom, "find_spec", lambda name: None)
    error = refusal(recompressed(dicom_file(grey_numbers(12), 12), "jpeg-ls"))
    assert error.reason == UNSUPPORTED and "python-gdcm" in str(error)


def test_a_deflated_bomb_is_refused_before_it_fills_the_memory():
    data = dicom_file(grey_numbers(8), syntax=DEFLATED)
    file = io.BytesIO(data)
    file.seek(132)
    pydicom.filereader.read_dataset(file, False, True, stop_when=lambda tag, vr, length: tag.group != 2)
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
    zeros = bytes(2**24)
    bomb = b"".join(deflater.compress(zeros) for _ in range(images.MAX_BYTES // len(zeros) + 1)) + deflater.flush()
    assert len(bomb) < 10**6
    assert refusal(data[: file.tell()] + bomb).reason == TOO_LARGE


def test_a_jpeg_that_is_larger_than_its_dataset_says_is_not_decoded():
    frame = packed(Image.new("L", (7000, 7000)), "JPEG")
    assert refusal(encapsulated(np.zeros((16, 16), np.uint8), frame, JPEGBaseline8Bit)).reason == DAMAGED


@pytest.mark.parametrize("name", ["plain", "rle", "jpeg-lossless-sv1", "jpeg-ls", "jpeg-2000"])
@pytest.mark.filterwarnings("ignore")  # pytest sets the filters of `dicom` aside
def test_a_file_that_was_cut_off_is_refused(name):
    data = dicom_file(grey_numbers(12), 12)
    data = data if name == "plain" else recompressed(data, name)
    for cut in np.linspace(200, len(data) - 12, 40).astype(int):
        assert refusal(data[:cut]).reason in (DAMAGED, NO_PICTURE)


def test_a_crash_of_gdcm_costs_one_picture():
    good = recompressed(dicom_file(grey_numbers(12), 12), "jpeg-ls")
    expected = decode(good).tobytes()
    dicom._GDCM.process.kill()
    dicom._GDCM.process.wait()
    assert decode(good).tobytes() == expected

    class Dies(dicom._GdcmProcess):
        def _start(self):
            self.process = subprocess.Popen(
                [sys.executable, "-c", "import sys, os; sys.stdin.buffer.read(100); os.abort()"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )

    assert Dies().decode(bytes(1000), rows=1) == b""


def test_many_threads_share_the_process_of_gdcm():
    files = [recompressed(dicom_file(np.roll(grey_numbers(12), i, axis=1), 12), "jpeg-ls") for i in range(6)]
    expected, found = [decode(data).tobytes() for data in files], {}
    threads = [
        threading.Thread(target=lambda i=i: found.setdefault(i, decode(files[i % 6]).tobytes())) for i in range(24)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(found[i] == expected[i % 6] for i in range(24))


def test_nothing_of_a_patient_is_said_logged_or_warned_of():
    odd = changed(dicom_file(grey_numbers(12), 12), PatientBirthDate="SECRETDATE", StudyInstanceUID="SECRET.uid")
    code = (
        "import sys, io, logging; logging.basicConfig(level=0); from clipdemo.images import decode\n"
        "data = sys.stdin.buffer.read()\n"
        "for cut in range(150, len(data), 31):\n"
        "    try: decode(data[:cut])\n"
        "    except Exception as error: assert 'SECRET' not in str(error)\n"
        "decode(data)\n"
    )
    done = subprocess.run([sys.executable, "-W", "default", "-c", code], cwd=ROOT, input=odd, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert b"SECRET" not in done.stderr + done.stdout


def test_what_a_sample_keeps_of_dicom_is_a_png_without_the_patient():
    data = dicom_file(grey_numbers(12), 12)
    kept, suffix, picture = storable(data)
    assert suffix == ".png" and b"SECRET" in data and b"SECRET" not in kept
    assert decode(kept).tobytes() == picture.tobytes() == decode(data).tobytes()


@pytest.mark.parametrize("name", ["pydicom", "pydicom.pixels", "pydicom.pixels.decoders.base"])
def test_nothing_that_may_quote_a_patient_is_logged(name):
    assert not logging.getLogger(name).isEnabledFor(logging.CRITICAL)
