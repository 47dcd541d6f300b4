"""Real pictures, where they are: whole experiments from the command line, and every planted fault accounted for."""

import io
import json
import re
import struct
import subprocess
import sys
import zipfile
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipdemo import cleaning, images, sampling
from clipdemo.progress import finish
from clipdemo.records import SampleConfig
from clipdemo.sampling import draw_sample, load_sample
from clipdemo.sources.base import MISSING_PICTURE
from clipdemo.workspace import Workspace
from tests.hub_standin import HubStandIn

DATA = Path(__file__).resolve().parents[1] / "../shared/data"
MINI = DATA / "pubmedvision-mini"
pytestmark = pytest.mark.skipif(not MINI.exists(), reason=f"the real pictures are not at {DATA}")


@pytest.mark.parametrize(
    ("source", "path", "models"),
    [("folder", "mednist.zip", ["base", "labels"]), ("pubmedvision", "pubmedvision-mini", ["base", "captions", "labels"])],
)  # fmt: skip
def test_the_whole_experiment_runs_on_real_pictures(tmp_path, source, path, models):
    arguments = ["experiment", "--source", source, "--path", str(DATA / path), "--samples", "240", "--epochs", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "clipdemo", *arguments, "--workspace", str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    comparison = json.loads(Path(done.stdout.splitlines()[-1]).read_text())
    assert [model["name"] for model in comparison["models"]] == models
    assert comparison["synthetic"] is False
    assert all((model["retrieval"] is not None) == ("captions" in models) for model in comparison["models"])


def test_the_whole_experiment_runs_on_pictures_of_the_hub(tmp_path):
    with HubStandIn({"FreedomIntelligence/PubMedVision": {p.name: p for p in MINI.iterdir()}}) as hub:
        arguments = ["experiment", "--source", "pubmedvision", "--samples", "240", "--epochs", "1"]
        done = subprocess.run(
            [sys.executable, "-m", "clipdemo", *arguments, "--workspace", str(tmp_path / "workspace")],
            capture_output=True, text=True, env=hub.environment(tmp_path),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        comparison = json.loads(Path(done.stdout.splitlines()[-1]).read_text())
        sample = load_sample(Workspace(tmp_path / "workspace"), comparison["sample"])
        assert sample.origin["commit"] == hub.commit("FreedomIntelligence/PubMedVision")
    assert sum(comparison["sizes"].values()) == 240


def test_foreign_captions_of_real_articles_are_found_and_english_ones_left_alone():
    rows = json.loads((MINI / "PubMedVision_Original_Caption.json").read_text())
    captions = [row["Original_Caption"] for row in rows]
    found = [caption for caption in captions if cleaning.is_foreign(caption)]
    telling = re.compile(r"\b(?:de|du|des|la|le|les|et|au|en|el|un|une|del|avec|par)\b", re.IGNORECASE)
    really = [caption for caption in found if len(telling.findall(caption)) >= 2]
    assert 70 <= len(found) <= 95
    assert len(really) >= 0.9 * len(found)


def png(array) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(array, dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def lying_png(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header promises so many pixels."""
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"")),
        (b"IEND", b""),
    )
    packed = [struct.pack(">I", len(d)) + kind + d + struct.pack(">I", zlib.crc32(kind + d)) for kind, d in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


BAD_TEXTS = {  # (label, caption) -> the reason that has to be given
    ("", "A caption"): cleaning.NO_LABEL,
    ("The image shows the chest of a patient.", "A caption"): cleaning.SENTENCE_LABEL,
    ("Chest, Abdomen", "A caption"): cleaning.SEVERAL_LABELS,
    ("Others", "A caption"): cleaning.OTHERS_LABEL,
    ("N/A", "A caption"): cleaning.SAYS_NONE_LABEL,
    ("胸部", "A caption"): cleaning.UNKNOWN_LABEL,
    ("Chest", "  "): cleaning.NO_CAPTION,
    ("Chest", "Replace this - DESCRIPTION OF THE IMAGE OR FINDINGS."): cleaning.PLACEHOLDER_CAPTION,
}
BAD_PICTURES = {  # made of a good picture's bytes -> the reason that has to be given
    images.EMPTY: lambda data: b"",
    images.NOT_A_PICTURE: lambda data: b"<html>404</html>",
    images.DAMAGED: lambda data: data[: len(data) // 2],
    images.TOO_LARGE: lambda data: lying_png(60_000, 60_000),
    images.TOO_NARROW: lambda data: png(np.zeros((2, 2000))),
}
EACH = 12
GOOD = 500


def test_200_planted_faults_are_all_accounted_for_and_none_reaches_a_split(tmp_path, workspace):
    with zipfile.ZipFile(MINI / "images_0.zip") as archive:
        known = {Path(name).name: archive.read(name) for name in archive.namelist()[: 2 * GOOD]}
    everything = json.loads((MINI / "PubMedVision_Original_Caption.json").read_text())
    rows = [row for row in everything if Path(row["image"][0]).name in known]
    clean = draw(write(tmp_path / "clean", rows, known), workspace)
    kept = set(clean.manifest["id"])
    good = [row for row in rows if row["id"] in kept][:GOOD]  # with no natural fault among them

    pictures = {Path(row["image"][0]).name: known[Path(row["image"][0]).name] for row in good}
    planted: Counter[str] = Counter()
    bad = []

    def plant(reason: str, label="Chest", caption="A caption", data: bytes | None = None, **changes) -> None:
        name = f"pmc_{100_000 + len(bad)}_0.jpg"
        if data is not None:
            pictures[name] = data
        row = {"id": f"bad_{len(bad)}", "image": [f"images/{name}"], "modality": "CT", "body_part": label}
        bad.append(row | {"Original_Caption": caption} | changes)
        planted[reason] += 1

    originals = [pictures[Path(row["image"][0]).name] for row in good]
    for i in range(EACH):
        for (label, caption), reason in BAD_TEXTS.items():
            plant(reason, label, caption, originals[i])
        for reason, spoil in BAD_PICTURES.items():
            plant(reason, data=spoil(originals[i]))
        plant(MISSING_PICTURE)
        plant("row has no picture", image=[])
        plant("row is damaged", body_part=["a", {"b": 1}])
        pixels = np.asarray(images.decode(originals[i]))
        plant(sampling.EXACT_DUPLICATE, data=png(pixels))
        plant(
            sampling.NEAR_DUPLICATE,
            data=png(np.clip(np.asarray(images.decode(originals[i + EACH])) * 0.97 + 2, 0, 255)),
        )
    bad.extend(["not an object", 7, None])
    planted["row is damaged"] += 3
    assert planted.total() >= 200

    sample = draw(write(tmp_path / "planted", good + bad, pictures), workspace)
    report = sample.report
    found = Counter({entry.reason: entry.count for entry in report.dropped})
    natural = {entry.reason for entry in clean.report.dropped}
    assert {reason: found[reason] for reason in planted} == planted, (found, natural)
    assert report.rows == GOOD + len(bad) == sum(found.values()) + report.sampled + report.not_drawn
    taken = set(sample.manifest["id"])
    copies = {f"bad_{i}" for i, row in enumerate(bad[:-3]) if row["id"] in taken}
    repeats = {row["id"] for i, row in enumerate(bad[:-3]) if i % 18 >= 16}
    assert copies <= repeats  # a copy may be taken instead of its original, never beside it
    assert report.sampled == GOOD


def write(folder: Path, rows: list, pictures: dict[str, bytes]) -> Path:
    """A folder in PubMedVision's layout."""
    folder.mkdir()
    (folder / "PubMedVision_Original_Caption.json").write_text(json.dumps(rows, ensure_ascii=False))
    with zipfile.ZipFile(folder / "images_0.zip", "w") as archive:
        for name, data in pictures.items():
            archive.writestr(f"images/{name}", data)
    return folder


def draw(path: Path, workspace):
    config = SampleConfig(source="pubmedvision", samples=10_000, options={"path": str(path)})
    return finish(draw_sample(config, workspace))
