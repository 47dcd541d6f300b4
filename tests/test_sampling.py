import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipdemo import images, sampling
from clipdemo.cleaning import FOREIGN_CAPTION, RARE_CLASS, RARE_LABEL
from clipdemo.errors import BadSettings, SampleError, SourceError
from clipdemo.images import encode_png
from clipdemo.progress import finish
from clipdemo.records import SPLITS, CleaningRules, SampleConfig
from clipdemo.sampling import draw_sample, equal_shares, load_sample, proportional
from clipdemo.sources.base import MISSING_PICTURE
from tests.tiny_source import blotches

CLASSES = ("Cat", "Dog", "Eel")


def plain_rows(n, label=lambda i: CLASSES[i % 3], group=lambda i: "", picture=lambda i: i):
    return [(label(i), f"caption {i}", group(i), picture(i)) for i in range(n)]


def draw(workspace, samples=60, **settings):
    return finish(draw_sample(SampleConfig(source="tiny", samples=samples, **settings), workspace))


# ---- shares


def test_proportional_by_hand():
    assert proportional({"a": 50, "b": 30, "c": 20}, 7) == {"a": 4, "b": 2, "c": 1}  # 3.5, 2.1, 1.4


@given(st.dictionaries(st.text(min_size=1), st.integers(1, 10_000), min_size=1, max_size=15), st.integers(0, 5000))
def test_proportional_adds_up_and_is_within_one_of_exact(counts, total):
    shares = proportional(counts, total)
    assert sum(shares.values()) == total
    assert all(abs(shares[c] - total * n / sum(counts.values())) < 1 for c, n in counts.items())


def test_equal_shares_spread_what_a_small_class_cannot_give():
    assert equal_shares({"a": 100, "b": 2, "c": 100}, 30) == {"a": 14, "b": 2, "c": 14}


@given(st.dictionaries(st.text(min_size=1), st.integers(0, 50), min_size=1, max_size=12), st.integers(0, 400))
def test_equal_shares_never_pass_a_limit_nor_lose_what_could_be_given(limits, total):
    shares = equal_shares(limits, total)
    assert all(0 <= shares[c] <= limits[c] for c in limits)
    assert sum(shares.values()) == min(total, sum(limits.values()))
    unfilled = [shares[c] for c in limits if shares[c] < limits[c]]
    assert not unfilled or max(shares.values()) <= min(unfilled) + 1


# ---- samples


def test_train_is_balanced_and_the_rest_follows_the_source(workspace, tiny_source):
    tiny_source(plain_rows(200, label=lambda i: "Cat" if i % 10 < 6 else "Dog" if i % 10 < 9 else "Eel"))
    sample = draw(workspace, samples=60, train=0.5, validation=0.25, test=0.25)
    assert sample.report.split_classes == {
        "train": {"Cat": 10, "Dog": 10, "Eel": 10},
        "validation": {"Cat": 9, "Dog": 5, "Eel": 1},
        "test": {"Cat": 9, "Dog": 5, "Eel": 1},
    }
    assert sample.report.shortfall == {}


def test_a_class_too_small_for_its_share_is_reported_and_made_up_by_others(workspace, tiny_source):
    tiny_source(plain_rows(120, label=lambda i: "Eel" if i < 8 else CLASSES[i % 2]))
    sample = draw(workspace, samples=60)
    train = sample.report.split_classes["train"]
    assert sum(train.values()) == 48
    assert sample.report.shortfall == {"Eel": 16 - train["Eel"]}
    assert train["Eel"] <= 8
    assert train["Cat"] == train["Dog"]


def test_no_picture_or_near_duplicate_stands_twice(workspace, tiny_source):
    brighter = [encode_png(np.minimum(blotches(i).astype(int) + 3, 255).astype(np.uint8)) for i in range(30)]
    rows = plain_rows(90) + plain_rows(30) + plain_rows(30, picture=lambda i: brighter[i])
    tiny_source(rows)
    sample = draw(workspace, samples=90)
    seeds = [int(name.removesuffix(".png")) for name in sample.manifest["image"]]
    originals = [i if i < 90 else i - 90 if i < 120 else i - 120 for i in seeds]
    assert len(set(originals)) == len(originals) == 90
    dropped = {d.reason: d.count for d in sample.report.dropped}
    assert dropped[sampling.EXACT_DUPLICATE] > 0
    assert dropped[sampling.NEAR_DUPLICATE] > 0


@pytest.mark.parametrize("seed", range(5))
def test_split_never_shares_a_group(workspace, tiny_source, seed):
    tiny_source(plain_rows(300, group=lambda i: f"case {i // 4}"))
    sample = draw(workspace, samples=90, seed=seed)
    splits_of_group = sample.manifest.groupby("group")["split"].nunique()
    assert splits_of_group.max() == 1
    assert sample.manifest["group"].duplicated().any()  # or the test would show nothing


def test_rows_of_no_group_are_alone(workspace, tiny_source):
    tiny_source(plain_rows(90))
    assert set(draw(workspace, samples=90).manifest["split"]) == set(SPLITS)


def test_unreadable_pictures_are_counted_and_replaced(workspace, tiny_source):
    tiny_source(plain_rows(120, picture=lambda i: None if i % 6 == 0 else b"not a picture" if i % 6 == 1 else i))
    sample = draw(workspace, samples=60)
    assert len(sample.manifest) == 60
    assert {d.reason for d in sample.report.dropped} == {MISSING_PICTURE, images.NOT_A_PICTURE}
    assert all(int(name[:8]) % 6 > 1 for name in sample.manifest["image"])


def test_every_row_of_the_source_is_accounted_for(workspace, tiny_source):
    messy = [("", "x", "", 1), ("Cat, Dog", "x", "", 2), ("Cat", "N/A", "", 3), ("Dog", "fine", "", None)]
    tiny_source(plain_rows(100, group=lambda i: f"g{i // 2}") + messy * 3)
    report = draw(workspace, samples=60).report
    assert report.rows == 112
    assert report.rows == sum(d.count for d in report.dropped) + report.sampled + report.not_drawn
    assert sum(sum(classes.values()) for classes in report.split_classes.values()) == report.sampled == 60


def test_the_same_settings_give_the_same_hash_and_other_seeds_another(tmp_path, tiny_source):
    from clipdemo.workspace import Workspace

    tiny_source(plain_rows(150))
    first, again = (draw(Workspace(tmp_path / name)) for name in "ab")
    assert first.content_hash == again.content_hash
    assert first.manifest.equals(again.manifest)
    assert draw(Workspace(tmp_path / "a"), seed=1).content_hash != first.content_hash


def test_a_sample_is_drawn_once_and_found_again(workspace, tiny_source):
    source = tiny_source(plain_rows(150))
    first = draw(workspace)
    source.rows = []  # nothing to draw from any more
    assert draw(workspace) == first == load_sample(workspace, first.id)


def test_leaving_in_the_middle_leaves_nothing_behind(workspace, tiny_source):
    tiny_source(plain_rows(150))
    activity = draw_sample(SampleConfig(source="tiny", samples=90), workspace)
    for progress in activity:
        if progress.done >= 32:
            break
    activity.close()
    assert workspace.names("samples") == []
    assert [p for p in (workspace.root / ".partial").iterdir() if p.is_dir()] == []


@pytest.mark.parametrize(
    ("rows", "settings", "error", "says"),
    [
        (plain_rows(90, label=lambda i: "Cat"), {}, SampleError, "at least 2"),
        (plain_rows(90, picture=lambda i: None), {}, SampleError, "could be used .most often: picture is missing"),
        (plain_rows(90), {"cleaning": CleaningRules(exclude=("Fox",))}, BadSettings, "'Fox' is no class"),
        (plain_rows(90), {"samples": 12, "train": 0.1, "validation": 0.45, "test": 0.45}, SampleError, "too few"),
    ],
)
def test_what_cannot_be_drawn_is_said_and_nothing_is_made(workspace, tiny_source, rows, settings, error, says):
    tiny_source(rows)
    with pytest.raises(error, match=says):
        draw(workspace, **settings)
    assert workspace.names("samples") == []


def test_a_class_of_one_picture_is_left_out_and_counted(workspace, tiny_source):
    tiny_source(plain_rows(91, label=lambda i: "Eel" if i == 5 else CLASSES[i % 2]))
    sample = draw(workspace)
    assert sample.classes == ("Cat", "Dog")
    assert {d.reason: d.count for d in sample.report.dropped} == {RARE_LABEL: 1}


def test_rare_classes_can_be_merged(workspace, tiny_source):
    tiny_source(plain_rows(94, label=lambda i: f"Rare {i}" if i < 4 else CLASSES[i % 2]), classes=None)
    sample = draw(workspace, samples=94, cleaning=CleaningRules(rare="merge"))
    assert sample.classes == ("Cat", "Dog", RARE_CLASS)
    assert sample.report.source_classes[RARE_CLASS] == 4


def test_a_class_can_be_excluded(workspace, tiny_source):
    tiny_source(plain_rows(90))
    assert draw(workspace, cleaning=CleaningRules(exclude=("Eel",))).classes == ("Cat", "Dog")


def test_where_fewer_are_usable_all_are_taken(workspace, tiny_source):
    tiny_source(plain_rows(45))
    assert draw(workspace, samples=4096).sizes == {"train": 36, "validation": 4, "test": 5}


def test_without_labels_pictures_are_split_as_they_come(workspace, tiny_source):
    tiny_source(plain_rows(90, label=lambda i: "", group=lambda i: f"case {i // 3}"), classes=None)
    sample = draw(workspace, samples=60)
    assert sample.classes == () and sample.texts == ("captions",)
    assert sample.sizes == {"train": 48, "validation": 6, "test": 6}
    assert sample.report.source_classes == {} and sample.report.shortfall == {}
    with pytest.raises(BadSettings, match="has no labels"):
        sample.require("labels")


def test_without_captions_only_labels_count(workspace, tiny_source):
    tiny_source([(label, "", group, picture) for label, _, group, picture in plain_rows(90)])
    sample = draw(workspace, samples=60)
    assert sample.texts == ("labels",) and sample.report.dropped == []
    assert set(sample.manifest["caption"]) == {""} and set(sample.manifest["tokens"]) == {0}


def test_one_of_the_two_texts_can_be_left_out_of_account(workspace, tiny_source):
    rows = [*plain_rows(60), ("", "a caption alone", "", 100), ("Cat", "", "", 101)]
    tiny_source(rows)
    assert draw(workspace, samples=62, cleaning=CleaningRules(texts="captions")).report.kept == 61
    assert draw(workspace, samples=62, cleaning=CleaningRules(texts="labels")).report.kept == 61
    assert draw(workspace, samples=62).report.kept == 60


def test_tokens_are_counted_to_the_end_of_the_caption(workspace, tiny_source):
    tiny_source([(label, "chest " * (100 if i % 2 else 10), "", i) for i, (label, *_) in enumerate(plain_rows(60))])
    sample = draw(workspace, samples=60)
    assert set(sample.manifest["tokens"]) == {12, 102}
    assert sample.report.long_captions == 30


FRENCH = "Radiographie du thorax montrant une opacité du lobe supérieur droit chez un patient fumeur"


def test_foreign_captions_are_counted_or_left_out(workspace, tiny_source):
    rows = [
        (label, FRENCH if i % 3 == 0 else f"chest number {i}", "", i) for i, (label, *_) in enumerate(plain_rows(90))
    ]
    tiny_source([(CLASSES[i // 30], *row[1:]) for i, row in enumerate(rows)])
    assert draw(workspace, samples=90).report.foreign_captions == 30
    without = draw(workspace, samples=90, cleaning=CleaningRules(foreign="drop")).report
    assert without.foreign_captions == 0
    assert {d.reason: d.count for d in without.dropped} == {FOREIGN_CAPTION: 30}


def test_repeated_pictures_are_removed_kept_on_one_side_or_kept(workspace, tiny_source):
    tiny_source(plain_rows(60) + plain_rows(60))  # each picture twice
    removed, one_side, kept = (
        draw(workspace, samples=120, cleaning=CleaningRules(repeats=how)) for how in ("remove", "one-side", "keep")
    )
    assert removed.report.sampled == 60
    assert kept.report.sampled == 120 and kept.report.dropped == []
    splits = {
        s.config.cleaning.repeats: s.manifest.groupby("pixels")["split"].nunique().max() for s in (one_side, kept)
    }
    assert splits == {"one-side": 1, "keep": 2}
    assert 60 < one_side.report.sampled <= 120
    assert {d.reason for d in one_side.report.dropped} <= {sampling.DUPLICATE_ELSEWHERE}


def test_dropped_duplicates_can_be_looked_at_beside_the_one_that_was_kept(workspace, tiny_source):
    tiny_source(plain_rows(60) + plain_rows(60))
    sample = draw(workspace, samples=120)
    (entry,) = sample.report.dropped
    for image, example in zip(entry.pictures, entry.examples, strict=True):
        _, twin = example.split(" = ")
        kept = sample.manifest.set_index("id").loc[twin, "image"]
        assert images.decode(sample.dropped_picture(image)) == images.decode(sample.picture(kept))


def test_an_unknown_source_is_named(workspace):
    with pytest.raises(SourceError, match="'fantom' is not known: choose one of phantom"):
        finish(draw_sample(SampleConfig(source="fantom"), workspace))


def test_a_missing_sample_is_named(workspace):
    with pytest.raises(SampleError, match="no sample 'nothing'"):
        load_sample(workspace, "nothing")
