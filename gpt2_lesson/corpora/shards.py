"""Texts larger than memory: their token ids in files (shards) that training reads.

A folder of shards contains 00000.safetensors, 00001.safetensors, ..., the vocabulary,
and manifest.json, which is written last: without it the folder is incomplete. A shard
is made from one range of one file, and depends on nothing else. So it has the same
bytes whichever process wrote it and when, and a later call needs to write only what is
missing. Documents are separated by <|endoftext|>.
"""

import hashlib
import json
import mmap
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch import Tensor
from tqdm import tqdm

from gpt2_lesson.corpora import check_utf8
from gpt2_lesson.files import CheckpointError, atomic_write, file_sha256, read_json
from gpt2_lesson.tokenizer import Tokenizer

SEPARATOR = b"<|endoftext|>"  # one token of GPT-2's vocabulary, 13 of bytes
RANGE = 1 << 24  # bytes of text in a shard, or a little more
MANIFEST = "manifest.json"

# A pre-token never continues from a character into the white space after it, so a text
# can be cut there without changing a token. The last byte of a character is followed by
# a space or newline, and belongs to none of Unicode's other kinds of white space.
BOUNDARY = re.compile(
    rb"[\x21-\x7e\x80-\xbf](?<!\xc2[\x85\xa0])(?<!\xe1\x9a\x80)(?<!\xe2\x81\x9f)"
    rb"(?<!\xe2\x80[\x80-\x8a\xa8\xa9\xaf])(?<!\xe3\x80\x80)(?=[ \n])"
)


# ---------------------------------------------------------------- writing


@dataclass(frozen=True)
class Part:
    """The bytes `start` to `stop` of a file, and whether a separator comes after it."""

    path: Path
    start: int
    stop: int
    separate: bool

    def read(self) -> bytes:
        """Return the text, with the separator."""
        with self.path.open("rb") as file:
            file.seek(self.start)
            data = file.read(self.stop - self.start)
        if len(data) < self.stop - self.start:
            raise ValueError(f"{self.path} became shorter while it was read")
        check_utf8(data, self.path, self.start)
        return data + SEPARATOR if self.separate else data


def cut_files(paths: Sequence[Path], size: int) -> list[Part]:
    """Return the parts of files, each of about `size` bytes: one for each shard.

    Raises OSError for a file that cannot be read, ValueError for an empty one.
    """
    parts = []
    for path in paths:
        if path.exists() and not path.is_file():
            raise ValueError(f"{path} is not a regular file; expected a text file")
        with path.open("rb") as file:
            if not (total := os.fstat(file.fileno()).st_size):
                raise ValueError(f"{path} is empty; expected some text to learn from")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
                start, ended = 0, text[-4096:].rstrip().endswith(SEPARATOR)
                while start < total:
                    found = BOUNDARY.search(text, start + size - 1)
                    stop = found.end() if found else total
                    last = stop == total and not ended
                    parts.append(Part(path, start, stop, last))
                    start = stop
    return parts


def shard_name(number: int) -> str:
    """Return the name of a shard's file."""
    return f"{number:05}.safetensors"


def write_shard(part: Part, target: Path, tokenizer: Tokenizer) -> dict:
    """Write the shard of `part` unless it is there; return its entry in the manifest.

    A damaged shard is replaced. Raises ValueError for a shard of another text or
    tokenizer, which stays as it is.
    """
    text = part.read()
    about = {
        "text": hashlib.sha256(text).hexdigest(),
        "tokenizer": tokenizer_identity(tokenizer)["sha256"],
    }
    found = _read_record(target)
    if found is None:
        tokens = _encode(text, tokenizer)
        record = about | {"sha256": _digest(about, tokens)}
        header = {"gpt2_lesson_shard": json.dumps(record)}
        atomic_write(target, save({"tokens": tokens}, header))
    elif {name: found[name] for name in about} != about:
        raise ValueError(
            f"{target} is a shard of another text or tokenizer: choose a new folder"
        )
    with safe_open(target, "np") as file:
        (count,) = file.get_slice("tokens").get_shape()
    return {"file": target.name, "tokens": count, "sha256": file_sha256(target)}


def _encode(text: bytes, tokenizer: Tokenizer) -> np.ndarray:
    """Return the token ids of a text, in the smallest type that has room for all."""
    if tokenizer.vocab_size == 256:
        return np.frombuffer(text, np.uint8)
    kind = np.uint16 if tokenizer.vocab_size <= 1 << 16 else np.uint32
    return np.array(tokenizer.encode(text.decode(), special="token"), kind)


def _digest(about: dict, tokens: np.ndarray) -> str:
    """Return the SHA-256 of what a shard says about itself, and of its token ids."""
    sha256 = hashlib.sha256(f"{about['text']} {about['tokenizer']}".encode())
    sha256.update(f"{tokens.dtype} {len(tokens)}".encode())
    sha256.update(tokens.data)
    return sha256.hexdigest()


def _read_record(path: Path) -> dict[str, str] | None:
    """Return what a shard says about itself, or None if it is missing or damaged."""
    if not path.exists():
        return None
    try:
        with safe_open(path, "np") as file:
            record = json.loads((file.metadata() or {})["gpt2_lesson_shard"])
            tokens = file.get_tensor("tokens")
        return record if record["sha256"] == _digest(record, tokens) else None
    except (SafetensorError, AttributeError, KeyError, TypeError, ValueError):
        return None


def tokenizer_identity(tokenizer: Tokenizer) -> dict:
    """Return the size of a tokenizer's vocabulary and the SHA-256 of its content."""
    vocabulary = tokenizer.vocabulary
    content = [
        [token.hex() for token in vocabulary.tokens],
        [[*pair, new] for pair, new in vocabulary.merges.items()],
        {name: asdict(token) for name, token in vocabulary.all_added().items()},
    ]
    sha256 = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return {"vocab_size": tokenizer.vocab_size, "sha256": sha256}


def write_manifest(
    folder: Path, name: str, tokenizer: Tokenizer, entries: list[dict]
) -> dict:
    """Write the manifest, which makes the folder complete; return it."""
    manifest: dict = {"tokenizer": {"name": name} | tokenizer_identity(tokenizer)}
    manifest["tokens"] = sum(entry["tokens"] for entry in entries)
    manifest["shards"] = entries
    manifest["sha256"] = _manifest_sha256(manifest)
    atomic_write(folder / MANIFEST, json.dumps(manifest, indent=1) + "\n")
    return manifest


def _manifest_sha256(manifest: dict) -> str:
    """Return the SHA-256 of a manifest, without that entry."""
    rest = {name: value for name, value in manifest.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


# ---------------------------------------------------------------- reading


def is_shards(path: str | Path) -> bool:
    """Return whether a path is that of a folder of shards, complete or not."""
    path = Path(path)
    return (path / MANIFEST).is_file() or (path / shard_name(0)).is_file()


def read_manifest(folder: Path) -> dict:
    """Return the manifest of a folder of shards.

    Raises CheckpointError if the folder is incomplete or its manifest is damaged.
    """
    if not (folder / MANIFEST).is_file():
        raise CheckpointError(
            f"{folder} is incomplete: run the same gpt2-lesson tokenize command again, "
            "and it continues"
        )
    manifest = read_json(folder / MANIFEST)
    if manifest.get("sha256") != _manifest_sha256(manifest):
        raise CheckpointError(
            f"{folder / MANIFEST} is damaged: run the same gpt2-lesson tokenize "
            "command again"
        )
    return manifest


def check_shards(folder: Path, manifest: dict, rank: int = 0, ranks: int = 1) -> None:
    """Raise CheckpointError if a shard is missing or damaged.

    Of several `ranks`, the processes of one machine, each checks its part.
    """
    entries, hidden = manifest["shards"][rank::ranks], not sys.stderr.isatty()
    for entry in tqdm(entries, "checking", leave=False, delay=2, disable=hidden):
        path = folder / entry["file"]
        if not path.is_file() or file_sha256(path) != entry["sha256"]:
            raise CheckpointError(
                f"{path} is missing, damaged, or of another text: run the same "
                "gpt2-lesson tokenize command again, and it is replaced"
            )


class Shards:
    """The token ids (N,) of a text that stays on disk; `shards[a:b]` reads a part.

    Nothing is kept in memory: a file is mapped only while a part of it is copied.
    """

    def __init__(
        self, folder: Path, manifest: dict, start: int = 0, stop: int | None = None
    ) -> None:
        self.folder, self.manifest = folder, manifest
        self.start, self.stop = start, manifest["tokens"] if stop is None else stop
        counts = [entry["tokens"] for entry in manifest["shards"]]
        self.edges = np.cumsum([0, *counts])  # where each shard begins

    @property
    def sha256(self) -> str:
        """The SHA-256 of the whole text's shards, and of the part that this is."""
        whole = f"{self.manifest['sha256']} {self.start} {self.stop}"
        return hashlib.sha256(whole.encode()).hexdigest()

    def __len__(self) -> int:
        return self.stop - self.start

    def __getitem__(self, part: slice) -> Tensor:
        first, last, step = part.indices(len(self))
        if step != 1:
            raise ValueError(f"the step is {step}, expected 1: neighbouring tokens")
        first, last = self.start + first, self.start + max(first, last)
        shard = int(np.searchsorted(self.edges, first, "right")) - 1
        pieces = []
        while first < last:
            begin, end = self.edges[shard : shard + 2]
            pieces.append(self._read(shard, first - begin, min(last, end) - begin))
            first, shard = end, shard + 1
        return torch.from_numpy(np.concatenate([np.empty(0, np.int64), *pieces]))

    def _read(self, shard: int, first: int, last: int) -> np.ndarray:
        """Return the tokens from `first` to `last` of one shard."""
        path = self.folder / self.manifest["shards"][shard]["file"]
        try:
            with safe_open(path, "np") as file:
                return file.get_slice("tokens")[int(first) : int(last)].astype(np.int64)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{path} changed during the run: {error}") from None
