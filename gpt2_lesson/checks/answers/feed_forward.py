"""Lesson 04: values of GELU, half precision, and a network by hand."""

import itertools

import torch

from gpt2_lesson.checks.engine import Mistake
from gpt2_lesson.checks.values import Answer

_FACTS = torch.tensor(list(itertools.product((0.0, 1.0), repeat=3)))   # (8, 3)
_FEWEST = 2


def _two_of_three(value: object) -> list[str]:
    """Return what keeps [w1, b1, w2, b2] from telling exactly two of three facts."""
    if not isinstance(value, list | tuple) or len(value) != 4:
        return ["expected a list of four: [w1, b1, w2, b2]"]
    w1, b1, w2, b2 = (torch.as_tensor(part, dtype=torch.float64) for part in value)
    hidden = w1.size(1) if w1.dim() == 2 else 0
    for name, part, shape in (("w1", w1, (3, hidden)), ("b1", b1, (hidden,)),
                              ("w2", w2, (hidden, 1)), ("b2", b2, (1,))):
        if part.shape != shape:
            wanted = ("(3, F)", "(F,)", "(F, 1)", "(1,)")[
                ("w1", "b1", "w2", "b2").index(name)]
            return [f"{name} has the shape {tuple(part.shape)}, expected {wanted}"]
    result = (torch.relu(_FACTS.double() @ w1 + b1) @ w2 + b2)[:, 0]
    for facts, one in zip(_FACTS.tolist(), result.tolist(), strict=True):
        wanted = float(sum(facts) == 2)
        if not abs(one - wanted) < 0.01:
            return [f"for the facts {[int(fact) for fact in facts]} it gives "
                    f"{one:.3g}, expected {wanted:.0f}"]
    if hidden > _FEWEST:
        return [f"all eight cases are right, with {hidden} hidden units: it can be "
                "done with fewer"]
    return []


def _gap(gap: float, where: float, differ: int) -> dict[str, float]:
    return {"largest gap": gap, "at": where, "differ in half": differ}


_NOT_X = Mistake(
    "P1", "the fraction Phi(x) alone, without the factor x",
    "far to the right x is multiplied by 1: GELU follows x there",
    "What is the fraction multiplied by?", "the formula has an x in front", "[0, 0, 8]")
_ONLY_STRAIGHT = Mistake(
    "P2", "x itself", "far to the left x is multiplied by nearly 0",
    "What fraction of the bell curve lies below -8?", "the value at -8", "[0, 0, 8]")
_DIP = Mistake(
    "P3", "the lowest value, taken for the value far to the left",
    "-0.17 is reached at x = -0.75; further left it rises back to 0",
    "What fraction of the bell curve lies below -8?", "the value at -8", "[0, 0, 8]")
_DOUBLE = Mistake(
    "F7", "the 0.5 in front is missing", "1 + tanh is 2 far to the right, and 0.5 * 2 "
    "is 1", "What is 0.5 * 8 * (1 + 1)?", "the value at 8", "[0, 0, 8]")
_HALF_AT_0 = Mistake(
    "P9", "the fraction of the bell curve at 0, not 0 times it",
    "GELU(0) is 0 times a half", "What is the fraction multiplied by?",
    "the value at 0", "[0, 0, 8]")
_FRACTION = Mistake(
    "P10", "the fraction of the bell curve at 8, not 8 times it",
    "GELU(8) is 8 times nearly 1", "What is the fraction multiplied by?",
    "the value at 8", "[0, 0, 8]")
_HALVED = Mistake(
    "P11", "half of x at 8", "nearly all of the bell curve lies below 8, not half of "
                             "it",
    "What fraction of the bell curve lies below 8?", "the value at 8", "[0, 0, 8]")
_SHORT = "two significant digits are"
_PLACE = Mistake(
    "P7", "the place in the list, not the x that stands there",
    "argmax gives an index; all x lie between 2 and 4",
    "At which x does the largest gap stand?", "look at argmax", "x[gap.argmax()]")
_ALL_HALF = Mistake(
    "P8", "the gap of results in half precision, not in double precision",
    "half precision has steps of 1/512 there, so each gap is 0 or at least one step, "
    "0.00195", "When are the results rounded: before the gap is taken, or after?",
    "which type has x when the gap is taken?",
    "gap = (F.gelu(x) - F.gelu(x, approximate=\"tanh\")).abs() with x in float64")

ANSWERS = (
    Answer("04.1", "GELU at -8, at 0 and at 8", [0.0, 0.0, 8.0], decimals=2,
           precision="two decimals are", predict=True,
           wrong=(([0.0, 0.5, 1.0], _NOT_X), ([-8.0, 0.0, 8.0], _ONLY_STRAIGHT),
                  ([-0.17, 0.0, 8.0], _DIP), ([0.0, 0.0, 16.0], _DOUBLE),
                  ([0.0, 0.5, 8.0], _HALF_AT_0), ([0.0, 0.0, 1.0], _FRACTION),
                  ([0.0, 0.0, 4.0], _HALVED)),
           hints=("GELU(x) is x times a fraction between 0 and 1.",
                  "Nearly nothing of the bell curve lies below -8, half of it below 0, "
                  "nearly all of it below 8.",
                  "-8 times nearly 0, 0 times a half, 8 times nearly 1."),
           solution="predicted = [0.0, 0.0, 8.0]"),
    Answer("04.4", "the largest gap of the two forms, where it is, and how many of the "
           "1,024 numbers from 2 to 4 differ in half precision",
           _gap(0.000473, 2.699, 156), rtol=0.02, precision=_SHORT,
           wrong=((_gap(0.000473, 2.699, 1024), Mistake(
               "P4", "compared before rounding to half precision",
               "nearly every result differs, in digits that half precision drops",
               "What does .half() do to both results?", "compare after .half()",
               "(erf.half() != tanh.half()).sum()")),
                  (_gap(0.000473, 2.699, 1024 - 156), Mistake(
               "P5", "counted the equal ones, not those that differ",
               "156 and 868 make 1024", "Which of the two is asked for?",
               "== or !=", "(erf.half() != tanh.half()).sum()")),
                  (_gap(0.000473, 2.699, 178), Mistake(
               "P6", "the formulas computed in half precision",
               "each step of the formula is rounded, which adds differences of its own",
               "When is the result rounded: once, or after each step?",
               "compute in double precision, then .half()",
               "F.gelu(x).half(), with x in float64")),
                  (_gap(0.000473, 358, 156), _PLACE),
                  *((_gap(1 / 512, at, count), _ALL_HALF)
                    for at, count in ((2.066, 156), (2.07, 178), (2.049, 236)))),
           hints=("(a - b).abs() is the gap at each x, in double precision; .max() and "
                  ".argmax() give its size and its place in the list.",
                  "Compute in double precision first, then round: F.gelu(x).half(). "
                  "Compare the two rounded results with != and count.",
                  "(F.gelu(x).half() != F.gelu(x, approximate=\"tanh\").half()).sum()"),
           solution="x = torch.arange(1024, 2048, dtype=torch.float64) / 512\n"
                    'erf, tanh = F.gelu(x), F.gelu(x, approximate="tanh")\n'
                    "gap = (erf - tanh).abs()\n"
                    'measured = {"largest gap": gap.max().item(),\n'
                    '            "at": x[gap.argmax()].item(),\n'
                    '            "differ in half":\n'
                    "                (erf.half() != tanh.half()).sum().item()}"),
    Answer("04.5", "w1 (3, F), b1 (F,), w2 (F, 1), b2 (1,), which tell exactly two of "
           "three facts, with the smallest F",
           lambda: [torch.ones(3, 2), torch.tensor([-1.0, -2.0]),
                    torch.tensor([[1.0], [-2.0]]), torch.zeros(1)], test=_two_of_three,
           hints=("The order of the facts does not count. So every hidden unit may see "
                  "their sum, 0 to 3, and the network has to give 0, 0, 1, 0.",
                  "relu(sum - 1) is 0, 0, 1, 2. Subtract something that is 0, 0, 0, 2.",
                  "relu(sum - 1) rises from 1 on; from 2 on it must fall: subtract "
                  "2 relu(sum - 2)."),
           solution="w1, b1 = torch.ones(3, 2), torch.tensor([-1.0, -2.0])\n"
                    "w2, b2 = torch.tensor([[1.0], [-2.0]]), torch.zeros(1)"),
)
