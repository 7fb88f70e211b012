"""The files of a vocabulary, as GPT-2 has them, and added tokens.

Lesson 09 shows what the files contain. This module adds what a program needs: every
line is checked, since a file that is slightly wrong gives ids that are slightly wrong.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import regex

from gpt2_lesson import validation
from gpt2_lesson.files import cache_folder, read_file, read_json, write_together

__all__ = [
    "GPT2_REPOSITORIES",
    "AddedToken",
    "Vocabulary",
    "bytes_to_unicode",
    "check_special",
    "find_folder",
    "read_vocabulary",
    "split_added",
    "write_vocabulary",
]

GPT2_REPOSITORIES = {  # on huggingface.co
    "gpt2": "openai-community/gpt2",
    "gpt2-medium": "openai-community/gpt2-medium",
    "gpt2-large": "openai-community/gpt2-large",
    "gpt2-xl": "openai-community/gpt2-xl",
    "distilgpt2": "distilbert/distilgpt2",
}


# ---------------------------------------------------------------- what a vocabulary is


@dataclass(frozen=True)
class AddedToken:
    """A token that is found in the text itself, before pre-tokenization."""

    id: int
    special: bool = True
    single_word: bool = False  # not inside a word
    lstrip: bool = False  # includes the white space before it
    rstrip: bool = False  # ... after it
    normalized: bool = False  # found after the others


@dataclass(frozen=True)
class Vocabulary:
    """The bytes of each token, the merges, and the special tokens.

    `merges` maps a pair of ids to the id that it becomes, in the order in which the
    merges were learned. `added` holds the added tokens of a tokenizer.json, unless all
    of them are plain special tokens.
    """

    tokens: list[bytes]
    merges: dict[tuple[int, int], int]
    special: dict[str, int]
    added: dict[str, AddedToken] = field(default_factory=dict)

    def all_added(self) -> dict[str, AddedToken]:
        """Return the special tokens and the other added tokens, by name."""
        special = {name: AddedToken(i) for name, i in self.special.items()}
        return special | self.added


def bytes_to_unicode() -> dict[int, str]:
    """Return the visible character that stands for each byte in GPT-2's files."""
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    characters = {byte: chr(byte) for byte in visible}
    hidden = [byte for byte in range(256) if byte not in characters]
    return characters | {byte: chr(256 + i) for i, byte in enumerate(hidden)}


def check_special(names: Sequence[str], tokens: Iterable[bytes]) -> None:
    """Raise ValueError for a special token that could be taken for other `tokens`."""
    characters = bytes_to_unicode()
    taken = {"".join(characters[b] for b in token) for token in tokens}
    for i, name in enumerate(names):
        known = name in names[:i] or name in taken or _is_joined(name, taken)
        if known or len(name.encode()) < 2:
            raise ValueError(
                f"the special token {name!r} is given twice, or is also an ordinary "
                "token, or two of them joined: use a name such as <|end|>"
            )


def _is_joined(name: str, names: set[str]) -> bool:
    """Return whether `name` is two of `names` side by side."""
    return any(name[:i] in names and name[i:] in names for i in range(1, len(name)))


# ---------------------------------------------------------------- reading


def read_vocabulary(folder: str | Path) -> Vocabulary:
    """Return the vocabulary of a folder with GPT-2's files.

    These are tokenizer.json, or vocab.json and merges.txt. Raises FileNotFoundError if
    they are missing, ValueError if they cannot be used.
    """
    folder = Path(folder)
    whole, vocab_file = folder / "tokenizer.json", folder / "vocab.json"
    merges_file, added_file = folder / "merges.txt", folder / "added_tokens.json"
    if whole.is_file():
        return _build_vocabulary(*_read_tokenizer_json(whole), whole)
    if not vocab_file.is_file() or not merges_file.is_file():
        raise FileNotFoundError(
            f"there is no vocabulary in {folder}: expected vocab.json and merges.txt, "
            "or tokenizer.json"
        )
    if added_file.is_file():
        raise ValueError(
            f"{added_file} does not say how its tokens are found in a text: save the "
            "vocabulary as tokenizer.json"
        )
    vocab = read_json(vocab_file)
    _check_vocab(vocab, vocab_file)
    return _build_vocabulary(vocab, _read_merges(merges_file), None, merges_file)


def _read_merges(path: Path) -> list[list[str]]:
    """Return the two halves of each merge; each line of a merges.txt is a merge."""
    try:
        lines = read_file(path).decode().splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is damaged: it is not UTF-8 ({error})") from None
    return [
        line.split(" ") for line in lines if line and not line.startswith("#version")
    ]


def _read_tokenizer_json(
    path: Path,
) -> tuple[dict[str, int], list[list[str]], dict[str, AddedToken]]:
    """Return the ids by name, the halves of each merge, and the added tokens."""
    content = read_json(path)
    try:
        model, splitter = content["model"], content.get("pre_tokenizer") or {}
        kind = model.get("type", "BPE"), splitter.get("type")
        odd = (
            splitter.get("add_prefix_space"),
            not splitter.get("use_regex", True),
            content.get("normalizer"),
            model.get("continuing_subword_prefix"),
            model.get("end_of_word_suffix"),
            model.get("dropout"),
            model.get("ignore_merges"),
        )
        vocab, pairs = dict(model["vocab"]), list(model["merges"])
        added = _added_tokens(content["added_tokens"])
        if len(added) < len(content["added_tokens"]):
            raise ValueError(f"{path} has the same added token twice")
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged: {error!r}") from None
    if kind != ("BPE", "ByteLevel") or any(odd):
        raise ValueError(
            f"{path} is not a tokenizer like GPT-2's: expected byte-level BPE with its "
            "pattern, no normalizer, no prefix, and no space added in front"
        )
    for number, pair in enumerate(pairs, 1):
        pairs[number - 1] = pair = pair.split(" ") if isinstance(pair, str) else pair
        if not isinstance(pair, list) or not all(isinstance(p, str) for p in pair):
            raise ValueError(f"{path}: merge {number} is {pair!r}, expected two names")
    for name, token in added.items():
        kinds = [type(value) for value in asdict(token).values()]
        known = isinstance(name, str) and kinds == [int] + 5 * [bool]
        if not known or vocab.setdefault(name, token.id) != token.id:
            raise ValueError(
                f"{path}: the added token {name!r} has an invalid option, or an id "
                "that differs from the vocabulary's"
            )
    _check_vocab(vocab, path)
    return vocab, pairs, added


def _added_tokens(entries: list[dict]) -> dict[str, AddedToken]:
    """Return the added tokens of a tokenizer.json, by name."""
    options = AddedToken.__annotations__
    return {
        entry["content"]: AddedToken(**{k: entry[k] for k in options if k in entry})
        for entry in entries
    }


def _check_vocab(vocab: dict[str, int], source: Path) -> None:
    """Raise ValueError, naming `source`, unless ids are 0, 1, ... for all bytes."""
    if not isinstance(vocab, dict) or not all(type(i) is int for i in vocab.values()):
        raise ValueError(f"{source}: expected names, each with a whole number")
    if sorted(vocab.values()) != list(range(len(vocab))):
        raise ValueError(f"{source}: the ids are not 0 to {len(vocab) - 1}, each once")
    missing = [name for name in bytes_to_unicode().values() if name not in vocab]
    if missing:
        raise ValueError(
            f"{source}: no token for {len(missing)} bytes, such as {missing[0]!r}: "
            "this is not a byte-level vocabulary"
        )
    bad = [name for name in vocab if not name or regex.search(r"\p{Cs}", name)]
    if bad:
        raise ValueError(f"{source}: {bad[0]!r} is not a valid name for a token")


def _build_vocabulary(
    vocab: dict[str, int],
    pairs: Iterable[Sequence[str]],
    added: dict[str, AddedToken] | None,
    source: Path,
) -> Vocabulary:
    """Return the vocabulary of names that are written in GPT-2's characters.

    `pairs` are the halves of each merge, earliest first. Without a list of `added`
    tokens, each name that no merge produces is a special token. Raises
    ValueError, naming the merge (counted from 1) in `source`, if the two do not match.
    """
    byte_of = {character: byte for byte, character in bytes_to_unicode().items()}
    made, merges, last = set(byte_of), {}, -1
    for number, pair in enumerate(pairs, 1):
        name = "".join(pair)
        if len(pair) != 2 or not made.issuperset(pair) or name not in vocab:
            raise ValueError(
                f"{source}: merge {number}, {' '.join(pair)!r}, does not join two "
                "earlier tokens to a token of the vocabulary"
            )
        if vocab[name] <= last:
            raise ValueError(
                f"{source}: merge {number}, {' '.join(pair)!r}, is out of order: have "
                "lines been swapped?"
            )
        last = merges[vocab[pair[0]], vocab[pair[1]]] = vocab[name]
        made.add(name)
    special = {name: i for name, i in vocab.items() if name not in made}
    if added is not None:
        special = {name: token.id for name, token in added.items() if token.special}
    elif cut_off := [name for name in special if _is_joined(name, made)]:
        raise ValueError(
            f"{source}: no merge produces {cut_off[0]!r}, although it is two tokens "
            "joined: is the end of the list missing?"
        )
    tokens = [
        bytes(byte_of[character] for character in name)
        if name in made
        else name.encode()
        for name in sorted(vocab, key=vocab.__getitem__)
    ]
    if not added or _are_plain(added, made):
        added = {}
    return Vocabulary(tokens, merges, special, added)


def _are_plain(added: dict[str, AddedToken], made: set[str]) -> bool:
    """Return whether vocab.json and merges.txt are enough to tell the added tokens."""
    kinds = {replace(token, id=0) for token in added.values()}
    joined = any(name in made or _is_joined(name, made) for name in added)
    plain = ({AddedToken(0)}, {AddedToken(0, normalized=True)})
    return kinds in plain and not joined


# ---------------------------------------------------------------- writing


def write_vocabulary(folder: str | Path, vocabulary: Vocabulary) -> None:
    """Write tokenizer.json, merges.txt and vocab.json into a folder, created if needed.

    Only the first can store `vocabulary.added`; with them, the others are left out. If
    it is killed, the old vocabulary or the new one is there. Raises OSError.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    characters = bytes_to_unicode()
    names = ["".join(characters[b] for b in token) for token in vocabulary.tokens]
    added = sorted(vocabulary.all_added().items(), key=lambda item: item[1].id)
    for name, token in added:
        names[token.id] = name
    pairs = [f"{names[a]} {names[b]}" for a, b in vocabulary.merges]
    vocab = {name: i for i, name in enumerate(names)}
    byte_level = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "use_regex": True,
        "trim_offsets": True,
    }
    whole = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "normalizer": None,
        "added_tokens": [{"content": name} | asdict(token) for name, token in added],
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {"type": "BPE", "vocab": vocab, "merges": pairs},
    }
    texts = {
        "tokenizer.json": json.dumps(whole, ensure_ascii=False),
        "merges.txt": "\n".join(["#version: 0.2", *pairs]) + "\n",
        "vocab.json": json.dumps(vocab, ensure_ascii=False),
    }
    written = list(texts)[: 1 if vocabulary.added else 3]
    old = [name for name in (*texts, "added_tokens.json") if name not in written]
    write_together(
        {folder / name: texts[name] for name in written},
        remove=[folder / name for name in old],
    )


# ---------------------------------------------------------------- finding


def find_folder(name_or_folder: str | Path, files: Sequence[str]) -> Path:
    """Return the folder with a model's `files` (patterns), which may be downloaded.

    It is a folder of that name, or else one in the cache, or else it is downloaded,
    once. Raises FileNotFoundError, which says which files to put where.
    """
    name = str(name_or_folder)
    if Path(name).expanduser().is_dir():
        return Path(name).expanduser()
    kept = cache_folder() / name
    if name not in GPT2_REPOSITORIES:
        raise FileNotFoundError(
            f"there is no folder {name}, and no model with that name: expected "
            f"{', '.join(GPT2_REPOSITORIES)}"
        )
    if any(match for pattern in files for match in kept.glob(pattern)):
        return kept
    try:
        from huggingface_hub import snapshot_download

        repository = GPT2_REPOSITORIES[name]
        return Path(
            snapshot_download(repository, etag_timeout=5, allow_patterns=list(files))
        )
    except Exception as error:  # many classes, not all of them OSError
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise FileNotFoundError(
            f"{name} is not on this machine and could not be downloaded ({reason}). "
            f"Without a network, put {', '.join(files)} of "
            f"huggingface.co/{GPT2_REPOSITORIES[name]} into {kept}"
        ) from None


# ---------------------------------------------------------------- added tokens


def split_added(text: str, vocabulary: Vocabulary, policy: str) -> list[str | int]:
    """Split `text` into strings and, between them, the ids of added tokens.

    `policy` says what the name of a special token means: "refuse" raises ValueError,
    "token" makes it that token, "text" leaves it in the text. Raises TypeError or
    ValueError for a wrong text or policy.
    """
    validation.utf8_text(text)
    validation.choice("special", policy, ("refuse", "token", "text"))
    parts: list[str | int] = [text]
    for later in (False, True):
        added = {
            name: token
            for name, token in vocabulary.all_added().items()
            if token.normalized == later
        }
        if added:
            parts = [
                new
                for old in parts
                for new in (
                    _match_added(old, added, policy) if isinstance(old, str) else [old]
                )
            ]
    return parts


def _match_added(
    text: str, added: dict[str, AddedToken], policy: str
) -> list[str | int]:
    """Split `text` at these added tokens, as the library `tokenizers` does.

    Of two added tokens that begin at the same position the longer one counts.
    """
    names = sorted(added, key=len, reverse=True)
    word = regex.compile(r"[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]")
    parts: list[str | int] = []
    begin = 0
    for match in regex.finditer("|".join(map(regex.escape, names)), text):
        token, (start, end) = added[match[0]], match.span()
        if token.special and policy == "text":
            continue
        beside = text[max(0, start - 1) : start] + text[end : end + 1]
        if token.single_word and word.search(beside):
            continue
        if token.lstrip:
            start = max(start, begin)  # after the match before
            while start > begin and regex.match(r"\s", text[start - 1]):
                start -= 1
        if token.rstrip:
            end = regex.compile(r"\s*").match(text, end).end()
        if token.special and policy == "refuse" and start < end:
            raise ValueError(
                f"the text has the special token {match[0]} at {match.start()}: pass "
                "special='token' if that is what you mean, or special='text' to read "
                "it as characters"
            )
        parts += [text[begin:start]] if begin < start else []
        parts += [token.id] if start < end else []
        begin = end
    return parts + ([text[begin:]] if begin < len(text) else [])
