from types import SimpleNamespace

import numpy as np
import open_clip
import pytest
import torch

from clipdemo import tokens
from clipdemo.models import BUILT_IN_FOLDER, Clip
from clipdemo.progress import finish
from clipdemo.records import SampleConfig
from clipdemo.sampling import content_hash, draw_sample
from clipdemo.tokens import sample_tokens, tokenizer_digest

CAPTIONS = ("", "a cat", "Axial CT, T2-weighted; “nodule” (3.5 cm).", "ÄÖ 胸部 1/2", "word " * 200, "A CAT", "a  cat ")


def make_clip(read):
    """A CLIP of which only the tokenizer is there."""
    return Clip(None, read, 64, (0.5,) * 3, (0.25,) * 3, torch.device("cpu"))


@pytest.fixture(scope="module")
def clip():
    return make_clip(open_clip.get_tokenizer(f"local-dir:{BUILT_IN_FOLDER}"))


def letters(texts, length=16):
    """Another tokenizer: one id a letter."""
    table = torch.zeros(len(texts), length, dtype=torch.int64)
    for row, text in zip(table, texts, strict=True):
        ids = [1 + ord(letter) % 90 for letter in text[: length - 1]] + [99]
        row[: len(ids)] = torch.tensor(ids)
    return table


@pytest.fixture
def draw(workspace, tiny_source):
    """Draws a sample of 24 pictures with the captions given, in turn."""

    def drawn(captions=CAPTIONS):
        rows = [("Cat" if i % 2 else "Dog", f"{i} {captions[i % len(captions)]}", "", i) for i in range(60)]
        tiny_source(rows, classes=("Cat", "Dog"))
        return finish(draw_sample(SampleConfig(source="tiny", samples=24), workspace))

    return drawn


def files(workspace):
    return sorted((workspace.root / "cache").glob("tokens-*/tokens.npy"))


def slowly(sample, clip):
    """Twin: one caption at a time."""
    captions = sample.manifest["caption"].tolist()
    return np.concatenate([clip.tokens([caption]).numpy() for caption in captions])


def test_each_row_is_its_caption_as_the_tokenizer_reads_it(workspace, draw, clip):
    sample = draw()
    table = finish(sample_tokens(sample, clip, workspace))
    assert table.dtype == np.int32 and table.shape == (24, 77)
    np.testing.assert_array_equal(table, slowly(sample, clip))


@pytest.mark.parametrize("rows", [1, 7, 24])
def test_pieces_make_the_same_table_and_progress_adds_up(workspace, draw, clip, monkeypatch, rows):
    monkeypatch.setattr(tokens, "_ROWS", rows)
    sample = draw()
    activity, seen = sample_tokens(sample, clip, workspace), []
    while True:
        try:
            seen.append(next(activity))
        except StopIteration as end:
            table = end.value
            break
    np.testing.assert_array_equal(table, slowly(sample, clip))
    expected = [min(24, done) for done in range(rows, 24 + rows, rows)] if rows < 24 else []
    assert [(p.done, p.total) for p in seen] == [(done, 24) for done in expected]


def test_it_is_read_only_and_lies_on_disk(workspace, draw, clip):
    table = finish(sample_tokens(draw(), clip, workspace))
    assert isinstance(table, np.memmap) and not table.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        table[0, 0] = 1


def test_captions_are_read_once(workspace, draw):
    read = []

    def counting(texts):
        read.extend(texts)
        return letters(texts)

    clip, sample = make_clip(counting), draw()
    first = finish(sample_tokens(sample, clip, workspace))
    (path,) = files(workspace)
    written = path.stat().st_mtime_ns
    assert set(sample.manifest["caption"]) <= set(read)
    read.clear()
    again = finish(sample_tokens(sample, clip, workspace))
    assert not set(sample.manifest["caption"]) & set(read)
    assert files(workspace) == [path] and path.stat().st_mtime_ns == written
    np.testing.assert_array_equal(first, again)


def test_another_tokenizer_has_a_file_of_its_own(workspace, draw, clip):
    sample, others = draw(), [make_clip(letters), make_clip(lambda texts: letters(texts, 17))]
    tables = [finish(sample_tokens(sample, c, workspace)) for c in (clip, *others)]
    assert [table.shape for table in tables] == [(24, 77), (24, 16), (24, 17)]
    assert len(files(workspace)) == 3
    for c, table in zip((clip, *others), tables, strict=True):
        np.testing.assert_array_equal(table, slowly(sample, c))
        np.testing.assert_array_equal(finish(sample_tokens(sample, c, workspace)), table)
    assert len(files(workspace)) == 3


def test_tokenizers_that_read_alike_share_a_file(workspace, draw, clip):
    sample = draw()
    finish(sample_tokens(sample, clip, workspace))
    finish(sample_tokens(sample, make_clip(lambda texts: clip.tokens(texts)), workspace))
    assert len(files(workspace)) == 1


@pytest.mark.parametrize(
    "other",
    [
        lambda read: lambda texts: read(texts).clamp(max=49_000),
        lambda read: lambda texts: read([text.replace(",", "") for text in texts]),
        lambda read: lambda texts: read([text.encode("ascii", "ignore").decode() for text in texts]),
        lambda read: lambda texts: read([text[:100] for text in texts]),
        lambda read: lambda texts: read(texts)[:, :76],
    ],
    ids=["ends with another id", "drops commas", "drops foreign letters", "reads less of long texts", "is shorter"],
)
def test_a_digest_tells_tokenizers_apart(clip, other):
    assert tokenizer_digest(make_clip(other(clip.tokens))) != tokenizer_digest(clip)


def test_other_captions_have_a_file_of_their_own(workspace, draw, clip):
    first = draw()
    finish(sample_tokens(first, clip, workspace))
    captions = first.manifest.assign(caption="something else")
    folder = workspace.root / "other"
    folder.mkdir()
    captions.to_parquet(folder / "manifest.parquet")
    other = SimpleNamespace(content_hash=content_hash(captions), folder=folder, manifest=captions)
    np.testing.assert_array_equal(finish(sample_tokens(other, clip, workspace)), slowly(other, clip))
    assert len(files(workspace)) == 2


def test_leaving_early_leaves_nothing_and_it_can_be_done_again(workspace, draw, clip, monkeypatch):
    monkeypatch.setattr(tokens, "_ROWS", 5)
    sample = draw()
    activity = sample_tokens(sample, clip, workspace)
    next(activity)
    activity.close()
    assert files(workspace) == [] and not [p for p in (workspace.root / ".partial").iterdir() if p.is_dir()]
    np.testing.assert_array_equal(finish(sample_tokens(sample, clip, workspace)), slowly(sample, clip))
