"""The tests' surroundings: no window, no network, and a real browser if there is one.

A figure is tested as a reader sees it: `open_figure(figure)` opens its page in Chromium
with the network cut, and notes every request that wanted to leave the page.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

os.environ["MPLBACKEND"] = "Agg"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
SWITCHES = ["--no-sandbox", "--disable-gpu", "--disable-background-networking",
            "--disable-component-update", "--disable-sync", "--no-first-run"]


@pytest.fixture(autouse=True)
def _seed() -> None:
    """Let every test draw the same numbers, alone or among others."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def chromium() -> Iterator:
    """Give Playwright's Chromium; without one the test is skipped, and says so.

    With GPT2_LESSON_NEEDS_BROWSER set, as in .ci/run, it fails instead.
    """
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        sync_playwright = None
    if CHROMIUM is None or sync_playwright is None:
        missing = "no Chromium on this machine: the figures' browser tests need it"
        if os.environ.get("GPT2_LESSON_NEEDS_BROWSER"):
            pytest.fail(missing)
        pytest.skip(missing)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=SWITCHES)
        yield browser
        browser.close()


@pytest.fixture
def open_figure(chromium, tmp_path: Path) -> Iterator[Callable]:
    """Give `open_figure(figure, dark=False, width=1280)`, a page without a network.

    At the end no page may have asked for anything outside, nor reported an error.
    """
    contexts, outside, errors = [], [], []

    def open_it(figure, dark: bool = False, width: int = 1280, height: int = 900):
        context = chromium.new_context(
            color_scheme="dark" if dark else "light",
            viewport={"width": width, "height": height}, reduced_motion="reduce",
        )
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: outside.append(request.url)
                if not request.url.startswith(("file:", "data:", "blob:")) else None)
        context.set_offline(True)
        path = tmp_path / f"figure{len(contexts)}.html"
        figure.save_html(path)
        page.goto(path.as_uri())
        page.wait_for_selector("#figure[data-ready]")
        return page

    yield open_it
    for context in contexts:
        context.close()
    assert outside == [] and errors == []
