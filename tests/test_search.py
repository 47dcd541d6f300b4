import logging
import os
import re
import subprocess
import sys

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipdemo import search
from clipdemo.embeddings import unit_rows
from clipdemo.errors import BadSettings
from clipdemo.progress import finish
from clipdemo.search import (
    EXACT_BYTES,
    IndexCard,
    build_index,
    choose_kind,
    graph_bytes,
    graph_fits,
    in_short,
    in_words,
    index_of,
    lists_pay,
    recall_at_10,
    scan,
)

APPROXIMATE = ("ivf", "hnsw")


def unit(seed, n, dim=32):
    return unit_rows(np.random.default_rng(seed).standard_normal((n, dim), np.float32))


def clustered(seed, n, dim=32, a_cluster=50):
    rng = np.random.default_rng(seed)
    centres = unit(99, max(2, n // a_cluster), dim)
    return unit_rows(centres[rng.integers(0, len(centres), n)] + 0.7 * unit(seed, n, dim))


def twin(rows, queries, k, places=None):
    """Everything against everything in float64, then a stable sort."""
    rows = unit_rows(rows) if rows.dtype == np.float16 else rows
    places = np.arange(len(rows)) if places is None else places
    scores = (queries.astype(np.float64) @ rows[places].astype(np.float64).T).astype(np.float32)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, order, axis=1), places[order]


def assert_same(found, expected):
    assert found[0].dtype == np.float32 and found[1].dtype == np.int64
    np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_array_equal(found[0], expected[0])


def card(**changes):
    values = {"kind": "ivf", "n": 10_000, "dim": 8, "effort": 4, "recall": {"rows": 1.0}, "probes": 9, "rows": ""}
    return IndexCard(**values | {"seconds": 0.0} | changes)


# ---- exact


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 400),
    dim=st.sampled_from([1, 3, 16, 65]),
    k=st.integers(1, 50),
    queries=st.sampled_from([0, 1, 5, 40]),  # FAISS has another way to compute few and many
    kinds=st.integers(1, 400),
    half=st.booleans(),
    filtered=st.booleans(),
)
def test_exact_neighbours_are_those_of_numpy_with_duplicates_and_filters(
    seed, n, dim, k, queries, kinds, half, filtered
):
    rng = np.random.default_rng(seed)
    rows = unit(seed, kinds, dim)[rng.integers(0, kinds, n)]  # fewer kinds than rows: equal rows
    rows = rows.astype(np.float16) if half else rows
    asked = unit_rows(np.concatenate([rows[rng.integers(0, n, queries // 2)], unit(seed, queries - queries // 2, dim)]))
    index = finish(build_index(rows))
    assert index.card.kind == "exact"
    allowed = rng.random(n) < 0.4 if filtered else None
    places = np.flatnonzero(allowed) if filtered else None
    assert_same(index.search(asked, k, allowed), twin(rows, asked, k, places))
    assert_same(scan(rows, asked, k, places), twin(rows, asked, k, places))


def test_when_all_rows_are_equal_the_first_places_come():
    index = finish(build_index(np.repeat(unit(0, 1), 5000, axis=0)))
    assert index.search(unit(1, 2), 4)[1].tolist() == [[0, 1, 2, 3]] * 2


@pytest.mark.parametrize("queries", [1, 40])
def test_rows_closer_than_float32_sums_can_tell_are_told_apart(queries):
    """Nearly the same row 3,000 times, and queries at right angles to it: large terms that cancel to next to nothing."""
    base = unit(0, 1, 512)
    rows = unit_rows(base + 1e-6 * unit(1, 3000, 512))
    asked = unit(2, queries, 512)
    asked = unit_rows(asked - (asked @ base.T) * base)
    assert_same(finish(build_index(rows)).search(asked, 10), twin(rows, asked, 10))
    assert_same(scan(rows, asked, 10), twin(rows, asked, 10))
    proposed = faiss.knn(asked, rows, 10, metric=faiss.METRIC_INNER_PRODUCT)[1]
    assert (proposed != twin(rows, asked, 10)[1]).any()  # FAISS alone takes others


def test_a_query_finds_the_same_alone_and_among_many():
    index, queries = finish(build_index(unit(0, 3000))), unit(1, 64)
    scores, places = index.search(queries, 10)
    for i, query in enumerate(queries):
        assert_same(index.search(query[None], 10), (scores[i : i + 1], places[i : i + 1]))


@pytest.mark.parametrize("queries", [3, 40])
def test_scan_puts_blocks_together(monkeypatch, queries):
    monkeypatch.setattr(search, "_BLOCK", 7)
    monkeypatch.setattr(search, "CACHED", 64)  # two rows
    rows, queries = unit(0, 50)[np.arange(100) % 50], unit(1, queries)
    assert_same(scan(rows, queries, 9), twin(rows, queries, 9))


def test_fewer_rows_than_asked_for_are_fewer_columns():
    index = finish(build_index(unit(0, 3)))
    assert index.search(unit(1, 2), 10)[1].shape == (2, 3)
    assert index.search(unit(1, 2), 10, np.zeros(3, bool))[1].shape == (2, 0)
    assert index.search(np.empty((0, 32), np.float32), 2)[1].shape == (0, 2)


def test_what_cannot_be_searched_is_said():
    index = finish(build_index(unit(0, 3)))
    with pytest.raises(BadSettings, match=r"shape \(1, 8\) do not fit rows of 32 numbers"):
        index.search(unit(0, 1, 8), 1)
    with pytest.raises(BadSettings, match="k = 0"):
        index.search(unit(0, 1), 0)
    with pytest.raises(BadSettings, match="no rows"):
        finish(build_index(np.empty((0, 4), np.float32)))


# ---- approximate


@pytest.fixture(scope="module")
def rows():
    return clustered(0, 6000).astype(np.float16)


@pytest.fixture(scope="module", params=APPROXIMATE)
def approximate(request, rows):
    return finish(build_index(rows, {"others": unit(5, 300)}, request.param))


def test_most_of_the_nearest_are_found_and_their_scores_are_exact(approximate, rows):
    queries = clustered(7, 100)
    scores, places = approximate.search(queries, 10)
    truth = twin(rows, queries, 10)
    assert np.mean([len(np.intersect1d(a, b)) / 10 for a, b in zip(places, truth[1], strict=True)]) >= 0.95
    np.testing.assert_array_equal(scores, search.exact_scores(rows, queries, places))
    assert (np.diff(scores, axis=1) <= 0).all()


def test_the_recall_on_the_card_is_what_was_measured_for_each_sort_of_query(approximate, rows):
    assert set(approximate.card.recall) == {"rows", "others"}
    assert min(approximate.card.recall.values()) >= search.TARGET_RECALL
    others = unit(5, 300)[np.random.default_rng(0).permutation(300)]  # more than are probed with
    found, truth = approximate.search(others, 10)[1], twin(rows, others, 10)[1]
    share = np.mean([len(np.intersect1d(a, b)) / 10 for a, b in zip(found, truth, strict=True)])
    assert share == pytest.approx(approximate.card.recall["others"], abs=0.02)


def test_the_least_effort_that_reaches_the_target_is_taken(approximate, rows):
    efforts = search._efforts(approximate.card.kind, len(rows))
    assert approximate.card.effort in efforts
    if approximate.card.effort > efforts[0]:
        queries, less = unit(5, 300), efforts[efforts.index(approximate.card.effort) - 1]
        truth = twin(rows, queries, 10)[0]
        assert recall_at_10(approximate.approximate(queries, 10, less)[0], truth) < search.TARGET_RECALL + 0.01


def test_queries_of_another_sort_make_it_try_harder(rows):
    alone = finish(build_index(rows, kind="ivf"))
    both = finish(build_index(rows, {"others": unit(5, 300)}, "ivf"))
    assert alone.card.effort < both.card.effort


def test_a_filter_that_leaves_few_rows_is_exact(approximate, rows):
    allowed = np.random.default_rng(3).random(len(rows)) < 0.01
    queries = unit(1, 8)
    assert_same(approximate.search(queries, 10, allowed), twin(rows, queries, 10, np.flatnonzero(allowed)))


@pytest.mark.parametrize("share", [0.5, 0.002])
def test_what_a_filter_forbids_is_never_found_and_k_rows_always_are(approximate, rows, monkeypatch, share):
    monkeypatch.setattr(search, "EXACT_BYTES", 0)  # through FAISS's own filter
    allowed = np.random.default_rng(3).random(len(rows)) < share
    scores, places = approximate.search(unit(1, 20), 10, allowed)
    assert places.shape == (20, min(10, allowed.sum()))
    assert allowed[places].all()
    assert all(len(set(found)) == len(found) for found in places.tolist())
    assert np.isfinite(scores).all()


def test_lists_that_hold_fewer_than_k_are_not_the_end():
    rows = clustered(0, 800, a_cluster=10).astype(np.float16)
    index = finish(build_index(rows, kind="ivf"))
    queries = unit(1, 5)
    found = index.search(queries, 700)
    assert (found[1] >= 0).all()
    assert_same(found, twin(rows, queries, 700))


@pytest.mark.parametrize(
    ("found", "truth", "itself", "recall"),
    [
        ([[0.9] + [0.5] * 10], [[0.9] + [0.5] * 10], False, 1.0),
        ([[0.9] * 5 + [0.1] * 6], [[0.9] * 11], False, 0.5),
        ([[1.0] + [0.9] * 5 + [0.1] * 5], [[1.0] + [0.9] * 10], True, 0.5),  # finding itself is not counted
        ([[1.0, 0.3]], [[1.0, 0.4]], True, 0.0),  # two rows in all
        ([[1.0]], [[1.0]], True, 1.0),  # one row has no neighbours to miss
    ],
)
def test_recall_worked_by_hand(found, truth, itself, recall):
    assert recall_at_10(np.array(found), np.array(truth), itself) == pytest.approx(recall)


# ---- which kind


def test_the_kind_follows_size():
    fits = EXACT_BYTES // (4 * 512)
    assert choose_kind(fits, 512) == "exact"
    assert choose_kind(fits + 1, 512) == "ivf"
    assert choose_kind(4 * fits, 128) == "exact"


def test_a_graph_takes_its_share_of_memory_and_no_more():
    need = graph_bytes(500_000, 512)
    assert need == pytest.approx(500_000 * (512 + 4 * 2 * search.LINKS), rel=0.05)
    assert graph_fits(500_000, 512, int(need / search.MEMORY_SHARE) + 1)
    assert not graph_fits(500_000, 512, int(need / search.MEMORY_SHARE) - 1)


def test_lists_pay_when_they_find_enough_in_few():
    assert search.list_count(10_000) == 200
    assert lists_pay(card(effort=20))
    assert not lists_pay(card(effort=21))
    assert not lists_pay(card(recall={"rows": 1.0, "captions": 0.9}))


@pytest.mark.parametrize(("fits", "kind"), [(True, "hnsw"), (False, "ivf")])
def test_rows_without_clusters_get_a_graph_where_memory_allows(monkeypatch, caplog, fits, kind):
    monkeypatch.setattr(search, "EXACT_BYTES", 0)
    monkeypatch.setattr(search, "graph_fits", lambda *_: fits)
    index = finish(build_index(unit(0, 2000)))
    assert index.card.kind == kind
    assert any("does not fit into free memory" in r.getMessage() for r in caplog.records) is not fits


def test_clustered_rows_keep_their_lists(monkeypatch):
    monkeypatch.setattr(search, "EXACT_BYTES", 0)
    assert finish(build_index(clustered(0, 10_000, a_cluster=100))).card.kind == "ivf"


def test_an_index_says_in_a_line_what_it_finds():
    assert in_short(card(recall={"rows": 0.988, "captions": 0.9812})) == (
        "10,000 rows, ivf: finds 98.8 % (rows), 98.1 % (captions) of the ten nearest"
    )
    assert in_short(card(kind="exact")) == "10,000 rows, exact"


def test_an_index_says_to_people_how_it_finds():
    large = {"n": 500_000, "recall": {"rows": 0.992, "captions": 0.98}, "probes": 256}
    exact = in_words(card(kind="exact", **large), "pictures")
    assert exact == "all 500,000 pictures are compared with what is asked, so nothing is missed"
    lists = in_words(card(kind="ivf", effort=128, **large), "pictures")
    assert "128 of 1,414 lists of pictures" in lists
    assert "99.2 % (asked with pictures) and 98.0 % (asked with captions) of the ten nearest" in lists
    assert "a graph over 500,000 pictures" in in_words(card(kind="hnsw", **large), "pictures")


def test_progress_ends_with_all_rows(monkeypatch):
    monkeypatch.setattr(search, "_BLOCK", 1000)
    told = [(p.done, p.total) for p in build_index(unit(0, 2500), kind="hnsw", stage="here") if p.stage == "here"]
    assert told[:4] == [(0, 2500), (1000, 2500), (2000, 2500), (2500, 2500)]
    assert told[-1] == (2500, 2500)


# ---- adding


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("kind", ["exact", *APPROXIMATE])
def test_rows_are_added_without_a_rebuild_and_the_first_index_stays(workspace, kind, mapped):
    rows, more = clustered(0, 2000).astype(np.float16), clustered(8, 20)
    old = finish(index_of(rows, workspace, "name", kind=kind) if mapped else build_index(rows, kind=kind))
    new = old.add(more)
    assert len(new) == new.card.n == 2020 and len(old) == 2000
    assert new.search(more, 1)[1][:, 0].tolist() == list(range(2000, 2020))
    assert old.search(more, 5)[1].max() < 2000
    if kind == "exact":
        both = np.concatenate([rows, more.astype(np.float16)])
        assert_same(new.search(unit(1, 9), 30), twin(both, unit(1, 9), 30))


# ---- what is kept


@pytest.fixture
def built(monkeypatch):
    """The kinds that were built, in order."""
    calls, original = [], search._built

    def counting(rows, probes, kind, stage):
        calls.append(kind)
        return original(rows, probes, kind, stage)

    monkeypatch.setattr(search, "_built", counting)
    return calls


@pytest.fixture(params=["exact", *APPROXIMATE])
def kind(request):
    return request.param


@pytest.fixture
def mapped(tmp_path):
    """Rows as embeddings are kept."""
    np.save(tmp_path / "rows.npy", clustered(0, 1000).astype(np.float16))
    return np.load(tmp_path / "rows.npy", mmap_mode="r")


def test_the_second_who_asks_maps_what_the_first_has_built(workspace, mapped, kind, built):
    first, second = (finish(index_of(mapped, workspace, "name", kind=kind)) for _ in range(2))
    assert built == [kind]
    assert first.card == second.card
    assert_same(first.search(unit(1, 5), 10), second.search(unit(1, 5), 10))
    assert sorted(p.name for p in workspace.folder("indexes", "name").iterdir()) == ["index.faiss", "index.json"]
    if sys.platform == "linux":
        with open("/proc/self/maps") as maps:
            assert str(workspace.folder("indexes", "name") / "index.faiss") in maps.read()


def test_a_built_index_and_the_one_read_from_disk_find_the_same(workspace, mapped, kind):
    fresh = finish(build_index(mapped, kind=kind))
    assert_same(
        finish(index_of(mapped, workspace, "name", kind=kind)).search(unit(1, 9), 10), fresh.search(unit(1, 9), 10)
    )


def changed(path, change):
    path.write_bytes(change(path.read_bytes()))


DAMAGES = {
    "truncated": lambda folder: changed(folder / "index.faiss", lambda data: data[:-100]),
    "empty": lambda folder: (folder / "index.faiss").write_bytes(b""),
    "foreign": lambda folder: (folder / "index.faiss").write_bytes(b"\x89PNG" * 5000),
    "one bit": lambda folder: changed(folder / "index.faiss", lambda data: data[:-1] + bytes([data[-1] ^ 1])),
    "gone": lambda folder: (folder / "index.faiss").unlink(),
    "without its card": lambda folder: (folder / "index.json").unlink(),
    "card of nonsense": lambda folder: (folder / "index.json").write_text("[" * 2000),
    "of another version": lambda folder: changed(
        folder / "index.json", lambda data: data.replace(b'"format": 1', b'"format": 0')
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_index_is_built_again_and_the_log_says_so(workspace, mapped, built, caplog, damage):
    before = finish(index_of(mapped, workspace, "name", kind="ivf")).search(unit(1, 5), 10)
    assert not caplog.records
    DAMAGES[damage](workspace.folder("indexes", "name"))
    with caplog.at_level(logging.WARNING, logger="clipdemo.search"):
        after = finish(index_of(mapped, workspace, "name", kind="ivf")).search(unit(1, 5), 10)
    assert_same(after, before)
    assert built == ["ivf", "ivf"]
    assert ["index name is damaged" in record.getMessage() for record in caplog.records] == [True]
    finish(index_of(mapped, workspace, "name", kind="ivf"))
    assert len(built) == 2


def test_a_whole_file_that_this_faiss_cannot_read_is_built_again(workspace, mapped, built, caplog):
    before = finish(index_of(mapped, workspace, "name")).search(unit(1, 5), 10)
    folder = workspace.folder("indexes", "name")
    (folder / "index.faiss").write_bytes(b"of the next version" * 100)
    digest = search.file_digest(folder / "index.faiss")
    changed(folder / "index.json", lambda data: re.sub(b'"file": "[0-9a-f]+"', f'"file": "{digest}"'.encode(), data))
    assert_same(finish(index_of(mapped, workspace, "name")).search(unit(1, 5), 10), before)
    assert built == ["exact", "exact"] and len(caplog.records) == 1


def test_an_index_is_never_that_of_other_rows(workspace, mapped, built, caplog):
    finish(index_of(mapped, workspace, "name"))
    others = unit(4, 1000).astype(np.float16)
    index = finish(index_of(others, workspace, "name"))
    assert built == ["exact", "exact"] and len(caplog.records) == 1
    assert_same(index.search(unit(1, 3), 5), twin(others, unit(1, 3), 5))


def test_rows_that_changed_on_disk_are_noticed(workspace, mapped, built):
    finish(index_of(mapped, workspace, "name"))
    np.save(mapped.filename, np.array(mapped)[::-1])  # a copy: what is mapped must not vanish while it is read
    turned = np.load(mapped.filename, mmap_mode="r")
    assert_same(finish(index_of(turned, workspace, "name")).search(unit(1, 3), 5), twin(turned, unit(1, 3), 5))
    assert len(built) == 2


def test_a_broken_off_build_leaves_nothing(workspace, mapped, built):
    activity = index_of(mapped, workspace, "name")
    next(activity)
    activity.close()
    assert workspace.names("indexes") == []
    finish(index_of(mapped, workspace, "name"))
    assert built == ["exact", "exact"]


def test_an_index_grows_out_of_an_earlier_one(workspace, kind, built):
    rows = clustered(0, 1200).astype(np.float16)
    finish(index_of(rows[:1000], workspace, "small", kind=kind))
    grown = finish(index_of(rows, workspace, "large", kind=kind, earlier="small"))
    assert built == [kind]
    assert grown.card.n == 1200 and workspace.names("indexes") == ["large", "small"]
    assert grown.search(unit_rows(rows[1100:1110]), 1)[1][:, 0].tolist() == list(range(1100, 1110))
    finish(index_of(rows, workspace, "large", kind=kind))
    assert built == [kind]


def test_an_earlier_index_of_something_else_is_not_grown_from(workspace, built):
    finish(index_of(unit(3, 500), workspace, "small"))
    rows = unit(0, 900)
    index = finish(index_of(rows, workspace, "large", earlier="small"))
    assert built == ["exact", "exact"]
    assert_same(index.search(unit(1, 3), 5), twin(rows, unit(1, 3), 5))


def test_an_exact_index_that_grows_too_large_is_built_anew(workspace, built, monkeypatch):
    rows = clustered(0, 4000)
    finish(index_of(rows[:1000], workspace, "small"))
    monkeypatch.setattr(search, "EXACT_BYTES", rows[:2000].nbytes)
    assert finish(index_of(rows[:1500], workspace, "medium", earlier="small")).card.kind == "exact"
    assert built == ["exact"]
    assert finish(index_of(rows, workspace, "large", earlier="small")).card.kind != "exact"
    assert built[1] == "ivf"


# ---- processes and threads

TWO = """
import os, pathlib, sys
import numpy as np
from clipdemo import search
from clipdemo.progress import finish
from clipdemo.workspace import Workspace

root, rows, log = sys.argv[1:]
build = search._built

def noted(*arguments):
    with pathlib.Path(log).open("a") as file:
        file.write(f"{os.getpid()}\\n")
    return build(*arguments)

search._built = noted
print("ready", flush=True)
sys.stdin.readline()
index = finish(search.index_of(np.load(rows, mmap_mode="r"), Workspace(root), "name", kind="hnsw"))
print(index.search(np.eye(32, dtype=np.float32)[:3], 5)[1].tolist())
"""


def test_two_processes_that_want_the_same_build_it_once(workspace, mapped, tmp_path):
    command = [sys.executable, "-c", TWO, str(workspace.root), str(mapped.filename), str(tmp_path / "log")]
    pipe = subprocess.PIPE
    both = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(2)]
    for one in both:
        assert one.stdout.readline() == "ready\n"
    for one in both:
        one.stdin.write("\n")
        one.stdin.flush()
    found = [one.communicate()[0] for one in both]
    assert [one.returncode for one in both] == [0, 0]
    assert found[0] == found[1] and found[0].startswith("[[")
    assert len((tmp_path / "log").read_text().splitlines()) == 1


TOGETHER = """
import numpy as np, threading
import {first}
import {second}
import faiss, torch
from clipdemo.progress import finish
from clipdemo.search import build_index

before = torch.get_num_threads(), faiss.omp_get_max_threads()
rows = np.random.default_rng(0).standard_normal((2000, 16), np.float32)
rows /= np.linalg.norm(rows, axis=1, keepdims=True)
index = finish(build_index(rows, kind="{kind}"))

def work():
    for _ in range(20):
        index.search(rows[:40], 5)
        index.search(rows[:1], 5)
        torch.randn(200, 200) @ torch.randn(200, 200)

threads = [threading.Thread(target=work) for _ in range(2)]
[thread.start() for thread in threads]
work()
[thread.join() for thread in threads]
assert (torch.get_num_threads(), faiss.omp_get_max_threads()) == before == (2, 2), before
"""


@pytest.mark.parametrize("kind", ["exact", "ivf"])
@pytest.mark.parametrize(("first", "second"), [("torch", "faiss"), ("faiss", "torch")])
def test_torch_computes_on_with_its_own_number_of_threads(first, second, kind):
    program = TOGETHER.format(first=first, second=second, kind=kind)
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "2"}
    )
    assert run.returncode == 0, run.stderr


def test_nothing_is_loaded_before_it_is_needed():
    program = "import sys, clipdemo.search, clipdemo.neighbours, clipdemo.cli.indexing; "
    program += (
        "print([name for name in ('faiss', 'torch', 'open_clip', 'streamlit', 'sklearn') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.stdout == "[]\n", run.stderr
