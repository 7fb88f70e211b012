"""Lesson 05: mean and standard deviation, the unbiased variance, a telling row."""

import math

import torch
from torch import Tensor

from gpt2_lesson.checks.engine import Mistake
from gpt2_lesson.checks.values import Answer

_WIDTHS = [2**k for k in range(1, 11)]
_OFF = [1 - math.sqrt((c - 1) / c) for c in _WIDTHS]


def _versions(row: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the right norm of a row (4,), and what wrong versions give."""
    off, eps = row - row.mean(), 1e-5
    variance = (off**2).mean()
    right = off / (variance + eps).sqrt()
    return right, {
        "unbiased variance": off / (row.var() + eps).sqrt(),
        "eps outside the root": off / (variance.sqrt() + eps),
        "eps 1e-6": off / (variance + 1e-6).sqrt(),
        "no eps": off / variance.sqrt(),
        "divided by the variance": off / (variance + eps),
        "mean not taken off": row / ((row**2).mean() + eps).sqrt(),
        "only centred": off}


def _unmasks(value: object) -> list[str]:
    """Return which wrong versions a row of four numbers does not unmask."""
    row = torch.as_tensor(value, dtype=torch.float64)
    if row.shape != (4,) or not row.isfinite().all():
        return [f"expected one row of four finite numbers; it has the shape "
                f"{tuple(row.shape)}"]
    right, wrong = _versions(row)
    size = right.abs().max()
    if size < 1e-6:                              # equal numbers
        return ["the right result of this row is nearly 0 everywhere: there is too "
                "little to compare"]
    shares = {name: ((one - right).abs().max() / size).item()
              for name, one in wrong.items()}
    hidden = [f"{name} ({share:.2%} off)" for name, share in shares.items()
              if share < 0.01]                                   # nan unmasks, too
    return [f"not unmasked, since less than 1% off: {', '.join(hidden)}"
            ] * bool(hidden)


_SWAPPED = Mistake(
    "P1", "mean and standard deviation exchanged", "the weight stretches, the bias "
                                                   "shifts",
    "Which of the two moves the mean?", "the order of the two answers", "[3, 2]")
_PLAIN = Mistake(
    "P2", "mean and standard deviation before weight and bias",
    "weight and bias come after the normalising, and nobody takes them back",
    "What happens to a number after it has been normalised?", "the last step",
    "[3, 2]")
_SQUARED = Mistake(
    "P3", "the variance, not the standard deviation",
    "twice as large numbers have twice the standard deviation, and four times the "
    "variance",
    "Which of the two is asked for?", "the second answer", "[3, 2]")
_LATE = Mistake(
    "L7", "the bias added before the weight multiplies",
    "the bias comes last, so nothing multiplies it",
    "Which comes last, weight or bias?", "the first answer", "[3, 2]")
_NO_SHIFT = Mistake(
    "P10", "the bias left out: the mean stays 0", "the bias is added to every number",
    "What does adding 3 to every number do to their mean?", "the first answer",
    "[3, 2]")
_NO_STRETCH = Mistake(
    "P11", "the weight left out: the standard deviation stays 1",
    "twice as large numbers have twice the standard deviation",
    "What does multiplying by 2 do to the standard deviation?", "the second answer",
    "[3, 2]")
_SHIFTED = Mistake(
    "P12", "the bias added to the standard deviation, too",
    "adding 3 to every number leaves their distances as they are",
    "What does a shift do to the distances between numbers?", "the second answer",
    "[3, 2]")
_RATIO = Mistake(
    "P4", "right over wrong, not wrong over right",
    "at C = 2 that ratio is 1.414; the other one is 0.707",
    "Which of the two results do you divide by?", "the denominator",
    "(wrong / right - 1).abs()")
_VARIANCE = Mistake(
    "P5", "the error of the variance, not of the result",
    "the result is divided by the variance's root, which halves a small error",
    "What is the variance used for?", "compare the results of both norms",
    "(wrong / right - 1).abs()")
_PERCENT = Mistake(
    "P6", "percent, not fractions",
    "0.01 means 1%, so every number is 100 times too large",
    "How is 1% written as a fraction?", "the last factor", "1 - wrong / right")
_SIGN = Mistake(
    "P7", "the opposite sign: wrong / right - 1",
    "too small is a positive number here: 1 - wrong / right",
    "Is wrong / right above or below 1?", "the order of the subtraction",
    "1 - wrong / right")
_NO_ONE = Mistake(
    "P8", "the ratio itself, without 1 -",
    "a ratio of 0.99 means that 0.01 is missing",
    "How far is the ratio from 1?", "the last step", "1 - wrong / right")
_NINE = Mistake(
    "P9", "nine numbers: one width is missing",
    "the widths are 2, 4, ..., 1024: ten of them",
    "Which width comes first, and which last?", "the first and the last width",
    "for width in widths: ...")

ANSWERS = (
    Answer("05.1", "mean and standard deviation of the output for weight 2, bias 3",
           [3.0, 2.0], decimals=2, precision="two decimals are", predict=True,
           wrong=(([2.0, 3.0], _SWAPPED), ([0.0, 1.0], _PLAIN), ([3.0, 4.0], _SQUARED),
                  ([6.0, 2.0], _LATE), ([0.0, 2.0], _NO_SHIFT), ([3.0, 1.0],
                  _NO_STRETCH), ([3.0, 5.0], _SHIFTED), ([3.0, 6.0], _SHIFTED)),
           hints=("Before weight and bias the mean is 0 and the standard deviation 1. "
                  "What does a factor do to each of the two, and what does a shift?",
                  "What does times 2 do to the mean 0, and to the standard deviation "
                  "1?",
                  "mean 0 * 2 + 3, standard deviation 1 * 2"), solution="predicted = "
                                                                        "[3.0, 2.0]"),
    Answer("05.4", "the error of the unbiased variance for C = 2, 4, ..., 1024", _OFF,
           rtol=0.02, precision="three significant digits are",
           wrong=(([math.sqrt(c / (c - 1)) - 1 for c in _WIDTHS], _RATIO),
                  ([1 / c for c in _WIDTHS], _VARIANCE),
                  ([1 / (c - 1) for c in _WIDTHS], _VARIANCE),
                  ([100 * off for off in _OFF], _PERCENT),
                  ([-off for off in _OFF], _SIGN),
                  ([1 - off for off in _OFF], _NO_ONE),
                  ([1 / (1 - off) for off in _OFF], _NO_ONE),
                  (_OFF[:-1], _NINE), (_OFF[1:], _NINE)),
           hints=("Draw one row with torch.randn(width), compute both results, and "
                  "divide one by the other. The ratio is the same in every channel.",
                  "Divide wrong by right, in one channel that is not near 0.",
                  "row.var() divides by C - 1, row.var(correction=0) by C."),
           solution="errors = []\nfor c in widths:\n    row = torch.randn(c)\n"
                    "    ratio = (row.var(correction=0) / row.var()).sqrt()\n"
                    "    errors.append(1 - ratio.item())"),
    Answer("05.5", "one row of four numbers on which every wrong norm is off by 1%",
           lambda: [0.001, 0.005, 0.002, 0.009], test=_unmasks,
           hints=("The mean of the row [1, -1, 2, -2] is 0, so not taking it off does "
                  "nothing wrong there. What should your row have?",
                  "A mistake with eps shows only where eps counts beside the variance. "
                  "For which standard deviation is the variance about 0.00001?",
                  "A standard deviation near 0.003, and a mean that is not 0."),
           solution="row = [0.001, 0.005, 0.002, 0.009]"),
)
