"""Lesson 01: what predictions and measurements on attention should give."""

import math

import torch
from torch import Tensor

from gpt2_lesson.checks.engine import Mistake
from gpt2_lesson.checks.values import Answer

# The mean of the largest of 64 weights for d = 4, 16, 64, 256, measured.
_NO_ROOT = [0.277, 0.578, 0.794, 0.896]
_ROOT = [0.106, 0.107, 0.107, 0.107]
_BY_D = [0.045, 0.027, 0.021, 0.018]


def _largest(without: list[float], with_root: list[float]) -> dict[str, list[float]]:
    return {"without the root": without, "with the root": with_root}


def _two_back(value: object) -> list[str]:
    """Return what keeps token t from looking at token t - 2, for t = 2 to 7."""
    if not isinstance(value, list | tuple) or len(value) != 2:
        return ["expected a list of two: [q, k]"]
    q, k = (torch.as_tensor(part, dtype=torch.float64) for part in value)
    for name, part in (("q", q), ("k", k)):
        if part.dim() != 2 or part.size(0) != 8:
            return [f"{name} has the shape {tuple(part.shape)}, expected (8, d)"]
    if q.size(1) != k.size(1):
        return [f"q has {q.size(1)} channels and k has {k.size(1)}: expected the same"]
    return _looks(q @ k.T / math.sqrt(q.size(1)))


def _looks(scores: Tensor) -> list[str]:
    """Return for scores (8, 8) which token looks where, if it is not two back."""
    weights = scores.softmax(-1)
    if not weights.isfinite().all():
        return ["some weights are nan: the scores are infinite"]
    for t in range(2, 8):
        best, share = int(weights[t].argmax()), weights[t, t - 2].item()
        if best != t - 2 and weights[t, best] > share:
            return [f"token {t} gives {share:.2f} to token {t - 2}, and more to token "
                    f"{best}: {weights[t, best]:.2f}"]
        if share < 0.99:
            digits = math.floor(share * 10_000) / 10_000         # never rounded to 0.99
            return [f"token {t} looks most at token {t - 2}, but with {digits:.4f} "
                    "only: at least 0.9900 is asked for"]
    return []


_SOLVED = torch.eye(8)
_SWAPPED = Mistake(
    "P1", "the two rows exchanged", "dividing makes scores smaller and weights flatter",
    "Which of the two has the larger scores?", "which scale belongs to which row?",
    "without the root the scale is 1")
_TWICE = Mistake(
    "P2", "divided by d, not by its root", "the weights get flatter as d grows",
    "By how much does a dot product of d random numbers spread?",
    "look at the scale with the root", "scale = 1 / math.sqrt(d)")
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


def _over_everything(value: object) -> bool:
    """Return True for the largest weights of all, which another draw moves far."""
    without, with_root = value["without the root"], value["with the root"]
    return min(without) > 0.97 and all(0.4 < share < 0.95 for share in with_root)


class _Measured(Answer):
    """An answer of which some wrong values are told by a function."""

    def _equals(self, value: object, wanted: object) -> bool:
        if not callable(wanted):
            return super()._equals(value, wanted)
        try:
            return wanted(value)
        except Exception:                                        # another form
            return False


ANSWERS = (
    Answer("01.1", "the weights for q = 0, for T = 1, and for one score of 1000",
           {"q is 0": [1 / 3] * 3, "T = 1": [1.0], "one score of 1000": [1.0, 0, 0]},
           atol=0.0051, predict=True,
           hints=("Softmax looks at differences between scores only.",
                  "Write the scores of each case down first: three, one, and three.",
                  "q = 0 makes all scores 0, so all weights are equal."),
           solution='predicted = {"q is 0": [0.33, 0.33, 0.33], "T = 1": [1.0],\n'
                    '             "one score of 1000": [1.0, 0.0, 0.0]}'),
    _Measured("01.4", "the largest of 64 weights for d = 4, 16, 64, 256",
           _largest(_NO_ROOT, _ROOT), rtol=0.05, atol=0.005,
           wrong=((_largest(_ROOT, _NO_ROOT), _SWAPPED),
                  (_largest(_NO_ROOT, _BY_D), _TWICE),
                  (_largest([1 / 64] * 4, [1 / 64] * 4), _MEAN),
                  (_largest(_NO_ROOT, [0.1385, 0.1445, 0.0993, 0.056]), _AFTER),
                  (_largest([4.42, 9.23, 18.65, 37.45], [2.19, 2.3, 2.34, 2.34]),
                   _SCORES),
                  (_largest([0.148, 0.393, 0.557, 0.612],
                            [0.0757, 0.0953, 0.1005, 0.1015]), _KEYS),
                  (_over_everything, _EVERYTHING)),
           hints=("The largest weight of each query first, then the mean of these.",
                  "amax over the keys, mean over queries and texts.",
                  "(scale * q @ k.transpose(-2, -1)).softmax(-1).amax(-1).mean()"),
           solution="def largest_weight(d, scale):\n"
                    "    q, k = torch.randn(2, 64, 64, d)\n"
                    "    return (scale * q @ k.transpose(-2, -1)).softmax(-1)"
                    ".amax(-1).mean().item()"),
    Answer("01.5", "q and k, (8, d) each, with which token t looks at token t - 2",
           lambda: [30 * _SOLVED.roll(2, 0), _SOLVED], test=_two_back,
           hints=("The key of token t says who it is, the query of t whom it wants.",
                  "One channel for each token: the keys are one-hot.",
                  "k = torch.eye(8), and row t of q is a long copy of row t - 2 of k."),
           solution="k = torch.eye(8)\nq = 30 * k.roll(2, 0)"),
)
