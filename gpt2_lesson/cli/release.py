"""`gpt2-lesson release`: make the exercises, or an exam, from the problem sets."""

import argparse
from pathlib import Path

from gpt2_lesson.classroom.exam import make_exam
from gpt2_lesson.classroom.problem_sets import (
    ROOT,
    differences,
    find,
    problem_sets,
    release,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `gpt2-lesson release`."""
    parser.add_argument("sets", nargs="*", metavar="SET",
                        help="01, attention or 01_attention (default: all)")
    parser.add_argument("--check", action="store_true", help="change nothing; say "
                        "which sets differ (exit status 1)")
    parser.add_argument("--exam", type=int, metavar="SEED", help="make an exam in "
                        "grading/exam: no hints, hidden tests that depend on SEED")
    parser.add_argument("--root", type=Path, default=ROOT,
                        help="the course's folder (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    """Release or check sets, and print what changed; return 1 if a set differs."""
    sets = [find(name, args.root) for name in args.sets] or problem_sets(args.root)
    if args.check:
        found = differences(args.root, sets, orphans=not args.sets)
        print("\n".join(found) or "the exercises agree with the solutions")
        return int(bool(found))
    if args.exam is not None:
        changed = make_exam(args.root, sets, args.exam)
    else:
        changed = release(args.root, sets)
    print("\n".join(changed) or "nothing changed")
    return 0
