"""`gpt2-lesson page`: run lessons and write each as a page to read without a network.

A page is one file. Its pictures lie inside it, its formulas are MathML, and its figures
answer back. What a page links to in the course, such as its exercises, is written
beside it as it is stored, and not run.
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
    """Write the lessons' pages and print where they are; 1 if a lesson fails."""
    return write_pages(args.lessons, args.notebooks, args.out, args.timeout)
