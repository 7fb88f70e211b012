"""The command `gpt2-lesson`: one module of this folder for each subcommand.

A module has `add_arguments(parser)` and `run(args)`, which returns the exit status. It
is imported only when its subcommand is used, so that `gpt2-lesson --help` is fast.
"""

import argparse
import os
import sys
from importlib import import_module

from gpt2_lesson.interrupts import Terminated

COMMANDS = {
    "lessons": "copy the lessons and exercises to a folder of yours",
    "tokenize": "store the token ids of large texts, for training",
    "train": "train a GPT-2 on a text",
    "finetune": "train a model further, on requests and answers",
    "generate": "generate text with a trained model",
    "eval": "measure a model on a text",
    "bench": "measure the speed of training and generation",
    "run": "run lessons from top to bottom and store their outputs",
    "page": "run lessons and write each one as a page for reading offline",
    "site": "build the reading site",
    "front": "make a page that runs a trained model",
    "export": "generate the package's modules from the lessons",
    "release": "make the exercises from the problem sets with solutions",
    "grade": "grade a class, each notebook in its own sandbox",
}
EXPECTED = (
    ArithmeticError,
    ImportError,
    IndexError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


def main(argv: list[str] | None = None) -> int:
    """Return the exit status of `gpt2-lesson` with these arguments, or with sys.argv.

    0: done; 1: a check or a lesson failed (`export --check`); 2: an error, reported in
    one line; 130 and 143: stopped by Ctrl-C or by SIGTERM.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # characters that it lacks become \u2014
            stream.reconfigure(errors="backslashreplace")
    words = sys.argv[1:] if argv is None else argv
    name = " ".join(["gpt2-lesson", *words[:1]])
    if (rank := os.environ.get("RANK", "0")) != "0":
        name = f"rank {rank}: {name}"  # of the processes that torchrun started
    try:
        args = _parser(words).parse_args(words)
        return import_module(f"{__name__}.{args.command}").run(args) or 0
    except KeyboardInterrupt as stop:
        print(f"\n{name}: stopped", file=sys.stderr)
        return 143 if isinstance(stop, Terminated) else 130
    except BrokenPipeError:  # the reader, such as `head`, has exited
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except EXPECTED as error:
        if "--traceback" in words:
            raise
        print(f"{name}: {error or type(error).__name__}", file=sys.stderr)
        return 2


def _parser(words: list[str]) -> argparse.ArgumentParser:
    """Return the parser, with the options of the subcommand in `words` only."""
    parser = argparse.ArgumentParser(
        "gpt2-lesson", description="The tools of the course. Each has its own --help."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary)
        if name in words[:1]:
            import_module(f"{__name__}.{name}").add_arguments(command)
        command.add_argument(
            "--traceback", action="store_true", help="show where an error was raised"
        )
    return parser
