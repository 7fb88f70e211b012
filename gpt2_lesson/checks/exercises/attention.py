"""Lesson 01: attention and its weights (catalogue: A)."""

import math
from collections.abc import Callable

import torch
from torch import Generator, Tensor

from gpt2_lesson.checks.exercise import Answer, Clue, Exercise, Mistake, RunProbe
from gpt2_lesson.checks.probing import Probe, Value, gradients

# --- the right answer -----------------------------------------------------------------

_ATTENTION = """\
def attention(q, k, v):
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))
    weights = scores.softmax(-1)
    return weights @ v"""

# --- probes ---------------------------------------------------------------------------


def qkv(g: Generator, b: int, t: int, d: int, dv: int, size: float = 1.0) -> tuple:
    q, k = size * torch.randn(2, b, t, d, generator=g)
    return q, k, torch.randn(b, t, dv, generator=g)


def _identity(g: Generator) -> Probe:
    q, k, _ = qkv(g, 2, 6, 9, 1, 1.2)
    return Probe("v is the identity: the result is the weights",
                 (q, k, torch.eye(6).repeat(2, 1, 1)), sizes={"B": 2, "T": 6, "D": 9})


def _large(g: Generator, key: int) -> Probe:
    """Return a probe with scores near 10,000, the largest at one key."""
    q, k, v = qkv(g, 2, 5, 4, 3)
    q, k = torch.ones_like(q) * 100, 10 + 10 * k.sigmoid()
    k[:, key] = 50.0
    return Probe("scores of 10,000", (q, k, v))


def probes(g: Generator) -> list[Probe]:
    """Return the probes: all sizes different, square, special values, gradients."""
    sizes = {"B": 3, "T": 5, "D": 4, "Dv": 7}
    q, k, v = qkv(g, 2, 6, 3, 4)
    return [
        Probe("B, T, D, Dv all different", qkv(g, 3, 5, 4, 7, 1.5), sizes=sizes),
        _identity(g),
        Probe("one example, T = D = Dv", qkv(g, 1, 4, 4, 4, 1.5)),
        Probe("q is 0", (torch.zeros_like(q), k, v)),
        Probe("T = 1", qkv(g, 2, 1, 3, 4)),
        _large(g, 0),
        Probe("a longer text", qkv(g, 5, 19, 6, 2, 1.5)),
        Probe("the gradients of q, k and v", qkv(g, 2, 5, 3, 4), gradients),
    ]


# --- what can be read out when nothing matches ----------------------------------------


def read_out(run: RunProbe, g: Generator, causal: bool = False) -> list[Clue]:
    """Return what the weights show: leaks, sums, nan rows, the effective scale."""
    probe = _identity(g)
    q, k, _ = probe.args
    weights = run(probe).value
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
    """Regress the logs of the weights in a row on q.k, which gives the scale."""
    allowed = (weights[:, -1] > 1e-7).all()
    if not allowed:
        return []
    logs, dots = weights[:, -1].log(), scores[:, -1]             # the last row sees all
    logs, dots = (part - part.mean(-1, keepdim=True) for part in (logs, dots))
    slope = ((logs * dots).sum() / (dots * dots).sum()).item()
    miss = (logs - slope * dots).abs().max().item()
    if miss < 1e-2 and abs(slope - d**-0.5) > 1e-3:
        return [Clue("scale", f"in the last row your effective scale is {slope:.4f} "
                     f"where D = {d}, expected {d**-0.5:.4f} (1/sqrt(D))",
                     question="By what are the scores divided, how often, and does it "
                          "depend on D alone?")]
    if miss > 1e-2:
        return [Clue("not q.k", "the last row of your weights is not the softmax of a "
                     "multiple of q.k: the logs do not follow the dot products",
                     question="What happens between q.k and the weights, besides one "
                              "scale and one softmax?")]
    return []


# --- mistakes -------------------------------------------------------------------------

_Q_SCALE = ("By how much should q.k shrink so that its standard deviation is 1 for "
            "every D?")
_Q_AXIS = "For one query, over which axis must the weights add up to 1?"
_Q_SUM = "What must the weights of one query add up to?"
_Q_COMPARED = "Which two things are compared?"
_Q_MINE = "Who else may still need q?"

WEIGHTING = (
    Mistake("A1", "no scale: the scores are not divided by sqrt(D)",
            edit=(" / math.sqrt(q.size(-1))", ""), question=_Q_SCALE,
            why="the weights are too sharp: the effective scale is 1, expected "
                "1/sqrt(D)"),
    Mistake("A2", "scores divided by D, not by sqrt(D) (or by sqrt(D) twice)",
            edit=("math.sqrt(q.size(-1))", "q.size(-1)"), question=_Q_SCALE,
            why="the weights are too flat: the effective scale is 1/D"),
    Mistake("A3", "scores multiplied by sqrt(D)",
            edit=("/ math.sqrt", "* math.sqrt"), question=_Q_SCALE,
            why="the weights are far too sharp: the effective scale is sqrt(D)"),
    Mistake("A2f", "scores divided by D ** 0.25, not by sqrt(D)",
            edit=("math.sqrt(q.size(-1))", "q.size(-1) ** 0.25"), question=_Q_SCALE,
            why="the weights are too sharp: the effective scale is D ** -0.25"),
    Mistake("A2m", "the scores with the wrong sign",
            edit=("/ math.sqrt", "/ -math.sqrt"),
            why="the key that matches best gets the least weight",
            question="Which key should get the largest weight?"),
    Mistake("A22", "every key weighs the same: the mean of the values",
            edit=("scores.softmax(-1)",
                  "torch.full_like(scores, 1 / scores.size(-1))"),
            why="changing q or k changes nothing",
            question="How does a query say what it is looking for?"),
    Mistake("A4", "scores divided by sqrt(T), the number of tokens",
            edit=("sqrt(q.size(-1))", "sqrt(q.size(-2))"),
            why="the scale changes with the length of the text",
            question="Over which axis does the dot product sum?"),
    Mistake("A5", "scores divided by sqrt(Dv), the width of the values",
            edit=("sqrt(q.size(-1))", "sqrt(v.size(-1))"),
            why="the scale is right only where D = Dv",
            question="Whose channels does q.k add up?"),
    Mistake("A6", "scores divided by sqrt(B), the number of examples",
            edit=("sqrt(q.size(-1))", "sqrt(q.size(0))"),
            why="an example gives a different result on its own than in a batch",
            question="May the result for one example depend on how many there are?"),
    Mistake("A7", "scaled after the softmax, not before",
            edit=[(" / math.sqrt(q.size(-1))", ""),
                  (".softmax(-1)", ".softmax(-1) / math.sqrt(q.size(-1))")],
            why="the rows of the weights add up to 1/sqrt(D), not to 1",
            question=_Q_SUM),
    Mistake("A7t", "divided by T after the softmax: averaged twice",
            edit=("weights @ v", "weights @ v / q.size(-2)"),
            why="the rows of the weights add up to 1/T, not to 1",
            question=_Q_SUM),
    Mistake("A7v", "divided by sqrt(Dv) after the softmax, as well",
            edit=("weights @ v", "weights @ v / math.sqrt(v.size(-1))"),
            why="the rows of the weights add up to 1/sqrt(Dv), not to 1",
            question=_Q_SUM),
    Mistake("A8", "softmax over the queries (dim=-2, here the same as dim=1)",
            edit=(".softmax(-1)", ".softmax(-2)"), question=_Q_AXIS,
            why="rows do not add to 1, but columns do: the softmax runs over the wrong "
                "axis"),
    Mistake("A9", "softmax over the batch (dim=0)",
            edit=(".softmax(-1)", ".softmax(0)"), question=_Q_AXIS,
            why="with a single example every weight is 1"),
    Mistake("A11", "no softmax at all",
            edit=("scores.softmax(-1)", "scores"),
            why="some weights are negative, and with q = 0 all are 0",
            question="How does any number become a positive weight?"),
    Mistake("A11e", "the exponentials, not divided by their sum",
            edit=(".softmax(-1)", ".exp()"),
            why="the rows add up to any number, and to infinity for large scores",
            question=_Q_SUM),
    Mistake("A12", "log_softmax instead of softmax",
            edit=(".softmax(-1)", ".log_softmax(-1)"),
            why="all weights are 0 or negative",
            question="Are the logarithms of probabilities probabilities?"),
    Mistake("A9t", "one softmax over the whole table of an example",
            edit=("scores.softmax(-1)",
                  "scores.flatten(-2).softmax(-1).view_as(scores)"), question=_Q_AXIS,
            why="all weights of an example together add up to 1, so the rows don't"),
    Mistake("A9s", "divided by the sum of everything (sum without an axis)",
            edit=("scores.softmax(-1)",
                  "(scores - scores.amax(-1, keepdim=True)).exp()\n"
                  "    weights = weights / weights.sum()"), question=_Q_AXIS,
            why="all weights of the batch together add up to 1, so the rows don't"),
    Mistake("A15h", "the largest score takes all (argmax)",
            edit=("scores.softmax(-1)",
                  "F.one_hot(scores.argmax(-1), scores.size(-1)).float()"),
            why="every weight is 0 or 1, and no gradient reaches q and k",
            question="How much should the second best key count?"),
    Mistake("A13", "scores divided by their sum, without exponentials",
            edit=("scores.softmax(-1)", "scores / scores.sum(-1, keepdim=True)"),
            why="weights change their sign and blow up where the scores add up to "
                "nearly 0",
            question="What makes a score positive before it is divided by the sum?"),
    Mistake("A14", "sigmoid instead of softmax",
            edit=(".softmax(-1)", ".sigmoid()"),
            why="the rows add up to any number; with q = 0 each weight is 0.5",
            question="Sigmoid takes one score at a time. What makes a row add up to "
                     "1?"),
    Mistake("A15", "softmax twice",
            edit=(".softmax(-1)", ".softmax(-1).softmax(-1)"),
            why="the rows add up to 1, but are pulled towards equal weights",
            question="What does softmax do to numbers between 0 and 1?"),
    Mistake("A16", "k @ q.T: queries and keys exchanged",
            edit=("q @ k.transpose(-2, -1)", "k @ q.transpose(-2, -1)"),
            why="row i contains the scores of key i, not of query i",
            question="Whose scores are in row i?"),
    Mistake("A17", "q @ q.T: the keys are never used",
            edit=("q @ k.transpose(-2, -1)", "q @ q.transpose(-2, -1)"),
            why="changing k changes nothing, and no gradient reaches it",
            question=_Q_COMPARED),
    Mistake("A17k", "k @ k.T: the queries are never used",
            edit=("q @ k.transpose(-2, -1)", "k @ k.transpose(-2, -1)"),
            why="changing q changes nothing, and no gradient reaches it",
            question=_Q_COMPARED),
    Mistake("A18", "weights transposed before the product with v",
            edit=("weights @ v", "weights.transpose(-2, -1) @ v"),
            why="query 0 gets the weights that others give to token 0",
            question="Row i of the weights belongs to query i. Which rows meet which "
                 "values?"),
    Mistake("A19", "averages the keys, not the values",
            edit=("weights @ v", "weights @ k"),
            why="the result has the keys' width, and v is never used",
            question="What does a token pass on: its key or its value?"),
    Mistake("A19q", "averages the queries, not the values",
            edit=("weights @ v", "weights @ q"),
            why="the result has the queries' width, and v is never used",
            question="What does a token pass on: its query or its value?"),
    Mistake("A23", "v is added to the result, which is the residual connection's job",
            edit=("weights @ v", "v + weights @ v"),
            why="yours minus the expected result is v",
            question="Who adds the result to the residual stream: attention or the "
                     "block?"),
    Mistake("A24", "q and k normalised first: cosines instead of dot products",
            edit=("q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))",
                  "F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1)"),
            why="the length of a query and of a key makes no difference",
            question="Should a longer key get more weight than a shorter one?"),
    Mistake("A24d", "distances instead of dot products",
            edit=("q @ k.transpose(-2, -1)", "-torch.cdist(q, k)"),
            why="the nearest key gets the most weight, not the one with the largest "
                "dot product",
            question="Which number compares a query and a key here?"),
    Mistake("A19w", "returns the weights, not the average of the values",
            edit=("weights @ v", "weights"),
            why="the result is (B, T, T), and v is never used",
            question="What are the weights for?"),
    Mistake("A20", "exp without subtracting the largest score",
            edit=("scores.softmax(-1)",
                  "scores.exp() / scores.exp().sum(-1, keepdim=True)"),
            why="nan at large scores: e to the 10,000 is infinite, and inf/inf is nan",
            question="Softmax stays the same if every score of a row shrinks by the "
                     "same number. Which number keeps exp finite?"),
    Mistake("A21", "changes its input in place (/=, *=, a method ending in _)",
            edit=("scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))",
                  "q /= math.sqrt(q.size(-1))\n    scores = q @ k.transpose(-2, -1)"),
            why="the caller's q is not the same after the call",
            question=_Q_MINE),
    Mistake("A21g", "changes its input in place, unseen by autograd (no_grad, .data)",
            edit=("scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))",
                  "q.data /= math.sqrt(q.size(-1))\n"
                  "    scores = q @ k.transpose(-2, -1)"),
            why="the caller's q is not the same after the call, and its gradient is "
                "wrong", question=_Q_MINE),
    Mistake("A21d", "dropout that is always on",
            edit=("weights @ v", "F.dropout(weights, 0.3) @ v"),
            why="two calls give different results",
            question="When should dropout act?"),
    Mistake("A21n", "no gradient passes through the weights (detach, no_grad, .data)",
            edit=("weights @ v", "weights.detach() @ v"),
            why="the values are right, but q and k get no gradient and would never "
                "learn", question="How would training reach q and k?"),
)

UNASKED = Mistake(
    "M0", "a causal mask, which this exercise does not ask for",
    edit=("    weights =",
          "    future = torch.ones_like(scores).triu(1).bool()\n"
          "    scores = scores.masked_fill(future, -torch.inf)\n"
          "    weights ="),
    why="row 0 of the weights is one-hot: later tokens are hidden",
    question="May a token attend to later ones in this exercise?")

_SHAPES = (r"((batch2 tensor|mat1 and mat2|einsum\(\)).*\|(?=.*(@|matmul|bmm|einsum))|"
           r"size of tensor a.*\|(?=.*\.T\b))")
CRASHES = (                                                     # first: k transposed
    (_SHAPES + r"(?!.*\bk\b(?!\.(mT|transpose|size|shape))).*\bv\b",
     "(B, T, T) @ (B, T, Dv) gives (B, T, Dv): print the shape of your weights"),
    (_SHAPES + r".*\bk\b",
     "the last two axes of k have to be exchanged: (B, T, D) @ (B, D, T) gives "
     "(B, T, T). k.transpose(-2, -1) does that; k.T reverses all three axes"))
HINTS = ("Three steps: match (q.k), turn the matches of each query into weights, "
         "average the values by the weights. Which of them differs from yours?",
         "Compute scores and weights for T = 3 by hand, and print yours: which is the "
         "first number that differs?",
         "softmax(q @ k.transpose(-2, -1) / sqrt(D)) @ v")

attention = Exercise(
    "attention", "01", "attention(q, k, v) -> (B, T, Dv)", make_probes=probes,
    mistakes=(*WEIGHTING, UNASKED), read_out=read_out,
    axes={"q": "B T d", "k": "B T d", "v": "B T Dv",
    "": "B T Dv"},
    crashes=CRASHES, hints=HINTS, show="v is the identity: the result is the weights",
    sums=True, pair=True, solution=_ATTENTION)

attention_to_repair = attention.to_repair("attention_to_repair", "A8")

# --- the answers that are values ------------------------------------------------------

# The mean of the largest of 64 weights for D = 4, 16, 64, 256, measured.
_WITHOUT = [0.277, 0.578, 0.794, 0.896]
_WITH = [0.106, 0.107, 0.107, 0.107]
_BY_D = [0.045, 0.027, 0.021, 0.018]


def _largest(without: list[float], scaled: list[float]) -> dict[str, list[float]]:
    return {"without the scaling": without, "with the scaling": scaled}


def _two_back(value: Value) -> list[str]:
    """Return what keeps token t from attending to token t - 2, for t = 2 to 7."""
    if not isinstance(value, list | tuple) or len(value) != 2:
        return ["expected a list of two: [q, k]"]
    q, k = (torch.as_tensor(part, dtype=torch.float64) for part in value)
    for name, part in (("q", q), ("k", k)):
        if part.dim() != 2 or part.size(0) != 8:
            return [f"{name} has the shape {tuple(part.shape)}, expected (8, D)"]
    if q.size(1) != k.size(1):
        return [f"q has {q.size(1)} channels and k has {k.size(1)}: expected the same"]
    return _looks(_scaled(q, k))


def _looks(scores: Tensor) -> list[str]:
    """Return for scores (8, 8) which token attends where, if it is not two back."""
    weights = scores.softmax(-1)
    if not weights.isfinite().all():
        return ["some weights are nan: the scores are infinite"]
    for t in range(2, 8):
        best, weight = int(weights[t].argmax()), weights[t, t - 2].item()
        if best != t - 2 and weights[t, best] > weight:
            return [f"token {t} gives the weight {weight:.2f} to token {t - 2}, and "
                    f"more to token {best}: {weights[t, best]:.2f}"]
        if weight < 0.99:
            digits = math.floor(weight * 10_000) / 10_000        # never rounded to 0.99
            return [f"token {t} attends most to token {t - 2}, but with the weight "
                    f"{digits:.4f} only: at least 0.9900 is asked for"]
    return []


def _unscaled(value: Value) -> bool:
    """Return True if q.k alone would do, and q.k / sqrt(D) is far from it."""
    q, k = (torch.as_tensor(part, dtype=torch.float64) for part in value)
    weights = _scaled(q, k).softmax(-1)
    return not _looks(q @ k.T) and bool((weights[2:].diagonal() < 0.9).any())


def _scaled(q: Tensor, k: Tensor) -> Tensor:
    return q @ k.T / math.sqrt(q.size(1))


_SOLVED = torch.eye(8)
_SAME = "equal scores give equal weights, and the weights of a query add up to 1"
_NO_SOFTMAX = Mistake(
    "P8", "scores of 0 taken to mean weights of 0", _SAME,
    "Which weights does softmax give to three equal scores?",
    "the entry for q = 0", "[1/3, 1/3, 1/3]")
_ITSELF = Mistake(
    "P9", "the score of a single token, not its weight",
    "the weights of a query add up to 1, even if there is only one",
    "What is e to the 7, divided by the sum of all powers, which is e to the 7?",
    "the entry for T = 1", "[1.0]")
_ALONE = Mistake(
    "P10", "no weight for a single token", "the weights of a query add up to 1",
    "What do all weights of one query add up to?", "the entry for T = 1", "[1.0]")
_NO_POWERS = Mistake(
    "P11", "scores divided by their sum, without exponentials",
    "softmax depends on differences of scores: one that is larger by 999 gets e to the "
    "999 times the weight",
    "What becomes of a score before it is divided by the sum?",
    "the entry for one score of 1000", "[1.0, 0.0, 0.0]")
_LITTLE = Mistake(
    "P12", "a little weight left for the small scores",
    "e to the -999 is 0 in every digit that a computer can hold",
    "A step of 1 in the score multiplies a weight by e = 2.72. How often is that done "
    "over a step of 999?", "the entry for one score of 1000", "[1.0, 0.0, 0.0]")
_RAW = Mistake(
    "P13", "the scores themselves, not their softmax", "weights are between 0 and 1",
    "How does a score become a weight?", "the entry for one score of 1000",
    "[1.0, 0.0, 0.0]")

_SWAPPED = Mistake(
    "P1", "the two rows exchanged", "dividing makes scores smaller and weights flatter",
    "Which of the two has the larger scores?", "which scale belongs to which row?",
    "without the scaling the scale is 1")
_TWICE = Mistake(
    "P2", "divided by D, not by sqrt(D)", "the weights get flatter as D grows",
    "What is the standard deviation of a dot product of D random numbers?",
    "look at the scale with the scaling", "scale = 1 / math.sqrt(D)")
_MEAN = Mistake(
    "P3", "the mean of all weights, not of the largest ones",
    "64 weights that add up to 1 have the mean 1/64, whatever they are",
    "What do the 64 weights of a query add up to?",
    "where is the largest of each query taken?", "weights.amax(-1).mean()")
_AFTER = Mistake(
    "P4", "divided after the softmax, not before it",
    "the weights of a query no longer add up to 1", "What is divided by the root: the "
    "scores, or the weights?", "look at the order of scale and softmax",
    "(scale * scores).softmax(-1)")
_SCORES = Mistake(
    "P5", "the largest score, not the largest weight", "a weight is never above 1",
    "How does a score become a weight?", "is there a softmax before amax?",
    "(scale * scores).softmax(-1).amax(-1).mean()")
_KEYS = Mistake(
    "P6", "the largest weight of each key, not of each query",
    "softmax and the maximum run along different axes",
    "Along which axis do the weights add up to 1?", "look at the axes given to softmax "
    "and to amax", ".softmax(-1).amax(-1)")
_EVERYTHING = Mistake(
    "P7", "the maximum over everything, not for each query",
    "of all queries, only the luckiest one counts",
    "How many largest weights are there, one for each query?",
    "look for .max() without an axis", "weights.amax(-1).mean()")

_UNSCALED = Mistake(
    "P14", "weights that are sharp enough only without the scaling by 1/sqrt(D)",
    "the scores are divided by sqrt(D), so their differences are smaller",
    "By how much are your scores divided before the softmax?",
    "the length of the queries", "make q longer: multiply it by sqrt(D)")
_ONE_BACK = Mistake(
    "P16", "one position back, not two", "token t attends to token t - 1",
    "Which key should win for token 5?", "the number given to roll", "k.roll(2, 0)")
_AHEAD = Mistake(
    "P15", "two positions ahead, not back (or q and k exchanged)",
    "token t attends to token t + 2", "Which key should win for token 5?",
    "the sign of the number given to roll, and the order in [q, k]", "k.roll(2, 0)")


def _shifted(places: int) -> Callable[[object], bool]:
    """Return a test for queries that attend so many positions further on than asked."""
    def does(value: Value) -> bool:
        q, k = (torch.as_tensor(part, dtype=torch.float64) for part in value)
        best = _scaled(q, k).argmax(-1)
        aims = torch.arange(8) - 2 + places
        return bool((best == aims)[(aims >= 0) & (aims < 8)].all())

    return does


def _over_everything(value: Value) -> bool:
    """Return True for the largest weights of all, which another draw moves far."""
    without, scaled = value["without the scaling"], value["with the scaling"]
    return min(without) > 0.97 and all(0.4 < weight < 0.95 for weight in scaled)


ANSWERS = (
    Answer("01.1", "the weights for q = 0, for T = 1, and for one score of 1000",
           {"q is 0": [1 / 3] * 3, "T = 1": [1.0], "one score of 1000": [1.0, 0, 0]},
           decimals=2, precision="two decimals are", predict=True,
           wrong=(({"q is 0": [0, 0, 0]}, _NO_SOFTMAX), ({"T = 1": [7]}, _ITSELF),
                  ({"T = 1": [0]}, _ALONE),
                  ({"one score of 1000": [1000 / 1001, 1 / 1001, 0]}, _NO_POWERS),
                  ({"one score of 1000": [0.998, 0.001, 0.001]}, _LITTLE),
                  ({"one score of 1000": [0.99, 0.01, 0.0]}, _LITTLE),
                  ({"one score of 1000": [0.98, 0.01, 0.01]}, _LITTLE),
                  ({"one score of 1000": [1000, 1, 0]}, _RAW)),
           hints=("Write down the scores of each case first: three, one, and three. "
                  "What is the dot product of zeros with any key?",
                  "Softmax depends on the differences between scores only. A step of 1 "
                  "in the score multiplies a weight by e = 2.72: how often is that "
                  "done over a step of 999?",
                  "q = 0 makes all scores 0, so all weights are equal."),
           solution='predicted = {"q is 0": [0.33, 0.33, 0.33], "T = 1": [1.0],\n'
                    '             "one score of 1000": [1.0, 0.0, 0.0]}'),
    Answer("01.4", "the largest of 64 weights for D = 4, 16, 64, 256",
           _largest(_WITHOUT, _WITH), rtol=0.05, atol=0.0051,
           precision="two decimals are",
           wrong=((_largest(_WITH, _WITHOUT), _SWAPPED),
                  (_largest(_WITHOUT, _BY_D), _TWICE),
                  (_largest([1 / 64] * 4, [1 / 64] * 4), _MEAN),
                  (_largest(_WITHOUT, [0.1385, 0.1445, 0.0993, 0.056]), _AFTER),
                  (_largest([4.42, 9.23, 18.65, 37.45], [2.19, 2.3, 2.34, 2.34]),
                   _SCORES),
                  (_largest([0.148, 0.393, 0.557, 0.612],
                            [0.0757, 0.0953, 0.1005, 0.1015]), _KEYS),
                  (_over_everything, _EVERYTHING)),
           hints=("q, k = torch.randn(2, 64, 64, D) makes all queries and keys. Their "
                  "product has the shape (64 texts, 64 queries, 64 keys).",
                  "The largest weight of each query first, then the mean of these: "
                  ".amax(-1) over the keys, .mean() over the rest.",
                  "(scale * q @ k.transpose(-2, -1)).softmax(-1).amax(-1).mean()"),
           solution="def largest_weight(D, scale):\n"
                    "    q, k = torch.randn(2, 64, 64, D)\n"
                    "    return (scale * q @ k.transpose(-2, -1)).softmax(-1)"
                    ".amax(-1).mean().item()"),
    Answer("01.5", "q and k, (8, D) each, with which token t attends to token t - 2",
           lambda: [30 * _SOLVED.roll(2, 0), _SOLVED], test=_two_back,
           wrong=((_unscaled, _UNSCALED),
                  (_shifted(1), _ONE_BACK), (_shifted(4), _AHEAD)),
           hints=('A key says "I am token t". The simplest way to say it is one '
                  "channel for each token: the keys are one-hot.",
                  "The query of token t should have its largest dot product with the "
                  "key of token t - 2. Twice as long queries make twice as large "
                  "scores: with 7 other keys at score 0, the chosen score has to be at "
                  "least ln(7 * 99) = 6.54 after the division by sqrt(D).",
                  "k = torch.eye(8), and row t of q is a long copy of row t - 2 of k."),
           solution="k = torch.eye(8)\nq = 30 * k.roll(2, 0)"),
)
