"""Takes the README's picture: the Compare page of a finished comparison, from the real app in a real browser.

python -m tools.screenshot --workspace DIR
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from playwright.sync_api import expect, sync_playwright

from tools.serving import ROOT, launch, served, settled

expect.set_options(timeout=60_000)


def main(
    workspace: Annotated[Path, typer.Option(help="Holds at least one comparison; the newest is shown.")],
    page: Annotated[str, typer.Option(help="Page and parameters, as in the address.")] = "compare",
    out: Annotated[Path, typer.Option(help="PNG to write.")] = ROOT / "assets" / "screenshots" / "compare.png",
    width: Annotated[int, typer.Option(help="Pixels.")] = 1280,
    height: Annotated[int, typer.Option(help="Pixels.")] = 1400,
    scheme: Annotated[str, typer.Option(help="light or dark.")] = "light",
) -> None:
    """Start the app, open the page, take the picture, stop the app."""
    with served(workspace.resolve()) as address, sync_playwright() as playwright:
        browser = launch(playwright)
        view = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
        view.goto(f"{address}/{page}")
        settled(view)
        expect(view.get_by_test_id("stSkeleton")).to_have_count(0)
        if page.startswith("compare"):
            expect(view.locator(".js-plotly-plot .bars").first).to_be_attached()
        view.wait_for_timeout(1500)  # fonts and charts settle
        out.parent.mkdir(parents=True, exist_ok=True)
        view.screenshot(path=out)
        browser.close()


if __name__ == "__main__":
    typer.run(main)
