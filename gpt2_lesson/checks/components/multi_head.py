"""Splitting into heads, merging, and the whole layer (catalogue: H, some A and M)."""

from dataclasses import replace
from functools import partial

import torch
from torch import Generator, Tensor

from gpt2_lesson.checks.clues import Clue
from gpt2_lesson.checks.components.attention import (
    _MASK_LATE,
    CAUSAL,
    MASK,
    attend,
    effective_scale,
)
from gpt2_lesson.checks.components.displayed import Displayed
from gpt2_lesson.checks.engine import Exercise, Look, Mistake, Robust
from gpt2_lesson.checks.probing import Probe, gradients
from gpt2_lesson.checks.stand_ins.heads import head_by_head, or_error


def split(x: Tensor, num_heads: int, *, cut: str = "right",
          uneven: str = "raise") -> Tensor:
    """Return (B, T, C) as (B, H, T, D), or what a mistake makes of it."""
    size = x.size(-1) // num_heads                               # D
    if x.size(-1) % num_heads and uneven == "raise":
        raise ValueError(f"{x.size(-1)} channels do not split into {num_heads} heads")
    x = x[..., :num_heads * size]
    (b, t, _), h, d = x.shape, num_heads, size
    return {
        "right": lambda: x.reshape(b, t, h, d).transpose(1, 2),
        "view": lambda: x.reshape(b, h, t, d),
        "interleaved": lambda: x.reshape(b, t, d, h).permute(0, 3, 1, 2),
        "size": lambda: x.reshape(b, t, d, h).transpose(1, 2),
        "tokens first": lambda: x.reshape(b, t, h, d),
        "channels first": lambda: x.reshape(b, t, h, d).permute(0, 2, 3, 1),
        "heads first": lambda: x.reshape(b, t, h, d).permute(2, 0, 1, 3),
        "slice 0": lambda: x[:, None, :, :d].repeat(1, h, 1, 1),
        "whole": lambda: x[:, None].repeat(1, h, 1, 1),
    }[cut]()


def merge(heads: Tensor, *, join: str = "right") -> Tensor:
    """Return (B, H, T, D) as (B, T, C), or what a mistake makes of it."""
    b, h, t, d = heads.shape
    return {
        "right": lambda: heads.transpose(1, 2).reshape(b, t, h * d),
        "view": lambda: heads.reshape(b, t, h * d),
        "interleaved": lambda: heads.permute(0, 2, 3, 1).reshape(b, t, h * d),
        "mean": lambda: heads.mean(1),
        "sum": lambda: heads.sum(1),
        "first": lambda: heads[:, 0],
        "tokens": lambda: heads.reshape(b, h * t, d),
        "apart": lambda: heads.transpose(1, 2),
        "channels first": lambda: heads.transpose(2, 3).reshape(b, h * d, t),
        "turned": lambda: heads.transpose(2, 3).reshape(b, t, h * d),
        "backwards": lambda: heads.flip(1).transpose(1, 2).reshape(b, t, h * d),
        "spread": lambda: heads.mean(1).repeat(1, 1, h),
    }[join]()


def _projected(qkv: Tensor, num_heads: int, layout: str) -> tuple[Tensor, ...]:
    """Return q, k, v (B, T, C) from the joint projection (B, T, 3C)."""
    b, t, width = qkv.shape
    if layout in ("heads", "threes"):          # [q0 k0 v0 | q1 ...]; or (C, 3)
        groups = num_heads if layout == "heads" else width // 3
        parts = qkv.reshape(b, t, groups, 3, -1)
        return tuple(part.reshape(b, t, -1) for part in parts.unbind(3))
    q, k, v = qkv.chunk(3, dim=-1)
    return {"q k v": (q, k, v), "q v k": (q, v, k), "k q v": (k, q, v),
            "v k q": (v, k, q)}[layout]


def multi_head(x: Tensor, w_qkv: Tensor, b_qkv: Tensor, w_out: Tensor, b_out: Tensor,
               num_heads: int, *, layout: str = "q k v", cut: str = "right",
               join: str = "right", per: str = "head", bias_in: bool = True,
               bias_out: bool = True, out: str = "right", mask: str = "right",
               one_head: bool = False, **how: object) -> Tensor:
    """Return causal attention with heads, (B, T, C) -> (B, T, C)."""
    asked, num_heads = num_heads, 1 if one_head else num_heads
    qkv = x @ w_qkv + (b_qkv if bias_in else 0)                  # (B, T, 3C)
    q, k, v = (split(part, num_heads, cut=cut)
               for part in _projected(qkv, num_heads, layout))   # (B, H, T, D)
    q = q * {"head": 1, "all": num_heads**-0.5,                  # 1/sqrt(C)
             "heads": q.size(-1)**0.5 * num_heads**-0.5,         # 1/sqrt(H)
             "part": asked**0.5}[per]                            # 1/sqrt(C / H)
    merged = merge(attend(q, k, v, mask=mask, **how), join=join)
    if out == "none":
        return merged
    w_out = w_out.T if out == "turned" else w_out
    return merged @ w_out + (b_out if bias_out else 0)


# --- probes ---------------------------------------------------------------------------

_NUMBERS = "the numbers 0 to 11, 2 heads"


def _numbered(*shape: int) -> Tensor:
    count = int(torch.tensor(shape).prod())
    return torch.arange(float(count)).reshape(shape)


def split_probes(g: Generator) -> list[Probe]:
    """Return numbers that say where they come from; all sizes different, and equal."""
    sizes = {"B": 2, "T": 5, "H": 3, "D": 4}
    return [Probe(_NUMBERS, (_numbered(1, 2, 6), 2)),
            Probe("B, T, H, D all different",
                  (torch.randn(2, 5, 12, generator=g), 3), sizes=sizes),
            Probe("B = T = H = D", (torch.randn(3, 3, 9, generator=g), 3)),
            Probe("one head", (torch.randn(2, 4, 6, generator=g), 1)),
            Probe("heads of one channel", (torch.randn(2, 3, 4, generator=g), 4)),
            Probe("10 channels do not split into 4 heads",
                  (torch.randn(2, 3, 10, generator=g), 4), or_error)]


def merge_probes(g: Generator) -> list[Probe]:
    """Return heads to be merged: numbered, all sizes different, all equal."""
    sizes = {"B": 2, "H": 3, "T": 5, "D": 4, "C": 12}
    return [Probe("the numbers 0 to 11, 2 heads of 2 tokens",
                  (_numbered(1, 2, 2, 3),)),
            Probe("B, H, T, D all different", (torch.randn(2, 3, 5, 4, generator=g),),
                  sizes=sizes),
            Probe("B = H = T = D", (torch.randn(3, 3, 3, 3, generator=g),)),
            Probe("one head", (torch.randn(2, 1, 4, 6, generator=g),)),
            Probe("T = 1", (torch.randn(2, 3, 1, 4, generator=g),))]


def _layer(g: Generator, b: int, t: int, c: int, h: int, size: float = 0.6) -> tuple:
    """Return x, the four parameters, random, and the number of heads."""
    shapes = ((b, t, c), (c, 3 * c), (3 * c,), (c, c), (c,))
    x, *rest = (torch.randn(shape, generator=g) for shape in shapes)
    return (x, *(part * size for part in rest), h)


def _told(t: int = 3, c: int = 6, h: int = 2) -> tuple:
    """Return a layer whose values are 10 * token + channel, all shares even."""
    x = torch.zeros(1, t, c)
    x[0, :, 0] = torch.arange(float(t))
    w_qkv, b_qkv = torch.zeros(c, 3 * c), torch.zeros(3 * c)
    w_qkv[0, 2 * c:], b_qkv[2 * c:] = 10.0, torch.arange(float(c))
    return x, w_qkv, b_qkv, torch.eye(c), torch.zeros(c), h


def _no_keys(g: Generator) -> tuple:
    x, w_qkv, b_qkv, *rest = _layer(g, 2, 5, 6, 2)
    w_qkv[:, 6:12], b_qkv[6:12] = 0, 0
    return x, w_qkv, b_qkv, *rest


def _far_apart(g: Generator, size: float) -> tuple:
    """Return a layer whose queries and keys are large, and nothing else."""
    x, w_qkv, *rest = _layer(g, 2, 5, 8, 2, 0.4)
    w_qkv[:, :16] *= size / 0.4
    return x, w_qkv, *rest


def probes(g: Generator) -> list[Probe]:
    """Return the battery: all sizes different, told values, one head, zeros."""
    sizes = {"B": 2, "T": 5, "C": 12}
    silent = _layer(g, 2, 3, 8, 2)
    return [
        Probe("B, T, C, H all different", _layer(g, 2, 5, 12, 3), sizes=sizes),
        Probe("each value is 10 * token + channel, shares are even", _told()),
        Probe("one head", _layer(g, 2, 4, 6, 1)),
        Probe("B = T = H", _layer(g, 3, 3, 6, 3)),
        Probe("the keys are 0: shares are even", _no_keys(g)),
        Probe("x is 0: only the biases speak",
              (torch.zeros_like(silent[0]), *silent[1:])),
        Probe("T = 1", _layer(g, 2, 1, 6, 3)),
        Probe("scores far apart", _far_apart(g, 2.0)),
        Probe("gradients", _layer(g, 2, 4, 6, 2, 0.35), gradients),
    ]


# --- what can be read out when nothing matches ----------------------------------------


def _shown_weights(g: Generator) -> Probe:
    """Return a layer (C = 8, 2 heads, T = 4) whose result is the heads' weights.

    Channel 0 of x holds a number that makes q and k, channels 1 to 4 say which token
    it is and become the values of both heads.
    """
    x = torch.zeros(1, 4, 8)
    x[0, :, 0] = torch.randn(4, generator=g) + 1
    x[0, :, 1:5] = torch.eye(4)
    w_qkv = torch.zeros(8, 24)
    w_qkv[0, [0, 8]] = 1.0                       # head 0: q and k are channel 0
    w_qkv[0, [4, 12]] = torch.tensor([1.0, -1.0])   # head 1: its matches are reversed
    w_qkv[1:5, 16:20] = w_qkv[1:5, 20:24] = torch.eye(4)
    return Probe("weights", (x, w_qkv, torch.zeros(24), torch.eye(8), torch.zeros(8),
                             2))


def read_out(look: Look, g: Generator) -> list[Clue]:
    """Return what the heads' weights show: leaks, sums, scale; and whose channels."""
    probe = _shown_weights(g)
    result = look(probe).value
    if not isinstance(result, Tensor) or result.shape != (1, 4, 8):
        return []
    weights = result[0].reshape(4, 2, 4).transpose(0, 1)         # (H, T, T)
    found = _channels(look)
    for head, map_ in enumerate(weights):
        future = map_.triu(1).abs().max().item()
        rows = map_.sum(-1)
        if not map_.isfinite().all():
            found.append(Clue("nan", f"the weights of head {head} hold nan"))
        elif future > 1e-6:
            found.append(Clue("future", "where each token has its own value, the "
                              f"result of head {head} holds up to {future:.2g} of a "
                              "later token's"))
        elif not rows.allclose(torch.ones(4), atol=1e-4):
            found.append(Clue("row sums", f"the weights of head {head} do not add up "
                              f"to 1 in each row (they give {rows.min():.3g} to "
                              f"{rows.max():.3g})"))
        if found and found[-1].key != "channels":
            return found
    if weights[0].allclose(weights[1], atol=1e-5):
        return [*found, Clue("same weights", "both heads have the same weights, though "
                             "their queries and keys differ")]
    number = probe.args[0][0, :, 0]
    scores = torch.outer(number, number)
    for head, map_ in enumerate(weights):
        sign = 1 - 2 * head
        scale = effective_scale(map_[None], sign * scores[None], 4)
        if scale:
            return [*found, Clue(scale[0].key, f"head {head}: {scale[0].text}")]
    return found


def _channels(look: Look) -> list[Clue]:
    """Return which value channel each channel of the merged result comes from."""
    probe = Probe("channels", _told(1, 6, 2))
    result = look(probe).value
    if not isinstance(result, Tensor) or result.shape != (1, 1, 6):
        return []
    mine = result.flatten().round().tolist()
    if sorted(mine) == list(range(6)) and mine != list(range(6)):
        order = ", ".join(f"{channel:.0f}" for channel in mine)
        return [Clue("channels", "with w_out = identity the channels of your result "
                     f"come from the value channels {order}, expected 0, 1, 2, 3, 4, "
                     "5")]
    return []


# --- mistakes -------------------------------------------------------------------------

_Q_VIEW = "view never moves a number. Which numbers does head 0 get: whose channels?"
_Q_MERGE = "Which two axes must stand side by side before they become one?"

SPLIT = (
    Mistake("H1", "view(B, H, T, D) without a transpose: whole tokens become heads",
            "the shape is right, but head 0 holds whole tokens, not a slice of each",
            _Q_VIEW, "look at the order of the sizes given to view",
            "x.view(B, T, H, D).transpose(1, 2)", {"cut": "view"}, mark="S"),
    Mistake("H5", "channels dealt out in turn: view(B, T, D, H)",
            "head 0 gets the channels 0, H, 2H, ... and not the first D",
            "Which channels belong to head 0?", "look at the order of H and D in view",
            "x.view(B, T, H, D): the heads first, then each head's channels",
            {"cut": "interleaved"}, mark="R"),
    Mistake("H9", "num_heads taken for the size of a head",
            "there are D heads of H channels, where H heads of D were asked for",
            "For C = 12 and 3 heads: how many channels has a head?",
            "where does num_heads go in view?", "x.view(B, T, num_heads, -1)",
            {"cut": "size"}, mark="R"),
    Mistake("H1t", "split, but the heads' axis not moved in front of the tokens",
            "the result is (B, T, H, D), expected (B, H, T, D)",
            "Attention works on the last two axes. Which two should these be?",
            "what comes after view?", ".transpose(1, 2)", {"cut": "tokens first"},
            mark="R"),
    Mistake("H1c", "tokens and channels exchanged within each head",
            "the result is (B, H, D, T), expected (B, H, T, D)",
            "Attention works on the last two axes. In which order?",
            "follow each axis through your transpose or permute", ".transpose(1, 2)",
            {"cut": "channels first"}, mark="R"),
    Mistake("H1h", "heads put before the batch",
            "the result is (H, B, T, D), expected (B, H, T, D)",
            "Which axis should stay the first?", "stack or permute: look at its axis",
            "torch.stack(parts, dim=1)", {"cut": "heads first"}, mark="R"),
    Mistake("H8", "every head gets slice 0",
            "all heads are equal, and most channels are never read",
            "Where does head 1's slice begin?", "does your slice depend on the head?",
            "x[..., h * D:(h + 1) * D] for head h", {"cut": "slice 0"}, mark="R"),
    Mistake("H9w", "every head gets all the channels",
            "each head is C wide, expected C / H",
            "What is the width of one head?", "is x cut anywhere?",
            "x.view(B, T, H, C // H)", {"cut": "whole"}, mark="R"),
    Mistake("H13", "channels that do not fill a head are dropped in silence",
            "10 channels in 4 heads came out as 8: the last two are gone",
            "What should happen to the two channels that are left over?",
            "C // H rounds down: is there a check of C % H?",
            "if C % H: raise ValueError(...)", {"uneven": "drop"}, mark="R"),
)

MERGE = (
    Mistake("H2", "merged without a transpose: tokens exchange pieces",
            "the shape is right, but row 0 holds head 0's first tokens, not token 0's "
            "heads", _Q_MERGE, "what is done before view or reshape?",
            "heads.transpose(1, 2).flatten(2)", {"join": "view"}, mark="S"),
    Mistake("H5", "merged in the order (D, H): channels of the heads take turns",
            "every token keeps its numbers, but in another order of channels", _Q_MERGE,
            "look at the order of the axes before reshape",
            "heads.transpose(1, 2) is (B, T, H, D): H before D",
            {"join": "interleaved"}, mark="R"),
    Mistake("H4", "heads averaged, not laid side by side",
            "the result is D wide, expected C = H * D",
            "Who could still tell the heads apart after an average?",
            "look for mean", "heads.transpose(1, 2).flatten(2)", {"join": "mean"},
            mark="S"),
    Mistake("H4s", "heads added up, not laid side by side",
            "the result is D wide, expected C = H * D",
            "Who could still tell the heads apart after a sum?",
            "look for sum, or +", "heads.transpose(1, 2).flatten(2)", {"join": "sum"},
            mark="S"),
    Mistake("H8", "head 0 alone is returned", "the other heads are never read",
            "Where do the other heads go?", "look for an index 0, or an early return",
            "heads.transpose(1, 2).flatten(2)", {"join": "first"}, mark="R"),
    Mistake("H2t", "heads laid one below the other, as more tokens",
            "the result is (B, H * T, D), expected (B, T, H * D)", _Q_MERGE,
            "which axis do you join along?", "torch.cat(list_of_heads, dim=-1)",
            {"join": "tokens"}, mark="R"),
    Mistake("H2a", "transposed, but never merged",
            "the result has four axes (B, T, H, D), expected three (B, T, C)",
            "How do two axes become one?", "what comes after transpose?",
            ".flatten(2), or .reshape(B, T, H * D)", {"join": "apart"}, mark="R"),
    Mistake("H2c", "channels before tokens",
            "the result is (B, C, T), expected (B, T, C)", _Q_MERGE,
            "follow each axis through your transpose or permute",
            "heads.transpose(1, 2): axes 1 and 2, heads and tokens",
            {"join": "channels first"}, mark="R"),
    Mistake("H2d", "the last two axes transposed, then reshaped",
            "the shape is right, but tokens and channels are mixed up", _Q_MERGE,
            "which two axes does your transpose exchange?",
            "heads.transpose(1, 2), not transpose(-2, -1)", {"join": "turned"},
            mark="R"),
    Mistake("H5r", "heads in reverse order", "the last head's channels come first",
            "Whose channels come first?", "look for flip, [::-1], insert(0, ...)",
            "heads.transpose(1, 2).flatten(2)", {"join": "backwards"}, mark="R"),
)

_FROM_ATTENTION = ("A1", "A2", "A7", "A8", "A11", "A15", "A17", "A17k", "A18",
                   "A21n", "M1", "M2", "M4", "M5", "M6", "M9")

_TOGETHER = ("H0", "H1", "H2", "H3", "H7t", "H10", "H11", "H12", "H12o", "A1", "A8",
             "M1")


def _alone(mistake: Mistake) -> Mistake:
    """Return a rare mistake as a function of its own, which is tried in no pair."""
    if mistake.id in _TOGETHER:
        return mistake
    return replace(mistake, function=partial(multi_head, **mistake.knobs))


LAYER = tuple(map(_alone, (
    *(one for one in SPLIT if one.id in ("H1", "H5", "H8")),
    *(replace(one, id="H5m") if one.id == "H5" else one
      for one in MERGE if one.id in ("H2", "H5", "H2d")),
    Mistake("H1v", "view both ways: split and merged without a transpose",
            "the shape is right, but tokens and channels are mixed up, there and back",
            _Q_VIEW, "look at view or reshape, before attention and after it",
            "there view(B, T, H, D).transpose(1, 2), back transpose(1, 2).flatten(2)",
            {"cut": "view", "join": "view"}, mark="S"),
    Mistake("H5b", "channels dealt out in turn, and merged in the order (D, H)",
            "each head reads other channels than GPT-2's: 0, H, 2H, ...",
            "Which channels belong to head 0?", "look at the order of H and D in view",
            "x.view(B, T, H, D): the heads first, then each head's channels",
            {"cut": "interleaved", "join": "interleaved"}, mark="R"),
    Mistake("H0", "no heads at all: one head over all channels",
            "right with one head; with more, each token has only one set of weights",
            "How many sets of weights has a token with 3 heads?",
            "where is num_heads used?",
            "split q, k and v: .view(B, T, H, D).transpose(1, 2)",
            {"one_head": True}),
    Mistake("H0d", "no heads at all: one head over all channels, divided by sqrt(D)",
            "right with one head; with more, each token has only one set of weights",
            "How many sets of weights has a token with 3 heads?",
            "where is num_heads used, besides the scale?",
            "split q, k and v: .view(B, T, H, D).transpose(1, 2)",
            {"one_head": True, "per": "part"}, mark="R"),
    Mistake("H3", "scores divided by sqrt(C), the width of all heads together",
            "the weights are too flat, by a factor sqrt(H); right with one head",
            "How many products does one head's q.k add up?",
            "which size stands under the root?",
            "math.sqrt(q.size(-1)) after the split",
            {"per": "all"}, mark="S"),
    Mistake("H3h", "scores divided by sqrt(H), the number of heads",
            "the scale depends on the number of heads, not on their size",
            "How many products does one head's q.k add up?",
            "which size stands under the root?",
            "math.sqrt(q.size(-1)) after the split",
            {"per": "heads"}, mark="R"),
    Mistake("H4", "heads averaged, and the average repeated",
            "all heads' channels are equal",
            "Who could still tell the heads apart after an average?", "look for mean",
            "heads.transpose(1, 2).flatten(2)", {"join": "spread"}, mark="S"),
    Mistake("H6", "softmax over the heads (dim=1)",
            "the weights add up to 1 across heads; a hidden score is -inf in every "
            "head, which gives nan",
            "For one query of one head, over which axis must the weights add up to 1?",
            "look at the number given to softmax: dim=1 is now the heads",
            ".softmax(-1)", {"axis": 1}, mark="R"),
    Mistake("H7", "no output projection: w_out and b_out are never used",
            "the result is what the heads mixed; no gradient reaches w_out",
            "Where do the heads' results get combined?", "look at the last line",
            "merge_heads(mixed) @ w_out + b_out", {"out": "none"}, mark="R"),
    Mistake("H7t", "w_out transposed",
            "w_out is square, so nothing crashes; the numbers are others",
            "The contract says x @ w + b. What does F.linear do with w?",
            "look at the last product", "merged @ w_out + b_out", {"out": "turned"},
            mark="R"),
    Mistake("H10", "the projection read in the order q, v, k",
            "with keys of 0 the result is b_out alone: the keys are averaged",
            "In which order does w_qkv hold its three parts?",
            "look at the names on the left of chunk or split",
            "q, k, v = ...chunk(3, -1)",
            {"layout": "q v k"}, mark="S"),
    Mistake("H10k", "queries and keys exchanged (order k, q, v, or k @ q.T)",
            "row i holds the matches of key i, not of query i",
            "In which order does w_qkv hold its three parts?",
            "look at the names on the left of chunk, and at the product",
            "q, k, v = ...chunk(3, -1), then q @ k.transpose(-2, -1)",
            {"layout": "k q v"}, mark="R"),
    Mistake("H10v", "the projection read in the order v, k, q",
            "the queries are averaged, and the values ask",
            "In which order does w_qkv hold its three parts?",
            "look at the names on the left of chunk", "q, k, v = ...chunk(3, -1)",
            {"layout": "v k q"}, mark="R"),
    Mistake("H11", "w_qkv read head by head: [q0 k0 v0 | q1 k1 v1 ...]",
            "right with one head, wrong with more",
            "w_qkv holds [Q | K | V]. Which columns make head 1's queries?",
            "what do you cut first: the three parts, or the heads?",
            "q, k, v = qkv.chunk(3, -1), then split each into heads",
            {"layout": "heads"}, mark="S"),
    Mistake("H11c", "w_qkv read in threes: view(..., C, 3)",
            "columns 0, 3, 6, ... became the queries",
            "w_qkv holds [Q | K | V]. Which columns make the queries?",
            "look at where the 3 stands in view", "qkv.chunk(3, dim=-1)",
            {"layout": "threes"}, mark="R"),
    Mistake("H12", "b_qkv is never added",
            "with x = 0 the result is b_out alone",
            "What does the layer say to a stream of zeros?",
            "look at the first product", "x @ w_qkv + b_qkv", {"bias_in": False},
            mark="R"),
    Mistake("H12o", "b_out is never added", "the result is off by the same vector "
            "everywhere", "What does the layer say to a stream of zeros?",
            "look at the last product", "merged @ w_out + b_out", {"bias_out": False},
            mark="R"),
    *(one for one in (*CAUSAL, *MASK, _MASK_LATE)
      if one.id in (*_FROM_ATTENTION, "M11")),
)))

_VIEW = ((r"view size is not compatible", "a chunk or a transpose is not one piece of "
          "memory: use reshape"),
         (r"shape '.*' is invalid for input", "B * T * H * D must be the number of "
          "entries: D is C // H"))

def numbered_heads(g: Generator) -> Probe:
    """Return the probe whose value tells each head's numbers, in a text."""
    return Probe(_NUMBERS, (_numbered(1, 2, 6), 2), head_by_head)


split_heads = Displayed(
    "split_heads", "03", "split_heads(x, num_heads) -> (B, H, T, D)", split,
    split_probes, SPLIT, axes={"x": "B T C", "": "B H T D"}, crashes=_VIEW,
    hints=("Each head gets D = C / H channels of every token. Head 0 gets which?",
           "Try x = torch.arange(12).view(1, 2, 6): head 0 is [[0, 1, 2], [6, 7, 8]].",
           "x.view(B, T, H, D).transpose(1, 2)"),
    display=numbered_heads, solution="""\
def split_heads(x, num_heads):
    B, T, C = x.shape
    return x.view(B, T, num_heads, C // num_heads).transpose(1, 2)""")

merge_heads = Exercise(
    "merge_heads", "03", "merge_heads(heads) -> (B, T, C)", merge, merge_probes, MERGE,
    axes={"heads": "B H T D", "": "B T C"}, crashes=_VIEW,
    hints=("The way back: the tokens in front of the heads, then two axes into one.",
           "merge_heads(split_heads(x, 2)) must be x, also for x = 0, 1, ..., 11.",
           "heads.transpose(1, 2).flatten(2)"),
    show="the numbers 0 to 11, 2 heads of 2 tokens", solution="""\
def merge_heads(heads):
    B, H, T, D = heads.shape
    return heads.transpose(1, 2).reshape(B, T, H * D)""")

multi_head_attention = Exercise(
    "multi_head_attention", "03",
    "multi_head_attention(x, w_qkv, b_qkv, w_out, b_out, num_heads) -> (B, T, C)",
    multi_head, probes, LAYER, read_out,
    (Robust("it is fragile: nan when a hidden score is large (0/0); mask before the "
            "softmax", lambda g: Probe("large scores", _far_apart(g, 15.0))),),
    {"x": "B T C", "": "B T C"}, (
        *_VIEW, (r"not enough values to unpack .*got [12]\b",
                 "q, k and v lie side by side along the last axis. chunk, split and "
                 "unbind cut axis 0, the texts, if you don't say which: "
                 ".chunk(3, dim=-1)"),
        (r"mat1 and mat2|size of tensor a|batch2 tensor",
         "write the shape behind each line: (B, T, 3C), three times (B, T, C), "
         "(B, H, T, D), (B, H, T, T), (B, H, T, D), (B, T, C)")),
    ("Five steps: project, cut into q, k, v, split each into heads, attend causally, "
     "merge and project. Which of them differs from yours?",
     "Check split_heads and merge_heads first, then print the weights for T = 3.",
     "merge_heads(causal attention of the split heads) @ w_out + b_out"),
    show="each value is 10 * token + channel, shares are even", atol=3e-5, solution="""\
def multi_head_attention(x, w_qkv, b_qkv, w_out, b_out, num_heads):
    B, T, C = x.shape
    parts = (x @ w_qkv + b_qkv).chunk(3, dim=-1)
    q, k, v = (p.reshape(B, T, num_heads, -1).transpose(1, 2) for p in parts)
    scores = q @ k.transpose(-2, -1) / math.sqrt(C // num_heads)
    allowed = torch.ones(T, T, dtype=torch.bool).tril()
    weights = scores.masked_fill(~allowed, -torch.inf).softmax(-1)
    return (weights @ v).transpose(1, 2).reshape(B, T, C) @ w_out + b_out""")

multi_head_attention_to_repair = multi_head_attention.to_repair(
    "multi_head_attention_to_repair", "H2")
