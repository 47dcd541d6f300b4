"""What a visitor does, in a real browser. Each journey waits for what the visitor would wait for."""

import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect

from clipdemo.comparison import load_comparison
from clipdemo.records import percent
from tests import workspace_factory as factory
from tests.hub_standin import HubStandIn
from tools.serving import served, settled

pytestmark = pytest.mark.browser

DATA = Path(__file__).resolve().parents[2] / "../shared/data"
PAGES = ("", "data", "train", "compare")


@pytest.fixture
def full(workspace):
    return factory.make_comparison(workspace, factory.make_sample(workspace))


def test_from_homes_button_to_the_finished_table(visit, workspace):
    page = visit()
    page.get_by_text("Another size", exact=True).click()
    pictures = page.get_by_label("Pictures", exact=True)
    pictures.fill("240")
    pictures.press("Tab")
    page.get_by_role("button", name="Run the whole experiment", exact=True).click()
    expect(page.get_by_role("button", name="Stop", exact=True)).to_be_visible()
    expect(page).to_have_url(re.compile("job="))
    page.reload()  # a reload comes back to the same experiment
    expect(page.get_by_text("Fine-tune on labels")).to_be_visible()
    expect(page.get_by_text(re.compile("The experiment finished after"))).to_be_visible(timeout=240_000)
    expect(page.get_by_role("button", name="Run the whole experiment", exact=True)).to_be_visible()
    page.get_by_text("See the whole comparison").click()
    expect(page.get_by_role("heading", name="Compare", exact=True)).to_be_visible()
    comparison = load_comparison(workspace, workspace.names("comparisons")[0])
    rows = page.get_by_test_id("stTable").first.locator("tbody tr")
    expect(rows).to_have_count(3)
    for row, model in zip(rows.all(), comparison.models, strict=True):
        expect(row).to_contain_text(percent(model.top1))
        expect(row).to_contain_text(f"{model.n:,}")
    page.get_by_text("Classes", exact=True).click()
    expect(page.get_by_test_id("stPlotlyChart").locator("svg").first).to_be_visible()


@pytest.mark.skipif(not DATA.exists(), reason=f"the real pictures are not at {DATA}")
def test_real_pictures_from_upload_to_comparison(visit, workspace):
    page = visit("data")
    page.get_by_text("Folder or archive", exact=True).click()
    page.locator("input[type=file]").set_input_files(DATA / "mednist.zip")
    expect(page.get_by_text("mednist.zip")).to_be_visible()
    page.get_by_role("button", name="Look first").click()
    expect(page.get_by_text("What is in it")).to_be_visible()
    expect(page.get_by_text(re.compile("Labels, no captions")).first).to_be_visible()
    pictures = page.get_by_label("Pictures", exact=True)
    pictures.fill("120")
    pictures.press("Tab")
    page.get_by_role("button", name="Draw the sample").click()
    expect(page.get_by_text("The sample was drawn in")).to_be_visible()
    page.get_by_role("tab", name="Pictures").click()
    expect(page.get_by_text("120 of 120 pictures")).to_be_visible()
    page.get_by_role("button", name="Run the whole experiment on it").click()
    expect(page.get_by_text(re.compile("The experiment finished after"))).to_be_visible(timeout=240_000)
    page.get_by_text("See the whole comparison").click()
    expect(page.get_by_test_id("stTable").first.locator("tbody tr")).to_have_count(2)  # base and labels
    comparison = load_comparison(workspace, workspace.names("comparisons")[0])
    assert [model.name for model in comparison.models] == ["base", "labels"]


@pytest.mark.skipif(not DATA.exists(), reason=f"the real pictures are not at {DATA}")
def test_pubmedvision_from_a_folder_of_this_machine(visit, workspace):
    page = visit("data")
    page.get_by_text("PubMedVision", exact=True).click()
    expect(page.get_by_text("From the Hub", exact=True)).to_be_visible()
    page.get_by_text("On this machine", exact=True).click()
    page.get_by_label("Path", exact=True).fill(str(DATA / "pubmedvision-mini"))
    page.get_by_label("Path", exact=True).press("Enter")
    settled(page)  # until then the form without a path stands there as well
    pictures = page.get_by_label("Pictures", exact=True)
    pictures.fill("120")
    pictures.press("Tab")
    page.get_by_role("button", name="Draw the sample").click()
    expect(page.get_by_text("The sample was drawn in")).to_be_visible()
    page.get_by_role("tab", name="Captions").click()
    expect(page.get_by_text(re.compile("CLIP reads 77 tokens"))).to_be_visible()
    page.get_by_role("button", name="Run the whole experiment on it").click()
    expect(page.get_by_text(re.compile("The experiment finished after"))).to_be_visible(timeout=240_000)
    page.get_by_text("See the whole comparison").click()
    expect(page.get_by_role("heading", name="Pictures and their captions")).to_be_visible()


@pytest.mark.skipif(not DATA.exists(), reason=f"the real pictures are not at {DATA}")
def test_pubmedvision_from_the_hub(browser, workspace, tmp_path):
    files = {path.name: path for path in (DATA / "pubmedvision-mini").iterdir()}
    with (
        HubStandIn({"FreedomIntelligence/PubMedVision": files}) as hub,
        served(workspace.root, tmp_path / "log", **hub.environment(tmp_path) | {"OMP_NUM_THREADS": "1"}) as address,
    ):
        page = browser.new_page()
        page.goto(f"{address}/data")
        page.get_by_text("PubMedVision", exact=True).click()
        expect(page.get_by_text("From the Hub", exact=True)).to_be_visible()
        page.get_by_label("Pictures", exact=True).fill("120")
        page.get_by_label("Pictures", exact=True).press("Tab")
        page.get_by_role("button", name="Look first").click()
        expect(page.get_by_text(re.compile("120 pictures move about"))).to_be_visible()
        page.get_by_role("button", name="Draw the sample").click()
        expect(page.get_by_text("The sample was drawn in")).to_be_visible()
        page.get_by_role("button", name="Run the whole experiment on it").click()
        expect(page.get_by_text(re.compile("The experiment finished after"))).to_be_visible(timeout=240_000)
        page.close()


def test_stop_ends_the_experiment_in_plain_words(visit, workspace):
    page = visit()
    page.get_by_role("button", name="Run the whole experiment", exact=True).click()
    page.get_by_role("button", name="Stop", exact=True).click()
    expect(page.get_by_text(re.compile("The experiment was stopped"))).to_be_visible(timeout=90_000)
    expect(page.get_by_role("button", name="Run the whole experiment", exact=True)).to_be_visible()
    assert workspace.names("comparisons") == []


def test_a_second_tab_sees_the_same_job_and_both_see_it_end(visit, workspace):
    sample = factory.make_sample(workspace)
    settings = factory.experiment_settings(sample)
    lock = factory.keep_alive(factory.make_job(workspace, "experiment", settings, {"sample": (60, 60)}))
    tabs = [visit(), visit()]
    for tab in tabs:
        expect(tab.get_by_text("The experiment is running")).to_be_visible()
    lock.release()  # what the kernel does when the process dies
    for tab in tabs:
        expect(tab.get_by_text(re.compile("The experiment was interrupted"))).to_be_visible()


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize(("scheme", "ground"), [("light", "rgb(255, 255, 255)"), ("dark", "rgb(18, 23, 29)")])
def test_every_page_follows_light_and_dark(visit, full, path, scheme, ground):
    page = visit(path, scheme=scheme)
    expect(page.locator(".stApp")).to_have_css("background-color", ground)
    expect(page.get_by_test_id("stException")).to_have_count(0)
    expect(page.get_by_test_id("stAlertContentError")).to_have_count(0)


@pytest.mark.parametrize("path", PAGES)
def test_no_page_scrolls_sideways_on_a_phone(visit, full, path):
    page = visit(path, width=390, height=844)
    expect(page.locator("[data-testid='stMain'] [data-testid='stMarkdown']").first).to_be_visible()
    widths = page.evaluate("[document.querySelector('.stMain').scrollWidth, document.documentElement.scrollWidth]")
    assert max(widths) <= 390


def test_a_deep_link_has_its_frame_and_its_choice(visit, full, workspace):
    factory.make_sample(workspace, seed=1)
    page = visit(f"data?sample={full.sample}")
    expect(page.get_by_role("link", name="Compare")).to_be_visible()
    expect(page.get_by_label(re.compile("Sample")).first).to_have_value(full.sample)
    page.get_by_role("tab", name="Pictures").click()
    expect(page.get_by_text("These pictures are synthetic")).to_be_visible()
    expect(page.get_by_role("img", name=re.compile("Made-up caption")).first).to_be_visible()


@pytest.mark.parametrize("path", ["compare?comparison=../../etc", "data?sample=%00", "train?sample=nope", "?job=../x"])
def test_a_hostile_address_is_one_clear_line(visit, full, path):
    page = visit(path)
    expect(page.get_by_test_id("stAlertContentError")).to_have_count(1)
    expect(page.get_by_test_id("stException")).to_have_count(0)


def test_no_page_asks_another_host_for_anything(browser, server, full):
    page, hosts = browser.new_page(), set()
    page.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
    for path in PAGES:
        page.goto(f"{server}/{path}")
        expect(page.locator("h1")).to_be_visible()
        expect(page.locator('.stApp[data-test-script-state="notRunning"]')).to_be_visible()
    page.close()
    assert {host for host in hosts if host} == {urlsplit(server).netloc}
