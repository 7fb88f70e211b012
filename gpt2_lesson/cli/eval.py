"""`gpt2-lesson eval`: measure a model on a text, with lesson 11's functions."""

import argparse
import math
import sys

import torch

from gpt2_lesson.cli.generate import open_model
from gpt2_lesson.cli.train import choose_device
from gpt2_lesson.corpora import TEXTS, load_text
from gpt2_lesson.measuring import bootstrap_interval, surprises

BLOCK = 256  # tokens drawn together for the interval: neighbours are not independent

EXAMPLES = """\
examples:
  gpt2-lesson eval stories --text stories
  gpt2-lesson eval gpt2 --text my_diary.txt --stride 256
  gpt2-lesson eval runs/diary --text my_diary.txt

Of a named text (stories, python, tinyshakespeare) the last tenth counts, which training
holds out. A model is named as in `gpt2-lesson generate --help`.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `gpt2-lesson eval` takes."""
    parser.description = "Measure how surprised a model is by a text."
    parser.epilog = EXAMPLES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("model", metavar="RUN", help="a run folder, stories, gpt2, ...")
    add("--text", required=True, help="stories, python, tinyshakespeare, or a file")
    add(
        "--stride",
        type=int,
        metavar="TOKENS",
        help="how far windows move on (default: half of what the model sees)",
    )
    add(
        "--max-tokens",
        type=int,
        default=20_000,
        metavar="N",
        help="measure the first N tokens (default: 20000; 0: all)",
    )
    add("--batch-size", type=int, default=16, help="windows at once (default: 16)")
    add(
        "--device",
        choices=("auto", "cpu", "cuda", "mps"),
        default="auto",
        help="default: auto, the fastest",
    )


def run(args: argparse.Namespace) -> int:
    """Print surprise, perplexity and bits per byte; return 0."""
    if args.max_tokens < 0 or args.max_tokens == 1 or args.batch_size < 1:
        raise ValueError(
            f"--max-tokens is {args.max_tokens} and --batch-size {args.batch_size}: "
            "expected 2 or more (or 0: all), and 1 or more"
        )
    data = load_text(args.text)
    if args.text in TEXTS:
        cut = data.find(b"\n", len(data) * 9 // 10)
        data = data[cut:]  # from a line end on, as a story begins
    model, tokenizer = open_model(args.model)
    model = model.to(choose_device(args.device))
    ids = tokenizer.encode(data.decode(), special="text")
    if args.max_tokens and len(ids) > args.max_tokens:
        print(
            f"the first {args.max_tokens:,} of {len(ids):,} tokens (--max-tokens 0 "
            "takes all)",
            file=sys.stderr,
        )
        ids = ids[: args.max_tokens]
    nats = surprises(model, ids, args.stride, args.batch_size).double()
    stride = max(1, model.max_seq_length // 2) if args.stride is None else args.stride
    size = len(tokenizer.decode_bytes(ids[1:]))
    per_token = nats.mean().item()
    bits = nats.sum().item() / math.log(2) / size
    print(f"{args.model} on {args.text}: {len(nats):,} tokens, {size:,} bytes")
    print(f"  stride          {stride:10,} of {model.max_seq_length:,}")
    print(f"  nats per token  {per_token:10.4f}")
    print(f"  perplexity      {math.exp(per_token):10.4f}")
    print(f"  bits per byte   {bits:10.4f}{interval(nats, bits)}")
    return 0


def interval(nats: torch.Tensor, bits: float) -> str:
    """Return the 95% interval of `bits` in words, or nothing for a short text."""
    blocks = nats[: len(nats) // BLOCK * BLOCK].view(-1, BLOCK).mean(1)
    if len(blocks) < 10:
        return ""
    low, high = (edge / nats.mean().item() for edge in bootstrap_interval(blocks))
    return f"   (95%: {bits * low:.4f} to {bits * high:.4f}, blocks of {BLOCK} tokens)"
