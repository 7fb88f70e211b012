"""Train a GPT-2 on a text, in a folder, with lesson 08's functions."""

import os
import shlex
import subprocess
import sys
from contextlib import ExitStack
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
from gpt2_lesson.runs.models import PaddedGPT2Model, stored_tokenizer
from gpt2_lesson.runs.presets import PRESETS, RATES
from gpt2_lesson.runs.processes import (
    check_batch,
    joined,
    main_first,
    restarted,
    step_function,
    wrap,
)
from gpt2_lesson.runs.report import describe, finish, reporter
from gpt2_lesson.runs.text import Text, prepare_text, stable_name
from gpt2_lesson.scaling_out import Process, distributed_finish, number_of_ranks
from gpt2_lesson.training import TrainSettings, train


def train_run(folder: Path, given: dict[str, Any], resume: bool) -> int:
    """Train in `folder` with the options given, or resume; return the exit status.

    0: done; 130 and 143: stopped by Ctrl-C or by SIGTERM, and saved. Under torchrun
    every process calls this, and what torchrun starts again is resumed.
    """
    with terminations_raise():
        with joined(given.get("device", "auto")) as process:
            known = (folder / "settings.json").exists
            again = main_first(process, lambda: resume or (restarted() and known()))
            status = (go_on if again else start)(folder, given, process)
        distributed_finish(status)
    return status


def start(folder: Path, given: dict[str, Any], process: Process) -> int:
    """Start a run in `folder`; return the exit status."""

    def check() -> None:
        if (folder / LOCK).exists():
            with only_one(folder):  # or say which process uses it
                pass
        check_free(folder)

    main_first(process, check)
    plan = new_plan(given)
    config, settings = configure(plan)
    text = prepare_text(plan["text"], settings.seq_length, plan["tokenizer"])
    plan["text_sha256"] = text.sha256
    model = make_model(config, settings, text, plan)
    with ExitStack() as stack:

        def take() -> None:
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(only_one(folder))
            check_free(folder)  # another may have been faster
            write_json(folder / "settings.json", plan)
            if plan["tokenizer"] != "bytes":
                text.tokenizer.save(folder)

        main_first(process, take)
        return work(folder, plan, settings, model, text, process)


def go_on(folder: Path, given: dict[str, Any], process: Process) -> int:
    """Continue the run in `folder`; return the exit status."""
    with ExitStack() as stack:

        def take() -> None:
            read_plan(folder, tuple(PRESETS))  # before a folder is created
            stack.enter_context(only_one(folder))

        main_first(process, take)
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
        model = make_model(config, settings, text, plan)

        def store() -> None:
            if not begun and plan["tokenizer"] != "bytes":
                text.tokenizer.save(folder)
            write_json(folder / "settings.json", stored)

        main_first(process, store)
        done = saved_steps(folder / "checkpoint.safetensors")
        print(f"{folder}: continuing from step {done:,} of {plan['steps']:,}")
        return work(folder, plan, settings, model, text, process)


def work(
    folder: Path,
    plan: dict,
    settings: TrainSettings,
    model: GPT2Model,
    text: Text,
    process: Process,
) -> int:
    """Train, report and finish, or stop and say how to continue."""
    print(describe(plan, model, text))
    keep_freed_memory()
    check_batch(settings.batch_size)
    checkpoint = folder / "checkpoint.safetensors"
    done = saved_steps(checkpoint)
    # A model in parts answers only if all processes ask; any other needs only rank 0.
    asked = process.is_main or plan.get("parallel") == "fsdp"
    try:
        trained = wrap(model, plan)
        report = reporter(folder, plan, model, text, process.is_main)
        losses = train(
            cast(GPT2Model, trained),
            cast(Tensor, text.tokens),  # Shards are read like a tensor
            settings,
            text.starts,
            checkpoint,
            report if asked else None,
            progress=sys.stderr.isatty(),
            rows=slice(process.rank, None, process.world_size),
            take_step=step_function(process, model, settings.seed, done),
        )
        if asked:
            print(finish(folder, model, text, losses))
    except KeyboardInterrupt as stop:
        return say_stopped(stop, "train", folder, plan)
    return 0


def say_stopped(stop: KeyboardInterrupt, command: str, folder: Path, plan: dict) -> int:
    """Say how to continue a run that was stopped; return its exit status."""
    done = saved_steps(folder / "checkpoint.safetensors")
    start = ["gpt2-lesson"]
    if count := os.environ.get("LOCAL_WORLD_SIZE"):
        start = ["torchrun", "--nproc-per-node", count, "-m", "gpt2_lesson.cli"]
    print(
        f"stopped; saved at step {done:,} of {plan['steps']:,}; to continue: "
        + shell_line([*start, command, "--out", str(folder), "--resume"]),
        file=sys.stderr,
    )
    return 143 if isinstance(stop, Terminated) else 130


def shell_line(words: list[str]) -> str:
    """Return a command as one line that can be pasted into this system's shell."""
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)


def make_model(
    config: GPT2Config, settings: TrainSettings, text: Text, plan: dict
) -> GPT2Model:
    """Return the model to train, with the initial weights of the seed."""
    torch.manual_seed(settings.seed)
    config = replace(config, vocab_size=text.tokenizer.vocab_size)
    kind = PaddedGPT2Model if plan.get("pad_vocab") else GPT2Model
    return kind(**asdict(config)).to(plan["device"])


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
        "accumulation": settings.accumulation,
        "seq_length": settings.seq_length,
        "max_lr": max_lr,
        "warmup_steps": settings.warmup_steps,
        "optimizer": optimizer,
        "precision": "auto",
        "dropout": config.dropout,
        "seed": settings.seed,
        "save_every": settings.save_every,
        "sample_every": max(1, steps // 10),
        "threads": torch.get_num_threads(),
        "processes": number_of_ranks(),
        "parallel": "ddp",
        "compile": False,
        "pad_vocab": False,
    }
    if is_shards(given.get("text", "")):
        plan["tokenizer"] = read_manifest(Path(given["text"]))["tokenizer"]["name"]
    plan |= {name: given[name] for name in plan if name in given} | {"device": device}
    if plan["precision"] == "auto":
        plan["precision"] = "bf16" if has_bf16(device) else "float32"
    validation.whole_number("--sample-every", plan["sample_every"], 1)
    return plan | {"text": stable_name(plan["text"])}


SPEED = ("save_every", "parallel", "compile", "pad_vocab")
FREE = ("text", "device", "threads", "processes", *SPEED)  # what may change in a run


def stored_plan(folder: Path, given: dict[str, Any]) -> dict:
    """Return the settings of the run in `folder`; most options must not differ.

    Raises FileNotFoundError if there is no run or its text is missing, ValueError if a
    setting differs.
    """
    plan = read_plan(folder, tuple(PRESETS))
    check_unchanged(folder, plan, given, FREE)
    plan |= {name: given[name] for name in SPEED if name in given}
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
    now = {"threads": torch.get_num_threads(), "processes": number_of_ranks()}
    for name, count in now.items():
        if (before := plan.get(name, 1)) != count:
            print(
                f"warning: {folder} was started with {before} {name} and now has "
                f"{count}: the last digits may differ",
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
