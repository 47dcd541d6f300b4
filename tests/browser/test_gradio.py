"""What a visitor does on the mounted Gradio app, in a real browser that may ask nobody else."""

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import expect

from clipdemo.images import encode_png
from clipdemo.records import RunConfig
from tests import workspace_factory as factory

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.browser


def write(field, text):
    """Types until it stays: Gradio sets a field once more just after it appears, sooner than a person could type."""
    for _ in range(20):
        field.fill(text)
        field.page.wait_for_timeout(300)
        if field.input_value() == text:
            return
    raise AssertionError(f"{text!r} was taken away 20 times")


def test_a_visitor_asks_about_a_picture_types_labels_and_flags(browser, server, workspace, tmp_path):
    sample = factory.make_sample(workspace)
    run = factory.make_real_run(workspace, sample, RunConfig(mode="captions"))
    made = [factory.make_evaluation(workspace, sample, name, of) for name, of in (("base", None), ("captions", run))]
    comparison = factory.compare(made, workspace)
    (tmp_path / "disc.png").write_bytes(encode_png(factory.disc(5)))
    # Before the page is open: nothing answers its requests while this thread waits for something else.
    command = [sys.executable, "-m", "clipdemo", "classify", str(tmp_path / "disc.png"), "--json"]
    command += ["--comparison", comparison.id, "--workspace", str(workspace.root)]
    said = json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout)
    shots = os.environ.get("CLIPDEMO_SCREENSHOTS")
    elsewhere = []

    def only_here(route):
        here = route.request.url.startswith((server, "data:", "blob:"))
        elsewhere.extend([] if here else [route.request.url])
        route.continue_() if here else route.abort()

    for scheme, width in (("light", 1280), ("dark", 390)):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page = context.new_page()
        page.route("**/*", only_here)
        page.goto(f"{server}/gradio/")
        expect(page.get_by_role("heading", name="What do the models see?")).to_be_visible()
        expect(page.get_by_text("not for diagnosis")).to_be_visible()
        expect(page.get_by_text("synthetic")).to_be_visible()
        expect(page.get_by_text(comparison.id)).to_be_visible()
        page.locator('input[type="file"]').first.set_input_files(tmp_path / "disc.png")
        answer = page.locator("h3", has_text=re.compile("say"))
        expect(answer).to_be_visible()
        expect(answer).to_have_text(said["agreement"])
        expect(page.get_by_text("● Base")).to_be_visible()
        expect(page.get_by_text("▲ Captions")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        if shots:
            page.screenshot(path=f"{shots}/gradio-{scheme}-{width}.png", full_page=True)
        page.get_by_text("Own labels and sentence").click()
        write(page.get_by_label("Labels, divided by commas"), "round, square")
        page.get_by_role("button", name="Ask the models").click()
        expect(page.locator("h3", has_text=re.compile("round|square"))).to_be_visible()
        page.get_by_text("Flag this answer").click()
        write(page.get_by_label("What it should be"), "=1+1")
        page.get_by_role("button", name="Flag", exact=True).click()
        expect(page.get_by_text(re.compile("Noted: "))).to_be_visible()
        page.get_by_role("button", name=re.compile("^Abdomen$")).click()
        expect(page.locator("h3", has_text=re.compile("say"))).to_be_visible()
        assert page.get_by_label("Models of the comparison").count() == 0  # there is one
        assert elsewhere == []
        context.close()
    rows = list(csv.DictReader((workspace.root / "flagged" / "flags.csv").open(encoding="utf-8", newline="")))
    assert [row["should be"] for row in rows] == ["'=1+1", "'=1+1"]
    assert [path.name for path in (workspace.root / "flagged").iterdir()] == ["flags.csv"]


def test_a_visitor_chooses_among_several_comparisons(browser, server, workspace, tmp_path):
    sample = factory.make_sample(workspace)
    run = factory.make_real_run(workspace, sample, RunConfig(mode="captions"))
    made = [factory.make_evaluation(workspace, sample, name, of) for name, of in (("base", None), ("captions", run))]
    alone, both = (factory.compare(of, workspace) for of in (made[:1], made))
    (workspace.root / "comparisons" / "damaged").mkdir()
    (tmp_path / "disc.png").write_bytes(encode_png(factory.disc(5)))
    page = browser.new_page()
    page.goto(f"{server}/gradio/?comparison={alone.id}")
    menu = page.get_by_label("Models of the comparison")
    expect(menu).to_have_value(alone.id)
    page.locator('input[type="file"]').first.set_input_files(tmp_path / "disc.png")
    expect(page.get_by_text("● Base")).to_be_visible()
    assert not page.get_by_text("▲ Captions").is_visible()
    menu.click()
    expect(page.get_by_role("option")).to_have_text([re.compile(one.id) for one in (both, alone)])
    page.get_by_role("option", name=both.id).click()
    expect(page.get_by_text("▲ Captions")).to_be_visible()
    page.goto(f"{server}/gradio/?comparison=![x](https://example.org/x.png)`")
    expect(page.get_by_text("Models of comparison ![x](https://example.org/x.png)`")).to_be_visible()
    page.close()
