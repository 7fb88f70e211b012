"""Train a GPT-2 on a text, in a folder, with lesson 08's functions."""

import os
import shlex
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from gpt2_lesson import validation
from gpt2_lesson.corpora import TEXTS
from gpt2_lesson.corpora.shards import is_shards, read_manifest
from gpt2_lesson.gpt2_model import GPT2Config, GPT2Model
from gpt2_lesson.interrupts import Terminated, terminations_raise
from gpt2_lesson.runs.devices import choose_device, has_bf16
from gpt2_lesson.runs.folder import (
    LOCK,
    check_free,
    only_one,
    read_plan,
    saved_steps,
    write_json,
)
from gpt2_lesson.runs.memory import keep_freed_memory
from gpt2_lesson.runs.models import stored_tokenizer
from gpt2_lesson.runs.presets import PRESETS, RATES
from gpt2_lesson.runs.report import describe, finish, reporter
from gpt2_lesson.runs.text import Text, prepare_text, stable_name
from gpt2_lesson.training import TrainSettings, train


def train_run(folder: Path, given: dict[str, Any], resume: bool) -> int:
    """Train in `folder` with the options given, or resume; return the exit status.

    0: done; 130 and 143: stopped by Ctrl-C or by SIGTERM, and saved.
    """
    with terminations_raise():
        if resume:
            read_plan(folder, tuple(PRESETS))  # before a folder is created
            with only_one(folder):
                return go_on(folder, given)
        if (folder / LOCK).exists():
            with only_one(folder):  # or say which process uses it
                pass
        check_free(folder)
        plan = new_plan(given)
        config, settings = configure(plan)
        text = prepare_text(plan["text"], settings.seq_length, plan["tokenizer"])
        plan["text_sha256"] = text.sha256
        model = make_model(config, settings, text, plan["device"])
        folder.mkdir(parents=True, exist_ok=True)
        with only_one(folder):
            check_free(folder)  # another may have been faster
            write_json(folder / "settings.json", plan)
            if plan["tokenizer"] != "bytes":
                text.tokenizer.save(folder)
            return work(folder, plan, settings, model, text)


def go_on(folder: Path, given: dict[str, Any]) -> int:
    """Continue the run in `folder`; return the exit status."""
    stored = stored_plan(folder, given)
    plan = stored | {"device": device_now(given.get("device"), stored["device"])}
    try:
        config, settings = configure(plan)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{folder / 'settings.json'} is damaged: {error}; start a new run"
        ) from None
    # Before the first checkpoint the vocabulary may be incomplete: make it again.
    begun = (folder / "checkpoint.safetensors").exists()
    text = prepare_text(
        plan["text"],
        settings.seq_length,
        plan["tokenizer"],
        stored_tokenizer(folder) if begun else None,
        plan.get("text_sha256"),
    )
    model = make_model(config, settings, text, plan["device"])
    if not begun and plan["tokenizer"] != "bytes":
        text.tokenizer.save(folder)
    write_json(folder / "settings.json", stored)
    done = saved_steps(folder / "checkpoint.safetensors")
    print(f"{folder}: continuing from step {done:,} of {plan['steps']:,}")
    return work(folder, plan, settings, model, text)


def work(
    folder: Path,
    plan: dict,
    settings: TrainSettings,
    model: GPT2Model,
    text: Text,
) -> int:
    """Train, report and finish, or stop and say how to continue."""
    print(describe(plan, model, text))
    keep_freed_memory()
    checkpoint = folder / "checkpoint.safetensors"
    try:
        report = reporter(folder, plan, model, text)
        losses = train(
            model,
            cast(Tensor, text.tokens),  # Shards are read like a tensor
            settings,
            text.starts,
            checkpoint,
            report,
            progress=sys.stderr.isatty(),
        )
        print(finish(folder, model, text, losses))
    except KeyboardInterrupt as stop:
        return say_stopped(stop, "train", folder, plan)
    return 0


def say_stopped(stop: KeyboardInterrupt, command: str, folder: Path, plan: dict) -> int:
    """Say how to continue a run that was stopped; return its exit status."""
    done = saved_steps(folder / "checkpoint.safetensors")
    print(
        f"stopped; saved at step {done:,} of {plan['steps']:,}; to continue: "
        + shell_line(["gpt2-lesson", command, "--out", str(folder), "--resume"]),
        file=sys.stderr,
    )
    return 143 if isinstance(stop, Terminated) else 130


def shell_line(words: list[str]) -> str:
    """Return a command as one line that can be pasted into this system's shell."""
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)


def make_model(
    config: GPT2Config, settings: TrainSettings, text: Text, device: str
) -> GPT2Model:
    """Return the model to train, with the initial weights of the seed."""
    torch.manual_seed(settings.seed)
    config = replace(config, vocab_size=text.tokenizer.vocab_size)
    return GPT2Model(**asdict(config)).to(device)


def new_plan(given: dict[str, Any]) -> dict:
    """Return all settings of a new run: those given, and the preset's."""
    preset = given.get("preset", "demo")
    config, settings = PRESETS[preset]
    optimizer = given.get("optimizer", settings.optimizer)
    max_lr = settings.max_lr if optimizer == settings.optimizer else RATES[optimizer]
    steps = given.get("steps", settings.steps)
    device = choose_device(given.get("device", "auto"))
    plan = {
        "text": "stories",
        "tokenizer": "bytes",
        "preset": preset,
        "steps": steps,
        "batch_size": settings.batch_size,
        "seq_length": settings.seq_length,
        "max_lr": max_lr,
        "optimizer": optimizer,
        "precision": "auto",
        "dropout": config.dropout,
        "seed": settings.seed,
        "save_every": settings.save_every,
        "sample_every": max(1, steps // 10),
        "threads": torch.get_num_threads(),
    }
    if is_shards(given.get("text", "")):
        plan["tokenizer"] = read_manifest(Path(given["text"]))["tokenizer"]["name"]
    plan |= {name: given[name] for name in plan if name in given} | {"device": device}
    if plan["precision"] == "auto":
        plan["precision"] = "bf16" if has_bf16(device) else "float32"
    validation.whole_number("--sample-every", plan["sample_every"], 1)
    return plan | {"text": stable_name(plan["text"])}


FREE = ("text", "device", "save_every", "threads")  # what may change in a run


def stored_plan(folder: Path, given: dict[str, Any]) -> dict:
    """Return the settings of the run in `folder`; most options must not differ.

    Raises FileNotFoundError if there is no run or its text is missing, ValueError if a
    setting differs.
    """
    plan = read_plan(folder, tuple(PRESETS))
    check_unchanged(folder, plan, given, FREE)
    if "save_every" in given:
        plan["save_every"] = given["save_every"]
    if "text" in given:
        plan["text"] = stable_name(given["text"])
    elif plan["text"] not in TEXTS and not Path(plan["text"]).exists():
        raise FileNotFoundError(
            f"the text {plan['text']} is no longer there: say with --text where it is "
            "now (it is recognised by its content)"
        )
    return plan


def check_unchanged(
    folder: Path, plan: dict, given: dict[str, Any], free: tuple[str, ...]
) -> None:
    """Raise ValueError for an option that a run may not change when it continues."""
    for name in [name for name in plan.keys() & given.keys() if name not in free]:
        if given[name] not in ("auto", plan[name]):
            raise ValueError(
                f"{folder} was started with {name.replace('_', '-')} "
                f"{plan[name]}, not {given[name]}: leave the option out, or start "
                "a new run"
            )
    if plan["threads"] != torch.get_num_threads():
        print(
            f"warning: {folder} was started with {plan['threads']} threads and now has "
            f"{torch.get_num_threads()}: the last digits may differ",
            file=sys.stderr,
        )


def device_now(given: str | None, begun: str) -> str:
    """Return the device to continue on: as given, or as before, or the fastest."""
    try:
        device = choose_device(given or begun)
    except ValueError:
        if given is not None:
            raise
        device = choose_device("auto")
    if device != begun:
        print(
            f"warning: the run was started on {begun} and continues on {device}: the "
            "last digits will differ",
            file=sys.stderr,
        )
    return device


def configure(plan: dict) -> tuple[GPT2Config, TrainSettings]:
    """Return the model's configuration and the training settings of a plan."""
    config, settings = PRESETS[plan["preset"]]
    config = replace(
        config, dropout=plan["dropout"], max_seq_length=plan["seq_length"] - 1
    )
    names = plan.keys() & asdict(settings).keys()
    return config, replace(settings, **{name: plan[name] for name in names})
