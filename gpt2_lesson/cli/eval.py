"""`gpt2-lesson eval`: measure a model on a text, with lesson 11's functions."""

import argparse
import hashlib
import math
import sys
from pathlib import Path

import torch

from gpt2_lesson import validation
from gpt2_lesson.cli.generate import open_model
from gpt2_lesson.cli.run_folder import DEVICES
from gpt2_lesson.cli.train import choose_device, stable_name, validation_start
from gpt2_lesson.corpora import TEXTS, load_text
from gpt2_lesson.files import read_json
from gpt2_lesson.measuring import bootstrap_interval, surprises

BLOCK = 256  # tokens drawn together for the interval: neighbours are not independent

EXAMPLES = """\
examples:
  gpt2-lesson eval stories --text stories
  gpt2-lesson eval gpt2 --text my_diary.txt --stride 256
  gpt2-lesson eval runs/diary --text my_diary.txt

Of a named text (stories, python, tinyshakespeare), and of the file that a run was
trained on, only the last tenth is measured: the validation part, which training does
not see. A model is named as in `gpt2-lesson generate --help`.
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
        choices=("auto", *DEVICES),
        default="auto",
        help="default: auto, the fastest",
    )


def run(args: argparse.Namespace) -> int:
    """Print surprise, perplexity and bits per byte; return 0."""
    validation.whole_number("--max-tokens", args.max_tokens, 0)
    if args.max_tokens == 1:
        raise ValueError("--max-tokens is 1, expected 2 or more, or 0: all")
    validation.whole_number("--batch-size", args.batch_size, 1)
    if args.stride is not None:
        validation.whole_number("--stride", args.stride, 1)
    data = part_to_measure(args.model, args.text, load_text(args.text))
    model, tokenizer = open_model(args.model)
    model = model.to(choose_device(args.device))
    ids = tokenizer.encode(data.decode(), special="token")
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


def part_to_measure(model: str, name: str, data: bytes) -> bytes:
    """Return what to measure of a text: only the validation part if training saw it."""
    cut = validation_start(name, data)
    if name in TEXTS:
        return data[max(0, data.find(b"\n", cut - 1)) :]  # from a newline on
    run = settings_of(model)
    if run.get("text_sha256") == hashlib.sha256(data).hexdigest():
        print(
            f"{model} was trained on this file: its last tenth is measured, the "
            "validation part",
            file=sys.stderr,
        )
        return data[cut:]
    if run.get("text") == stable_name(name):
        print(
            f"warning: {model} was trained on an earlier content of this file, and may "
            "have seen much of what is measured",
            file=sys.stderr,
        )
    return data


def settings_of(model: str) -> dict:
    """Return the settings of the run that a model is of; {} if it is of none."""
    path = Path(model)
    folder = path if path.is_dir() else path.parent
    try:
        return read_json(folder / "settings.json") if path.exists() else {}
    except (OSError, ValueError):
        return {}


def interval(nats: torch.Tensor, bits: float) -> str:
    """Return the 95% interval of `bits` in words, or nothing for a short text."""
    blocks = nats[: len(nats) // BLOCK * BLOCK].view(-1, BLOCK).mean(1)
    if len(blocks) < 10:
        return ""
    low, high = (edge / nats.mean().item() for edge in bootstrap_interval(blocks))
    return f"   (95%: {bits * low:.4f} to {bits * high:.4f}, blocks of {BLOCK} tokens)"
