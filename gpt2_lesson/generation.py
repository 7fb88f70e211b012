import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn as nn
from torch import Tensor


def check_sampling(temperature: float, top_k: int | None, top_p: float | None) -> None:
    """Raise ValueError or TypeError, in words, for settings that cannot be meant."""
    if isinstance(temperature, bool) or not isinstance(temperature, (int, float)):
        raise TypeError(f"temperature is {temperature!r}, expected a number such as 0.8")
    if not (temperature == 0 or 1e-5 <= temperature < math.inf):
        raise ValueError(
            f"temperature is {temperature}, expected 0 (always the most likely token) or a "
            "finite number from 0.00001 up: 1 leaves the odds alone, 0.8 sharpens them"
        )
    if top_k is not None and (isinstance(top_k, bool) or not isinstance(top_k, int)):
        raise TypeError(f"top_k is {top_k!r}, expected a whole number or None")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k is {top_k}, expected 1 or more, or None to keep all tokens")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p is {top_p}, expected a share above 0 and at most 1, or None")


def next_probabilities(
    logits: Tensor, temperature: float = 1.0, top_k: int | None = None,
    top_p: float | None = None,
) -> Tensor:
    """Return the odds of each token after temperature, top-k and top-p, in this order.

    logits (..., V) -> probabilities (..., V). Temperature 0 puts all on the largest logit.
    Tokens tied with the k-th stay. Raises ValueError or TypeError for settings out of range,
    FloatingPointError for logits that are not finite (minus infinity is: "never").
    Source: Fan et al. 2018 (top-k), Holtzman et al. 2020 (top-p).
    """
    check_sampling(temperature, top_k, top_p)
    best = logits.amax(-1, keepdim=True)                         # (..., 1)
    if not best.isfinite().all():
        raise FloatingPointError("the logits hold NaN or infinity, expected finite numbers")
    if temperature == 0:
        return torch.zeros_like(logits).scatter(-1, logits.argmax(-1, keepdim=True), 1.0)
    logits = (logits - best) / temperature
    if top_k is not None:
        kth = logits.topk(min(top_k, logits.size(-1))).values[..., -1:]    # (..., 1)
        logits = logits.masked_fill(logits < kth, -torch.inf)
    probabilities = logits.softmax(-1)
    return probabilities if top_p is None else keep_top_p(probabilities, top_p)


def keep_top_p(probabilities: Tensor, top_p: float) -> Tensor:
    """Return the odds (..., V) cut to the smallest set of likely tokens that holds `top_p`."""
    largest, order = probabilities.sort(descending=True, stable=True)
    before = largest.cumsum(-1) - largest                        # (..., V): likelier tokens' sum
    kept = torch.zeros_like(probabilities).scatter(-1, order, largest * (before < top_p))
    return kept / kept.sum(-1, keepdim=True)


def sample_next(
    logits: Tensor, temperature: float = 1.0, top_k: int | None = None,
    generator: torch.Generator | None = None, top_p: float | None = None,
) -> Tensor:
    """Draw one token id for each row: logits (B, V) -> ids (B, 1).

    Raises what `next_probabilities` raises.
    """
    probabilities = next_probabilities(logits, temperature, top_k, top_p)
    return torch.multinomial(probabilities, 1, generator=generator)


@contextmanager
def evaluating(model: nn.Module | Callable) -> Iterator[None]:
    """Switch dropout off and stop recording gradients; afterwards restore every module."""
    modules = model.modules() if isinstance(model, nn.Module) else ()
    training = [module for module in modules if module.training]
    for module in training:
        module.training = False
    try:
        with torch.no_grad():
            yield
    finally:
        for module in training:
            module.training = True


def check_input_ids(input_ids: Tensor) -> None:
    """Raise TypeError or ValueError unless `input_ids` is a tensor (B, T) of whole numbers."""
    if not isinstance(input_ids, Tensor):
        raise TypeError(
            f"input_ids is a {type(input_ids).__name__}, expected a tensor of token ids "
            "(B, T): encode a text first, then torch.tensor([ids])"
        )
    if input_ids.dtype not in (torch.int64, torch.int32):
        raise TypeError(f"input_ids is {input_ids.dtype}, expected whole numbers: use .long()")
    if input_ids.dim() != 2:
        raise ValueError(
            f"input_ids has the shape {tuple(input_ids.shape)}, expected (B, T): "
            "input_ids[None] makes a batch of one"
        )
    if 0 in input_ids.shape:
        raise ValueError(
            f"input_ids has the shape {tuple(input_ids.shape)}: there is no token to start "
            "from, expected at least one row and one token"
        )


def non_finite_parameter(model: Callable[..., Tensor]) -> str:
    """Return the name of the first parameter of `model` that holds NaN or infinity, or "none"."""
    named = model.named_parameters() if isinstance(model, nn.Module) else ()
    return next((name for name, values in named if not values.isfinite().all()), "none")


def generate(
    model: Callable[..., Tensor], input_ids: Tensor, max_new_tokens: int,
    temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None,
    generator: torch.Generator | None = None,
    on_token: Callable[[Tensor], None] | None = None,
) -> Tensor:
    """Continue `input_ids` by `max_new_tokens` draws: (B, T) -> (B, T + max_new_tokens).

    `model(ids)` gives logits (B, T, V). A model with `new_cache` is fed only what is new; one
    with `max_seq_length` sees only that many of the last tokens. `on_token` is called
    with each draw (B, 1). Raises TypeError, ValueError or FloatingPointError, in words.
    """
    check_input_ids(input_ids)
    check_sampling(temperature, top_k, top_p)
    if isinstance(max_new_tokens, bool) or not isinstance(max_new_tokens, int):
        raise TypeError(f"max_new_tokens is {max_new_tokens!r}, expected a whole number")
    if max_new_tokens < 0:
        raise ValueError(f"max_new_tokens is {max_new_tokens}, expected 0 or more")
    ids, full = input_ids, input_ids.size(1) + max_new_tokens
    limit = getattr(model, "max_seq_length", full)
    cache = None
    if hasattr(model, "new_cache") and ids.size(1) <= limit:
        cache = model.new_cache(ids.size(0), min(limit, full))
    with evaluating(model):
        for _ in range(max_new_tokens):
            if cache is not None and ids.size(1) <= limit:
                logits = model(ids[:, cache.length :], cache=cache)        # (B, new, V)
            else:
                logits = model(ids[:, -limit:])                            # (B, T, V)
            try:
                drawn = sample_next(logits[:, -1], temperature, top_k, generator, top_p)
            except FloatingPointError as error:
                raise FloatingPointError(
                    f"{error}; first parameter that is not: {non_finite_parameter(model)}"
                ) from None
            ids = torch.cat([ids, drawn], dim=1)
            if on_token is not None:
                on_token(drawn)
    return ids
