"""Lesson 11: what predictions and measurements of a loss should give."""

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
            return [f"entry {i} is not a pair (nats, ending)"]
        nats, ending = part
        nats = nats.tolist() if isinstance(nats, Tensor) else nats
        if not isinstance(ending, str) or not ending:
            return [f"the ending of entry {i} must be a text of one character or "
                    "more"]
        if not isinstance(nats, list | tuple) or not nats or not all(
                isinstance(one, int | float) and math.isfinite(one) for one in nats):
            return [f"the nats of {ending!r} must be a list: a number for each token, "
                    "one or more"]
        if min(nats) < 0:
            return [f"a token with {min(nats)} nats: -ln of a probability is never "
                    "below 0"]
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
    "What do the nats of 49 bytes make together?", "Look for mean", "nats.sum()")
_PER_WORD = Mistake(
    "P4", "bits per word, not per byte", "a sentence has 49 bytes and 11 words",
    "Per what?", "Look at the last division", "nats / math.log(2) / 49")
_ALL_BITS = Mistake(
    "P5", "bits of the whole sentence, not per byte", "it has 49 bytes", "Per what?",
    "Look at the last division", "nats / math.log(2) / 49")
_CHANGED = Mistake(
    "P6", "the two perplexities exchanged", "a word costs more than a byte",
    "Which is larger, the nats per word or per byte?",
    "Compare the names with the numbers", "math.exp(nats / 49) is the one per byte")
_NO_EXP = Mistake(
    "P7", "the mean nats, not e to the power of them",
    "a perplexity is a number of choices, and never below 1",
    "What is the perplexity of a model that is sure of everything?", "Look for exp",
    "math.exp(nats / 49), math.exp(nats / 11)")

_BITS, _NATS_1, _PPL, _TWO = ("bits", "nats", "perplexity", "perplexity of 1/2 and 1/8")


def _uniform(id: str, name: str, why: str, idea: str, fix: str) -> Mistake:
    return Mistake(id, name, why, idea, "begin with the bits of one token", fix)


_HALVINGS = "How many halvings lead from 1 to 1/16?"
_UNIT = "Which is larger, a bit or a nat?"
_CHOICES = "As uncertain as among how many equal choices?"
_MEAN_FIRST = "What is averaged: the bits, or something else?"
_WRONG_11 = (
    ({_BITS: 16}, _uniform("P8", "the number of choices, not its logarithm",
                           "16 choices are 4 halvings", _HALVINGS, "4 bits")),
    ({_BITS: 2.7726}, _uniform("P9", "nats, where bits are asked for",
                               "a bit is 0.693 nats, so there are more bits", _UNIT,
                               "4 bits")),
    ({_NATS_1: 4}, _uniform("P10", "bits, where nats are asked for",
                            "a bit is 0.693 nats, so there are fewer nats", _UNIT,
                            "4 * 0.693")),
    ({_NATS_1: 5.7708}, _uniform("P11", "divided by ln 2, not multiplied",
                                 "a bit is 0.693 nats, so there are fewer nats", _UNIT,
                                 "4 * 0.693")),
    ({_NATS_1: 16}, _uniform("P8", "the number of choices, not its logarithm",
                             "16 choices are 4 halvings", _HALVINGS, "4 * 0.693")),
    ({_PPL: 4}, _uniform("P12", "the bits, not 2 to the power of them",
                         "a perplexity is a number of choices", _CHOICES, "2 ** 4")),
    ({_PPL: 2.7726}, _uniform("P13", "the nats, not e to the power of them",
                              "a perplexity is a number of choices", _CHOICES,
                              "e ** 2.77")),
    ({_PPL: 1 / 16}, _uniform("P14", "the probability, not one over it",
                              "a perplexity is never below 1", _CHOICES, "16")),
    ({_TWO: 5}, _uniform("P15", "the mean of 2 and 8, one over each probability",
                         "one improbable token would rule that mean", _MEAN_FIRST,
                         "2 ** ((1 + 3) / 2)")),
    ({_TWO: 3.2}, _uniform("P16", "one over the mean probability",
                           "the logarithm comes before the mean", _MEAN_FIRST,
                           "2 ** ((1 + 3) / 2)")),
    ({_TWO: 2}, _uniform("P12", "the bits, not 2 to the power of them",
                         "a perplexity is a number of choices", _CHOICES,
                         "2 ** ((1 + 3) / 2)")),
    ({_TWO: 16}, _uniform("P17", "of both tokens together, not per token",
                          "1 bit and 3 bits are 4 bits for two tokens", _MEAN_FIRST,
                          "2 ** ((1 + 3) / 2)")),
)
ANSWERS = (
    Answer("11.1", "bits, nats and perplexity of simple probabilities", {
        "bits": 4.0, "nats": 2.77, "perplexity": 16.0,
        "perplexity of 1/2 and 1/8": 4.0}, _WRONG_11, rtol=0.005,
        precision="two decimals are", predict=True, hints=(
            "Each halving of the probability is one bit. How many halvings lead from 1 "
            "to 1/16?",
            "A bit is 0.693 nats. For two tokens: first the mean of their bits, and "
            "then 2 to the power of it.",
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
        (_four(nats=_NATS / 49), _MEAN),
        (_four(bits=_NATS / math.log(2) / 11), _PER_WORD),
        (_four(bits=_NATS / math.log(2)), _ALL_BITS),
        (_four(byte=math.exp(_NATS / 11), word=math.exp(_NATS / 49)), _CHANGED),
        (_four(byte=_NATS / 49, word=_NATS / 11), _NO_EXP)), rtol=0.01, atol=0.0051,
        precision="two decimals are", hints=(
            "All four numbers come from one, the nats of the whole sentence. What is "
            "divided by 49, and what by 11?",
            "A nat is 1/ln 2 bits, so there are more bits than nats.",
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
               "Let one ending have the lowest loss in all, one per token and one per "
               "byte.",
               "Many tokens of low loss each win per token. A long text in few tokens "
               "wins per byte.",
               '([1.0], "a"), ([0.5] * 4, "b c d"), ([1.5, 1.5], "e" * 30)'),
           solution="""\
question = [([1.0], "a"), ([0.5] * 4, "b c d"), ([1.5, 1.5], "e" * 30)]"""),
)
