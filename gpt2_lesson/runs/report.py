"""What a run reports: losses, samples, the loss curve, the final loss."""

import math
import tempfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import torch
from tqdm import tqdm

from gpt2_lesson.corpora.stories import nll
from gpt2_lesson.files import atomic_write
from gpt2_lesson.generation import generate
from gpt2_lesson.gpt2_model import GPT2Model
from gpt2_lesson.runs.folder import read_log, write_json
from gpt2_lesson.runs.text import Text
from gpt2_lesson.scaling_out import number_of_ranks
from gpt2_lesson.tokenizer import Tokenizer
from gpt2_lesson.training import evaluate, read_losses, save_checkpoint


def describe(plan: dict, model: GPT2Model, text: Text) -> str:
    """Return a line that says what is trained, on which text, and how."""
    parameters = sum(p.numel() for p in model.parameters())
    return (
        f"{plan['preset']}: {parameters:,} parameters, {plan['steps']:,} steps of "
        f"{plan['optimizer']}; {len(text.tokens):,} tokens to train on, "
        f"{len(text.windows):,} validation windows; {plan['device']}, "
        f"{plan['precision']}"
        + (" (supported by this machine)" if plan["precision"] == "bf16" else "")
        + (f", {number_of_ranks()} processes" if number_of_ranks() > 1 else "")
    )


def reporter(
    folder: Path, plan: dict, model: GPT2Model, text: Text, write: bool = True
) -> Callable[[list[float]], None]:
    """Return the function for `train` to call after each step: validate and sample."""
    few = text.some(128)
    return write_reports(
        folder,
        plan,
        lambda: validate(model, few),
        lambda seed: write_sample(model, text.tokenizer, seed),
        entropy_rate(few),
        write,
    )


def write_reports(
    folder: Path,
    plan: dict,
    measure: Callable[[], float],
    sample: Callable[[int], str],
    lowest: float | None = None,
    write: bool = True,
) -> Callable[[list[float]], None]:
    """Return a function that reports every `sample_every` steps, given the losses.

    A report is the validation loss that `measure()` returns, and `sample(seed)`.
    `log.json` has one entry for each report; a run that continues adds to it. Where
    several processes compute a report together, only one should `write`.
    """
    path = folder / "log.json"
    log = read_log(path)

    def report(losses: list[float]) -> None:
        step = len(losses)
        if step % plan["sample_every"] and step < plan["steps"]:
            return
        try:
            entry = {
                "training": read_losses(losses)[-1],
                "validation": measure(),
                "sample": sample(plan["seed"] + step),
            }
        except FloatingPointError as error:
            raise FloatingPointError(
                f"at step {step:,} the model has diverged ({error}): start again with "
                f"a --max-lr smaller than {plan['max_lr']:g}"
            ) from None
        if not write:
            return
        log[str(step)] = entry
        tqdm.write(in_words(step, entry))
        write_json(path, log)
        samples = [in_words(int(step), entry) for step, entry in log.items()]
        atomic_write(folder / "samples.txt", "\n".join(samples))
        atomic_write(folder / "losses.png", draw_losses(losses, log, lowest))

    return report


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
