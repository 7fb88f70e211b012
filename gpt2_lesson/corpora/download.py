"""Download a file once, checked by its SHA-256, and keep it in a cache folder.

An interrupted download continues where it stopped. A file gets its name only when it is
complete and its SHA-256 is right.
"""

import os
import urllib.error
import urllib.request
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import BinaryIO

from tqdm import tqdm

from gpt2_lesson.files import file_sha256, sync_folder

CHUNK = 1 << 16  # bytes


def fetch(url: str, sha256: str, path: Path, timeout: float = 30.0) -> Path:
    """Return `path`, having downloaded `url` to it unless it is there already.

    A file with another SHA-256 raises ValueError: a cached one is left as it is, a
    downloaded one is deleted. A network or a disk that fails raises OSError; what has
    arrived by then is kept beside `path` as .part, for the next try.
    """
    path = Path(path)
    if path.exists():
        _check_cached(path, sha256)
        return path
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _download(url, part, timeout)
    except (OSError, HTTPException) as error:
        raise OSError(
            f"cannot download {url}: {error}. Try again (what has arrived is kept), or "
            f"without a network put the file with SHA-256 {sha256} at {path}; the "
            "environment variable GPT2_LESSON_CACHE names another folder."
        ) from error
    found = file_sha256(part)
    if found != sha256:
        part.unlink()
        raise ValueError(
            f"{url} sent a file with SHA-256 {found}, expected {sha256}; it "
            "was deleted. Try again, or get the file from somewhere else."
        )
    os.replace(part, path)
    sync_folder(path.parent)
    return path


def _check_cached(path: Path, sha256: str) -> None:
    """Raise ValueError if the file at `path` has another SHA-256."""
    found = file_sha256(path)
    if found != sha256:
        raise ValueError(
            f"{path} has SHA-256 {found}, expected {sha256}; it was left as "
            "it is. Move it away to download it again."
        )


def _download(url: str, part: Path, timeout: float) -> None:
    """Write `url` to `part`, after the bytes that are already there."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url)
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        response = urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing is left to send: check it
            return
        raise
    with response, part.open("ab") as file:
        if response.status != 206:  # the whole file comes: start again
            file.seek(0)
            file.truncate()
        _copy(response, file, part.name)
        file.flush()
        os.fsync(file.fileno())


def _copy(response: HTTPResponse, file: BinaryIO, name: str) -> None:
    """Append the body of `response` to `file`; ConnectionError if it is cut off."""
    have, left = file.tell(), response.length
    total = None if left is None else have + left
    with tqdm(total=total, initial=have, unit="B", unit_scale=True, desc=name) as bar:
        while chunk := response.read(CHUNK):
            file.write(chunk)
            bar.update(len(chunk))
        if total is not None and file.tell() < total:
            raise ConnectionError(f"it broke off after {file.tell()} of {total} bytes")
