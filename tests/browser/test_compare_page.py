"""What a visitor does on the Compare page, in a real browser."""

import io
import json
import re
import zipfile
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from clipdemo.comparison import load_predictions, measure
from clipdemo.marks import marked
from clipdemo.progress import finish
from clipdemo.records import MODES, RunConfig
from tests import workspace_factory as factory
from tools.serving import settled

pytestmark = pytest.mark.browser


@pytest.fixture
def full(workspace):
    return factory.make_comparison(workspace, factory.make_sample(workspace))


@pytest.fixture
def real(workspace):
    """Three models that open, the tuned ones never trained: the lab needs models, not good ones."""
    sample = factory.make_sample(workspace)
    runs = [factory.make_real_run(workspace, sample, RunConfig(mode=mode)) for mode in MODES]
    return finish(measure(sample, workspace, runs))


def press(page: Page, selector: str, place: int = 0) -> None:
    """Clicks the middle of a mark of a chart, as a hand does: what Plotly lays over it gets the click."""
    mark = page.locator(selector).nth(place)
    expect(mark).to_be_attached()
    mark.scroll_into_view_if_needed()
    box = mark.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x - 1, y)
    page.mouse.move(x, y)
    expect(page.locator(".hoverlayer .hovertext").first).to_be_visible()  # Plotly knows what is under the pointer
    page.mouse.click(x, y)


def test_a_click_on_a_bar_shows_that_classs_pictures(visit, full, workspace):
    page = visit("compare?section=classes")
    press(page, ".barlayer .trace:nth-child(3) .point path", 2)  # of the labels model, third class from the top
    heading = page.get_by_role("heading", name=re.compile("its test pictures"))
    expect(heading).to_be_visible()
    label = heading.inner_text().partition(":")[0]
    assert label == sorted(full.models[0].per_class)[2]  # all are equally frequent, so they stand by name
    expect(page.get_by_role("img", name=re.compile(f"^{label}: made_up_"))).to_have_count(1)
    expect(page.get_by_text(re.compile("is its label"))).to_have_count(1)


def test_a_click_on_a_cell_shows_its_pictures_with_all_models_answers(visit, full, workspace):
    page = visit("compare?section=confusion")
    expect(page.get_by_test_id("stPlotlyChart")).to_have_count(3)
    labels = page.get_by_test_id("stPlotlyChart").nth(2)
    expect(labels.locator(".main-svg").first).to_be_visible()
    sample_classes = sorted(full.models[0].per_class)
    first = load_predictions(workspace, full.models[2])["label"].iloc[0]  # which the labels model has right
    i = sample_classes.index(first)
    press(page, "[data-testid=stPlotlyChart] >> nth=2 >> .scatterlayer .trace:last-child .points path", 12 * i + i)
    expect(page.get_by_role("heading", name=re.compile(rf"^{first}, called right by ■\s+Labels \(1\)"))).to_be_visible()
    expect(page.get_by_role("img", name=re.compile(f"^{first}: "))).to_have_count(1)
    card = page.get_by_test_id("stColumn").filter(has_text="is its label")
    for sign in ("●", "▲", "■"):
        expect(card.get_by_text(sign)).to_be_visible()


def test_another_sentence_moves_the_numbers(visit, real):
    page = visit("compare?section=prompts")
    table = page.get_by_test_id("stTable").first
    expect(table.locator("tbody tr")).to_have_count(3, timeout=120_000)
    expect(table.get_by_text("(+0.0)").first).to_be_visible()
    numbers = [table.inner_text()]
    sentences = page.get_by_role("textbox", name="Sentences, one a line")
    for text in ("a photo of the {label}, zebra stripes", "{label} {label}", "no {label} here\nnor a {label} there"):
        sentences.fill(text)
        sentences.press("ControlOrMeta+Enter")
        if text.count("{label}") == 2 and "\n" not in text:  # a sentence that cannot be says so, and the table goes
            expect(page.get_by_text("exactly once")).to_be_visible()
            expect(page.get_by_test_id("stTable")).to_have_count(0)
            continue
        expect(table).not_to_have_text(numbers[-1], use_inner_text=True)
        settled(page)
        numbers.append(table.inner_text())
    assert len(set(numbers)) == 3
    page.get_by_text("Show test pictures too").click()
    expect(page.get_by_text(re.compile("Test pictures.*n = 12"))).to_be_visible()


def test_a_wrong_label_is_marked_and_left_out(visit, full, workspace):
    page = visit("compare?section=pictures")
    page.get_by_role("radio", name=re.compile("Label court")).or_(
        page.get_by_test_id("stButtonGroup").get_by_text("Label court")
    ).first.click()
    expect(page.get_by_text("The label is wrong", exact=True)).to_have_count(3)
    page.get_by_text("The label is wrong", exact=True).first.click()
    expect(page.get_by_text("1 marked.")).to_be_visible()
    assert len(marked(workspace, full)) == 1
    page.get_by_text("Leave out 1 pictures marked as wrongly labelled").click()
    page.get_by_text("Who wins", exact=True).click()
    rows = page.get_by_test_id("stTable").first.locator("tbody tr")
    for row in rows.all():
        expect(row.locator("td").last).to_have_text("11")
    expect(rows.last).to_contain_text("81.8")  # 9 of 11
    page.reload()  # the switch rides in the address
    expect(rows.last.locator("td").last).to_have_text("11")
    page.goto(page.url.partition("?")[0])  # the mark stays for everybody, the switch is each visitor's own
    expect(page.get_by_text("Leave out 1 pictures marked as wrongly labelled")).to_be_visible()
    expect(rows.last.locator("td").last).to_have_text("12")


def test_the_report_and_its_files_are_downloaded(visit, full, workspace):
    page = visit("compare?section=report")
    with page.expect_download(timeout=60_000) as waiting:
        page.get_by_role("button", name="Download the report").click()
    assert waiting.value.suggested_filename == f"{full.id}.html"
    text = Path(waiting.value.path()).read_text()
    assert text.startswith("<!doctype html>") and full.sample_hash in text
    with page.expect_download(timeout=60_000) as waiting:
        page.get_by_role("button", name=re.compile("Download all tables")).click()
    with zipfile.ZipFile(io.BytesIO(Path(waiting.value.path()).read_bytes())) as archive:
        names = {Path(name).name for name in archive.namelist()}
        assert {"report.html", "comparison.json", "SHA256SUMS"} <= names
        assert any(name.endswith(".csv") for name in names)
    with page.expect_download() as waiting:
        page.get_by_role("button", name="comparison.json").click()
    assert json.loads(Path(waiting.value.path()).read_text())["id"] == full.id
