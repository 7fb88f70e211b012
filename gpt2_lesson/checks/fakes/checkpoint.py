"""A small file of GPT-2's kind, whose every number tells where it stood.

The file's numbers count up, n, n + 1, ..., through all tensors. What a loader put into
a model can therefore be read back: which tensor, transposed or not, which rows.
"""

import math
from bisect import bisect
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from functools import lru_cache
from typing import Any

import torch
import torch.nn as nn
from torch import Tensor

from gpt2_lesson.gpt2_model import GPT2Config, GPT2Model

Loader = Callable[[nn.Module, dict[str, Tensor]], object]
Case = dict[str, Any]
LAYERS, _ANOTHER = 11, "in another arrangement"


def tensors_of(case: Case) -> dict[str, Tensor]:
    """Return the file of a case: `shapes` by name (`h.{}` for each layer), ramps.

    `first` is the number that the first begins with.
    `order` is "file" (sorted as strings, as safetensors gives them) or "layers". Stored
    masks of ones and zeros are among them. `changes` says how many rows a tensor has
    (additional rows have other numbers), None to leave it out.
    """
    names: dict[str, tuple[int, ...]] = {}
    for pattern, shape in case["shapes"].items():
        layers = range(LAYERS) if "{}" in pattern else [0]
        names |= {pattern.format(layer): shape for layer in layers}
    tensors, start = {}, case["first"]
    for name in sorted(names, key=_by_layer):
        size = math.prod(names[name])
        ramp = torch.arange(start, start + size, dtype=torch.float32)
        tensors[name], start = ramp.view(names[name]), start + size
    for layer in range(LAYERS):
        tensors[f"h.{layer}.attn.bias"] = torch.ones(1, 1, 5, 5).tril()
    for name, rows in case["changes"].items():
        values = tensors.pop(name, tensors["wte.weight"] + 1e6)
        if rows is not None:
            tensors[name] = torch.cat([values, values[:2] + 1e6])[:rows]
    return dict(sorted(tensors.items())) if case["order"] == "file" else tensors


def _by_layer(name: str) -> tuple:
    parts = name.split(".")
    return (int(parts[1]) if parts[0] == "h" else -1 if parts[0] != "ln_f" else 99,)


def empty_model(config: dict[str, Any], square: bool) -> nn.Module:
    """Return lesson 07's model with 11 layers, -1 everywhere.

    `square`: every matrix gets the shape C x C and every vector C, so that nothing that
    is transposed the wrong way can crash. Such a model is for loading only.
    """
    key = tuple(config.items())
    model, places = _shapes_only(key)
    for part, name, shape in places:
        shape = (config["d_model"],) * len(shape) if square else shape
        part._parameters[name] = nn.Parameter(torch.full(shape, -1.0))
    here = [part._parameters[name] for part, name, _ in places]
    if list(map(id, model.parameters())) != list(map(id, here)):  # parts were moved
        _shapes_only.cache_clear()
        return empty_model(config, square)
    return model.eval()


@lru_cache(maxsize=16)
def _shapes_only(config: tuple) -> tuple[nn.Module, list[tuple]]:
    """Return a model, and where its parameters are: (part, name, shape) each."""
    model = GPT2Model(**asdict(GPT2Config(**dict(config))))
    return model, [
        (part, name, p.shape)
        for part in model.modules()
        for name, p in part.named_parameters(recurse=False)
    ]


def loaded(function: Loader, case: Case) -> dict[str, str | int]:
    """Return what stands in each kind of parameter after the loader has run."""
    model = empty_model(case["config"], case["square"])
    tensors, unchanged = tensors_of(case), tensors_of(case)
    function(model, tensors)
    found: dict[str, dict] = {}
    starts = sorted(
        (values.flatten()[0].item(), name)
        for name, values in unchanged.items()
        if not name.endswith(".attn.bias")
    )
    for name, p in model.named_parameters():
        layer, kind = _kind(name)
        found.setdefault(kind, {})[layer] = _source(p.detach(), unchanged, starts)
    facts = {kind: _told(layers) for kind, layers in found.items()}
    kept = all(
        name in tensors and torch.equal(values, tensors[name])
        for name, values in unchanged.items()
    )
    least = int(min(p.min() for p in model.parameters()))
    return facts | {
        "the file's tensors": "unchanged" if kept else "changed",
        "the model's smallest number": least,
    }


def loaded_or_stopped(function: Loader, case: Case) -> dict[str, str | int]:
    """Return what was loaded, or that the loader stopped with an error."""
    try:
        return loaded(function, case)
    except NotImplementedError:
        raise
    except Exception:
        return {"stopped": "by an error"}


def refused(function: Loader, case: Case) -> dict[str, str]:
    """Return whether the loader raises an error for a file that does not fit."""
    facts = loaded_or_stopped(function, case)
    if "stopped" in facts:
        return {"this file is": "refused"}
    return {"this file is": f"accepted, tok_emb.weight: {facts['tok_emb.weight']}"}


def _kind(name: str) -> tuple[int, str]:
    """Return the layer and the name without it: (3, "blocks.{}.ln_attn.bias")."""
    parts = name.split(".")
    if parts[0] != "blocks":
        return 0, name
    return int(parts[1]), ".".join([parts[0], "{}", *parts[2:]])


def _source(
    values: Tensor, tensors: dict[str, Tensor], starts: list[tuple]
) -> tuple[int, str, str]:
    """Return (layer, name, arrangement) of the tensor that the numbers came from."""
    middle = values.flatten()[values.numel() // 2].item()
    if middle < 1:
        numbers = values[values >= 1]
        if not len(numbers):
            fresh = bool((values == -1).all())
            return 0, "nothing was loaded" if fresh else "other numbers", ""
        middle = numbers.median().item()
    start, name = starts[bisect(starts, (middle, "~")) - 1]
    source = tensors[name]
    if not start <= middle < start + source.numel() or (
        values.numel() > 1 and values.flatten()[0] == middle
    ):
        return 0, "other numbers", ""
    parts = name.split(".")
    layer = int(parts[1]) if parts[0] == "h" else 0
    plain = ".".join(["h", "{}", *parts[2:]]) if parts[0] == "h" else name
    how = _arrangement(values, source)
    if how == _ANOTHER and not torch.isin(values, source).all():
        return 0, "other numbers", ""
    return layer, plain, how


def _arrangement(values: Tensor, source: Tensor) -> str:
    """Return how a tensor lies in the model: as in the file, transposed, ..."""
    views = {"": source, "transposed": source.mT if source.dim() == 2 else source}
    for how, view in views.items():
        if view.shape == values.shape and torch.equal(view, values):
            return how
    if source.numel() == values.numel() and torch.equal(
        source.flatten(), values.flatten()
    ):
        return "reshaped (reshape or view), not transposed"
    for how, view in views.items():
        rows = _rows(values, view)
        if rows:
            return ", ".join(filter(None, (how, rows)))
    return _ANOTHER


def _rows(values: Tensor, view: Tensor) -> str:
    """Return which rows of `view` the rows of `values` are, if they are rows of it."""
    if values.shape[1:] != view.shape[1:]:
        return ""
    places = []
    for row in values:
        if bool((row == -1).all()):
            places.append("-")
            continue
        same = (view == row).flatten(1).all(1) if view.dim() > 1 else view == row
        if not same.any():
            return ""
        places.append(str(int(same.nonzero()[0])))
    shown = " ".join(places[:24]) + (" ..." if len(places) > 24 else "")
    return f"its rows in the order {shown}"


def _told(layers: dict[int, tuple[int, str, str]]) -> str:
    """Return one text for a kind of parameter: what most layers hold, then the rest."""
    names = Counter((name, how) for _, name, how in layers.values())
    usual, how = names.most_common(1)[0][0]
    text = f"{usual}, {how}" if how else usual
    came = {layer: one for layer, one in layers.items() if one[1:] == (usual, how)}
    if "{}" in usual and any(layer != one[0] for layer, one in came.items()):
        text += f", layers {' '.join(str(one[0]) for one in came.values())}"
    rest = [
        f"{layer}: {name.format(one)}{', ' * bool(how)}{how}"
        for layer, (one, name, how) in layers.items()
        if layer not in came
    ]
    return "; but ".join(filter(None, (text, ", ".join(rest))))
