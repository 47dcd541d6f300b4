"""A hundred hostile files go through the sources in a process of their own, whose memory is limited."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
SEED = int(os.environ.get("CLIPDEMO_FUZZ_SEED", "0"))
PEAK_BYTES = 1500 * 2**20  # of a process that has loaded pandas and pyarrow (150 MB) and holds what it was fed
CHILD = """
import json, os, resource, sys
from pathlib import Path
from clipdemo.errors import ClipDemoError, PictureError
from clipdemo.images import decode
from clipdemo.progress import finish
from clipdemo.sources.folder import FolderSource
from clipdemo.sources.settings import FolderOptions, TableOptions
from clipdemo.sources.table import TableSource
from tests.fuzz import cases

def opened(case, cache):
    if case.source == "folder":
        return FolderSource(FolderOptions(path=str(case.path)), cache)
    return TableSource(TableOptions(path=str(case.path)), cache)

def outcome(case, cache):
    try:
        source = opened(case, cache)
        finish(source.prepare())
        table = source.table()
    except ClipDemoError as error:
        return {"error": str(error)}
    counts = {"problem": 0, "readable": 0, "unreadable": 0}
    for problem, picture in zip(table["problem"], source.pictures(range(len(table))), strict=True):
        if problem:
            assert isinstance(picture, PictureError) and picture.reason == problem
            counts["problem"] += 1
            continue
        try:
            if isinstance(picture, PictureError):
                raise picture
            decode(picture)
            counts["readable"] += 1
        except PictureError:
            counts["unreadable"] += 1
    texts = all(isinstance(text, str) and text.encode() is not None for text in table.to_numpy().ravel())
    return {"rows": len(table), "unique": bool(table["id"].is_unique), "texts": texts} | counts

sandbox, seed = Path(sys.argv[1]), int(sys.argv[2])
os.chdir(sandbox / "here")
resource.setrlimit(resource.RLIMIT_AS, (6 * 2**30, 6 * 2**30))
made, cache, outside = (sandbox / name for name in ("made", "cache", "outside"))

def state():
    return sorted((str(p), p.lstat().st_size, p.lstat().st_mtime_ns)
                  for p in sandbox.rglob("*") if cache not in p.parents and p not in (cache, made) and p.parent != made)

for case in cases(made, seed, outside):
    before = state()
    print(json.dumps({"name": case.name, "expected": case.rows}), flush=True)
    try:
        result = outcome(case, cache)
    except BaseException as error:
        result = {"escaped": f"{type(error).__name__}: {error}"[:500]}
    result["untouched"] = state() == before
    # not ru_maxrss, which begins with what the process that started this one held
    status = Path("/proc/self/status").read_text().split()
    result["peak"] = int(status[status.index("VmHWM:") + 1]) * 1024
    print(json.dumps(result), flush=True)
"""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory) -> dict[str, dict]:
    if sys.platform == "win32":
        pytest.skip("limits of memory and the odd files of Unix")
    sandbox = tmp_path_factory.mktemp("sandbox")
    for name in ("made", "cache", "outside", "here"):
        (sandbox / name).mkdir()
    (sandbox / "outside" / "victim.txt").write_text("untouched")
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", CHILD, str(sandbox), str(SEED)],
        cwd=REPO,
        env=os.environ | {"PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0 and len(lines) % 2 == 0, f"after {lines[-1:]}: {done.stderr[-3000:]}"
    return {begun["name"]: begun | ended for begun, ended in zip(lines[::2], lines[1::2], strict=True)}


def _those(outcomes, wrong) -> dict:
    return {name: outcome for name, outcome in outcomes.items() if wrong(outcome)}


def test_there_are_a_hundred_hostile_files(outcomes):
    assert len(outcomes) >= 100


def test_nothing_but_a_table_or_an_error_of_ours_comes_out(outcomes):
    assert _those(outcomes, lambda o: "escaped" in o) == {}


def test_errors_are_one_line_that_can_be_read(outcomes):
    assert (
        _those(outcomes, lambda o: "error" in o and not (0 < len(o["error"]) < 1000 and o["error"].isprintable())) == {}
    )


def test_nothing_is_written_outside_the_cache(outcomes):
    assert _those(outcomes, lambda o: not o["untouched"]) == {}


def test_memory_stays_bounded(outcomes):
    assert max(outcome["peak"] for outcome in outcomes.values()) < PEAK_BYTES


def test_every_row_is_accounted_for(outcomes):
    tables = _those(outcomes, lambda o: "rows" in o)
    assert len(tables) > 20
    assert _those(tables, lambda o: o["problem"] + o["readable"] + o["unreadable"] != o["rows"]) == {}
    assert _those(tables, lambda o: not (o["unique"] and o["texts"])) == {}


def test_files_with_known_rows_give_all_of_them(outcomes):
    assert _those(outcomes, lambda o: o["expected"] is not None and o.get("rows") != o["expected"]) == {}


def test_bombs_are_refused_by_name(outcomes):
    for name in ("bomb.zip", "bomb.tgz", "bomb.tar.xz", "bomb.tar.bz2", "overlap.zip"):
        assert "times its size" in outcomes[name]["error"], name


def test_good_pictures_beside_hostile_entries_are_read(outcomes):
    for name in ("slip.zip", "symlink.zip", "lying_small.zip", "links.tar", "folder", "emoji.zip", "renamed.zip"):
        assert outcomes[name]["readable"] >= 1, name
