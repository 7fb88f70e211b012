"""`gpt2-lesson eval`: measure a model on a text."""

import argparse

from gpt2_lesson.cli.arguments import add_device
from gpt2_lesson.runs.evaluate import print_measures

EXAMPLES = """\
examples:
  gpt2-lesson eval stories --text stories
  gpt2-lesson eval gpt2 --text my_diary.txt --stride 256
  gpt2-lesson eval runs/diary --text my_diary.txt

Of a built-in text (stories, python, tinyshakespeare), of a folder of gpt2-lesson
tokenize, and of the file that a run was trained on, only the last tenth is measured
(of a folder, at most 10 million tokens): the validation part, which training does not
use. RUN is the same as in `gpt2-lesson generate --help`.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `gpt2-lesson eval`."""
    parser.description = "Measure how well a model predicts a text."
    parser.epilog = EXAMPLES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("model", metavar="RUN", help="a run folder, stories, gpt2, ...")
    add("--text", required=True, help="stories, python, tinyshakespeare, a file, "
        "or a folder that gpt2-lesson tokenize made")
    add(
        "--stride",
        type=int,
        metavar="TOKENS",
        help="by how much the window moves on (default: half the context window)",
    )
    add(
        "--max-tokens",
        type=int,
        default=20_000,
        metavar="N",
        help="measure the first N tokens (default: 20000; 0: all)",
    )
    add("--batch-size", type=int, default=16, help="windows in a batch (default: 16)")
    add_device(parser)


def run(args: argparse.Namespace) -> int:
    """Print loss, perplexity and bits per byte; return 0."""
    print_measures(args.model, args.text, args.stride, args.max_tokens,
                   args.batch_size, args.device)
    return 0
