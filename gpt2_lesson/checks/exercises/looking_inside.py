"""Lesson 12: the induction score, and what heads and depths of the story model show."""

import torch
from torch import Generator, Tensor

from gpt2_lesson.checks.exercise import Answer, Clue, Exercise, Mistake, RunProbe
from gpt2_lesson.checks.fakes.heads import or_error
from gpt2_lesson.checks.probing import Probe

_INDUCTION_SCORE = """\
def induction_score(maps, period):
    T = maps.size(-1)
    if not 1 <= period < T:
        raise ValueError(f"period is {period}, expected 1 to {T - 1}")
    query = torch.arange(period, T)              # the tokens that came once before
    key = query - period + 1                     # what followed each of them then
    return maps[..., query, key].mean(-1)"""

# --- probes ---------------------------------------------------------------------------


def probes(g: Generator) -> list[Probe]:
    """Return maps of one and of many heads, short and long periods."""
    def maps(*shape: int) -> Tensor:
        size = shape[-1]
        scores = torch.randn(*shape, size, generator=g)
        future = torch.ones(size, size).triu(1).bool()
        return scores.masked_fill(future, -torch.inf).softmax(-1)

    made = torch.zeros(5, 5)
    made[3, 1], made[4, 2], made[3, 0], made[4, 1] = 0.5, 0.9, 0.5, 0.1
    return [Probe("the map made by hand: 0.5 and 0.9 where they should be", (made, 3)),
            Probe("one map of 8 tokens, period 3", (maps(8), 3)),
            Probe("2 layers, 3 examples, 4 heads, 7 tokens, period 3",
                  (maps(2, 3, 4, 7), 3), sizes={"L": 2, "B": 3, "H": 4, "T": 7}),
            Probe("period 1", (maps(2, 5), 1)),
            Probe("a period one less than the text", (maps(2, 6), 5)),
            Probe("a period as long as the text", (maps(2, 6), 6), or_error),
            Probe("period 0", (maps(2, 6), 0), or_error)]


def read_out(run: RunProbe, g: Generator) -> list[Clue]:
    """Return which cells of a map (6 tokens, period 3) the function reads."""
    cells = torch.eye(36).reshape(36, 6, 6)                      # one cell each
    value, half = (run(Probe("cells", (size * cells, 3))).value for size in (1, 0.5))
    if not all(isinstance(one, Tensor) and one.shape == (36,) for one in (value, half)):
        return []
    if not torch.allclose(half, value / 2, atol=1e-6):
        return [Clue("halved", "halving all weights does not halve your score: it is "
                     "not a mean of weights")]
    if torch.allclose(value, induction_score.reference(cells, 3)):
        return []                                    # the right cells, so no clue
    read = [(*divmod(i, 6), weight) for i, weight in enumerate(value.tolist())
            if weight]
    if not read:
        return [Clue("cells", "with one weight of 1 and all others 0 your score is 0, "
                     "wherever that weight is: it is not a mean of weights")]
    told = [f"[{t}, {s}] with {weight:.2f}" for t, s, weight in read[:5]]
    return [Clue("cells", "with 6 tokens and period 3 your score reads the cells "
                 f"[query, key] {', '.join(told)}"
                 f"{', ...' if len(read) > 5 else ''}; expected [3, 1], [4, 2], [5, 3] "
                 "with 0.33 each")]


# --- mistakes -------------------------------------------------------------------------

# Keys beyond the last token are left out, as a diagonal leaves them out.
_INSIDE = ("    return ", "    query, key = query[key < T], key[key < T]\n    return ")
_Q = ("The text is A B C A B, and the query is at the second A. Which token "
      "must it attend to, to know that B follows?")

MISTAKES = (
    Mistake("I0", "a period that is too long is not refused",
            edit=("1 <= period < T", "1 <= period"),
            why="no token repeats, so the mean of nothing is nan",
            question="For 6 tokens and period 6: which queries count?"),
    Mistake("I0s", "a period of 0 is not refused",
            edit=[("1 <= period < T", "period < T"), _INSIDE],
            why="with period 0 the key would be the token after the query: the future",
            question="For period 0, which key does a query read?",
            where="what happens before the weights are read?",
            fix="if not 1 <= period < T: raise ValueError(...)"),
    Mistake("I0b", "no period is refused, neither 0 nor one that is too long",
            edit=[("not 1 <= period < T", "False"), _INSIDE],
            why="the mean of nothing is nan, and period 0 reads the future",
            question="For 6 tokens: which periods make sense?",
            where="what happens before the weights are read?",
            fix="if not 1 <= period < T: raise ValueError(...)"),
    Mistake("I0r", "0 returned for an impossible period, not an error",
            edit=('raise ValueError(f"period is {period}, expected 1 to {T - 1}")',
                  "return 0.0"), why="nobody notices that the question was wrong",
            question="Should a wrong period look like a head without induction?"),
    Mistake("I1", "the weight on the same token, not on the one after it",
            edit=(" + 1", ""), why="at t - period is the token itself, not the next",
            question=_Q),
    Mistake("I2", "one key too late: t - period + 2", edit=[("+ 1", "+ 2"), _INSIDE],
            why="that is the second token after the earlier one", question=_Q),
    Mistake("I3", "the query one row too early: t = period - 1 counts too",
            edit=("arange(period, T)", "arange(period - 1, T)"),
            why="at t = period - 1 nothing has been repeated yet",
            question="Which is the first token that has been seen before?"),
    Mistake("I4", "the first repeated token is left out",
            edit=("arange(period, T)", "arange(period + 1, T)"),
            why="t = period is the first query that has seen its token",
            question="Which is the first token that has been seen before?"),
    Mistake("I5", "the map read as [key, query]", edit=("query, key]", "key, query]"),
            why="above the diagonal every weight is 0",
            question="Do the rows of a map belong to queries or to keys?"),
    Mistake("I6", "the sum, not the mean", edit=(".mean(-1)", ".sum(-1)"),
            why="the score grows with the text",
            question="Can a mean of attention weights be above 1?"),
    Mistake("I7", "divided by all tokens, not by those that repeat",
            edit=(".mean(-1)", ".sum(-1) / T"),
            why="a perfect head on 6 tokens of period 3 would get 0.5",
            question="How many queries have seen their token before?"),
    Mistake("I10", "all queries counted, those before `period`, too",
            edit=("arange(period, T)", "arange(T)"),
            why="before `period` nothing has come twice, and a key below 0 reads from "
                "the end, where the future is: weight 0",
            question="Which is the first token that has been seen before?"),
    Mistake("I8", "the largest weight, not the mean", edit=(".mean(-1)", ".amax(-1)"),
            why="one lucky query is enough for a high score",
            question="What does one query say about the others?"),
    Mistake("I11", "the weight on the token just before (t - 1)",
            edit=("query - period + 1", "query - 1"),
            why="that is a previous-token head's score", question=_Q),
    Mistake("I12", "the weight on the query itself (t)",
            edit=("query - period + 1", "query"), why="the diagonal of the map is read",
            question=_Q),
    Mistake("I2b", "the key two too early: t - period - 1", edit=("+ 1", "- 1"),
            why="that is the token before the earlier one", question=_Q),
    Mistake("I13", "only the last query counts", edit=(".mean(-1)", "[..., -1]"),
            why="the other repeated tokens are left out",
            question="How many queries have seen their token before?"),
    Mistake("I14", "how often the right key has the largest weight",
            edit=("maps[..., query, key]",
                  "(maps.argmax(-1)[..., query] == key).float()"),
            why="a weight of 0.51 counts as 1, one of 0.49 as 0",
            question="Is the score a mean of weights, or a fraction of hits?"),
    Mistake("I15", "every counted query with every counted key",
            edit=("[..., query, key].mean(-1)",
                  "[..., query, :][..., key].mean((-2, -1))"),
            why="two lists of positions in two steps give a square, not a diagonal",
            question="Which key belongs to the query at t = period?"),
    Mistake("I16", "the median, not the mean", edit=(".mean(-1)", ".median(-1).values"),
            why="one weight in the middle decides",
            question="What is asked for: the mean, or the middle?"),
    Mistake("I9", "one number for all heads together", edit=(".mean(-1)", ".mean()"),
            why="(L, B, H, T, T) must give (L, B, H)",
            question="Which axes of the map may be averaged?"),
)

induction_score = Exercise(
    "induction_score", "12", "induction_score(maps, period) -> (...)",
    make_probes=probes,
    mistakes=MISTAKES, read_out=read_out, show="one map of 8 tokens, period 3",
    crashes=((r"dimension 0 with size 2", "the two lists of positions belong to the "
              "last two axes: maps[..., queries, keys]"),
             (r"converted to Scalar|only one element",
              "the result contains one score for each map, (...): no .item()"),
             (r"AssertionError|ValueError", "if the error is your own: here 1 <= "
              "period < T holds, and T is the last axis, maps.size(-1)"),
             (r"out of range|out of bounds", "the key t - period + 1 exists for t from "
              "period - 1 on; queries go from `period` to T - 1"),),
    hints=("Write down for A B C A B which queries count, and the right key of each.",
           "All cells (t, t - period + 1) form a diagonal of the map.",
           "t = torch.arange(period, T); maps[..., t, t - period + 1].mean(-1)"),
    solution=_INDUCTION_SCORE)

# --- the answers that are values ------------------------------------------------------

# Measured on the shipped story model; tests/checks/test_looking_inside.py repeats it.
_WHOLE = 0.192                                       # nats a byte, nothing ablated
_ONE, _SINGLY, _TOGETHER = 0.374, 0.496, 4.423


def _costs(head: list[int], one: float, singly: float, together: float) -> dict:
    return {"most needed": head, "its cost": one, "layer 0, one by one": singly,
            "layer 0, all at once": together}


def _lens(says: str, probabilities: list[float]) -> dict:
    return {"says": says, "probability of b": probabilities}


_SWAPPED = Mistake(
    "P1", "layer and head exchanged", "the list is [layer, head]",
    "Which index of your table is the layer?", "look at the order of the two numbers",
    "[layer, head]")
_LOSSES = Mistake(
    "P2", "losses, not how much they rose", "the whole model's loss is in each number",
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
    "number 0", "What is the number of the first head?", "look for a + 1",
    "[layer, head], both from 0")
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
    "What is the id of the letter b?", "look for max", ".softmax(-1)[:, ord('b')]")
_LOGS = Mistake(
    "P14", "logarithms of the probabilities", "a logarithm of a probability is never "
    "above 0", "What does log_softmax give?", "look for log",
    ".softmax(-1)[:, ord('b')]")
_BLOCKS = Mistake(
    "P15", "the embeddings left out", "four depths, those of the layers, not five",
    "What does the first entry of the lens read?", "look at the first index",
    "logit_lens(model, ids)[:, 0, -1], all five entries")
_EARLY = Mistake(
    "P5", "the position before: one row too early",
    "these are the guesses for the letter o, which is there already",
    "Which row of the logits says what follows the last letter?",
    "look at the index along the tokens", "lens[:, 0, -1]")
_LOGITS = Mistake(
    "P6", "logits, not probabilities", "a probability is between 0 and 1",
    "How do logits become probabilities?", "is there a softmax?",
    ".softmax(-1)[:, ord('b')]")

_UNIFORM, _PREVIOUS, _SAME = "uniform", "previous token", "same token"
_KEYS = "For the queries 2, 3 and 4: which key is the right one?"
_SHARE = "How many keys has the query at position 2, at 3, and at 4?"


def _score(id: str, name: str, why: str, question: str, fix: str) -> Mistake:
    return Mistake(id, name, why, question,
                   "draw the five by five map, and mark the cells "
                   "that count", fix)


_MEAN_OF = "the mean of 1/3, 1/4 and 1/5"
_LOOKED_UP = _score(
    "P16", "the two heads exchanged: the same token taken to be the right key",
    "the right key is t - 2 + 1, one position back, and not t - 2", _KEYS,
    "previous token: 1, same token: 0")
_NEITHER = _score(
    "P17", "a score of 0 for the previous-token head",
    "with period 2 the right key t - 2 + 1 is one position back", _KEYS,
    "previous token: 1")
_SAME_TOKEN = _score(
    "P18", "a score for attending to the same token",
    "the right key comes after the earlier token: t - 2 + 1", _KEYS, "same token: 0")
_ALL_FIVE = _score("P19", "1/5 for every query", "a query has no later keys", _SHARE,
                   _MEAN_OF)
_ALL_ROWS = _score("P20", "the mean over all five queries",
                   "the tokens at 0 and 1 have no earlier copy",
                   "From which query on is there something to repeat?", _MEAN_OF)
_ONE_MORE = _score("P21", "query 1 counted, too", "only queries from t = period on "
                                                  "count",
                   "From which query on is there something to repeat?", _MEAN_OF)
_FIRST_ROW = _score("P22", "only the first query that counts",
                    "three queries count: 2, 3 and 4", _SHARE, _MEAN_OF)
_MIDDLE = _score("P23", "only the query in the middle",
                 "the mean of 1/3, 1/4 and 1/5 is not 1/4", _SHARE, _MEAN_OF)
_ADDED = _score("P24", "the sum over the queries, not their mean",
                "three queries count", "Sum, or mean?", _MEAN_OF)

ANSWERS = (
    Answer("12.1", "the induction scores of three hand-made heads, period 2",
           {_UNIFORM: 47 / 180, _PREVIOUS: 1.0, _SAME: 0.0}, decimals=2,
           precision="two decimals are", predict=True,
           wrong=(({_PREVIOUS: 0, _SAME: 1}, _LOOKED_UP),
                  ({_PREVIOUS: 0, _SAME: 0}, _NEITHER), ({_SAME: 1}, _SAME_TOKEN),
                  ({_UNIFORM: 0.2}, _ALL_FIVE), ({_UNIFORM: 137 / 300}, _ALL_ROWS),
                  ({_UNIFORM: 77 / 240}, _ONE_MORE), ({_UNIFORM: 1 / 3}, _FIRST_ROW),
                  ({_UNIFORM: 0.25}, _MIDDLE), ({_UNIFORM: 47 / 60}, _ADDED)),
           hints=("The queries are 2, 3 and 4. Write the right key of each beside it.",
                  "With period 2 the right keys are 1, 2 and 3. The query at position "
                  "2 has three keys, so each gets 1/3. How many has the next one?",
                  "uniform: the mean of 1/3, 1/4 and 1/5"),
           solution='predicted = {"uniform": 0.26, "previous token": 1.0, '
                    '"same token": 0.0}'),
    Answer("12.3", "the head that is needed most, and the cost of ablating layer 0",
           _costs([0, 1], _ONE, _SINGLY, _TOGETHER), rtol=0.02, atol=0.006,
           precision="two decimals are",
           wrong=((_costs([1, 0], _ONE, _SINGLY, _TOGETHER), _SWAPPED),
                  (_costs([0, 1], _ONE + _WHOLE, _SINGLY + 4 * _WHOLE,
                        _TOGETHER + _WHOLE), _LOSSES),
                  (_costs([0, 1], _ONE, _SINGLY / 4, _TOGETHER), _MEAN),
                  (_costs([0, 1], -_ONE, -_SINGLY, -_TOGETHER), _SIGN),
                  (_costs([0, 1], _ONE, _SINGLY + 3 * _WHOLE, _TOGETHER), _ONCE),
                  (_costs([0, 1], _ONE, _SINGLY + 4 * _WHOLE, _TOGETHER), _SUMMED),
                  (_costs([0, 1], _ONE, _TOGETHER, _SINGLY), _EXCHANGED),
                  (_costs([1, 2], _ONE, _SINGLY, _TOGETHER), _FROM_1)),
           hints=("nats([]) is the loss with nothing ablated. What do you subtract it "
                  "from?",
                  "A list of four lists, one for each layer, makes a table of the "
                  "sixteen costs; .argmax() counts its cells row by row.",
                  "cost = nats([(layer, head)]) - nats([]) for each of the 16"),
           solution="cost = [[nats([(layer, head)]) - nats([]) for head in range(4)]\n"
                    "        for layer in range(4)]"),
    Answer("12.4", "the letter predicted at each depth, and the probability of b",
           _lens("omxxb", [0.0, 0.0098, 0.0278, 0.1542, 1.0]),
           atol=0.006, precision="two decimals are",
           wrong=((_lens("omxxb", [0.0005, 0.0, 0.0, 0.0, 1.0]), _NO_NORM),
                  (_lens("Tiioo", [0.0, 0.0013, 0.0, 0.0, 0.0]), _EARLY),
                  (_lens("omxxb", [0.0, 0.0, 0.0, 0.0, 1.0]), _DEPTHS),
                  (_lens("omxxb", [1.0, 0.342, 0.716, 0.503, 1.0]), _LIKELIEST),
                  (_lens("omxxb", [-32.755, -4.626, -3.584, -1.869, 0.0]), _LOGS),
                  (_lens("mxxb", [0.0098, 0.0278, 0.1542, 1.0]), _BLOCKS),
                  (_lens("omxxb", [-0.64, 2.37, 4.49, 6.90, 22.90]), _LOGITS)),
           hints=("The lens has five entries: the embeddings, then four layers. The "
                  "logits at a position say what follows it: which position is the "
                  "last letter's?",
                  "Softmax runs over the vocabulary, for each depth separately. "
                  'ord("b") is the id of b.',
                  "probs = logit_lens(model, ids)[:, 0, -1].softmax(-1)"),
           solution="probs = logit_lens(model, ids)[:, 0, -1].softmax(-1)"),
)
