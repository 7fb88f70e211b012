"""The text of a run: its tokens, and its windows for training and validation."""

import hashlib
import os
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from gpt2_lesson.corpora import TEXTS, load_text
from gpt2_lesson.corpora.shards import (
    Shards,
    check_shards,
    is_shards,
    read_manifest,
    tokenizer_identity,
)
from gpt2_lesson.runs.models import stored_tokenizer
from gpt2_lesson.tokenizer import Tokenizer


@dataclass(frozen=True)
class Text:
    """A text prepared for training: its training part, and windows for validation.

    `tokens` (N,), which stay on disk if they are Shards; `starts`: where windows may
    begin; `windows`: each (T,) or shorter, predicted from its second token on;
    `stories`: the story in each window; `sha256`: that of the whole text, by which a
    run recognises it.
    """

    tokens: Tensor | Shards
    starts: Tensor | None
    windows: list[Tensor]
    stories: list[str] | None
    tokenizer: Tokenizer
    sha256: str

    def some(self, most: int) -> "Text":
        """Return the same text with at most `most` of its windows, evenly spaced."""
        every = -(-len(self.windows) // most)
        stories = self.stories and self.stories[::every]
        return replace(self, windows=self.windows[::every], stories=stories)


def prepare_text(
    name: str,
    seq_length: int,
    kind: str = "bytes",
    learned: Tokenizer | None = None,
    sha256: str | None = None,
) -> Text:
    """Return a text by name or path, with its last tenth as the validation part.

    The path may be that of a folder of shards, see `prepare_shards`.

    `kind` names the tokenizer; `learned` is the tokenizer of a run that continues, and
    `sha256` that of its text. Half of the windows of `stories` begin at the newline
    before a story, half anywhere, so that the model can continue any prompt. Validation
    windows contain one whole story each, as only then can the loss be compared with the
    floor. Raises ValueError if the text is too short for windows of `seq_length`, or if
    it has another SHA-256.
    """
    if is_shards(name):
        return prepare_shards(Path(name), seq_length, kind, sha256)
    data = load_text(name)
    found = hashlib.sha256(data).hexdigest()
    check_same(name, found, sha256)
    cut = validation_start(name, data)
    first, rest = data[:cut].decode(), data[cut:].decode()
    tokenizer = learned or make_tokenizer(kind, first)
    if name == "stories":
        lines = rest.splitlines(keepends=True)
        tokens = as_tokens("\n" + first, tokenizer)
        windows = [as_tokens("\n" + story, tokenizer)[:seq_length] for story in lines]
        begins = (tokens == tokenizer.encode("\n")[0]).nonzero().flatten()
        anywhere = torch.arange(0, len(tokens), len(tokens) // len(begins))
        starts = torch.cat([begins, anywhere])
        return Text(tokens, starts, windows, lines, tokenizer, found)
    tokens, unseen = as_tokens(first, tokenizer), as_tokens(rest, tokenizer)
    check_length(name, len(tokens), len(unseen), seq_length, kind)
    windows = list(unseen.unfold(0, seq_length, seq_length - 1))  # each target once
    return Text(tokens, None, windows, None, tokenizer, found)


SHARDS_VALIDATION = 10_000_000  # tokens at most, and windows:
SHARDS_WINDOWS = 2048


def prepare_shards(
    folder: Path, seq_length: int, kind: str = "bytes", sha256: str | None = None
) -> Text:
    """Return the text of a folder of shards, whose training part stays on disk.

    Its last tenth, at most SHARDS_VALIDATION tokens, is the validation part, of which
    SHARDS_WINDOWS windows are used. Raises ValueError for shards that are damaged, of
    another tokenizer than `kind`, or of another text than that with this SHA-256.
    """
    tokens, unseen = parts_of_shards(folder)
    manifest, tokenizer = tokens.manifest, stored_tokenizer(folder)
    check_same(str(folder), manifest["sha256"], sha256)
    named = manifest["tokenizer"]
    if named["name"] != kind or named != {"name": kind} | tokenizer_identity(tokenizer):
        raise ValueError(
            f"{folder} was made with the tokenizer {named['name']}, and has another "
            f"vocabulary or is used with {kind}: leave --tokenizer out, or make new "
            "shards"
        )
    local = (os.environ.get(name) for name in ("LOCAL_RANK", "LOCAL_WORLD_SIZE"))
    rank, ranks = (int(value or 0) for value in local)  # set by torchrun
    check_shards(folder, manifest, rank, ranks or 1)
    check_length(str(folder), len(tokens), len(unseen), seq_length, kind)
    begins = range(0, len(unseen) - seq_length + 1, seq_length - 1)
    begins = begins[:: -(-len(begins) // SHARDS_WINDOWS)]
    windows = [unseen[begin : begin + seq_length] for begin in begins]
    return Text(tokens, None, windows, None, tokenizer, manifest["sha256"])


def parts_of_shards(folder: Path) -> tuple[Shards, Shards]:
    """Return the training and the validation part of a folder of shards."""
    manifest = read_manifest(folder)
    total = manifest["tokens"]
    cut = total - min(total // 10, SHARDS_VALIDATION)
    return Shards(folder, manifest, 0, cut), Shards(folder, manifest, cut)


def check_same(name: str, found: str, wanted: str | None) -> None:
    """Raise ValueError if a text has another SHA-256 than that of the run."""
    if found != (wanted or found):
        raise ValueError(
            f"{name} is not the text that this run was started with, its content "
            "differs: give the right one with --text, or start a new run"
        )


def check_length(
    name: str, training: int, unseen: int, seq_length: int, kind: str
) -> None:
    """Raise ValueError if the validation part of a text holds no window."""
    if min(training, unseen) < seq_length:
        unit = "bytes" if kind == "bytes" else "tokens"
        raise ValueError(
            f"{name} has {training + unseen} {unit}, and its last tenth is "
            f"used for validation: expected at least {10 * seq_length} {unit}, ten "
            f"windows of {seq_length}; use a longer text or a smaller --seq-length"
        )


def validation_start(name: str, data: bytes) -> int:
    """Return where the last tenth of a text begins, between characters or stories."""
    cut = len(data) * 9 // 10
    if name == "stories":
        lines = data.decode().splitlines(keepends=True)
        return len("".join(lines[: len(lines) * 9 // 10]))
    while cut < len(data) and data[cut] & 0xC0 == 0x80:
        cut += 1
    return cut


def make_tokenizer(kind: str, text: str) -> Tokenizer:
    """Return the tokenizer called bytes, bpe:N (learned from `text`) or gpt2.

    Raises ValueError for another name, FileNotFoundError if GPT-2's is missing.
    """
    if kind == "bytes":
        return Tokenizer()
    if kind == "gpt2":
        return Tokenizer.load("gpt2")
    name, _, size = kind.partition(":")
    if name != "bpe" or not size.isdecimal():
        raise ValueError(
            f"--tokenizer is {kind!r}, expected bytes, gpt2, or bpe:N such as bpe:512"
        )
    return Tokenizer.train(text, int(size))


def as_tokens(text: str, tokenizer: Tokenizer) -> Tensor:
    """Return the token ids of a text as a tensor (N,), of uint8 if that is enough.

    A special token such as <|endoftext|>, which separates documents, is one token.
    """
    if tokenizer.vocab_size == 256:
        return torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)
    return torch.tensor(tokenizer.encode(text, special="token"), dtype=torch.int32)


def stable_name(text: str) -> str:
    """Return a name of a text that is valid in every folder."""
    if text in TEXTS or not Path(text).exists():  # `load_text` says what is wrong
        return text
    return str(Path(text).resolve())
