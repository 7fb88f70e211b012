"""Where a model's parameters are: a map whose areas are their numbers."""

from dataclasses import asdict

import torch
import torch.nn as nn

from gpt2_lesson import plots
from gpt2_lesson.gpt2_model import GPT2Config, GPT2Model
from gpt2_lesson.widgets.figure import Figure

FORWARD = "feed-forward"
PARTS = {"tok_emb": "embeddings", "pos_emb": "embeddings", "ln_final": "final norm"}
BRANCHES = {"attn": "attention", "mlp": FORWARD, "ln_attn": "norms", "ln_mlp": "norms"}


def parameters(model: nn.Module | GPT2Config, alt: str | None = None) -> Figure:
    """Return a map of a model's parameters, each a rectangle as large as its count.

    A GPT2Config is counted without building the model's numbers. Parameters under two
    names count once, as does GPT-2's embedding matrix, which is its output head too.
    Raises TypeError for anything else, ValueError for a model without parameters.
    """
    if isinstance(model, GPT2Config):
        with torch.device("meta"):
            model = GPT2Model(**asdict(model))
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"model is a {type(model).__name__}, expected a model or a GPT2Config"
        )
    leaves = [_leaf(name, parameter) for name, parameter in model.named_parameters()]
    total = sum(leaf["count"] for leaf in leaves)
    if not total:
        raise ValueError("the model has no parameters")
    sums = _sums(leaves)
    alt = (
        alt
        or f"{total:,} parameters: "
        + ", ".join(f"{part} {_percent(count / total)}" for part, count in sums.items())
        + "."
    )
    state = {
        "leaves": leaves,
        "total": total,
        "tied": _tied(model),
        "parts": list(sums),
    }
    picture = plots.as_png(
        plots.show_bars,
        [count / 1e6 for count in sums.values()],
        list(sums),
        ylabel="millions of parameters",
        title=f"{total:,} parameters",
        alt=alt,
    )
    return Figure("parameters", state, picture, alt, height=600)


def _leaf(name: str, parameter: nn.Parameter) -> dict:
    """Return a parameter's name, shape and count, its place and its part."""
    place, part = _place(name)
    return {
        "name": name,
        "shape": list(parameter.shape),
        "count": parameter.numel(),
        "place": place,
        "part": part,
    }


def _place(name: str) -> tuple[str, str]:
    """Return where a parameter stands ("block 3") and what it belongs to ("norms")."""
    first, *rest = name.split(".")
    if first == "blocks" and len(rest) > 2 and rest[0].isdigit():
        return f"block {rest[0]}", BRANCHES.get(rest[1], "other")
    part = PARTS.get(first, "other")
    return part, "norms" if part == "final norm" else part


def _sums(leaves: list[dict]) -> dict[str, int]:
    sums = dict.fromkeys(("embeddings", "attention", FORWARD, "norms", "other"), 0)
    for leaf in leaves:
        sums[leaf["part"]] += leaf["count"]
    return {part: count for part, count in sums.items() if count}


def _tied(model: nn.Module) -> str:
    """Return a sentence about parameters that are used twice, or ""."""
    twice = [name for name, _ in model.named_parameters(remove_duplicate=False)]
    once = {name for name, _ in model.named_parameters()}
    shared = [name for name in twice if name not in once]
    if shared:
        return f"{', '.join(shared)}: the same numbers as another name, counted once."
    if isinstance(model, GPT2Model) and "tok_emb.weight" in once:
        return (
            "The output head is the embedding matrix tok_emb.weight again, with no "
            "parameters of its own."
        )
    return ""


def _percent(share: float) -> str:
    return "under 0.1%" if share < 0.001 else f"{share:.1%}"
