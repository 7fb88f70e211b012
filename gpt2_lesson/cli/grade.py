"""`gpt2-lesson grade`: grade a class, each notebook in a sandbox without answers."""

import argparse
from pathlib import Path

from gpt2_lesson.authoring.notebooks import NOTEBOOKS
from gpt2_lesson.classroom.grade import Options, grade_class


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `gpt2-lesson grade`."""
    parser.description = (
        "Grade a class. Each notebook runs in its own sandbox, without a network, your "
        "files or the answers. A run that was interrupted continues where it stopped.")
    parser.add_argument("set", metavar="SET",
                        help="the problem set: 01, attention or 01_attention")
    parser.add_argument("--submitted", type=Path, metavar="DIR",
                        help="contains STUDENT/SET/SET.ipynb (default: OUT/submitted)")
    parser.add_argument("--out", type=Path, default=Path("grading"), metavar="DIR",
                        help="folder for table, pages and results (default: grading)")
    parser.add_argument("--notebooks", type=Path, default=NOTEBOOKS, metavar="DIR",
                        help="contains exercises/ and solutions/ (default: "
                             "%(default)s)")
    parser.add_argument("--jobs", type=int, default=2, metavar="N",
                        help="grade N submissions at the same time (default: 2)")
    parser.add_argument("--partial", type=float, default=0.0, metavar="FRACTION",
                        help="fraction of the points for one known mistake (default: "
                             "0)")
    parser.add_argument("--mode", "--face", choices=["public", "exam"],   # 0.1: --face
                        default="public", help="exam: the pages show the symptom, "
                                               "not the mistake's name")
    parser.add_argument("--time-limit", type=float, default=60, metavar="SECONDS",
                        help="for one cell or function; a submission gets ten times "
                             "that (default: 60)")
    parser.add_argument("--seed", type=int, help="the probes' seed (default: secret)")
    parser.add_argument("--trust-submissions", action="store_true",
                        help="run the students' code as you, with no isolation at all")


def run(args: argparse.Namespace) -> int:
    """Grade the class and write the table; return 0."""
    options = Options(
        args.out, args.submitted or args.out / "submitted", args.notebooks, args.jobs,
        args.partial, args.mode, args.time_limit, args.seed, args.trust_submissions)
    grade_class(args.set, options)
    return 0
