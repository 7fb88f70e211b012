"""`gpt2-lesson lessons`: copy the lessons, exercises and glossary to a folder."""

import argparse
from pathlib import Path

from gpt2_lesson.authoring.course import write_course


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `gpt2-lesson lessons`."""
    parser.add_argument("folder", type=Path, metavar="FOLDER",
                        help="a new or an empty folder")


def run(args: argparse.Namespace) -> int:
    """Copy the course and say how to open its first lesson; return 0."""
    first = min(p for p in write_course(args.folder) if p.parts[0] == "notebooks")
    print(f'jupyter lab --notebook-dir="{args.folder}" "{args.folder / first}"')
    return 0
