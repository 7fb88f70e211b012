"""Ways to look at a whole model: facts that depend on no name and no style.

Each adapter takes what builds the model (a class or a function of the six sizes) and a
case: the sizes, and token ids. Parameters are told apart by their shapes, so the sizes
must all be different.
"""

import math
from collections.abc import Callable

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

Build = Callable[..., nn.Module]
Sizes = tuple[int, int, int, int, int, int]  # V, C, H, L, T, F
Case = tuple[Sizes, Tensor]


def built(build: Build, sizes: Sizes, seed: int = 0) -> nn.Module:
    """Return the model in evaluation mode; TypeError if it is no nn.Module.

    Its initial weights are those of the seed; what it samples later is not.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = build(*sizes)
    if not isinstance(model, nn.Module):
        raise TypeError(f"built a {type(model).__name__}, expected a torch.nn.Module")
    for part in _hidden(model):
        part.eval()
    return model.eval()


def _hidden(model: nn.Module) -> list[nn.Module]:
    """Return the modules in plain lists, tuples and dicts: PyTorch doesn't see them."""
    held = [
        list(value.values()) if isinstance(value, dict) else value
        for part in model.modules()
        for key, value in vars(part).items()
        if isinstance(value, list | tuple | dict) and not key.startswith("_")
    ]
    return [one for values in held for one in values if isinstance(one, nn.Module)]


def parameter_count(build: Build, case: Case) -> int:
    """Return the number of parameters, each counted once."""
    sizes, _ = case
    return sum(p.numel() for p in built(build, sizes).parameters())


@torch.no_grad()
def fill(model: nn.Module, sizes: Sizes, without: str = "") -> nn.Module:
    """Give every parameter numbers that depend on its shape alone.

    The same whether queries, keys and values have one matrix or three. Norms' weights
    (vectors called weight, or near 1) get numbers near 1, and blocks in a plain list
    are filled, too. `without` sets to 0
    what the "blocks" add, or the "positions".
    """
    V, C, _, _, T, _ = sizes
    for name, p in nn.ModuleList([model, *_hidden(model)]).named_parameters():
        norm = p.dim() == 1 and (
            name.endswith("weight") or abs(p.mean().item() - 1) < 0.5
        )
        p.copy_(_numbers(p.shape, C) + (1 if norm else 0))
        inside = not {V, T} & set(p.shape) and not norm  # no table, no head
        if (
            without == "blocks"
            and inside
            or without == "positions"
            and p.shape == (T, C)
        ):
            p.zero_()
    return model


def _numbers(shape: torch.Size, width: int) -> Tensor:
    """Return fixed random numbers for a shape; (3C, ...) is (C, ...) three times."""
    rows, rest = shape[0], shape[1:]
    copies = rows // width if rows % width == 0 and tuple(rest) in ((), (width,)) else 1
    seed = sum(size * 100**i for i, size in enumerate((rows // copies, *rest)))
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.randn(rows // copies, *rest, generator=generator)
    scale = 1.5 / math.sqrt(rest[-1]) if rest else 0.3
    return (scale * numbers).repeat(copies, *(1 for _ in rest))


def filled_logits(build: Build, case: Case, without: str = "") -> object:
    """Return what the model makes of `ids` with fixed parameters."""
    sizes, ids = case
    return fill(built(build, sizes), sizes, without)(ids)


@torch.no_grad()
def who_moves(build: Build, case: Case) -> Tensor:
    """Return a table (T, T): 1 where changing a token (column) moves logits (row)."""
    sizes, ids = case
    T = ids.size(1)
    others = ids[0].repeat(T + 1, 1)  # the last stays
    others[range(T), range(T)] = (ids[0] + 1) % sizes[0]
    logits = fill(built(build, sizes), sizes)(others)  # (T + 1, T, V)
    return ((logits[:-1] - logits[-1]).abs() > 1e-5).any(-1).T.long()


@torch.no_grad()
def larger_stream(build: Build, case: Case) -> float:
    """Return by what the logits grow when the tables grow tenfold, blocks at 0."""
    sizes, ids = case
    model = fill(built(build, sizes), sizes, "blocks")
    before = model(ids)
    for p in model.parameters():
        if p.dim() == 2:
            p.mul_(10)
    after, before = model(ids).norm().item(), before.norm().item()
    return round(after / before, 2) if before else 0.0


def one_step(build: Build, case: Case) -> dict[str, object]:
    """Return what becomes of the V x C tables, and of the rest, in one step."""
    sizes, ids = case
    model = built(build, sizes)
    tables = [p for p in model.parameters() if p.shape == (sizes[0], sizes[1])]
    start = all(torch.equal(p, tables[0]) for p in tables)
    logits = model(ids)
    F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten()).backward()
    silent = sum(p.grad is None for p in model.parameters())
    with torch.no_grad():
        for p in model.parameters():
            if p.grad is not None:
                p.sub_(p.grad)
    return {
        "parameters without a gradient": silent,
        "matrices of V x C": len(tables),
        "equal at the start": start,
        "equal after one step": all(torch.equal(p, tables[0]) for p in tables),
    }


def saved_and_loaded(build: Build, case: Case) -> dict[str, bool]:
    """Return whether a second model, loaded from the first's state_dict, is equal."""
    sizes, ids = case
    one, other = built(build, sizes), built(build, sizes, seed=1)
    other.load_state_dict(one.state_dict())
    return {"same logits after load_state_dict": torch.equal(one(ids), other(ids))}


@torch.no_grad()
def initial_weights(build: Build, case: Case) -> dict[str, object]:
    """Return the standard deviations of initial weights, in steps of a factor 1.41."""
    sizes, ids = case
    model = built(build, sizes)
    V, C, _, _, T, width = sizes
    spreads: dict[tuple[int, ...], list[float]] = {}
    for p in model.parameters():
        if p.dim() == 2:
            spreads.setdefault(tuple(p.shape), []).append(p.std().item())
    vectors = [p for p in model.parameters() if p.dim() == 1]
    mixing = [
        s
        for (rows, columns), found in spreads.items()
        for s in found
        if columns == C and rows % C == 0
    ]
    of = {
        "embedding matrix": spreads.get((V, C), []),
        "queries, keys, values": mixing,
        "out_proj": spreads.get((C, C), []),
        "up_proj": spreads.get((width, C), []),
        "down_proj": spreads.get((C, width), []),
    }
    facts: dict[str, object] = {
        f"standard deviation of {name}": _step(
            min(found) if name == "out_proj" else max(found)
        )
        if found
        else None
        for name, found in of.items()
    }
    positions = max(spreads.get((T, C), [0.0]))
    facts["standard deviation of positions"] = (
        "small" if positions < 0.03 else _step(positions)
    )
    logits = model(ids)
    loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten()).item()
    kinds = sorted(
        {
            "0" if bool((p == 0).all()) else "1" if bool((p == 1).all()) else "drawn"
            for p in vectors
        }
    )
    return facts | {
        "vectors": ", ".join(kinds),
        "loss / ln V": min(2.0, round(loss / math.log(V), 1)),
    }


def _step(std: float) -> float:
    """Return the nearest of 0.02, 0.0141, 0.01, ... and 0.0283, 0.04, ..."""
    if not 0 < std < math.inf:
        return std
    return round(0.02 * 2 ** (round(2 * math.log2(std / 0.02)) / 2), 4)


def left_behind(build: Build, case: Case) -> int:
    """Return the number of tensors that are neither parameters nor buffers."""
    sizes, _ = case
    return sum(
        isinstance(value, Tensor)
        for part in built(build, sizes).modules()
        for value in vars(part).values()
    )


def counted(function: Callable[[nn.Module], object], kind: str, *sizes: int) -> object:
    """Return what a function that counts says about the model `toy(kind, *sizes)`."""
    return function(toy(kind, *sizes))


def toy(kind: str, rows: int = 7, columns: int = 3) -> nn.Module:
    """Return a small model: "plain", "tied", "buffers", "shared", "deep"."""
    model = nn.Module()
    model.table = nn.Embedding(rows, columns)
    model.head = nn.Linear(columns, rows, bias=False)
    if kind == "tied":
        model.head.weight = model.table.weight
    if kind == "buffers":
        model.register_buffer("mask", torch.ones(5, 5).tril())
    if kind == "shared":
        block = nn.Linear(3, 3)
        model.blocks = nn.ModuleList([block] * 4)
    if kind == "deep":
        model.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 3)) for _ in range(2)
        )
        model.norm = nn.LayerNorm(3)
    return model
