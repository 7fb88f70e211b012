"""The tests' surroundings: no window, no network, and a real browser if there is one.

A figure is tested as a reader sees it: `open_figure(figure)` opens its page in Chromium
with the network cut, and notes every request that wanted to leave the page.
"""

import itertools
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from browser import CHROMIUM, SWITCHES, lacks, offline_pages

pytest.register_assert_rewrite("catalogue")
os.environ["GPT2_LESSON_PROGRESS"] = os.devnull + "/progress.json"  # kept nowhere
os.environ["MPLBACKEND"] = "Agg"
os.environ.setdefault("OMP_NUM_THREADS", "1")  # the notebooks' kernels: on a busy
torch.set_num_threads(1)  # machine threads wait for each other
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a shell's background:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the tests send Ctrl-C


@pytest.fixture(autouse=True)
def _strict(monkeypatch) -> None:
    """Let a clue that raises fail the test; a learner's report leaves it out."""
    from gpt2_lesson.checks import diagnosis

    monkeypatch.setattr(diagnosis, "strict", True)


@pytest.fixture(autouse=True)
def _seed() -> None:
    """Let every test draw the same numbers, alone or among others."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def axe():
    """Give axe-core, which finds what keeps someone out."""
    try:
        from axe_playwright_python.sync_playwright import Axe
    except ImportError:
        lacks("axe-playwright-python")
    return Axe()


@pytest.fixture(scope="session")
def chromium() -> Iterator:
    """Give Playwright's Chromium."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        sync_playwright = None
    if CHROMIUM is None or sync_playwright is None:
        lacks("Chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=SWITCHES)
        yield browser
        browser.close()


@pytest.fixture
def open_figure(chromium, tmp_path: Path) -> Iterator[Callable]:
    """Give `open_figure(figure, dark=False, width=1280)`, a page without a network.

    With `motion` what moves by itself may move. At the end no page may have asked for
    anything outside, nor reported an error.
    """
    numbers = itertools.count()
    with offline_pages(chromium) as new_page:

        def open_it(
            figure,
            dark: bool = False,
            width: int = 1280,
            height: int = 900,
            motion: bool = False,
        ):
            page = new_page(
                color_scheme="dark" if dark else "light",
                viewport={"width": width, "height": height},
                reduced_motion="no-preference" if motion else "reduce",
            )
            path = tmp_path / f"figure{next(numbers)}.html"
            figure.save_html(path)
            page.goto(path.as_uri())
            page.wait_for_selector("#figure[data-ready]")
            return page

        yield open_it


@pytest.fixture(scope="module")
def folder() -> Iterator[Callable[[], Path]]:
    """Give a maker of folders that everybody on this machine may read."""
    with tempfile.TemporaryDirectory() as top:
        os.chmod(top, 0o755)

        def make(name: str) -> Path:
            path = Path(top, name)
            path.mkdir()
            return path

        yield make
