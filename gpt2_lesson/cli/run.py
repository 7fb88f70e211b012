"""`gpt2-lesson run`: run lessons from top to bottom and store them in normal form."""

import argparse

from gpt2_lesson.authoring.run import run_lessons
from gpt2_lesson.cli.arguments import add_lessons


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `gpt2-lesson run`."""
    add_lessons(parser)


def run(args: argparse.Namespace) -> int:
    """Run and store the lessons, and print the seconds each took; 1 if one fails."""
    return run_lessons(args.lessons, args.notebooks, args.timeout)
