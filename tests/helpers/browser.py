"""The browser in which figures are tested, where there is one."""

import os
import shutil

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PATIENCE = 900_000  # milliseconds: nothing fails because a machine is busy
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
