"""Attention, its mask, and what goes wrong with them (catalogue: A and M)."""

import math
from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from gpt2_lesson.checks.clues import Clue
from gpt2_lesson.checks.engine import Exercise, Look, Mistake, Robust
from gpt2_lesson.checks.probing import Probe, gradients
from gpt2_lesson.checks.stand_ins.drives import (
    softened,
    too_large_in_half,
    widened_in_half,
)


def _scale(name: str, q: Tensor, v: Tensor) -> float:
    """Return the factor of the scores: 1/sqrt(d), or what a mistake makes of it."""
    sizes = {"d": q.size(-1), "T": q.size(-2), "dv": v.size(-1), "B": q.size(0)}
    return {"none": 1.0, "1/d": 1 / sizes["d"], "times": math.sqrt(sizes["d"]),
            "1/T": 1 / sizes["T"], "fourth": sizes["d"] ** -0.25,
            "minus": -1 / math.sqrt(sizes["d"]),
            **{key: 1 / math.sqrt(size) for key, size in sizes.items()}}[name]


def _masked(scores: Tensor, mask: str, fill: float) -> Tensor:
    """Return the scores with the future hidden, or what a mistake hides."""
    past = torch.ones(scores.shape[-2:]).tril().bool()           # True = may look
    allowed = {"right": past, "upside": past.T, "inverted": ~past,
               "strict": past & ~torch.eye(len(past)).bool(),
               "one more": torch.ones_like(past).tril(1),
               "after": torch.ones_like(past)}.get(mask, torch.ones_like(past))
    if mask == "added":
        return scores + past
    if mask == "nan":
        return scores + ~past * -torch.inf                       # 0 * inf is nan
    if mask == "first":                                          # one example only
        rest = torch.arange(scores.size(0))[:, None, None] > 0
        return scores.masked_fill(~(past | rest), fill)
    return scores.masked_fill(~allowed, fill)


def _normalised(scores: Tensor, how: str, axis: int) -> Tensor:
    """Return weights from scores: the softmax, or what stands in for it."""
    if how == "naive":
        powers = scores.exp()
        return powers / powers.sum(axis, keepdim=True)
    if how == "twice":
        return scores.softmax(axis).softmax(axis)
    if how == "table":
        return scores.flatten(-2).softmax(-1).view_as(scores)
    if how == "over all":
        powers = (scores - scores.amax(-1, keepdim=True)).exp()
        return powers / powers.sum()
    if how == "hard":
        return torch.zeros_like(scores).scatter(-1, scores.argmax(-1, True), 1.0)
    return {"exp": scores.exp,
            "softmax": lambda: scores.softmax(axis), "none": lambda: scores,
            "log": lambda: scores.log_softmax(axis), "sigmoid": scores.sigmoid,
            "sum": lambda: scores / scores.sum(axis, keepdim=True)}[how]()


def attend(q: Tensor, k: Tensor, v: Tensor, *, mask: str = "none", scale: str = "d",
           how: str = "softmax", axis: int = -1, fill: float | None = -torch.inf,
           match: str = "q k", late: bool = False, turned: bool = False,
           averaged: str = "v", in_place: str = "", dropout: float = 0.0,
           detached: bool = False, compared: str = "products", added: bool = False,
           again: str = "", moved: float = 0.0) -> Tensor:
    """Return the average of v (B, T, dv) for queries q and keys k (B, T, d)."""
    if in_place:
        with torch.set_grad_enabled(in_place == "plain"):        # plain: a leaf refuses
            q /= math.sqrt(q.size(-1))
        scale = "none"
    one, other = {"q k": (q, k), "k q": (k, q), "q q": (q, q), "k k": (k, k)}[match]
    if compared == "cosines":
        one, other, scale = (*(F.normalize(part, dim=-1) for part in (one, other)),
                             "none")
    scores = one @ other.transpose(-2, -1)                       # (B, T, T)
    if compared == "distances":
        scores = -torch.cdist(one, other)
    if not late:
        scores = scores * _scale(scale, q, v)
    if moved:                                                    # adds, not fills
        scores = scores + _masked(torch.zeros_like(scores), mask, moved)
    elif mask != "none":
        scores = _masked(scores, mask, scores.min().item() if fill is None else fill)
    weights = _normalised(scores, how, axis)
    if mask == "after":
        weights = weights.tril()
    if late:
        weights = weights * _scale(scale, q, v)
    if again:
        weights = weights * _scale(again, q, v)
    weights = torch.dropout(weights, dropout, train=True)
    weights = weights.transpose(-2, -1) if turned else weights
    weights = weights.detach() if detached else weights
    mixed = {"v": lambda: weights @ v, "k": lambda: weights @ k,
             "q": lambda: weights @ q, "w": lambda: weights}[averaged]()
    return v + mixed if added else mixed


def mask_only(scores: Tensor, *, mask: str = "right", fill: float = -torch.inf,
              in_place: bool = False, shares: bool = False) -> Tensor:
    """Return scores (B, T, T) with the future hidden, ready for softmax(-1)."""
    if shares:
        return _masked(scores, mask, fill).softmax(-1)
    if in_place:
        return scores.copy_(_masked(scores, mask, fill))
    return _masked(scores, mask, fill)


# --- probes ---------------------------------------------------------------------------


def _qkv(g: Generator, b: int, t: int, d: int, dv: int, size: float = 1.0) -> tuple:
    q, k = size * torch.randn(2, b, t, d, generator=g)
    return q, k, torch.randn(b, t, dv, generator=g)


def _identity(g: Generator) -> Probe:
    q, k, _ = _qkv(g, 2, 6, 9, 1, 1.2)
    return Probe("v is the identity: the result is the weights",
                 (q, k, torch.eye(6).repeat(2, 1, 1)), sizes={"B": 2, "T": 6, "d": 9})


def _large(g: Generator, key: int) -> Probe:
    """Return a probe with scores near 10,000, the largest at one key."""
    q, k, v = _qkv(g, 2, 5, 4, 3)
    q, k = torch.ones_like(q) * 100, 10 + 10 * k.sigmoid()
    k[:, key] = 50.0
    return Probe("scores of 10,000", (q, k, v))


def _far_above(g: Generator) -> Probe:
    """Return a probe in which the last key, hidden from most, has scores of 10,000."""
    q, k, v = _qkv(g, 2, 5, 4, 3)
    q, k = torch.ones_like(q) * 100, k / 100
    k[:, -1] = 50.0
    return Probe("hidden scores of 10,000", (q, k, v))


def _far_below(g: Generator) -> Probe:
    """Return a probe with scores of -12,000 to -20,000, the first key's the highest."""
    q, k, v = _qkv(g, 2, 5, 4, 3)
    k = torch.zeros_like(k) - 60 - 10 * torch.arange(5)[:, None]
    return Probe("scores of -12,000", (torch.ones_like(q) * 100, k, v))


def probes(g: Generator) -> list[Probe]:
    """Return the battery: all sizes different, square, special values, gradients."""
    sizes = {"B": 3, "T": 5, "d": 4, "dv": 7}
    q, k, v = _qkv(g, 2, 6, 3, 4)
    return [
        Probe("B, T, d, dv all different", _qkv(g, 3, 5, 4, 7, 1.5), sizes=sizes),
        _identity(g),
        Probe("one example, T = d = dv", _qkv(g, 1, 4, 4, 4, 1.5)),
        Probe("q is 0", (torch.zeros_like(q), k, v)),
        Probe("T = 1", _qkv(g, 2, 1, 3, 4)),
        _large(g, 0),
        Probe("a longer text", _qkv(g, 5, 19, 6, 2, 1.5)),
        Probe("the gradients of q, k and v", _qkv(g, 2, 5, 3, 4), gradients),
    ]


def mask_probes(g: Generator) -> list[Probe]:
    """Return scores to be masked: random, 0, very negative, large, T = 1."""
    scores = 2 * torch.randn(3, 6, 6, generator=g)
    large = 200 * torch.randn(1, 5, 5, generator=g)
    longer = 2 * torch.randn(5, 19, 19, generator=g)
    return [Probe("after softmax, random scores", (scores,), softened,
                  {"B": 3, "T": 6}),
            Probe("after softmax, all scores 0", (torch.zeros(2, 5, 5),), softened),
            Probe("after softmax, scores near -50", (scores - 50,), softened),
            Probe("after softmax, large scores", (large,), softened),
            Probe("after softmax, a longer text", (longer,), softened),
            Probe("after softmax, T = 1", (torch.randn(2, 1, 1, generator=g),),
                  softened)]


# --- what can be read out when nothing matches ----------------------------------------


def read_out(look: Look, g: Generator, causal: bool = False) -> list[Clue]:
    """Return what the weights show: leaks, sums, nan rows, the effective scale."""
    probe = _identity(g)
    q, k, _ = probe.args
    weights = look(probe).value
    if not isinstance(weights, Tensor) or weights.shape != (2, 6, 6):
        return []
    bad = (~weights.isfinite()).any(-1).any(0).nonzero().flatten().tolist()
    if bad:
        return [Clue("nan rows", "with v = identity, 6 tokens: nan or infinity stands "
                     f"in row {', '.join(map(str, bad))} of your weights")]
    found = []
    leak = weights.triu(1).abs().amax().item()
    if causal and leak > 1e-6:
        found.append(Clue("future", "with v = identity your weights show: a token "
                          f"gives up to {leak:.2g} of its attention to later tokens"))
    rows, columns = weights.sum(-1), weights.sum(-2)
    if not rows.allclose(torch.ones_like(rows), atol=1e-4):
        along = (", but the columns do"
                 if columns.allclose(torch.ones_like(rows), atol=1e-4) else "")
        found.append(Clue("row sums", "the rows of your weights do not add up to 1 "
                          f"(they give {span(rows)}){along}"))
    if weights.min() < -1e-6:
        found.append(Clue("negative", f"some weights are negative (down to "
                          f"{weights.min():.3g}): weights of an average can't be"))
    return found + effective_scale(weights, q @ k.transpose(-2, -1), q.size(-1))


def span(values: Tensor) -> str:
    """Return the least and the largest of some numbers; once if they are equal."""
    low, high = (f"{value:.3g}" for value in (values.min(), values.max()))
    return low if low == high else f"{low} to {high}"


def effective_scale(weights: Tensor, scores: Tensor, d: int) -> list[Clue]:
    """Regress the logs of the weights in a row on q.k: the slope is the scale."""
    allowed = (weights[:, -1] > 1e-7).all()
    if not allowed:
        return []
    logs, dots = weights[:, -1].log(), scores[:, -1]             # the last row sees all
    logs, dots = (part - part.mean(-1, keepdim=True) for part in (logs, dots))
    slope = ((logs * dots).sum() / (dots * dots).sum()).item()
    miss = (logs - slope * dots).abs().max().item()
    if miss < 1e-2 and abs(slope - d**-0.5) > 1e-3:
        return [Clue("scale", f"in the last row your effective scale is {slope:.4f} "
                     f"where d = {d}, expected {d**-0.5:.4f} (1/sqrt(d))",
                     idea="By what are the scores divided, how often, and does it "
                          "depend on d alone?")]
    if miss > 1e-2:
        return [Clue("not q.k", "the last row of your weights is not the softmax of a "
                     "multiple of q.k: the logs do not follow the dot products",
                     idea="What stands between q.k and the weights, beside one scale "
                          "and one softmax?")]
    return []


# --- mistakes -------------------------------------------------------------------------

_Q_SCALE = "By how much should q.k shrink so that its spread is 1 for every d?"
_Q_AXIS = "For one query, over which axis must the weights add up to 1?"

ATTENTION = (
    Mistake("A1", "no scale: the scores are not divided by sqrt(d)",
            "the weights are too sharp: the effective scale is 1, expected 1/sqrt(d)",
            _Q_SCALE, "look at the line that makes the scores",
            "scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))",
            {"scale": "none"}),
    Mistake("A2", "scores divided by d, not by its root (or by the root twice)",
            "the weights are too flat: the effective scale is 1/d", _Q_SCALE,
            "count how often, and by what, the scores are divided",
            "divide once, by math.sqrt(q.size(-1))", {"scale": "1/d"}),
    Mistake("A3", "scores multiplied by sqrt(d)",
            "the weights are far too sharp: the effective scale is sqrt(d)", _Q_SCALE,
            "look at the operator before the root", "divide by math.sqrt(q.size(-1))",
            {"scale": "times"}),
    Mistake("A2f", "scores divided by the root of the root of d",
            "the weights are too sharp: the effective scale is d ** -0.25", _Q_SCALE,
            "look at the power, or count the roots", "divide by math.sqrt(q.size(-1))",
            {"scale": "fourth"}),
    Mistake("A2m", "the scores with the wrong sign",
            "the key that fits best gets the least", "Which key should get the largest "
            "weight?", "look for a minus", "q @ k.transpose(-2, -1) / math.sqrt(d)",
            {"scale": "minus"}),
    Mistake("A22", "every key weighs the same: the mean of the values",
            "changing q or k changes nothing", "How does a query say what it looks "
                                               "for?",
            "what are q and k used for?", "softmax of q @ k.transpose(-2, -1)",
            function=lambda q, k, v: v.mean(-2, keepdim=True).expand_as(v)),
    Mistake("A4", "scores divided by sqrt(T), the number of tokens",
            "the scale changes with the length of the text",
            "Which axis does the dot product add up over?",
            "which size stands under the root?", "q.size(-1), not q.size(-2)",
            {"scale": "T"}),
    Mistake("A5", "scores divided by sqrt(dv), the width of the values",
            "the scale is right only where d = dv", "Whose channels does q.k add up?",
            "which tensor's size stands under the root?", "q.size(-1), not v.size(-1)",
            {"scale": "dv"}),
    Mistake("A6", "scores divided by sqrt(B), the number of examples",
            "one example alone gives another result than in a batch",
            "May the number of examples change the result of one?",
            "which axis does the size under the root belong to?",
            "q.size(-1), not q.size(0)", {"scale": "B"}),
    Mistake("A7", "scaled after the softmax, not before",
            "the rows of the weights add up to 1/sqrt(d), not to 1",
            "What must the weights of one query add up to?",
            "compare the order: score, scale, softmax", "divide before .softmax(-1)",
            {"late": True}),
    Mistake("A7t", "divided by T after the softmax: averaged twice",
            "the rows of the weights add up to 1/T, not to 1",
            "What must the weights of one query add up to?",
            "look for a mean, or for / T", "weights @ v",
            {"again": "1/T"}),
    Mistake("A7v", "divided by sqrt(dv) after the softmax, as well",
            "the rows of the weights add up to 1/sqrt(dv), not to 1",
            "What must the weights of one query add up to?",
            "count the divisions by a root", "weights @ v", {"again": "dv"}),
    Mistake("A8", "softmax over the queries (dim=-2, here the same as dim=1)",
            "rows do not add to 1, but columns do: the softmax runs over the wrong "
            "axis",
            _Q_AXIS, "look at the number given to softmax", ".softmax(-1)",
            {"axis": -2}),
    Mistake("A9", "softmax over the batch (dim=0)",
            "with one example alone every weight is 1", _Q_AXIS,
            "look at the number given to softmax", ".softmax(-1)", {"axis": 0}),
    Mistake("A11", "no softmax at all", "some weights are negative, and with q = 0 all "
            "are 0", "How does any number become a positive share?",
            "what stands between the scores and the product with v?",
            "weights = scores.softmax(-1)", {"how": "none"}),
    Mistake("A11e", "the exponentials, not divided by their sum",
            "rows add up to anything, and to infinity at large scores",
            "What must the weights of one query add up to?", "look for exp",
            "weights = scores.softmax(-1)", {"how": "exp"}),
    Mistake("A12", "log_softmax in the place of softmax",
            "all weights are 0 or negative",
            "Are logs of shares shares?", "look at the function's name",
            "softmax, not log_softmax", {"how": "log"}),
    Mistake("A9t", "one softmax over the whole table of an example",
            "all weights of an example together add up to 1, so the rows don't",
            _Q_AXIS, "look for flatten or view before softmax", ".softmax(-1)",
            {"how": "table"}),
    Mistake("A9s", "divided by the sum of everything (sum without an axis)",
            "all weights of the batch together add up to 1, so the rows don't",
            _Q_AXIS, "look at sum: has it an axis?", ".sum(-1, keepdim=True)",
            {"how": "over all"}),
    Mistake("A15h", "the largest score takes all (argmax)",
            "every weight is 0 or 1, and no gradient reaches q and k",
            "How much should the second best key count?", "look for argmax or max",
            "weights = scores.softmax(-1)", {"how": "hard"}),
    Mistake("A13", "scores divided by their sum, without exponentials",
            "weights change their sign and blow up where the scores add up to nearly 0",
            "What makes a score positive before it is divided by the sum?",
            "what happens to a negative score?", "weights = scores.softmax(-1)",
            {"how": "sum"}),
    Mistake("A14", "sigmoid in the place of softmax",
            "rows add up to anything; with q = 0 each weight is 0.5",
            "Sigmoid looks at one score at a time. Who makes a row add up to 1?",
            "look at the function between scores and weights",
            "weights = scores.softmax(-1)", {"how": "sigmoid"}),
    Mistake("A15", "softmax twice",
            "the rows add up to 1, but are pulled towards equal shares",
            "What does softmax do to numbers between 0 and 1?",
            "count the softmaxes, also inside functions that you call",
            "one softmax is enough", {"how": "twice"}),
    Mistake("A16", "k @ q.T: queries and keys exchanged",
            "row i holds the matches of key i, not of query i",
            "Whose matches stand in row i?", "look at the order of the product",
            "q @ k.transpose(-2, -1)", {"match": "k q"}),
    Mistake("A17", "q @ q.T: the keys are never used",
            "changing k changes nothing, and no gradient reaches it",
            "Which two things are compared?", "look at both sides of the product",
            "q @ k.transpose(-2, -1)", {"match": "q q"}),
    Mistake("A17k", "k @ k.T: the queries are never used",
            "changing q changes nothing, and no gradient reaches it",
            "Which two things are compared?", "look at both sides of the product",
            "q @ k.transpose(-2, -1)", {"match": "k k"}),
    Mistake("A18", "weights transposed before the product with v",
            "query 0 gets the shares that others give to token 0",
            "Row i of the weights belongs to query i. Which rows meet which values?",
            "look at the last product", "weights @ v", {"turned": True}),
    Mistake("A19", "averages the keys, not the values",
            "the result has the keys' width, and v is never used",
            "What does a token hand over: its key or its value?",
            "look at the last product", "weights @ v", {"averaged": "k"}),
    Mistake("A19q", "averages the queries, not the values",
            "the result has the queries' width, and v is never used",
            "What does a token hand over: its query or its value?",
            "look at the last product", "weights @ v", {"averaged": "q"}),
    Mistake("A23", "v is added to the result: that is the residual's part",
            "yours minus the expected result is v",
            "Who adds the result to the residual stream: attention or the block?",
            "look at the last line", "return weights @ v", {"added": True}),
    Mistake("A24", "q and k normalised first: cosines for dot products",
            "the length of a query and of a key makes no difference",
            "May a long key get more than a short one?", "look for normalize or norm",
            "q @ k.transpose(-2, -1) / math.sqrt(d)", {"compared": "cosines"}),
    Mistake("A24d", "distances for dot products",
            "the nearest key gets most, not the one with the largest dot product",
            "Which number compares a query and a key here?", "look for cdist or norm",
            "q @ k.transpose(-2, -1) / math.sqrt(d)", {"compared": "distances"}),
    Mistake("A19w", "returns the weights, not the average of the values",
            "the result is (B, T, T), and v is never used",
            "What are the shares for?", "look at the last line", "return weights @ v",
            {"averaged": "w"}),
    Mistake("A20", "exp without subtracting the largest score",
            "nan at large scores: e to the 10,000 is infinite, and inf/inf is nan",
            "Softmax stays the same if every score of a row shrinks by the same "
            "number. Which number keeps exp finite?", "look at the exponential",
            "use .softmax(-1), which subtracts the maximum", {"how": "naive"}),
    Mistake("A21", "changes its input in place (/=, *=, a method ending in _)",
            "the caller's q is not the same after the call",
            "Who else may still need q?", "look for /=, *=, += and names ending in _",
            "q = q / math.sqrt(d) makes a new tensor", {"in_place": "plain"}),
    Mistake("A21g", "changes its input in place, unseen by autograd (no_grad, .data)",
            "the caller's q is not the same after the call, and its gradient is wrong",
            "Who else may still need q?", "look for no_grad and .data",
            "q = q / math.sqrt(d) makes a new tensor", {"in_place": "no grad"}),
    Mistake("A21d", "dropout that is always on", "two calls give different results",
            "When should dropout act?", "look for dropout",
            "leave it out here; a module has self.training", {"dropout": 0.3}),
    Mistake("A21n", "no gradient passes through the weights (detach, no_grad, .data)",
            "the values are right, but q and k get no gradient and would never learn",
            "How would training reach q and k?", "look for detach, no_grad, .data",
            "leave the weights attached", {"detached": True}),
)

_UNASKED = Mistake(
    "M0", "a causal mask, which nobody asked for here",
    "row 0 of the weights is one-hot: later tokens are hidden",
    "May a token attend to later ones in this exercise?",
    "look for tril, triu or is_causal", "leave the mask out", {"mask": "right"})

_BEHIND_A_MASK = {
    "A9": "nan: a hidden score is -inf in every example, and a softmax over nothing "
          "but -inf is 0/0",
    "A11": "nan or infinity: the hidden scores are still -inf when they meet the "
           "values",
    "A12": "nan or infinity: the logs of the hidden shares are -inf",
    "A13": "nan in every row but the last: the sum of the scores is -inf, and "
           "-inf / -inf is nan",
    "A14": "rows add up to anything; with q = 0 each weight that is not hidden is 0.5",
}
CAUSAL = tuple(replace(one, why=_BEHIND_A_MASK.get(one.id, one.why))
               for one in ATTENTION)

_Q_MASK = "Which keys may query 0 look at? And the last query?"

MASK = (
    Mistake("M1", "no mask (or the result of masked_fill is thrown away)",
            "earlier tokens see later ones: row 0 is not one-hot", _Q_MASK,
            "masked_fill returns a new tensor: where does it go?",
            "scores = scores.masked_fill(~allowed, -torch.inf)", {"mask": "off"}),
    Mistake("M2", "the mask upside down: the past is hidden, the future shown",
            "the last row is one-hot and row 0 is spread out", _Q_MASK,
            "tril keeps the lower triangle, triu the upper one",
            "allowed = torch.ones(T, T).tril().bool()", {"mask": "upside"}),
    Mistake("M3", "the mask inverted: what may be seen is hidden",
            "only the last row is nan: it has nothing left to look at", _Q_MASK,
            "masked_fill fills where the mask is True", "masked_fill(~allowed, ...)",
            {"mask": "inverted"}),
    Mistake("M4", "the diagonal hidden: a token may not see itself",
            "only row 0 is nan: it has nothing left to look at",
            "May a token look at itself?", "look at the `diagonal` of tril or triu",
            "tril() keeps the diagonal; triu(1) leaves it out", {"mask": "strict"}),
    Mistake("M5", "one future token visible",
            "w[t, t+1] is above 0, w[t, t+2] is 0", _Q_MASK,
            "look at the `diagonal` of tril or triu, or at < against <=",
            "tril(), or triu(1) for what is hidden", {"mask": "one more"}),
    Mistake("M6", "filled with 0 (or -1e-10), not with minus infinity",
            "hidden cells keep a weight: e to the 0 is 1, not 0",
            "Which score gets the share 0 from softmax?",
            "look at the number that is filled in", "-torch.inf", {"mask": "right",
                                                                  "fill": 0.0}),
    Mistake("M8", "the 0/1 mask added to the scores",
            "allowed cells gain a factor e, and the future stays visible",
            "What must be added to a score so that its share is 0?",
            "look at what is added", "masked_fill(~allowed, -torch.inf)",
            {"mask": "added"}),
    Mistake("M9", "a weak fill: -1", "the future is only pushed down, not hidden",
            "Which score gets the share 0 from softmax?",
            "look at the number that is filled in", "-torch.inf",
            {"mask": "right", "fill": -1.0}),
    Mistake("M9b", "a weak fill: -10",
            "a little of the future leaks, and all of it when the real scores are very "
            "negative",
            "Is there a score below -10?", "look at the number that is filled in",
            "-torch.inf", {"mask": "right", "fill": -10.0}),
    Mistake("M10", "filled with plus infinity",
            "nan in every row but the last: inf / inf",
            "Which score gets the share 0 from softmax?", "look at the sign",
            "-torch.inf", {"mask": "right", "fill": torch.inf}),
    Mistake("M12", "0 times minus infinity: nan where a key may be seen",
            "nan in every row: 0 * -inf is nan, not 0",
            "What is 0 * -torch.inf?", "look at what is multiplied by -torch.inf",
            "scores.masked_fill(~allowed, -torch.inf) multiplies nothing",
            {"mask": "nan"}),
    Mistake("M14", "only the first example of the batch is masked",
            "example 0 is right, the others see the future",
            "Is your mask the same for every example?",
            "look for a [0], or a loop that returns too early",
            "a mask (T, T) serves all examples by broadcasting", {"mask": "first"},
            mark="S"),
)
_MASK_FINITE = (
    *(Mistake(f"M3{letter}", f"the mask inverted, with a finite number {how}",
              "what may be seen is hidden, and the last row, where all is hidden, is "
              "not nan", _Q_MASK, "where is the large negative number: at what may be "
              "seen?", "masked_fill(~allowed, -torch.inf)",
              {"mask": "inverted", knob: -1e9})
      for letter, how, knob in (("f", "filled in", "fill"), ("n", "added", "moved"))),
    *(Mistake(f"M4{letter}", f"the diagonal hidden, with a finite number {how}",
              "a token may not see itself, and row 0, where all is hidden, is not nan",
              "May a token look at itself?", "look at the `diagonal` of tril or triu",
              "tril() keeps the diagonal; triu(1) leaves it out",
              {"mask": "strict", knob: -1e9})
      for letter, how, knob in (("f", "filled in", "fill"), ("n", "added", "moved"))),
    Mistake("M10n", "a large number added to the hidden scores, where it should be "
            "subtracted", "the future gets all the attention",
            "Which score gets a weight of 0 from softmax?", "look at the sign",
            "-torch.inf, or -1e9", {"mask": "right", "moved": 1e9}),
    Mistake("M9m", "filled with the smallest of the scores",
            "hidden keys count like the least visible one",
            "Which score gets a weight of 0 from softmax?",
            "look at the number that is filled in", "-torch.inf",
            {"mask": "right", "fill": None}),
)
_MASK_LATE = Mistake(
    "M11", "masked after the softmax, without dividing by the new sum",
    "the rows add up to less than 1; and the future still has a say, in the sum that "
    "each share was divided by",
    "The hidden shares are gone. Who gets them?", "compare the order: mask, softmax",
    "mask the scores before the softmax", {"mask": "after"})

_SHAPES = (r"((batch2 tensor|mat1 and mat2|einsum\(\)).*\|(?=.*(@|matmul|bmm|einsum))|"
           r"size of tensor a.*\|(?=.*\.T\b))")
_CRASHES = (                                                     # first: k is turned
    (_SHAPES + r"(?!.*\bk\b(?!\.(mT|transpose|size|shape))).*\bv\b",
     "(B, T, T) @ (B, T, dv) gives (B, T, dv): print the shape of your weights"),
    (_SHAPES + r".*\bk\b",
     "the last two axes of k have to change places: (B, T, d) @ (B, d, T) gives "
     "(B, T, T). k.transpose(-2, -1) does that; k.T turns all three axes round"))
_TOO_LARGE = ("it fails in half precision, float16: a number like -1e9 is too large "
              "there (-torch.inf is not)")
_WIDENED = ("it fails in half precision, float16: a tensor in it is float32 whatever "
            "comes in; give torch.ones and torch.zeros the dtype of the input, or make "
            "the mask of True and False")
_FRAGILE = ("it is fragile: where the real scores are lower than the fill, hidden ones "
            "win; -torch.inf is lower than any score")
_HALF = tuple(Robust(text, lambda g, drive=drive: Probe(
    "half precision", _qkv(g, 2, 4, 3, 5), drive)) for text, drive in (
        (_TOO_LARGE, too_large_in_half), (_WIDENED, widened_in_half)))
_ABOVE = Robust("it is fragile: it fails where a hidden score is 10,000 (all visible "
                "shares are 0 then, if the softmax sees that score); mask before the "
                "softmax", _far_above)
_BELOW = Robust(_FRAGILE, _far_below)
_HINTS = ("Three steps: match (q.k), turn the matches of each query into weights, "
          "average the values by the weights. Which of them differs from yours?",
          "Work out scores and weights for T = 3 by hand, and print yours: which is "
          "the first number that differs?",
          "softmax(q @ k.transpose(-2, -1) / sqrt(d)) @ v")

attention = Exercise(
    "attention", "01", "attention(q, k, v) -> (B, T, dv)", attend, probes,
    (*ATTENTION, _UNASKED), read_out, axes={"q": "B T d", "k": "B T d", "v": "B T dv",
    "": "B T dv"},
    crashes=_CRASHES, hints=_HINTS, show="v is the identity: the result is the weights",
    sums=True, pair=True, solution="""\
def attention(q, k, v):
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))
    weights = scores.softmax(-1)
    return weights @ v""")

attention_to_repair = attention.to_repair("attention_to_repair", "A8")

causal_attention = Exercise(
    "causal_attention", "02", "causal_attention(q, k, v) -> (B, T, dv)",
    partial(attend, mask="right"), probes, (*CAUSAL, *MASK, *_MASK_FINITE, _MASK_LATE),
    partial(read_out, causal=True), (*_HALF, _ABOVE, _BELOW),
    {"q": "B T d", "k": "B T d", "v": "B T dv", "": "B T dv"}, _CRASHES, _HINTS,
    show="v is the identity: the result is the weights", sums=True, solution="""\
def causal_attention(q, k, v):
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))
    allowed = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
    weights = scores.masked_fill(~allowed, -torch.inf).softmax(-1)
    return weights @ v""")

causal_attention_to_repair = causal_attention.to_repair(
    "causal_attention_to_repair", "M1")

mask_scores = Exercise(
    "mask_scores", "02", "mask_scores(scores) -> (B, T, T), ready for softmax(-1)",
    mask_only, mask_probes,
    (*MASK, Mistake(
        "M13", "returns the weights: the softmax is already taken",
        "yours are shares from 0 to 1; a softmax over them gives hidden keys a share "
        "again", "What is left to do for the caller: softmax, or nothing?",
        "look at the last line", "return the masked scores, without softmax",
        {"shares": True}, mark="R"),
     Mistake(
        "M1i", "right, but the caller's scores are changed in place",
        "the scores are not the same after the call", "Who else may need the scores?",
        "look for a method ending in _, or scores[...] =",
        "masked_fill without the underscore", {"in_place": True}, mark="R")),
    robust=(
        Robust(_FRAGILE, lambda g: Probe("after softmax, scores near -20,000", (
            torch.randn(2, 5, 5, generator=g) - 20_000,), softened)),
        *(Robust(text, lambda g, drive=drive: Probe("half precision", (
            torch.randn(2, 4, 4, generator=g),), drive)) for text, drive in (
                (_TOO_LARGE, too_large_in_half), (_WIDENED, widened_in_half)))),
    axes={"scores": "B T Tk", "": "B T Tk"}, sums=True,
    show="after softmax, random scores",
    hints=("Query t may look at keys 0 to t.", "Print your result for 4 x 4 zeros.",
           "scores.masked_fill(~allowed, -torch.inf)"), solution="""\
def mask_scores(scores):
    allowed = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
    return scores.masked_fill(~allowed, -torch.inf)""")
