"""What a visitor does on the Explore page, in a real browser."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

from clipdemo.embeddings import model_id
from clipdemo.models import open_model
from clipdemo.neighbours import neighbourhood
from clipdemo.progress import finish
from clipdemo.records import BUILT_IN_BASE, RunConfig, SampleConfig
from clipdemo.sampling import draw_sample
from tests import workspace_factory as factory
from tools.serving import settled

MINI = Path(__file__).resolve().parents[3] / "shared" / "data" / "pubmedvision-mini"
pytestmark = pytest.mark.browser


def looked_at(workspace, sample, *runs):
    """Builds what the page needs, as the job that it launches would."""
    for run in (None, *runs):
        clip = open_model(BUILT_IN_BASE, run.weights if run else None)
        finish(neighbourhood(clip, model_id(run, BUILT_IN_BASE), sample, workspace))


@pytest.mark.skipif(not MINI.exists(), reason=f"the real pictures are not at {MINI}")
def test_real_pictures_are_browsed_from_encoding_to_the_map(visit, workspace):
    config = SampleConfig(source="pubmedvision", samples=200, options={"path": str(MINI)})
    sample = finish(draw_sample(config, workspace))
    page = visit("explore")
    page.get_by_role("button", name="Let them look").click()
    expect(page.get_by_role("heading", name="Nearest pictures")).to_be_visible(timeout=180_000)
    settled(page)
    rows = sample.rows("test")
    expect(page.get_by_text(f"1 of {len(rows):,} pictures")).to_be_visible()
    first = page.get_by_text(re.compile("^Its own caption is number")).first.inner_text()
    page.get_by_role("button", name="Next").click()
    expect(page.get_by_text(f"2 of {len(rows):,} pictures")).to_be_visible()
    expect(page).to_have_url(re.compile(re.escape(f"picture={rows['id'].iloc[1]}")))
    assert first.endswith(f"of {sample.manifest['caption'].nunique():,}.")
    page.get_by_text("Words", exact=True).click()
    words = page.get_by_label("Words", exact=True)
    words.fill("chest X-ray")
    words.press("Enter")
    expect(page.get_by_test_id("stImage").locator("img")).to_have_count(8)
    page.get_by_text("The map of all").click()
    expect(page.locator(".gl-canvas").first).to_be_attached()
    settled(page)
    assert page.get_by_test_id("stException").count() == 0


def test_a_brush_on_the_map_opens_its_pictures(visit, workspace):
    sample = factory.make_sample(workspace)
    looked_at(workspace, sample)
    page = visit("explore?section=map")
    plot = page.locator(".nsewdrag").first
    expect(plot).to_be_visible()
    expect(page.locator(".gl-canvas").first).to_be_attached()
    settled(page)
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    corners = [(0.02, 0.02), (0.98, 0.02), (0.98, 0.98), (0.02, 0.98), (0.02, 0.02)]
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in corners]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=4)
    page.mouse.up()
    expect(page.get_by_role("heading", name=f"{len(sample.manifest)} pictures")).to_be_visible()
    expect(page.get_by_test_id("stImage").locator("img")).to_have_count(24)  # a page of them


def test_the_way_from_base_to_tuned_plays(visit, workspace):
    sample = factory.make_sample(workspace)
    run = factory.make_real_run(workspace, sample, RunConfig(mode="labels"))
    looked_at(workspace, sample, run)
    page = visit("explore?section=map")
    page.get_by_role("radio").filter(has_text="→").first.click()
    button = page.locator(".updatemenu-button").first
    expect(button).to_be_visible()
    button.click()
    label = page.locator(".slider-grip-rect")
    expect(label).to_be_attached()
    assert page.get_by_test_id("stException").count() == 0
