"""Finetune a model on requests and answers, in a folder, with lessons 08 and 15."""

import sys
from pathlib import Path
from typing import Any

import torch

from gpt2_lesson import validation
from gpt2_lesson.checkpoints import save_checkpoint
from gpt2_lesson.finetuning import (
    add_lora,
    answer_loss,
    end_of_answer,
    lora_state,
    merge_lora,
    request_ids,
    save_adapter,
)
from gpt2_lesson.generation import generate
from gpt2_lesson.gpt2_model import GPT2Model
from gpt2_lesson.interrupts import terminations_raise
from gpt2_lesson.runs.devices import choose_device, has_bf16
from gpt2_lesson.runs.folder import (
    LOCK,
    check_free,
    only_one,
    read_settings,
    saved_steps,
    write_json,
)
from gpt2_lesson.runs.memory import keep_freed_memory
from gpt2_lesson.runs.models import open_model
from gpt2_lesson.runs.report import write_reports
from gpt2_lesson.runs.requests import Requests, as_windows, prepare_requests
from gpt2_lesson.runs.text import stable_name
from gpt2_lesson.runs.train import check_unchanged, device_now, say_stopped
from gpt2_lesson.tokenizer import Tokenizer
from gpt2_lesson.training import TrainSettings, train

PLAN: dict[str, type] = {  # what settings.json contains
    "model": str,
    "data": str,
    "data_sha256": str,
    "lora": int,
    "alpha": float,
    "merge": int,
    "steps": int,
    "batch_size": int,
    "max_lr": float,
    "precision": str,
    "seed": int,
    "save_every": int,
    "sample_every": int,
    "threads": int,
    "device": str,
}
FREE = ("data", "device", "save_every", "threads", "merge")  # what may change in a run
FULL_RATE, LORA_RATE = 1e-4, 1e-3  # the learning rates by default
VALIDATION = 256  # examples at most


def finetune_run(folder: Path, given: dict[str, Any], resume: bool) -> int:
    """Finetune in `folder` with the options given, or resume; return the exit status.

    0: done; 130 and 143: stopped by Ctrl-C or by SIGTERM, and saved.
    """
    with terminations_raise():
        if resume:
            read_settings(folder, PLAN)  # before a folder is created
            with only_one(folder):
                return go_on(folder, given)
        if "model" not in given or "data" not in given:
            raise ValueError(
                "a new run needs the model and the examples: gpt2-lesson finetune RUN "
                f"--data FILE --out {folder}"
            )
        if (folder / LOCK).exists():
            with only_one(folder):  # or say which process uses it
                pass
        check_free(folder)
        plan = new_plan(given)
        model, tokenizer, requests = prepare(plan)
        plan["data_sha256"] = requests.sha256
        configure(plan, requests)  # or say what is wrong before a folder is created
        folder.mkdir(parents=True, exist_ok=True)
        with only_one(folder):
            check_free(folder)  # another may have been faster
            write_json(folder / "settings.json", plan)
            return work(folder, plan, model, tokenizer, requests)


def go_on(folder: Path, given: dict[str, Any]) -> int:
    """Continue the run in `folder`; return the exit status."""
    stored = read_settings(folder, PLAN)
    if "model" in given:
        given["model"] = stable_name(given["model"])
    check_unchanged(folder, stored, given, FREE)
    if "data" in given:
        stored["data"] = stable_name(given["data"])
    stored |= {name: given[name] for name in ("save_every", "merge") if name in given}
    plan = stored | {"device": device_now(given.get("device"), stored["device"])}
    model, tokenizer, requests = prepare(plan)
    if requests.sha256 != plan["data_sha256"]:
        raise ValueError(
            f"{plan['data']} is not the file that this run was started with, its "
            "content differs: give the right one with --data, or start a new run"
        )
    write_json(folder / "settings.json", stored)
    done = saved_steps(folder / "checkpoint.safetensors")
    print(f"{folder}: continuing from step {done:,} of {plan['steps']:,}")
    return work(folder, plan, model, tokenizer, requests)


def new_plan(given: dict[str, Any]) -> dict:
    """Return all settings of a new run: those given, and the others' defaults."""
    rank, device = given.get("lora", 0), choose_device(given.get("device", "auto"))
    steps = validation.whole_number("--steps", given.get("steps", 200), 1)
    plan = {
        "model": "",
        "data": "",
        "lora": rank,
        "alpha": 2.0 * rank,
        "merge": 0,
        "steps": steps,
        "batch_size": 16,
        "max_lr": LORA_RATE if rank else FULL_RATE,
        "precision": "auto",
        "seed": 0,
        "save_every": 100,
        "sample_every": max(1, steps // 10),
        "threads": torch.get_num_threads(),
    }
    plan |= {name: given[name] for name in plan if name in given} | {"device": device}
    if plan["precision"] == "auto":
        plan["precision"] = "bf16" if has_bf16(device) else "float32"
    validation.whole_number("--lora", rank, 0)
    validation.whole_number("--sample-every", plan["sample_every"], 1)
    if not rank and ("alpha" in given or plan["merge"]):
        raise ValueError("--alpha and --merge are for an adapter: give --lora R, too")
    return plan | {name: stable_name(plan[name]) for name in ("model", "data")}


def prepare(plan: dict) -> tuple[GPT2Model, Tokenizer, Requests]:
    """Return the model to train, with its adapter, and the examples."""
    model, tokenizer = open_model(plan["model"])
    requests = prepare_requests(plan["data"], tokenizer, model.max_seq_length + 1)
    validation.seed("--seed", plan["seed"])
    torch.manual_seed(plan["seed"])
    if plan["lora"]:
        add_lora(model, plan["lora"], plan["alpha"])
    return model.to(plan["device"]), tokenizer, requests


def configure(plan: dict, requests: Requests) -> TrainSettings:
    """Return the training settings of a plan."""
    names = ("steps", "batch_size", "max_lr", "precision", "seed", "save_every")
    return TrainSettings(
        seq_length=requests.length,
        warmup_steps=min(20, plan["steps"] // 10),
        weight_decay=0.0,
        **{name: plan[name] for name in names},
    )


def work(
    folder: Path,
    plan: dict,
    model: GPT2Model,
    tokenizer: Tokenizer,
    requests: Requests,
) -> int:
    """Train, report and finish, or stop and say how to continue."""
    print(describe(plan, model, requests))
    keep_freed_memory()
    ids, targets = (part[:VALIDATION] for part in requests.validation)
    report = write_reports(
        folder,
        plan,
        lambda: answer_loss(model, ids, targets),
        lambda seed: sample(model, tokenizer, requests.prompt, seed),
    )
    try:
        losses = train(
            model,
            as_windows(requests.training)[0],
            configure(plan, requests),
            as_windows(requests.training)[1],
            folder / "checkpoint.safetensors",
            report,
            progress=sys.stderr.isatty(),
        )
    except KeyboardInterrupt as stop:
        return say_stopped(stop, "finetune", folder, plan)
    loss = answer_loss(model, ids, targets)
    print(
        f"{folder}: all {len(losses):,} steps done; validation {loss:.4f} nats per "
        f"token of the answers; {finish(folder, plan, model, tokenizer, losses)}"
    )
    return 0


def describe(plan: dict, model: GPT2Model, requests: Requests) -> str:
    """Return a line that says what is trained, on what, and how."""
    moving = sum(p.numel() for p in model.parameters() if p.requires_grad)
    every = sum(p.numel() for p in model.parameters())
    return (
        f"{plan['model']}: {moving:,} of {every:,} parameters are trained, "
        f"{plan['steps']:,} steps; {len(requests.training[0]):,} examples to train on, "
        f"{len(requests.validation[0]):,} for validation; {plan['device']}, "
        f"{plan['precision']}"
    )


def sample(model: GPT2Model, tokenizer: Tokenizer, prompt: str, seed: int) -> str:
    """Return a request and what the model answers, at a temperature of 0.8."""
    device = next(model.parameters()).device
    request = torch.tensor([request_ids(tokenizer, prompt)], device=device)
    end, room = end_of_answer(tokenizer), model.max_seq_length - request.size(1)
    generator = torch.Generator(device).manual_seed(seed % 2**64)
    ids = generate(model, request, min(200, room), 0.8, generator=generator, stop=end)[
        0, request.size(1) :
    ].tolist()
    answer = ids[: ids.index(end)] if end in ids else ids
    return f"{prompt} -> {tokenizer.decode(answer)}"


def finish(
    folder: Path,
    plan: dict,
    model: GPT2Model,
    tokenizer: Tokenizer,
    losses: list[float],
) -> str:
    """Write the adapter, or the model alone; return how to use it."""
    if plan["lora"]:
        size = sum(4 * values.numel() for values in lora_state(model).values())
        save_adapter(model, folder, plan["model"])
        if not plan["merge"]:
            return (
                f"an adapter of {size / 1000:,.0f} kB: gpt2-lesson generate "
                f"{plan['model']} --adapter {folder} --request TEXT"
            )
    save_checkpoint(folder / "model.safetensors", merge_lora(model), losses=losses)
    if tokenizer.vocab_size != 256:
        tokenizer.save(folder)
    return f"gpt2-lesson generate {folder} --request TEXT"
