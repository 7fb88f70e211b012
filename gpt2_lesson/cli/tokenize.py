"""`gpt2-lesson tokenize`: store the token ids of large texts, for training."""

import argparse
from pathlib import Path

from gpt2_lesson.runs.tokenize import tokenize

EXAMPLES = """\
examples:
  gpt2-lesson tokenize books/*.txt --tokenizer gpt2 --out shards
  gpt2-lesson train --text shards --preset gpt2 --out runs/books

A text that is larger than memory is tokenized once, and training then reads its token
ids from the disk. Each file is a document, or several with <|endoftext|> between them.
If the command is stopped or killed, the same command continues where it was. The
folder SHARDS then contains
  00000.safetensors, ...  the token ids of about 16 MB of text each
  manifest.json           the SHA-256 of each shard, and of the tokenizer
  tokenizer.json, ...     the vocabulary, unless tokens are bytes
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `gpt2-lesson tokenize`."""
    parser.description = "Store the token ids of text files in a folder of shards."
    parser.epilog = EXAMPLES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("files", metavar="FILE", nargs="+", help="a text file in UTF-8")
    add("--tokenizer", choices=("gpt2", "bytes"), default="gpt2",
        help="GPT-2's 50,257 tokens (default), or bytes")
    add("--out", metavar="SHARDS", type=Path, required=True,
        help="the folder to create, or to complete")
    add("--processes", type=int, metavar="N", help="default: one for each core")


def run(args: argparse.Namespace) -> int:
    """Write the shards; return 0, or 130 and 143 if stopped by Ctrl-C or SIGTERM."""
    return tokenize(args.files, args.tokenizer, args.out, args.processes)
