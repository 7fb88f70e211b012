"""Files: atomic writes, reads with a size limit, SHA-256.

Lessons and tools share this module; it imports neither.
"""

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

if sys.platform == "win32":  # where an open file cannot be removed
    fcntl = None
else:
    import fcntl

__all__ = [
    "CheckpointError",
    "atomic_write",
    "cache_folder",
    "file_sha256",
    "read_file",
    "read_json",
    "scratch_folder",
    "sync_folder",
    "with_sorted_metadata",
    "write_together",
]

JSON_LIMIT = 1 << 28  # bytes; GPT-2's largest JSON file, tokenizer.json, has 1.4 MB


class CheckpointError(ValueError):
    """An unusable file; the message says which one, why, and what to do."""


def atomic_write(
    path: str | Path, data: bytes | str, *, follow_links: bool = True
) -> None:
    """Write `data` so that `path` contains the old or the new bytes at any moment.

    Text is written as UTF-8. A new file gets the mode that the umask allows, an
    existing one keeps its mode. A symbolic link at `path` stays, unless `follow_links`
    is False: then the file replaces it. Raises OSError, naming `path`; then the old
    file is unchanged and no temporary file remains.
    """
    write_together({path: data}, follow_links=follow_links)


def write_together(
    files: Mapping[str | Path, bytes | str | list[bytes | memoryview]],
    remove: Iterable[Path] = (),
    *,
    follow_links: bool = True,
) -> None:
    """Write files that belong together; the first is the one that readers trust.

    The content of a file is a string, bytes, or a list of bytes.
    All of them are written under temporary names before any file is replaced, so a
    full disk changes nothing. Then the first file is replaced, the files in `remove`
    and the other old files are removed, and the other new files get their names. If
    the process is killed, the first file is therefore either old or new, and the rest
    never mixes old and new files. Raises OSError, naming the file.
    """
    path: str | Path = ""
    with contextlib.ExitStack() as stack:
        try:
            staged = []
            for path, data in files.items():
                target = _target(path, follow_links)
                data = data.encode() if isinstance(data, str) else data
                data = data if isinstance(data, list) else [data]
                staged.append((stack.enter_context(_temporary(target, data)), target))
            for number, (temporary, path) in enumerate(staged):
                _replace(temporary, path)
                if number == 0:
                    for old in (*remove, *(other for _, other in staged[1:])):
                        old.unlink(missing_ok=True)
            for folder in {target.parent for _, target in staged}:
                sync_folder(folder)
        except OSError as error:
            message = f"cannot write {path}: {error.strerror or error}"
            raise OSError(*filter(None, [error.errno]), message) from error


def _target(path: str | Path, follow_links: bool) -> Path:
    """Return the path to write to. Raises OSError if it is not a regular file."""
    path = Path(path).resolve() if follow_links else Path(path)
    if path.exists() and not path.is_file() and not path.is_symlink():
        raise OSError("it is a folder or a device, not a file")
    return path


@contextlib.contextmanager
def _temporary(target: Path, data: list[bytes | memoryview]) -> Iterator[Path]:
    """Write `data` to a new file beside `target`, and remove it at the end.

    The file is locked while its writer lives, so that the next writer in this folder
    can tell a file that a killed process left behind from one in use.
    """
    _sweep(target.parent)
    mode = None
    if target.is_file() and not target.is_symlink():
        mode = target.stat().st_mode & 0o777
    path, file = _create(target.parent, 0o666 if mode is None else mode)
    try:
        with file:
            file.writelines(data)
            file.flush()
            os.fsync(file.fileno())  # wait until it is on the disk
            if mode is not None:
                with contextlib.suppress(OSError):
                    os.chmod(path, mode)
            if fcntl is None:
                file.close()  # Windows cannot rename an open file
            yield path
    finally:
        path.unlink(missing_ok=True)


def _create(folder: Path, mode: int) -> tuple[Path, BinaryIO]:
    """Return the path of a new file and the file, open and locked."""
    while True:
        path = folder / f".gpt2_lesson-{secrets.token_hex(8)}.partial"
        # "x" fails if a file or a link of that name exists.
        file = open(path, "xb", opener=lambda name, flags: os.open(name, flags, mode))
        if _locked(file) is not False and path.exists():
            return path, file
        file.close()  # it was swept before it was locked: try again


def _locked(file: BinaryIO | int) -> bool | None:
    """Lock `file`: True, or False if it is locked, or None where locks do not exist."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (AttributeError, OSError):  # Windows; some network folders
        return None
    return True


def _sweep(folder: Path) -> None:
    """Remove the temporary files in `folder` whose writers are gone."""
    for path in folder.glob(".gpt2_lesson-*.partial"):
        with contextlib.suppress(OSError):
            if path.is_symlink() or not path.is_file():
                continue
            with path.open("rb") as file:
                lock = _locked(file)
                old = time.time() - path.stat().st_mtime > 24 * 3600
                if lock:
                    path.unlink()
            if lock is None and old:
                path.unlink()


def _replace(source: Path, target: Path) -> None:
    """Rename `source` to `target`; try again if, say, a virus scanner has it open."""
    for pause in (0.01, 0.05, 0.2, 0.5):
        try:
            return os.replace(source, target)
        except PermissionError:
            time.sleep(pause)
    os.replace(source, target)


def sync_folder(folder: str | Path) -> None:
    """Write the names in `folder` to disk, where the system can do that.

    Windows cannot open folders, and some network folders cannot be synced.
    """
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def read_file(path: str | Path, limit: int = JSON_LIMIT) -> bytes:
    """Return the bytes of a regular file of at most `limit` bytes.

    Raises OSError, or CheckpointError for a larger file, a folder or a device.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        raise CheckpointError(f"{path} is a folder or a device, expected a file")
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        data = file.read(limit + 1) if size <= limit else b""
    if max(size, len(data)) > limit:
        raise CheckpointError(
            f"{path} has {size:,} bytes, expected at most {limit:,}: is it the right "
            "file?"
        )
    return data


def read_json(path: str | Path, limit: int = JSON_LIMIT) -> dict:
    """Return the JSON object in a file of at most `limit` bytes.

    Raises OSError, or CheckpointError if there is none.
    """
    try:
        value = json.loads(read_file(path, limit))
    except CheckpointError:
        raise
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged, or not JSON: {error}") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} is damaged: expected a JSON object")
    return value


def with_sorted_metadata(safetensors: bytes) -> list[bytes | memoryview]:
    """Return a safetensors file, in two parts, with its metadata in alphabetical order.

    The library writes several entries in a random order, so the same content would
    give files with different hashes.
    """
    size = int.from_bytes(safetensors[:8], "little")
    header = json.loads(safetensors[8 : 8 + size])
    metadata = header.pop("__metadata__", {})
    header = {"__metadata__": dict(sorted(metadata.items()))} | header
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    start = len(text).to_bytes(8, "little") + text
    return [start, memoryview(safetensors)[8 + size :]]


def file_sha256(path: str | Path) -> str:
    """Return the SHA-256 of the file at `path`, in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache_folder() -> Path:
    """Return the folder for downloads: $GPT2_LESSON_CACHE or ~/.cache/gpt2_lesson."""
    folder = os.environ.get("GPT2_LESSON_CACHE") or "~/.cache/gpt2_lesson"
    return Path(folder).expanduser()


@contextlib.contextmanager
def scratch_folder(purpose: str) -> Iterator[Path]:
    """Yield a temporary folder, and remove those that killed processes left behind.

    The folder is locked while its process lives; on Windows the old ones stay.
    """
    prefix = f"gpt2_lesson-{purpose}-"
    for old in Path(tempfile.gettempdir()).glob(f"{prefix}*") if fcntl else ():
        with contextlib.suppress(OSError), _locked_folder(old) as free:
            if free and time.time() - old.stat().st_mtime > 1:  # else: not yet locked
                shutil.rmtree(old)
    with tempfile.TemporaryDirectory(prefix=prefix) as folder:
        with _locked_folder(folder) if fcntl else contextlib.nullcontext():
            yield Path(folder).resolve()


@contextlib.contextmanager
def _locked_folder(folder: str | Path) -> Iterator[bool]:
    """Lock a folder, without following a link; yield False if it is locked already."""
    handle = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY)
    try:
        yield _locked(handle) is True
    finally:
        os.close(handle)
