import json
import logging
import os
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipdemo import embeddings
from clipdemo.embeddings import as_kept, embeddings_id, image_embeddings, model_id, unit_rows
from clipdemo.models import Clip, open_model
from clipdemo.pixels import sample_pixels
from clipdemo.progress import finish
from clipdemo.records import SampleConfig
from clipdemo.sampling import draw_sample
from tests.training.test_loop import small_base

STEP = 4  # of 15 test pictures: four steps, the last of them short


@pytest.fixture(autouse=True)
def small_steps(monkeypatch):
    monkeypatch.setattr(embeddings, "STEP", STEP)


@pytest.fixture(scope="module")
def clip(base):
    return open_model(base)


@pytest.fixture
def sample(workspace, tiny_source):
    tiny_source([("Cat" if i % 2 else "Dog", f"caption {i}", "", i) for i in range(60)], classes=("Cat", "Dog"))
    config = SampleConfig(source="tiny", samples=60, train=0.5, validation=0.25, test=0.25)
    return finish(draw_sample(config, workspace))


@pytest.fixture
def encoded(monkeypatch):
    """How many pictures were encoded, a number a call."""
    calls, encode = [], Clip.encode_images

    def counting(clip, pixels):
        calls.append(len(pixels))
        return encode(clip, pixels)

    monkeypatch.setattr(Clip, "encode_images", counting)
    return calls


@pytest.fixture
def name(base, clip, sample):
    return embeddings_id(model_id(None, base), clip, sample, "test")


def get(clip, base, sample, workspace, split="test"):
    return finish(image_embeddings(clip, model_id(None, base), sample, split, workspace))


def fresh(clip, sample, workspace, split="test"):
    pixels = finish(sample_pixels(sample, clip.image_size, workspace))
    return clip.encode_images(pixels[sample.rows(split).index.to_numpy()])


# ---- what they are


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_rows_are_fresh_features_rounded_to_float16_picture_by_picture(clip, base, sample, workspace, split):
    kept = get(clip, base, sample, workspace, split)
    whole = fresh(clip, sample, workspace, split)
    assert kept.dtype == np.float32 and kept.shape == whole.shape
    pixels = finish(sample_pixels(sample, clip.image_size, workspace))
    for row, place in zip(kept, sample.rows(split).index, strict=True):
        alone = clip.encode_images(pixels[place : place + 1])[0]
        rounded = alone.astype(np.float16).astype(np.float32)
        np.testing.assert_allclose(row, rounded / np.linalg.norm(rounded), atol=1e-3)  # a float16 place at most
    assert np.linalg.norm(whole[0] - whole[1]) > 0.01  # or rows could be in any order


def test_they_are_exactly_what_fresh_features_become_on_disk(clip, base, sample, workspace, monkeypatch):
    monkeypatch.setattr(embeddings, "STEP", 1024)  # one batch, as `fresh`: another batch rounds otherwise
    assert np.array_equal(get(clip, base, sample, workspace), as_kept(fresh(clip, sample, workspace)))


@given(st.integers(0, 2**32 - 1), st.integers(1, 600))
def test_float16_moves_a_cosine_by_less_than_a_thousandth(seed, dim):
    pairs = np.random.default_rng(seed).normal(size=(2, dim)).astype(np.float32)
    kept = as_kept(unit_rows(pairs))
    np.testing.assert_allclose(np.linalg.norm(kept, axis=1), 1, rtol=1e-5)
    assert abs(kept[0] @ kept[1] - unit_rows(pairs)[0] @ unit_rows(pairs)[1]) < 1e-3


def test_the_second_who_asks_reads_what_the_first_had_made(clip, base, sample, workspace, encoded):
    first = get(clip, base, sample, workspace)
    assert encoded == [4, 4, 4, 3]
    second = get(clip, base, sample, workspace)
    assert np.array_equal(first, second)
    assert len(encoded) == 4


def test_other_weights_preprocessing_pictures_and_splits_have_a_name_of_their_own(
    clip, base, sample, workspace, tmp_path_factory
):
    other = small_base(tmp_path_factory.mktemp("other"), layers=1)
    again = finish(draw_sample(sample.config.model_copy(update={"seed": 1}), workspace))
    wider = replace(clip, std=(0.3, 0.3, 0.3))
    names = {
        embeddings_id(model_id(None, base), clip, sample, "test"),
        embeddings_id(model_id(None, base), clip, sample, "validation"),
        embeddings_id(model_id(None, other), clip, sample, "test"),
        embeddings_id(model_id(None, base), wider, sample, "test"),
        embeddings_id(model_id(None, base), clip, again, "test"),
    }
    assert len(names) == 5


def test_progress_ends_with_all_pictures(clip, base, sample, workspace):
    told = [p for p in image_embeddings(clip, model_id(None, base), sample, "test", workspace, "here")]
    assert [(p.done, p.total) for p in told if p.stage == "here"] == [(4, 15), (8, 15), (12, 15), (15, 15)]


# ---- what is broken off is gone on with


@pytest.mark.parametrize(("steps", "left"), [(1, [4, 4, 3]), (3, [3]), (4, [])])
def test_finished_steps_are_not_encoded_again(clip, base, sample, workspace, encoded, name, steps, left):
    finish(sample_pixels(sample, clip.image_size, workspace))
    activity = image_embeddings(clip, model_id(None, base), sample, "test", workspace)
    for _ in range(steps):
        next(activity)
    activity.close()
    assert not workspace.folder("embeddings", name).exists()
    encoded.clear()
    resumed = get(clip, base, sample, workspace)
    assert encoded == left
    workspace.delete("embeddings", name)
    assert np.array_equal(resumed, get(clip, base, sample, workspace))


@pytest.mark.parametrize(
    "note", [b"", b"{", b'{"done": "all"}', b'{"done": 99}', b'{"done": -4}', b"[4]", b'{"finished": 4}']
)
def test_a_note_that_makes_no_sense_starts_over(clip, base, sample, workspace, encoded, name, note):
    finish(sample_pixels(sample, clip.image_size, workspace))
    activity = image_embeddings(clip, model_id(None, base), sample, "test", workspace)
    next(activity)
    activity.close()
    (workspace.root / ".partial" / f"embeddings-{name}" / "done.json").write_bytes(note)
    encoded.clear()
    found = get(clip, base, sample, workspace)
    assert encoded == [4, 4, 4, 3]
    np.testing.assert_allclose(found, as_kept(fresh(clip, sample, workspace)), atol=1e-3)


PROGRAM = """
import os, pathlib, signal, sys
from clipdemo import embeddings
from clipdemo.models import Clip, open_model
from clipdemo.progress import finish
from clipdemo.sampling import load_sample
from clipdemo.workspace import Workspace

root, name, base, log, last = sys.argv[1:]
embeddings.STEP = 4
encode = Clip.encode_images

def noted(clip, pixels):
    with pathlib.Path(log).open("a") as file:
        file.write(f"{os.getpid()} {len(pixels)}\\n")
    if len(pathlib.Path(log).read_text().splitlines()) == int(last):
        os.kill(os.getpid(), signal.SIGKILL)
    return encode(clip, pixels)

Clip.encode_images = noted
place = Workspace(root)
clip = open_model(base)
print("ready", flush=True)
sys.stdin.readline()
finish(embeddings.image_embeddings(clip, embeddings.model_id(None, base), load_sample(place, name), "test", place))
"""


def process(workspace, sample, base, log, killed_at=0):
    """A process that opens the model, says so, and encodes when it is told to."""
    command = [sys.executable, "-c", PROGRAM, str(workspace.root), sample.id, base, str(log), str(killed_at)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})


def test_after_kill_9_only_the_rest_is_encoded(clip, base, sample, workspace, tmp_path, encoded, name):
    log = tmp_path / "log"
    killed = process(workspace, sample, base, log, killed_at=3)
    killed.communicate("\n")
    assert killed.returncode == -signal.SIGKILL
    assert [line.split()[1] for line in log.read_text().splitlines()] == ["4", "4", "4"]  # the third did not return
    resumed = get(clip, base, sample, workspace)
    assert encoded == [4, 3]
    workspace.delete("embeddings", name)
    np.testing.assert_allclose(resumed, get(clip, base, sample, workspace), atol=1e-3)


def test_two_processes_that_want_the_same_encode_it_once(clip, base, sample, workspace, tmp_path, encoded, name):
    log = tmp_path / "log"
    both = [process(workspace, sample, base, log) for _ in range(2)]
    for one in both:
        assert one.stdout.readline() == "ready\n"
    for one in both:
        one.stdin.write("\n")
        one.stdin.flush()
    for one in both:
        one.communicate()
    assert [one.returncode for one in both] == [0, 0]
    lines = [line.split() for line in log.read_text().splitlines()]
    assert [n for _, n in lines] == ["4", "4", "4", "3"]
    assert len({pid for pid, _ in lines}) == 1
    get(clip, base, sample, workspace)
    assert encoded == []


# ---- what is damaged is made again


def cut(folder):
    path = folder / "images.npy"
    path.write_bytes(path.read_bytes()[:-100])


def one_bit(folder):
    data = bytearray((folder / "images.npy").read_bytes())
    data[-1] ^= 1
    (folder / "images.npy").write_bytes(bytes(data))


def pickled(folder):
    np.save(folder / "images.npy", np.array([{"not": "numbers"}], dtype=object), allow_pickle=True)


def described(text):
    return lambda folder: (folder / "embeddings.json").write_text(text)


DAMAGES = {
    "truncated": cut,
    "empty": lambda folder: (folder / "images.npy").write_bytes(b""),
    "one bit": one_bit,
    "of another model": lambda folder: np.save(folder / "images.npy", np.zeros((15, 3), np.float16)),
    "pickled objects": pickled,
    "gone": lambda folder: (folder / "images.npy").unlink(),
    "without its description": lambda folder: (folder / "embeddings.json").unlink(),
    "of another version": described('{"format": 99, "rows": 15}'),
    "described by nonsense": described("[" * 2000),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_made_again_and_the_log_says_so(clip, base, sample, workspace, encoded, name, caplog, damage):
    before = get(clip, base, sample, workspace)
    assert not caplog.records
    DAMAGES[damage](workspace.folder("embeddings", name))
    encoded.clear()
    with caplog.at_level(logging.WARNING, logger="clipdemo.embeddings"):
        after = get(clip, base, sample, workspace)
    assert np.array_equal(before, after)
    assert encoded == [4, 4, 4, 3]
    assert [f"embeddings {name} are damaged" in record.getMessage() for record in caplog.records] == [True]
    caplog.clear()
    get(clip, base, sample, workspace)
    assert not caplog.records and len(encoded) == 4


def test_the_file_says_how_many_rows_it_has(clip, base, sample, workspace, name):
    get(clip, base, sample, workspace)
    folder = workspace.folder("embeddings", name)
    assert json.loads((folder / "embeddings.json").read_text())["rows"] == 15
    assert np.load(folder / "images.npy").dtype == np.float16
    assert sorted(path.name for path in folder.iterdir()) == ["embeddings.json", "images.npy"]
