"""Measure a model on a text, with lesson 11's functions."""

import hashlib
import math
import sys
from pathlib import Path

import torch

from gpt2_lesson import validation
from gpt2_lesson.corpora import TEXTS, load_text
from gpt2_lesson.corpora.shards import (
    Shards,
    check_shards,
    is_shards,
    tokenizer_identity,
)
from gpt2_lesson.files import read_json
from gpt2_lesson.measuring import bootstrap_interval, token_nll
from gpt2_lesson.runs.devices import choose_device
from gpt2_lesson.runs.models import open_model
from gpt2_lesson.runs.text import parts_of_shards, stable_name, validation_start
from gpt2_lesson.tokenizer import Tokenizer

BLOCK = 256  # tokens resampled together: neighbours are not independent


def print_measures(
    model_name: str,
    text_name: str,
    stride: int | None,
    max_tokens: int,
    batch_size: int,
    device: str,
) -> None:
    """Print loss, perplexity and bits per byte."""
    validation.whole_number("--max-tokens", max_tokens, 0)
    if max_tokens == 1:
        raise ValueError("--max-tokens is 1, expected 2 or more, or 0 for all")
    validation.whole_number("--batch-size", batch_size, 1)
    if stride is not None:
        validation.whole_number("--stride", stride, 1)
    whole: Shards | list[int]
    if is_shards(text_name):
        _, unseen = parts_of_shards(Path(text_name))
        check_shards(Path(text_name), unseen.manifest)
        model, tokenizer = open_model(model_name)
        check_vocabulary(text_name, unseen.manifest, tokenizer)
        whole = unseen
    else:
        data = part_to_measure(model_name, text_name, load_text(text_name))
        model, tokenizer = open_model(model_name)
        whole = tokenizer.encode(data.decode(), special="token")
    model = model.to(choose_device(device))
    if max_tokens and len(whole) > max_tokens:
        print(
            f"measuring the first {max_tokens:,} of {len(whole):,} tokens "
            "(--max-tokens 0: all)",
            file=sys.stderr,
        )
    ids = whole[: max_tokens or None]  # reads no more of a folder than it measures
    nats = token_nll(model, ids, stride, batch_size).double()
    if stride is None:
        stride = max(1, model.max_seq_length // 2)
    size = len(tokenizer.decode_bytes(ids[1:]))
    per_token = nats.mean().item()
    bits = nats.sum().item() / math.log(2) / size
    print(f"{model_name} on {text_name}: {len(nats):,} tokens, {size:,} bytes")
    print(f"  stride          {stride:10,} of {model.max_seq_length:,}")
    print(f"  nats per token  {per_token:10.4f}")
    print(f"  perplexity      {math.exp(per_token):10.4f}")
    print(f"  bits per byte   {bits:10.4f}{interval(nats, bits)}")


def check_vocabulary(name: str, manifest: dict, tokenizer: Tokenizer) -> None:
    """Raise ValueError if the ids of shards are not those of a model's tokenizer."""
    made = manifest["tokenizer"]
    if {"name": made["name"]} | tokenizer_identity(tokenizer) != made:
        raise ValueError(
            f"{name} was made with the tokenizer {made['name']}, and the model has "
            "another vocabulary: make shards with the model's tokenizer, or measure "
            "the text itself"
        )


def part_to_measure(model: str, name: str, data: bytes) -> bytes:
    """Return the part of a text to measure: of a training text, the validation part."""
    cut = validation_start(name, data)
    if name in TEXTS:
        return data[max(0, data.find(b"\n", cut - 1)) :]  # from a newline on
    run = settings_of(model)
    if run.get("text_sha256") == hashlib.sha256(data).hexdigest():
        print(
            f"{model} was trained on this file, so only its last tenth is measured: "
            "the validation part",
            file=sys.stderr,
        )
        return data[cut:]
    if run.get("text") == stable_name(name):
        print(
            f"warning: {model} was trained on an earlier version of this file, and may "
            "have been trained on much of what is measured",
            file=sys.stderr,
        )
    return data


def settings_of(model: str) -> dict:
    """Return the settings of the run that a model belongs to, or {}."""
    path = Path(model)
    folder = path if path.is_dir() else path.parent
    try:
        return read_json(folder / "settings.json") if path.exists() else {}
    except (OSError, ValueError):
        return {}


def interval(nats: torch.Tensor, bits: float) -> str:
    """Return the 95% interval of `bits` as text, which is empty for a short text."""
    blocks = nats[: len(nats) // BLOCK * BLOCK].view(-1, BLOCK).mean(1)
    if len(blocks) < 10:
        return ""
    low, high = (edge / nats.mean().item() for edge in bootstrap_interval(blocks))
    return f"   (95%: {bits * low:.4f} to {bits * high:.4f}, blocks of {BLOCK} tokens)"
