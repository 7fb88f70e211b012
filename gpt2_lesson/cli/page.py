"""`gpt2-lesson page`: run lessons and write each one as a page for reading offline.

A page is a single file that contains its pictures; its formulas are MathML, and its
figures are interactive. Notebooks that a page links to, such as its exercises, become
pages too, with the outputs that are stored in them.
"""

import argparse
from pathlib import Path

from gpt2_lesson.authoring.page import write_pages
from gpt2_lesson.cli.arguments import add_lessons


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `gpt2-lesson page`."""
    add_lessons(parser)
    parser.add_argument("--out", type=Path, default=Path("pages"), metavar="FOLDER",
                        help="folder of the pages (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    """Write the pages and print their paths; return 1 if a lesson fails."""
    return write_pages(args.lessons, args.notebooks, args.out, args.timeout)
