"""Lesson 08: what call logs do, and how large a learning rate may be."""

from gpt2_lesson.checks.clues import shown
from gpt2_lesson.checks.engine import Mistake
from gpt2_lesson.checks.values import Answer


def _rates(plain: float, momentum: float) -> dict[str, float]:
    return {"plain": plain, "momentum 0.9": momentum}


_RATES = _rates(0.04, 0.076)
_CHOICES = ("right", "nothing moves", "last batch only", "never clipped",
            "steps too short")
_LOGS = {"A": "nothing moves", "B": "right", "C": "last batch only",
         "D": "never clipped", "E": "steps too short", "F": "right"}


def _wrong_logs(value: object) -> list[str]:
    """Return what is wrong with the predictions: no choice, or not the right one."""
    if not isinstance(value, dict) or value.keys() != _LOGS.keys():
        return ["expected a dict with the entries 'A', 'B', 'C', 'D', 'E', 'F'"]
    chosen = {name: " ".join(str(one).lower().split()) for name, one in value.items()}
    none = [name for name, one in chosen.items() if one not in _CHOICES]
    if none:
        return [f"{shown(value[none[0]])} for {none[0]} is none of the five choices: "
                + ", ".join(_CHOICES)]
    bad = [name for name in _LOGS if chosen[name] != _LOGS[name]]
    good = [name for name in _LOGS if name not in bad]
    told = f"right: {', '.join(good)}; " if good else ""
    return [f"{told}not yet: {', '.join(bad)}"] if bad else []


def _rate_off(value: object) -> list[str]:
    """Return on which side of the largest rates that work the measured ones lie."""
    if not isinstance(value, dict) or value.keys() != _rates(0, 0).keys():
        return ["expected a dict with the entries 'plain' and 'momentum 0.9'"]
    found = []
    for name, right in _RATES.items():
        mine = value[name].item() if hasattr(value[name], "item") else value[name]
        if isinstance(mine, bool) or not isinstance(mine, int | float):
            found.append(f"{name} should be a number, and is {shown(mine)}")
        elif not mine < 1.05 * right:
            found.append(f"{name}: with {mine:.4g} a weight ends farther from 0 than 1")
        elif mine < 0.95 * right:
            found.append(f"{name}: {mine:.4g} works, and larger rates do too"
                         if mine > 0 else f"{name}: {mine:.4g} goes nowhere, or uphill")
    return found


_INVERSE = Mistake(
    "P1", "the rate that is fastest along the steep weight, not the largest that works",
    "at 1/50 the steep weight arrives in one step; twice that still shrinks it",
    "A step multiplies a by 1 - 50 lr. For which rates is that between -1 and 1?",
    "Try a rate 1.5 times as large", "Double the rate until it fails, then halve")
_FLAT = Mistake(
    "P2", "the limit of the flat weight b", "the steep weight fails long before",
    "Which of the two weights runs away first?", "Look at both weights at the end",
    "Every weight has to come closer to 0")
_DIVIDED = Mistake(
    "P3", "with momentum ten times smaller",
    "momentum of 0.9 makes a long run of equal gradients ten times as strong, but "
    "swings of alternating sign nearly cancel",
    "Which sign has the gradient of a, step after step, near the limit?",
    "Measure it as you measured the plain one", "Bracket again, with momentum=0.9")
_EQUAL = Mistake(
    "P4", "the same limit with and without momentum",
    "momentum moves the limit", "Did both runs use their own momentum?",
    "Look at the argument momentum", "torch.optim.SGD(..., momentum=momentum)")

_SWAPPED = Mistake(
    "P5", "the two rates exchanged", "each is the other's limit",
    "With which momentum did you find the smaller one?",
    "Compare the names with the numbers", "The smaller one belongs to plain")

def _log(id: str, name: str, why: str, idea: str, fix: str) -> Mistake:
    return Mistake(id, name, why, idea, "write down p.grad after each call", fix)


_HOLDS = "What does p.grad hold when step is called?"
_EMPTIED = _log("P6", "zero_grad between backward and step overlooked",
                "A empties the gradients right before they are used", _HOLDS,
                "A: nothing moves")
_TOO_LATE = _log("P7", "zero_grad at the end taken for one before step",
                 "F has taken its step when it empties the gradients", _HOLDS, "F: "
                                                                               "right")
_FORGETS = _log("P8", "the second zero_grad of C overlooked",
                "it throws the first batch's gradient away", _HOLDS,
                "C: last batch only")
_AFTER = _log("P9", "clip after step taken for a clip", "D clips gradients that have "
              "been used", "What is left to do with the gradients after step?",
              "D: never clipped")
_SCALED = _log("P10", "unscale after clip overlooked",
               "E clips gradients that are 1024 times too large, and divides them then",
               "How large is the gradient norm after clip, and after unscale?",
               "E: steps too short")
_BOTH = _log("P11", "two backwards in a row taken for a mistake",
             "B adds up the gradients of its two batches, as it should",
             "What does backward do to a gradient that is there?", "B: right")
_WRONG_LOGS = tuple(
    ({letter: choice}, mistake)
    for letter, mistake in (("A", _EMPTIED), ("B", _BOTH), ("C", _FORGETS),
                            ("D", _AFTER), ("E", _SCALED), ("F", _TOO_LATE))
    for choice in _CHOICES if choice != _LOGS[letter])

ANSWERS = (
    Answer("08.1", "the behaviour of each of six call logs",
           _LOGS, wrong=_WRONG_LOGS, test=_wrong_logs, predict=True,
           hints=("Follow what the gradient holds: zero_grad empties it, backward adds "
                  "to it, clip scales it down if its norm is too large, step uses it "
                  "and leaves it as it is.",
                  "Program E: how large is the gradient norm after clip? And what does "
                  "unscale make of it?",
                  "A and D differ from a right log in one place each."),
           solution='predicted = {"A": "nothing moves", "B": "right",\n'
                    '             "C": "last batch only", "D": "never clipped",\n'
                    '             "E": "steps too short", "F": "right"}'),
    Answer("08.4", "the largest learning rate that works, without and with momentum",
           _RATES, rtol=0.05, precision="5 per cent is", test=_rate_off,
           wrong=((_rates(0.02, 0.038), _INVERSE), (_rates(0.02, 0.076), _INVERSE),
                  (_rates(2.0, 3.8), _FLAT), (_rates(0.04, 0.004), _DIVIDED),
                  (_rates(0.04, 0.04), _EQUAL), (_rates(0.076, 0.04), _SWAPPED)),
           hints=("0.001 works and 1 fails. Try 0.03, which is about as many times "
                  "larger than the first as it is smaller than the second, and keep "
                  "the half in which it changes.",
                  "Without momentum each step multiplies a by 1 - 50 lr. When does "
                  "that not shrink it?",
                  "The plain limit is 2 / 50: beyond it |1 - 50 lr| is above 1."),
           solution="def bracket(momentum, works=1e-4, fails=10.0):\n    while fails / "
                    "works > 1.01:\n        middle = (works * fails) ** 0.5\n        "
                    "if ends_lower(middle, momentum):\n            works = middle\n    "
                    "    else:\n            fails = middle\n    return works"),
)
