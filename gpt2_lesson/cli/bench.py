"""`gpt2-lesson bench`: measure speed, compared with baselines and the machine."""

import argparse

from gpt2_lesson.bench import checks, distributed, figures, int8, ours


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `gpt2-lesson bench`."""
    parser.description = "Measure training and generation, compared with two baselines."
    parser.add_argument("--model", choices=ours.CASES, help="default: demo")
    parser.add_argument("--rounds", type=int, default=5, help="default: 5")
    parser.add_argument("--int8", action="store_true", help="measure generation with "
                        "weights of 8 bits, and what it costs, instead")
    parser.add_argument("--figures", action="store_true",
                        help="measure an attention map in a browser instead")
    parser.add_argument("--checks", action="store_true", help="measure how long the "
                        "exercises' checks take instead")
    parser.add_argument("--distributed", action="store_true", help="measure two "
                        "processes with a thread each beside one with two instead")


def run(args: argparse.Namespace) -> int:
    """Print a table of measurements; return 0, or 1 if something is over its limit."""
    if args.rounds < 1:
        raise ValueError(f"--rounds is {args.rounds}, expected 1 or more")
    others = args.figures + args.checks + args.distributed
    if bool(args.model or args.int8) + others > 1:
        raise ValueError("--model, --figures, --checks and --distributed exclude one "
                         "another: give only one of them")
    if args.distributed:
        return distributed.bench_distributed(args.rounds)
    if args.figures:
        return figures.report(args.rounds)
    if args.checks:
        return checks.time_checks(args.rounds)
    measure = int8.bench if args.int8 else ours.bench
    measure(args.model or "demo", args.rounds)
    return 0
