"""Lesson 12: what the story model's heads and depths show, measured on it."""

from gpt2_lesson.checks.engine import Mistake
from gpt2_lesson.checks.values import Answer

# Measured on the shipped story model; test_checks_looking_inside.py does it again.
_WHOLE = 0.192                                       # nats a byte, nothing ablated
_ONE, _SINGLY, _TOGETHER = 0.374, 0.496, 4.423


def _cut(head: list[int], one: float, singly: float, together: float) -> dict:
    return {"most needed": head, "its cost": one, "layer 0, one by one": singly,
            "layer 0, all at once": together}


def _seen(says: str, probabilities: list[float]) -> dict:
    return {"says": says, "probability of b": probabilities}


_TURNED = Mistake(
    "P1", "layer and head exchanged", "the list is [layer, head]",
    "Which index of your table is the layer?", "look at the order of the two numbers",
    "[layer, head]")
_LOSSES = Mistake(
    "P2", "losses, not what they rose by", "the whole model's loss is in each number",
    "What is the loss when nothing is ablated?", "what do you subtract?",
    "nats(heads) - nats([])")
_MEAN = Mistake(
    "P3", "the mean of the four costs, not their sum", "a quarter of what is asked for",
    "What do the four ablations cost, added up?", "look for mean, or a division by 4",
    "sum of the four costs of layer 0")
_SIGN = Mistake(
    "P7", "costs with the wrong sign", "ablating a head makes the loss larger, so it "
    "costs something", "By what does the loss rise when a head is ablated?",
    "which of the two losses do you subtract?", "nats(heads) - nats([])")
_ONCE = Mistake(
    "P8", "four losses added up, and the whole model's loss subtracted once",
    "the whole model's loss is in the sum three times too often",
    "How many ablations are added up, and what does each cost?",
    "what is subtracted, and how often?", "sum of nats([(0, head)]) - nats([]), four "
    "times")
_SUMMED = Mistake(
    "P9", "losses added up one by one, not costs",
    "the whole model's loss is in the sum four times",
    "What is the loss when nothing is ablated?", "what do you subtract?",
    "sum of nats([(0, head)]) - nats([]), four times")
_EXCHANGED = Mistake(
    "P10", "one by one and all at once exchanged",
    "the four ablated one by one cost less than a nat together",
    "Which of the two needs four calls of nats?", "look at the names of your numbers",
    "one by one: nats([(0, 0)]), nats([(0, 1)]), ...")
_FROM_1 = Mistake(
    "P11", "layers and heads counted from 1", "the first layer and the first head are "
    "number 0", "What number has the first head?", "look for a + 1", "[layer, head], "
    "both from 0")
_NO_NORM = Mistake(
    "P4", "the residual stream read without the final norm",
    "the letters are the same here, but the probabilities are not",
    "What does the model do with the residual stream before its output head?",
    "what comes between the residual stream and the logits?", "model.ln_final(x) first")
_DEPTHS = Mistake(
    "P12", "a softmax over the depths, not over the letters",
    "your five numbers add up to 1: they are normalised over the depths",
    "What has probabilities that add up to 1: the letters at one depth, or one letter "
    "at the five depths?", "look at the axis of softmax", ".softmax(-1)[:, ord('b')]")
_LIKELIEST = Mistake(
    "P13", "the probability of the most probable letter, whatever it is",
    "at four of the five depths that letter is not b",
    "Which id has the letter b?", "look for max", ".softmax(-1)[:, ord('b')]")
_LOGS = Mistake(
    "P14", "logarithms of the probabilities", "a logarithm of a probability is never "
    "above 0", "What does log_softmax give?", "look for log", ".softmax(-1)[:, "
                                                              "ord('b')]")
_BLOCKS = Mistake(
    "P15", "the embeddings left out", "four depths, the layers', in place of five",
    "What does the first entry of the lens read?", "look at the first index",
    "logit_lens(model, ids)[:, 0, -1], all five entries")
_EARLY = Mistake(
    "P5", "the position before: one row too early",
    "these are the guesses for the letter o, which is there already",
    "Which row of the logits says what follows the last letter?",
    "look at the index along the tokens", "lens[:, 0, -1]")
_LOGITS = Mistake(
    "P6", "logits, not probabilities", "a probability lies between 0 and 1",
    "How do logits become probabilities?", "is there a softmax?", ".softmax(-1)[:, "
                                                                  "ord('b')]")

_EVEN, _PREVIOUS, _SAME = "even", "previous token", "same token"
_KEYS = "For the queries 2, 3 and 4: which key is the right one?"
_SHARE = "How many keys has the query at position 2, at 3, and at 4?"


def _score(id: str, name: str, why: str, idea: str, fix: str) -> Mistake:
    return Mistake(id, name, why, idea, "draw the five by five map, and mark the cells "
                   "that count", fix)


_MEAN_OF = "the mean of 1/3, 1/4 and 1/5"
_LOOKED_UP = _score(
    "P16", "the two heads exchanged: the key where the same token was",
    "the right key is t - 2 + 1, one place back, and not t - 2", _KEYS,
    "previous token: 1, same token: 0")
_NEITHER = _score(
    "P17", "no score for the previous token's head",
    "with period 2 the right key t - 2 + 1 is one place back", _KEYS,
    "previous token: 1")
_SAME_TOKEN = _score(
    "P18", "a score for attending to the same token",
    "the right key comes after the earlier token: t - 2 + 1", _KEYS, "same token: 0")
_ALL_FIVE = _score("P19", "1/5 for every query", "a query has no later keys", _SHARE,
                   _MEAN_OF)
_ALL_ROWS = _score("P20", "the mean over all five queries",
                   "the queries 0 and 1 have no earlier token of their kind",
                   "From which query on is there something to repeat?", _MEAN_OF)
_ONE_MORE = _score("P21", "query 1 counted, too", "only queries from t = period on "
                                                  "count",
                   "From which query on is there something to repeat?", _MEAN_OF)
_FIRST_ROW = _score("P22", "the first query that counts, alone",
                    "three queries count: 2, 3 and 4", _SHARE, _MEAN_OF)
_MIDDLE = _score("P23", "the query in the middle, alone",
                 "the mean of 1/3, 1/4 and 1/5 is not 1/4", _SHARE, _MEAN_OF)
_ADDED = _score("P24", "the sum over the queries, not their mean",
                "three queries count", "Sum, or mean?", _MEAN_OF)

ANSWERS = (
    Answer("12.1", "the induction scores of three made heads, period 2",
           {_EVEN: 47 / 180, _PREVIOUS: 1.0, _SAME: 0.0}, decimals=2,
           precision="two decimals are", predict=True,
           wrong=(({_PREVIOUS: 0, _SAME: 1}, _LOOKED_UP),
                  ({_PREVIOUS: 0, _SAME: 0}, _NEITHER), ({_SAME: 1}, _SAME_TOKEN),
                  ({_EVEN: 0.2}, _ALL_FIVE), ({_EVEN: 137 / 300}, _ALL_ROWS),
                  ({_EVEN: 77 / 240}, _ONE_MORE), ({_EVEN: 1 / 3}, _FIRST_ROW),
                  ({_EVEN: 0.25}, _MIDDLE), ({_EVEN: 47 / 60}, _ADDED)),
           hints=("The queries are 2, 3 and 4. Write the right key of each beside it.",
                  "With period 2 the right keys are 1, 2 and 3. The query at position "
                  "2 has three keys, so each gets 1/3. How many has the next one?",
                  "even: the mean of 1/3, 1/4 and 1/5"),
           solution='predicted = {"even": 0.26, "previous token": 1.0, '
                    '"same token": 0.0}'),
    Answer("12.3", "the head that is needed most, and the cost of ablating layer 0",
           _cut([0, 1], _ONE, _SINGLY, _TOGETHER), rtol=0.02, atol=0.006,
           precision="two decimals are",
           wrong=((_cut([1, 0], _ONE, _SINGLY, _TOGETHER), _TURNED),
                  (_cut([0, 1], _ONE + _WHOLE, _SINGLY + 4 * _WHOLE,
                        _TOGETHER + _WHOLE), _LOSSES),
                  (_cut([0, 1], _ONE, _SINGLY / 4, _TOGETHER), _MEAN),
                  (_cut([0, 1], -_ONE, -_SINGLY, -_TOGETHER), _SIGN),
                  (_cut([0, 1], _ONE, _SINGLY + 3 * _WHOLE, _TOGETHER), _ONCE),
                  (_cut([0, 1], _ONE, _SINGLY + 4 * _WHOLE, _TOGETHER), _SUMMED),
                  (_cut([0, 1], _ONE, _TOGETHER, _SINGLY), _EXCHANGED),
                  (_cut([1, 2], _ONE, _SINGLY, _TOGETHER), _FROM_1)),
           hints=("nats([]) is the loss with nothing ablated. What do you subtract it "
                  "from?",
                  "A list of four lists, one for each layer, makes a table of the "
                  "sixteen costs; .argmax() counts its cells row by row.",
                  "cost = nats([(layer, head)]) - nats([]) for each of the 16"),
           solution="cost = [[nats([(layer, head)]) - nats([]) for head in range(4)]\n"
                    "        for layer in range(4)]"),
    Answer("12.4", "the letter predicted at each depth, and the probability of b",
           _seen("omxxb", [0.0, 0.0098, 0.0278, 0.1542, 1.0]),
           atol=0.006, precision="two decimals are",
           wrong=((_seen("omxxb", [0.0005, 0.0, 0.0, 0.0, 1.0]), _NO_NORM),
                  (_seen("Tiioo", [0.0, 0.0013, 0.0, 0.0, 0.0]), _EARLY),
                  (_seen("omxxb", [0.0, 0.0, 0.0, 0.0, 1.0]), _DEPTHS),
                  (_seen("omxxb", [1.0, 0.342, 0.716, 0.503, 1.0]), _LIKELIEST),
                  (_seen("omxxb", [-32.755, -4.626, -3.584, -1.869, 0.0]), _LOGS),
                  (_seen("mxxb", [0.0098, 0.0278, 0.1542, 1.0]), _BLOCKS),
                  (_seen("omxxb", [-0.64, 2.37, 4.49, 6.90, 22.90]), _LOGITS)),
           hints=("The lens has five entries: the embeddings, then four layers. The "
                  "logits at a position say what follows it: which position is the "
                  "last letter's?",
                  "Softmax runs over the vocabulary, for each depth separately. "
                  'ord("b") is the id of b.',
                  "probs = logit_lens(model, ids)[:, 0, -1].softmax(-1)"),
           solution="probs = logit_lens(model, ids)[:, 0, -1].softmax(-1)"),
)
