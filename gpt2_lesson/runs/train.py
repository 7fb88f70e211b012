"""Train a GPT-2 on a text, in a folder, with lesson 08's functions."""

import argparse
import hashlib
import math
import os
import shlex
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from gpt2_lesson import validation
from gpt2_lesson.corpora import TEXTS, load_text
from gpt2_lesson.corpora.stories import nll
from gpt2_lesson.files import atomic_write
from gpt2_lesson.generation import generate
from gpt2_lesson.gpt2_model import GPT2_SIZES, GPT2Config, GPT2Model
from gpt2_lesson.interrupts import Terminated, terminations_raise
from gpt2_lesson.runs.devices import choose_device, has_bf16
from gpt2_lesson.runs.folder import (
    LOCK,
    check_free,
    only_one,
    read_log,
    read_plan,
    saved_steps,
    write_json,
)
from gpt2_lesson.runs.memory import keep_freed_memory
from gpt2_lesson.runs.models import stored_tokenizer
from gpt2_lesson.tokenizer import Tokenizer
from gpt2_lesson.training import TrainSettings, evaluate, save_checkpoint, train

# The model and its training settings; vocab_size is replaced by the tokenizer's.
PRESETS: dict[str, tuple[GPT2Config, TrainSettings]] = {
    "demo": (
        GPT2Config(
            256,
            d_model=256,
            num_heads=8,
            num_layers=4,
            max_seq_length=128,
            d_ff=1024,
            dropout=0.0,
        ),
        TrainSettings(steps=1000, seq_length=129, batch_size=32, max_lr=1e-3),
    ),
    "story": (  # the model that the package ships
        GPT2Config(
            256,
            d_model=128,
            num_heads=4,
            num_layers=4,
            max_seq_length=256,
            d_ff=512,
            dropout=0.0,
        ),
        TrainSettings(
            steps=4000,
            seq_length=257,
            batch_size=16,
            max_lr=0.02,
            weight_decay=0.0,
            optimizer="muon",
        ),
    ),
    "shakespeare": (  # the size of nanoGPT's CPU experiment, with other settings
        GPT2Config(
            256,
            d_model=128,
            num_heads=4,
            num_layers=4,
            max_seq_length=128,
            d_ff=512,
            dropout=0.0,
        ),
        TrainSettings(
            steps=850,
            seq_length=129,
            batch_size=16,
            max_lr=0.035,
            decay="linear",
            weight_decay=0.0,
            optimizer="muon",
            momentum=0.9,
            adam_lr_scale=0.5,
        ),
    ),
} | {
    name: (
        replace(GPT2_SIZES[name], vocab_size=256),
        TrainSettings(
            steps=10_000,
            seq_length=1025,
            batch_size=4,
            accumulation=8,
            max_lr=max_lr,
            warmup_steps=200,
        ),
    )
    for name, max_lr in (
        ("gpt2", 6e-4),
        ("gpt2-medium", 3e-4),
        ("gpt2-large", 2.5e-4),
        ("gpt2-xl", 2e-4),
    )  # learning rates: Brown et al. 2020, table 2.1
}
RATES = {"adamw": 1e-3, "muon": 0.02}  # when only the optimizer is given

def train_run(args: argparse.Namespace) -> int:
    """Train as the arguments say; return the exit status.

    0: done; 130 and 143: stopped by Ctrl-C or by SIGTERM, and saved.
    """
    folder = Path(args.out)
    with terminations_raise():
        if args.resume:
            read_plan(folder, tuple(PRESETS))          # before a folder is created
            with only_one(folder):
                return go_on(args, folder)
        if (folder / LOCK).exists():
            with only_one(folder):                     # or say which process uses it
                pass
        check_free(folder)
        plan = new_plan(args)
        config, settings = configure(plan)
        text = prepare_text(plan["text"], settings.seq_length, plan["tokenizer"])
        plan["text_sha256"] = text.sha256
        model = make_model(config, settings, text, plan["device"])
        folder.mkdir(parents=True, exist_ok=True)
        with only_one(folder):
            check_free(folder)                         # another may have been faster
            write_json(folder / "settings.json", plan)
            if plan["tokenizer"] != "bytes":
                text.tokenizer.save(folder)
            return work(args, folder, plan, settings, model, text)


def go_on(args: argparse.Namespace, folder: Path) -> int:
    """Continue the run in `folder`; return the exit status."""
    stored = stored_plan(args, folder)
    plan = stored | {"device": device_now(args.device, stored["device"])}
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
    return work(args, folder, plan, settings, model, text)


def work(
    args: argparse.Namespace,
    folder: Path,
    plan: dict,
    settings: TrainSettings,
    model: GPT2Model,
    text: "Text",
) -> int:
    """Train, report and finish, or stop and say how to continue."""
    print(describe(plan, model, text))
    keep_freed_memory()
    checkpoint = folder / "checkpoint.safetensors"
    try:
        report = reporter(folder, plan, model, text)
        losses = train(
            model,
            text.tokens,
            settings,
            text.starts,
            checkpoint,
            report,
            progress=sys.stderr.isatty(),
        )
        print(finish(folder, model, text, losses))
    except KeyboardInterrupt as stop:
        print(
            f"stopped; saved at step {saved_steps(checkpoint):,} of {plan['steps']:,}; "
            "to continue: "
            + shell_line(["gpt2-lesson", "train", "--out", args.out, "--resume"]),
            file=sys.stderr,
        )
        return 143 if isinstance(stop, Terminated) else 130
    return 0


def shell_line(words: list[str]) -> str:
    """Return a command as one line that can be pasted into this system's shell."""
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)


def make_model(
    config: GPT2Config, settings: TrainSettings, text: "Text", device: str
) -> GPT2Model:
    """Return the model to train, with the initial weights of the seed."""
    torch.manual_seed(settings.seed)
    config = replace(config, vocab_size=text.tokenizer.vocab_size)
    return GPT2Model(**asdict(config)).to(device)


def new_plan(args: argparse.Namespace) -> dict:
    """Return all settings of a new run: those given, and the preset's."""
    given = {name: value for name, value in vars(args).items() if value is not None}
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
    plan |= {name: given[name] for name in plan if name in given} | {"device": device}
    if plan["precision"] == "auto":
        plan["precision"] = "bf16" if has_bf16(device) else "float32"
    validation.whole_number("--sample-every", plan["sample_every"], 1)
    return plan | {"text": stable_name(plan["text"])}


FREE = ("text", "device", "save_every", "threads")  # what may change in a run


def stored_plan(args: argparse.Namespace, folder: Path) -> dict:
    """Return the settings of the run in `folder`; most options must not differ.

    Raises FileNotFoundError if there is no run or its text is missing, ValueError if a
    setting differs.
    """
    plan = read_plan(folder, tuple(PRESETS))
    for name in [name for name in plan.keys() & vars(args).keys() if name not in FREE]:
        value = getattr(args, name)
        if value not in (None, "auto", plan[name]):
            raise ValueError(
                f"{folder} was started with {name.replace('_', '-')} "
                f"{plan[name]}, not {value}: leave the option out, or start "
                "a new run"
            )
    if plan["threads"] != torch.get_num_threads():
        print(
            f"warning: {folder} was started with {plan['threads']} threads and now has "
            f"{torch.get_num_threads()}: the last digits may differ",
            file=sys.stderr,
        )
    if args.save_every is not None:
        plan["save_every"] = args.save_every
    if args.text is not None:
        plan["text"] = stable_name(args.text)
    elif plan["text"] not in TEXTS and not Path(plan["text"]).is_file():
        raise FileNotFoundError(
            f"the text {plan['text']} is no longer there: say with --text where it is "
            "now (it is recognised by its content)"
        )
    return plan


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


def stable_name(text: str) -> str:
    """Return a name of a text that is valid in every folder."""
    if text in TEXTS or not Path(text).exists():     # `load_text` says what is wrong
        return text
    return str(Path(text).resolve())


@dataclass(frozen=True)
class Text:
    """A text prepared for training: its training part, and windows for validation.

    `tokens` (N,); `starts`: where windows may begin; `windows`: each (T,) or
    shorter, predicted from its second token on; `stories`: the story in each window;
    `sha256`: that of the whole text, by which a run recognises it.
    """

    tokens: Tensor
    starts: Tensor | None
    windows: list[Tensor]
    stories: list[str] | None
    tokenizer: Tokenizer
    sha256: str

    def some(self, most: int) -> "Text":
        """Return the same text with at most `most` of its windows, evenly spaced."""
        every = -(-len(self.windows) // most)
        stories = self.stories and self.stories[::every]
        return replace(self, windows=self.windows[::every], stories=stories)


def prepare_text(
    name: str,
    seq_length: int,
    kind: str = "bytes",
    learned: Tokenizer | None = None,
    sha256: str | None = None,
) -> Text:
    """Return a text by name or path, with its last tenth as the validation part.

    `kind` names the tokenizer; `learned` is the tokenizer of a run that continues, and
    `sha256` that of its text. Half of the windows of `stories` begin at the newline
    before a story, half anywhere, so that the model can continue any prompt. Validation
    windows contain one whole story each, as only then can the loss be compared with the
    floor. Raises ValueError if the text is too short for windows of `seq_length`, or if
    it has another SHA-256.
    """
    data = load_text(name)
    found = hashlib.sha256(data).hexdigest()
    if found != (sha256 or found):
        raise ValueError(
            f"{name} is not the text that this run was started with, its content "
            "differs: give the right one with --text, or start a new run"
        )
    cut = validation_start(name, data)
    first, rest = data[:cut].decode(), data[cut:].decode()
    tokenizer = learned or make_tokenizer(kind, first)
    if name == "stories":
        lines = rest.splitlines(keepends=True)
        tokens = as_tokens("\n" + first, tokenizer)
        windows = [as_tokens("\n" + story, tokenizer)[:seq_length] for story in lines]
        begins = (tokens == tokenizer.encode("\n")[0]).nonzero().flatten()
        anywhere = torch.arange(0, len(tokens), len(tokens) // len(begins))
        starts = torch.cat([begins, anywhere])
        return Text(tokens, starts, windows, lines, tokenizer, found)
    tokens, held_out = as_tokens(first, tokenizer), as_tokens(rest, tokenizer)
    if len(held_out) < seq_length:
        unit = "bytes" if kind == "bytes" else "tokens"
        raise ValueError(
            f"{name} has {len(tokens) + len(held_out)} {unit}, and its last tenth is "
            f"used for validation: expected at least {10 * seq_length} {unit}, ten "
            f"windows of {seq_length}; use a longer text or a smaller --seq-length"
        )
    windows = list(held_out.unfold(0, seq_length, seq_length - 1))  # each target once
    return Text(tokens, None, windows, None, tokenizer, found)


def validation_start(name: str, data: bytes) -> int:
    """Return where the last tenth of a text begins, between characters or stories."""
    cut = len(data) * 9 // 10
    if name == "stories":
        lines = data.decode().splitlines(keepends=True)
        return len("".join(lines[: len(lines) * 9 // 10]))
    while cut < len(data) and data[cut] & 0xC0 == 0x80:
        cut += 1
    return cut


def make_tokenizer(kind: str, text: str) -> Tokenizer:
    """Return the tokenizer called bytes, bpe:N (learned from `text`) or gpt2.

    Raises ValueError for another name, FileNotFoundError if GPT-2's is missing.
    """
    if kind == "bytes":
        return Tokenizer()
    if kind == "gpt2":
        return Tokenizer.load("gpt2")
    name, _, size = kind.partition(":")
    if name != "bpe" or not size.isdecimal():
        raise ValueError(
            f"--tokenizer is {kind!r}, expected bytes, gpt2, or bpe:N such as bpe:512"
        )
    return Tokenizer.train(text, int(size))


def as_tokens(text: str, tokenizer: Tokenizer) -> Tensor:
    """Return the token ids of a text as a tensor (N,), of uint8 if that is enough.

    A special token such as <|endoftext|>, which separates documents, is one token.
    """
    if tokenizer.vocab_size == 256:
        return torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)
    return torch.tensor(tokenizer.encode(text, special="token"), dtype=torch.int32)


def validate(model: GPT2Model, text: Text) -> float:
    """Return the mean loss on the validation windows, in nats per predicted token."""
    same_length = defaultdict(list)
    for window in text.windows:
        same_length[len(window)].append(window)
    total = sum(
        evaluate(model, torch.stack(windows)) * len(windows) * (length - 1)
        for length, windows in same_length.items()
    )
    return total / sum(len(window) - 1 for window in text.windows)


def entropy_rate(text: Text) -> float | None:
    """Return the lowest mean loss that a model can expect on exactly the same bytes.

    None unless the text is `stories`, whose true probabilities are known.
    """
    if text.stories is None:
        return None
    total, tokens = 0.0, 0
    for story, window in zip(text.stories, text.windows, strict=True):
        total += sum(nll(story)[: len(text.tokenizer.decode_bytes(window[1:]))])
        tokens += len(window) - 1
    return total / tokens


def describe(plan: dict, model: GPT2Model, text: Text) -> str:
    """Return a line that says what is trained, on which text, and how."""
    parameters = sum(p.numel() for p in model.parameters())
    return (
        f"{plan['preset']}: {parameters:,} parameters, {plan['steps']:,} steps of "
        f"{plan['optimizer']}; {len(text.tokens):,} tokens to train on, "
        f"{len(text.windows):,} validation windows; {plan['device']}, "
        f"{plan['precision']}"
        + (" (supported by this machine)" if plan["precision"] == "bf16" else "")
    )


def reporter(
    folder: Path, plan: dict, model: GPT2Model, text: Text
) -> Callable[[list[float]], None]:
    """Return the function for `train` to call after each step: validate and sample.

    `log.json` has one entry for each report; a run that continues adds to it.
    """
    path = folder / "log.json"
    log = read_log(path)
    few = text.some(128)
    lowest = entropy_rate(few)

    def report(losses: list[float]) -> None:
        step = len(losses)
        if step % plan["sample_every"] and step < plan["steps"]:
            return
        try:
            entry = {
                "training": losses[-1],
                "validation": validate(model, few),
                "sample": write_sample(model, text.tokenizer, plan["seed"] + step),
            }
        except FloatingPointError as error:
            raise FloatingPointError(
                f"at step {step:,} the model has diverged ({error}): start again with "
                f"a --max-lr smaller than {plan['max_lr']:g}"
            ) from None
        log[str(step)] = entry
        tqdm.write(in_words(step, entry))
        write_json(path, log)
        samples = [in_words(int(step), entry) for step, entry in log.items()]
        atomic_write(folder / "samples.txt", "\n".join(samples))
        atomic_write(folder / "losses.png", draw_losses(losses, log, lowest))

    return report


def in_words(step: int, entry: dict) -> str:
    """Return one report as text: a line with the losses, then the sample."""
    return (
        f"--- step {step:,}: training {entry['training']:.4f}, validation "
        f"{entry['validation']:.4f} nats per token\n{entry['sample']}"
    )


def write_sample(
    model: GPT2Model, tokenizer: Tokenizer, seed: int, most: int = 255
) -> str:
    """Return what `model` generates after a newline, at a temperature of 0.8."""
    device = next(model.parameters()).device
    start = torch.tensor([tokenizer.encode("\n")], device=device)
    generator = torch.Generator(device).manual_seed(seed % 2**64)
    length = min(most, model.max_seq_length - 1)
    ids = generate(model, start, length, temperature=0.8, generator=generator)
    return tokenizer.decode(ids[0, start.size(1) :])


def draw_losses(
    losses: list[float], log: dict[str, dict], lowest: float | None
) -> bytes:
    """Return the loss curve as a PNG: training (200 means) and validation."""
    from gpt2_lesson.plots import show_lines  # matplotlib is slow to import

    width = -(-len(losses) // 200)
    means = [float(piece.mean()) for piece in torch.tensor(losses).split(width)]
    ends = [min(width * (i + 1), len(losses)) for i in range(len(means))]
    steps = [int(step) for step in log]
    lines = {
        "training": (ends, means),
        "validation": (steps, [entry["validation"] for entry in log.values()]),
    }
    levels = None if lowest is None else {"floor": lowest}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "losses.png"
        show_lines(
            lines,
            xlabel="step",
            ylabel="loss (nats per token)",
            levels=levels,
            alt="The training and validation loss against the step.",
            save=path,
        )
        return path.read_bytes()


def finish(folder: Path, model: GPT2Model, text: Text, losses: list[float]) -> str:
    """Write the model alone; return a line with its loss on (nearly) all windows."""
    save_checkpoint(folder / "model.safetensors", model, losses=losses)
    text = text.some(2048)
    loss, lowest = validate(model, text), entropy_rate(text)
    words = (
        f"{folder}: all {len(losses):,} steps done; validation {loss:.4f} "
        "nats per token"
    )
    if text.tokenizer.vocab_size > 256:
        targets = [len(text.tokenizer.decode_bytes(w[1:])) for w in text.windows]
        tokens = sum(len(window) - 1 for window in text.windows)
        bits = loss / math.log(2) * tokens / sum(targets)
        words += f" ({bits:.4f} bits per byte)"
    if lowest is not None:
        words += (
            f", floor on the same bytes {lowest:.4f}, "
            f"{100 * (loss / lowest - 1):.1f}% above"
        )
    return words
