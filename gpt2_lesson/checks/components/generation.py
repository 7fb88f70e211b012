"""Shaping odds, drawing, writing, and what goes wrong with them (catalogue: G)."""

from functools import partial

import torch
from torch import Generator, Tensor, nn

from gpt2_lesson.checks.clues import Clue
from gpt2_lesson.checks.engine import Exercise, Look, Mistake, Robust
from gpt2_lesson.checks.probing import Probe
from gpt2_lesson.checks.stand_ins.toy_models import (
    ToyModel,
    ever_drawn,
    lengths_seen,
    manners,
    mode_afterwards,
    one_draw,
    randomness,
    shares,
)

# --- odds -----------------------------------------------------------------------------


def _largest(logits: Tensor, top_k: int, over: str) -> Tensor:
    """Return the top_k largest logits, largest first; `over` if there are fewer."""
    if over == "sort":
        return logits.sort(descending=True).values[..., range(top_k)]
    return logits.topk(min(top_k, logits.size(-1)) if over == "clamp" else top_k).values


def _kept(logits: Tensor, top_k: int, extra: int, threshold: str, over: str,
          smallest: bool) -> Tensor:
    """Return where a logit is kept: the top_k of each row, or a mistake's choice."""
    if smallest:
        logits = -logits
    if extra < 0:                                                # "<=" for "<"
        return logits > _largest(logits, top_k, over)[..., -1:]
    kth = _largest(logits, top_k + extra, over)[..., -1:]        # (B, 1)
    kth = {"row": lambda: kth, "first": lambda: kth[:1], "last": lambda: kth[-1:],
           "lowest": kth.min,
           "batch": lambda: logits.flatten().topk(
               min(top_k, logits.numel())).values[-1:],
           "column": lambda: logits.topk(min(top_k, len(logits)), 0).values[-1:],
           }[threshold]()
    return logits >= kth


def _tempered(logits: Tensor, temperature: float, how: str) -> Tensor:
    """Return logits, the temperature applied, or what a mistake makes of it."""
    if how == "times":
        return logits * temperature
    if how == "twice":
        return logits / temperature ** 2
    return logits if how in ("none", "odds") else logits / temperature


def _shared(logits: Tensor, how: str, axis: int) -> Tensor:
    """Return odds from logits: the softmax, or what stands in for it."""
    if how == "twice":
        return logits.softmax(axis).softmax(axis)
    if how == "log":
        return logits.log_softmax(axis)
    if how == "naive":
        return logits.exp() / logits.exp().sum(axis, keepdim=True)
    if how == "logits":
        return logits
    if how == "likeliest":
        return _one_hot(logits)
    return logits.softmax(axis)


def _one_hot(logits: Tensor) -> Tensor:
    best = logits.argmax(-1, keepdim=True)
    return torch.zeros_like(logits).scatter(-1, best, 1.0)


def odds(logits: Tensor, temperature: float, top_k: int | None, *,
         temper: str = "divide", zero: str = "likeliest", extra: int = 0,
         fill: float = -torch.inf, threshold: str = "row", over: str = "clamp",
         smallest: bool = False, cut: str = "logits", how: str = "softmax",
         axis: int = -1, in_place: bool = False) -> Tensor:
    """Return the next token's odds (B, V) from logits (B, V)."""
    if temperature == 0 and zero in ("likeliest", "whole numbers"):
        best = _one_hot(logits)
        return best.long() if zero == "whole numbers" else best
    if temperature == 0 and zero == "one row":
        return torch.zeros_like(logits).flatten().index_fill(
            0, logits.argmax(), 1.0).view_as(logits)
    if temperature == 0 and zero in ("1", "crash", "small"):
        temperature = {"1": 1.0, "small": 1e-3}.get(zero) or 1 / 0
    if top_k is not None and cut in ("alone", "first"):          # one of the two
        return odds(logits, 1.0, top_k) if cut == "alone" or temperature == 1 else (
            odds(logits, temperature, None))
    scores = _tempered(logits, temperature, temper)
    if cut == "none" or top_k is None:
        p = _shared(scores, how, axis)
    elif cut == "front":                                         # ids are lost
        p = _shared(_largest(scores, top_k, over), how, axis)
        p = nn.functional.pad(p, (0, logits.size(-1) - p.size(-1)))
    elif cut == "short":
        p = _shared(_largest(scores, top_k, over), how, axis)
    else:
        kept = _kept(scores, top_k, extra, threshold, over, smallest)
        after = cut in ("odds", "whole", "between")              # the softmax
        p = _shared(scores if after else scores.masked_fill(~kept, fill), how, axis)
        if cut == "between":
            kept = _kept(p, top_k, extra, threshold, over, smallest)
        if after:
            p = p.masked_fill(~kept, -torch.inf if cut == "between" else 0.0)
        if cut == "even":
            p = kept.float()
        p = {"whole": lambda: p / p.sum(), "between": lambda: p.softmax(axis),
             "even": lambda: p / p.sum(axis, keepdim=True)}.get(cut, lambda: p)()
    if in_place:
        logits.copy_(scores if top_k is None else scores.masked_fill(~kept, fill))
    return p / temperature if temper == "odds" else p


def draw(logits: Tensor, temperature: float, top_k: int | None,
         generator: Generator | None, *, rows: str = "each", seeded: str = "generator",
         returned: str = "ids", ranked: bool = False, **knobs: object) -> Tensor:
    """Return one id for each row, logits (B, V) to ids (B, 1), in exact proportion.

    Rows that are equal get each token as often as its odds say, in an order that the
    generator draws. Raises RuntimeError for odds that are none, like multinomial.
    """
    p = odds(logits, temperature, top_k, **knobs)
    if ranked:
        p = p.sort(descending=True).values
    if not p.isfinite().all() or (p < 0).any():
        raise RuntimeError("probability tensor contains inf, nan or element < 0")
    if seeded == "fixed":
        generator = Generator().manual_seed(0)
    if seeded == "copied" and generator is not None:
        generator = Generator().manual_seed(generator.initial_seed())
    if seeded == "global":
        generator = None
    if rows == "one":
        ids = torch.multinomial(p[:1], 1, generator=generator).expand(len(p), 1)
    else:
        ids = _in_proportion(p, generator)                       # (B, 1)
    return {"ids": ids, "flat": ids[:, 0], "odds": p.gather(-1, ids)}[returned]


def _in_proportion(p: Tensor, generator: Generator | None) -> Tensor:
    """Return ids (B, 1): among equal rows of p (B, V), each id by its exact share."""
    ids = torch.zeros(len(p), 1, dtype=torch.long)
    marks = p.double() @ torch.arange(1.0, p.size(1) + 1).double().sqrt()
    kinds, kind = marks.mul(1e9).round().unique(return_inverse=True)
    for i in range(len(kinds)):
        here = (kind == i).nonzero()[:, 0]                       # rows that are equal
        edges = p[here[0]].double().cumsum(0)
        places = (torch.arange(len(here), dtype=torch.float64) + 0.5) / len(here)
        drawn = torch.searchsorted(edges, places * edges[-1]).clamp(max=p.size(1) - 1)
        ids[here, 0] = drawn[torch.randperm(len(here), generator=generator)]
    return ids


# --- writing --------------------------------------------------------------------------


def write(model: nn.Module, input_ids: Tensor, max_new_tokens: int,
          max_seq_length: int, *, read: str = "last", crop: str = "newest",
          limit: int = 0, mode: str = "eval", gradients: bool = False, more: int = 0,
          returned: str = "all", fed: str = "all", chosen: str = "each",
          pick: str = "argmax", joined: str = "end", until: str = "new",
          after: str = "as it came") -> Tensor:
    """Return input_ids (B, T), continued by the likeliest tokens: (B, T + new)."""
    was_training = model.training
    model.train(was_training and mode == "as it was")
    ids, cut = input_ids, max_seq_length + limit
    count = max_new_tokens + more
    if until == "total":
        count = max_new_tokens - ids.size(1)
    if until == "full":
        count = min(count, max_seq_length - ids.size(1))
    with torch.set_grad_enabled(gradients):
        for _ in range(count):
            first = 0 if ids.size(1) == input_ids.size(1) else -1
            seen = {"all": ids, "last": ids[:, -1:], "prompt": input_ids,
                    "new": ids[:, first:]}[fed]
            if crop != "none":
                seen = seen[:, -cut:] if crop == "newest" else seen[:, :cut]
            new = _next(model(seen), read, pick)                 # (B, 1)
            new = new[:1].expand(len(ids), 1) if chosen == "first" else new
            ids = torch.cat([ids, new] if joined == "end" else [new, ids], dim=1)
            ids = ids[:, -cut:] if returned == "window" else ids
    model.train({"as it came": was_training, "training": True, "evaluation": False}[
        after])
    start = {"new": input_ids.size(1), "last": ids.size(1) - 1}.get(returned, 0)
    return ids[:, start:]


def _next(logits: Tensor, read: str, pick: str) -> Tensor:
    """Return the next id of each row (B, 1) from logits (B, T, V)."""
    if read == "all":
        return logits.flatten(1).argmax(-1, keepdim=True) % logits.size(-1)
    last = {"last": logits[:, -1], "first": logits[:, 0], "mean": logits.mean(1),
            "before": logits[:, max(-2, -logits.size(1))]}[read]
    if pick == "draw":
        return torch.multinomial(last.softmax(-1), 1)
    if pick == "second":
        return last.topk(2).indices[:, 1:]
    return (last if pick == "argmax" else -last).argmax(-1, keepdim=True)


# --- probes ---------------------------------------------------------------------------


def _rows(g: Generator, b: int, v: int, shift: float = 0.0) -> Tensor:
    """Return logits (b, v): levels 0.6 apart in random order, the last one high."""
    levels = 0.6 * torch.arange(v) + 0.2 * torch.rand(b, v, generator=g)
    mixed = torch.stack([row[torch.randperm(v, generator=g)] for row in levels])
    mixed[-1, -1] += 0.6 * v                                     # best: the last id
    heights = torch.tensor([0.9, 0.0, 1.8])[:b, None]            # rows differ
    return mixed - mixed.mean() + shift + heights


def probes(g: Generator) -> list[Probe]:
    """Return the battery of `next_probabilities`: settings alone and together."""
    sizes = {"B": 3, "V": 5}
    low, high = _rows(g, 3, 5, -9.0), _rows(g, 3, 5)
    return [
        Probe("temperature 1, all tokens", (high, 1.0, None), sizes=sizes),
        Probe("temperature 0.5", (high, 0.5, None), sizes=sizes),
        Probe("temperature 3", (low, 3.0, None), sizes=sizes),
        Probe("k = 3, all logits negative", (low, 1.0, 3)),
        Probe("temperature 0.7 and k = 2", (high, 0.7, 2), sizes=sizes),
        Probe("k = 1", (low, 1.0, 1), sizes=sizes),
        Probe("temperature 0: always the likeliest", (high, 0, None), sizes=sizes),
        Probe("temperature 0, two logits 0.0001 apart",
              (torch.tensor([[0.0, 2.0, 2.0001, 1.0]]), 0, None)),
        Probe("temperature 0 and k = 2", (low, 0.0, 2), sizes=sizes),
        Probe("k = 99, more than there are tokens", (high, 1.0, 99), sizes=sizes),
        Probe("logits of some hundreds", (200 * high, 1.0, 4), sizes=sizes),
        Probe("one row", (_rows(g, 1, 7), 1.5, 2)),
    ]


def _tied(g: Generator) -> Probe:
    return Probe("two tokens tied at the k-th place",
                 (torch.tensor([[4.0, 16, 32, 16, 1, 0.25]]).log(), 1.0, 2))


def sampling_probes(g: Generator) -> list[Probe]:
    """Return the battery of `sample_next`: sure draws, shares of many, randomness."""
    low, high = _flat(g, -3.0), _flat(g, 0.0)
    positive = torch.tensor([[0.5, 3.0, 1.0, 2.0, 4.0, 0.2]])
    return [
        Probe("one token sure", (_sure(g), 1.0, 2), one_draw, {"B": 3, "V": 6}),
        Probe("shares at temperature 0", (low, 0, None), shares),
        Probe("shares with k = 1", (high, 1.0, 1), shares),
        Probe("shares of many draws", (high, 1.0, None), shares),
        Probe("shares at temperature 2.5", (low, 2.5, None), shares),
        Probe("shares at temperature 0.3, k = 99", (high, 0.3, 99), shares),
        Probe("shares with k = 3", (low, 1.0, 3), shares),
        Probe("which tokens are ever drawn, k = 2, temperature 2", (low, 2.0, 2),
              ever_drawn),
        Probe("shares, all logits positive", (positive, 1.0, None), shares),
        Probe("randomness", (high,), randomness),
    ]


def _flat(g: Generator, top: float) -> Tensor:
    """Return logits (2, 6), 0.4 apart, the likeliest last in one row; max is `top`."""
    levels = -0.4 * torch.arange(6) - 0.1 * torch.rand(2, 6, generator=g)
    rows = [levels[0].flip(0), levels[1][torch.randperm(6, generator=g)]]
    return torch.stack(rows) + torch.tensor([[top], [top - 0.5]])


def _sure(g: Generator) -> Tensor:
    """Return logits (3, 6), 50 apart, so that nearly any sampler has no choice."""
    start = int(torch.randint(6, (), generator=g))
    return torch.stack([50.0 * torch.arange(-3, 3).roll(start + i) for i in range(3)])


def writing_probes(g: Generator) -> list[Probe]:
    """Return the battery of `generate`: short, beyond the window, edge cases."""
    def ids(b: int, t: int, v: int) -> Tensor:
        return torch.randint(v, (b, t), generator=g)

    return [
        Probe("two rows", (ToyModel(29, 16, g), ids(2, 3, 29), 4, 16)),
        Probe("growing past the window", (ToyModel(31, 6, g), ids(3, 4, 31), 7, 6)),
        Probe("a prompt longer than the window",
              (ToyModel(23, 5, g), ids(2, 8, 23), 3, 5)),
        Probe("no new token", (ToyModel(23, 5, g), ids(2, 3, 23), 0, 5)),
        Probe("one token", (ToyModel(37, 12, g), ids(1, 1, 37), 5, 12)),
        Probe("how the model is used", (ToyModel(29, 16, g), ids(2, 3, 29), 2, 16),
              manners),
        Probe("the mode afterwards, of a model that came in training mode",
              (ToyModel(29, 16, g), ids(2, 3, 29), 2, 16), mode_afterwards),
        Probe("the mode afterwards, of a model that came in evaluation mode",
              (ToyModel(29, 16, g).eval(), ids(2, 3, 29), 2, 16), mode_afterwards),
    ]


# --- what can be read out when nothing matches ----------------------------------------


def read_out(look: Look, g: Generator) -> list[Clue]:
    """Return what the odds show: sums, kept tokens, the effective temperature."""
    logits, found = _rows(g, 2, 6, -5.0), []
    plain, hot, cut, zero = (
        _numbers(look(Probe(name, (logits, *settings))).value, logits)
        for name, *settings in (("T = 1", 1.0, None), ("T = 2", 2.0, None),
                                ("k = 2", 1.0, 2), ("T = 0", 0, None)))
    for text, p in (("", plain), (" at temperature 2", hot), (" with k = 2", cut),
                    (" at temperature 0", zero)):
        if p is None:
            continue
        if not p.isfinite().all():
            found.append(Clue(f"nan{text}", f"there is nan or infinity{text}"))
        elif not p.sum(-1).allclose(torch.ones(2).double(), atol=1e-4):
            sums = ", ".join(f"{value:.3g}" for value in p.sum(-1).tolist())
            found.append(Clue(f"sum{text}", "the odds of a row do not add up to 1"
                              f"{text}: they give {sums}"))
    return (found + _kept_clue(cut, logits) + _slope(plain, logits, 1)
            + _slope(hot, logits, 2))[:3]


def _numbers(value: object, logits: Tensor) -> Tensor | None:
    """Return a result of the logits' shape in double precision; None for others."""
    if not isinstance(value, Tensor) or value.shape != logits.shape:
        return None
    return None if value.is_complex() else value.double()


def _kept_clue(p: Tensor | None, logits: Tensor) -> list[Clue]:
    """Return how many tokens have odds with k = 2, and whether they are the best."""
    if p is None or not p.isfinite().all():
        return []
    kept = [int(n) for n in (p.abs() > 1e-7).sum(-1)]
    if kept != [2, 2]:
        return [Clue("kept", f"with k = 2, {kept[0]} tokens of the first row and "
                     f"{kept[1]} of the second have odds above 0, expected 2 and 2")]
    if not (p.gather(-1, logits.topk(2).indices) > 0).all():
        return [Clue("others", "with k = 2, two tokens are kept, but not the two "
                     "likeliest")]
    return []


def _slope(p: Tensor | None, logits: Tensor, temperature: float) -> list[Clue]:
    """Regress the logs of the odds on the logits: the slope is 1/temperature."""
    if p is None or not (p > 1e-12).all() or not p.isfinite().all():
        return []
    logs, x = (part - part.mean(-1, keepdim=True)
               for part in (p.log(), logits.double()))
    slope = ((logs * x).sum() / (x * x).sum()).item()
    if (logs - slope * x).abs().max() > 0.01:
        return [Clue("no softmax", f"at temperature {temperature} the logs of your "
                     "odds do not follow the logits: they are no softmax of them")]
    if abs(slope - 1 / temperature) > 1e-3:
        return [Clue(f"slope {temperature}", "the logs of your odds are "
                     f"{slope:.3g} times the logits at temperature {temperature}, "
                     f"expected {1 / temperature:.3g} times")]
    return []


def sampling_read_out(look: Look, g: Generator) -> list[Clue]:
    """Return what many draws show: range, forbidden tokens, temperature, seeds."""
    logits, found = _flat(g, -2.0), []
    plain, cut = (
        _numbers(look(Probe(name, (logits, 1.0, top_k), shares)).value, logits)
        for name, top_k in (("many", None), ("k = 2", 2)))
    facts = look(Probe("randomness", (logits,), randomness)).value
    found += _kept_clue(cut, logits)
    if plain is not None:
        off = (plain - logits.softmax(-1)).abs().max().item()
        if off > 0.09:
            found.append(Clue("shares", "in many draws at temperature 1 a token's "
                              f"share is off by {off:.2f} from its odds"))
        best = plain.gather(-1, logits.argmax(-1, keepdim=True)).min()
        if best > 0.999:
            found.append(Clue("always", "all draws give the likeliest token"))
    if isinstance(facts, dict):
        found += [Clue(f"not {name}", f"this does not hold: {name}")
                  for name, holds in facts.items() if not holds]
    return found[:3]


def writing_read_out(look: Look, g: Generator) -> list[Clue]:
    """Return what the toy model noted: lengths, and which tokens decide."""
    model, ids = ToyModel(29, 6, g), torch.randint(29, (2, 4), generator=g)
    found = []
    lengths = look(Probe("lengths", (model, ids, 4, 6), lengths_seen)).value
    if isinstance(lengths, list) and lengths != [4, 5, 6, 6]:
        listed = ", ".join(map(str, lengths[:8])) or "nothing"
        found.append(Clue("lengths", "for 4 tokens after a prompt of 4, with a window "
                          f"of 6, your model was given {listed} tokens, expected "
                          "4, 5, 6, 6"))
    out = look(Probe("ids", (model, ids, 4, 6))).value
    if not isinstance(out, Tensor) or out.dim() != 2 or len(out) != 2:
        return found
    if out.size(1) < 8 or not torch.equal(out[:, :4], ids):
        found.append(Clue("prompt", f"from a prompt of 4 and 4 new tokens came "
                          f"{tuple(out.shape)}; the first 4 should be the prompt"))
    else:
        right = write(model, ids, 4, 6)
        agree = (out[:, :8] == right).all(0).long().cumprod(0).sum().item()
        if agree < 8:
            found.append(Clue(f"from {agree}", f"your new tokens are right up to number"
                              f" {agree - 4} and differ from there"))
    return found


# --- mistakes -------------------------------------------------------------------------

_Q_T = "What should happen to the odds as the temperature goes to 0? And to infinity?"
_Q_K = "With k = 1, which tokens may be drawn?"
_W_T = "look at the line with the temperature"
_W_K = "look at the line with the k-th largest logit"
_F_K = "logits.topk(min(top_k, logits.size(-1))).values[:, -1:] is each row's limit"

TEMPERATURE = (
    Mistake("G2", "logits multiplied by the temperature",
            "a temperature of 0.5 flattens the odds, where it should sharpen them",
            _Q_T, _W_T, "logits / temperature", {"temper": "times"}, mark="S"),
    Mistake("G3", "a temperature without effect: never used, or the odds (not the "
            "logits) divided by it and shared out again",
            "the odds are those of temperature 1 at every temperature", _Q_T, _W_T,
            "Divide the logits, before the softmax", {"temper": "none"}, mark="R"),
    Mistake("G4", "temperature 0 divides by 0",
            "at temperature 0 there is nan: 0/0, or inf - inf",
            "Which token should temperature 0 choose?",
            "Which line is reached with a temperature of 0?",
            "If temperature == 0, put all on logits.argmax(-1)", {"zero": "divide"},
            mark="S"),
    Mistake("G4z", "temperature 0 divides by 0 (1 / temperature)",
            "ZeroDivisionError at temperature 0",
            "Which token should temperature 0 choose?",
            "Which line is reached with a temperature of 0?",
            "If temperature == 0, put all on logits.argmax(-1)", {"zero": "crash"},
            mark="S"),
    Mistake("G4o", "temperature 0 treated as temperature 1",
            "at temperature 0 other tokens than the likeliest have odds",
            "Which token should temperature 0 choose?",
            "Which line is reached with a temperature of 0?",
            "If temperature == 0, put all on logits.argmax(-1)", {"zero": "1"},
            mark="R"),
    Mistake("G3f", "the temperature is never used, not even 0: always 1",
            "the result is the same at every temperature", _Q_T, _W_T,
            "Divide the logits by it, and treat 0 on its own",
            {"temper": "none", "zero": "1"}),
)
TOP_K = (
    Mistake("G5", "forbidden tokens filled with 0 (or -1e-10), not minus infinity",
            "where all logits are negative, the forbidden tokens become the likeliest",
            "Which logit gets the odds 0 from softmax?",
            "Look at the number that is filled in", "-torch.inf", {"fill": 0.0},
            mark="S"),
    Mistake("G6", "one token too many kept (k + 1)",
            "with k = 1 two tokens have odds: it is not greedy", _Q_K, _W_K,
            _F_K + "; number k - 1, counted from 0", {"extra": 1}, mark="S"),
    Mistake("G6l", "one token too few kept (<= or > at the limit)",
            "with k = 1 no token is left: nan, or an error", _Q_K,
            "Compare < and <= at the k-th logit", "Forbidden is what lies below it: <",
            {"extra": -1}, mark="R"),
    Mistake("G7", "the limit of row 0 used for every row",
            "row 0 is right, the other rows keep too many or too few",
            "Do two rows have the same k-th logit?", _W_K,
            _F_K + ": shape (B, 1), not a number", {"threshold": "first"}, mark="R"),
    Mistake("G7m", "one limit for the whole batch: the smallest",
            "rows with high logits keep too many tokens",
            "Do two rows have the same k-th logit?", _W_K,
            _F_K + ": shape (B, 1), not a number", {"threshold": "lowest"}, mark="R"),
    Mistake("G8", "k larger than the vocabulary crashes (topk)",
            "with k = 99 and fewer tokens, topk raises an error",
            "What should k = 99 mean for 5 tokens?", "What is passed to topk?",
            "min(top_k, logits.size(-1))", {"over": "topk"}, mark="R"),
    Mistake("G8i", "k larger than the vocabulary crashes (an index)",
            "with k = 99 and fewer tokens, there is no number k",
            "What should k = 99 mean for 5 tokens?", "Which index is too large?",
            "min(top_k, logits.size(-1))", {"over": "sort"}, mark="R"),
    Mistake("G9", "places among the k best taken for token ids",
            "only the first k ids ever have odds, though the best tokens stand "
            "elsewhere",
            "Topk gives values and indices. Which token is number 0 of the k best?",
            "Look at what becomes of topk's indices",
            "Mask the logits below the k-th, or gather with the indices",
            {"cut": "front"}, mark="R"),
    Mistake("G22", "the k smallest kept",
            "with k = 1 the unlikeliest token has all the odds", _Q_K,
            "Look at the direction of < or of the sort", _F_K, {"smallest": True},
            mark="R"),
    Mistake("G7b", "the k largest logits of the whole batch, not of each row",
            "some rows keep no token at all: nan",
            "Whose logits does a row compete with?", _W_K, _F_K,
            {"threshold": "batch"}),
    Mistake("G7d", "top-k over the batch (dim=0)",
            "each token competes with itself in the other rows",
            "Over which axis do the tokens compete?", "Look at dim in topk", _F_K,
            {"threshold": "column"}),
    Mistake("G23", "top_k never used", "with k = 1 all tokens have odds", _Q_K,
            "Masked_fill returns a new tensor: where does it go?",
            "logits = logits.masked_fill(logits < limit, -torch.inf)", {"cut": "none"},
            mark="R"),
)
_SHARING = (
    Mistake("G15", "always the likeliest token", "the temperature has no effect: all "
            "is on the largest logit", _Q_T, "Look for argmax",
            "argmax is for temperature 0 only", {"how": "likeliest"}, mark="R"),
    Mistake("G16", "softmax over the batch (dim=0)",
            "one row alone gives odds of 1 for every token",
            "For one row, over which axis must the odds add up to 1?",
            "Look at the number given to softmax", ".softmax(-1)", {"axis": 0},
            mark="R"),
)
ODDS = (
    *TEMPERATURE, *TOP_K, *_SHARING,
    Mistake("G3d", "the odds divided by the temperature, not the logits",
            "the rows add up to 1/temperature", _Q_T, _W_T,
            "Divide the logits, before the softmax", {"temper": "odds"}, mark="R"),
    Mistake("G5a", "odds cut after the softmax, and not shared out again",
            "the forbidden tokens have 0, but the rows add up to less than 1",
            "Who gets the shares of the forbidden tokens?",
            "Compare the order: cut, softmax",
            "Cut the logits before the softmax, or divide by the new sum",
            {"cut": "odds"}, mark="R"),
    Mistake("G4r", "temperature 0 puts all on one logit of the whole batch",
            "only one row has a token, the others are 0",
            "Over which axis should the largest logit be found?",
            "Look at argmax: has it an axis?", "logits.argmax(-1, keepdim=True)",
            {"zero": "one row"}),
    Mistake("G4s", "temperature 0 treated as 0.001",
            "two tokens whose logits are nearly equal share the probability",
            "Which token should temperature 0 choose?", "Look for max(temperature, "
                                                        "...)",
            "If temperature == 0, put all on logits.argmax(-1)", {"zero": "small"}),
    Mistake("G16t", "softmax twice", "the probabilities are pulled towards equal ones, "
            "and forbidden tokens get some again",
            "What does softmax make of numbers between 0 and 1?",
            "Count the softmaxes, also inside functions that you call",
            "One softmax is enough", {"how": "twice"}),
    Mistake("G16u", "all kept tokens get the same probability",
            "the logits decide only who is kept", "Which of the kept tokens is the "
                                                  "most "
            "probable?", "What happens between the mask and the division?",
            ".softmax(-1) of the masked logits", {"cut": "even"}),
    Mistake("G7l", "the limit of the last row for all rows",
            "only the last row keeps k tokens",
            "How large is each row's own k-th logit?", "Look for values[-1]", _F_K,
            {"threshold": "last"}),
    Mistake("G5c", "softmax before top-k, and after it once more",
            "the probabilities of the kept tokens are pulled towards equal ones",
            "What does softmax make of numbers between 0 and 1?",
            "Count the softmaxes", "mask the logits, then one softmax",
            {"cut": "between"}),
    Mistake("G5w", "divided by the sum of the whole batch, not of each row",
            "the rows add up to less than 1",
            "What should the probabilities of one row add up to?",
            "Look at sum: has it an axis?", ".sum(-1, keepdim=True)", {"cut": "whole"}),
    Mistake("G23a", "with top_k the temperature is not used",
            "right without top_k, and at temperature 1", _Q_T,
            "Look for a return before the line with the temperature",
            "First mask, then divide by the temperature", {"cut": "alone"}),
    Mistake("G23c", "with a temperature top_k is not used",
            "right without a temperature, and without top_k", _Q_K,
            "Look for a return before the line with top_k",
            "First mask, then divide by the temperature", {"cut": "first"}),
    Mistake("G4i", "temperature 0 gives whole numbers (one_hot without .float())",
            "the values are right, but of another dtype",
            "Which dtype do probabilities have?", "Look for one_hot",
            "one_hot(...).to(logits.dtype)", {"zero": "whole numbers"}),
    Mistake("G9s", "the odds of the k best alone: (B, k), not (B, V)",
            "nobody can tell which tokens they belong to",
            "What is the odds of a forbidden token?", "Look at the last line",
            "Keep the shape of the logits", {"cut": "short"}, mark="R"),
    Mistake("G16l", "log_softmax in the place of softmax",
            "all odds are 0 or negative", "Are logs of shares shares?",
            "Look at the function's name", "softmax, not log_softmax", {"how": "log"},
            mark="R"),
    Mistake("G16e", "exp without subtracting the largest logit",
            "nan at large logits: e to the 400 is infinite, and inf/inf is nan",
            "Softmax stays the same if all logits of a row shrink by the same number. "
            "Which number keeps exp finite?", "Look at the exponential",
            "use .softmax(-1), which subtracts the maximum", {"how": "naive"},
            mark="R"),
    Mistake("G21", "changes its input in place (/=, [...] =, a method ending in _)",
            "the caller's logits are not the same after the call",
            "Who else may still need the logits?",
            "Look for /=, [...] = and names ending in _",
            "logits = logits / temperature makes a new tensor", {"in_place": True},
            mark="R"),
)
DRAWS = (
    *TEMPERATURE, *TOP_K, *_SHARING,
    Mistake("G15m", "multinomial on the logits, not on odds",
            "an error where logits are negative; where all are positive, tokens come "
            "in proportion to their logits",
            "Multinomial takes odds. What turns logits into odds?",
            "What is passed to multinomial?", "multinomial(logits.softmax(-1), 1)",
            {"how": "logits"}, mark="R"),
    Mistake("G17", "one draw for all rows",
            "all rows of a batch get the same token",
            "Whose odds does row 1 draw from?", "What is passed to multinomial?",
            "multinomial(probabilities, 1) draws for each row", {"rows": "one"},
            mark="R"),
    Mistake("G18", "the generator is not used",
            "the shares are right, but equal seeds do not give equal ids",
            "How would somebody repeat your draw?", "What is passed to multinomial?",
            "multinomial(probabilities, 1, generator=generator)",
            {"seeded": "global"}, mark="R"),
    Mistake("G19", "seeds itself at each call",
            "every call draws the same: the generator decides nothing",
            "What would a text look like in which every draw is the same?",
            "Look for manual_seed", "Leave the seed to the caller",
            {"seeded": "fixed"}, mark="R"),
    Mistake("G19c", "each call starts a new generator with the same seed",
            "every call of one generator draws the same",
            "What would a text look like in which every draw is the same?",
            "Look for Generator() inside your function",
            "Pass on the generator that came: generator=generator",
            {"seeded": "copied"}),
    Mistake("G3t", "the temperature is applied twice",
            "a temperature of 0.5 acts like 0.25", _Q_T,
            "Count the divisions, also inside functions that you call",
            "Divide once", {"temper": "twice"}),
    Mistake("G9r", "places in a sorted list taken for token ids",
            "small ids come most often, whatever their logits",
            "Sort gives values and indices. Which token is number 0 of the sorted "
            "ones?",
            "What becomes of the indices?",
            "Don't sort, or gather the ids with the indices", {"ranked": True}),
    Mistake("G20", "returns (B,), not (B, 1)",
            "the ids are right, but can't be appended to (B, T)",
            "Which shape can be joined to (B, T) along the tokens?",
            "Look at the last line", "Keep the axis: no [:, 0], no squeeze",
            {"returned": "flat"}, mark="R"),
    Mistake("G20p", "returns the odds of the token, not its id",
            "the result holds numbers between 0 and 1",
            "What does the next call of the model need?", "Look at the last line",
            "Return what multinomial gives", {"returned": "odds"}, mark="R"),
)

_Q_LAST = "The model answers at every position. Which answer is about the next token?"
_Q_CROP = "A text of 9 tokens, a window of 5: which 5 tell most about the next one?"
_Q_RETURN = "Who still needs the prompt: the caller of your function, or your loop?"

WRITING = (
    Mistake("G1", "reads the first position, not the last",
            "the end of the prompt does not matter", _Q_LAST,
            "Look at the index into the logits", "logits[:, -1]", {"read": "first"},
            mark="R"),
    Mistake("G1m", "takes the mean over all positions",
            "the answers about old tokens count too", _Q_LAST,
            "Look for mean or sum", "logits[:, -1]", {"read": "mean"}, mark="R"),
    Mistake("G1b", "reads the position before the last", "the last token is ignored",
            _Q_LAST, "Look at the index into the logits", "logits[:, -1]",
            {"read": "before"}, mark="R"),
    Mistake("G10", "crops to the oldest tokens",
            "past the window, new tokens no longer change what comes: one repeats",
            _Q_CROP, "Look at the slice that crops", "ids[:, -max_seq_length:]",
            {"crop": "oldest"}, mark="R"),
    Mistake("G10s", "the window one token too short",
            "right until the window is full, then its oldest token is missing",
            _Q_CROP, "Look at the slice that crops", "ids[:, -max_seq_length:]",
            {"limit": -1}, mark="R"),
    Mistake("G10r", "crops the text itself, not only what the model sees",
            "past the window, the start of the prompt is gone from the result",
            _Q_RETURN, "Which name does the cropped tensor get?",
            "window = ids[:, -max_seq_length:]; append to ids", {"returned": "window"},
            mark="R"),
    Mistake("G11", "no crop", "an IndexError as soon as the text outgrows the window",
            "How many tokens does the model take at most?",
            "What is passed to the model?", "model(ids[:, -max_seq_length:])",
            {"crop": "none"}, mark="S"),
    Mistake("G11f", "stops when the window is full",
            "too few new tokens", "May a text be longer than the window?",
            "Look at the condition of the loop", "for _ in range(max_new_tokens)",
            {"until": "full"}, mark="R"),
    Mistake("G12", "no eval(): dropout stays on",
            "the model forgets half of what it read (model.training = False alone "
            "doesn't reach its parts)",
            "When should dropout act?", "Look for eval", "model.eval() before the loop",
            {"mode": "as it was"}, mark="S"),
    Mistake("G12s", "the model stays in evaluation mode afterwards",
            "a training that goes on would do so without dropout",
            "In which mode did the model come, and in which does it leave?",
            "What is the last thing done to the model?",
            "was_training = model.training first, model.train(was_training) last",
            {"after": "evaluation"}),
    Mistake("G12t", "the model is in training mode afterwards, even if it came in "
            "evaluation mode", "whoever uses it next gets dropout",
            "In which mode did the model come, and in which does it leave?",
            "Look for model.train()",
            "was_training = model.training first, model.train(was_training) last",
            {"after": "training"}),
    Mistake("G13", "no no_grad: gradients are recorded",
            "the ids are right, but each step keeps memory for a backward pass that "
            "never comes",
            "Who will call backward?", "Look for no_grad",
            "With torch.no_grad(): around the loop", {"gradients": True}, mark="R"),
    Mistake("G14", "returns the new tokens only",
            "the prompt is missing from the result", _Q_RETURN,
            "Look at the last line", "Return ids, prompt and all", {"returned": "new"},
            mark="R"),
    Mistake("G14l", "returns the last token only",
            "the result is (B, 1)", _Q_RETURN,
            "Look at the last line", "Return ids, prompt and all", {"returned": "last"},
            mark="R"),
    Mistake("G14f", "new tokens put in front of the text",
            "the prompt stands at the end of the result",
            "At which end does a text grow?", "Look at the order in cat",
            "torch.cat([ids, new], dim=1)", {"joined": "front"}, mark="R"),
    Mistake("G15", "draws, where greedy was asked for",
            "two calls give different texts", "Which token is the likeliest?",
            "Look for multinomial", "logits[:, -1].argmax(-1, keepdim=True)",
            function=partial(write, pick="draw"), mark="R"),
    Mistake("G22", "the unlikeliest token (argmin)",
            "every new token is the one that the model thinks impossible",
            "Which token is the likeliest?", "Look for argmin, or a sort",
            "argmax", {"pick": "argmin"}, mark="R"),
    Mistake("G24", "the model sees the last token only",
            "right after a prompt of one token, wrong from the second step on",
            "What does this model know without its text?",
            "What is passed to the model?", "model(ids[:, -max_seq_length:])",
            {"fed": "last"}, mark="R"),
    Mistake("G24n", "after the prompt the model sees each new token alone",
            "the first new token is right; for the next ones the text is forgotten",
            "Does this model remember what it read in the step before?",
            "What is passed to the model in the second step?",
            "model(ids[:, -max_seq_length:])", {"fed": "new"}),
    Mistake("G22s", "the second most probable token", "every new token is the "
                                                      "runner-up",
            "Which place has the largest logit in topk, counted from 0?",
            "Look at the index into topk or sort", "argmax", {"pick": "second"}),
    Mistake("G25", "the model sees the prompt at every step",
            "every new token is the same: the new ones are never read",
            "Which tensor grows in your loop?", "What is passed to the model?",
            "model(ids[:, -max_seq_length:])", {"fed": "prompt"}, mark="R"),
    Mistake("G26", "row 0's token appended to every row",
            "row 0 is right, the others continue row 0's text",
            "Does each row choose for itself?", "Look at the axis of argmax",
            "argmax(-1, keepdim=True)", {"chosen": "first"}, mark="R"),
    Mistake("G27", "one token too many", "T + max_new_tokens + 1 tokens come back",
            "With 0 new tokens, what should come back?", "Count the loop's steps",
            "for _ in range(max_new_tokens)", {"more": 1}, mark="R"),
    Mistake("G27f", "one token too few", "T + max_new_tokens - 1 tokens come back",
            "With 1 new token, what should come back?", "Count the loop's steps",
            "for _ in range(max_new_tokens)", {"more": -1}, mark="R"),
    Mistake("G27t", "max_new_tokens taken for the whole length",
            "too few tokens: the prompt was counted as new",
            "Does a longer prompt leave less to write?",
            "Look at the condition of the loop", "for _ in range(max_new_tokens)",
            {"until": "total"}, mark="R"),
)

next_probabilities = Exercise(
    "next_probabilities", "06",
    "next_probabilities(logits, temperature, top_k) -> (B, V)", odds, probes, ODDS,
    read_out, (Robust("tokens tied with the k-th do not all stay: their order in the "
                      "list decides", _tied),),
    {"logits": "B V", "": "B V"},
    hints=("Three steps: cut what is below the k-th logit of its row, divide by the "
           "temperature, softmax. Temperature 0 is a case of its own.",
           "Print your odds for the logits 2, 1, 0, -1 with k = 2: what do they add up "
           "to?", "logits.masked_fill(logits < limit, -torch.inf), then softmax(-1)"),
    show="k = 3, all logits negative", sums=True, solution="""\
def next_probabilities(logits, temperature, top_k):
    if temperature == 0:
        best = logits.argmax(-1, keepdim=True)
        return torch.zeros_like(logits).scatter(-1, best, 1.0)
    if top_k is not None:
        limit = logits.topk(min(top_k, logits.size(-1))).values[:, -1:]
        logits = logits.masked_fill(logits < limit, -torch.inf)
    return (logits / temperature).softmax(-1)""")

next_probabilities_to_repair = next_probabilities.to_repair(
    "next_probabilities_to_repair", "G6")

sample_next = Exercise(
    "sample_next", "06",
    "sample_next(logits, temperature, top_k, generator) -> (B, 1)", draw,
    sampling_probes, DRAWS, sampling_read_out,
    axes={"logits": "B V", "": "B 1"},
    crashes=((r"probability tensor|inf.*nan.*< ?0",
              "multinomial takes odds (not negative, not nan): which softmax made "
              "them?"),),
    hints=("The odds are exact, and you have them. Only one line is random.",
           "Draw 1,000 times from the odds 1/2, 1/4, 1/4 and count.",
           "torch.multinomial(next_probabilities(logits, temperature, top_k), 1, "
           "generator=generator)"),
    atol=0.09, rtol=0.0, show="shares with k = 3", solution="""\
def sample_next(logits, temperature, top_k, generator):
    probabilities = next_probabilities(logits, temperature, top_k)
    return torch.multinomial(probabilities, 1, generator=generator)""")

generate = Exercise(
    "generate", "06", "generate(model, input_ids, max_new_tokens, max_seq_length) -> "
    "(B, T + max_new_tokens), greedy", write, writing_probes, WRITING,
    writing_read_out, axes={"input_ids": "B T", "": "B T"},
    crashes=(
        (r"index out of range in self", "the model was given more tokens than its "
         "window holds: max_seq_length"),
        (r"[Ss]izes of tensors must match|Tensors must have same number of dimensions",
         "cat joins along one axis, dim=1 here; the new token must be (B, 1)"),
        (r"cannot be converted to Scalar|only one element",
         ".item() takes one number: a batch has a token for each row")),
    hints=("Ask the model, take the last position, append the likeliest, repeat.",
           "Print the shape of each tensor in your loop for B = 2.",
           "logits = model(ids[:, -max_seq_length:]); new = logits[:, -1].argmax(-1, "
           "keepdim=True); ids = torch.cat([ids, new], dim=1)"),
    show="growing past the window", solution="""\
def generate(model, input_ids, max_new_tokens, max_seq_length):
    was_training = model.training
    model.eval()
    ids = input_ids
    with torch.no_grad():
        for _ in range(max_new_tokens):
            logits = model(ids[:, -max_seq_length:])
            new = logits[:, -1].argmax(-1, keepdim=True)
            ids = torch.cat([ids, new], dim=1)
    model.train(was_training)
    return ids""")
