"""A toy model that remembers what it has read, and adapters for caches."""

import torch
from torch import Generator, Tensor

from gpt2_lesson.checks.probing import Function


class RememberingModel:
    """A toy language model with a memory of its own, for greedy generation.

    `model(ids, positions)` reads new tokens `ids` (B, T), which stand at `positions`
    (T,) of the text, adds them to what it has read since the last `reset()`, and
    returns logits (B, T, V). Each depends on all tokens read so far and on where they
    were said to stand. Raises IndexError for a position from `max_seq_length` on.
    """

    def __init__(
        self, vocab_size: int = 23, max_seq_length: int = 64, seed: int = 0
    ) -> None:
        g = Generator().manual_seed(seed)
        self.max_seq_length = max_seq_length
        self.tokens, self.places = (
            4 * torch.rand(size, 6, generator=g, dtype=torch.float64)
            for size in (vocab_size, max_seq_length)
        )
        self.out = torch.randn(6, vocab_size, generator=g, dtype=torch.float64)
        self.calls: list[list[int]] = []  # the positions of each call
        self.reset()

    def reset(self) -> None:
        """Forget all that was read."""
        self.memory: Tensor | None = None

    def __call__(self, ids: Tensor, positions: Tensor) -> Tensor:
        if ids.dim() != 2 or positions.shape != ids.shape[1:]:
            raise ValueError(
                f"ids {tuple(ids.shape)} with positions "
                f"{tuple(positions.shape)} came, expected (B, T) and (T,)"
            )
        if (
            positions.numel()
            and not 0
            <= int(positions.min())
            <= int(positions.max())
            < self.max_seq_length
        ):
            raise IndexError(
                f"position {int(positions.max())} came, there are only 0 "
                f"to {self.max_seq_length - 1}"
            )
        self.calls.append(positions.tolist())
        read = torch.sin(self.tokens[ids] + 1.7 * self.places[positions])  # (B, T, 6)
        if self.memory is not None:
            if len(self.memory) != len(ids):
                raise ValueError(
                    f"{len(ids)} texts came, but {len(self.memory)} are "
                    "remembered from before"
                )
            read = torch.cat([self.memory, read], dim=1)
        self.memory = read
        past = read.cumsum(1)[:, -ids.size(1) :] if ids.size(1) else read[:, :0]
        return torch.cos(5 * past) @ self.out  # (B, T, V)


def by_chunks(
    function: Function,
    q: list[Tensor],
    k: list[Tensor],
    v: list[Tensor],
    sizes: tuple[int, ...],
) -> object:
    """Return what a cached attention gives for q, k, v that come in chunks of tokens.

    q, k and v hold one (B, H, T, D) for each layer, and the result is (L, B, H, T, D);
    all layers share one cache, {} at first. A chunk's result of another shape is
    returned as it is.
    """
    return _run(function, q, k, v, sizes, {})


def kept(
    function: Function,
    q: list[Tensor],
    k: list[Tensor],
    v: list[Tensor],
    sizes: tuple[int, ...],
) -> int:
    """Return how many numbers the cache holds at the end."""
    cache: dict = {}
    _run(function, q, k, v, sizes, cache)
    return _numbers(cache)


def kept_at_crash(
    function: Function,
    q: list[Tensor],
    k: list[Tensor],
    v: list[Tensor],
    sizes: tuple[int, ...],
) -> str:
    """Return "no crash", or the shapes that the cache holds after one."""
    cache: dict = {}
    try:
        _run(function, q, k, v, sizes, cache)
    except NotImplementedError:
        raise
    except Exception:
        return f"a crash; the cache contains {', '.join(_shapes(cache)) or 'nothing'}"
    return "no crash"


def _run(
    function: Function,
    q: list[Tensor],
    k: list[Tensor],
    v: list[Tensor],
    sizes: tuple[int, ...],
    cache: dict,
) -> object:
    cut = [
        [part.split(list(sizes), dim=-2) for part in layer]
        for layer in zip(q, k, v, strict=True)
    ]  # layer, q k v, chunk
    parts = []
    for i in range(len(sizes)):
        layers = []
        for layer, chunks in enumerate(cut):
            new = [chunk[i] for chunk in chunks]
            mixed = function(*new, cache, layer)
            if getattr(mixed, "shape", None) != new[2].shape:
                return mixed
            layers.append(mixed)
        parts.append(torch.stack(layers))
    return torch.cat(parts, dim=-2)


def _shapes(value: object) -> list[str]:
    if isinstance(value, Tensor):
        return [str(tuple(value.shape))]
    parts = (
        value.values()
        if isinstance(value, dict)
        else (value if isinstance(value, list | tuple) else ())
    )
    return [shape for part in parts for shape in _shapes(part)]


def _numbers(value: object) -> int:
    if isinstance(value, Tensor):
        return value.numel()
    if isinstance(value, dict):
        return sum(map(_numbers, value.values()))
    if isinstance(value, list | tuple):
        return sum(map(_numbers, value))
    return 0


def two_texts(
    function: Function,
    model: RememberingModel,
    first: Tensor,
    second: Tensor,
    count: int,
) -> object:
    """Return what follows the second prompt, on a model that has read the first."""
    function(model, first, count)
    return function(model, second, count)


def tokens_read(
    function: Function, model: RememberingModel, ids: Tensor, count: int
) -> str:
    """Return how many tokens the model was given to read (the last may be spared)."""
    function(model, ids, count)
    read, length = sum(map(len, model.calls)), ids.size(1) + count
    if read <= length:
        return "each token read once"
    return f"{read} tokens read, for a text of {length}"


def calls(
    function: Function, model: RememberingModel, ids: Tensor, count: int
) -> list[list[int]]:
    """Return the positions that were passed in each call of the model."""
    function(model, ids, count)
    return model.calls
