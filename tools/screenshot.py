"""Takes the README's picture: the Compare page of a finished comparison, from the real app in a real browser.

python -m tools.screenshot --workspace DIR
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Annotated

import typer
from playwright.sync_api import expect, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]


def main(
    workspace: Annotated[Path, typer.Option(help="Holds at least one comparison; the newest is shown.")],
    page: Annotated[str, typer.Option(help="Page and parameters, as in the address.")] = "compare",
    out: Annotated[Path, typer.Option(help="PNG to write.")] = ROOT / "assets" / "screenshots" / "compare.png",
    width: Annotated[int, typer.Option(help="Pixels.")] = 1280,
    height: Annotated[int, typer.Option(help="Pixels.")] = 1400,
    scheme: Annotated[str, typer.Option(help="light or dark.")] = "light",
) -> None:
    """Start the app, open the page, take the picture, stop the app."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", str(ROOT / "app.py"), "--server.port", str(port)]
    environment = os.environ | {"CLIPDEMO_WORKSPACE": str(workspace)}
    server = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for(f"http://127.0.0.1:{port}/_stcore/health")
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
            view = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
            view.goto(f"http://127.0.0.1:{port}/{page}")
            expect(view.locator("h1").first).to_be_visible(timeout=60_000)
            idle = '[data-testid="stApp"][data-test-script-state="notRunning"]'
            expect(view.locator(idle)).to_be_visible(timeout=60_000)
            expect(view.get_by_test_id("stSkeleton")).to_have_count(0, timeout=60_000)
            if page.startswith("compare"):
                expect(view.locator(".js-plotly-plot .bars").first).to_be_attached(timeout=60_000)
            view.wait_for_timeout(1500)  # fonts and charts settle
            out.parent.mkdir(parents=True, exist_ok=True)
            view.screenshot(path=out)
            browser.close()
    finally:
        server.terminate()
        server.wait(timeout=20)


def _wait_for(address: str, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while True:
        try:
            urllib.request.urlopen(address, timeout=2).close()
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


if __name__ == "__main__":
    typer.run(main)
