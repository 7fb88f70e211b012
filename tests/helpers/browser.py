"""The browser in which figures are tested, where there is one."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PATIENCE = 300_000  # milliseconds: nothing fails because a machine is busy
SWITCHES = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


def lacks(what: str) -> None:
    """Skip the test, and say so; fail it with GPT2_LESSON_NEEDS_BROWSER, as in CI."""
    missing = f"no {what} on this machine: the figures' browser tests need it"
    if os.environ.get("GPT2_LESSON_NEEDS_BROWSER"):
        pytest.fail(missing)
    pytest.skip(missing)


def wait_until(frame, condition: str, arg=None) -> None:
    """Wait until a condition holds in a page or a frame.

    It is asked by the clock: a browser draws no frame that is out of view, and whoever
    asks whenever it is drawn, as Playwright does by itself, would ask only once.
    """
    frame.wait_for_function(condition, arg=arg, polling=100)


@contextmanager
def offline_pages(chromium) -> Iterator[Callable]:
    """Give `new_page(**settings)`: a page that is cut off from everything outside.

    At the end no page may have asked for anything outside, nor reported an error.
    """
    contexts, outside, errors = [], [], []

    def new_page(**settings):
        context = chromium.new_context(**settings)
        contexts.append(context)
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on(
            "request",
            lambda request: (
                outside.append(request.url)
                if not request.url.startswith(("file:", "data:", "blob:"))
                else None
            ),
        )
        context.set_offline(True)
        return page

    yield new_page
    for context in contexts:
        context.close()
    assert outside == [] and errors == [], (outside, errors)
