"""`kill_saves.py`, a tenth of it."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_a_tenth_of_the_kills() -> None:
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("kill_saves.py")), "30"],
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stdout + done.stderr
