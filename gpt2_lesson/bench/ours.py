"""Our speed, beside two baselines' and the machine's limits.

Only ratios within one run mean anything: rounds alternate between the models, and the
median over the rounds counts.
"""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict
from statistics import median
from time import perf_counter

import torch
import torch.nn as nn
from safetensors.torch import load_file
from torch import Tensor
from tqdm import tqdm

from gpt2_lesson.bench.baselines import PlainGPT, transformers_model, transformers_text
from gpt2_lesson.generation import evaluating, generate
from gpt2_lesson.gpt2_model import GPT2Config, GPT2Model
from gpt2_lesson.real_gpt2 import load_gpt2, save_gpt2
from gpt2_lesson.runs.devices import has_bf16
from gpt2_lesson.runs.presets import PRESETS
from gpt2_lesson.training import make_optimizer, next_token_loss, train_step

# name: sizes, batch and tokens of a training step, new tokens after a prompt of 16
CASES = {
    "demo": (PRESETS["demo"][0], 32, 128, 112),
    "gpt2": (GPT2Config(dropout=0.0), 1, 128, 128),
}


def bench(model_name: str, rounds: int) -> None:
    """Print a table of measurements of `model_name`, one of CASES."""
    config, batch_size, seq_length, new_tokens = CASES[model_name]
    torch.manual_seed(0)
    started = perf_counter()
    model = GPT2Model(**asdict(config))
    built = perf_counter() - started
    plain, theirs = PlainGPT(config), transformers_model(config)
    ids = torch.randint(config.vocab_size, (batch_size, seq_length))
    prompt = ids[:1, :16]
    parameters = sum(p.numel() for p in model.parameters())
    print(
        f"{model_name}: {parameters:,} parameters, float32, "
        f"{torch.get_num_threads()} threads, medians of {rounds} rounds"
    )
    print(f"building the model          {built:8.2f} s")
    print(f"import, beyond torch's      {import_seconds(rounds):8.2f} s")
    with tempfile.TemporaryDirectory() as folder:
        save_gpt2(model, folder)
        ratio = loading(folder, rounds)
        loaded = load_gpt2(folder)  # its matrices are stored as in GPT-2's file
        print(f"loading a file of it, beside safetensors' own reading {ratio:.2f}")
    writing = {
        "ours": lambda: generate(loaded, prompt, new_tokens, temperature=0),
        "like nanoGPT": lambda: plain.write(prompt, new_tokens),
    }
    training: dict[str, Callable[[], object]] = {"ours": trainer(model, ids)}
    if has_bf16("cpu"):
        training["ours, bf16"] = trainer(model, ids, "bf16")
    training["like nanoGPT"] = peer_trainer(
        lambda: next_token_loss(plain(ids[:, :-1]), ids), plain
    )
    if theirs is not None:
        writing["transformers"] = lambda: transformers_text(theirs, prompt, new_tokens)
        training["transformers"] = peer_trainer(
            lambda: theirs(ids, labels=ids).loss, theirs
        )
    used = parameters - model.pos_emb.weight.numel()  # in every token
    limit = bandwidth() / (4 * used)  # tokens/s: all are read
    report("writing, tokens/s", writing, new_tokens, rounds, limit)
    first, last = quarters(model, config.max_seq_length)
    print(
        f"  time per token, last quarter of {config.max_seq_length} tokens over first: "
        f"{last / first:.2f}"
    )
    limit = flops() / (6 * used)  # forward and backward
    report("training, tokens/s", training, ids.numel(), rounds, limit)


def report(
    title: str,
    calls: Mapping[str, Callable[[], object]],
    tokens: int,
    rounds: int,
    limit: float,
) -> None:
    """Time the calls in turn; print tokens/s, the fraction of `limit`, and ratios."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()  # warm-up
    for _ in tqdm(range(rounds), desc=title, leave=False):
        for name, call in calls.items():
            started = perf_counter()
            call()
            seconds[name].append(perf_counter() - started)
    for name, times in seconds.items():
        print(f"{title}, {name:12} {tokens / median(times):9.1f}")
    print(
        f"  fraction of the machine's limit ({limit:.0f}): "
        f"{tokens / median(seconds['ours']) / limit:.0%}"
    )
    for ours in [name for name in seconds if name.startswith("ours")]:
        for peer in [name for name in seconds if not name.startswith("ours")]:
            pairs = zip(seconds[peer], seconds[ours], strict=True)
            print(f"  {ours} / {peer}: {median(a / b for a, b in pairs):.2f}")


def trainer(
    model: GPT2Model, ids: Tensor, precision: str = "float32"
) -> Callable[[], float]:
    """Return a call that takes one training step with the course's model."""
    optimizer = make_optimizer(model, max_lr=1e-4)
    return lambda: train_step(model, optimizer, [ids], precision=precision)


def peer_trainer(loss_of: Callable[[], Tensor], model: nn.Module) -> Callable[[], None]:
    """Return a call that takes the same training step of a peer's model."""
    optimizer = make_optimizer(model, max_lr=1e-4)

    def step() -> None:
        model.train()
        optimizer.zero_grad()
        loss_of().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step


def loading(folder: str, rounds: int) -> float:
    """Return the time of `load_gpt2` over `load_file`'s, every byte then copied once.

    Both map the file, so without the copy hardly anything would be read.
    """
    calls = {
        "theirs": lambda: load_file(f"{folder}/model.safetensors").values(),
        "ours": lambda: load_gpt2(folder, mmap=True).parameters(),
    }
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds + 1):
        for name, call in calls.items():
            started = perf_counter()
            for tensor in call():
                tensor.detach().clone()
            seconds[name].append(perf_counter() - started)
    seconds = {name: times[1:] for name, times in seconds.items()}  # warm-up
    pairs = zip(seconds["ours"], seconds["theirs"], strict=True)
    return median(a / b for a, b in pairs)


def quarters(model: GPT2Model, length: int) -> tuple[float, float]:
    """Return the median seconds of a token in the first and the last quarter."""
    cache, token = model.new_cache(1, length), torch.zeros(1, 1, dtype=torch.long)
    times = []
    with evaluating(model):
        for _ in range(length):
            started = perf_counter()
            model(token, cache=cache)
            times.append(perf_counter() - started)
    return median(times[: length // 4]), median(times[-length // 4 :])


def bandwidth() -> float:
    """Return how many bytes a second this machine reads, the best of five."""
    block = torch.zeros(100_000_000)
    return 4 * block.numel() / best(block.sum)


def flops() -> float:
    """Return the operations a second of a large matrix product, the best of five."""
    square = torch.randn(2048, 2048)
    return 2 * 2048**3 / best(lambda: square @ square)


def best(call: Callable[[], object]) -> float:
    """Return the least seconds of five calls, after one that does not count."""
    call()
    times = []
    for _ in range(5):
        started = perf_counter()
        call()
        times.append(perf_counter() - started)
    return min(times)


def import_seconds(rounds: int) -> float:
    """Return the median seconds that importing the package takes beyond torch."""
    extra = []
    for _ in range(rounds):
        times = []
        for code in ("import torch", "import torch; from gpt2_lesson import GPT2Model"):
            started = perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True)
            times.append(perf_counter() - started)
        extra.append(times[1] - times[0])
    return median(extra)
