"""Seconds from `streamlit run app.py` until a browser that stands open shows the first page, whole.

python -m benchmarks.first_page
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from statistics import median

from playwright.sync_api import expect, sync_playwright

from benchmarks.machine import keep
from tools.serving import launch, served, settled

ROUNDS = 7


def main() -> None:
    """Each round starts a new server with a new, empty workspace and opens it in a fresh profile."""
    healthy, title, whole = [], [], []
    with sync_playwright() as playwright:
        browser = launch(playwright)
        browser.new_page().goto("about:blank")  # the browser's own start is not ours
        for round_ in range(ROUNDS):
            with tempfile.TemporaryDirectory() as folder:
                began = time.perf_counter()
                with served(Path(folder) / "workspace") as address:
                    healthy.append(time.perf_counter() - began)
                    page = browser.new_context().new_page()
                    page.goto(address)
                    expect(page.locator("h1").first).to_be_visible(timeout=60_000)
                    title.append(time.perf_counter() - began)
                    settled(page)
                    whole.append(time.perf_counter() - began)
                    page.close()
            print(f"round {round_ + 1}: healthy {healthy[-1]:.2f} s, title {title[-1]:.2f} s, whole {whole[-1]:.2f} s")
    result = {
        name: {"median": round(median(values), 2), "rounds": [round(v, 2) for v in values]}
        for name, values in (("healthy_seconds", healthy), ("title_seconds", title), ("whole_page_seconds", whole))
    }
    print({name: value["median"] for name, value in result.items()})
    keep("first_page", "python -m benchmarks.first_page", result)


if __name__ == "__main__":
    main()
