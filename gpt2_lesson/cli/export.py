"""`gpt2-lesson export`: generate the package's modules from the lessons."""

import argparse
from pathlib import Path

from gpt2_lesson.authoring.export import differences, export
from gpt2_lesson.authoring.notebooks import PACKAGE
from gpt2_lesson.cli.arguments import add_notebooks


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `gpt2-lesson export`."""
    parser.add_argument("--check", action="store_true", help="change nothing; say "
                        "which modules differ (exit status 1)")
    add_notebooks(parser)
    parser.add_argument("--package", type=Path, default=PACKAGE,
                        help="folder of the package (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    """Export or check, and print what changed; 1 if a check finds a difference."""
    if args.check:
        found = differences(args.notebooks, args.package)
        print("\n".join(found) or "the package agrees with the lessons")
        return int(bool(found))
    changed = export(args.notebooks, args.package)
    print("\n".join(changed) or "nothing changed")
    return 0
