"""A toy model that tells how it was used, and adapters for samplers and measures."""

import random
from collections.abc import Callable

import numpy as np
import torch
from torch import Generator, Tensor, nn

ROWS = 2000  # samples per distribution: within 0.09


class ToyModel(nn.Module):
    """A scripted language model: (B, T) ids to logits (B, T, V), V a prime number.

    After tokens 0 to t, the most probable token is (sum of c[j] * (id[j] + 1)) mod V:
    each single token decides. It takes at most `len(c)` tokens, and starts in training
    mode, in which its part `dropout` forgets every second token. It notes the `lengths`
    that it was called with, and whether it was `training` and recording `gradients`.
    """

    def __init__(self, vocab_size: int, max_seq_length: int, g: Generator) -> None:
        super().__init__()
        self.one, self.dropout = nn.Parameter(torch.ones(())), nn.Identity()
        self.c = torch.randint(1, vocab_size, (max_seq_length,), generator=g)
        self.vocab_size = vocab_size
        self.lengths: list[int] = []
        self.training_noted: list[bool] = []
        self.gradients: list[bool] = []

    def forward(self, ids: Tensor) -> Tensor:
        """Return logits (B, T, V), all 0 or negative; IndexError for too many ids."""
        if ids.dim() != 2 or ids.is_floating_point():
            raise ValueError(
                f"the model got {tuple(ids.shape)} of {ids.dtype}, "
                "expected (B, T) token ids"
            )
        if ids.size(1) > len(self.c):
            raise IndexError(
                f"index out of range in self: {ids.size(1)} tokens came, "
                f"and there are {len(self.c)} positions"
            )
        self.lengths.append(ids.size(1))
        self.training_noted.append(self.dropout.training)
        self.gradients.append(torch.is_grad_enabled())
        kept = self.c[: ids.size(1)].clone()
        if self.dropout.training:
            kept[1::2] = 0
        key = (kept * (ids + 1)).cumsum(1) % self.vocab_size  # (B, T)
        steps = (torch.arange(self.vocab_size) - key[..., None]) % self.vocab_size
        return -steps * self.one  # (B, T, V)


def manners(function: Callable, model: ToyModel, *args: object) -> dict[str, object]:
    """Return how a function that writes treats the model."""
    function(model, *args)
    return {
        "dropout was on": any(model.training_noted),
        "gradients were recorded": any(model.gradients),
    }


def lengths_seen(function: Callable, model: ToyModel, *args: object) -> list[int]:
    """Return how many tokens the model was given at each call."""
    function(model, *args)
    return model.lengths


def mode_afterwards(function: Callable, model: ToyModel, *args: object) -> str:
    """Return the mode that a model is in after a function's use."""
    function(model, *args)
    modes = {"training" if part.training else "evaluation" for part in model.modules()}
    return " and ".join(sorted(modes))


# --- samplers -------------------------------------------------------------------------


def _seeded(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)


def one_draw(
    function: Callable, logits: Tensor, temperature: float, top_k: int | None
) -> object:
    """Return what `function` draws for logits (B, V), with a generator."""
    return function(logits, temperature, top_k, Generator().manual_seed(11))


def shares(
    function: Callable, logits: Tensor, temperature: float, top_k: int | None
) -> object:
    """Return how often each token is sampled: logits (K, V) to fractions (K, V).

    The function samples once, from a batch with each row of the logits ROWS times.
    For anything but ids below V, a text says what it is.
    """
    _seeded(5)
    many = logits.repeat(ROWS, 1)  # (ROWS * K, V)
    ids = function(many, temperature, top_k, Generator().manual_seed(3))
    if not isinstance(ids, Tensor) or ids.numel() != len(many):
        return f"not exactly one id for each row: {getattr(ids, 'shape', type(ids))}"
    if ids.is_floating_point() or ids.min() < 0 or ids.max() >= many.size(1):
        return f"no ids below {many.size(1)}, but {ids.dtype} up to {ids.max():.0f}"
    kinds = torch.arange(len(logits)).repeat(ROWS)
    flat = kinds * many.size(1) + ids.reshape(-1)
    return torch.bincount(flat, minlength=logits.numel()).view(logits.shape) / ROWS


def ever_drawn(
    function: Callable, logits: Tensor, temperature: float, top_k: int | None
) -> object:
    """Return 1 for each token that is drawn at least once, else 0: (K, V)."""
    found = shares(function, logits, temperature, top_k)
    return (found > 0).long() if isinstance(found, Tensor) else found


def randomness(function: Callable, logits: Tensor) -> dict[str, object]:
    """Return whether draws follow the generator, and nothing else."""
    many = logits[:1].repeat(200, 1)

    def draw(generator: Generator, seed: int) -> list:
        _seeded(seed)
        return function(many, 1.0, None, generator).tolist()

    one = Generator().manual_seed(1)
    first, second = draw(one, 1), draw(one, 1)
    same = draw(Generator().manual_seed(1), 2)
    other = draw(Generator().manual_seed(2), 1)
    return {
        "a generator with the same seed gives the same ids": same == first,
        "a generator with another seed gives other ids": other != first,
        "the generator's next sample is another one": second != first,
        "each row is sampled separately": len({str(one) for one in first}) > 1,
    }


# --- measures -------------------------------------------------------------------------


def as_number(function: Callable, *args: object) -> object:
    """Return a tensor of one number as a number, anything else as it is."""
    value = function(*args)
    return value.item() if isinstance(value, Tensor) and value.numel() == 1 else value


def choices(
    function: Callable,
    nats: list[list[Tensor]],
    endings: list[list[str]],
    per_byte: bool,
) -> list[object]:
    """Return which ending is chosen for each question."""
    return [
        as_number(function, *question, per_byte)
        for question in zip(nats, endings, strict=True)
    ]
