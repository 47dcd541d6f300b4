"""The report in a real browser without a network: drawn, harmless, saved, printed."""

import pytest
from playwright.sync_api import expect

from clipdemo.reporting import report_html
from tests.test_reporting import CLASSES, HOSTILE, make_comparison

pytestmark = pytest.mark.browser


@pytest.fixture
def opened(browser, workspace, tmp_path):
    """Opens the report of a comparison; what it asks for and complains about is in `asked` and `said` of the page."""
    contexts = []

    def open_(classes=CLASSES, run_name="", bypass_csp=False):
        path = tmp_path / "report.html"
        path.write_text(report_html(workspace, make_comparison(workspace, classes, run_name)))
        context = browser.new_context(offline=True, bypass_csp=bypass_csp, accept_downloads=True)
        contexts.append(context)
        page = context.new_page()
        page.asked, page.said = [], []
        page.on("request", lambda request: page.asked.append(request.url))
        page.on("console", lambda message: page.said.append(message.text))
        page.on("pageerror", lambda error: page.said.append(str(error)))
        page.goto(path.as_uri())
        expect(page.locator("html[data-drawn]")).to_be_attached()
        return page, path.as_uri()

    yield open_
    for context in contexts:
        context.close()


def outside(page, address):
    return [url for url in page.asked if url != address and not url.startswith(("data:", "blob:"))]


def test_all_charts_are_drawn_and_nothing_is_asked_for(opened):
    page, address = opened()
    plots = page.locator(".plot")
    assert plots.count() >= 9
    for i in range(plots.count()):
        expect(plots.nth(i).locator(".main-svg").first).to_be_visible()
    expect(page.locator("#plot-per-class .bars path").first).to_be_attached()
    assert page.locator("img").evaluate_all("all => all.every(i => i.naturalWidth > 0)")
    assert outside(page, address) == [] and page.said == []


@pytest.mark.parametrize("bypass_csp", [False, True], ids=["with-policy", "by-escaping-alone"])
def test_names_that_are_code_do_nothing(opened, bypass_csp):
    page, address = opened(HOSTILE, "</title><script>document.title='broken'</script>", bypass_csp)
    shown = page.locator("#plot-per-class .yaxislayer-above").text_content()
    assert "</script><img src=x" in shown and "<b>bold</b>" in shown  # letter by letter
    assert page.title().startswith("Comparison ")
    assert page.locator("img[src=x], .plot a, b, main a, footer a").count() == 0
    page.locator("#plot-top1").scroll_into_view_if_needed()
    page.locator("#plot-per-class").scroll_into_view_if_needed()
    bar = page.locator("#plot-per-class .bars path").first.bounding_box()
    page.mouse.move(bar["x"] + bar["width"] / 2, bar["y"] + bar["height"] / 2)
    hover = page.locator("#plot-per-class .hoverlayer .hovertext").first
    expect(hover).to_contain_text("right (")
    assert page.locator(".hoverlayer a, .hoverlayer img").count() == 0
    assert outside(page, address) == [] and page.said == []


@pytest.mark.parametrize(("kind", "start"), [("svg", b"<svg"), ("png", b"\x89PNG")])
def test_a_chart_is_saved_by_its_button(opened, kind, start):
    page, address = opened()
    with page.expect_download() as waiting:
        page.locator(f"button[data-chart=top1][data-format={kind}]").click()
    assert waiting.value.suggested_filename == f"top1.{kind}"
    with open(waiting.value.path(), "rb") as file:
        assert file.read().startswith(start)
    assert outside(page, address) == [] and page.said == []


def test_on_paper_charts_fit_and_details_are_open_and_afterwards_all_is_as_before(opened):
    page, _ = opened(tuple(f"Class {i:02d}" for i in range(14)))
    widths = "[...document.querySelectorAll('.plot .main-svg')].map(svg => +svg.getAttribute('width'))"
    heights = "[...document.querySelectorAll('.plot .main-svg')].map(svg => +svg.getAttribute('height'))"
    before = page.evaluate(widths), page.evaluate(heights)
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert max(page.evaluate(widths)) <= 680  # 180 mm
    assert max(page.evaluate(heights)) <= 1009  # 267 mm
    assert page.locator("details:not([open])").count() == 0
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert (page.evaluate(widths), page.evaluate(heights)) == before
    assert page.locator("details[open]").count() == 0


@pytest.mark.parametrize("width", [390, 1440])
def test_the_page_never_scrolls_sideways(opened, width):
    page, _ = opened(HOSTILE)
    page.set_viewport_size({"width": width, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
