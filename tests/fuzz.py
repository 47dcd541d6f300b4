"""A seeded maker of hostile archives and tables: what a malicious, broken or merely odd file may look like.

for case in cases(folder, seed=0):
    case.path  # a file or folder that it has just made
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import random
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

ZEROS = bytes(2**20)


@dataclass(frozen=True)
class Case:
    """One hostile file: the source it is for, and how many rows it must give (None: a table or a clear error)."""

    name: str
    source: str  # "folder" or "table"
    path: Path
    rows: int | None


def png(seed: int = 0, side: int = 8) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def zip_of(entries: dict[str, bytes], packing: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", packing) as archive:
        for name, data in entries.items():
            archive.writestr(zipfile.ZipInfo(name), data, packing)
    return buffer.getvalue()


def tar_of(members: list[tuple[tarfile.TarInfo, bytes]], form: int = tarfile.GNU_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for member, data in members:
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def member(
    name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = ""
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, len(data)
    return info, data


def good_zip() -> bytes:
    return zip_of({f"{label}/{i}.png": png(i) for label in "AB" for i in range(4)})


def good_tar() -> bytes:
    return tar_of([member(f"{label}/{i}.png", png(i)) for label in "AB" for i in range(4)])


def good_csv() -> bytes:
    return b"image,caption,label\n" + b"".join(b'%d.png,"a, b",x\n' % i for i in range(50))


def good_parquet(codec: str = "snappy") -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    images = [{"bytes": png(i), "path": f"{i}.png"} for i in range(30)]
    table = pa.table({"image": images, "caption": [f"text {i}" for i in range(30)], "label": list("ab") * 15})
    buffer = io.BytesIO()
    pq.write_table(table, buffer, row_group_size=7, compression=codec)
    return buffer.getvalue()


def repacked(data: bytes, old: bytes, new: bytes, count: int = -1) -> bytes:
    assert len(old) == len(new) and old in data, "the file has to keep its offsets"
    return data.replace(old, new, count)


def lying_zip(declared: int) -> bytes:
    """One entry whose size is said, in both headers, to be another."""
    data = zip_of({"A/bomb.png": ZEROS * 20, "B/a.png": png()})
    return repacked(data, struct.pack("<I", 20 * 2**20), struct.pack("<I", declared))


def flagged_zip(flag: int) -> bytes:
    """All entries with this flag set in the central directory."""
    data = bytearray(good_zip())
    at = data.find(b"PK\x01\x02")
    while at >= 0:
        data[at + 8] |= flag
        at = data.find(b"PK\x01\x02", at + 4)
    return bytes(data)


def overlapping_zip() -> bytes:
    """Every entry of the central directory points to the same packed megabytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("A/0.png", ZEROS * 30)
        first = archive.filelist[0]
        for i in range(1, 2000):
            twin = zipfile.ZipInfo(f"A/{i}.png")
            for field in ("compress_type", "CRC", "compress_size", "file_size", "header_offset"):
                setattr(twin, field, getattr(first, field))
            archive.filelist.append(twin)
    return buffer.getvalue()


def unix_zip(kind: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        info = zipfile.ZipInfo("A/link.png")
        info.create_system, info.external_attr = 3, (kind | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
        archive.writestr("B/a.png", png())
    return buffer.getvalue()


def claiming_tar(size: bytes, kind: bytes = tarfile.REGTYPE) -> bytes:
    """A header that claims a size (12 bytes of its own encoding) and nothing behind it."""
    header = bytearray(member("A/huge.png", b"", kind)[0].tobuf(tarfile.GNU_FORMAT))
    header[124:136] = size
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + png().ljust(1024, b"\0") + bytes(1024)


def long_names_tar() -> bytes:
    """Names for names for names: tarfile reads them by recursion."""
    link = member("././@LongLink", b"a", tarfile.GNUTYPE_LONGNAME)[0]
    link.size = 1
    return (link.tobuf(tarfile.GNU_FORMAT) + b"a".ljust(512, b"\0")) * 3000 + bytes(1024)


def sparse_tar() -> bytes:
    info, _ = member("A/sparse.png")
    info.type = tarfile.GNUTYPE_SPARSE
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[386:410] = b"00000000000\0" + b"00000000000\0"
    header[483:495] = b"77777777777\0"
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + bytes(1024)


def pax_tar(headers: dict[str, str]) -> bytes:
    info, data = member("A/a.png", png())
    info.pax_headers = headers
    return tar_of([(info, data), member("B/b.png", png(1))], tarfile.PAX_FORMAT)


def archives(outside: Path) -> Iterator[tuple[str, Callable[[], bytes], int | None]]:
    """(file name, its content, rows); names in them aim at `outside`."""
    picture = png()
    up = "../" * 8
    yield (
        "slip.zip",
        lambda: zip_of({f"{up}{outside}/slip.png": picture, "../slip.png": picture, "A/a.png": picture}),
        3,
    )
    yield "absolute.zip", lambda: zip_of({f"{outside}/abs.png": picture, "C:\\abs.png": picture, "A/a.png": picture}), 3
    yield "backslash.zip", lambda: zip_of({"..\\..\\slip.png": picture, "A\\a.png": picture, "B\\b.png": picture}), 3
    yield "symlink.zip", lambda: unix_zip(0o120000), 2
    yield "device.zip", lambda: unix_zip(0o060000), 2
    yield "lying_small.zip", lambda: lying_zip(10), 2
    yield "lying_large.zip", lambda: lying_zip(2**32 - 2), 2
    yield "lying_limit.zip", lambda: lying_zip(2**29), None
    yield "bomb.zip", lambda: zip_of({f"A/{i}.png": ZEROS * 60 for i in range(3)}), None
    yield "bomb_bz2.zip", lambda: zip_of({f"A/{i}.png": ZEROS * 60 for i in range(3)}, zipfile.ZIP_BZIP2), None
    yield "big_lzma.zip", lambda: zip_of({"A/a.png": ZEROS * 80, "B/b.png": picture}, zipfile.ZIP_LZMA), 2
    yield "nested.zip", lambda: zip_of({"A/a.zip": zip_of({"b.zip": zip_of({"c": ZEROS * 50})}), "B/b.png": picture}), 2
    yield "overlap.zip", overlapping_zip, None
    yield "encrypted.zip", lambda: flagged_zip(1), 8
    yield "patched.zip", lambda: flagged_zip(0x20), 8
    yield "empty.zip", lambda: zip_of({}), None
    yield "many.zip", lambda: zip_of({f"{i % 7}/{i}.png": b"" for i in range(50_000)}, zipfile.ZIP_STORED), 50_000
    yield "twins.zip", twins_zip, 3
    yield "nul_name.zip", lambda: repacked(zip_of({"A/axb.png": picture, "B/b.png": picture}), b"axb", b"a\0b"), None
    yield (
        "emoji.zip",
        lambda: zip_of({"🫀/心臓 🫁.png": picture, "B/\u202egnp.b.png": picture, "C/a\nb\x1b[2J.png": picture}),
        3,
    )
    yield "long.zip", lambda: zip_of({"A/" + "n" * 4000 + ".png": picture, "B/b.png": picture}), 2
    yield "deep.zip", lambda: zip_of({"d/" * 400 + "a.png": picture, "B/b.png": picture}), 2
    yield (
        "bad_utf8.zip",
        lambda: repacked(zip_of({"A/äö.png": picture, "B/b.png": picture}), "äö".encode(), b"\xff\xfe\xc3("),
        None,
    )
    yield (
        "metadata_slip.zip",
        lambda: zip_of(
            {
                "metadata.csv": f"file_name,text\n../../a.png,x\n{outside}/a.png,y\nA/a.png,z\n".encode(),
                "A/a.png": picture,
            }
        ),
        3,
    )
    yield (
        "metadata_bomb.zip",
        lambda: zip_of({"metadata.csv": b"file_name,text\nA/a.png," + b"x" * 40_000_000, "A/a.png": picture}),
        None,
    )
    yield (
        "metadata_deep.zip",
        lambda: zip_of({"metadata.jsonl": b"[" * 100_000 + b'\n{"file_name": "A/a.png"}\n', "A/a.png": picture}),
        2,
    )
    yield "renamed.tar", good_zip, 8
    yield "renamed.zip", good_tar, 8
    yield "text.zip", lambda: b"this is no archive", None
    yield "nothing.tar", lambda: b"", None
    yield "zeros.tar", lambda: bytes(10240), None
    yield (
        "slip.tar",
        lambda: tar_of(
            [member(f"{up}{outside}/slip.png", picture), member("/abs.png", picture), member("A/a.png", picture)]
        ),
        3,
    )
    yield "links.tar", lambda: links_tar(outside), 4
    yield (
        "devices.tar",
        lambda: tar_of(
            [
                member(f"A/{k}.png", b"", kind)
                for k, kind in enumerate((tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, b"Z"))
            ]
        ),
        None,
    )
    yield "huge.tar", lambda: claiming_tar(b"77777777777\0"), None
    yield "huger.tar", lambda: claiming_tar(b"\x80" + b"\x7f" * 11), None
    yield "negative.tar", lambda: claiming_tar(b"\xff" * 10 + b"\xfc\0"), None
    yield "huge_name.tar", lambda: claiming_tar(b"77777777777\0", tarfile.GNUTYPE_LONGNAME), None
    yield "huge_pax.tar", lambda: claiming_tar(b"77777777777\0", tarfile.XHDTYPE), None
    yield "long_names.tar", long_names_tar, None
    yield "sparse.tar", sparse_tar, None
    yield "pax_size.tar", lambda: pax_tar({"size": "-5"}), None
    yield (
        "pax_sparse.tar",
        lambda: pax_tar({"GNU.sparse.size": "999999999999", "GNU.sparse.map": "0,9,9999999999,9"}),
        None,
    )
    yield "pax_name.tar", lambda: pax_tar({"path": "A/" + "🫀" * 2000 + ".png"}), 2
    yield "many.tar", lambda: tar_of([member(f"{i % 3}/{i}.png") for i in range(5_000)]), 5_000
    yield "bomb.tgz", lambda: gzip.compress(tar_of([member("A/a.png", ZEROS * 200)])), None
    yield "bomb.tar.xz", lambda: lzma.compress(tar_of([member("A/a.png", ZEROS * 200)]), preset=0), None
    yield "bomb.tar.bz2", lambda: bz2.compress(tar_of([member("A/a.png", ZEROS * 150)])), None
    yield "huge_name.tgz", lambda: gzip.compress(claiming_tar(b"77777777777\0", tarfile.GNUTYPE_LONGNAME)), None
    yield "not_tar.tgz", lambda: gzip.compress(ZEROS * 300), None
    yield "truncated.tgz", lambda: gzip.compress(good_tar())[:-200], None
    yield "trailing.tgz", lambda: gzip.compress(good_tar()) + b"rubbish", None


def links_tar(outside: Path) -> bytes:
    return tar_of(
        [
            member("A/s.png", b"", tarfile.SYMTYPE, str(outside)),
            member("A/h.png", b"", tarfile.LNKTYPE, "../../etc/passwd"),
            member("A/s.png", png()),
            member("B/b.png", png()),
        ]
    )


def twins_zip() -> bytes:
    return repacked(zip_of({"A/a.png": png(1), "A/b.png": png(2), "B/b.png": png(3)}), b"A/b.png", b"A/a.png")


def tables(outside: Path) -> Iterator[tuple[str, Callable[[], bytes], int | None]]:
    """(file name, its content, rows)."""
    yield "mixed.csv", lambda: b"image,caption\na.png,x\na;y\na\tb\na.png|c\na.png,z,w\n", 5
    yield "nul.csv", lambda: b"image,caption\na.png,\0\0\n\0.png,x\n", 2
    yield "lone_quote.csv", lambda: b'image,caption\na.png,"x\n' + b"b.png,y\n" * 100, None
    yield "only_quote.csv", lambda: b'"', None
    yield "wide.csv", lambda: ",".join(f"c{i}" for i in range(100_000)).encode() + b"\n" + b"," * 99_999, None
    yield "giant_field.csv", lambda: b"image,caption\na.png," + b"x" * 30_000_000 + b"\n", None
    yield "giant_line.csv", lambda: b"x" * 30_000_000, None
    yield "bad_utf8.csv", lambda: b"image,caption\na.png,\xc3(\xff\xfe\n" + "b.png,é漢字é\n".encode(), 2
    yield "utf16.csv", lambda: "image,caption\na.png,ä\nb.png,漢\n".encode("utf-16-le"), 2
    yield "utf16_odd.csv", lambda: "image,caption\na.png,ä\nb.png,漢\n".encode("utf-16")[:-1], None
    yield "header.csv", lambda: b"image,caption\n", None
    yield "blank.csv", lambda: b"\n\r\n \n", None
    yield "twice.csv", lambda: b"image,image,image\na.png,b,c\n", 1
    yield "terminal.csv", lambda: b"im\x1b[2Jage,b\r\x00\n1,2\n", None
    yield "no_columns.csv", lambda: b"a\n1\n", None
    yield "cr.csv", lambda: b"image,caption\ra.png,x\rb.png,y\r", 2
    yield (
        "slip.csv",
        lambda: (
            f"image\n../../../etc/passwd\n{outside}\n/dev/zero\nfile:///etc/passwd\nhttp://127.0.0.1/a.png\n.\n".encode()
        ),
        6,
    )
    yield "long_path.csv", lambda: b"image\n" + b"a/" * 20_000 + b"\n" + b"n" * 5000 + b"\n~root/a.png\n", 3
    yield "random.csv", lambda: b"image\n" + random.Random(7).randbytes(20_000), None
    yield "deep.json", lambda: b"[" * 100_000, None
    yield "deep_row.json", lambda: b'[{"image": ' + b"[" * 100_000 + b"]" * 100_000 + b"}]", None
    yield "cell.jsonl", lambda: json.dumps({"image": "[" * 100_000}).encode() + b"\n", 1
    yield "broken.jsonl", lambda: b'{"image": "a.png"}\n{"image":\n[]\n7\nnull\n{"image": "\\ud800\\u0000"}\n', 6
    yield "numbers.json", lambda: b'[{"image": 1e999, "label": NaN}, {"image": ' + b"9" * 5000 + b"}]", None
    yield "keys.jsonl", lambda: b"".join(b'{"image": "a.png", "k%d": 1}\n' % i for i in range(30_000)), None
    yield "truncated.json", lambda: b'[{"image": "a.png"}, {"image": "b', None
    yield "object.json", lambda: b'{"a": [{"image": "a.png"}], "b": [{"image": "b.png"}]}', None
    yield "null.json", lambda: b"null", None
    yield "zip.csv", good_zip, None
    yield "magic.parquet", lambda: b"PAR1" + bytes(100) + b"PAR1", None
    yield "lying.parquet", lambda: b"PAR1" + bytes(100) + struct.pack("<I", 2**31 - 1) + b"PAR1", None
    yield "truncated.parquet", lambda: good_parquet()[: len(good_parquet()) // 2], None


def mutated(data: bytes, rng: random.Random) -> bytes:
    """The data with a few bytes changed, a piece doubled or removed, or its end cut off."""
    broken = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(broken))
        match rng.randrange(5):
            case 0 | 1:
                broken[at] = rng.randrange(256)
            case 2:
                broken[at : at + 4] = rng.choice((b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", bytes(4)))
            case 3:
                del broken[at : at + rng.randint(1, 60)]
            case _:
                broken[at:at] = broken[at : at + rng.randint(1, 60)]
    return bytes(broken)


def mutants(rng: random.Random, count: int) -> Iterator[tuple[str, Callable[[], bytes], None]]:
    """Good files, damaged at random."""
    seeds = {
        "m.zip": good_zip(),
        "m.tar": good_tar(),
        "m.tgz": gzip.compress(good_tar()),
        "m.csv": good_csv(),
        "m.json": json.dumps([{"image": f"{i}.png", "caption": "c"} for i in range(20)]).encode(),
        "p.parquet": good_parquet(),
        "q.parquet": good_parquet("none"),
    }
    for i in range(count):
        name, data = list(seeds.items())[i % len(seeds)]
        yield f"{i}{name}", lambda data=data: mutated(data, rng), None


def hostile_folder(folder: Path, outside: Path) -> int:
    """Fills a folder with what a file system can hold. Returns its number of rows."""
    (folder / "A" / ".git").mkdir(parents=True)
    (folder / "B").mkdir()
    for path in ("A/a.png", "B/b.png", "A/.git/hidden.png", ".DS_Store", "B/Thumbs.db"):
        (folder / path).write_bytes(png())
    (folder / "A" / "empty.png").touch()
    (folder / "A" / "out.png").symlink_to(outside / "victim.txt")
    (folder / "A" / "gone.png").symlink_to("nowhere")
    (folder / "A" / "circle.png").symlink_to("circle.png")
    (folder / "B" / "out").symlink_to(outside, target_is_directory=True)
    (folder / "B" / "loop").symlink_to(folder, target_is_directory=True)
    os.mkfifo(folder / "B" / "pipe.png")
    Path(os.fsdecode(os.fsencode(folder / "B") + b"/\xff\xfe.png")).write_bytes(png())
    return 9


def cases(folder: Path, seed: int, outside: Path, mutations: int = 28) -> Iterator[Case]:
    """Makes the cases in `folder`, one after the other. Paths in them aim at the folder `outside`."""
    rng = random.Random(seed)
    made = [("folder", *a) for a in archives(outside)] + [("table", *t) for t in tables(outside)]
    for name, content, rows in mutants(rng, mutations):
        made.append(("folder" if name.endswith((".zip", ".tar", ".tgz")) else "table", name, content, rows))
    for number, (source, name, content, rows) in enumerate(made):
        path = folder / f"{number:03d}" / name
        path.parent.mkdir()
        path.write_bytes(content())
        yield Case(name, source, path, rows)
    path = folder / "folder"
    yield Case("folder", "folder", path, hostile_folder(path, outside))
