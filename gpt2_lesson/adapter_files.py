"""The two files of a LoRA adapter: adapter_config.json, adapter_model.safetensors.

The library `peft` writes and reads them. Lesson 15 shows what an adapter is; this
module knows peft's names and settings, and refuses what is more than LoRA.
"""

import json
import re
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from gpt2_lesson import validation
from gpt2_lesson.checkpoints import describe_file
from gpt2_lesson.files import (
    CheckpointError,
    read_json,
    with_sorted_metadata,
    write_together,
)

__all__ = ["read_adapter", "write_adapter"]

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model.transformer."
# "h.0.attn.c_attn", "A" of "base_model.model.transformer.h.0.attn.c_attn.lora_A.weight"
NAME = re.compile(r"(?:\w+\.)*?(h\.\d+\.\w+\.\w+)\.lora_([AB])\.weight")
PLAIN = {  # what each setting of peft may be; anything else is more than LoRA
    "peft_type": ("LORA",),
    "bias": ("none",),
    "use_dora": (False,),
    "use_rslora": (False,),
    "lora_bias": (False,),
    "rank_pattern": ({}, None),
    "alpha_pattern": ({}, None),
    "layer_replication": ([], None),
    "modules_to_save": ([], None),
    "trainable_token_indices": ([], {}, None),
    "target_parameters": ([], None),
}


def write_adapter(
    folder: str | Path,
    layers: dict[str, tuple[Tensor, Tensor]],
    rank: int,
    alpha: float,
    base: str | None,
) -> None:
    """Write A (rank, in) and B (out, rank) for each weight, by GPT-2's name of it.

    Parameters
    ----------
    folder
        Where the two files are written; it is created if it does not exist.
    layers
        Maps a weight's name, such as "h.0.attn.c_attn.weight", to (A, B).
    rank, alpha
        B A is multiplied by alpha / rank.
    base
        The name of the base model; None if it has no name.

    Raises
    ------
    OSError
        If a file cannot be written.
    """
    validation.path("folder", folder)
    if base is not None:
        validation.text("base", base)
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": True,  # GPT-2's files store these matrices transposed
        "target_modules": sorted(name.removesuffix(".weight") for name in layers),
        "inference_mode": True,
    }
    tensors = {
        PREFIX + name.replace(".weight", f".lora_{letter}.weight"): values.cpu()
        for name, pair in layers.items()
        for letter, values in zip("AB", pair, strict=True)
    }
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_together(
        {
            folder / WEIGHTS: with_sorted_metadata(save(tensors, {"format": "pt"})),
            folder / CONFIG: json.dumps(config, indent=2) + "\n",
        }
    )


def read_adapter(
    folder: str | Path, shapes: dict[str, tuple[int, ...]]
) -> tuple[dict[str, tuple[Tensor, Tensor]], float]:
    """Return A and B for each weight that the adapter changes, and alpha.

    `shapes` (out, in) are those of all linear layers' weights, by GPT-2's names. Raises
    FileNotFoundError, or CheckpointError, which names the file and what is wrong.
    """
    validation.path("folder", folder)
    config, weights = Path(folder) / CONFIG, Path(folder) / WEIGHTS
    for path in (config, weights):
        if not path.is_file():
            raise FileNotFoundError(
                f"{folder} has no {path.name}: an adapter is the folder of {CONFIG} "
                f"and {WEIGHTS}"
            )
    rank, alpha = _read_config(config)
    try:
        with safe_open(weights, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except SafetensorError as error:
        raise CheckpointError(f"{weights} {describe_file(weights)} ({error})") from None
    layers: dict[str, dict[str, Tensor]] = {}
    for name, values in tensors.items():
        found = NAME.fullmatch(name)
        weight = f"{found[1]}.weight" if found else ""
        if not found or weight not in shapes:
            raise CheckpointError(
                f"{weights} has {name}, which is no part of a LoRA adapter of this "
                "model's linear layers"
            )
        out, size = shapes[weight]
        shape = (rank, size) if found[2] == "A" else (out, rank)
        if values.shape != shape or not values.is_floating_point():
            raise CheckpointError(
                f"{weights}: {name} is {values.dtype} {tuple(values.shape)}, expected "
                f"{shape}: does the adapter belong to this model?"
            )
        if not values.isfinite().all():
            raise CheckpointError(f"{weights}: {name} is not finite: it is damaged")
        layers.setdefault(weight, {})[found[2]] = values
    for name in [name for name, pair in layers.items() if len(pair) < 2]:
        raise CheckpointError(f"{weights} has only one of the two matrices of {name}")
    if not layers:
        raise CheckpointError(f"{weights} holds no tensors")
    return {name: (pair["A"], pair["B"]) for name, pair in layers.items()}, alpha


def _read_config(path: Path) -> tuple[int, float]:
    """Return the rank and alpha in peft's settings; refuse what is more than LoRA."""
    found = read_json(path)
    for name, values in PLAIN.items():
        if found.get(name, values[0]) not in values:
            raise CheckpointError(
                f"{path}: {name} is {found[name]!r}, expected {values[0]!r}: this "
                "adapter is more than plain LoRA"
            )
    try:
        rank = validation.whole_number("r", found.get("r"), 1)
        alpha = validation.number("lora_alpha", found.get("lora_alpha"), above=0)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from None
    return rank, alpha
