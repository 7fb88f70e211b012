"""`gpt2-lesson lessons`: copy the lessons, exercises and glossary to a folder."""

import argparse
from pathlib import Path

from gpt2_lesson.authoring.course import write_course


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `gpt2-lesson lessons`."""
    parser.add_argument("folder", type=Path, metavar="FOLDER",
                        help="a new or an empty folder")
    parser.add_argument("--install-from", default="", metavar="URL", help="let each "
                        "notebook begin with a cell that installs the course from this "
                        "git repository, for Colab")


def run(args: argparse.Namespace) -> int:
    """Copy the course and say how to open its first lesson; return 0."""
    copied = write_course(args.folder, args.install_from)
    first = min(path for path in copied if path.parts[0] == "notebooks")
    print(f'jupyter lab --notebook-dir="{args.folder}" "{args.folder / first}"')
    return 0
