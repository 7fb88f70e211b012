"""Lesson 01: what predictions and measurements on attention should give."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from gpt2_lesson.checks.engine import Mistake
from gpt2_lesson.checks.values import Answer

# The mean of the largest of 64 weights for d = 4, 16, 64, 256, measured.
_NO_ROOT = [0.277, 0.578, 0.794, 0.896]
_ROOT = [0.106, 0.107, 0.107, 0.107]
_BY_D = [0.045, 0.027, 0.021, 0.018]


def _largest(without: list[float], scaled: list[float]) -> dict[str, list[float]]:
    return {"without the scaling": without, "with the scaling": scaled}


def _two_back(value: object) -> list[str]:
    """Return what keeps token t from attending to token t - 2, for t = 2 to 7."""
    if not isinstance(value, list | tuple) or len(value) != 2:
        return ["expected a list of two: [q, k]"]
    q, k = (torch.as_tensor(part, dtype=torch.float64) for part in value)
    for name, part in (("q", q), ("k", k)):
        if part.dim() != 2 or part.size(0) != 8:
            return [f"{name} has the shape {tuple(part.shape)}, expected (8, d)"]
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


def _unscaled(value: object) -> bool:
    """Return True if q.k alone would do, and q.k / sqrt(d) is far from it."""
    q, k = (torch.as_tensor(part, dtype=torch.float64) for part in value)
    weights = _scaled(q, k).softmax(-1)
    return not _looks(q @ k.T) and bool((weights[2:].diagonal() < 0.9).any())


def _scaled(q: Tensor, k: Tensor) -> Tensor:
    return q @ k.T / math.sqrt(q.size(1))


_SOLVED = torch.eye(8)
_SAME = "equal scores give equal weights, and the weights of a query add up to 1"
_NO_SOFTMAX = Mistake(
    "P8", "scores of 0 taken for weights of 0", _SAME,
    "Which weights does softmax give to three equal scores?",
    "the entry for q = 0", "[1/3, 1/3, 1/3]")
_ITSELF = Mistake(
    "P9", "the score of a token alone, not its weight",
    "the weights of a query add up to 1, also where there is one only",
    "What is 7 divided by the sum of all there is, e to the 7 by e to the 7?",
    "the entry for T = 1", "[1.0]")
_ALONE = Mistake(
    "P10", "no weight for a token alone", "the weights of a query add up to 1",
    "What do all weights of one query add up to?", "the entry for T = 1", "[1.0]")
_NO_POWERS = Mistake(
    "P11", "scores divided by their sum, without exponentials",
    "softmax takes differences of scores: 999 is e to the 999 times as much",
    "What becomes of a score before it is divided by the sum?",
    "the entry for one score of 1000", "[1.0, 0.0, 0.0]")
_LITTLE = Mistake(
    "P12", "a little weight left for the small scores",
    "e to the -999 is 0 in every digit that a computer can hold",
    "A step of 1 in the score multiplies a weight by e = 2.72. How often is that done "
    "over a step of 999?", "the entry for one score of 1000", "[1.0, 0.0, 0.0]")
_RAW = Mistake(
    "P13", "the scores themselves, not their softmax", "weights lie between 0 and 1",
    "How does a score become a weight?", "the entry for one score of 1000",
    "[1.0, 0.0, 0.0]")

_SWAPPED = Mistake(
    "P1", "the two rows exchanged", "dividing makes scores smaller and weights flatter",
    "Which of the two has the larger scores?", "which scale belongs to which row?",
    "without the scaling the scale is 1")
_TWICE = Mistake(
    "P2", "divided by d, not by its root", "the weights get flatter as d grows",
    "What is the standard deviation of a dot product of d random numbers?",
    "look at the scale with the scaling", "scale = 1 / math.sqrt(d)")
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
    "P5", "the largest score, not the largest weight", "numbers above 1 are no weights",
    "How does a score become a weight?", "is there a softmax before amax?",
    "(scale * scores).softmax(-1).amax(-1).mean()")
_KEYS = Mistake(
    "P6", "the largest weight of each key, not of each query",
    "softmax and the maximum run along different axes",
    "Which axis of the weights adds up to 1?", "look at the numbers given to softmax "
    "and to amax", ".softmax(-1).amax(-1)")
_EVERYTHING = Mistake(
    "P7", "the maximum over everything, not for each query",
    "of 64 times 64 queries the luckiest one decides",
    "How many largest weights are there, one for each query?",
    "look for .max() without an axis", "weights.amax(-1).mean()")

_UNSCALED = Mistake(
    "P14", "sharp enough without the scaling by 1/sqrt(d), and not with it",
    "the scores are divided by sqrt(d), so their differences are smaller",
    "By how much are your scores divided before the softmax?",
    "the length of the queries", "make q longer: multiply it by sqrt(d)")
_ONE_BACK = Mistake(
    "P16", "one place back, not two", "token t attends to token t - 1",
    "Which key should win for token 5?", "the number given to roll", "k.roll(2, 0)")
_AHEAD = Mistake(
    "P15", "two places ahead, not back (or q and k exchanged)",
    "token t attends to token t + 2", "Which key should win for token 5?",
    "the sign of the number given to roll, and the order in [q, k]", "k.roll(2, 0)")


def _shifted(places: int) -> Callable[[object], bool]:
    """Return a test for queries that attend so many places further on than asked."""
    def does(value: object) -> bool:
        q, k = (torch.as_tensor(part, dtype=torch.float64) for part in value)
        best = _scaled(q, k).argmax(-1)
        aims = torch.arange(8) - 2 + places
        return bool((best == aims)[(aims >= 0) & (aims < 8)].all())

    return does


def _over_everything(value: object) -> bool:
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
    Answer("01.4", "the largest of 64 weights for d = 4, 16, 64, 256",
           _largest(_NO_ROOT, _ROOT), rtol=0.05, atol=0.0051,
           precision="two decimals are",
           wrong=((_largest(_ROOT, _NO_ROOT), _SWAPPED),
                  (_largest(_NO_ROOT, _BY_D), _TWICE),
                  (_largest([1 / 64] * 4, [1 / 64] * 4), _MEAN),
                  (_largest(_NO_ROOT, [0.1385, 0.1445, 0.0993, 0.056]), _AFTER),
                  (_largest([4.42, 9.23, 18.65, 37.45], [2.19, 2.3, 2.34, 2.34]),
                   _SCORES),
                  (_largest([0.148, 0.393, 0.557, 0.612],
                            [0.0757, 0.0953, 0.1005, 0.1015]), _KEYS),
                  (_over_everything, _EVERYTHING)),
           hints=("q, k = torch.randn(2, 64, 64, d) makes all queries and keys. Their "
                  "product has the shape (64 texts, 64 queries, 64 keys).",
                  "The largest weight of each query first, then the mean of these: "
                  ".amax(-1) over the keys, .mean() over the rest.",
                  "(scale * q @ k.transpose(-2, -1)).softmax(-1).amax(-1).mean()"),
           solution="def largest_weight(d, scale):\n"
                    "    q, k = torch.randn(2, 64, 64, d)\n"
                    "    return (scale * q @ k.transpose(-2, -1)).softmax(-1)"
                    ".amax(-1).mean().item()"),
    Answer("01.5", "q and k, (8, d) each, with which token t attends to token t - 2",
           lambda: [30 * _SOLVED.roll(2, 0), _SOLVED], test=_two_back,
           wrong=((_unscaled, _UNSCALED),
                  (_shifted(1), _ONE_BACK), (_shifted(4), _AHEAD)),
           hints=('A key says "I am token t". The simplest way to say it is one '
                  "channel for each token: the keys are one-hot.",
                  "The query of token t should have its largest dot product with the "
                  "key of token t - 2. Twice as long queries make twice as large "
                  "scores: with 7 other keys at score 0, the chosen score has to be at "
                  "least ln(7 * 99) = 6.54 after the division by sqrt(d).",
                  "k = torch.eye(8), and row t of q is a long copy of row t - 2 of k."),
           solution="k = torch.eye(8)\nq = 30 * k.roll(2, 0)"),
)
