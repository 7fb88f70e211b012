"""The folder of a training run: one process at a time, and checked files."""

import contextlib
import json
import os
import platform
import re
import time
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open

from gpt2_lesson import validation
from gpt2_lesson.files import atomic_write, read_json
from gpt2_lesson.runs.devices import DEVICES

LOCK, OWNER = ".lock", ".owner.json"
PLAN = {  # what settings.json contains
    "text": str,
    "tokenizer": str,
    "preset": str,
    "steps": int,
    "batch_size": int,
    "seq_length": int,
    "max_lr": float,
    "optimizer": str,
    "precision": str,
    "dropout": float,
    "seed": int,
    "sample_every": int,
    "threads": int,
    "device": str,
}


@contextlib.contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Keep other processes from training in `folder` while this one runs.

    Raises BlockingIOError, with the process id, if another one uses the folder. The
    operating system releases the lock of a process that has ended.
    """
    owner = folder / OWNER
    try:
        # Within this second the owner has written who it is, or it has ended.
        lock = FileLock(folder / LOCK).acquire(timeout=1)
    except Timeout:
        raise BlockingIOError(
            f"{folder} is in use: process {_owner(owner)} is training in it; wait, "
            "stop it, or choose another folder"
        ) from None
    with lock:
        write_json(owner, {"pid": os.getpid(), "host": platform.node()})
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                owner.unlink()


def _owner(path: Path) -> str:
    """Return the process that uses a folder, as text."""
    for _ in range(10):
        with contextlib.suppress(OSError, ValueError):
            owner = read_json(path)
            return f"{owner.get('pid')} (on {owner.get('host')})"
        time.sleep(0.1)
    return "of an unknown number"


def check_free(folder: Path) -> None:
    """Raise FileExistsError or NotADirectoryError unless a new run may use `folder`.

    Files of a run that was killed before it wrote its settings do not matter.
    """
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(
            f"{folder} is a file, expected the name of a new folder"
        )
    if (folder / "settings.json").exists():
        raise FileExistsError(
            f"{folder} is already a run: continue it with --resume, or "
            "choose another name"
        )
    names = [path.name for path in folder.iterdir()] if folder.exists() else []
    left = (LOCK, OWNER, ".gpt2_lesson-*.partial")
    if any(not any(fnmatch(name, pattern) for pattern in left) for name in names):
        raise FileExistsError(f"{folder} is not empty: choose the name of a new folder")


def read_plan(folder: Path, presets: tuple[str, ...]) -> dict:
    """Return the settings of the run in `folder`.

    Raises FileNotFoundError if there is none, ValueError if they cannot be read.
    """
    plan = read_settings(folder, PLAN)
    known = {
        "preset": plan["preset"] in presets,
        "tokenizer": re.fullmatch(r"bytes|gpt2|bpe:\d+", plan["tokenizer"]),
    }
    check_settings(folder, [name for name, good in known.items() if not good])
    return plan


def read_settings(folder: Path, kinds: dict[str, type]) -> dict:
    """Return the settings of the run in `folder`, which have these names and types.

    Raises FileNotFoundError if there is no run, ValueError if they cannot be used.
    """
    path = folder / "settings.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no run in {folder} to resume: start it without --resume"
        )
    plan = read_json(path)
    wrong = [
        name
        for name, kind in kinds.items()
        if isinstance(plan.get(name), bool)
        or not isinstance(plan.get(name), (int, float) if kind is float else kind)
    ]
    if not wrong:
        good = {
            "device": plan["device"] in DEVICES,
            "sample_every": plan["sample_every"] > 0,
        }
        wrong = [name for name in good if not good[name]]
    check_settings(folder, wrong)
    return plan


def check_settings(folder: Path, wrong: list[str]) -> None:
    """Raise ValueError if some settings of a run are `wrong`."""
    if wrong:
        raise ValueError(
            f"{folder / 'settings.json'} is damaged: {', '.join(wrong)} cannot be "
            "used; start a new run"
        )


def read_log(path: Path) -> dict[str, dict]:
    """Return the reports so far in log.json, by step; ValueError if it is damaged."""
    log = read_json(path) if path.exists() else {}
    for step, entry in log.items():
        try:
            validation.whole_number("a step", int(step), 1)
            validation.text("a sample", entry["sample"])
            for name in ("training", "validation"):
                validation.number(name, entry[name])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path} is damaged at step {step!r} ({error}): delete it, and the run "
                "continues without its earlier reports"
            ) from None
    return log


def saved_steps(checkpoint: Path) -> int:
    """Return the number of steps in a checkpoint: 0 if it cannot be read."""
    with contextlib.suppress(OSError, RuntimeError, SafetensorError):
        with safe_open(checkpoint, framework="pt") as file:
            return file.get_slice("losses").get_shape()[0]
    return 0


def write_json(path: Path, value: dict) -> None:
    """Write `value` as readable JSON, atomically."""
    atomic_write(path, json.dumps(value, indent=2) + "\n")
