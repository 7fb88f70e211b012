"""`gpt2-lesson generate`: let a trained model continue a prompt."""

import argparse

from gpt2_lesson.cli.arguments import add_device
from gpt2_lesson.runs.generate import END_OF_TEXT, print_continuation

EXAMPLES = """\
examples:
  gpt2-lesson generate stories                           a story by the shipped model
  gpt2-lesson generate stories --prompt "One foggy night Mia" --temperature 0.5
  gpt2-lesson generate runs/diary --prompt "Today " --max-new-tokens 300 --top-k 50
  gpt2-lesson generate gpt2 --prompt "The cat sat on the" --temperature 0.8 --top-k 50

the name of a model is one of
  a run folder, or a checkpoint file in it
  stories                 the model that comes with the course
  gpt2, gpt2-medium, gpt2-large, gpt2-xl, distilgpt2
                          published weights, from the cache folder or the network
  a folder with config.json, model.safetensors and vocab.json, merges.txt
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `gpt2-lesson generate` takes."""
    parser.description = "Let a trained model continue a prompt."
    parser.epilog = EXAMPLES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("model", metavar="RUN", help="a run folder, stories, gpt2, ... (see below)")
    add("--prompt", default="\n", help="the text to continue (default: a line end)")
    add(
        "--max-new-tokens",
        type=int,
        default=250,
        metavar="N",
        help="how many tokens to write (default: 250)",
    )
    add(
        "--temperature",
        type=float,
        default=1.0,
        metavar="T",
        help="below 1 plays safe, above 1 dares, 0 takes the likeliest (default: 1)",
    )
    add("--top-k", type=int, metavar="K", help="draw from the K likeliest tokens only")
    add("--top-p", type=float, metavar="P", help="draw from the likeliest that hold P")
    add("--seed", type=int, help="the same seed writes the same text")
    add(
        "--stop",
        metavar="TEXT",
        default=END_OF_TEXT,
        help="stop at this token; '' never does "
        f"(default: {END_OF_TEXT}, if the vocabulary has it)",
    )
    add_device(parser)


def run(args: argparse.Namespace) -> int:
    """Print the prompt and its continuation; return 0."""
    print_continuation(
        args.model, args.prompt, args.max_new_tokens, args.temperature, args.top_k,
        args.top_p, args.seed, args.stop, args.device)
    return 0
