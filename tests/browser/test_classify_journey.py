"""What a visitor does on the Classify page, in a real browser."""

import re

import pytest
from playwright.sync_api import expect

from clipdemo.comparison import measure
from clipdemo.examples import drawn_examples
from clipdemo.progress import finish
from clipdemo.records import MODES, RunConfig
from tests import workspace_factory as factory
from tests.fuzz import zip_of
from tools.serving import settled

pytestmark = pytest.mark.browser


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
