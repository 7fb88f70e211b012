"""Checkpoints: all that a training run needs in order to continue, in one file.

Lesson 08 shows the idea in a few lines. This module adds what a real run needs: a file
is replaced atomically, contains a SHA-256 of everything, and errors say what is wrong.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from gpt2_lesson import validation
from gpt2_lesson.files import CheckpointError, atomic_write
from gpt2_lesson.gpt2_model import GPT2Config, GPT2Model

__all__ = [
    "CheckpointError",
    "continue_run",
    "describe_file",
    "digest",
    "fingerprint",
    "load_checkpoint",
    "model_tensors",
    "parameter_shapes",
    "read_checkpoint",
    "resume_checkpoint",
    "save_checkpoint",
    "unwrapped",
]


# What parts of a file were called before; such files are still read.
_FORMER = {"random.draws": "random.generator", "rest": "adam_lr_scale"}
_ADAPTER = (".lora_a", ".lora_b")  # how an adapter's parameters are called


# ---------------------------------------------------------------- a model's parameters


def unwrapped(model: nn.Module) -> GPT2Model:
    """Return the model inside the wrappers of torch.compile and data parallelism."""
    while inner := getattr(model, "_orig_mod", None) or getattr(model, "module", None):
        model = inner
    validation.gpt2_model(model)
    return cast(GPT2Model, model)


def model_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return a GPT2Model's parameters under its own names, whatever wraps its modules.

    Those of an adapter (lesson 15) are with them. Raises CheckpointError, which names
    them, if it lacks some or has others.
    """
    model = unwrapped(model)
    tensors, wrappers = {}, ("_orig_mod", "module", "linear")
    for name, values in model.state_dict().items():
        parts = [part for part in name.split(".") if part not in wrappers]
        tensors[".".join(parts)] = values
    shapes = {name: tuple(values.shape) for name, values in tensors.items()}
    try:
        _check_tensors(shapes, model.config)
    except ValueError as error:
        raise CheckpointError(
            f"the model cannot be saved, because GPT2Model could not "
            f"load it again: {error}"
        ) from None
    return tensors


def _check_tensors(shapes: dict[str, tuple[int, ...]], config: GPT2Config) -> None:
    """Raise ValueError unless these are the parameters of a GPT2Model, by name.

    Those of an adapter may be with them. Takes no memory for them, however large the
    configuration says that they are.
    """
    shapes = {name: one for name, one in shapes.items() if not name.endswith(_ADAPTER)}
    layers = {name.split(".")[1] for name in shapes if name.startswith("blocks.")}
    if config.num_layers != len(layers):
        raise ValueError(f"num_layers is {config.num_layers}, it has {len(layers)}")
    validation.same_shapes(shapes, parameter_shapes(config))


def parameter_shapes(config: GPT2Config) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a GPT2Model's parameters by name, without making it."""
    return {
        name.replace("blocks.0.", f"blocks.{layer}."): shape
        for name, shape in _layer_shapes(config).items()
        for layer in range(config.num_layers if name.startswith("blocks.") else 1)
    }


@cache
def _layer_shapes(config: GPT2Config) -> dict[str, tuple[int, ...]]:
    """Return the names and shapes of the parameters, with those of the first layer."""
    with torch.device("meta"):  # shapes only, no memory
        model = GPT2Model(**asdict(replace(config, num_layers=1)))
    return {name: tuple(values.shape) for name, values in model.state_dict().items()}


# ---------------------------------------------------------------- writing


def save_checkpoint(
    path: str | Path,
    model: GPT2Model,
    optimizer: torch.optim.Optimizer | None = None,
    generator: torch.Generator | None = None,
    losses: Sequence[float] = (),
    metadata: dict | None = None,
) -> None:
    """Write the model, and all that a run needs to continue, to one safetensors file.

    With torch.distributed every rank must call this, and rank 0 writes what one process
    would have written.

    Parameters
    ----------
    path
        The file, which is replaced if it exists.
    model
        Its parameters are stored under GPT2Model's names, whatever wraps its modules.
    optimizer, generator
        Their states are stored; None leaves them out. A run that is to be resumed needs
        both. With the generator, PyTorch's own generators are stored, too.
    losses
        The losses so far, one for each step.
    metadata
        Anything JSON, stored in the header with the configuration and a SHA-256 of
        everything; None means {}.

    Raises
    ------
    CheckpointError
        For a model that could not be loaded again.
    OSError
        If the file cannot be written.
    """
    validation.saved(path, optimizer, generator, losses, metadata)
    tensors = {f"model.{name}": values for name, values in model_tensors(model).items()}
    tensors["losses"] = torch.tensor(losses, dtype=torch.float64)
    if optimizer is not None:
        for index, state in optimizer.state_dict()["state"].items():
            for key, value in state.items():
                if value is not None:
                    tensors[f"optimizer.{index}.{key}"] = torch.as_tensor(value)
    if generator is not None:
        tensors |= _random_states(model, generator)
    tensors = _gathered(tensors)
    if not tensors:  # another process writes the file
        return
    record: dict[str, object] = {"config": asdict(unwrapped(model).config)}
    record["metadata"] = metadata or {}
    record["sha256"] = digest(json.dumps(record), tensors)
    atomic_write(path, save(tensors, {"gpt2_lesson": json.dumps(record)}))


def _random_states(model: nn.Module, generator: torch.Generator) -> dict[str, Tensor]:
    """Return the states of all random generators that a training run uses."""
    states = {
        "random.generator": generator.get_state(),
        "random.cpu": torch.get_rng_state(),
    }
    device = next(model.parameters()).device
    if device.type != "cpu":
        module = torch.get_device_module(device)
        states[f"random.{device.type}"] = module.get_rng_state()
    return states


def _gathered(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the whole tensors on the CPU of rank 0, and {} on the other ranks."""
    together = dist.is_available() and dist.is_initialized()
    main, whole = not together or dist.get_rank() == 0, {}
    for name, values in tensors.items():
        if hasattr(values, "full_tensor"):  # FSDP2's: every rank has a part
            values = values.full_tensor()
        if main:
            whole[name] = values.detach().cpu().contiguous()
    return whole


def _sharded(values: Any, like: Tensor) -> Any:
    """Return whole `values` in parts, if `like` is and they have the same shape."""
    if not hasattr(like, "full_tensor") or getattr(values, "shape", ()) != like.shape:
        return values
    from torch.distributed.tensor import distribute_tensor

    place: Any = like
    return distribute_tensor(values, place.device_mesh, place.placements)


def digest(record: str, tensors: dict[str, Tensor]) -> str:
    """Return the SHA-256 of a record and each tensor's name, type, shape and bytes."""
    sha = hashlib.sha256(record.encode())
    for name, tensor in sorted(tensors.items()):
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        sha.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()


# ---------------------------------------------------------------- reading


def load_checkpoint(path: str | Path, mmap: bool = False) -> GPT2Model:
    """Return the model of a checkpoint, to generate with or to train further.

    With `mmap` its weights are the bytes of the file itself, see `read_checkpoint`.
    Raises FileNotFoundError, or CheckpointError, which says what is wrong.
    """
    return _build_model(*read_checkpoint(path, mmap))


def _build_model(record: dict, tensors: dict[str, Tensor]) -> GPT2Model:
    """Return the model of a checkpoint; its parameters are the tensors themselves."""
    if any(name.endswith(_ADAPTER) for name in tensors):
        raise CheckpointError(
            "this is the checkpoint of a LoRA run: continue it with `gpt2-lesson "
            "finetune --resume`, or use its adapter with `gpt2-lesson generate RUN "
            "--adapter FOLDER`"
        )
    with torch.device("meta"):
        model = GPT2Model(**record["config"])
    weights = {name: tensors[f"model.{name}"] for name in model.state_dict()}
    model.load_state_dict(weights, assign=True)
    return model


def read_checkpoint(
    path: str | Path, mmap: bool = False
) -> tuple[dict, dict[str, Tensor]]:
    """Return the record and the tensors of a file that `save_checkpoint` wrote.

    With `mmap` the tensors are the bytes of the file itself: nothing is copied, but the
    tensors change if the file does. Raises FileNotFoundError, or CheckpointError for a
    file that is damaged or was written by another program.
    """
    validation.path("path", path)
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no checkpoint {path}: is the name right?")
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            if "gpt2_lesson" not in header:
                raise CheckpointError(
                    f"{path} is a safetensors file, but not a checkpoint of this course"
                )
            shapes = {
                name: tuple(file.get_slice(name).get_shape()) for name in file.keys()
            }
            record = _read_record(header["gpt2_lesson"], shapes)
            tensors = {name: file.get_tensor(name) for name in shapes}
        validation.weights(tensors)
        if not mmap:
            tensors = {name: values.clone() for name, values in tensors.items()}
    except CheckpointError:
        raise
    except SafetensorError as error:
        raise CheckpointError(f"{path} {describe_file(path)} ({error})") from None
    except (TypeError, ValueError, OverflowError, RuntimeError, MemoryError) as error:
        raise CheckpointError(f"{path} cannot be used: {error}") from None
    stored = record.pop("sha256", header.get("sha256"))
    if stored != digest(json.dumps(record), tensors):
        raise CheckpointError(
            f"{path} is damaged: its content does not match its SHA-256"
        )
    return _with_present_names(record, tensors)


def _with_present_names(
    record: dict, tensors: dict[str, Tensor]
) -> tuple[dict, dict[str, Tensor]]:
    """Return both with today's names, even of a file with the former ones."""
    if "about" not in record:
        return record, tensors
    metadata = {_FORMER.get(name, name): v for name, v in record["about"].items()}
    tensors = {_FORMER.get(name, name): values for name, values in tensors.items()}
    return {"config": record["config"], "metadata": metadata}, tensors


def _read_record(text: str, shapes: dict[str, tuple[int, ...]]) -> dict:
    """Return the record in a checkpoint's header.

    Raises TypeError or ValueError, before any tensor is read, unless the configuration
    and the names and shapes of the tensors match.
    """
    record = validation.checkpoint_record(json.loads(text), shapes)
    _check_tensors(
        {
            name.removeprefix("model."): shape
            for name, shape in shapes.items()
            if name.startswith("model.")
        },
        GPT2Config(**record["config"]),
    )
    return record


def describe_file(path: str | Path) -> str:
    """Return what kind of unreadable file this seems to be, as text."""
    with open(path, "rb") as file:
        start = file.read(100)
    if not start:
        return "is empty: the copy was cut off, so copy it again"
    if start.startswith(b"version https://git-lfs"):
        return "is a git-lfs pointer, not the file itself: run `git lfs pull`"
    if start.lstrip().startswith(b"<"):
        return "is a web page: the download went wrong"
    if start.startswith((b"PK", b"\x80")):
        return "is a pickle (torch.save): not opened, because it could run code"
    return "is cut off, damaged, or not a safetensors file"


# ---------------------------------------------------------------- resuming


def continue_run(
    path: str | Path | None,
    model: GPT2Model,
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
    metadata: dict,
) -> list[float]:
    """Return the losses of the run at `path` after resuming it; [] if it is new.

    Parameters
    ----------
    path
        The run's checkpoint; None means that nothing is saved.
    model, optimizer, generator, metadata
        As in `resume_checkpoint`.

    Raises
    ------
    CheckpointError, OSError, TypeError
        What resuming raises, and already now what saving to `path` would raise later.
    """
    if path is None:
        return []
    validation.file_to_write("checkpoint", path)
    model_tensors(model)
    if not Path(path).exists():
        return []
    return resume_checkpoint(path, model, optimizer, generator, metadata)


def resume_checkpoint(
    path: str | Path,
    model: GPT2Model,
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
    metadata: dict | None = None,
) -> list[float]:
    """Restore model, optimizer and random generators; return the losses so far.

    On another kind of device the run continues, but with other dropout masks.

    Parameters
    ----------
    path
        A file that `save_checkpoint` wrote, with optimizer and generator.
    model, optimizer, generator
        Changed in place, as are PyTorch's own generators.
    metadata
        What the file's must be equal to (see `fingerprint`); None means {}.

    Raises
    ------
    CheckpointError
        If the configuration or `metadata` differs from the file's, or for a file that
        cannot be read.
    FileNotFoundError
        If there is no such file.
    """
    record, tensors = read_checkpoint(path)
    old = record["metadata"] | record["config"]
    new = json.loads(json.dumps(metadata or {})) | asdict(unwrapped(model).config)
    changes = [
        f"{name} was {old.get(name)!r} and is {new.get(name)!r}"
        for name in sorted(old | new)
        if old.get(name) != new.get(name)
    ]
    ours = model_tensors(model)
    shapes = {f"model.{name}": values.shape for name, values in ours.items()}
    stored = {n: v.shape for n, v in tensors.items() if n.startswith("model.")}
    if stored != shapes:
        changes.append("the adapter has other layers or another rank")
    if changes or "random.generator" not in tensors:
        why = "; ".join(changes) or "no states"
        raise CheckpointError(f"{path} belongs to another run: {why}")
    try:
        losses = tensors["losses"].tolist()
        states = validation.optimizer_states(tensors, optimizer)
        generator.set_state(tensors["random.generator"])
        torch.set_rng_state(tensors["random.cpu"])
        device = next(model.parameters()).device.type
        if device != "cpu" and f"random.{device}" in tensors:
            torch.get_device_module(device).set_rng_state(tensors[f"random.{device}"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path} cannot be resumed: {error}") from None
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    states = {
        index: {key: _sharded(value, parameters[index]) for key, value in state.items()}
        for index, state in states.items()
    }
    optimizer.load_state_dict({**optimizer.state_dict(), "state": states})
    for name, values in ours.items():
        values.copy_(_sharded(tensors[f"model.{name}"], values))
    return losses


def fingerprint(settings: Any, tokens: Tensor, starts: Tensor | None) -> dict[str, Any]:
    """Return what a run must have in common with a checkpoint that it resumes.

    These are its settings, a dataclass, and the SHA-256 of its text.
    """
    metadata = asdict(settings)
    del metadata["save_every"]  # only decides when it is saved
    for name, values in {"text": tokens, "starts": starts}.items():
        if sha256 := getattr(values, "sha256", None):  # shards, which stay on disk
            metadata[name] = sha256
        elif values is not None:
            data = values.cpu().contiguous().numpy().data
            metadata[name] = hashlib.sha256(data).hexdigest()
    return metadata
