"""`gpt2-lesson generate`: let a trained model write, with lesson 06's functions."""

import argparse
import codecs
import sys
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from gpt2_lesson import validation
from gpt2_lesson.checkpoints import load_checkpoint
from gpt2_lesson.cli.run_folder import DEVICES
from gpt2_lesson.cli.train import choose_device, stored_tokenizer
from gpt2_lesson.corpora import story_model
from gpt2_lesson.generation import generate
from gpt2_lesson.gpt2_model import GPT2Model
from gpt2_lesson.real_gpt2 import load_gpt2
from gpt2_lesson.tokenizer import Tokenizer
from gpt2_lesson.vocabulary_files import GPT2_REPOSITORIES

END_OF_TEXT = "<|endoftext|>"
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
    add(
        "--device",
        choices=("auto", *DEVICES),
        default="auto",
        help="default: auto, the fastest",
    )


def run(args: argparse.Namespace) -> int:
    """Write the prompt and its continuation to standard output; return 0."""
    if not args.prompt:
        raise ValueError(
            "the prompt is empty: give at least one character, or leave "
            "--prompt out to start after a line end"
        )
    validation.sampling(args.temperature, args.top_k, args.top_p)  # before any output
    validation.whole_number("--max-new-tokens", args.max_new_tokens, 0)
    if args.seed is not None:
        validation.seed("--seed", args.seed)
    device = choose_device(args.device)
    model, tokenizer = open_model(args.model)
    model = model.to(device)
    stop = stop_ids(tokenizer, args.stop)
    input_ids = torch.tensor([tokenizer.encode(args.prompt, "token")], device=device)
    generator = torch.Generator(device)
    generator.manual_seed(generator.seed() if args.seed is None else args.seed)
    decoder = codecs.getincrementaldecoder("utf-8")(
        "replace"
    )  # a letter may be 4 bytes
    # In a terminal the text itself shows progress; in a pipe or a log a bar is litter.
    no_bar = sys.stdout.isatty() or not sys.stderr.isatty()
    with tqdm(
        total=args.max_new_tokens, unit="token", leave=False, disable=no_bar
    ) as bar:

        def show(drawn: Tensor) -> None:
            bar.update()
            if drawn.item() in stop:
                return
            print(decoder.decode(tokenizer.decode_bytes(drawn[0])), end="", flush=True)

        print(args.prompt.removeprefix("\n"), end="", flush=True)
        generate(
            model,
            input_ids,
            args.max_new_tokens,
            args.temperature,
            args.top_k,
            args.top_p,
            generator,
            on_token=show,
            stop=stop,
        )
    print(decoder.decode(b"", final=True))
    return 0


def stop_ids(tokenizer: Tokenizer, stop: str) -> list[int]:
    """Return the id of the token to stop at, or none; ValueError for several."""
    ids = tokenizer.encode(stop, special="token")
    if len(ids) > 1 and stop != END_OF_TEXT:
        raise ValueError(
            f"--stop is {stop!r}, which is {len(ids)} tokens of this vocabulary, "
            "expected one"
        )
    return ids if len(ids) == 1 else []


def open_model(name: str) -> tuple[GPT2Model, Tokenizer]:
    """Return a model and its tokenizer: a run's, the shipped one, published weights.

    Raises FileNotFoundError if there is none, CheckpointError if it cannot be used,
    ValueError if model and tokenizer do not fit.
    """
    path = Path(name)
    if name == "stories" and not path.exists():
        return story_model(), Tokenizer()
    if (path / "config.json").is_file() or (
        name in GPT2_REPOSITORIES and not path.exists()
    ):
        model, tokenizer = load_gpt2(name), Tokenizer.load(name)
        vocab_size, padding = tokenizer.vocab_size, model.config.vocab_size % 64 == 0
        if padding and vocab_size < model.config.vocab_size < vocab_size + 1024:
            model = load_gpt2(name, vocab_size=vocab_size)
    else:
        if path.is_dir():
            found = [path / f for f in ("model.safetensors", "checkpoint.safetensors")]
            found = [file for file in found if file.is_file()]
            if not found:
                raise FileNotFoundError(
                    f"the folder {path} holds no checkpoint: has the "
                    "training saved one yet?"
                )
            path = found[0]
        model, tokenizer = load_checkpoint(path), stored_tokenizer(path.parent)
    if model.config.vocab_size != tokenizer.vocab_size:
        raise ValueError(
            f"{name} has a model of {model.config.vocab_size} tokens and a vocabulary "
            f"of {tokenizer.vocab_size}: are vocab.json and merges.txt beside it?"
        )
    return model, tokenizer
