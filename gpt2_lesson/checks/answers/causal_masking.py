"""Lesson 02: rows of causal weights, who leaks, and a fill that is not low enough."""

import math
import re

import torch
from torch import Tensor

from gpt2_lesson.checks.engine import Mistake
from gpt2_lesson.checks.report import Report
from gpt2_lesson.checks.values import Answer

_ROLL = Mistake(
    "N20", "overlooking that roll takes the last token round to the front",
    "output 0 of C is the last token",
    "What does C put at place 0, which has no token before it?",
    "print x.roll(1, 1) for tokens 1, 2, 3", "C leaks, from the last token to output 0")
_EXAMPLES = Mistake(
    "N21", "taking a mean over the examples for a leak in time",
    "E mixes texts, but output i needs nothing after token i of any of them",
    "Along which axis does E average?", "dim=0 is the batch", "E does not leak")
_OPPOSITE = Mistake(
    "N22", "the functions that do not leak, in place of those that do",
    "every letter is on the wrong side", "When does your test say True?",
    "look at where you collect the letters", "keep the letters for which it says True")
_SOFTMAX = Mistake(
    "N23", "overlooking that a softmax over the tokens divides by a sum over all",
    "every output of F moves when the last token changes",
    "What is each number of a softmax divided by?", "which axis is dim=1?",
    "F leaks, through its sum")


_NO_MASK = Mistake(
    "N24", "no mask: row 0 sees the future",
    "the first token attends to itself only", "Which keys may query 0 attend to?",
    "row 0", "[1.0, 0, 0, 0]")
_LATE = Mistake(
    "N25", "masked after the softmax, without renormalising",
    "a row of weights adds up to 1", "What does row 0 add up to?", "row 0",
    "[1.0, 0, 0, 0]")
_DIAGONAL = Mistake(
    "N26", "the diagonal hidden: a token may not attend to itself",
    "a token may attend to itself and to what came before it",
    "May a token attend to itself?", "the last number of each row",
    "[1.0, 0, 0, 0] and [0.1, 0.2, 0.3, 0.4]")
_LOGS = Mistake(
    "N27", "the scores, not the weights", "the weights of a row add up to 1",
    "How does a score become a weight?", "e to the power of ln 3 is 3",
    "[0.1, 0.2, 0.3, 0.4]")
_NO_LOGS = Mistake(
    "N28", "a softmax of 1 to 4, as if the scores were no logarithms",
    "e to the power of ln 3 is 3, not e to the 3",
    "What is e to the power of ln 3?", "row 3", "[0.1, 0.2, 0.3, 0.4]")
_EVEN = Mistake(
    "N29", "equal weights", "the scores differ, so the weights do",
    "What is e to the power of ln 3, and of ln 4?", "row 3", "[0.1, 0.2, 0.3, 0.4]")
_UPSIDE = Mistake(
    "N30", "the mask upside down: the past is hidden",
    "the last token attends to all four, the first one to itself only",
    "Which keys may the last query attend to?", "row 3", "[0.1, 0.2, 0.3, 0.4]")


def _hidden_share(scores: Tensor, fill: float) -> float:
    """Return the largest share that a hidden key gets, for scores (T, T)."""
    hidden = torch.ones(scores.shape, dtype=torch.bool).triu(1)
    shares = scores.double().masked_fill(hidden, fill).softmax(-1)
    return shares[hidden].max().item()


def _breaks(value: object) -> list[str]:
    """Return why a fill and scores do not show what a finite fill can do."""
    if not isinstance(value, list | tuple) or len(value) != 2:
        return ["expected a list of two: [fill, scores]"]
    fill, scores = float(value[0]), torch.as_tensor(value[1], dtype=torch.float32)
    if not math.isfinite(fill):
        return [f"the fill is {fill}: no finite score is below it, so nothing breaks"]
    if scores.dim() != 2 or scores.size(0) != scores.size(1) or len(scores) < 2:
        return [f"the scores have the shape {tuple(scores.shape)}, expected (T, T) "
                "with T = 2 or more"]
    if not scores.isfinite().all():
        return ["some scores are not finite: q.k never gives that"]
    ordinary = torch.randn(100, 6, 6, generator=torch.Generator().manual_seed(0))
    usual = max(_hidden_share(3 * one, fill) for one in ordinary)
    if usual > 1e-4:
        return [f"the fill {fill:g} does not look fine: with ordinary scores (standard "
                f"deviation 3) a hidden key already gets {usual:.2g}, and at most "
                "0.0001 is allowed"]
    share = _hidden_share(scores, fill)
    if not share > 0.01:
        return [f"with your scores a hidden key gets {share:.2g}: more than 0.01 is "
                "asked for. How low must the visible scores be, against the fill?"]
    return []


class _Letters(Answer):
    """An answer of letters, in any order: "BF", "f, b", ["B", "F"]."""

    def _report(self, value: object) -> Report:
        return super()._report(_sorted_letters(value))


def _sorted_letters(value: object) -> object:
    """Return letters as a text in the order of the alphabet; else the value itself."""
    if isinstance(value, list | tuple | set) and all(
            isinstance(part, str) for part in value):
        value = " ".join(sorted(value))
    if not isinstance(value, str):
        return value
    letters = re.findall(r"\w", value.upper())
    return "".join(sorted(set(letters))) if set(letters) <= set("ABCDEF") else value


ANSWERS = (
    Answer("02.1", "rows 0 and 3 of causal weights, scores ln 1, ln 2, ln 3, ln 4",
           {"row 0": [1.0, 0, 0, 0], "row 3": [0.1, 0.2, 0.3, 0.4]}, decimals=1,
           precision="one decimal is", predict=True,
           wrong=(({"row 0": [0.1, 0.2, 0.3, 0.4]}, _NO_MASK),
                  ({"row 0": [0.25] * 4}, _NO_MASK), ({"row 0": [0.1, 0, 0, 0]}, _LATE),
                  ({"row 0": [0, 0, 0, 0]}, _DIAGONAL),
                  ({"row 3": [1 / 6, 2 / 6, 3 / 6, 0]}, _DIAGONAL),
                  ({"row 3": [math.log(n) for n in (1, 2, 3, 4)]}, _LOGS),
                  ({"row 3": [0.032, 0.087, 0.237, 0.644]}, _NO_LOGS),
                  ({"row 3": [0.25] * 4}, _EVEN), ({"row 3": [0, 0, 0, 1]}, _UPSIDE),
                  ({"row 3": [0, 0, 0, 0.4]}, _UPSIDE)),
           hints=("Which keys may query 0 attend to, and which may query 3?",
                  "e to the power of ln 3 is 3. Divide by the sum over the keys that "
                  "may be seen.",
                  "One visible key gets everything; 1 + 2 + 3 + 4 = 10."),
           solution='predicted = {"row 0": [1.0, 0, 0, 0],\n'
                    '             "row 3": [0.1, 0.2, 0.3, 0.4]}'),
    _Letters("02.4", "the letters of the functions that leak", "BCF",
           wrong=(("BF", _ROLL), ("BCEF", _EXAMPLES), ("ADE", _OPPOSITE),
                  ("BC", _SOFTMAX), ("BEF", _ROLL)),
           hints=("Ask two questions about each letter: does it mix tokens (axis 1) at "
                  "all? If it does, can a later token reach an earlier position?",
                  "Ask your test about each of the six.",
                  'Collect the letters for which leaks(function, x) is True.'),
           solution='leaking = "".join(letter for letter, function in functions.items()'
                    "\n                  if leaks(function, x))"),
    Answer("02.5", "a fill that looks fine, and scores (T, T) that break it",
           lambda: [-100.0, [[-100.0, 0.0], [0.0, 0.0]]], test=_breaks,
           hints=("Softmax depends on differences between scores only. Take the first "
                  "row, one visible score and the fill beside it: low against what?",
                  "The hidden scores are thrown away. The visible ones are yours: make "
                  "the one of row 0 as low as the fill.",
                  "fill = -100 and a visible score of -100: half and half."),
           solution="fill = -100.0\nscores = [[-100.0, 0.0], [0.0, 0.0]]"),
)
