"""Lesson 06: what predictions and measurements on generation should give."""

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
    """Return why greedy does not lose by a factor of 2 here, if so."""
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
            return [f"{name} must hold probabilities: not negative, adding up to 1; "
                    f"its sum is {row.sum():.4g}, its smallest number {row.min():.4g}"]
    return _lost_by(first[:, None] * second, int(first.argmax()))


def _lost_by(texts: torch.Tensor, start: int) -> list[str]:
    """Return what is missing to a factor of 2: texts (3, 3), greedy's first word."""
    greedy, best = texts[start].max().item(), texts.max().item()
    if best >= 2 * greedy - 1e-6:
        return []
    return [f"greedy's text has the probability {greedy:.3f}, and the most probable "
            f"text {best:.3f}: {best / max(greedy, 1e-9):.2f} times as much, at least "
            "2 times is asked for"]


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
    "P4", "the number of different pairs, not divided by the number of pairs",
    "it has to be divided by how many pairs there are in all",
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
    "P10", "the two entries exchanged", "a fraction is never above 1, and nats may be",
    "Which of the two numbers can be above 1?", "Compare the names with the numbers",
    "different_pairs for the first entry, nats_per_byte for the second")
_OWN = Mistake(
    "P3", "the loss at the temperature sampled with, not at temperature 1",
    "a model at another temperature is another model: its own text costs it less",
    "Who should judge all four kinds of text?", "Look for a division of the logits",
    "Use the logits as they are")

_COLD, _HALF, _HOT, _TOP = "T close to 0", "T = 0.5", "T very large", "k = 1"
_PLAIN = [0.5, 0.25, 0.125, 0.125]
_POWER = "4, 2, 1 and 1 to the power 1/T, divided by their sum"


def _setting(id: str, name: str, why: str, idea: str, fix: str = _POWER) -> Mistake:
    return Mistake(id, name, why, idea, "compare with temperature 1: 4 : 2 : 1 : "
                                        "1", fix)


_TURNED_ROUND = _setting(
    "P11", "cold and hot exchanged", "a small T makes differences of logits larger",
    "What are the logits divided by, and do they grow or shrink?")
_MULTIPLIED = _setting(
    "P12", "logits multiplied by T, not divided", "T = 0.5 should make it sharper",
    "What are the logits divided by, and do they grow or shrink?")
_IGNORED = _setting(
    "P13", "the setting has no effect: the probabilities of temperature 1",
    "4 : 2 : 1 : 1 is what you get without the setting",
    "What does the setting change: the logits, or which tokens stay?")
_NOT_AGAIN = _setting(
    "P14", "not renormalised: they don't add up to 1",
    "what is left has to add up to 1 again", "What do your four numbers add up to?",
    "divide by their sum")
_DIVIDED = _setting(
    "P15", "probabilities divided by T, not logits", "they don't add up to 1",
    "What is divided by T: the logits, or the probabilities?")
_VANISHED = _setting(
    "P16", "logits of 0 taken for probabilities of 0",
    "equal logits give equal probabilities", "What is the softmax of four zeros?")

ANSWERS = (
    Answer("06.1", "the probabilities of four words at several settings", {
        "T close to 0": [1.0, 0.0, 0.0, 0.0], "T = 0.5": [16 / 22, 4 / 22, 1 / 22,
                                                          1 / 22],
        "T very large": [0.25, 0.25, 0.25, 0.25], "k = 1": [1.0, 0.0, 0.0, 0.0]},
        decimals=2, precision="two decimals are", predict=True, wrong=(
            ({_COLD: [0.25] * 4}, _TURNED_ROUND), ({_HOT: [1, 0, 0, 0]}, _TURNED_ROUND),
            ({_HALF: [0.369, 0.261, 0.185, 0.185]}, _MULTIPLIED),
            ({_COLD: _PLAIN}, _IGNORED), ({_HALF: _PLAIN}, _IGNORED),
            ({_HOT: _PLAIN}, _IGNORED), ({_TOP: _PLAIN}, _IGNORED),
            ({_TOP: [0.5, 0, 0, 0]}, _NOT_AGAIN), ({_HALF: [16, 4, 1, 1]}, _NOT_AGAIN),
            ({_HALF: [1, 0.5, 0.25, 0.25]}, _DIVIDED),
            ({_HALF: [0.25, 0.0625, 0.015625, 0.015625]}, _NOT_AGAIN),
            ({_HOT: [0, 0, 0, 0]}, _VANISHED), ({_TOP: [1, 1, 1, 1]}, _NOT_AGAIN)),
        hints=(
            "Dividing logits by T is taking e to the logits, here 4, 2, 1 and 1, to "
            "the power 1/T, before they are normalised.",
            "For T = 0.5 the power is 2. What are the squares of 4, 2, 1 and 1, and "
            "what do they add up to?",
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
           rtol=0.06, atol=0.0051, precision="two decimals are", hints=(
               "The ids are bytes: "
               'bytes(row.tolist()).decode(errors="replace").split() '
               "are the words of a text. (At a high temperature some bytes are not "
               "text, and are replaced.)",
               "zip(words, words[1:]) gives the pairs of one text. Put those of all 8 "
               "texts into one list, before you count the different ones with set.",
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
    Answer("06.5", "probabilities of two words with which greedy loses by a factor of "
                   "2",
           [[0.4, 0.3, 0.3], [[0.34, 0.33, 0.33], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]],
           test=_greedy_loses, hints=(
               "A text's probability is the product of two probabilities: first[i] * "
               "second[i][j].",
               "After greedy's first word the model should be unsure. After another "
               "first word, nearly as probable, it should be sure.",
               "first = 0.4, 0.3, 0.3; after word 0 all equal, after word 1 one sure"),
           solution="""\
first = [0.4, 0.3, 0.3]
second = [[0.34, 0.33, 0.33], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]"""),
)
