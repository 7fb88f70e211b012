"""`gpt2-lesson generate`: let a trained model continue a prompt."""

import argparse

from gpt2_lesson.cli.arguments import add_device
from gpt2_lesson.runs.generate import END_OF_TEXT, print_continuation

EXAMPLES = """\
examples:
  gpt2-lesson generate stories                           a story by the small model
  gpt2-lesson generate stories --prompt "One foggy night Mia" --temperature 0.5
  gpt2-lesson generate runs/diary --prompt "Today " --max-new-tokens 300 --top-k 50
  gpt2-lesson generate gpt2 --prompt "The cat sat on the" --temperature 0.8 --top-k 50
  gpt2-lesson generate gpt2 --int8                       faster on a CPU

RUN is one of
  a run folder, or a checkpoint file in it
  stories                 the small model that comes with the course
  gpt2, gpt2-medium, gpt2-large, gpt2-xl, distilgpt2
                          published weights, from the cache folder or the network
  a folder with config.json, model.safetensors and vocab.json, merges.txt
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `gpt2-lesson generate`."""
    parser.description = "Let a trained model continue a prompt."
    parser.epilog = EXAMPLES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("model", metavar="RUN", help="a run folder, stories, gpt2, ... (see below)")
    add("--prompt", default="\n", help="the text to continue (default: a newline)")
    add("--adapter", metavar="DIR", help="an adapter that changes the model, made by "
        "`gpt2-lesson finetune` or by the library peft")
    add("--request", metavar="TEXT", help="ask a finetuned model, in place of --prompt")
    add("--max-new-tokens", type=int, default=250, metavar="N",
        help="how many tokens to generate (default: 250)")
    add("--temperature", type=float, default=1.0, metavar="T",
        help="below 1: more predictable, above 1: more varied, 0: always the most "
        "probable token (default: 1)")
    add("--top-k", type=int, metavar="K", help="sample among the K most probable")
    add("--top-p", type=float, metavar="P", help="top-p (nucleus) sampling")
    add("--seed", type=int, help="the same seed generates the same text")
    add("--stop", metavar="TEXT", default=END_OF_TEXT,
        help="stop at this token; with '', never "
        f"(default: {END_OF_TEXT}, if the vocabulary has it)")
    add("--int8", action="store_true",
        help="store the weights in 8 bits: faster, and slightly different (lesson 13)")
    add_device(parser)


def run(args: argparse.Namespace) -> int:
    """Print the prompt and its continuation; return 0."""
    print_continuation(
        args.model, args.prompt, args.max_new_tokens, args.temperature, args.top_k,
        args.top_p, args.seed, args.stop, args.device, args.adapter, args.request,
        args.int8)
    return 0
