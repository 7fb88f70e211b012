"""GPT-2's published files, config.json and model.safetensors.

Lesson 10 translates the names and tests the result. This module does the rest: it finds
the files, and checks that they match and that they describe a GPT-2.
"""

import json
import warnings
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from gpt2_lesson import validation
from gpt2_lesson.checkpoints import describe_file, digest, parameter_shapes
from gpt2_lesson.files import (
    CheckpointError,
    read_json,
    with_sorted_metadata,
    write_together,
)
from gpt2_lesson.gpt2_model import GPT2Config

__all__ = [
    "check_tensors",
    "kept_tokens",
    "plain_name",
    "read_config",
    "read_tensors",
    "weight_files",
    "write_model",
]

ACCEPTED = {  # values that config.json may have; the first is GPT-2's
    "activation_function": (
        "gelu_new",
        "gelu_pytorch_tanh",
        "gelu_fast",
        "gelu_accurate",
        "gelu_python_tanh",
    ),
    "layer_norm_epsilon": (1e-5,),
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "tie_word_embeddings": (True,),
}
MOST_LAYERS = 1000


# ---------------------------------------------------------------- tensors


def plain_name(name: str) -> str:
    """Return a tensor's name without the prefixes that some programs add.

    Endings as in OpenAI's own file (`.w`, `.g`, `.b`) become `.weight` and `.bias`.
    """
    prefixes = ("module.", "_orig_mod.", "model.", "transformer.")
    while name.startswith(prefixes):
        name = name.split(".", 1)[1]
    *parts, end = name.split(".")
    return ".".join([*parts, {"w": "weight", "g": "weight", "b": "bias"}.get(end, end)])


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files of a model: one, or the shards that an index names.

    Raises FileNotFoundError, which says what to get, or CheckpointError.
    """
    index = folder / "model.safetensors.index.json"
    names = ["model.safetensors"]
    if index.is_file():
        shards = read_json(index).get("weight_map")
        values = shards.values() if isinstance(shards, dict) else ()
        if not values or not all(isinstance(name, str) for name in values):
            raise CheckpointError(f"{index} is damaged: it has no weight_map of names")
        names = sorted({Path(name).name for name in values})
    missing = [name for name in names if not (folder / name).is_file()]
    if missing and any(folder.glob("*.bin")):
        raise FileNotFoundError(
            f"{folder} has only a pickle (.bin), which is not opened because it could "
            "run code: get model.safetensors"
        )
    if missing:
        raise FileNotFoundError(
            f"{folder} lacks {', '.join(missing)}: a model is config.json and "
            "model.safetensors"
        )
    return [folder / name for name in names]


def read_tensors(folder: str | Path, check: bool = True) -> dict[str, Tensor]:
    """Return all tensors of a folder's safetensors files, by their plain names.

    Stored masks are left out. With `check`, a SHA-256 in the header must match.
    Raises FileNotFoundError, or CheckpointError for files that are damaged or name a
    tensor twice.
    """
    tensors: dict[str, Tensor] = {}
    names: dict[str, str] = {}
    for path in weight_files(Path(folder)):
        try:
            with safe_open(path, framework="pt") as file:
                header = file.metadata() or {}
                stored = {name: file.get_tensor(name) for name in file.keys()}
        except SafetensorError as error:
            raise CheckpointError(f"{path} {describe_file(path)} ({error})") from None
        if check and "sha256" in header:
            if header["sha256"] != digest(header.get("config.json", ""), stored):
                raise CheckpointError(
                    f"{path} is damaged: its content does not match its SHA-256"
                )
        for name, values in stored.items():
            plain = plain_name(name)
            if plain in tensors:
                raise CheckpointError(
                    f"{path}: {plain} is stored twice, as {names[plain]} and as {name}"
                )
            if not plain.endswith((".attn.bias", ".attn.masked_bias")):
                tensors[plain], names[plain] = values, name
    return tensors


def check_tensors(
    tensors: dict[str, Tensor],
    expected: dict[str, tuple[int, ...]],
    source: str | Path,
) -> None:
    """Check a model's tensors, under GPT-2's names: none is missing, none is extra.

    An output head (`lm_head.weight`) may be stored if it equals the embedding matrix.
    Raises CheckpointError, naming `source` and the tensor.
    """
    blocks, wanted = (
        len({name.split(".")[1] for name in names if name.startswith("h.")})
        for names in (tensors, expected)
    )
    if blocks != wanted:
        raise CheckpointError(
            f"{source}: config.json says {wanted} blocks, but the weights have {blocks}"
        )
    for name, shape in expected.items():
        if name not in tensors:
            raise CheckpointError(f"{source} lacks {name}")
        values = tensors[name]
        if values.shape != shape or not values.is_floating_point():
            raise CheckpointError(
                f"{source}: {name} is {values.dtype} {tuple(values.shape)}, expected "
                f"{shape}"
            )
    if others := sorted(tensors.keys() - expected.keys() - {"lm_head.weight"}):
        raise CheckpointError(
            f"{source} has tensors that GPT-2 does not have: {', '.join(others[:3])}"
        )
    embeddings = tensors["wte.weight"]
    if not torch.equal(tensors.get("lm_head.weight", embeddings), embeddings):
        raise CheckpointError(
            f"{source}: lm_head.weight is not the embedding matrix, but our model uses "
            "one matrix for both"
        )


# ---------------------------------------------------------------- the configuration


def read_config(folder: str | Path) -> GPT2Config:
    """Return the sizes in a folder's config.json, or in the weights' header.

    Raises FileNotFoundError, or CheckpointError for a model that is not a GPT-2.
    """
    path, saved = Path(folder) / "config.json", _saved_config(folder)
    found = read_json(path) if path.is_file() else saved
    if found is None:
        raise FileNotFoundError(
            f"{folder} lacks config.json: a model is config.json and model.safetensors"
        )
    if saved and saved["weights_sha256"] != found.get("weights_sha256"):
        warnings.warn(
            f"{path} does not belong to model.safetensors (was saving interrupted?): "
            "the sizes in the header of the weights are used",
            stacklevel=3,
        )
        found = saved
    for name, values in ACCEPTED.items():
        if found.get(name, values[0]) not in values:
            raise CheckpointError(
                f"{path}: {name} is {found[name]!r}, but GPT-2 has {values[0]!r}: "
                "this is another model"
            )
    return _sizes(found, path)


def _sizes(found: dict, path: Path) -> GPT2Config:
    """Return the sizes in a config.json; check that a model can have them."""
    dropout = found.get("resid_pdrop", 0.1)
    for name in ("embd_pdrop", "attn_pdrop"):
        if found.get(name, dropout) != dropout:
            warnings.warn(
                f"{path}: {name} is {found[name]!r}. Our model has one dropout rate, "
                f"resid_pdrop: {dropout!r}",
                stacklevel=4,
            )
    names = ("vocab_size", "n_embd", "n_head", "n_layer", "n_positions")
    try:
        vocab_size, width, heads, layers, length = (found[name] for name in names)
        d_ff = found.get("n_inner")
        d_ff = 4 * width if d_ff is None else d_ff
        config = GPT2Config(vocab_size, width, heads, layers, length, d_ff, dropout)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} does not describe a GPT-2: {error}") from None
    if config.num_layers > MOST_LAYERS:
        raise CheckpointError(
            f"{path}: n_layer is {config.num_layers}, expected at most {MOST_LAYERS} "
            "(the largest GPT-2 has 48)"
        )
    try:
        parameter_shapes(config)
    except (RuntimeError, TypeError, OverflowError) as error:
        raise CheckpointError(
            f"{path} describes {config}, which does not fit into memory ({error})"
        ) from None
    return config


def _saved_config(folder: str | Path) -> dict | None:
    """Return the configuration in the header of weights that `write_model` wrote."""
    path = Path(folder) / "model.safetensors"
    if path.with_name(path.name + ".index.json").exists() or not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
        return json.loads(header["config.json"]) | {"weights_sha256": header["sha256"]}
    except (SafetensorError, KeyError):
        return None  # `read_tensors` says what is wrong
    except (ValueError, TypeError, RecursionError):
        raise CheckpointError(
            f"{path} is damaged: the configuration in its header cannot be read"
        ) from None


def kept_tokens(vocab_size: int, config: GPT2Config, source: str | Path) -> int:
    """Return how many tokens of a padded vocabulary are kept."""
    kept = validation.whole_number("vocab_size", vocab_size, 1)
    if kept > config.vocab_size:
        raise CheckpointError(
            f"{source} has a model with {config.vocab_size} tokens, expected {kept} or "
            "more: does the tokenizer belong to this model?"
        )
    return kept


# ---------------------------------------------------------------- writing


def write_model(
    folder: str | Path, tensors: dict[str, Tensor], config: GPT2Config
) -> None:
    """Write config.json and model.safetensors, as `transformers` reads them.

    If it is killed, the old model or the new one is there. Raises OSError.
    """
    folder, last = Path(folder), config.vocab_size - 1  # GPT-2's own: <|endoftext|>
    metadata = {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": config.vocab_size,
        "n_positions": config.max_seq_length,
        "n_embd": config.d_model,
        "n_layer": config.num_layers,
        "n_head": config.num_heads,
        "n_inner": config.d_ff,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5,
        "resid_pdrop": config.dropout,
        "embd_pdrop": config.dropout,
        "attn_pdrop": config.dropout,
        "bos_token_id": last,
        "eos_token_id": last,
        "tie_word_embeddings": True,
    }
    text = json.dumps(metadata)
    header = {"format": "pt", "config.json": text, "sha256": digest(text, tensors)}
    metadata["weights_sha256"] = header["sha256"]
    folder.mkdir(parents=True, exist_ok=True)
    write_together(
        {
            folder / "model.safetensors": with_sorted_metadata(save(tensors, header)),
            folder / "config.json": json.dumps(metadata, indent=2) + "\n",
        },
        remove=[folder / "model.safetensors.index.json"],
    )
