import hashlib
import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn as nn
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from tqdm import tqdm

from gpt2_lesson.generation import evaluating
from gpt2_lesson.gpt2_model import GPT2Config, GPT2Model


def next_token_loss(logits: Tensor, input_ids: Tensor, ignore_index: int = -100) -> Tensor:
    """Return the mean of -ln P(next token), in nats per token.

    logits (B, T, V) and the *same* ids (B, T) that gave them: the shift happens here. Targets
    equal to `ignore_index` do not count. Raises ValueError if nothing is left to predict.
    """
    if logits.shape[:-1] != input_ids.shape:
        raise ValueError(
            f"logits {tuple(logits.shape)} and input_ids {tuple(input_ids.shape)} do not fit: "
            "expected (B, T, V) and (B, T), not shifted"
        )
    targets = input_ids[:, 1:]                                   # (B, T-1)
    if not (targets != ignore_index).any():
        raise ValueError("no target tokens: every row needs two tokens, or all are ignored")
    predictions = logits[:, :-1].float()                         # (B, T-1, V)
    return F.cross_entropy(
        predictions.flatten(0, 1), targets.flatten().long(), ignore_index=ignore_index
    )


def get_batch(
    tokens: Tensor, batch_size: int, seq_length: int,
    generator: torch.Generator | None = None, starts: Tensor | None = None,
) -> Tensor:
    """Return `batch_size` random windows of the text `tokens` (N,), as ids (B, T).

    A window may begin anywhere, or only at the positions in `starts`.
    Raises ValueError when the text is shorter than a window.
    """
    last = len(tokens) - seq_length
    if last < 0:
        raise ValueError(f"the text has {len(tokens)} tokens, fewer than one window of {seq_length}")
    if starts is None:
        first = torch.randint(last + 1, (batch_size,), generator=generator)
    else:
        starts = starts[starts <= last]
        first = starts[torch.randint(len(starts), (batch_size,), generator=generator)]
    return tokens[first[:, None] + torch.arange(seq_length)].long()


def learning_rate(
    step: int, steps: int, max_lr: float, warmup_steps: int = 0, min_lr: float = 0.0
) -> float:
    """Return the rate of step 0, 1, ...: a straight climb to `max_lr`, then half a cosine down.

    After `steps` it stays at `min_lr`. Source: Loshchilov and Hutter 2017.
    """
    if step < warmup_steps:
        return max_lr * (step + 1) / warmup_steps
    done = min(1.0, (step - warmup_steps) / max(1, steps - warmup_steps))
    return min_lr + (max_lr - min_lr) * (1 + math.cos(math.pi * done)) / 2


def make_optimizer(
    model: nn.Module, max_lr: float, weight_decay: float = 0.1
) -> torch.optim.AdamW:
    """Return AdamW for `model`; matrices decay, biases and norms do not.

    Source: Loshchilov and Hutter 2019; betas as in Brown et al. 2020, appendix B.
    """
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    groups = [
        {"params": matrices, "weight_decay": weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=max_lr, betas=(0.9, 0.95), fused=True)


@torch.no_grad()
def orthogonalize(matrices: Tensor) -> Tensor:
    """Return (N, rows, columns) with the singular values of each pushed towards 1.

    Five steps of a polynomial bring them between 0.7 and 1.2. Source: Jordan 2024 (Muon).
    """
    tall = matrices.size(-2) > matrices.size(-1)
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        square = x @ x.mT
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Move the matrices inside the blocks by orthogonalized momentum, the rest by Adam.

    The rest (embeddings, biases, norms) moves at a quarter of the rate. Source: Jordan 2024.
    """

    def __init__(self, model: nn.Module, max_lr: float, weight_decay: float = 0.1) -> None:
        hidden = [p for p in model.blocks.parameters() if p.dim() == 2]
        inside = set(hidden)
        rest = [p for p in model.parameters() if p not in inside]
        super().__init__([{"params": hidden}, {"params": rest}],
                         {"lr": max_lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:
        """Take one step along the gradients that `backward` left."""
        hidden, rest = self.param_groups
        for shape in dict.fromkeys(p.shape for p in hidden["params"]):
            same = [p for p in hidden["params"] if p.shape == shape]
            moves = orthogonalize(torch.stack([self.momentum(p) for p in same]))
            rate = hidden["lr"] * max(1, shape[0] / shape[1]) ** 0.5
            for parameter, move in zip(same, moves, strict=True):
                parameter.mul_(1 - hidden["lr"] * hidden["weight_decay"]).sub_(rate * move)
        for parameter in rest["params"]:
            parameter.sub_(rest["lr"] / 4 * self.adam_move(parameter))

    def momentum(self, parameter: Tensor) -> Tensor:
        """Return the gradient, blended with the running mean of the earlier ones."""
        state = self.state[parameter]
        mean = state.setdefault("mean", torch.zeros_like(parameter))
        mean.lerp_(parameter.grad, 0.05)
        return parameter.grad.lerp(mean, 0.95)

    def adam_move(self, parameter: Tensor) -> Tensor:
        """Return Adam's step for a rate of 1: the mean gradient over its usual size."""
        state, gradient = self.state[parameter], parameter.grad
        step = state["step"] = state.get("step", 0) + 1
        mean = state.setdefault("mean", torch.zeros_like(parameter))
        square = state.setdefault("square", torch.zeros_like(parameter))
        mean.lerp_(gradient, 0.1)
        square.lerp_(gradient**2, 0.05)
        return mean / (1 - 0.9**step) / ((square / (1 - 0.95**step)).sqrt() + 1e-8)


def train_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, batches: list[Tensor],
    max_norm: float = 1.0, precision: str = "float32",
) -> float:
    """Move the model once along the mean gradient of `batches`; return the mean loss before.

    Each batch (B, T) goes forward and backward alone (accumulation), so that only one has to
    fit into memory. The gradient's norm is clipped to `max_norm`; "bf16" halves the bits of
    the activations. Loss in nats per token.
    """
    model.train()
    optimizer.zero_grad()
    total = 0.0
    for input_ids in batches:
        with torch.autocast(input_ids.device.type, torch.bfloat16, precision == "bf16"):
            loss = next_token_loss(model(input_ids), input_ids) / len(batches)
        loss.backward()
        total += loss.item()
    nn.utils.clip_grad_norm_(model.parameters(), max_norm)
    optimizer.step()
    return total


def evaluate(model: nn.Module, windows: Tensor, batch_size: int = 32) -> float:
    """Return the mean loss on `windows` (N, T) of token ids, in nats per token."""
    device = next(model.parameters()).device
    total = 0.0
    with evaluating(model):
        for batch in windows.split(batch_size):
            batch = batch.long().to(device)
            total += next_token_loss(model(batch), batch).item() * len(batch)
    return total / len(windows)


@dataclass(frozen=True)
class TrainSettings:
    """What `train` needs to know beside the model and the text.

    `save_every` counts steps between checkpoints. Raises TypeError or ValueError for a
    setting that cannot be meant.
    """

    steps: int
    seq_length: int
    batch_size: int = 32
    accumulation: int = 1
    max_lr: float = 1e-3
    min_lr: float = 0.0
    warmup_steps: int = 20
    weight_decay: float = 0.1
    max_norm: float = 1.0
    optimizer: str = "adamw"
    precision: str = "float32"
    seed: int = 0
    save_every: int = 100

    def __post_init__(self) -> None:
        for name, kind in self.__annotations__.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, kind)):
                raise TypeError(f"{name} is {value!r}, expected {kind.__name__}")
        for name in ("steps", "batch_size", "accumulation", "max_lr", "max_norm", "save_every"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}, expected a number above 0")
        for name in ("min_lr", "warmup_steps", "weight_decay", "seed"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}, expected 0 or more")
        if self.seq_length < 2:
            raise ValueError(f"seq_length is {self.seq_length}, expected 2 or more: the loss "
                             "needs a token and the one after it")
        for name, known in (("optimizer", ("adamw", "muon")), ("precision", ("float32", "bf16"))):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is {getattr(self, name)!r}, expected one of {known}")

    def rate(self, step: int) -> float:
        """Return the learning rate of `step`."""
        return learning_rate(step, self.steps, self.max_lr, self.warmup_steps, self.min_lr)


class CheckpointError(ValueError):
    """A checkpoint file that cannot be used; the message says which, why and what to do."""


def digest(record: str, tensors: dict[str, Tensor]) -> str:
    """Return the SHA-256 of a record and of every tensor's name, type, shape and bytes."""
    sha = hashlib.sha256(record.encode())
    for name, tensor in sorted(tensors.items()):
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        sha.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return sha.hexdigest()


def write_whole(path: str | Path, data: bytes) -> None:
    """Write `data` so that, whatever happens, `path` holds the old bytes or the new, whole.

    Raises OSError, naming `path`; then the old file is untouched and no other is left.
    """
    path = Path(path).resolve()                      # write through a symbolic link
    if path.exists() and not path.is_file():
        raise OSError(f"cannot write {path}: it is a folder or a device, expected a file")
    partial = path.with_name(path.name + ".partial")
    try:
        with open(partial, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
        folder = os.open(path.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
    except OSError as error:
        raise OSError(error.errno, f"cannot write {path}: {error.strerror}") from error
    finally:
        partial.unlink(missing_ok=True)


def save_checkpoint(
    path: str | Path, model: GPT2Model, optimizer: torch.optim.Optimizer | None = None,
    draws: torch.Generator | None = None, losses: Sequence[float] = (),
    about: dict | None = None,
) -> None:
    """Write the model, and what is needed to go on training it, to one safetensors file.

    Numbers that are no tensors (configuration, settings) stand as JSON in the file's header,
    beside a SHA-256 of everything. Raises OSError if it cannot be written.
    """
    tensors = {f"model.{name}": values for name, values in model.state_dict().items()}
    tensors["losses"] = torch.tensor(losses, dtype=torch.float64)
    if optimizer is not None:
        for index, state in optimizer.state_dict()["state"].items():
            for key, value in state.items():
                tensors[f"optimizer.{index}.{key}"] = torch.as_tensor(value)
    if draws is not None:
        tensors |= random_states(model, draws)
    tensors = {name: values.detach().cpu().contiguous() for name, values in tensors.items()}
    record = json.dumps({"config": asdict(model.config), "about": about or {}})
    header = {"gpt2_lesson": record, "sha256": digest(record, tensors)}
    write_whole(path, save(tensors, header))


def read_checkpoint(path: str | Path) -> tuple[dict, dict[str, Tensor]]:
    """Return the record and the tensors of a file that `save_checkpoint` wrote.

    Raises FileNotFoundError, or CheckpointError for a file that is damaged or foreign.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no checkpoint {path}: is the name right?")
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except SafetensorError as error:
        raise CheckpointError(f"{path} {what_it_is(path)} ({error})") from None
    if "gpt2_lesson" not in header:
        raise CheckpointError(f"{path} is a safetensors file, but not one of `save_checkpoint`")
    record = header["gpt2_lesson"]
    if header.get("sha256") != digest(record, tensors):
        raise CheckpointError(f"{path} is damaged: its content does not fit its SHA-256")
    return json.loads(record), tensors


def what_it_is(path: str | Path) -> str:
    """Return, in words, what a file that is no readable checkpoint looks like."""
    with open(path, "rb") as file:
        start = file.read(100)
    if not start:
        return "is empty: the copy was cut off, fetch it again"
    if start.startswith(b"version https://git-lfs"):
        return "is a git-lfs pointer, not the file itself: run `git lfs pull`"
    if start.lstrip().startswith(b"<"):
        return "is a web page, not a checkpoint: the download went wrong"
    if start.startswith((b"PK", b"\x80")):
        return "is a pickle (torch.save); opening it could run code, so this course never does"
    return "is cut off, damaged or not a safetensors file"


def build_model(record: dict, tensors: dict[str, Tensor], path: str | Path) -> GPT2Model:
    """Return the model of a record, its parameters being the tensors themselves.

    Raises CheckpointError, before anything is allocated, if the two do not fit together.
    """
    weights = {name[6:]: values for name, values in tensors.items() if name.startswith("model.")}
    layers = {name.split(".")[1] for name in weights if name.startswith("blocks.")}
    try:
        config = GPT2Config(**record["config"])
        if config.num_layers != len(layers):
            raise ValueError(f"num_layers is {config.num_layers}, the file has {len(layers)}")
        with torch.device("meta"):                   # shapes only, no memory
            model = GPT2Model(**asdict(config))
        model.load_state_dict(weights, assign=True)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path} does not fit its own configuration: {error}") from None
    return model


def load_checkpoint(path: str | Path) -> GPT2Model:
    """Return the model of a checkpoint, ready to generate or to be trained anew.

    Raises FileNotFoundError or CheckpointError, which says what is wrong with the file.
    """
    record, tensors = read_checkpoint(path)
    return build_model(record, tensors, path)


def random_states(model: nn.Module, draws: torch.Generator) -> dict[str, Tensor]:
    """Return the states of the generators that training draws from: windows and dropout."""
    states = {"random.draws": draws.get_state(), "random.cpu": torch.get_rng_state()}
    device = next(model.parameters()).device
    if device.type != "cpu":
        states["random.device"] = torch.get_device_module(device).get_rng_state()
    return states


def resume_checkpoint(
    path: str | Path, model: GPT2Model, optimizer: torch.optim.Optimizer,
    draws: torch.Generator, about: dict | None = None,
) -> list[float]:
    """Put model, optimizer and generators back where they were; return the losses so far.

    Raises CheckpointError if the file's `about` or configuration is not the one given.
    """
    record, tensors = read_checkpoint(path)
    found, wanted = {**record["about"], **record["config"]}, {**(about or {}), **asdict(model.config)}
    if found != wanted:
        names = [name for name in wanted | found if wanted.get(name) != found.get(name)]
        raise CheckpointError(f"{path} is of another run: " + "; ".join(
            f"{name} was {found.get(name)!r}, now {wanted.get(name)!r}" for name in names))
    model.load_state_dict(build_model(record, tensors, path).state_dict())
    state: dict[int, dict] = {}
    for name, values in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".")
            whole = values.dim() == 0 and not values.is_floating_point()
            state.setdefault(int(index), {})[key] = values.item() if whole else values
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    draws.set_state(tensors["random.draws"])
    torch.set_rng_state(tensors["random.cpu"])
    if "random.device" in tensors:
        device = next(model.parameters()).device
        torch.get_device_module(device).set_rng_state(tensors["random.device"])
    return tensors["losses"].tolist()


def train(
    model: GPT2Model, tokens: Tensor, settings: TrainSettings,
    starts: Tensor | None = None, checkpoint: str | Path | None = None,
    on_step: Callable[[list[float]], None] | None = None,
) -> list[float]:
    """Train `model` on the text `tokens` (N,); return each step's loss, in nats per token.

    With a `checkpoint` the run is saved there as it goes, and the same call continues a run
    that was cut off, bit for bit. `starts`: where windows may begin. `on_step` is called
    after each step with the losses so far. Raises FloatingPointError when the loss is lost,
    CheckpointError when the checkpoint is of another run.
    """
    device = next(model.parameters()).device
    kind = Muon if settings.optimizer == "muon" else make_optimizer
    optimizer = kind(model, settings.max_lr, settings.weight_decay)
    draws = torch.Generator().manual_seed(settings.seed)
    about = asdict(settings) | {"text": hashlib.sha256(tokens.numpy()).hexdigest()}
    losses: list[float] = []
    torch.manual_seed(settings.seed)
    if checkpoint is not None and Path(checkpoint).exists():
        losses = resume_checkpoint(checkpoint, model, optimizer, draws, about)
    per_step = settings.batch_size * settings.accumulation * settings.seq_length
    with tqdm(total=settings.steps * per_step, initial=len(losses) * per_step,
              unit="token", unit_scale=True, leave=False) as bar:
        while len(losses) < settings.steps:
            for group in optimizer.param_groups:
                group["lr"] = settings.rate(len(losses))
            batches = [
                get_batch(tokens, settings.batch_size, settings.seq_length, draws, starts)
                for _ in range(settings.accumulation)
            ]
            batches = [batch.to(device) for batch in batches]
            loss = train_step(model, optimizer, batches, settings.max_norm, settings.precision)
            if not math.isfinite(loss):
                raise FloatingPointError(
                    f"the loss is {loss} at step {len(losses)}: try a smaller max_lr than "
                    f"{settings.max_lr}, or a longer warm-up than {settings.warmup_steps}"
                )
            losses.append(loss)
            bar.update(per_step)
            bar.set_postfix_str(f"loss {loss:.3f}", refresh=False)
            if on_step is not None:
                on_step(losses)
            if checkpoint is not None and (
                len(losses) % settings.save_every == 0 or len(losses) == settings.steps
            ):
                save_checkpoint(checkpoint, model, optimizer, draws, losses, about)
    return losses
