"""Lesson 12: what the story model's heads and depths show, measured on it."""

from gpt2_lesson.checks.engine import Mistake
from gpt2_lesson.checks.values import Answer

# Measured on the shipped story model; test_checks_looking_inside.py does it again.
_WHOLE = 0.192                                       # nats a letter, nothing cut
_ONE, _SINGLY, _TOGETHER = 0.374, 0.496, 4.423


def _cut(head: list[int], one: float, singly: float, together: float) -> dict:
    return {"most needed": head, "its cost": one, "layer 0, one by one": singly,
            "layer 0, all at once": together}


_TURNED = Mistake(
    "P1", "layer and head exchanged", "the list is [layer, head]",
    "Which index of your table is the layer?", "look at the order of the two numbers",
    "[layer, head]")
_LOSSES = Mistake(
    "P2", "losses, not what they rose by", "the whole model's loss is in each number",
    "What does the model lose when nothing is cut?", "what do you subtract?",
    "nats(heads) - nats([])")
_MEAN = Mistake(
    "P3", "the mean of the four costs, not their sum", "a quarter of what is asked for",
    "What do the four cuts cost, added up?", "look for mean, or a division by 4",
    "sum of the four costs of layer 0")
_SIGN = Mistake(
    "P7", "costs with the wrong sign", "a cut makes the loss larger, so it costs "
    "something", "By what does the loss rise when a head is cut?",
    "which of the two losses do you subtract?", "nats(heads) - nats([])")
_ONCE = Mistake(
    "P8", "four losses added up, and the whole model's loss subtracted once",
    "the whole model's loss is in the sum three times too often",
    "How many cuts are added up, and what does each cost?",
    "what is subtracted, and how often?", "sum of nats([(0, head)]) - nats([]), four "
    "times")
_SUMMED = Mistake(
    "P9", "losses added up one by one, not costs",
    "the whole model's loss is in the sum four times",
    "What does the model lose when nothing is cut?", "what do you subtract?",
    "sum of nats([(0, head)]) - nats([]), four times")
_EXCHANGED = Mistake(
    "P10", "one by one and all at once exchanged",
    "the four single cuts cost less than a nat together",
    "Which of the two needs four calls of nats?", "look at the names of your numbers",
    "one by one: nats([(0, 0)]), nats([(0, 1)]), ...")
_FROM_1 = Mistake(
    "P11", "layers and heads counted from 1", "the first layer and the first head are "
    "number 0", "What number has the first head?", "look for a + 1", "[layer, head], "
    "both from 0")
_NO_NORM = Mistake(
    "P4", "the stream read without the final norm",
    "the letters are the same here, but the odds are not",
    "What does the model do with the stream before its output head?",
    "what stands between the stream and the logits?", "model.ln_final(x) first")
_DEPTHS = Mistake(
    "P12", "a softmax over the depths, not over the letters",
    "your five numbers add up to 1: the odds are shared out among the depths",
    "What has odds that add up to 1: the letters at one depth, or one letter at the "
    "five depths?", "look at the axis of softmax", ".softmax(-1)[:, ord('b')]")
_LIKELIEST = Mistake(
    "P13", "the odds of the likeliest letter, whatever it is",
    "at four of the five depths that letter is not b",
    "Which id has the letter b?", "look for max", ".softmax(-1)[:, ord('b')]")
_LOGS = Mistake(
    "P14", "logarithms of the odds", "odds lie between 0 and 1, their logarithms below "
    "0", "What does log_softmax give?", "look for log", ".softmax(-1)[:, ord('b')]")
_BLOCKS = Mistake(
    "P15", "the embeddings left out", "four depths, the layers', in place of five",
    "What does the first entry of the lens read?", "look at the first index",
    "logit_lens(model, ids)[:, 0, -1], all five entries")
_EARLY = Mistake(
    "P5", "the place before: one row too early",
    "these are the guesses for the letter o, which is there already",
    "Which row of the logits says what follows the last letter?",
    "look at the index along the tokens", "lens[:, 0, -1]")
_LOGITS = Mistake(
    "P6", "logits, not odds", "odds lie between 0 and 1",
    "How do logits become odds?", "is there a softmax?", ".softmax(-1)[:, ord('b')]")

ANSWERS = (
    Answer("12.1", "the induction scores of three made heads, period 2",
           {"even": 47 / 180, "previous token": 1.0, "same token": 0.0}, atol=0.0051,
           predict=True,
           hints=("The queries that count are 2, 3 and 4. Which keys should they see?",
                  "With period 2 the right keys are 1, 2 and 3.",
                  "even: the mean of 1/3, 1/4 and 1/5"),
           solution='predicted = {"even": 0.26, "previous token": 1.0, '
                    '"same token": 0.0}'),
    Answer("12.3", "which head is needed most, and what cutting layer 0 costs",
           _cut([0, 1], _ONE, _SINGLY, _TOGETHER), rtol=0.02, atol=0.002,
           wrong=((_cut([1, 0], _ONE, _SINGLY, _TOGETHER), _TURNED),
                  (_cut([0, 1], _ONE + _WHOLE, _SINGLY + 4 * _WHOLE,
                        _TOGETHER + _WHOLE), _LOSSES),
                  (_cut([0, 1], _ONE, _SINGLY / 4, _TOGETHER), _MEAN),
                  (_cut([0, 1], -_ONE, -_SINGLY, -_TOGETHER), _SIGN),
                  (_cut([0, 1], _ONE, _SINGLY + 3 * _WHOLE, _TOGETHER), _ONCE),
                  (_cut([0, 1], _ONE, _SINGLY + 4 * _WHOLE, _TOGETHER), _SUMMED),
                  (_cut([0, 1], _ONE, _TOGETHER, _SINGLY), _EXCHANGED),
                  (_cut([1, 2], _ONE, _SINGLY, _TOGETHER), _FROM_1)),
           hints=("The cost of a cut is the loss with it, less the loss without.",
                  "ablate_heads takes a list: four heads can go at once.",
                  "cost = nats([(layer, head)]) - nats([]) for each of the 16"),
           solution="cost = [[nats([(layer, head)]) - nats([]) for head in range(4)]\n"
                    "        for layer in range(4)]"),
    Answer("12.4", "what the model would say after each depth",
           {"says": "omxxb", "odds of b": [0.0, 0.0098, 0.0278, 0.1542, 1.0]},
           atol=0.006,
           wrong=(({"says": "omxxb", "odds of b": [0.0005, 0.0, 0.0, 0.0, 1.0]},
                   _NO_NORM),
                  ({"says": "Tiioo", "odds of b": [0.0, 0.0013, 0.0, 0.0, 0.0]},
                   _EARLY),
                  ({"says": "omxxb", "odds of b": [0.0, 0.0, 0.0, 0.0, 1.0]}, _DEPTHS),
                  ({"says": "omxxb", "odds of b": [1.0, 0.342, 0.716, 0.503, 1.0]},
                   _LIKELIEST),
                  ({"says": "omxxb", "odds of b": [-32.755, -4.626, -3.584, -1.869,
                                                   0.0]}, _LOGS),
                  ({"says": "mxxb", "odds of b": [0.0098, 0.0278, 0.1542, 1.0]},
                   _BLOCKS),
                  ({"says": "omxxb", "odds of b": [-0.64, 2.37, 4.49, 6.90, 22.90]},
                   _LOGITS)),
           hints=("The lens has five entries: the embeddings, then four layers.",
                  "The last place says which letter comes next.",
                  "odds = logit_lens(model, ids)[:, 0, -1].softmax(-1)"),
           solution="odds = logit_lens(model, ids)[:, 0, -1].softmax(-1)"),
)
