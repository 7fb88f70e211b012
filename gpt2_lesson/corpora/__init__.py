"""Texts for training: stories, the Python manual, Shakespeare, or your own file."""

import difflib
import os
from collections.abc import Callable
from pathlib import Path
from pydoc_data.topics import topics

from gpt2_lesson import validation
from gpt2_lesson.corpora import stories
from gpt2_lesson.corpora.download import fetch
from gpt2_lesson.corpora.story_model import story_model
from gpt2_lesson.files import cache_folder

__all__ = ["TEXTS", "load_text", "split", "stories", "story_model"]

SHAKESPEARE_URL = (
    "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/"
    "tinyshakespeare/input.txt"
)
SHAKESPEARE_SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"


def load_text(name_or_path: str | os.PathLike[str]) -> bytes:
    """Return a text as UTF-8 bytes: one of `TEXTS` by name, or a file by its path.

    A name wins over a file of that name; write ./stories for the file. Raises
    ValueError for an unknown name and for a file that is empty or not UTF-8 (with the
    byte offset), OSError for a file that cannot be read.
    """
    if not isinstance(name_or_path, str | os.PathLike):
        raise TypeError(
            f"name_or_path is {validation.shown(name_or_path)}, expected the name of a "
            "text or a path"
        )
    if name_or_path in TEXTS:
        return TEXTS[name_or_path]()
    path = Path(name_or_path).expanduser()
    if not name_or_path or not path.exists():
        raise _not_found(os.fspath(name_or_path))
    if not path.is_file():
        kind = "a folder" if path.is_dir() else "no regular file"
        raise ValueError(f"{path} is {kind}; expected a text file")
    text = path.read_bytes()
    if not text:
        raise ValueError(f"{path} is empty; expected some text to learn from")
    check_utf8(text, path)
    return text


def split(text: bytes, fraction: float = 0.9) -> tuple[bytes, bytes]:
    """Return `text` in two parts, cut after the last newline of its first `fraction`.

    A story ends with a newline, so no story is cut. Raises ValueError if a part would
    be empty.
    """
    if not isinstance(text, bytes):
        raise TypeError(
            f"text is {validation.shown(text)}, expected bytes: use .encode()"
        )
    fraction = validation.number("fraction", fraction, above=0, below=1)
    cut = text.rfind(b"\n", 0, int(len(text) * fraction)) + 1
    if not 0 < cut < len(text):
        raise ValueError(
            f"cannot cut {len(text)} bytes at {fraction}: expected a newline "
            "before that point, and text after it"
        )
    return text[:cut], text[cut:]


def _stories() -> bytes:
    """Return 20,000 stories, always the same ones (4.7 MB, generated in 3 s)."""
    return stories.stories(20_000).encode()


def _python() -> bytes:
    """Return the language reference that comes with this Python."""
    return "\n".join(topics[name] for name in sorted(topics)).encode()


def _tinyshakespeare() -> bytes:
    """Return 1.1 MB of Shakespeare's plays, from the cache or the network."""
    path = cache_folder() / "tinyshakespeare.txt"
    return fetch(SHAKESPEARE_URL, SHAKESPEARE_SHA256, path).read_bytes()


TEXTS: dict[str, Callable[[], bytes]] = {
    "stories": _stories,
    "python": _python,
    "tinyshakespeare": _tinyshakespeare,
}


def _not_found(name: str) -> Exception:
    """Return the error for a `name` that is neither a built-in text nor a file."""
    if os.path.dirname(name) or os.path.splitext(name)[1]:
        return FileNotFoundError(
            f"no file {name}; check the path (this folder is {os.getcwd()})"
        )
    close = difflib.get_close_matches(name, TEXTS, n=1)
    hint = f" Did you mean {close[0]}?" if close else ""
    return ValueError(
        f"unknown text {name!r}; expected {', '.join(TEXTS)}, or the path of "
        f"a text file.{hint}"
    )


def check_utf8(text: bytes, path: Path, start: int = 0) -> None:
    """Raise ValueError unless `text`, the bytes of `path` from `start` on, is UTF-8."""
    try:
        text.decode()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8: byte 0x{text[error.start]:02x} at offset "
            f"{start + error.start} ({error.reason}). Open it in an editor and save "
            "it with the encoding UTF-8."
        ) from None
