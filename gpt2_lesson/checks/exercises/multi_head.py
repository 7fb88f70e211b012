"""Lesson 03: splitting into heads, merging, the layer (catalogue: H, some A and M)."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import torch
from torch import Generator, Tensor

from gpt2_lesson.checks.exercise import (
    Answer,
    Clue,
    EdgeCase,
    Exercise,
    Mistake,
    RunProbe,
)
from gpt2_lesson.checks.exercises.attention import effective_scale
from gpt2_lesson.checks.exercises.causal_masking import CAUSAL, MASK_LATE, MASKING
from gpt2_lesson.checks.fakes.heads import head_by_head, or_error
from gpt2_lesson.checks.probing import Probe, Value, gradients
from gpt2_lesson.corpora import story_model
from gpt2_lesson.corpora.stories import stories
from gpt2_lesson.looking_inside import attention_maps
from gpt2_lesson.multi_head import MultiHeadAttention

# --- the right answers ----------------------------------------------------------------

_SPLIT_HEADS = """\
def split_heads(x, num_heads):
    B, T, C = x.shape
    return x.reshape(B, T, num_heads, -1).transpose(1, 2)"""

_MERGE_HEADS = """\
def merge_heads(heads):
    B, H, T, D = heads.shape
    return heads.transpose(1, 2).reshape(B, T, H * D)"""

_MULTI_HEAD_ATTENTION = """\
def multi_head_attention(x, w_qkv, b_qkv, w_out, b_out, num_heads):
    B, T, C = x.shape
    q, k, v = (x @ w_qkv + b_qkv).chunk(3, dim=-1)
    q, k, v = (part.reshape(B, T, num_heads, -1).transpose(1, 2) for part in (q, k, v))
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))
    allowed = torch.ones(T, T, dtype=torch.bool).tril()
    scores = scores.masked_fill(~allowed, -torch.inf)
    weights = scores.softmax(-1)
    heads = weights @ v
    merged = heads.transpose(1, 2).reshape(B, T, C)
    return merged @ w_out + b_out"""

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
    """Return a layer whose values are 10 * token + channel, all weights equal."""
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
    """Return the probes: all sizes different, told values, one head, zeros."""
    sizes = {"B": 2, "T": 5, "C": 12}
    silent = _layer(g, 2, 3, 8, 2)
    return [
        Probe("B, T, C, H all different", _layer(g, 2, 5, 12, 3), sizes=sizes),
        Probe("each value is 10 * token + channel, equal weights", _told()),
        Probe("one head", _layer(g, 2, 4, 6, 1)),
        Probe("B = T = H", _layer(g, 3, 3, 6, 3)),
        Probe("the keys are 0: equal weights", _no_keys(g)),
        Probe("x is 0: only the biases are left",
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


def read_out(run: RunProbe, g: Generator) -> list[Clue]:
    """Return what the heads' weights show: leaks, sums, scale; and whose channels."""
    probe = _shown_weights(g)
    result = run(probe).value
    if not isinstance(result, Tensor) or result.shape != (1, 4, 8):
        return []
    weights = result[0].reshape(4, 2, 4).transpose(0, 1)         # (H, T, T)
    found = _channels(run)
    for head, map_ in enumerate(weights):
        future = map_.triu(1).abs().max().item()
        rows = map_.sum(-1)
        if not map_.isfinite().all():
            found.append(Clue("nan", f"the weights of head {head} contain nan"))
        elif future > 1e-6:
            found.append(Clue("future", "where each token has its own value, the "
                              f"result of head {head} contains up to {future:.2g} of a "
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


def _channels(run: RunProbe) -> list[Clue]:
    """Return which value channel each channel of the merged result comes from."""
    probe = Probe("channels", _told(1, 6, 2))
    result = run(probe).value
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
_Q_MERGE = "Which two axes must be next to each other before they become one?"

SPLIT = (
    Mistake("H1", "view(B, H, T, D) without a transpose: whole tokens become heads",
            edit=("reshape(B, T, num_heads, -1).transpose(1, 2)",
                  "reshape(B, num_heads, T, -1)"), question=_Q_VIEW,
            why="the shape is right, but head 0 contains whole tokens, not a slice of "
                "each"),
    Mistake("H5", "channels dealt out in turn: view(B, T, D, H)",
            edit=("reshape(B, T, num_heads, -1).transpose(1, 2)",
                  "reshape(B, T, -1, num_heads).permute(0, 3, 1, 2)"),
            why="head 0 gets the channels 0, H, 2H, ... and not the first D",
            question="Which channels belong to head 0?"),
    Mistake("H9", "num_heads mistaken for the size of a head",
            edit=("num_heads, -1", "-1, num_heads"),
            why="there are D heads of H channels, where H heads of D were asked for",
            question="For C = 12 and 3 heads: how many channels does a head have?"),
    Mistake("H1t", "split, but the heads' axis not moved in front of the tokens",
            edit=(".transpose(1, 2)", ""),
            why="the result is (B, T, H, D), expected (B, H, T, D)",
            question="Attention works on the last two axes. Which two should these "
                     "be?"),
    Mistake("H1c", "tokens and channels exchanged within each head",
            edit=(".transpose(1, 2)", ".permute(0, 2, 3, 1)"),
            why="the result is (B, H, D, T), expected (B, H, T, D)",
            question="Attention works on the last two axes. In which order?"),
    Mistake("H1h", "heads put before the batch",
            edit=(".transpose(1, 2)", ".permute(2, 0, 1, 3)"),
            why="the result is (H, B, T, D), expected (B, H, T, D)",
            question="Which axis should stay first?"),
    Mistake("H8", "every head gets slice 0",
            edit=("reshape(B, T, num_heads, -1).transpose(1, 2)",
                  "reshape(B, T, num_heads, -1)[:, :, :1].transpose(1, 2).expand(-1, "
                  "num_heads, -1, -1)"),
            why="all heads are equal, and most channels are never read",
            question="Where does head 1's slice begin?"),
    Mistake("H9w", "every head gets all the channels",
            edit=("return x.reshape(B, T, num_heads, -1).transpose(1, 2)",
                  "heads = x.reshape(B, T, num_heads, -1)\n"
                  "    return x[:, None].repeat(1, heads.size(2), 1, 1)"),
            why="each head is C wide, expected C / H",
            question="What is the width of one head?"),
    Mistake("H13", "channels that do not fill a head are silently dropped",
            edit=("x.reshape", "x[..., :C - C % num_heads].reshape"),
            why="10 channels in 4 heads came out as 8: the last two are gone",
            question="What should happen to the two channels that are left over?"),
)
MERGE = (
    Mistake("H2", "merged without a transpose: tokens exchange channels",
            edit=("heads.transpose(1, 2)", "heads"), question=_Q_MERGE,
            why="the shape is right, but row 0 contains head 0's first tokens, not "
                "token 0's heads"),
    Mistake("H5", "merged in the order (D, H): channels of the heads take turns",
            edit=("heads.transpose(1, 2)", "heads.permute(0, 2, 3, 1)"),
            question=_Q_MERGE,
            why="every token keeps its numbers, but in another order of channels"),
    Mistake("H4", "heads averaged, not concatenated",
            edit=("heads.transpose(1, 2).reshape(B, T, H * D)", "heads.mean(1)"),
            why="the result is D wide, expected C = H * D",
            question="Who could still tell the heads apart after an average?"),
    Mistake("H4s", "heads added up, not concatenated",
            edit=("heads.transpose(1, 2).reshape(B, T, H * D)", "heads.sum(1)"),
            why="the result is D wide, expected C = H * D",
            question="Who could still tell the heads apart after a sum?"),
    Mistake("H8", "head 0 alone is returned",
            edit=("heads.transpose(1, 2).reshape(B, T, H * D)", "heads[:, 0]"),
            why="the other heads are never read",
            question="Where do the other heads go?"),
    Mistake("H2t", "heads concatenated one below the other, as more tokens",
            edit=("heads.transpose(1, 2).reshape(B, T, H * D)",
                  "heads.reshape(B, H * T, D)"), question=_Q_MERGE,
            why="the result is (B, H * T, D), expected (B, T, H * D)"),
    Mistake("H2a", "transposed, but never merged",
            edit=(".reshape(B, T, H * D)", ""),
            why="the result has four axes (B, T, H, D), expected three (B, T, C)",
            question="How do two axes become one?"),
    Mistake("H2c", "channels before tokens",
            edit=[("heads.transpose(1, 2)", "heads.transpose(2, 3)"),
                  ("T, H * D", "H * D, T")], question=_Q_MERGE,
            why="the result is (B, C, T), expected (B, T, C)"),
    Mistake("H2d", "the last two axes transposed, then reshaped",
            edit=("heads.transpose(1, 2)", "heads.transpose(2, 3)"), question=_Q_MERGE,
            why="the shape is right, but tokens and channels are mixed up"),
    Mistake("H5r", "heads in reverse order",
            edit=("heads.transpose(1, 2)", "heads.flip(1).transpose(1, 2)"),
            why="the last head's channels come first",
            question="Whose channels come first?"),
)

_FROM_ATTENTION = ("A1", "A2", "A7", "A8", "A11", "A15", "A17", "A17k", "A18", "A21n",
                   "M1", "M2", "M4", "M5", "M6", "M9")
LAYER = (
    *(one for one in SPLIT if one.id in ("H1", "H5", "H8")),
    *(replace(one, id="H5m") if one.id == "H5" else one
      for one in MERGE if one.id in ("H2", "H5", "H2d")),
    Mistake("H1v", "view both ways: split and merged without a transpose",
            edit=[("reshape(B, T, num_heads, -1).transpose(1, 2)",
                   "reshape(B, num_heads, T, -1)"),
                  ("heads.transpose(1, 2)", "heads")], question=_Q_VIEW,
            why="the shape is right, but tokens and channels are mixed up, there and "
                "back"),
    Mistake("H5b", "channels dealt out in turn, and merged in the order (D, H)",
            edit=[("reshape(B, T, num_heads, -1).transpose(1, 2)",
                   "reshape(B, T, -1, num_heads).permute(0, 3, 1, 2)"),
                  ("heads.transpose(1, 2)", "heads.permute(0, 2, 3, 1)")],
            why="each head reads other channels than GPT-2's: 0, H, 2H, ...",
            question="Which channels belong to head 0?"),
    Mistake("H0", "no heads at all: one head over all channels",
            edit=("reshape(B, T, num_heads, -1)", "reshape(B, T, 1, -1)"),
            why="right with one head; with more, each token has only one set of "
                "weights",
                question="How many sets of weights does a token have with 3 heads?"),
    Mistake("H0d", "no heads at all: one head over all channels, divided by sqrt(D)",
            edit=[("reshape(B, T, num_heads, -1)", "reshape(B, T, 1, -1)"),
                  ("sqrt(q.size(-1))", "sqrt(C // num_heads)")],
            why="right with one head; with more, each token has only one set of "
                "weights",
                question="How many sets of weights does a token have with 3 heads?"),
    Mistake("H3", "scores divided by sqrt(C), the width of all heads together",
            edit=("sqrt(q.size(-1))", "sqrt(C)"),
            why="the scores are too small by a factor sqrt(H); right with one head",
            question="How many products does one head's q.k add up?"),
    Mistake("H3h", "scores divided by sqrt(H), the number of heads",
            edit=("sqrt(q.size(-1))", "sqrt(num_heads)"),
            why="the scale depends on the number of heads, not on their size",
            question="How many products does one head's q.k add up?"),
    Mistake("H4", "heads averaged, and the average repeated",
            edit=("heads.transpose(1, 2)",
                  "heads.mean(1, keepdim=True).expand_as(heads).transpose(1, 2)"),
            why="all heads' channels are equal",
            question="Who could still tell the heads apart after an average?"),
    Mistake("H6", "softmax over the heads (dim=1)",
            edit=(".softmax(-1)", ".softmax(1)"),
            why="the weights add up to 1 across heads; a hidden score is -inf in every "
                "head, which gives nan",
            question="For one query of one head, over which axis must the weights add "
                     "up to 1?"),
    Mistake("H7", "no output projection: w_out and b_out are never used",
            edit=("merged @ w_out + b_out", "merged"),
            why="the result is what the heads mixed; no gradient reaches w_out",
            question="Where do the heads' results get combined?"),
    Mistake("H7t", "w_out transposed",
            edit=("@ w_out", "@ w_out.T"),
            why="w_out is square, so nothing crashes, but the numbers are wrong",
            question="The contract says x @ w + b. What does F.linear do with w?"),
    Mistake("H10", "the projection read in the order q, v, k",
            edit=("q, k, v = (x", "q, v, k = (x"),
            why="with keys of 0 the result is b_out alone: the keys are averaged",
            question="In which order are the three parts of w_qkv?"),
    Mistake("H10k", "queries and keys exchanged (order k, q, v, or k @ q.T)",
            edit=("q, k, v = (x", "k, q, v = (x"),
            why="row i contains the scores of key i, not of query i",
            question="In which order are the three parts of w_qkv?"),
    Mistake("H10v", "the projection read in the order v, k, q",
            edit=("q, k, v = (x", "v, k, q = (x"),
            why="the queries are averaged, and the values are used as queries",
            question="In which order are the three parts of w_qkv?"),
    Mistake("H11", "w_qkv read head by head: [q0 k0 v0 | q1 k1 v1 ...]",
            edit=(".chunk(3, dim=-1)", ".reshape(B, T, num_heads, 3, -1).unbind(3)"),
            why="right with one head, wrong with more",
            question="w_qkv is [Q | K | V]. Which columns make head 1's queries?"),
    Mistake("H11c", "w_qkv read in threes: view(..., C, 3)",
            edit=(".chunk(3, dim=-1)", ".reshape(B, T, C, 3).unbind(-1)"),
            why="columns 0, 3, 6, ... became the queries",
            question="w_qkv is [Q | K | V]. Which columns make the queries?"),
    Mistake("H12", "b_qkv is never added",
            edit=(" + b_qkv", ""),
            why="with x = 0 the result is b_out alone",
            question="What does the layer return for zeros?"),
    Mistake("H12o", "b_out is never added",
            edit=(" + b_out", ""),
            why="the result is off by the same vector everywhere",
            question="What does the layer return for zeros?"),
    *(replace(one, name="softmax over the queries (dim=-2)") if one.id == "A8" else one
      for one in (*CAUSAL, *MASKING) if one.id in _FROM_ATTENTION),
    MASK_LATE,
)

_VIEW = ((r"view size is not compatible", "a chunk or a transposed tensor is not "
                                          "contiguous in memory: use reshape"),
         (r"shape '.*' is invalid for input", "B * T * H * D must be the number of "
          "entries: D is C // H"))

def numbered_heads(g: Generator) -> Probe:
    """Return the probe whose value tells each head's numbers, in a text."""
    return Probe(_NUMBERS, (_numbered(1, 2, 6), 2), head_by_head)


split_heads = Exercise(
    "split_heads", "03", "split_heads(x, num_heads) -> (B, H, T, D)",
    make_probes=split_probes, mistakes=SPLIT, axes={"x": "B T C", "": "B H T D"},
    crashes=_VIEW,
    hints=("Each head gets D = C / H channels of every token. Which does head 0 get?",
           "Try x = torch.arange(12).view(1, 2, 6): head 0 is [[0, 1, 2], [6, 7, 8]].",
           "x.view(B, T, H, D).transpose(1, 2)"),
    display=numbered_heads,
    solution=_SPLIT_HEADS)

merge_heads = Exercise(
    "merge_heads", "03", "merge_heads(heads) -> (B, T, C)", make_probes=merge_probes,
    mistakes=MERGE,
    axes={"heads": "B H T D", "": "B T C"}, crashes=_VIEW,
    hints=("The inverse: the tokens in front of the heads, then two axes into one.",
           "merge_heads(split_heads(x, 2)) must be x, also for x = 0, 1, ..., 11.",
           "heads.transpose(1, 2).flatten(2)"),
    show="the numbers 0 to 11, 2 heads of 2 tokens",
    solution=_MERGE_HEADS)

multi_head_attention = Exercise(
    "multi_head_attention", "03",
    "multi_head_attention(x, w_qkv, b_qkv, w_out, b_out, num_heads) -> (B, T, C)",
    make_probes=probes, mistakes=LAYER, read_out=read_out,
    edge_cases=(EdgeCase(
        "it is fragile: nan when a hidden score is large (0/0); mask before the "
        "softmax",
        lambda g: Probe("large scores", _far_apart(g, 15.0))),),
    axes={"x": "B T C", "": "B T C"}, crashes=(
        *_VIEW, (r"not enough values to unpack .*got [12]\b",
                 "q, k and v are side by side along the last axis. chunk, split and "
                 "unbind divide axis 0, the texts, if you don't name an axis: "
                 ".chunk(3, dim=-1)"),
        (r"mat1 and mat2|size of tensor a|batch2 tensor",
         "write the shape behind each line: (B, T, 3C), three times (B, T, C), "
         "(B, H, T, D), (B, H, T, T), (B, H, T, D), (B, T, C)")),
    hints=(
     "Five steps: project, split into q, k, v, split each into heads, attend causally, "
     "merge and project. Which of them differs from yours?",
     "Check split_heads and merge_heads first, then print the weights for T = 3.",
     "merge_heads(causal attention of the split heads) @ w_out + b_out"),
    show="each value is 10 * token + channel, equal weights", atol=3e-5,
    solution=_MULTI_HEAD_ATTENTION)

multi_head_attention_to_repair = multi_head_attention.to_repair(
    "multi_head_attention_to_repair", "H2",
    "`mixed` has the axes B, H, T, D: which of them does the last reshape join?",
    "mixed.transpose(1, 2).reshape(B, T, C)")

# --- the answers that are values ------------------------------------------------------

_P, _M, _W = "parameters", "products for q @ k.T", "attention weights"
_ALL, _PAIRS = 1_050_624, 5_120_000


def _mistake(id: str, name: str, why: str, question: str, fix: str) -> Mistake:
    return Mistake(id, name, why, question, "count for one head first", fix)


_MATRICES = "Which matrices does the layer have, and does their size depend on H?"
_D = "How many channels does one head have, and how many heads are there?"
_MAPS = "How many maps are there, and how many cells has one?"
_COUNT = "4 * C**2 + 4 * C"
_NO_BIAS = _mistake("P1", "the biases not counted", "2,048 too few: 3C + C",
                    "Which vectors does the layer have besides its matrices?", _COUNT)
_NO_OUT = _mistake("P2", "the output projection not counted",
                   "262,656 too few: C x C and its bias", _MATRICES, _COUNT)
_MORE = _mistake("P3", "eight times as many parameters with 8 heads",
                 "heads group the channels; the matrices stay", _MATRICES, _COUNT)
_FEWER = _mistake("P4", "an eighth of the parameters with 8 heads",
                  "one head has an eighth, and there are eight", _MATRICES, _COUNT)
_FULL = _mistake("P5", "each of the 8 heads takes all 512 channels",
                 "a head has 64 channels", _D, "H * T * T * (C / H)")
_ONE = _mistake("P6", "the products of only one of the 8 heads",
                "there are eight such heads", _D, "H * T * T * (C / H)")
_HALF = _mistake("P7", "a causal mask taken into account",
                 "without a mask every pair counts: T x T of them",
                 "How many pairs of tokens are there?", "T * T")
_ROWS = _mistake("P8", "one product for each token, not for each pair",
                 "each query meets each key", "How many pairs of tokens are there?",
                 "H * T * T * (C / H)")
_FLOPS = _mistake("P11", "the additions counted too",
                  "twice as many: only the multiplications are asked for",
                  "How many multiplications does one dot product take?",
                  "H * T * T * (C / H)")
_MAP = _mistake("P9", "one map for all heads", "each head has weights of its own",
                _MAPS, "H * T * T")
_SMALL = _mistake("P10", "an eighth of the weights with 8 heads",
                  "a map is T x T for each head, whatever its channels", _MAPS,
                  "H * T * T")

@cache
def _on_diagonal(offset: int) -> Tensor:
    """Return the story model's mean weight on the key `offset` from the query, (4, 4).

    Over ten stories of 100 characters, without the positions that have no such key.
    """
    texts = [text[:100] for text in stories(10, seed=5).splitlines()]
    ids = torch.tensor([list(text.encode()) for text in texts])
    maps = attention_maps(story_model(), ids)                    # (L, B, H, T, T)
    return maps.diagonal(offset, -2, -1).mean((1, 3))


def _measured(table: Callable[[], Tensor]) -> Callable[[object], bool]:
    """Return a test for a value that is this table to two decimals."""
    def is_it(value: Value) -> bool:
        given = torch.as_tensor(value, dtype=torch.float32)
        return given.shape == (4, 4) and bool((given - table()).abs().max() < 0.006)

    return is_it


_WHICH = "Which entries of a map are the weights on the character before?"
_DIAGONAL = "maps.diagonal(-1, -2, -1).mean((0, -1))"
_OWN = Mistake("P12", "the weight on the character itself",
               "the main diagonal is where query and key are the same character",
               _WHICH, "the offset of the diagonal", _DIAGONAL)
_TWO = Mistake("P13", "the weight two characters back",
               "the second diagonal below the main one is two characters back",
               _WHICH, "the offset of the diagonal", _DIAGONAL)
_NEXT = Mistake("P14", "the weight on the character after (always 0)",
                "above the main diagonal are the keys that a causal mask hides",
                _WHICH, "the sign of the offset", _DIAGONAL)
_EQUAL = Mistake("P15", "the mean of all weights of a map",
                 "each row sums to 1, so that mean is 1/100 for every head",
                 _WHICH, "which entries are averaged", _DIAGONAL)


def _halves(value: Value) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Return letters and both halves of the result at positions 1 to 5, for 4 texts."""
    w_qkv, w_out = (torch.as_tensor(part, dtype=torch.float64) for part in value)
    layer = MultiHeadAttention(12, 2).double().eval().requires_grad_(False)
    layer.qkv_proj.weight.copy_(w_qkv.T)
    layer.out_proj.weight.copy_(w_out.T)
    layer.qkv_proj.bias.zero_()
    layer.out_proj.bias.zero_()
    g, one_hot = Generator().manual_seed(3), torch.eye(6, dtype=torch.float64)
    found = []
    for _ in range(4):
        letters = torch.randperm(6, generator=g)
        x = torch.cat([one_hot, one_hot[letters]], dim=-1)       # (6, 12)
        found.append((one_hot[letters], *layer(x[None])[0, 1:].split(6, dim=-1)))
    return found


def _two_heads(value: Value) -> list[str]:
    """Return what keeps [w_qkv, w_out] from the letter before and the first letter."""
    if not isinstance(value, list | tuple) or len(value) != 2:
        return ["expected a list of two: [w_qkv, w_out]"]
    for name, part, shape in (("w_qkv", value[0], (12, 36)),
                              ("w_out", value[1], (12, 12))):
        if torch.as_tensor(part).shape != shape:
            return [f"{name} has the shape {tuple(torch.as_tensor(part).shape)}, "
                    f"expected {shape}"]
    wrong: dict[str, float] = {}
    for letters, before, first in _halves(value):
        for name, half, wanted in (
                ("first six channels (the letter before)", before, letters[:-1]),
                ("last six channels (the first letter)", first,
                 letters[:1].expand(5, 6))):
            gap = (half - wanted).abs().nan_to_num(torch.inf).max().item()
            wrong[name] = max(gap, wrong.get(name, 0.0))
    return [f"the {name} are off by up to {gap:.2g}, expected at most 0.01"
            for name, gap in wrong.items() if not gap <= 0.01]


def _solved(length: float = 30.0) -> list[Tensor]:
    """Return weights by hand; with a small `length` of the queries, too flat ones."""
    w_qkv, w_out = torch.zeros(12, 36), torch.eye(12)
    q, k, v = w_qkv.split(12, dim=-1)                # views of w_qkv
    q[:6, :6] = length * torch.eye(6).roll(1, 0)     # position t asks for t - 1
    q[:6, 6] = length                                # every position asks for 0
    k[:6] = torch.eye(6).repeat(1, 2)                # a key says its position
    v[6:] = torch.eye(6).repeat(1, 2)                # a value says its letter
    return [w_qkv, w_out]


def _exchanged(value: Value) -> bool:
    """Return True if the halves of the result are in the other order."""
    w_qkv, w_out = (torch.as_tensor(part) for part in value)
    return not _two_heads([w_qkv, w_out.roll(6, -1)])


def _flat(value: Value) -> bool:
    """Return True if ten times as large queries would do."""
    w_qkv, w_out = (torch.as_tensor(part).clone() for part in value)
    w_qkv[:, :12] *= 10
    return not _two_heads([w_qkv, w_out])


def _before_is(wanted: Callable[[Tensor], Tensor]) -> Callable[[object], bool]:
    """Return a test for a first half that is `wanted(letters)` at positions 1 to 4."""
    def is_it(value: Value) -> bool:
        return all(before[:4].allclose(wanted(letters)[1:5], atol=0.01)
                   for letters, before, _ in _halves(value))

    return is_it


def _means(letters: Tensor) -> Tensor:
    """Return for each position the mean of its letter and all before it."""
    return letters.cumsum(0) / torch.arange(1, 7)[:, None]


_EXCHANGED = Mistake("P16", "the two halves of the result exchanged",
                     "the first six channels have the first letter of the text",
                     "Which channels of the result belong to head 0?",
                     "the first six and the last six columns of q",
                     "let head 0 search for the position before")
_FLAT = Mistake("P17", "the right targets, with queries that are too short",
                "the scores are too close together, so each head mixes letters",
                "By how much must the largest score lead the others?",
                "the size of the numbers in q",
                "q[:6, :6] = 30 * torch.eye(6).roll(1, 0)")
_ITSELF = Mistake("P19", "a head that attends to the token itself",
                  "the first six channels have the letter of position t, not t - 1",
                  "Which key should the query of position 3 be equal to?",
                  "the rows of q, compared with those of k",
                  "q[:6, :6] = 30 * torch.eye(6).roll(1, 0)")
_AFTER = Mistake("P20", "a head that searches for the position after, which is hidden",
                 "all keys that are left match equally badly, so it takes their mean",
                 "Which key should the query of position 3 be equal to?",
                 "the sign of the number given to roll, or the axis",
                 "q[:6, :6] = 30 * torch.eye(6).roll(1, 0)")
_POSITION = Mistake("P18", "the values say positions, not letters",
                    "each head attends to the right token and returns where it is",
                    "Which channels of x say the letter?",
                    "the rows of v that are not 0", "v[6:] = torch.eye(6).repeat(1, 2)")

ANSWERS = (
    Answer("03.1", "parameters, products and weights, with 1 head and with 8",
           {"parameters": [1_050_624, 1_050_624],
            "products for q @ k.T": [5_120_000, 5_120_000],
            "attention weights": [10_000, 80_000]}, predict=True,
           wrong=(({_P: [1_048_576] * 2}, _NO_BIAS), ({_P: [787_968] * 2}, _NO_OUT),
                  ({_P: [786_432] * 2}, _NO_OUT), ({_P: [_ALL, 8 * _ALL]}, _MORE),
                  ({_P: [_ALL, _ALL // 8]}, _FEWER),
                  ({_M: [_PAIRS, 8 * _PAIRS]}, _FULL),
                  ({_M: [_PAIRS, _PAIRS // 8]}, _ONE), ({_M: [2_585_600] * 2}, _HALF),
                  ({_M: [51_200] * 2}, _ROWS), ({_M: [2 * _PAIRS] * 2}, _FLOPS),
                  ({_W: [10_000] * 2}, _MAP),
                  ({_W: [10_000, 1_250]}, _SMALL), ({_W: [5_050, 40_400]}, _HALF)),
           hints=("Heads are a way of grouping the channels. Which of the three "
                  "numbers depend on how the channels are grouped?",
                  "Parameters: a matrix C x 3C and one C x C, each with a bias. "
                  "Products: D for each pair of tokens in each head. Weights: one for "
                  "each pair in each head.",
                  "4 * C**2 + 4 * C; H * T * T * D with D = C / H; H * T * T"),
           solution='predicted = {"parameters": [1_050_624, 1_050_624],\n'
                    '             "products for q @ k.T": [5_120_000, 5_120_000],\n'
                    '             "attention weights": [10_000, 80_000]}'),
    Answer("03.6", "the mean weight of each head on the character before, as a table "
           "(4, 4)", lambda: _on_diagonal(-1), atol=0.0051,
           precision="two decimals are",
           wrong=((_measured(lambda: _on_diagonal(0)), _OWN),
                  (_measured(lambda: _on_diagonal(-2)), _TWO),
                  (_measured(lambda: torch.zeros(4, 4)), _NEXT),
                  (_measured(lambda: torch.full((4, 4), 0.01)), _EQUAL)),
           hints=("A map has a row for each query and a column for each key. Where in "
                  "row 5 is the weight on character 4?",
                  "These entries are a diagonal, one below the main one. "
                  "maps.diagonal(offset, -2, -1) returns a diagonal of every map.",
                  _DIAGONAL),
           solution=f"previous = {_DIAGONAL}"),
    Answer("03.7", "w_qkv (12, 36) and w_out (12, 12) of two heads, one for the letter "
           "before and one for the first letter", _solved, test=_two_heads,
           wrong=((_exchanged, _EXCHANGED), (_flat, _FLAT),
                  (_before_is(lambda letters: letters), _ITSELF),
                  (_before_is(_means), _AFTER),
                  (_before_is(lambda _: torch.eye(6).double().roll(1, 0)), _POSITION)),
           hints=("Keys say where a token is, values say which letter it is. Which "
                  "rows of w_qkv, then, are 0 for the keys, and which for the values?",
                  "In head 0 the query of position t is a long copy of the key of "
                  "position t - 1; in head 1 every query is a long copy of the key of "
                  "position 0.",
                  "q, k, v = w_qkv.split(12, dim=-1); "
                  "q[:6, :6] = 30 * torch.eye(6).roll(1, 0); q[:6, 6] = 30; "
                  "k[:6] = torch.eye(6).repeat(1, 2); "
                  "v[6:] = torch.eye(6).repeat(1, 2)"),
           solution="w_qkv, w_out = torch.zeros(12, 36), torch.eye(12)\n"
                    "q, k, v = w_qkv.split(12, dim=-1)\n"
                    "q[:6, :6] = 30 * torch.eye(6).roll(1, 0)\n"
                    "q[:6, 6] = 30\n"
                    "k[:6] = v[6:] = torch.eye(6).repeat(1, 2)"),
)
