import builtins
import io
import json
import logging
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial import procrustes
from sklearn.decomposition import PCA
from typer.testing import CliRunner

from clipdemo import projection
from clipdemo import sample_map as maps
from clipdemo.cli import app
from clipdemo.embeddings import unit_rows
from clipdemo.errors import BadSettings, ComparisonError
from clipdemo.jobs import list_jobs
from clipdemo.models import Clip
from clipdemo.progress import finish
from clipdemo.projection import (
    MapSettings,
    aligned,
    evenly_by_class,
    gap_axes,
    in_words,
    modality_gap,
    pca_map,
    principal_axes,
    umap_map,
)
from clipdemo.records import RunConfig
from clipdemo.sample_map import find_map, load_map, sample_map
from clipdemo.training.runs import begin_run
from tests.test_interpolation import made_up_run, tiny_sample
from tests.training.test_loop import small_base
from tests.workspace_factory import make_sample

UMAP = MapSettings(method="umap", neighbours=5)


def rows(n, dim=8, seed=0, shift=0.0):
    return unit_rows(np.random.default_rng(seed).normal(size=(n, dim)) * np.arange(1, dim + 1) + shift)


def two_models(n=30, m=4):
    images = {"base": rows(n, shift=2), "tuned": rows(n, seed=1, shift=1)}
    return images, {"base": rows(m, seed=2, shift=-2), "tuned": rows(m, seed=3, shift=-1)}


# ---- PCA


@given(st.integers(0, 2**32 - 1), st.integers(3, 60), st.integers(2, 20))
def test_pca_is_scikit_learns_with_signs_and_shares(seed, n, dim):
    data = rows(n, dim, seed)
    other = PCA(2, svd_solver="full").fit(data.astype(np.float64))
    axes = principal_axes(data)
    values = np.linalg.eigvalsh(np.cov(data.T.astype(np.float64)))[::-1]
    np.testing.assert_allclose(axes.variance, other.explained_variance_ratio_[:2], atol=1e-6)
    if values[0] - values[1] > 1e-3 and values[1] - (values[2] if dim > 2 else 0) > 1e-3:  # else any turn is as right
        np.testing.assert_allclose(axes.place(data), other.transform(data), atol=1e-4)


def test_pca_by_hand():
    axes = principal_axes(np.array([[0.0, 0], [-2, 0], [0, 1], [-2, 1]]))
    np.testing.assert_allclose(axes.directions, [[1, 0], [0, 1]])  # never (-1, 0)
    np.testing.assert_allclose(axes.variance, [0.8, 0.2])  # 1 and 1/4 of 5/4
    np.testing.assert_allclose(axes.place(np.array([[0.0, 0.5]])), [[1, 0]])


def test_sums_in_stretches_are_the_whole(monkeypatch):
    data = rows(50)
    whole = principal_axes(data).place(data)
    monkeypatch.setattr(projection, "_CHUNK", 7)
    np.testing.assert_allclose(principal_axes(data).place(data), whole, atol=1e-6)


def test_pictures_and_texts_are_centred_together_or_apart():
    images, texts = rows(40, shift=5), rows(40, seed=1, shift=-5)
    together = pca_map({"m": images}, {"m": texts})
    apart = pca_map({"m": images}, {"m": texts}, MapSettings(view="apart"))

    def distance(found):
        return np.linalg.norm(found.images["m"].mean(0) - found.texts["m"].mean(0))

    assert distance(together) > 0.9 * modality_gap(images, texts).distance
    assert distance(apart) < 1e-5
    assert together.facts["m"].gap_shown == pytest.approx(distance(together) / modality_gap(images, texts).distance)
    assert apart.facts["m"].gap_shown is None


def test_without_sentences_there_is_a_map_and_no_gap():
    found = pca_map({"m": rows(20)}, {"m": np.empty((0, 8), np.float32)})
    assert found.images["m"].shape == (20, 2) and found.texts["m"].shape == (0, 2)
    assert found.facts["m"].gap is None
    np.testing.assert_allclose(found.images["m"], principal_axes(rows(20)).place(rows(20)))


def test_equal_pictures_lie_in_one_place():
    same = np.tile(rows(1), (6, 1))
    found = pca_map({"a": same, "b": same}, {"a": same[:2], "b": same[:2]})
    for model in ("a", "b"):
        np.testing.assert_allclose(found.images[model], 0, atol=1e-6)
        assert sum(found.facts[model].variance) == pytest.approx(0, abs=1) and found.facts[model].disparity <= 1


def test_models_of_other_pictures_are_refused():
    images, texts = two_models()
    with pytest.raises(BadSettings, match=r"the same pictures and texts of all its models: found .*29"):
        pca_map(images | {"tuned": images["tuned"][1:]}, texts)


# ---- the modality gap


def test_the_gap_by_hand():
    images = np.array([[1.0, 0], [0.6, 0.8]])
    texts = np.array([[0.0, 1], [-1, 0]])
    gap = modality_gap(images, texts, np.array([0, 0]))
    assert gap.distance == pytest.approx(math.hypot(0.8 + 0.5, 0.4 - 0.5))  # means (0.8, 0.4) and (-0.5, 0.5)
    assert gap.matching == pytest.approx((0 + 0.8) / 2)
    assert gap.others == pytest.approx((-1 - 0.6) / 2)
    assert "lie 1.30 apart" in gap.sentence and "0.40 on average, with the others -0.80" in gap.sentence


@given(st.integers(0, 2**32 - 1), st.integers(1, 20), st.integers(2, 6))
def test_others_is_the_mean_over_all_pairs_that_do_not_match(seed, n, m):
    rng = np.random.default_rng(seed)
    images, texts, text_of = rows(n, 5, seed), rows(m, 5, seed + 1), rng.integers(0, m, n)
    pairs = [images[i] @ texts[j] for i in range(n) for j in range(m) if j != text_of[i]]
    gap = modality_gap(images, texts, text_of)
    assert gap.others == pytest.approx(np.mean(pairs), abs=1e-5)
    assert gap.matching == pytest.approx(np.mean([images[i] @ texts[j] for i, j in enumerate(text_of)]), abs=1e-5)


def test_a_gap_of_one_sentence_has_no_others():
    gap = modality_gap(rows(3), rows(1), np.zeros(3, int))
    assert gap.others is None and gap.sentence.endswith("2 at most).")


def test_moving_all_sentences_together_changes_no_answer():
    images, texts = rows(50), rows(4, seed=1)
    moved = texts + 3 * rows(1, seed=2)
    assert np.array_equal((images @ texts.T).argmax(1), (images @ moved.T).argmax(1))  # as the gap's sentence says


def test_the_view_of_the_gap_shows_all_of_it_on_its_first_axis():
    images, texts = rows(60, shift=1), rows(5, seed=1)
    found = pca_map({"m": images}, {"m": texts}, MapSettings(view="gap"))
    step = found.texts["m"].mean(0) - found.images["m"].mean(0)
    np.testing.assert_allclose(step, [modality_gap(images, texts).distance, 0], atol=1e-5)
    assert found.facts["m"].gap_shown == pytest.approx(1, abs=1e-5)
    directions = gap_axes(images, texts).directions
    np.testing.assert_allclose(directions @ directions.T, np.eye(2), atol=1e-9)


def test_the_second_axis_of_the_gap_has_most_of_the_variance_that_is_left():
    images, texts = rows(60, shift=1), rows(5, seed=1)
    axes, both = gap_axes(images, texts), np.concatenate([images, texts]).astype(float)
    way, found = axes.directions
    centred = both - both.mean(0)
    for seed in range(50):
        other = np.random.default_rng(seed).normal(size=8)
        other -= (other @ way) * way
        assert ((centred @ other / np.linalg.norm(other)) ** 2).sum() <= ((centred @ found) ** 2).sum() + 1e-9


def test_a_gap_needs_sentences_that_lie_apart():
    with pytest.raises(BadSettings, match="has no classes"):
        pca_map({"m": rows(9)}, {"m": np.empty((0, 8), np.float32)}, MapSettings(view="gap"))
    with pytest.raises(BadSettings, match="are the same"):
        pca_map({"m": rows(9)}, {"m": rows(9)}, MapSettings(view="gap"))


# ---- alignment


def test_a_turned_mirrored_moved_and_enlarged_map_is_laid_back_exactly():
    base = np.array([[0.0, 0], [2, 0], [0, 1]])
    points = 3 * base @ np.array([[0.0, 1], [1, 0]]) + [5, -7]  # mirrored on the diagonal: (0,0) (0,6) (3,0) moved
    fit = aligned(points, base)
    np.testing.assert_allclose(fit(points), base, atol=1e-6)
    assert fit.scale == pytest.approx(1 / 3) and fit.disparity == pytest.approx(0, abs=1e-9)


def test_alignment_by_hand():
    """A cross whose one arm is twice as long, onto the same cross turned by 90 degrees."""
    points = np.array([[2.0, 0], [-2, 0], [0, 1], [0, -1]])
    onto = np.array([[0.0, 1], [0, -1], [2, 0], [-2, 0]])  # (2,0) -> (0,1) and (0,1) -> (2,0): each arm 2 x 1 + 1 x 2
    fit = aligned(points, onto)
    np.testing.assert_allclose(fit.rotation, [[0, 1], [1, 0]], atol=1e-12)
    assert fit.scale == 1  # both have a spread of 10, so neither is drawn smaller
    assert fit.disparity == pytest.approx(1 - (8 / 10) ** 2)


@given(st.integers(0, 2**32 - 1))
def test_disparity_is_scipys_and_distances_keep_their_ratios(seed):
    points, onto = (np.random.default_rng(seed + i).normal(size=(12, 2)) for i in range(2))
    fit = aligned(points, onto)
    assert fit.disparity == pytest.approx(procrustes(onto, points)[2], abs=1e-9)
    before, after = (np.linalg.norm(p[:, None] - p[None], axis=-1) for p in (points, fit(points)))
    np.testing.assert_allclose(after, fit.scale * before, atol=1e-4)
    assert fit(points).std(0) @ fit(points).std(0) == pytest.approx(onto.std(0) @ onto.std(0), rel=1e-4)


def test_the_base_stays_and_the_others_are_laid_on_it():
    images, texts = two_models()
    found = pca_map(images, texts)
    alone = pca_map({"base": images["base"]}, {"base": texts["base"]})
    assert np.array_equal(found.images["base"], alone.images["base"])
    own = pca_map({"tuned": images["tuned"]}, {"tuned": texts["tuned"]})
    both = [np.concatenate([m.images[n], m.texts[n]]) for m, n in ((own, "tuned"), (found, "base"))]
    np.testing.assert_allclose(found.images["tuned"], aligned(*both)(own.images["tuned"]), atol=1e-6)
    assert found.facts["tuned"].scale != 1 and 0 < found.facts["tuned"].disparity < 1
    assert found.facts["base"].scale == 1 and found.facts["base"].disparity == 0


def test_in_the_view_of_the_gap_nothing_is_turned():
    images, texts = two_models()
    found = pca_map(images, texts, MapSettings(view="gap"))
    for model in images:
        step = found.texts[model].mean(0) - found.images[model].mean(0)
        np.testing.assert_allclose(step, [modality_gap(images[model], texts[model]).distance, 0], atol=1e-5)
    again = pca_map(
        {"a": images["base"], "b": -images["base"]}, {"a": texts["base"], "b": -texts["base"]}, found.settings
    )
    assert (again.images["a"][:, 1] * again.images["b"][:, 1]).sum() > 0


# ---- UMAP


def test_umap_is_reproducible_and_keeps_neighbours_together():
    centres = np.repeat(10 * np.eye(3, 8), 20, axis=0)
    images = {"base": unit_rows(centres + rows(60)), "tuned": unit_rows(centres + rows(60, seed=1))}
    texts = {model: unit_rows(np.eye(3, 8)) for model in images}
    text_of = np.repeat(range(3), 20)
    first, second = (finish(umap_map(images, texts, UMAP, text_of)) for _ in range(2))
    for model in images:
        assert np.array_equal(first.images[model], second.images[model])
        points = first.images[model]
        distances = np.linalg.norm(points[:, None] - points[None], axis=-1) + 1e9 * np.eye(60)
        assert (text_of[distances.argmin(1)] == text_of).mean() == 1
    assert first.facts["base"].gap == modality_gap(images["base"], texts["base"], text_of)
    assert first.facts["base"].variance == ()
    other = finish(umap_map(images, texts, UMAP.model_copy(update={"seed": 1}), text_of))
    assert not np.array_equal(first.images["base"], other.images["base"])


def test_umaps_stages_are_told_before_they_begin():
    images, texts = two_models()
    told = [(p.done, p.total, p.note) for p in umap_map(images, texts, UMAP, rows=np.arange(0, 30, 2))]
    assert [(done, total) for done, total, _ in told] == [(i, 5) for i in range(6)]
    assert "nearest neighbours of 19 points" in told[1][2] and "UMAP says nothing until" in told[2][2]


def test_neighbours_are_exact():
    points = rows(40)
    places, distances = projection._nearest(points, 5)
    cosines = points @ points.T
    np.testing.assert_allclose(distances, 1 - np.sort(cosines, axis=1)[:, ::-1][:, :5], atol=1e-5)
    assert (places[:, 0] == np.arange(40)).all()


def test_umap_of_fewer_points_than_neighbours_works():
    images, texts = two_models(n=12, m=2)
    found = finish(umap_map(images, texts, MapSettings(method="umap", neighbours=50)))
    assert np.isfinite(found.images["tuned"]).all()


def test_umap_has_no_view_of_the_gap():
    with pytest.raises(BadSettings, match="UMAP has no axes to choose"):
        MapSettings(method="umap", view="gap")


@pytest.fixture
def without_umap(monkeypatch):
    real = builtins.__import__

    def refuse(name, *rest):
        if name == "umap":
            raise ImportError("numba needs another NumPy")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)


def test_without_umap_the_message_says_so_and_pca_works(without_umap):
    with pytest.raises(
        BadSettings, match=r"numba needs another NumPy\): pip install umap-learn, or use the method pca"
    ):
        finish(umap_map(*two_models(), UMAP))
    assert pca_map(*two_models()).models == ("base", "tuned")


# ---- thinning


def test_classes_are_thinned_evenly_and_the_same_way_again():
    labels = ["a"] * 100 + ["b"] * 5 + ["c"] * 50
    places = evenly_by_class(labels, 45)
    assert [sum(labels[i] == name for i in places) for name in "abc"] == [20, 5, 20]
    assert (np.diff(places) > 0).all()
    assert np.array_equal(places, evenly_by_class(labels, 45))
    assert np.array_equal(evenly_by_class(labels, 155), np.arange(155))


# ---- of a sample


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return small_base(tmp_path_factory.mktemp("base"))


@pytest.fixture
def sample(workspace, tiny_source):
    return tiny_sample(workspace, tiny_source)


@pytest.fixture
def run(sample, workspace, base):
    return made_up_run(sample, workspace, base)


@pytest.fixture
def encoded(monkeypatch):
    calls, encode = [], Clip.encode_classes
    monkeypatch.setattr(Clip, "encode_classes", lambda *rest: calls.append(1) or encode(*rest))
    return calls


@pytest.mark.parametrize("settings", [MapSettings(), UMAP], ids=["pca", "umap"])
def test_a_map_of_all_pictures_is_kept_and_found_again(workspace, sample, run, encoded, settings):
    assert find_map(sample, workspace, [run], settings=settings) is None
    made = finish(sample_map(sample, workspace, [run], settings=settings))
    assert len(encoded) == 2
    assert len(made.map.rows) == len(sample.manifest) == 80
    assert [(model.run, model.base) for model in made.record.models] == [
        (None, run.config.base),
        (run.id, run.config.base),
    ]
    assert all(facts.gap.n_images == 80 and facts.gap.n_texts == 2 for facts in made.map.facts.values())
    again = finish(sample_map(sample, workspace, [run], settings=settings))
    assert len(encoded) == 2
    for found in (again, find_map(sample, workspace, [run], settings=settings), load_map(workspace, made.record.id)):
        assert found.record == made.record
        for model in made.map.models:
            assert np.array_equal(found.map.images[model], made.map.images[model])
            assert np.array_equal(found.map.texts[model], made.map.texts[model])
            assert found.map.facts[model] == made.map.facts[model]


def test_what_decides_a_map_is_in_its_name(workspace, sample, run, base, monkeypatch):
    def name(runs=(), base=base, settings=UMAP, template=None):
        return maps._record(sample, maps._models(runs, base), settings, template or "a {label}").id

    names = {name(), name([run]), name(template="the {label}"), name(settings=MapSettings())}
    names |= {name(settings=UMAP.model_copy(update={field: value})) for field, value in
              (("view", "apart"), ("neighbours", 6), ("min_distance", 0.2), ("seed", 1), ("most", 50))}  # fmt: skip
    monkeypatch.setattr(maps, "umap_version", lambda: "0.0.1")
    names.add(name())
    assert len(names) == 10
    assert name(settings=MapSettings()) == name(settings=MapSettings(seed=5))  # PCA has no seed


def damaged_points(folder):
    data = bytearray((folder / "map.npz").read_bytes())
    place = data.index(b"images0.npy") + 400
    data[place] ^= 1
    (folder / "map.npz").write_bytes(bytes(data))


def other_points(folder):
    with np.load(folder / "map.npz") as file:
        arrays = dict(file)
    arrays["images0"] = arrays["images0"] + 1
    data = io.BytesIO()
    np.savez(data, **arrays)
    (folder / "map.npz").write_bytes(data.getvalue())


def other_fields(folder):
    record = json.loads((folder / "map.json").read_text())
    (folder / "map.json").write_text(json.dumps(record | {"more": 1}))


DAMAGES = {
    "one bit": damaged_points,
    "cut": lambda folder: (folder / "map.npz").write_bytes((folder / "map.npz").read_bytes()[:200]),
    "empty": lambda folder: (folder / "map.npz").write_bytes(b""),
    "gone": lambda folder: (folder / "map.npz").unlink(),
    "of other points": other_points,
    "of another version": other_fields,
    "described by nonsense": lambda folder: (folder / "map.json").write_text("[1"),
    "without its description": lambda folder: (folder / "map.json").unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_map_is_made_again(workspace, sample, base, encoded, caplog, damage):
    made = finish(sample_map(sample, workspace, base=base))
    DAMAGES[damage](workspace.folder("maps", made.record.id))
    with pytest.raises(ComparisonError, match="there is no whole map"):
        load_map(workspace, made.record.id)
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="clipdemo.projection"):
        again = finish(sample_map(sample, workspace, base=base))
    assert bool(caplog.records) == (damage != "without its description")
    assert len(encoded) == 2
    assert np.array_equal(again.map.images[made.map.models[0]], made.map.images[made.map.models[0]])
    assert load_map(workspace, made.record.id).record == made.record


def test_umap_thins_and_pca_does_not(workspace, sample, base):
    thin = finish(sample_map(sample, workspace, base=base, settings=UMAP.model_copy(update={"most": 20})))
    assert sample.manifest["label"].iloc[thin.map.rows].value_counts().to_dict() == {"Cat": 10, "Dog": 10}
    assert thin.record.facts[thin.map.models[0]].gap.n_images == 80  # the gap is that of all
    assert len(finish(sample_map(sample, workspace, base=base, settings=MapSettings(most=20))).map.rows) == 80


def test_a_sample_without_labels_has_a_map_without_sentences(workspace, tiny_source, base):
    sample = tiny_sample(workspace, tiny_source, texts="captions")
    found = finish(sample_map(sample, workspace, base=base))
    assert found.map.texts[found.map.models[0]].shape == (0, 2)
    assert found.map.facts[found.map.models[0]].gap is None
    with pytest.raises(BadSettings, match="has no classes"):
        finish(sample_map(sample, workspace, base=base, settings=MapSettings(view="gap")))


def test_runs_without_weights_are_refused(workspace, sample, base):
    unfinished = begin_run(RunConfig(mode="labels", base=base, seed=1), sample, workspace)
    with pytest.raises(ComparisonError, match=f"run {unfinished.id} has no weights to map"):
        finish(sample_map(sample, workspace, [unfinished]))


def test_a_run_of_another_sample_is_mapped_as_well(workspace, run):
    other = make_sample(workspace)
    found = finish(sample_map(other, workspace, [run]))
    assert run.sample != other.id == found.record.sample
    assert found.record.models[1].run == run.id and len(found.map.rows) == len(other.manifest)


def test_without_umap_nothing_is_encoded_first(workspace, sample, base, encoded, without_umap, monkeypatch):
    monkeypatch.setattr(maps, "umap_version", lambda: "")
    with pytest.raises(BadSettings, match="pip install umap-learn"):
        finish(sample_map(sample, workspace, base=base, settings=UMAP))
    assert not encoded and workspace.names("embeddings") == []


# ---- in words


def test_words_say_what_is_and_what_is_not_shown():
    images, texts = two_models()
    titles = {"base": "Base", "tuned": "Labels"}
    said = " ".join(in_words(pca_map(images, texts), titles))
    assert "Base: the two axes show" in said and "% of the variance" in said
    assert "Labels is turned and scaled by" in said and "drawn, not measured" in said
    apart = " ".join(in_words(pca_map(images, texts, MapSettings(view="apart")), titles))
    assert "the gap is not in this picture" in apart
    assert "mirrored where needed" in " ".join(in_words(pca_map(images, texts, MapSettings(view="gap")), titles))
    umap = " ".join(in_words(finish(umap_map(images, texts, UMAP)), titles))
    assert "Distances between islands" in umap and "variance" not in umap


# ---- the command


def test_the_command_prints_the_gap_and_is_a_job(workspace, run, sample):
    done = CliRunner().invoke(
        app, ["map", "--sample", sample.id, "--run", run.id, "--workspace", str(workspace.root)]
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    found = load_map(workspace, done.stdout.splitlines()[-1])
    assert f"{found.map.facts[found.map.models[0]].gap.distance:.3f}" in done.stdout
    assert "drawn, not measured" in done.stdout
    (job,) = list_jobs(workspace)
    assert job.result["made"] == {"map": found.record.id}


def test_the_command_refuses_a_view_that_umap_has_not(workspace, sample, base):
    words = ["map", "--sample", sample.id, "--base", base, "--method", "umap", "--view", "gap"]
    done = CliRunner().invoke(app, [*words, "--workspace", str(workspace.root)])
    assert done.exit_code == 2 and "error: view = gap" in done.stderr
    assert workspace.names("embeddings") == []
