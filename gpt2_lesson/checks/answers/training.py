"""Lesson 08: what call logs do, and how large a learning rate may be."""

from gpt2_lesson.checks.engine import Mistake
from gpt2_lesson.checks.values import Answer


def _rates(plain: float, momentum: float) -> dict[str, float]:
    return {"plain": plain, "momentum 0.9": momentum}


_INVERSE = Mistake(
    "P1", "the rate that is fastest along the steep weight, not the largest that works",
    "at 1/50 the steep weight arrives in one step; twice that still shrinks it",
    "A step multiplies a by 1 - 50 lr. For which rates is that between -1 and 1?",
    "try a rate 1.5 times as large", "double the rate until it fails, then halve")
_FLAT = Mistake(
    "P2", "the limit of the flat weight b", "the steep weight fails long before",
    "Which of the two weights runs away first?", "look at both weights at the end",
    "every weight has to come closer to 0")
_DIVIDED = Mistake(
    "P3", "with momentum ten times smaller", "momentum of 0.9 makes a long run of equal "
    "gradients ten times as strong, but swings of alternating sign nearly cancel",
    "Which sign has the gradient of a, step after step, near the limit?",
    "measure it as you measured the plain one", "bracket again, with momentum=0.9")
_EQUAL = Mistake(
    "P4", "the same limit with and without momentum",
    "momentum moves the limit", "Did both runs use their own momentum?",
    "look at the argument momentum", "torch.optim.SGD(..., momentum=momentum)")

ANSWERS = (
    Answer("08.1", "what each of six call logs does",
           {"A": "nothing moves", "B": "right", "C": "last batch only",
            "D": "never clipped", "E": "steps too short", "F": "right"},
           predict=True,
           hints=("Keep one number in mind: what p.grad holds after each call.",
                  "zero_grad empties it, backward adds to it, clip shortens it, step "
                  "uses it.",
                  "A and D differ from a right log in one place each."),
           solution='predicted = {"A": "nothing moves", "B": "right",\n'
                    '             "C": "last batch only", "D": "never clipped",\n'
                    '             "E": "steps too short", "F": "right"}'),
    Answer("08.4", "the largest learning rate that still works, without and with momentum",
           _rates(0.04, 0.076), rtol=0.05,
           wrong=((_rates(0.02, 0.038), _INVERSE), (_rates(0.02, 0.076), _INVERSE),
                  (_rates(2.0, 3.8), _FLAT), (_rates(0.04, 0.004), _DIVIDED),
                  (_rates(0.04, 0.04), _EQUAL)),
           hints=("First find one rate that works and one that fails, far apart.",
                  "Then try the middle, and keep the half in which it changes.",
                  "The plain limit is 2 / 50: beyond it |1 - 50 lr| is above 1."),
           solution="def bracket(momentum, works=1e-4, fails=10.0):\n"
                    "    while fails / works > 1.01:\n"
                    "        middle = (works * fails) ** 0.5\n"
                    "        if ends_lower(middle, momentum):\n"
                    "            works = middle\n"
                    "        else:\n"
                    "            fails = middle\n"
                    "    return works"),
)
