"""Lesson 06: what predictions and measurements on writing should give."""

import math

import torch

from gpt2_lesson.checks.engine import Mistake
from gpt2_lesson.checks.values import Answer

# Of 8 texts of the story model at temperatures 0.5, 1, 2, 3, measured.
_PAIRS, _NATS = [0.772, 0.779, 0.794, 0.934], [0.148, 0.148, 0.406, 3.129]
_BYTES = 8 * 160


def _measured(pairs: list[float], nats: list[float]) -> dict[str, list[float]]:
    return {"different pairs of words": pairs, "nats per byte": nats}


def _greedy_loses(value: object) -> list[str]:
    """Return why greedy does not lose by a factor of 2 in these odds, if so."""
    if not isinstance(value, list | tuple) or len(value) != 2:
        return ["expected a list of two: [first, second]"]
    try:
        first, second = (torch.as_tensor(part, dtype=torch.float64) for part in value)
    except (TypeError, ValueError):
        return ["first must be 3 numbers, and second 3 lists of 3 numbers"]
    if first.shape != (3,) or second.shape != (3, 3):
        return [f"first has the shape {tuple(first.shape)} and second "
                f"{tuple(second.shape)}, expected (3,) and (3, 3)"]
    rows = {"first": first} | {f"second[{i}]": row for i, row in enumerate(second)}
    for name, row in rows.items():
        if not (row >= 0).all() or not abs(row.sum() - 1) < 1e-3:
            return [f"{name} must be odds: not negative, adding up to 1; its sum is "
                    f"{row.sum():.4g}, its smallest number {row.min():.4g}"]
    return _lost_by(first[:, None] * second, int(first.argmax()))


def _lost_by(texts: torch.Tensor, start: int) -> list[str]:
    """Return what is missing to a factor of 2: texts (3, 3), greedy's first word."""
    greedy, best = texts[start].max().item(), texts.max().item()
    if best >= 2 * greedy - 1e-6:
        return []
    return [f"greedy's text has the probability {greedy:.3f}, and the likeliest text "
            f"{best:.3f}: {best / max(greedy, 1e-9):.2f} times as much, at least 2 "
            "times is asked for"]


_ALONE = Mistake(
    "P1", "the pairs counted in each text alone, or in one text only",
    "a pair that two texts share does not count as a repetition",
    "Which pairs does the second text repeat from the first?",
    "Where does the set begin?", "One set for the pairs of all 8 texts")
_WORDS = Mistake(
    "P2", "different words, not pairs of words",
    "a story has few words, and many ways to join them",
    "What is a pair of words?", "Look for zip(words, words[1:])",
    "pairs = [pair for words in texts for pair in zip(words, words[1:])]")
_COUNT = Mistake(
    "P4", "the number of different pairs, not their share",
    "how many pairs there are in all makes a share of it",
    "Different pairs of how many?", "Look for a division",
    "len(set(pairs)) / len(pairs)")
_LETTERS = Mistake(
    "P5", "pairs of neighbouring bytes, not of words",
    "there are few pairs of letters, and they return in every word",
    "What does .split() give?", "What stands in your pairs?",
    "bytes(row).decode(errors='replace').split()")
_BITS = Mistake(
    "P6", "bits, not nats", "a nat is 1.44 bits, so the numbers are larger",
    "In which unit does nats_of answer?", "Look for log2, or a division by ln 2",
    "nats_of(model, ids).mean()")
_SUM = Mistake(
    "P7", "the nats of all bytes together, not per byte",
    "the sum grows with the number of texts and their length",
    "How many bytes are 8 texts of 160?", "Look for sum", "nats_of(model, ids).mean()")
_TEXT = Mistake(
    "P8", "the nats of a whole text, not per byte", "a text has 160 bytes",
    "How many bytes has one text?", "Look at what the sum is divided by",
    "nats_of(model, ids).mean()")
_PERPLEXITY = Mistake(
    "P9", "the perplexity, e to the nats", "a sure model gets 1 there, and 0 nats",
    "What would a model get that is sure of every byte?", "Look for exp",
    "nats_of(model, ids).mean()")
_SWAPPED = Mistake(
    "P10", "the two entries exchanged", "a share is never above 1, and nats may be",
    "Which of the two numbers can be above 1?", "Compare the names with the numbers",
    "different_pairs for the first entry, nats_per_byte for the second")
_OWN = Mistake(
    "P3", "the surprise at the temperature drawn with, not at temperature 1",
    "a model at another temperature is another model: it is less surprised at itself",
    "Who should judge all four kinds of text?", "Look for a division of the logits",
    "Use the logits as they are")

ANSWERS = (
    Answer("06.1", "the odds of four words at several settings", {
        "T close to 0": [1.0, 0.0, 0.0, 0.0], "T = 0.5": [16 / 22, 4 / 22, 1 / 22,
                                                          1 / 22],
        "T very large": [0.25, 0.25, 0.25, 0.25], "k = 1": [1.0, 0.0, 0.0, 0.0]},
        atol=0.0075, predict=True, hints=(
            "The odds are the softmax of logits/T. What do logits/T become?",
            "T = 0.5 squares 4 : 2 : 1 : 1 before they are shared out.",
            "16, 4, 1 and 1 of 22"),
        solution="""\
predicted = {
    "T close to 0": [1.0, 0.0, 0.0, 0.0],
    "T = 0.5": [0.73, 0.18, 0.05, 0.05],
    "T very large": [0.25, 0.25, 0.25, 0.25],
    "k = 1": [1.0, 0.0, 0.0, 0.0],
}"""),
    Answer("06.4", "different pairs of words, and nats per byte, at four temperatures",
           _measured(_PAIRS, _NATS), (
               (_measured([0.989, 0.989, 0.978, 0.985], _NATS), _ALONE),
               (_measured([0.460, 0.458, 0.462, 0.673], _NATS), _WORDS),
               (_measured([207, 208, 212, 255], _NATS), _COUNT),
               (_measured([0.191, 0.184, 0.198, 0.35], _NATS), _LETTERS),
               (_measured(_PAIRS, [0.145, 0.148, 0.309, 1.546]), _OWN),
               (_measured(_PAIRS, [x / math.log(2) for x in _NATS]), _BITS),
               (_measured(_PAIRS, [x * _BYTES for x in _NATS]), _SUM),
               (_measured(_PAIRS, [x * 160 for x in _NATS]), _TEXT),
               (_measured(_PAIRS, [math.exp(x) for x in _NATS]), _PERPLEXITY),
               (_measured(_NATS, _PAIRS), _SWAPPED)),
           rtol=0.06, atol=0.004, hints=(
               "Two functions of a batch of texts: one looks at words, one asks the "
               "model.",
               "Print the pairs of words of one text before you count.",
               "len(set(pairs)) / len(pairs), and nats_of(model, ids).mean()"),
           solution="""\
def different_pairs(ids):
    texts = [bytes(row).decode(errors="replace").split() for row in ids.tolist()]
    pairs = [pair for words in texts for pair in zip(words, words[1:])]
    return len(set(pairs)) / len(pairs)

def nats_per_byte(ids):
    return nats_of(model, ids).mean().item()

measured = {
    "different pairs of words": [different_pairs(texts_at(t)) for t in (0.5, 1, 2, 3)],
    "nats per byte": [nats_per_byte(texts_at(t)) for t in (0.5, 1, 2, 3)],
}"""),
    Answer("06.5", "odds of two words on which greedy loses by a factor of 2",
           [[0.4, 0.3, 0.3], [[0.34, 0.33, 0.33], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]],
           test=_greedy_loses, hints=(
               "The likeliest first word should lead to a second word that is unsure.",
               "A text's probability is the product of two odds.",
               "first = 0.4, 0.3, 0.3; after word 0 all equal, after word 1 one sure"),
           solution="""\
first = [0.4, 0.3, 0.3]
second = [[0.34, 0.33, 0.33], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]"""),
)
