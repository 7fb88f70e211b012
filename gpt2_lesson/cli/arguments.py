"""Arguments that several commands share."""

import argparse
from pathlib import Path

from gpt2_lesson.authoring.notebooks import NOTEBOOKS
from gpt2_lesson.runs.devices import DEVICES


def add_device(parser: argparse.ArgumentParser, default: str | None = "auto") -> None:
    """Add the device to compute on."""
    parser.add_argument("--device", choices=("auto", *DEVICES), default=default,
                        help="default: auto, the fastest one")


def add_notebooks(parser: argparse.ArgumentParser) -> None:
    """Add the folder of the lessons."""
    parser.add_argument("--notebooks", type=Path, default=NOTEBOOKS,
                        help="folder of the lessons (default: %(default)s)")


def add_lessons(parser: argparse.ArgumentParser) -> None:
    """Add the lessons to run, a time limit, and the folder of the lessons."""
    parser.epilog = (
        "The code of the lessons runs with your permissions: run only what you trust."
    )
    parser.add_argument("lessons", nargs="*", metavar="LESSON",
                        help="01, attention, 01_attention or a file (default: all)")
    parser.add_argument("--timeout", type=float, default=1800, metavar="SECONDS",
                        help="time limit for one cell (default: %(default)s)")
    add_notebooks(parser)
