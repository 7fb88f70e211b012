"""Lesson 02: the mask, causal attention, and the test for leaks (catalogue: M, N)."""

from dataclasses import replace
from functools import partial

import torch
from torch import Generator

from gpt2_lesson.checks.engine import Exercise, Mistake, Robust
from gpt2_lesson.checks.exercises.attention import (
    CRASHES,
    HINTS,
    WEIGHTING,
    probes,
    qkv,
    read_out,
)
from gpt2_lesson.checks.probing import Probe
from gpt2_lesson.checks.stand_ins.drives import (
    softened,
    too_large_in_half,
    widened_in_half,
)

# --- the right answers ----------------------------------------------------------------

_MASK_SCORES = """\
def mask_scores(scores):
    allowed = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
    scores = scores.masked_fill(~allowed, -torch.inf)
    return scores"""

_CAUSAL_ATTENTION = """\
def causal_attention(q, k, v):
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))
    allowed = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
    scores = scores.masked_fill(~allowed, -torch.inf)
    weights = scores.softmax(-1)
    return weights @ v"""

# --- probes ---------------------------------------------------------------------------


def _far_above(g: Generator) -> Probe:
    """Return a probe in which the last key, hidden from most, has scores of 10,000."""
    q, k, v = qkv(g, 2, 5, 4, 3)
    q, k = torch.ones_like(q) * 100, k / 100
    k[:, -1] = 50.0
    return Probe("hidden scores of 10,000", (q, k, v))


def _far_below(g: Generator) -> Probe:
    """Return a probe with scores of -12,000 to -20,000, the first key's the highest."""
    q, k, v = qkv(g, 2, 5, 4, 3)
    k = torch.zeros_like(k) - 60 - 10 * torch.arange(5)[:, None]
    return Probe("scores of -12,000", (torch.ones_like(q) * 100, k, v))


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


# --- mistakes -------------------------------------------------------------------------

_Q_MASK = "Which keys may query 0 attend to? And the last query?"
_Q_FILL = "Which score gets the weight 0 from softmax?"

MASKING = (
    Mistake("M1", "no mask (or the result of masked_fill is thrown away)",
            edit=("scores = scores.masked_fill", "scores.masked_fill"), idea=_Q_MASK,
            why="earlier tokens see later ones: row 0 is not one-hot",
            where="masked_fill returns a new tensor: where does it go?"),
    Mistake("M2", "the mask upside down: the past is hidden, the future shown",
            edit=(".tril()", ".triu()"), idea=_Q_MASK,
            why="the last row is one-hot and row 0 is not"),
    Mistake("M3", "the mask inverted: what may be seen is hidden",
            edit=("~allowed", "allowed"), idea=_Q_MASK,
            why="only the last row is nan: it has no key left to attend to"),
    Mistake("M4", "the diagonal hidden: a token may not see itself",
            edit=(".tril()", ".tril(-1)"),
            why="only row 0 is nan: it has no key left to attend to",
            idea="May a token attend to itself?"),
    Mistake("M5", "one future token visible",
            edit=(".tril()", ".tril(1)"), idea=_Q_MASK,
            why="w[t, t+1] is above 0, w[t, t+2] is 0",
            where="look at the `diagonal` of tril or triu, or at < against <="),
    Mistake("M6", "filled with 0 (or -1e-10), not with minus infinity",
            edit=("-torch.inf", "0.0"),
            why="hidden cells keep a weight: e to the 0 is 1, not 0",
            idea=_Q_FILL),
    Mistake("M8", "the 0/1 mask added to the scores",
            edit=("scores.masked_fill(~allowed, -torch.inf)", "scores + allowed"),
            why="allowed cells gain a factor e, and the future stays visible",
            idea="What must be added to a score so that its weight is 0?"),
    Mistake("M9", "a weak fill: -1",
            edit=("-torch.inf", "-1.0"),
            why="the future is only pushed down, not hidden",
            idea=_Q_FILL),
    Mistake("M9b", "a weak fill: -10",
            edit=("-torch.inf", "-10.0"),
            why="a little of the future leaks, and all of it when the real scores are "
                "very negative", idea="Is there a score below -10?"),
    Mistake("M10", "filled with plus infinity",
            edit=("-torch.inf", "torch.inf"),
            why="nan in every row but the last: inf / inf",
            idea=_Q_FILL),
    Mistake("M12", "0 times minus infinity: nan where a key may be seen",
            edit=("scores.masked_fill(~allowed, -torch.inf)",
                  "scores + ~allowed * -torch.inf"),
            why="nan in every row: 0 * -inf is nan, not 0",
            idea="What is 0 * -torch.inf?"),
    Mistake("M14", "only the first example of the batch is masked",
            edit=("scores = scores.masked_fill(~allowed, -torch.inf)",
                  "first = scores[:1].masked_fill(~allowed, -torch.inf)\n"
                  "    scores = torch.cat([first, scores[1:]])"),
            why="example 0 is right, the others see the future",
            idea="Is your mask the same for every example?",
            where="look for a [0], or a loop that returns too early", mark="S"),
)
MASK_FINITE = (
    Mistake("M3f", "the mask inverted, with a finite number filled in",
            edit=[("~allowed", "allowed"), ("-torch.inf", "-1e9")], idea=_Q_MASK,
            why="what may be seen is hidden, and the last row, where all is hidden, is "
                "not nan"),
    Mistake("M4f", "the diagonal hidden, with a finite number filled in",
            edit=[(".tril()", ".tril(-1)"), ("-torch.inf", "-1e9")],
            why="a token may not see itself, and row 0, where all is hidden, is not "
                "nan", idea="May a token attend to itself?"),
    Mistake("M3n", "the mask inverted, with a finite number added",
            edit=("scores.masked_fill(~allowed, -torch.inf)",
                  "scores - 1e9 * allowed"), idea=_Q_MASK,
            why="what may be seen is hidden, and the last row, where all is hidden, is "
                "not nan"),
    Mistake("M4n", "the diagonal hidden, with a finite number added",
            edit=[(".tril()", ".tril(-1)"),
                  ("scores.masked_fill(~allowed, -torch.inf)",
                   "scores - 1e9 * ~allowed")],
            why="a token may not see itself, and row 0, where all is hidden, is not "
                "nan", idea="May a token attend to itself?"),
    Mistake("M10n", "a large number added to the hidden scores, where it should be "
            "subtracted",
            edit=("scores.masked_fill(~allowed, -torch.inf)",
                  "scores + 1e9 * ~allowed"), idea=_Q_FILL,
            why="the future gets all the attention"),
    Mistake("M9m", "filled with the smallest of the scores",
            edit=("-torch.inf", "scores.min().item()"), idea=_Q_FILL,
            why="hidden keys count like the least visible one"),
)
MASK_LATE = Mistake(
    "M11", "masked after the softmax, without dividing by the new sum",
    edit=[("    scores = scores.masked_fill(~allowed, -torch.inf)\n", ""),
          ("weights @ v", "weights.tril() @ v")],
    why="the rows add up to less than 1; and the future still has a say, in "
        "the sum that each weight was divided by",
    idea="The hidden weights are gone. Do the others still add up to 1?",
    where="compare the order: mask, softmax",
    fix="mask the scores before the softmax")
MASK_ONLY = (
    Mistake("M13", "returns the weights: the softmax is already taken",
            edit=("return scores", "return scores.softmax(-1)"),
            why="yours are weights from 0 to 1; a softmax over them gives hidden keys "
                "a weight again",
            idea="What is left to do for the caller: softmax, or nothing?", mark="R"),
    Mistake("M1i", "right, but the caller's scores are changed in place",
            edit=("scores.masked_fill(", "scores.masked_fill_("),
            why="the scores are not the same after the call",
            idea="Who else may need the scores?", mark="R"),
)

_BEHIND_A_MASK = {
    "A9": "nan: a hidden score is -inf in every example, and a softmax over nothing "
          "but -inf is (-inf) - (-inf)",
    "A11": "nan or infinity: the hidden scores are still -inf when they meet the "
           "values",
    "A12": "nan or infinity: the logs of the hidden weights are -inf",
    "A13": "nan in every row but the last: the sum of the scores is -inf, and "
           "-inf / -inf is nan",
    "A14": "rows add up to anything; with q = 0 each weight that is not hidden is 0.5",
}
CAUSAL = tuple(replace(one, why=_BEHIND_A_MASK.get(one.id, one.why))
               for one in WEIGHTING)

_TOO_LARGE = ("it fails in half precision, float16: a number like -1e9 is too large "
              "there (-torch.inf is not)")
_WIDENED = ("it fails in half precision, float16: a tensor in it is float32 whatever "
            "comes in; give torch.ones and torch.zeros the dtype of the input, or make "
            "the mask of True and False")
_FRAGILE = ("it is fragile: where the real scores are lower than the fill, hidden ones "
            "win; -torch.inf is lower than any score")
_HALF = tuple(Robust(text, lambda g, drive=drive: Probe(
    "half precision", qkv(g, 2, 4, 3, 5), drive)) for text, drive in (
        (_TOO_LARGE, too_large_in_half), (_WIDENED, widened_in_half)))
_ABOVE = Robust("it is fragile: it fails where a hidden score is 10,000 (all visible "
                "weights are 0 then, if the softmax sees that score); mask before the "
                "softmax", _far_above)
_BELOW = Robust(_FRAGILE, _far_below)

causal_attention = Exercise(
    "causal_attention", "02", "causal_attention(q, k, v) -> (B, T, dv)",
    None, probes, (*CAUSAL, *MASKING, *MASK_FINITE, MASK_LATE),
    partial(read_out, causal=True), (*_HALF, _ABOVE, _BELOW),
    {"q": "B T d", "k": "B T d", "v": "B T dv", "": "B T dv"}, CRASHES, HINTS,
    show="v is the identity: the result is the weights", sums=True,
    solution=_CAUSAL_ATTENTION)

causal_attention_to_repair = causal_attention.to_repair(
    "causal_attention_to_repair", "M1")

mask_scores = Exercise(
    "mask_scores", "02", "mask_scores(scores) -> (B, T, T), ready for softmax(-1)",
    None, mask_probes, (*MASKING, *MASK_ONLY),
    robust=(
        Robust(_FRAGILE, lambda g: Probe("after softmax, scores near -20,000", (
            torch.randn(2, 5, 5, generator=g) - 20_000,), softened)),
        *(Robust(text, lambda g, drive=drive: Probe("half precision", (
            torch.randn(2, 4, 4, generator=g),), drive)) for text, drive in (
                (_TOO_LARGE, too_large_in_half), (_WIDENED, widened_in_half)))),
    axes={"scores": "B T Tk", "": "B T Tk"}, sums=True,
    show="after softmax, random scores",
    hints=("Query t may attend to keys 0 to t.", "Print your result for 4 x 4 zeros.",
           "scores.masked_fill(~allowed, -torch.inf)"), solution=_MASK_SCORES)
