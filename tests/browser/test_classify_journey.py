"""What a visitor does on the Classify page, in a real browser."""

import csv
import itertools
import os
import re
import threading
from contextlib import contextmanager

import pytest
from PIL import Image
from playwright.sync_api import expect

from clipdemo.comparison import measure
from clipdemo.examples import drawn_examples
from clipdemo.images import MAX_PIXELS
from clipdemo.progress import finish
from clipdemo.records import MODES, RunConfig
from tests import workspace_factory as factory
from tests.fuzz import png, zip_of
from tests.picture_fuzz import packed, whole_pictures
from tests.test_drop import hostile_drop
from tools.serving import process_of, served, settled, used_by

pytestmark = pytest.mark.browser
MIXED = int(os.environ.get("CLIPDEMO_MIXED_FILES", "120"))  # of the 500 there are


@pytest.fixture
def real(workspace):
    sample = factory.make_sample(workspace)
    runs = [factory.make_real_run(workspace, sample, RunConfig(mode=mode)) for mode in MODES]
    return finish(measure(sample, workspace, runs))


def test_a_dropped_picture_is_answered_looked_into_and_asked_with_own_labels(visit, workspace, real):
    name, data = next(iter(drawn_examples(workspace, real.id, 1).items()))
    page = visit("classify")
    page.locator("input[type=file]").set_input_files({"name": name, "mimeType": "image/png", "buffer": data})
    heading = page.get_by_role("heading", name=re.compile(r"\bsays?\b"))
    expect(heading).to_be_visible()
    expect(page.get_by_text("Looks to it like")).to_have_count(2 + 1)
    page.get_by_text("Where they looked").click()
    expect(page.get_by_role("img", name=re.compile("^where .* looked$"))).to_have_count(3)
    page.get_by_text("Own labels and sentence").click()
    labels = page.get_by_role("textbox", name="Labels, divided by commas")
    labels.fill("a bright disc, a dark sky")
    labels.press("Enter")
    expect(page.get_by_role("heading", name=re.compile("a bright disc|a dark sky"))).to_be_visible()
    expect(page).to_have_url(re.compile("labels=a"))
    settled(page)
    assert page.get_by_test_id("stException").count() == 0


def test_a_dropped_archive_becomes_a_table_and_a_download(visit, workspace, real):
    examples = drawn_examples(workspace, real.id, 4)
    packed = zip_of(
        {f"{name.removesuffix('.png')}/1.png": data for name, data in examples.items()}
        | {"chest/broken.png": b"nothing"}
    )
    page = visit("classify")
    given = {"name": "class.zip", "mimeType": "application/zip", "buffer": packed}
    page.locator("input[type=file]").set_input_files(given)
    expect(page.get_by_test_id("stDataFrame")).to_be_visible()
    expect(page.get_by_text(re.compile("of 4 as their names say")).first).to_be_visible()
    expect(page.get_by_text(re.compile("broken.png"))).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("button", name="All answers as CSV").click()
    lines = download.value.path().read_text().splitlines()
    assert len(lines) == 5 and lines[0].startswith("name,")


def mixed_files():
    """(name, bytes, whether it must be read; None: either) of pictures of all kinds, and of what people call pictures."""
    yield from itertools.islice(hostile_drop(), MIXED)
    dicom = whole_pictures()["dicom-jpeg-2000"]
    side = int(MAX_PIXELS**0.5)
    yield "huge.png", packed(Image.new("L", (side, side), 90), "PNG"), True
    yield "too huge.png", packed(Image.new("1", (side + 1, side)), "PNG"), False
    yield from (("tiny.png", png(side=1), True), ("a png.txt", png(), True), ("no suffix", png(), True))
    yield from (("scan.jpg", dicom, True), ("empty.png", b"", False), ("words.png", b"no picture at all", False))
    yield from (("page.html", b"<html><script>alert(1)</script>", False), ("program.exe", b"MZ" + bytes(900), False))
    yield "=1+1.png", b"a formula", False


def listing(folder):
    return {path: path.stat().st_size for path in folder.rglob("*") if path.is_file()}


@contextmanager
def watched(server):
    """The most bytes that a server and its helpers have had together since the block began, as a list of one."""
    process, done, most = process_of(server), threading.Event(), [0]

    def watch():
        while not done.wait(0.05):
            most[0] = max(most[0], used_by(process)[0])

    thread = threading.Thread(target=watch)
    thread.start()
    yield most
    done.set()
    thread.join()


def downloaded(page, click):
    with page.expect_download() as download:
        click()
    return list(csv.DictReader(download.value.path().read_text(encoding="utf-8-sig").splitlines()))


def test_hundreds_of_mixed_files_at_once_are_all_answered_or_named_and_leave_nothing(
    browser, workspace, real, tmp_path
):
    files = {name: (data, good) for name, data, good in mixed_files()}
    folder, temporary = tmp_path / "drop", tmp_path / "temporary"
    folder.mkdir(), temporary.mkdir()
    for name, (data, _) in files.items():
        (folder / name).write_bytes(data)
    with served(workspace.root, tmp_path / "log", OMP_NUM_THREADS="1", TMPDIR=str(temporary)) as server:
        context = browser.new_context(viewport={"width": 1440, "height": 2400})
        page = context.new_page()
        page.goto(f"{server}/classify")
        settled(page)
        with watched(server) as before:
            page.locator("input[type=file]").set_input_files(folder / "tiny.png")  # opens the models
            expect(page.get_by_role("heading", name=re.compile(r"\bsays?\b"))).to_be_visible()
            settled(page)
        page.goto(f"{server}/classify")
        settled(page)
        lies = listing(workspace.root), listing(temporary)
        with watched(server) as most:
            page.locator("input[type=file]").set_input_files([folder / name for name in files])
            page.wait_for_function(
                """total => {
                    const numbers = [/\\ball \\((\\d+)\\)/, /(\\d+) files could not be used/]
                        .map(said => Number((document.body.innerText.match(said) || [])[1]));
                    return numbers[0] + numbers[1] === total;
                }""",
                arg=len(files),
                timeout=600_000,
            )
            settled(page)
        answered = downloaded(page, page.get_by_role("button", name="All answers as CSV").click)
        fold = page.get_by_test_id("stExpander").filter(has_text="files could not be used")
        fold.get_by_text("files could not be used").click()
        refused = downloaded(page, fold.get_by_role("button", name="All of these as CSV").click)
        assert page.get_by_test_id("stException").count() == 0
        context.close()
        assert (listing(workspace.root), listing(temporary)) == lies
    log = (tmp_path / "log").read_text()
    assert "Uncaught" not in log and "SECRET" not in log  # whom a DICOM file is of
    said = [row["name"].lstrip("'") for row in answered]
    named = {row["File"].lstrip("'"): row for row in refused}
    assert sorted([*said, *named]) == sorted(files)
    assert {name for name, (_, good) in files.items() if good} <= set(said)
    assert {name for name, (_, good) in files.items() if good is False} <= set(named)
    assert all(row["Reason"] and name in row["In full"] for name, row in named.items())
    sent = sum(len(data) for data, _ in files.values())
    print(f"{len(files)} files, {sent:,} bytes; server {before[0]:,} bytes before, at most {most[0]:,} beside the drop")
    # what was sent, which Streamlit holds; the largest picture in colour, once more while it is changed; some room
    assert most[0] - before[0] < 2 * sent + 2 * 3 * MAX_PIXELS + 250e6
