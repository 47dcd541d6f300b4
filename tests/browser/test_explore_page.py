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
    followed = page.get_by_role("button", name=re.compile(r"^-?0\.\d\d · ")).nth(3)
    expect(followed).to_be_visible()
    followed.click()
    expect(page).not_to_have_url(re.compile(re.escape(f"picture={rows['id'].iloc[1]}")))
    expect(page.get_by_text("How these were found")).to_be_visible()
    page.get_by_role("button", name="Back", exact=True).click()
    expect(page).to_have_url(re.compile(re.escape(f"picture={rows['id'].iloc[1]}")))
    page.get_by_text("That the model gets").scroll_into_view_if_needed()
    sentence = page.get_by_label("A sentence of yours")
    sentence.fill("chest X-ray")
    sentence.press("Enter")
    expect(page.get_by_text("Yours would be number")).to_be_visible()
    page.get_by_text("Words", exact=True).click()
    words = page.get_by_label("Words", exact=True)
    words.fill("chest X-ray")
    words.press("Enter")
    expect(page.get_by_test_id("stImage").locator("img")).to_have_count(8)
    page.get_by_text("The map of all").click()
    expect(field_of(page)).to_be_visible()
    settled(page)
    assert page.get_by_test_id("stException").count() == 0


def field_of(page):
    """What the pointer meets of the map."""
    return page.locator(".map .field canvas").last


def drawn(page, what):
    """What the map in the browser holds: an expression of `map`."""
    return page.locator(".map").evaluate(f"root => {{ const map = root.drawn; return {what} }}")


def opened_map(visit, address="", **size):
    page = visit(f"explore?section=map{address}", **size)
    expect(field_of(page)).to_be_visible()
    settled(page)
    field_of(page).scroll_into_view_if_needed()
    return page


def drag(page, corners):
    """Draws over the map along these corners, as fractions of its sides."""
    box = field_of(page).bounding_box()
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in corners]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=4)
    page.mouse.up()


def test_what_is_drawn_round_on_the_map_opens_as_pictures_and_zoom_and_area_stay(visit, workspace):
    sample = factory.make_sample(workspace)
    looked_at(workspace, sample)
    page = opened_map(visit)
    page.get_by_role("button", name="Draw round points").click()
    drag(page, [(0.02, 0.02), (0.98, 0.02), (0.98, 0.98), (0.02, 0.98), (0.02, 0.02)])
    expect(page.get_by_role("heading", name=f"{len(sample.manifest)} pictures")).to_be_visible()
    expect(page.get_by_test_id("stImage").locator("img")).to_have_count(24)  # a page of them
    settled(page)
    page.get_by_role("button", name="Wider").click()
    x, y = drawn(page, "(([x, y]) => [x / map.width, y / map.height])(map._pixel(...map.at.images.slice(0, 2)))")
    drag(page, [(x - 0.03, y - 0.06), (x + 0.03, y - 0.06), (x + 0.03, y + 0.06), (x - 0.03, y + 0.06)])
    page.wait_for_function("!document.body.innerText.includes('60 pictures')")
    inside = drawn(page, "map.chosen.reduce((sum, one) => sum + one, 0)")
    expect(page.get_by_role("heading", name=re.compile(rf"^{inside} pictures?$"))).to_be_visible()
    settled(page)
    assert 0 < inside < len(sample.manifest)
    assert drawn(page, "map.zoom") == pytest.approx(1 / 1.5) and drawn(page, "map.brush.area.length") > 3
    page.get_by_role("button", name="Let go of the points").click()
    expect(page.get_by_role("heading", name=re.compile("pictures?$"))).to_have_count(0)


@pytest.mark.parametrize("width", [1440, 390])
def test_one_unit_is_as_long_both_ways_and_moving_moves_by_pixels(visit, workspace, width):
    sample = factory.make_sample(workspace)
    looked_at(workspace, sample)
    page = opened_map(visit, width=width)
    page.get_by_role("button", name="Draw a rectangle round points").click()
    box = field_of(page).bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x - 100, y - 50)
    page.mouse.down()
    page.mouse.move(x + 100, y + 50, steps=3)
    page.mouse.up()
    (left, top), (right, _), (_, bottom), _ = drawn(page, "map.brush.area")
    assert right - left == pytest.approx(2 * (top - bottom))
    page.get_by_role("button", name="Move the map").click()
    settled(page)
    before = drawn(page, "map._pixel(0, 0)")
    box = field_of(page).bounding_box()
    page.mouse.move(box["x"] + 60, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + 90, box["y"] + 100, steps=3)
    page.mouse.up()
    assert drawn(page, "map._pixel(0, 0)") == pytest.approx([before[0] + 30, before[1] + 40])


def test_captions_and_classes_are_shown_letter_by_letter(visit, workspace):
    hostile = "<img src=x onerror=alert(1)>"
    classes = (f"{hostile} {{@x}} {{b}} \u202e", "Cat")
    sample = factory.make_sample(workspace, classes=classes, caption=hostile + " {} $x$ **bold**")
    looked_at(workspace, sample)
    page = visit("explore?section=map")
    page.on("dialog", lambda dialog: pytest.fail(f"a caption was run: {dialog.message}"))
    expect(field_of(page)).to_be_visible()
    settled(page)
    field_of(page).scroll_into_view_if_needed()
    box, spot = field_of(page).bounding_box(), drawn(page, "map._pixel(map.at.images[0], map.at.images[1])")
    page.mouse.move(box["x"] + spot[0], box["y"] + spot[1])
    tip = page.locator(".map .tip")
    expect(tip).to_be_visible()
    expect(tip).to_contain_text(hostile)
    expect(page.locator(".map .legend")).to_contain_text("<img src=x onerror=alert(1)> {@x} {b}")
    assert page.locator('.map img, img[src="x"]').count() == 0


def test_a_class_that_is_hidden_is_neither_seen_nor_drawn_round(visit, workspace):
    sample = factory.make_sample(workspace)
    looked_at(workspace, sample)
    page = opened_map(visit)
    page.get_by_role("button", name="Foot", exact=True).click()
    page.get_by_role("button", name="Draw round points").click()
    drag(page, [(0.02, 0.02), (0.98, 0.02), (0.98, 0.98), (0.02, 0.98)])
    left = int((sample.manifest["label"] != "Foot").sum())
    expect(page.get_by_role("heading", name=f"{left} pictures")).to_be_visible()


def test_the_way_from_base_to_tuned_plays(visit, workspace):
    sample = factory.make_sample(workspace)
    run = factory.make_real_run(workspace, sample, RunConfig(mode="labels"))
    looked_at(workspace, sample, run)
    page = opened_map(visit)
    start = drawn(page, "[...map.at.images]")
    page.get_by_role("radio").filter(has_text="→").first.click()
    button = page.get_by_role("button", name="Play")
    expect(button).to_be_visible()
    settled(page)
    assert drawn(page, "[...map.at.images]") == start
    button.click()
    expect(page.get_by_role("slider", name="Place on the way")).to_have_value("1000")
    expect(page.get_by_role("button", name="Play")).to_be_visible()
    goal = drawn(page, "[...map.at.images]")
    assert goal == drawn(page, "[...map.data.ends[1].images]") and goal != start
    page.get_by_role("slider", name="Place on the way").fill("500")
    halfway = [(a + b) / 2 for a, b in zip(start, goal, strict=True)]
    assert drawn(page, "[...map.at.images]") == pytest.approx(halfway, abs=1e-6)
    assert page.get_by_test_id("stException").count() == 0
