"""What only a browser can tell of the Train page: what a visitor has zoomed to stays while the curves do not follow."""

import re

import pytest
from playwright.sync_api import expect

from clipdemo.records import RunConfig, Step
from tests import workspace_factory as factory

pytestmark = pytest.mark.browser

PIXELS = """() => {
    const canvas = document.querySelector('[data-testid="stEChartsChart"] canvas')
    return canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.join()
}"""


def test_a_zoom_stays_while_the_curves_do_not_follow_a_live_run(visit, workspace):
    sample, config = factory.make_sample(workspace), RunConfig(mode="labels", epochs=6)
    run = factory.make_run(workspace, sample, config, finished=False)
    settings = {"sample_id": sample.id, "runs": [config.model_dump(mode="json")]}
    job = factory.make_job(workspace, "train", settings, {"labels": (60, 60)})
    with factory.keep_alive(job):
        page = visit(f"train?job={job.id}")
        chart = page.get_by_test_id("stEChartsChart").first
        expect(chart.locator("canvas")).to_be_visible()
        toggle = page.get_by_role("switch", name="Follow live").or_(page.get_by_role("checkbox", name="Follow live"))
        page.get_by_text("Follow live", exact=True).click()
        expect(toggle.first).not_to_be_checked()
        whole = page.evaluate(PIXELS)
        chart.hover()
        page.keyboard.down("Shift")
        for _ in range(5):
            page.mouse.wheel(0, -300)
        page.keyboard.up("Shift")
        page.mouse.move(0, 0)
        page.wait_for_function(f"before => ({PIXELS})() !== before", arg=whole)
        zoomed = page.evaluate(PIXELS)
        with (run.folder / "metrics.jsonl").open("a") as file:
            step = Step(step=62, epoch=6.2, seconds=31, training_loss=9.0, learning_rate=1e-4)
            file.write(step.model_dump_json(exclude_none=True) + "\n")
        expect(page.get_by_text(re.compile("drawn to step 60, now at step 62"))).to_be_visible()
        assert page.evaluate(PIXELS) == zoomed
        page.get_by_text("Follow live", exact=True).click()
        expect(page.get_by_text(re.compile("drawn to step"))).to_have_count(0)
        page.wait_for_function(f"before => ({PIXELS})() !== before", arg=zoomed)
