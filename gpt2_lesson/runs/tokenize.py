"""Write the token ids of files as shards, with several processes."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from fnmatch import fnmatch
from functools import cache
from multiprocessing import active_children, get_context, parent_process
from pathlib import Path

import torch
from tqdm import tqdm

from gpt2_lesson import validation
from gpt2_lesson.corpora.shards import (
    MANIFEST,
    RANGE,
    Part,
    cut_files,
    shard_name,
    tokenizer_identity,
    write_manifest,
    write_shard,
)
from gpt2_lesson.interrupts import Terminated, terminations_raise
from gpt2_lesson.runs.folder import LOCK, OWNER, only_one
from gpt2_lesson.runs.models import stored_tokenizer
from gpt2_lesson.runs.text import make_tokenizer
from gpt2_lesson.tokenizer import Tokenizer

VOCABULARY = ("vocab.json", "merges.txt", "tokenizer.json")


def tokenize(files: list[str], kind: str, folder: Path, processes: int | None) -> int:
    """Write the shards of `files` that `folder` lacks; return the exit status.

    0: done; 130 and 143: stopped by Ctrl-C or by SIGTERM; the same call continues.
    """
    validation.choice("--tokenizer", kind, ("bytes", "gpt2"))
    processes = os.cpu_count() or 1 if processes is None else processes
    validation.whole_number("--processes", processes, 1)
    parts = cut_files([Path(name).expanduser() for name in files], RANGE)
    tokenizer = make_tokenizer(kind, "")
    check_folder(folder, len(parts))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with terminations_raise(), only_one(folder):
            store_tokenizer(folder, kind, tokenizer)
            processes = min(processes, len(parts))
            entries = write_shards(parts, folder, tokenizer, processes)
            manifest = write_manifest(folder, kind, tokenizer, entries)
    except KeyboardInterrupt as stop:
        done = sum((folder / shard_name(i)).exists() for i in range(len(parts)))
        print(
            f"stopped; {done:,} of {len(parts):,} shards are written, and the same "
            "command continues",
            file=sys.stderr,
        )
        return 143 if isinstance(stop, Terminated) else 130
    size = sum(part.stop - part.start for part in parts)
    print(
        f"{folder}: {manifest['tokens']:,} tokens of {size:,} bytes in {len(parts):,} "
        f"shards, tokenizer {kind}"
    )
    return 0


def check_folder(folder: Path, count: int) -> None:
    """Raise OSError unless `folder` is new, or contains nothing but such shards."""
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file, expected the name of a folder")
    known = {shard_name(i) for i in range(count)} | {MANIFEST, LOCK, OWNER, *VOCABULARY}
    for path in folder.iterdir() if folder.exists() else ():
        if path.name not in known and not fnmatch(path.name, ".gpt2_lesson-*.partial"):
            raise FileExistsError(
                f"{folder} contains {path.name}, which is not of this text: choose the "
                "name of a new folder"
            )


def store_tokenizer(folder: Path, kind: str, tokenizer: Tokenizer) -> None:
    """Store the vocabulary, unless it is there; ValueError if another one is there."""
    if kind != "bytes" and not any((folder / name).exists() for name in VOCABULARY):
        tokenizer.save(folder)
    if tokenizer_identity(stored_tokenizer(folder)) != tokenizer_identity(tokenizer):
        raise ValueError(
            f"{folder} was begun with another tokenizer: choose a new folder"
        )


def write_shards(
    parts: list[Part], folder: Path, tokenizer: Tokenizer, processes: int
) -> list[dict]:
    """Write a shard for each part; return their entries in the manifest, in order."""
    entries: list[dict] = [{} for _ in parts]
    size = sum(part.stop - part.start for part in parts)
    targets = [folder / shard_name(number) for number in range(len(parts))]
    hidden = not sys.stderr.isatty()
    with tqdm(total=size, unit="B", unit_scale=True, disable=hidden) as bar:
        for number, entry in write_in(processes, parts, targets, tokenizer):
            entries[number] = entry
            bar.update(parts[number].stop - parts[number].start)
    return entries


def write_in(
    processes: int, parts: list[Part], targets: list[Path], tokenizer: Tokenizer
) -> Iterator[tuple[int, dict]]:
    """Write the shards in so many processes; yield each one's number and entry."""
    if processes == 1:
        yield from (
            (number, write_shard(part, target, tokenizer))
            for number, (part, target) in enumerate(zip(parts, targets, strict=True))
        )
        return
    with workers(processes) as pool:
        jobs = {
            pool.submit(write, *job): number
            for number, job in enumerate(zip(parts, targets, strict=True))
        }
        for job in as_completed(jobs):
            yield jobs[job], job.result()


@contextlib.contextmanager
def workers(processes: int) -> Iterator[ProcessPoolExecutor]:
    """Yield a pool of processes, which end at once if an error or Ctrl-C comes."""
    earlier = set(active_children())
    with ProcessPoolExecutor(processes, get_context("spawn"), start_worker) as pool:
        try:
            yield pool
        except BaseException:
            for worker in set(active_children()) - earlier:
                worker.terminate()
            raise


def start_worker() -> None:
    """Prepare a worker: its parent handles Ctrl-C, and it ends when its parent does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)

    def follow() -> None:
        if parent := parent_process():
            parent.join()  # returns even if the parent was killed
            os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def write(part: Part, target: Path) -> dict:
    """Write a shard in a worker, with the vocabulary stored beside it."""
    return write_shard(part, target, _tokenizer(target.parent))


_tokenizer = cache(stored_tokenizer)  # read once in each worker
