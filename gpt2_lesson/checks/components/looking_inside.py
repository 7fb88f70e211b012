"""The induction score, and the ways to read the wrong cells of a map."""

import torch
from torch import Generator, Tensor

from gpt2_lesson.checks.clues import Clue
from gpt2_lesson.checks.engine import Exercise, Look, Mistake
from gpt2_lesson.checks.probing import Probe
from gpt2_lesson.checks.stand_ins.heads import or_error


def score(maps: Tensor, period: int, *, shift: int = 1, first: int = 0,
          turned: bool = False, over: str = "mean", heads: str = "each",
          start: str = "period", refuse: str = "short long", read: str = "one"
          ) -> Tensor:
    """Return the mean weight on the token after the earlier one, (...)."""
    if ("short" in refuse and period < 1 or "long" in refuse and (
            period >= maps.size(-1))):
        if "0" in refuse:
            return 0.0
        raise ValueError(f"period {period} for {maps.size(-1)} tokens")
    maps = maps.mT if turned else maps
    query = torch.arange(0 if start == "0" else period + first, maps.size(-1))
    query = query[query - period + shift < maps.size(-1)]
    key = {"one": query - period + shift, "itself": query, "before": query - 1}.get(
        read, query - period + shift)
    if read == "winner":
        maps = torch.nn.functional.one_hot(maps.argmax(-1), maps.size(-1)).float()
    if read == "square":
        return maps[..., query, :][..., key].mean((-2, -1))
    found = maps[..., query, key]                                # (..., T - period)
    found = {"last only": lambda: found[..., -1],
             "median": lambda: found.median(-1).values,
             "mean": lambda: found.mean(-1), "sum": lambda: found.sum(-1),
             "all": lambda: found.sum(-1) / maps.size(-1),
             "largest": lambda: found.amax(-1)}[over]()
    return found if heads == "each" else found.mean()


def probes(g: Generator) -> list[Probe]:
    """Return maps of one and of many heads, short and long periods."""
    def maps(*shape: int) -> Tensor:
        size = shape[-1]
        scores = torch.randn(*shape, size, generator=g)
        future = torch.ones(size, size).triu(1).bool()
        return scores.masked_fill(future, -torch.inf).softmax(-1)

    made = torch.zeros(5, 5)
    made[3, 1], made[4, 2], made[3, 0], made[4, 1] = 0.5, 0.9, 0.5, 0.1
    return [Probe("the made map: 0.5 and 0.9 stand where they should", (made, 3)),
            Probe("one map of 8 tokens, period 3", (maps(8), 3)),
            Probe("2 layers, 3 examples, 4 heads, 7 tokens, period 3",
                  (maps(2, 3, 4, 7), 3), sizes={"L": 2, "B": 3, "H": 4, "T": 7}),
            Probe("period 1", (maps(2, 5), 1)),
            Probe("a period one less than the text", (maps(2, 6), 5)),
            Probe("a period as long as the text", (maps(2, 6), 6), or_error),
            Probe("period 0", (maps(2, 6), 0), or_error)]


def read_out(look: Look, g: Generator) -> list[Clue]:
    """Return which cells of a map (6 tokens, period 3) the function reads."""
    cells = torch.eye(36).reshape(36, 6, 6)                      # one cell each
    value, half = (look(Probe("cells", (size * cells, 3))).value for size in (1, 0.5))
    if not all(isinstance(one, Tensor) and one.shape == (36,) for one in (value, half)):
        return []
    if not torch.allclose(half, value / 2, atol=1e-6):
        return [Clue("halved", "halving all weights does not halve your score: it is "
                     "no mean of weights")]
    if torch.allclose(value, score(cells, 3)):
        return []                                    # the right cells, so no clue
    read = [(*divmod(i, 6), share) for i, share in enumerate(value.tolist()) if share]
    if not read:
        return [Clue("cells", "with one weight of 1 and all others 0 your score is 0, "
                     "wherever that weight stands: it is no mean of weights")]
    told = [f"[{t}, {s}] with {share:.2f}" for t, s, share in read[:5]]
    return [Clue("cells", "with 6 tokens and period 3 your score reads the cells "
                 f"[query, key] {', '.join(told)}"
                 f"{', ...' if len(read) > 5 else ''}; expected [3, 1], [4, 2], [5, 3] "
                 "with 0.33 each")]


_Q = ("The text is A B C A B, and the query stands at the second A. At which token "
      "must it look to know that B follows?")
_FIX = "maps[..., t, t - period + 1] for t from period on, then the mean"

MISTAKES = (
    Mistake("I0", "a period that is too long is not refused",
            "no token repeats, so the mean of nothing is nan",
            "For 6 tokens and period 6: which queries count?",
            "what happens before the weights are read?",
            "if not 1 <= period < T: raise ValueError(...)", {"refuse": "short"},
            mark="R"),
    Mistake("I0s", "a period of 0 is not refused",
            "with period 0 the key would be the token after the query: the future",
            "For period 0, which key does a query read?",
            "what happens before the weights are read?",
            "if not 1 <= period < T: raise ValueError(...)", {"refuse": "long"}),
    Mistake("I0b", "no period is refused, neither 0 nor one that is too long",
            "the mean of nothing is nan, and period 0 reads the future",
            "For 6 tokens: which periods make sense?",
            "what happens before the weights are read?",
            "if not 1 <= period < T: raise ValueError(...)", {"refuse": ""}),
    Mistake("I0r", "0 returned for a period that can't be, not an error",
            "nobody notices that the question was wrong",
            "Should a wrong period look like a head without induction?",
            "what happens if the period is too long?",
            "raise ValueError(...)", {"refuse": "short long 0"}),
    Mistake("I1", "the weight on the same token, not on the one after it",
            "t - period is where the token itself stood", _Q,
            "compare t - period with the key that you read", _FIX, {"shift": 0},
            mark="R"),
    Mistake("I2", "one key too late: t - period + 2",
            "that is the second token after the earlier one", _Q,
            "compare t - period with the key that you read", _FIX, {"shift": 2},
            mark="R"),
    Mistake("I3", "the query one row too early: t = period - 1 counts too",
            "at t = period - 1 nothing has been repeated yet",
            "Which is the first token that has been seen before?",
            "does your first query stand at `period`?", _FIX, {"first": -1}, mark="R"),
    Mistake("I4", "the first repeated token is left out",
            "t = period is the first query that has seen its token",
            "Which is the first token that has been seen before?",
            "does your first query stand at `period`?", _FIX, {"first": 1}, mark="R"),
    Mistake("I5", "the map read as [key, query]",
            "above the diagonal every weight is 0",
            "Do the rows of a map belong to queries or to keys?",
            "look at the order of the two indices", _FIX, {"turned": True}, mark="R"),
    Mistake("I6", "the sum, not the mean", "the score grows with the text",
            "Can a share be above 1?", "look at the last line", ".mean(-1)",
            {"over": "sum"}, mark="R"),
    Mistake("I7", "divided by all tokens, not by those that repeat",
            "a perfect head on 6 tokens of period 3 would get 0.5",
            "How many queries have seen their token before?",
            "what do you divide by?", "divide by T - period: the mean over these",
            {"over": "all"}, mark="R"),
    Mistake("I10", "all queries counted, those before `period`, too",
            "before `period` nothing has come twice, and a key below 0 reads from the "
            "end, where the future is: weight 0",
            "Which is the first token that has been seen before?",
            "does your first query stand at `period`?", _FIX,
            function=lambda maps, period: score(maps, period, start="0"), mark="R"),
    Mistake("I8", "the largest weight, not the mean",
            "one lucky query is enough for a high score",
            "What does one query say about the others?", "look at the last line",
            ".mean(-1)", {"over": "largest"}, mark="R"),
    Mistake("I11", "the weight on the token just before (t - 1)",
            "that is a previous-token head's score", _Q,
            "which key does your query read?", _FIX,
            function=lambda maps, period: score(maps, period, read="before")),
    Mistake("I12", "the weight on the query itself (t)",
            "the diagonal of the map is read", _Q, "which key does your query read?",
            _FIX, function=lambda maps, period: score(maps, period, read="itself")),
    Mistake("I2b", "the key two too early: t - period - 1",
            "that is the token before the earlier one", _Q,
            "compare t - period with the key that you read", _FIX,
            function=lambda maps, period: score(maps, period, shift=-1)),
    Mistake("I13", "only the last query counts", "the other repeated tokens are left "
            "out", "How many queries have seen their token before?",
            "look for [-1]", _FIX, {"over": "last only"}),
    Mistake("I14", "how often the right key has the largest weight",
            "a weight of 0.51 counts as 1, one of 0.49 as 0",
            "Is the score a mean of weights, or a share of hits?", "look for argmax",
            _FIX, function=lambda maps, period: score(maps, period, read="winner")),
    Mistake("I15", "every counted query with every counted key",
            "two lists of places in two steps give a square, not a diagonal",
            "Which key belongs to the query at t = period?",
            "are queries and keys given in one pair of brackets?",
            "maps[..., t, t - period + 1]",
            function=lambda maps, period: score(maps, period, read="square")),
    Mistake("I16", "the median, not the mean", "one weight in the middle decides",
            "What is asked for: the mean, or the middle?", "look for median",
            ".mean(-1)", {"over": "median"}),
    Mistake("I9", "one number for all heads together",
            "(L, B, H, T, T) must give (L, B, H)",
            "Which axes of the map may be averaged?", "look at mean: over which axis?",
            ".mean(-1)", {"heads": "all"}, mark="R"),
)

induction_score = Exercise(
    "induction_score", "12", "induction_score(maps, period) -> (...)", score, probes,
    MISTAKES, read_out, show="one map of 8 tokens, period 3",
    crashes=((r"dimension 0 with size 2", "the two lists of places belong to the last "
              "two axes: maps[..., queries, keys]"),
             (r"converted to Scalar|only one element",
              "the result holds one score for each map, (...): no .item()"),
             (r"AssertionError|ValueError", "if the error is your own: here 1 <= "
              "period < T holds, and T is the last axis, maps.size(-1)"),
             (r"out of range|out of bounds", "the key t - period + 1 exists for t from "
              "period - 1 on; queries go from `period` to T - 1"),),
    hints=("Write down for A B C A B which queries count, and which key each has.",
           "A diagonal of the map holds all (t, t - period + 1).",
           "t = torch.arange(period, T); maps[..., t, t - period + 1].mean(-1)"),
    solution="""\
def induction_score(maps, period):
    T = maps.size(-1)
    if not 1 <= period < T:
        raise ValueError(f"period is {period}, expected 1 to {T - 1}")
    t = torch.arange(period, T)
    return maps[..., t, t - period + 1].mean(-1)""")
