"""Checks of arguments; their messages say what came, what was expected, what to do.

Lessons and tools share this module; it imports neither. Each function raises TypeError
or ValueError (IndexError for a token id, FloatingPointError for NaN), or returns the
value in its plain type: `whole_number` takes 3, np.int64(3) and torch.tensor(3), and
returns 3.
"""

import contextlib
import json
import math
import numbers
import operator
import os
import re
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

_short = reprlib.Repr()
_short.maxstring = _short.maxother = _short.maxlong = 60


# ---------------------------------------------------------------- numbers and words


def whole_number(
    name: str, value: Any, least: int | None = None, most: int | None = None
) -> int:
    """Return a whole number within limits: Python's, NumPy's, or a 0-d tensor's."""
    plain = _plain(value)
    if not isinstance(plain, int | torch.SymInt):
        with contextlib.suppress(TypeError):
            plain = operator.index(plain)
    if isinstance(plain, bool) or not isinstance(plain, int | torch.SymInt):
        raise TypeError(f"{name} is {shown(value)}, expected a whole number")
    if (least is not None and plain < least) or (most is not None and plain > most):
        raise ValueError(f"{name} is {plain}, expected {_limits(least, most)}")
    if plain >= 2**64:
        raise ValueError(f"{name} is {plain}, expected a number of at most 64 bits")
    return cast(int, plain)  # torch.compile's SymInt stands for one


def number(
    name: str,
    value: Any,
    least: float | None = None,
    *,
    above: float | None = None,
    below: float = math.inf,
    most: float = math.inf,
) -> float:
    """Return a finite number: `least` or more, more than `above`, less than `below`."""
    plain = given = _plain(value)
    if isinstance(plain, bool) or not isinstance(plain, float | numbers.Real):
        raise TypeError(f"{name} is {shown(value)}, expected a number")
    if not isinstance(plain, float):
        with contextlib.suppress(OverflowError):  # larger than any float
            plain = float(plain)
    too_small = (least is not None and plain < least) or (
        above is not None and plain <= above
    )
    if too_small or not (plain < below and plain <= most) or plain == -math.inf:
        wanted = "a finite number" if least is None else f"{least} or more"
        wanted = wanted if above is None else f"more than {above}"
        wanted += "" if below == math.inf else f", below {below}"
        wanted += "" if most == math.inf else f", at most {most}"
        raise ValueError(f"{name} is {shown(given)}, expected {wanted}")
    return plain


def choice(name: str, value: Any, allowed: tuple[str, ...]) -> str:
    """Return one of the `allowed` words."""
    if not isinstance(value, str) or value not in allowed:
        words = " or ".join(", ".join(map(repr, allowed)).rsplit(", ", 1))
        raise ValueError(f"{name} is {shown(value)}, expected {words}")
    return value


def text(name: str, value: Any) -> str:
    """Return a string."""
    if not isinstance(value, str):
        hint = ": use .decode('utf-8')" if isinstance(value, bytes) else ""
        raise TypeError(f"{name} is {shown(value)}, expected a string{hint}")
    return value


def seed(name: str, value: Any) -> int:
    """Return a seed that PyTorch's generators take."""
    return whole_number(name, value, 0, 2**64 - 1)


def probability(name: str, value: Any) -> float:
    """Return a dropout probability: from 0 up to, but not including, 1."""
    return number(name, value, 0, below=1)


def shown(value: object) -> str:
    """Return a value for a message: a tensor by shape and type, else its short repr."""
    if isinstance(value, Tensor):
        return f"a tensor {tuple(value.shape)} of {value.dtype}"
    return _short.repr(value)


def _plain(value: Any) -> Any:
    """Return NumPy's numbers and 0-d arrays and tensors as Python's own numbers."""
    single = getattr(value, "ndim", None) == 0 and not getattr(value, "is_meta", False)
    return value.item() if single else value


def _limits(least: int | None, most: int | None) -> str:
    """Return the limits of a whole number as text."""
    if most is None:
        return f"{least} or more"
    return f"at most {most}" if least is None else f"{least} to {most}"


# ---------------------------------------------------------------- tensors

_KINDS = {
    "any": (lambda dtype: True, ""),
    "floats": (
        lambda dtype: dtype.is_floating_point,
        "floating-point numbers: use .float()",
    ),
    "ids": (
        lambda dtype: dtype in (torch.int64, torch.int32),
        "whole numbers: use .long()",
    ),
    "booleans": (
        lambda dtype: dtype == torch.bool,
        "torch.bool: True = may attend",
    ),
    "marks": (
        lambda dtype: dtype == torch.bool,
        "torch.bool: True = the model chose this token",
    ),
}


def tensor(
    name: str, value: object, axes: str, kind: str = "any", **sizes: int
) -> None:
    """Check a tensor: "B T C" has three axes, "... C" one or more, and none is empty.

    `kind` is "floats", "ids", "booleans" or "any". `sizes` fixes an axis, as in C=8.
    """
    accepts, expected = _KINDS[kind]
    if not isinstance(value, Tensor):
        raise TypeError(
            f"{name} is of type {type(value).__name__}, expected a tensor "
            f"{_shape_in_words(axes, sizes)}"
        )
    if not accepts(value.dtype):
        raise TypeError(f"{name} is {value.dtype}, expected {expected}")
    shape, letters = value.shape, axes.split()
    fits = len(shape) == len(letters) or (
        "..." in letters and len(shape) >= len(letters) - 1
    )
    for axis, size in sizes.items() if fits else ():
        place = letters.index(axis) - (len(letters) if letters[0] == "..." else 0)
        fits = fits and shape[place] == size
    if not fits or 0 in shape:
        raise ValueError(
            f"{name} has the shape {tuple(shape)}, expected "
            f"{_shape_in_words(axes, sizes)} with no empty axis"
        )


def _shape_in_words(axes: str, sizes: dict[str, int]) -> str:
    comma = "" if " " in axes else ","
    fixed = " and ".join(f"{axis} = {size}" for axis, size in sizes.items())
    return f"({axes.replace(' ', ', ')}{comma})" + (f" with {fixed}" if fixed else "")


def _readable(values: Tensor) -> bool:
    """Return whether the values can be read: not while a graph is recorded."""
    recording = torch.compiler.is_compiling() or torch.jit.is_tracing()
    return not (values.is_meta or recording)


def float_dtype(dtype: torch.dtype | None) -> None:
    """Check the type of stored activations: None (the default) or a floating one."""
    if dtype is not None and not getattr(dtype, "is_floating_point", False):
        raise TypeError(
            f"dtype is {shown(dtype)}, expected a floating-point one such as "
            "torch.float32, or None"
        )


# ---------------------------------------------------------------- attention, 01 to 05


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> None:
    """Check queries, keys, values, and a mask in which every query sees a key."""
    tensor("q", q, "... Tq D", "floats")
    tensor("k", k, "... Tk D", "floats")
    tensor("v", v, "... Tk Dv", "floats")
    if q.size(-1) != k.size(-1) or k.size(-2) != v.size(-2):
        raise ValueError(
            f"q {tuple(q.shape)}, k {tuple(k.shape)}, v {tuple(v.shape)} do not fit: q "
            "and k need the same last size (D), k and v the same number of tokens (Tk)"
        )
    if mask is None:
        return
    tensor("mask", mask, "... Tq Tk", "booleans", Tq=q.size(-2), Tk=k.size(-2))
    if _readable(mask) and not mask.any(-1).all():
        query = (~mask.any(-1)).nonzero()[0, -1].item()
        raise ValueError(
            f"the mask hides every key from query {query}, so its weights would be "
            "0/0: let each query attend to at least one key"
        )


def mask_sizes(num_queries: Any, num_keys: Any) -> tuple[int, int]:
    """Return the sizes of a causal mask: 1 <= num_queries <= num_keys."""
    queries = whole_number("num_queries", num_queries, 1)
    keys = whole_number("num_keys", num_keys, 1)
    if queries > keys:
        raise ValueError(
            f"{queries} queries for {keys} keys: expected 1 <= num_queries <= "
            "num_keys, since each query is itself one of the tokens attended to"
        )
    return queries, keys


def influence(function: object, x: Tensor) -> None:
    """Check a function of x (B, T, ...), two sequences or more, not all the same."""
    if not callable(function):
        raise TypeError(f"function is {shown(function)}, expected a function of x")
    tensor("x", x, "B T ...")
    if x.size(0) < 2 or _readable(x) and (x == x[:1]).all():
        raise ValueError(
            f"x has the shape {tuple(x.shape)}, expected two different sequences or "
            "more: each token is replaced by that of the neighbour"
        )


def heads(d_model: Any, num_heads: Any) -> tuple[int, int]:
    """Return the number of channels and of heads; a head gets C / H channels."""
    d_model = whole_number("d_model", d_model, 1)
    num_heads = whole_number("num_heads", num_heads, 1)
    if d_model % num_heads:
        raise ValueError(
            f"d_model {d_model} is not a multiple of num_heads {num_heads}: each head "
            "gets an equal part of the channels"
        )
    return d_model, num_heads


def sizes(**named: Any) -> list[int]:
    """Return the sizes of a tensor's axes, each 1 or more."""
    return [whole_number(name, value, 1) for name, value in named.items()]


def cache(value: Any) -> Any:
    """Return a KVCache, or an object with the same parts."""
    if not (hasattr(value, "length") and hasattr(value, "append")):
        raise TypeError(f"cache is of type {type(value).__name__}, expected a KVCache")
    return value


def cache_step(storage: Tensor, length: int, layer: Any, k: Tensor, v: Tensor) -> None:
    """Check new keys and values for the storage (L, B, H, max_length, D) of a cache."""
    num_layers, batch_size, num_heads, max_length, head_dim = storage.shape
    whole_number("layer", layer, 0, num_layers - 1)
    tensor("k", k, "B H T D", "floats", H=num_heads, D=head_dim)
    tensor("v", v, "B H T D", "floats")
    if k.shape != v.shape:
        raise ValueError(
            f"k {tuple(k.shape)} and v {tuple(v.shape)} differ: expected the same shape"
        )
    if k.size(0) != batch_size:
        raise ValueError(
            f"k holds {k.size(0)} sequences, but the cache was made for {batch_size}: "
            "make one for this batch size"
        )
    if length + k.size(2) > max_length:
        raise ValueError(
            f"the cache holds {length} of at most {max_length} tokens, so {k.size(2)} "
            "more do not fit: make a longer one, or start a new one"
        )


# ---------------------------------------------------------------- sampling, 06


def sampling(
    temperature: Any, top_k: Any, top_p: Any
) -> tuple[float, int | None, float | None]:
    """Return the settings of sampling; top_k and top_p may be None, for no limit."""
    temperature = number("temperature", temperature, 0)
    if 0 < temperature < 1e-5:
        raise ValueError(
            f"temperature is {temperature}, expected 0 (always the most probable "
            "token) or 0.00001 or more"
        )
    if top_k is not None:
        top_k = whole_number("top_k", top_k, 1)
    if top_p is not None:
        top_p = number("top_p", top_p, above=0, most=1)
    return temperature, top_k, top_p


def probabilities(values: Tensor) -> None:
    """Check distributions (..., V): no negative numbers, and each row sums to 1."""
    tensor("probabilities", values, "... V", "floats")
    off = (values.sum(-1) - 1).abs()
    if _readable(values) and not ((values >= 0).all() and (off < 0.02).all()):
        raise ValueError(
            "probabilities holds a row that is not a distribution: expected numbers "
            "from 0 that sum to 1, such as logits.softmax(-1)"
        )


def logits(values: Tensor, model: object = None) -> None:
    """Check logits (..., V): the largest of each row is finite.

    With the `model` that computed them, the message names its first bad parameter.
    """
    tensor("logits", values, "... V", "floats")
    low, high = values.amax(-1).aminmax()  # NaN, if there is one
    if not (math.isfinite(low.item()) and math.isfinite(high.item())):
        raise FloatingPointError(
            "the logits are not finite: they hold NaN or infinity"
            + first_bad_parameter(model)
        )


def model_output(model: object, output: Tensor) -> None:
    """Check a model's logits (B, T, V); those of the last position must be finite."""
    tensor("the model's output", output, "B T V", "floats")
    logits(output[:, -1], model)


def not_nan(nats: Tensor, model: object) -> None:
    """Check losses that were computed from a model's logits."""
    if _readable(nats) and nats.isnan().any():
        raise FloatingPointError(
            "the model's logits are NaN" + first_bad_parameter(model)
        )


def first_bad_parameter(model: object) -> str:
    """Return, for the end of a message, the first parameter with NaN or infinity."""
    if not isinstance(model, torch.nn.Module):
        return ""
    named = model.named_parameters()
    bad = next((name for name, p in named if not p.isfinite().all()), "none")
    return f"; first bad parameter: {bad}"


def model(value: object) -> None:
    """Check that a model can be called with token ids."""
    if not callable(value):
        raise TypeError(
            f"model is {shown(value)}, expected a model, or a function of token ids "
            "(B, T) that returns logits (B, T, V)"
        )


def callback(name: str, value: object) -> None:
    """Check for a function, or None."""
    if value is not None and not callable(value):
        raise TypeError(f"{name} is {shown(value)}, expected a function or None")


def module(value: object) -> None:
    """Check for a PyTorch module, whose parts and parameters have names."""
    if not isinstance(value, torch.nn.Module):
        raise TypeError(f"model is {shown(value)}, expected a torch.nn.Module")


def input_ids(ids: object) -> None:
    """Check token ids (B, T): a tensor of whole numbers, with a row and a token."""
    if not isinstance(ids, Tensor):
        raise TypeError(
            f"input_ids is of type {type(ids).__name__}, expected a tensor of token "
            "ids (B, T): encode a text first, then torch.tensor([ids])"
        )
    if ids.dtype not in (torch.int64, torch.int32):
        raise TypeError(
            f"input_ids is {ids.dtype}, expected whole numbers: use .long()"
        )
    if ids.dim() != 2 or 0 in ids.shape:
        raise ValueError(
            f"input_ids has the shape {tuple(ids.shape)}, expected (B, T) with at "
            "least one row and one token; input_ids[None] makes one row of a 1-D tensor"
        )


def stop_ids(stop: Any, model: object) -> Tensor:
    """Return the token ids at which a row ends: `stop` is one, several, or None."""
    stop = _plain(stop)
    several = isinstance(stop, Iterable) and not isinstance(stop, str)
    ids = stop if several else [] if stop is None else [stop]
    vocab_size = getattr(getattr(model, "config", None), "vocab_size", 2**31)
    checked = [whole_number("stop", one, 0, vocab_size - 1) for one in ids]
    return torch.tensor(checked, dtype=torch.int64)


# ---------------------------------------------------------------- the model, 07


def model_sizes(**sizes: Any) -> dict[str, Any]:
    """Return the settings of a GPT2Config in their plain types."""
    plain = {
        name: probability(name, value)
        if name == "dropout"
        else whole_number(name, value, 1)
        for name, value in sizes.items()
    }
    heads(plain["d_model"], plain["num_heads"])
    return plain


def ids_fit(ids: Tensor, start: int, config: Any, device: torch.device) -> None:
    """Check token ids (B, T) that follow `start` earlier ones against a model."""
    input_ids(ids)
    if ids.device != device:
        raise ValueError(
            f"input_ids are on {ids.device}, the model on {device}: "
            f"use input_ids.to({str(device)!r})"
        )
    end = start + ids.size(1)
    if end > config.max_seq_length:
        raise ValueError(
            f"{end} tokens, but max_seq_length is {config.max_seq_length}: "
            "pass fewer, or build a model with a larger one"
        )
    if ids.is_cpu and _readable(ids):
        low, high = ids.aminmax()
        if low.item() < 0 or high.item() >= config.vocab_size:
            wrong = (ids < 0) | (ids >= config.vocab_size)
            row, column = wrong.nonzero()[0].tolist()
            raise IndexError(
                f"token id {ids[row, column]} in row {row}, position "
                f"{column}: expected 0 to {config.vocab_size - 1}"
            )


def gpt2_model(value: object) -> None:
    """Check for a GPT2Model, or a model with the same parts."""
    if not all(hasattr(value, part) for part in ("config", "blocks", "ln_final")):
        raise TypeError(
            f"model is of type {type(value).__name__}, expected a GPT2Model"
        )


# ---------------------------------------------------------------- measuring, 11


def token_ids(name: str, ids: Any, axes: str) -> Tensor:
    """Return the ids of a text ("N") or of windows ("B T") as int64, two or more."""
    try:
        ids = torch.as_tensor(ids)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(
            f"{name} is {shown(ids)}, expected token ids: encode a text first"
        ) from None
    if ids.dim() != len(axes.split()) or ids.numel() == 0 or ids.size(-1) < 2:
        raise ValueError(
            f"{name} has the shape {tuple(ids.shape)}, expected "
            f"{_shape_in_words(axes, {})} with 2 tokens or more: the first one is "
            "never predicted"
        )
    if ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
        raise TypeError(f"{name} is {ids.dtype}, expected whole numbers: use .long()")
    if ids.min() < 0:
        raise IndexError(f"token id {int(ids.min())} in {name}: expected 0 or more")
    return ids.long()


def window_logits(logits: Tensor, windows: Tensor) -> None:
    """Check a model's logits (B, T, V) for windows (B, T + 1) of token ids."""
    count, length = windows.shape
    tensor("the model's output", logits, "B T V", "floats", B=count, T=length - 1)
    if windows.max() >= logits.size(-1):
        raise IndexError(
            f"token id {int(windows.max())}: expected 0 to {logits.size(-1) - 1}, as "
            "the model has that many logits"
        )


def tokenizer(value: object) -> None:
    """Check for a tokenizer, or an object with the same methods."""
    if not (hasattr(value, "encode") and hasattr(value, "decode_bytes")):
        raise TypeError(
            f"tokenizer is of type {type(value).__name__}, expected a Tokenizer"
        )


def questions(values: Any) -> list[tuple[str, list[str]]]:
    """Return questions: pairs of a context and its choices, one or more."""
    checked = []
    for index, question in enumerate(_listed("questions", values)):
        pair = _listed(f"question {index}", question)
        if len(pair) != 2:
            raise ValueError(
                f"question {index} has {len(pair)} parts, expected 2: a context and "
                "its choices"
            )
        context = text(f"the context of question {index}", pair[0])
        choices = _listed(f"the choices of question {index}", pair[1])
        if not choices:
            raise ValueError(f"question {index} has no choices")
        for one in choices:
            text(f"a choice of question {index}", one)
        checked.append((context, choices))
    return checked


def _listed(name: str, values: Any) -> list:
    """Return what is iterable, and not a string, as a list."""
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise TypeError(f"{name} is {shown(values)}, expected a list")
    return list(values)


def sample(values: Any) -> Tensor:
    """Return measured values (N,) in float64: two or more, all finite."""
    try:
        values = torch.as_tensor(values, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"values is {shown(values)}, expected numbers (N,)") from None
    if values.dim() != 1 or len(values) < 2 or not values.isfinite().all():
        raise ValueError(
            f"values has the shape {tuple(values.shape)}, expected (N,) with two or "
            "more finite numbers"
        )
    return values


# ---------------------------------------------------------------- looking inside, 12


def parts(modules: Any, model: torch.nn.Module) -> list[torch.nn.Module]:
    """Return modules, all of which are parts of `model`."""
    module(model)
    modules, held = _listed("modules", modules), set(model.modules())
    for part in modules:
        if part not in held:
            raise ValueError(f"{shown(part)} is not a part of the model")
    return modules


def maps(values: Tensor, period: Any) -> int:
    """Return the period of a text whose attention weights are (..., T, T)."""
    tensor("maps", values, "... T T", "floats")
    if values.size(-1) != values.size(-2):
        raise ValueError(
            f"maps has the shape {tuple(values.shape)}, expected (..., T, T)"
        )
    return whole_number("period", period, 1, values.size(-1) - 1)


def model_heads(pairs: Any, num_layers: int, num_heads: int) -> list[tuple[int, int]]:
    """Return (layer, head) pairs, all of which the model has."""
    checked = []
    for pair in _listed("heads", pairs):
        place = _listed("each of heads", pair)
        if len(place) != 2:
            raise ValueError(f"heads holds {shown(pair)}, expected (layer, head) pairs")
        layer = whole_number("the layer of a head", place[0], 0, num_layers - 1)
        head = whole_number(f"a head of layer {layer}", place[1], 0, num_heads - 1)
        checked.append((layer, head))
    return checked


def patch(layer: Any, values: Any, positions: Any, head: Any, config: Any) -> None:
    """Check which activations of a model are to be replaced, and by what."""
    whole_number("layer", layer, 0, config.num_layers - 1)
    tensor("values", values, "... C", "floats", C=config.d_model)
    if positions is not None:
        for position in _listed("positions", positions):
            whole_number("a position", position, 0, config.max_seq_length - 1)
    if head is not None:
        whole_number("head", head, 0, config.num_heads - 1)


def patch_fits(values: Tensor, positions: Any, x: Tensor) -> Tensor:
    """Return the values of a patch in the shape of the activations x (B, T, C)."""
    if positions is not None and (last := max(positions, default=0)) >= x.size(1):
        raise ValueError(
            f"a position to patch is {last}, expected 0 to {x.size(1) - 1}: the ids "
            f"have {x.size(1)} tokens"
        )
    try:
        return values.to(x).expand_as(x)
    except RuntimeError:
        raise ValueError(
            f"values has the shape {tuple(values.shape)}, expected {tuple(x.shape)} as "
            "the activations, or what broadcasts to it"
        ) from None


def candidates(
    right: Any, wrong: Any, count: int, vocab_size: int
) -> tuple[Tensor, Tensor]:
    """Return two tokens for each of `count` sequences, both (B,)."""
    for name, ids in (("right", right), ("wrong", wrong)):
        tensor(name, ids, "B", "ids", B=count)
        for id in ids.tolist():
            whole_number(f"a token id in {name}", id, 0, vocab_size - 1)
    return right.long(), wrong.long()


# ---------------------------------------------------------------- rewards, 16


def rollout(prompt: Any, count: Any, max_new_tokens: Any, stop: Any) -> None:
    """Check one prompt (T,), how many answers, how long, and the id that ends one."""
    tensor("prompt", prompt, "T", "ids")
    whole_number("count", count, 1)
    whole_number("max_new_tokens", max_new_tokens, 1)
    whole_number("stop", stop, 0)


def group_rewards(rewards: Any) -> None:
    """Check rewards (..., G) of groups of at least two answers."""
    tensor("rewards", rewards, "... G", "floats")
    whole_number("the number of answers in a group", rewards.size(-1), 2)


def sampled_answers(ids: Any, mask: Any, rewards: Any = None) -> None:
    """Check answers (N, T) with their mask, and one reward for each, if given."""
    input_ids(ids)
    rows, length = ids.shape
    tensor("mask", mask, "N T", "marks", N=rows, T=length)
    if rewards is not None:
        group_rewards(rewards)
        if rewards.numel() != rows:
            raise ValueError(
                f"{rewards.numel()} rewards for {rows} answers; expected one for each"
            )


def policy_gradient(
    log_probs: Any, advantages: Any, mask: Any, old_log_probs: Any, clip: Any
) -> None:
    """Check what the policy-gradient loss is computed from: (N, T), (N,), (N, T)."""
    tensor("log_probs", log_probs, "N T", "floats")
    rows, length = log_probs.shape
    tensor("advantages", advantages, "N", "floats", N=rows)
    tensor("mask", mask, "N T", "marks", N=rows, T=length)
    if old_log_probs is not None:
        tensor("old_log_probs", old_log_probs, "N T", "floats", N=rows, T=length)
    if clip is not None:
        number("clip", clip, above=0, below=1)


def success_rates(s: Any, p: Any) -> tuple[float, float]:
    """Return a rate from 0 to 1, and the reference model's, which is neither."""
    return number("s", s, 0, most=1), number("p", p, above=0, below=1)


def preferences(chosen: Any, *others: Any) -> None:
    """Check log-probabilities (N,) of whole answers: four tensors of one length."""
    tensor("chosen", chosen, "N", "floats")
    names = "rejected", "reference_chosen", "reference_rejected"
    for name, values in zip(names, others, strict=True):
        tensor(name, values, "N", "floats", N=len(chosen))


# ---------------------------------------------------------------- training, 08


def _integers(name: str, values: Tensor, axes: str) -> None:
    """Check token ids or positions, in any type of whole numbers."""
    tensor(name, values, axes)
    kind = values.dtype
    if kind == torch.bool or kind.is_floating_point or kind.is_complex:
        raise TypeError(f"{name} is {kind}, expected whole numbers: use .long()")


def _with_targets(name: str, values: Tensor, axes: str) -> None:
    """Check token ids, or pairs of an id and a target (a last axis of 2)."""
    pairs = isinstance(values, Tensor) and values.dim() == len(axes.split()) + 1
    _integers(name, values, f"{axes} 2" if pairs and values.size(-1) == 2 else axes)


def loss_inputs(
    logits: Tensor, ids: Tensor, ignore_index: Any, empty: bool = False
) -> None:
    """Check logits (B, T, V) or (B, T - 1, V) and ids (B, T).

    Unless it may be `empty`, a target must be left.
    """
    tensor("logits", logits, "B T V", "floats")
    _integers("input_ids", ids, "B T")
    ignore_index = whole_number("ignore_index", ignore_index)
    if logits.size(0) != ids.size(0) or ids.size(1) - logits.size(1) not in (0, 1):
        raise ValueError(
            f"logits {tuple(logits.shape)} and ids {tuple(ids.shape)} do not fit: "
            "expected (B, T, V) or (B, T - 1, V), and (B, T), none shifted"
        )
    if not empty and not (ids[:, 1:] != ignore_index).any():
        raise ValueError(
            "no target tokens: every token after the first of its row is ignored, or "
            "there is none"
        )


def loss_value(loss: Tensor) -> None:
    """Check that a loss is a number, possibly an infinite one."""
    if loss.isnan():
        raise FloatingPointError(
            "the loss is nan, because the logits hold NaN or infinity: when training, "
            "try a smaller learning rate or a longer warm-up"
        )


def corpus(tokens: Tensor, starts: Tensor | None = None) -> None:
    """Check a text's token ids (N,), and positions in it where windows may begin.

    (N, 2) are ids and targets. Shards, a text that stays on disk, know their own
    SHA-256 and were checked by it.
    """
    if not hasattr(tokens, "sha256"):
        _with_targets("tokens", tokens, "N")
    if starts is not None:
        _integers("starts", starts, "N")
        if starts.min() < 0:
            raise ValueError(f"starts holds {int(starts.min())}, expected 0 or more")


def trained(model: Any) -> None:
    """Check for a PyTorch module that has parameters."""
    module = isinstance(model, torch.nn.Module)
    if not module or next(model.parameters(), None) is None:
        raise TypeError(f"model is {shown(model)}, expected a model with parameters")


def window_starts(count: int, num_tokens: int, seq_length: int) -> None:
    """Check that there is at least one position where a window may begin."""
    if count < 1:
        raise ValueError(
            f"the text has {num_tokens} tokens, so no window of {seq_length} fits: "
            "use a longer text or a smaller seq_length"
        )


def finite_loss(loss: float) -> None:
    """Check the loss of a step before the step is taken."""
    if not math.isfinite(loss):
        raise FloatingPointError(
            f"the loss is {loss}: try a smaller learning rate or a longer warm-up"
        )


def optimizer(model: Any, max_lr: Any, weight_decay: Any) -> tuple[float, float]:
    """Return an optimizer's learning rate and weight decay; check its model."""
    trained(model)
    rate = number("max_lr", max_lr, above=0)
    return rate, number("weight_decay", weight_decay, 0)


def schedule(
    step: Any, steps: Any, max_lr: Any, warmup_steps: Any, min_lr: Any, decay: Any
) -> None:
    """Check the settings of the learning-rate schedule."""
    whole_number("step", step, 0)
    whole_number("steps", steps, 1)
    whole_number("warmup_steps", warmup_steps, 0)
    choice("decay", decay, ("cosine", "linear"))
    if number("min_lr", min_lr, 0) > number("max_lr", max_lr, above=0):
        raise ValueError(f"min_lr is {min_lr}, expected at most max_lr, {max_lr}")


def train_settings(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values of TrainSettings in their plain types."""
    words = {
        "decay": ("cosine", "linear"),
        "optimizer": ("adamw", "muon"),
        "precision": ("float32", "bf16"),
    }
    plain: dict[str, Any] = {
        name: choice(name, values[name], words[name]) for name in words
    }
    for name in ("steps", "batch_size", "accumulation", "save_every"):
        plain[name] = whole_number(name, values[name], 1)
    plain["seq_length"] = whole_number("seq_length", values["seq_length"], 2)
    plain["warmup_steps"] = whole_number("warmup_steps", values["warmup_steps"], 0)
    plain["seed"] = seed("seed", values["seed"])
    for name in ("max_lr", "max_norm", "adam_lr_scale"):
        plain[name] = number(name, values[name], above=0)
    for name in ("min_lr", "weight_decay"):
        plain[name] = number(name, values[name], 0)
    plain["momentum"] = number("momentum", values["momentum"], 0, below=1)
    if plain["min_lr"] > plain["max_lr"]:
        raise ValueError(
            f"min_lr is {plain['min_lr']}, expected at most max_lr, {plain['max_lr']}"
        )
    return plain


def step_inputs(batches: Any, max_norm: Any, precision: Any) -> None:
    """Check what a training step takes: batches (B, T) of token ids, one or more."""
    if isinstance(batches, Tensor) and batches.dim() < 3:
        raise TypeError(
            f"batches is {shown(batches)}, expected a list of batches (B, T): a single "
            "one is [batch]"
        )
    if not isinstance(batches, Tensor):
        batches = _listed("batches", batches)
    if not len(batches):
        raise ValueError("batches is empty, expected one batch (B, T) or more")
    for batch in batches:
        _with_targets("a batch", batch, "B T")
    number("max_norm", max_norm, above=0)
    choice("precision", precision, ("float32", "bf16"))


def instance(name: str, value: object, kind: type) -> None:
    """Check that a value is an instance of `kind`."""
    if not isinstance(value, kind):
        raise TypeError(f"{name} is {shown(value)}, expected a {kind.__name__}")


def path(name: str, value: Any) -> None:
    """Check for a path: a string or a Path."""
    if not isinstance(value, str | os.PathLike):
        raise TypeError(f"{name} is {shown(value)}, expected the path of a file")


def saved(
    file: Any, optimizer: object, generator: object, losses: Any, metadata: object
) -> None:
    """Check what a checkpoint holds beside the model."""
    path("path", file)
    if optimizer is not None:
        instance("optimizer", optimizer, torch.optim.Optimizer)
    if generator is not None:
        instance("generator", generator, torch.Generator)
    for loss in _listed("losses", losses):
        if not isinstance(_plain(loss), int | float):
            raise TypeError(f"losses holds {shown(loss)}, expected numbers")
    if metadata is not None:
        instance("metadata", metadata, dict)
        try:
            json.dumps(metadata)
        except (TypeError, ValueError) as error:
            raise TypeError(f"metadata cannot be stored as JSON: {error}") from None


def file_to_write(name: str, path: Any) -> None:
    """Check that a file can be created at `path`, in a folder that exists."""
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"{name} is {shown(path)}, expected the path of a file")
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{name} is the folder {path}, expected a file in it")
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"{name} is {path}, but there is no folder {path.parent}: create it first"
        )


def same_shapes(
    shapes: dict[str, tuple[int, ...]], expected: dict[str, tuple[int, ...]]
) -> None:
    """Check the names and shapes of a model's parameters."""
    for what, names in (
        ("has no", expected.keys() - shapes.keys()),
        ("has what a GPT2Model does not have:", shapes.keys() - expected.keys()),
    ):
        if names:
            more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
            raise ValueError(f"it {what} {', '.join(sorted(names)[:3])}{more}")
    for name, shape in expected.items():
        if shapes[name] != shape:
            raise ValueError(f"its {name} is {shapes[name]}, expected {shape}")


def checkpoint_record(record: Any, shapes: dict[str, tuple[int, ...]]) -> dict:
    """Return a checkpoint's record; check it and the names of the tensors."""
    old = isinstance(record, dict) and "about" in record  # its former name
    parts = ("config", "about" if old else "metadata")
    if not isinstance(record, dict) or not all(
        isinstance(record.get(part), dict) for part in parts
    ):
        raise ValueError(
            f"its header is {shown(record)}, expected objects called config and "
            "metadata"
        )
    known = re.compile(r"model\..+|losses|optimizer\.\d{1,6}\.\w+|random\.\w+")
    odd = [name for name in shapes if not known.fullmatch(name)]
    if odd:
        raise ValueError(f"it holds {shown(odd[0])}, which is not part of a checkpoint")
    if len(shapes.get("losses", (0,))) != 1:
        raise ValueError(f"its losses are {shapes['losses']}, expected a list (N,)")
    return record


def weights(tensors: dict[str, Tensor]) -> None:
    """Check that a checkpoint's parameters are floating-point numbers."""
    for name, values in tensors.items():
        if name.startswith("model.") and not values.is_floating_point():
            raise ValueError(f"its {name} is {values.dtype}, expected floats")


def optimizer_states(
    tensors: dict[str, Tensor], optimizer: torch.optim.Optimizer
) -> dict[int, dict[str, Any]]:
    """Return an optimizer's states by parameter, each of the parameter's shape."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    states: dict[int, dict[str, Any]] = {}
    for name, value in tensors.items():
        if not name.startswith("optimizer."):
            continue
        _, index, key = name.split(".")
        if int(index) >= len(parameters):
            raise ValueError(
                f"it holds {name}, but the model has {len(parameters)} parameters"
            )
        shape = tuple(parameters[int(index)].shape)
        if value.dim() and value.shape != shape:
            raise ValueError(f"its {name} is {tuple(value.shape)}, expected {shape}")
        counter = value.dtype == torch.int64 and not value.dim()  # a plain number
        states.setdefault(int(index), {})[key] = value.item() if counter else value
    return states


# ---------------------------------------------------------------- tokenizer, 09


def utf8_text(value: Any) -> str:
    """Return a string that can be encoded in UTF-8."""
    text("text", value)
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"character {error.start} of the text, {value[error.start]!r}, is half of "
            "a surrogate pair; text.encode('utf-8', 'replace').decode() replaces it"
        ) from None
    return value


def merge_count(vocab_size: Any, special: Any) -> int:
    """Return how many merges a vocabulary has, beside bytes and special tokens."""
    names = isinstance(special, list | tuple) and all(
        isinstance(name, str) for name in special
    )
    if not names:
        raise TypeError(f"special is {shown(special)}, expected a list of names")
    vocab_size, taken = whole_number("vocab_size", vocab_size), 256 + len(special)
    if vocab_size < taken:
        raise ValueError(
            f"vocab_size is {vocab_size}, expected at least {taken}: the bytes and the "
            "special tokens"
        )
    return vocab_size - taken


def enough_pairs(pairs: object, merges: int, count: int) -> None:
    """Check that a text has a pair to merge next."""
    if not pairs:
        raise ValueError(
            f"the text allows {merges} merges, expected {count}: use a longer text "
            "or a smaller vocabulary"
        )


def vocabulary_ids(ids: Any, vocab_size: int) -> list[int]:
    """Return token ids, in a list or a 1-D tensor, as Python's whole numbers."""
    listed = ids.tolist() if hasattr(ids, "tolist") else ids
    if isinstance(listed, str | bytes) or not isinstance(listed, Iterable):
        raise TypeError(f"ids is {ids!r}, expected a list of token ids")
    listed = list(listed)
    for place, token in enumerate(listed):
        if type(token) is not int:
            if isinstance(token, Sequence):
                raise TypeError(
                    f"ids[{place}] is {token!r}, expected a whole number: decode the "
                    "rows of a batch one at a time"
                )
            listed[place] = token = whole_number(f"ids[{place}]", token)
        if not 0 <= token < vocab_size:
            raise IndexError(
                f"token id {token} at {place}: expected 0 to {vocab_size - 1}. (Is it "
                "from a model with a padded vocabulary? Then load that with "
                f"load_gpt2(..., vocab_size={vocab_size}).)"
            )
    return listed


# ---------------------------------------------------------------- finetuning, 15


def examples(values: Any) -> list[tuple[str, str]]:
    """Return pairs of a prompt and its answer, one or more."""
    checked = []
    for index, pair in enumerate(_listed("examples", values)):
        parts = _listed(f"example {index}", pair)
        if len(parts) != 2:
            raise ValueError(
                f"example {index} has {len(parts)} parts, expected 2: a prompt and its "
                "answer"
            )
        prompt = text(f"the prompt of example {index}", parts[0])
        checked.append((prompt, text(f"the answer of example {index}", parts[1])))
    if not checked:
        raise ValueError("examples is empty, expected one (prompt, answer) or more")
    return checked


def answers(ids: Tensor, starts: Tensor, ends: Tensor) -> None:
    """Check ids (B, T), and where the answer of each row begins and ends, (B,)."""
    _integers("input_ids", ids, "B T")
    for name, values in (("starts", starts), ("ends", ends)):
        _integers(name, values, "B")
        if len(values) != len(ids):
            raise ValueError(
                f"{name} has {len(values)} numbers, expected one for each of the "
                f"{len(ids)} rows"
            )


def targets(ids: Tensor, values: Tensor) -> None:
    """Check ids (N, T) and their targets, some of which are not -100."""
    _integers("ids", ids, "N T")
    _integers("targets", values, "N T")
    if ids.shape != values.shape:
        raise ValueError(
            f"targets has the shape {tuple(values.shape)}, expected that of ids, "
            f"{tuple(ids.shape)}"
        )
    if (values[:, 1:] == -100).all():
        raise ValueError("no target counts: all are -100, or first in their row")


def lora(linear: Any, rank: Any, alpha: Any) -> tuple[int, float]:
    """Return the rank and the alpha of an adapter; check its linear layer."""
    instance("linear", linear, torch.nn.Linear)
    rank = whole_number("rank", rank, 1, min(linear.weight.shape))
    return rank, number("alpha", alpha, above=0)


def linear_layers(model: Any) -> dict[str, torch.nn.Linear]:
    """Return a model's linear layers by name; it must not have an adapter yet."""
    gpt2_model(model)
    modules = dict(model.named_modules())
    if any(hasattr(layer, "lora_a") for layer in modules.values()):
        raise ValueError("model has an adapter already: merge it first (merge_lora)")
    return {
        name: layer
        for name, layer in modules.items()
        if isinstance(layer, torch.nn.Linear)
    }


def layers_to_adapt(model: Any, names: Any) -> dict[str, torch.nn.Linear]:
    """Return the linear layers whose names end in one of `names`."""
    layers, names = linear_layers(model), _listed("names", names)
    known = {name.split(".")[-1] for name in layers}
    if not names or not known.issuperset(names):
        raise ValueError(
            f"names is {shown(names)}, expected some of {', '.join(sorted(known))}, "
            "the linear layers (the embedding matrix is also the output head)"
        )
    return {name: one for name, one in layers.items() if name.split(".")[-1] in names}


def adapter(layers: dict[str, Any]) -> tuple[int, float]:
    """Return the rank and the alpha of adapted layers, in which all must agree."""
    found = {(len(layer.lora_a), layer.scale) for layer in layers.values()}
    if len(found) != 1:
        raise ValueError(
            f"the model's adapter has {len(found)} pairs of rank and scale, expected 1"
            if found
            else "the model has no adapter: add one with add_lora"
        )
    rank, scale = found.pop()
    return rank, rank * scale


# ---------------------------------------------------------------- pictures and figures


def array(name: str, values: Any) -> Any:
    """Return real numbers, in a tensor, an array or nested lists, as a float array."""
    import numpy as np

    if isinstance(values, Tensor):
        values = values.detach().cpu()
        values = values if values.is_complex() else values.double()
    try:
        found = np.asarray(values)
    except ValueError:  # lists of different lengths
        found = None
    if found is None or found.size and found.dtype.kind not in "fiub":
        raise TypeError(
            f"{name} is {shown(values)}, expected real numbers in rows of equal length"
        )
    return found.astype(float)


def names(name: str, values: Any) -> list:
    """Return what is iterable (a string: its characters) as a list."""
    return list(values) if isinstance(values, str) else _listed(name, values)


def mapping(name: str, values: Any) -> Mapping:
    """Return a dictionary with one entry or more."""
    if not isinstance(values, Mapping):
        raise TypeError(f"{name} is {shown(values)}, expected a dictionary")
    if not values:
        raise ValueError(f"{name} is empty, expected one entry or more")
    return values
