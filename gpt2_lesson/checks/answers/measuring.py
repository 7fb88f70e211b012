"""Lesson 11: what predictions and measurements of surprise should give."""

import math

from torch import Tensor

from gpt2_lesson.checks.engine import Mistake
from gpt2_lesson.checks.values import Answer

# One sentence of 49 bytes and 11 words, as the story model reads it, measured.
_NATS = 11.163


def _four(**changed: float) -> dict[str, float]:
    """Return the four numbers of the sentence, some of them changed."""
    right = {"nats": _NATS, "byte": math.exp(_NATS / 49), "word": math.exp(_NATS / 11),
             "bits": _NATS / math.log(2) / 49} | changed
    return {"nats in all": right["nats"], "perplexity per byte": right["byte"],
            "perplexity per word": right["word"], "bits per byte": right["bits"]}


def _three_ways(value: object) -> list[str]:
    """Return why a question does not tell the three ways of counting apart."""
    if not isinstance(value, list | tuple) or len(value) != 3:
        return ["expected a list of three: [(nats, ending), (nats, ending), ...]"]
    totals, sizes = [], []
    for i, part in enumerate(value):
        if not isinstance(part, list | tuple) or len(part) != 2:
            return [f"entry {i} is no pair (nats, ending)"]
        nats, ending = part
        nats = nats.tolist() if isinstance(nats, Tensor) else nats
        if not isinstance(ending, str) or not ending:
            return [f"the ending of entry {i} must be a text of one letter or more"]
        if not isinstance(nats, list | tuple) or not nats or not all(
                isinstance(one, int | float) and math.isfinite(one) for one in nats):
            return [f"the nats of {ending!r} must be a list: a number for each token, "
                    "one or more"]
        if min(nats) < 0:
            return [f"a surprise of {min(nats)}: -ln of odds is never below 0"]
        if len(nats) > len(ending.encode()):
            return [f"{ending!r} has {len(nats)} tokens and {len(ending.encode())} "
                    "bytes: a token has one byte or more"]
        totals.append(sum(nats))
        sizes.append((1, len(nats), len(ending.encode())))
    return _same_winner(totals, sizes)


def _same_winner(totals: list[float], sizes: list[tuple[int, int, int]]) -> list[str]:
    names, winners = ("in all", "per token", "per byte"), []
    for way in range(3):
        scores = [total / size[way] for total, size in zip(totals, sizes, strict=True)]
        if sorted(scores)[1] - min(scores) < 1e-9:
            return [f"{names[way]}, two endings are equally good"]
        winners.append(scores.index(min(scores)))
    if len(set(winners)) == 3:
        return []
    return ["the winners are " + ", ".join(
        f"ending {winner} {name}" for name, winner in zip(names, winners, strict=True))
        + ": expected three different ones"]


_BITS_UP = Mistake(
    "P1", "nats, not bits, per byte", "a nat is 1.44 bits, so bits are more",
    "How many bits is one nat?", "Look at the last number", "nats / math.log(2) / 49")
_BITS_DOWN = Mistake(
    "P1x", "nats times ln 2, not divided by it", "a nat is 1.44 bits, so bits are more",
    "How many bits is one nat: more than one, or less?", "Look at the last number",
    "nats / math.log(2) / 49")
_BASE = Mistake(
    "P2", "2 to the mean of nats", "2 belongs to bits, e belongs to nats",
    "In which unit is the mean?", "Look at the base of the power", "math.exp(mean)")
_MEAN = Mistake(
    "P3", "the mean of the nats, not their sum", "in all means: of all 49 bytes",
    "What do 49 surprises make together?", "Look for mean", "nats.sum()")
ANSWERS = (
    Answer("11.1", "surprise and perplexity of simple odds", {
        "bits": 4.0, "nats": 2.77, "perplexity": 16.0,
        "perplexity of 1/2 and 1/8": 4.0}, rtol=0.005, predict=True, hints=(
            "Each halving of the odds is one bit.",
            "1/16 is four halvings; a bit is 0.693 nats.",
            "The mean of 1 bit and 3 bits is 2 bits, and 2 to the 2 is 4."),
        solution="""\
predicted = {
    "bits": 4,
    "nats": 2.77,
    "perplexity": 16,
    "perplexity of 1/2 and 1/8": 4,
}"""),
    Answer("11.4", "one sentence in four units", _four(), (
        (_four(bits=_NATS / 49), _BITS_UP),
        (_four(bits=_NATS * math.log(2) / 49), _BITS_DOWN),
        (_four(byte=2 ** (_NATS / 49), word=2 ** (_NATS / 11)), _BASE),
        (_four(nats=_NATS / 49), _MEAN)), rtol=0.01, hints=(
            "All four numbers come from one: the nats of the whole sentence.",
            "Which number of things stands below: 49 bytes, or 11 words?",
            "nats, math.exp(nats / 49), math.exp(nats / 11), nats / math.log(2) / 49"),
        solution="""\
total = nats.sum().item()
measured = {
    "nats in all": total,
    "perplexity per byte": math.exp(total / 49),
    "perplexity per word": math.exp(total / 11),
    "bits per byte": total / math.log(2) / 49,
}"""),
    Answer("11.5", "three endings, and three ways of counting that choose differently",
           [([1.0], "a"), ([0.5] * 4, "b c d"), ([1.5, 1.5], "e" * 30)],
           test=_three_ways, hints=(
               "Give each ending one strength: the least in all, the least per token, "
               "the least per byte.",
               "Many cheap tokens win per token; a long text in few tokens wins per "
               "byte.",
               '([1.0], "a"), ([0.5] * 4, "b c d"), ([1.5, 1.5], "e" * 30)'),
           solution="""\
question = [([1.0], "a"), ([0.5] * 4, "b c d"), ([1.5, 1.5], "e" * 30)]"""),
)
