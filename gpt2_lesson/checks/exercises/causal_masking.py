"""Lesson 02: the mask, causal attention, and the test for leaks (catalogue: M, N)."""

import math
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Generator, Tensor

from gpt2_lesson.checks.exercise import (
    Answer,
    Clue,
    EdgeCase,
    Exercise,
    Mistake,
    RunProbe,
)
from gpt2_lesson.checks.exercises.attention import (
    CRASHES,
    HINTS,
    WEIGHTING,
    probes,
    qkv,
    read_out,
)
from gpt2_lesson.checks.fakes.adapters import (
    softened,
    too_large_in_half,
    widened_in_half,
)
from gpt2_lesson.checks.fakes.causal import Mixer, kind, refusal, verdict
from gpt2_lesson.checks.probing import Probe, Value, observe

# --- the right answers ----------------------------------------------------------------

_MASK_SCORES = """\
def mask_scores(scores):
    allowed = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
    scores = scores.masked_fill(~allowed, -torch.inf)
    return scores"""

_CAUSAL_ATTENTION = """\
def causal_attention(q, k, v):
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))
    allowed = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
    scores = scores.masked_fill(~allowed, -torch.inf)
    weights = scores.softmax(-1)
    return weights @ v"""

_CAUSAL_MASK = """\
def causal_mask(num_queries, num_keys):
    if num_queries > num_keys:
        raise ValueError(f"{num_queries} queries for {num_keys} keys")
    key = torch.arange(num_keys)
    query = torch.arange(num_queries)[:, None] + num_keys - num_queries
    allowed = key <= query
    return allowed"""

_LEAKS = """\
def leaks(function, x):
    before = function(x)
    for j in range(x.size(1)):
        changed = x.clone()
        changed[:, j] = torch.randn_like(x[:, j])
        moved = (function(changed) - before).abs()
        if (moved[:, :j] > 1e-5).any():
            return True
    return False"""

# --- probes ---------------------------------------------------------------------------


def _far_above(g: Generator) -> Probe:
    """Return a probe in which the last key, hidden from most, has scores of 10,000."""
    q, k, v = qkv(g, 2, 5, 4, 3)
    q, k = torch.ones_like(q) * 100, k / 100
    k[:, -1] = 50.0
    return Probe("hidden scores of 10,000", (q, k, v))


def _far_below(g: Generator) -> Probe:
    """Return a probe with scores of -12,000 to -20,000, the first key's the highest."""
    q, k, v = qkv(g, 2, 5, 4, 3)
    k = torch.zeros_like(k) - 60 - 10 * torch.arange(5)[:, None]
    return Probe("scores of -12,000", (torch.ones_like(q) * 100, k, v))


def mask_probes(g: Generator) -> list[Probe]:
    """Return scores to be masked: random, 0, very negative, large, T = 1."""
    scores = 2 * torch.randn(3, 6, 6, generator=g)
    large = 200 * torch.randn(1, 5, 5, generator=g)
    longer = 2 * torch.randn(5, 19, 19, generator=g)
    return [Probe("after softmax, random scores", (scores,), softened,
                  {"B": 3, "T": 6}),
            Probe("after softmax, all scores 0", (torch.zeros(2, 5, 5),), softened),
            Probe("after softmax, scores near -50", (scores - 50,), softened),
            Probe("after softmax, large scores", (large,), softened),
            Probe("after softmax, a longer text", (longer,), softened),
            Probe("after softmax, T = 1", (torch.randn(2, 1, 1, generator=g),),
                  softened)]


# --- mistakes -------------------------------------------------------------------------

_Q_MASK = "Which keys may query 0 attend to? And the last query?"
_Q_FILL = "Which score gets the weight 0 from softmax?"

MASKING = (
    Mistake("M1", "no mask (or the result of masked_fill is thrown away)",
            edit=("scores = scores.masked_fill", "scores.masked_fill"),
            question=_Q_MASK,
            why="earlier tokens see later ones: row 0 is not one-hot"),
    Mistake("M2", "the mask upside down: the past is hidden, the future shown",
            edit=(".tril()", ".triu()"), question=_Q_MASK,
            why="the last row is one-hot and row 0 is not"),
    Mistake("M3", "the mask inverted: what may be seen is hidden",
            edit=("~allowed", "allowed"), question=_Q_MASK,
            why="only the last row is nan: it has no key left to attend to"),
    Mistake("M4", "the diagonal hidden: a token may not see itself",
            edit=(".tril()", ".tril(-1)"),
            why="only row 0 is nan: it has no key left to attend to",
            question="May a token attend to itself?"),
    Mistake("M5", "one future token visible",
            edit=(".tril()", ".tril(1)"), question=_Q_MASK,
            why="w[t, t+1] is above 0, w[t, t+2] is 0"),
    Mistake("M6", "filled with 0 (or -1e-10), not with minus infinity",
            edit=("-torch.inf", "0.0"),
            why="hidden cells keep a weight: e to the 0 is 1, not 0",
            question=_Q_FILL),
    Mistake("M8", "the 0/1 mask added to the scores",
            edit=("scores.masked_fill(~allowed, -torch.inf)", "scores + allowed"),
            why="allowed cells gain a factor e, and the future stays visible",
            question="What must be added to a score so that its weight is 0?"),
    Mistake("M9", "hidden scores filled with -1, not with minus infinity",
            edit=("-torch.inf", "-1.0"),
            why="the future is only pushed down, not hidden",
            question=_Q_FILL),
    Mistake("M9b", "hidden scores filled with -10, not with minus infinity",
            edit=("-torch.inf", "-10.0"),
            why="a little of the future leaks, and all of it when the real scores are "
                "very negative", question="Is there a score below -10?"),
    Mistake("M10", "filled with plus infinity",
            edit=("-torch.inf", "torch.inf"),
            why="nan in every row but the last: inf / inf",
            question=_Q_FILL),
    Mistake("M12", "0 times minus infinity: nan where a key may be seen",
            edit=("scores.masked_fill(~allowed, -torch.inf)",
                  "scores + ~allowed * -torch.inf"),
            why="nan in every row: 0 * -inf is nan, not 0",
            question="What is 0 * -torch.inf?"),
    Mistake("M14", "only the first example of the batch is masked",
            edit=("scores = scores.masked_fill(~allowed, -torch.inf)",
                  "first = scores[:1].masked_fill(~allowed, -torch.inf)\n"
                  "    scores = torch.cat([first, scores[1:]])"),
            why="example 0 is right, the others see the future",
            question="Is your mask the same for every example?"),
)
MASK_FINITE = (
    Mistake("M3f", "the mask inverted, with a finite number filled in",
            edit=[("~allowed", "allowed"), ("-torch.inf", "-1e9")], question=_Q_MASK,
            why="what may be seen is hidden, and the last row, where all is hidden, is "
                "not nan"),
    Mistake("M4f", "the diagonal hidden, with a finite number filled in",
            edit=[(".tril()", ".tril(-1)"), ("-torch.inf", "-1e9")],
            why="a token may not see itself, and row 0, where all is hidden, is not "
                "nan", question="May a token attend to itself?"),
    Mistake("M3n", "the mask inverted, with a finite number added",
            edit=("scores.masked_fill(~allowed, -torch.inf)",
                  "scores - 1e9 * allowed"), question=_Q_MASK,
            why="what may be seen is hidden, and the last row, where all is hidden, is "
                "not nan"),
    Mistake("M4n", "the diagonal hidden, with a finite number added",
            edit=[(".tril()", ".tril(-1)"),
                  ("scores.masked_fill(~allowed, -torch.inf)",
                   "scores - 1e9 * ~allowed")],
            why="a token may not see itself, and row 0, where all is hidden, is not "
                "nan", question="May a token attend to itself?"),
    Mistake("M10n", "a large number added to the hidden scores, where it should be "
            "subtracted",
            edit=("scores.masked_fill(~allowed, -torch.inf)",
                  "scores + 1e9 * ~allowed"), question=_Q_FILL,
            why="the future gets all the attention"),
    Mistake("M9m", "filled with the smallest of the scores",
            edit=("-torch.inf", "scores.min().item()"), question=_Q_FILL,
            why="hidden keys count as much as the worst visible one"),
)
MASK_LATE = Mistake(
    "M11", "masked after the softmax, without dividing by the new sum",
    edit=[("    scores = scores.masked_fill(~allowed, -torch.inf)\n", ""),
          ("weights @ v", "weights.tril() @ v")],
    why="the rows sum to less than 1, and the future still has an effect, "
        "through the sum that each weight was divided by",
    question="The hidden weights are gone. Do the others still add up to 1?")
MASK_ONLY = (
    Mistake("M13", "returns the weights: the softmax is already taken",
            edit=("return scores", "return scores.softmax(-1)"),
            why="yours are weights from 0 to 1; a softmax over them gives hidden keys "
                "a weight again",
            question="What does the caller do with your result: softmax, or nothing?"),
    Mistake("M1i", "right, but the caller's scores are changed in place",
            edit=("scores.masked_fill(", "scores.masked_fill_("),
            why="the scores are not the same after the call",
            question="Who else may need the scores?"),
)

_BEHIND_A_MASK = {
    "A9": "nan: a hidden score is -inf in every example, and a softmax over nothing "
          "but -inf is (-inf) - (-inf)",
    "A11": "nan or infinity: the hidden scores are still -inf when they meet the "
           "values",
    "A12": "nan or infinity: the logs of the hidden weights are -inf",
    "A13": "nan in every row but the last: the sum of the scores is -inf, and "
           "-inf / -inf is nan",
    "A14": "the rows add up to any number; with q = 0 each weight that is not hidden "
           "is 0.5",
}
CAUSAL = tuple(replace(one, why=_BEHIND_A_MASK.get(one.id, one.why))
               for one in WEIGHTING)

_TOO_LARGE = ("it fails in half precision, float16: a number like -1e9 is too large "
              "there (-torch.inf is not)")
_WIDENED = ("it fails in half precision, float16: a tensor in it is float32 whatever "
            "comes in; give torch.ones and torch.zeros the dtype of the input, or make "
            "the mask of True and False")
_FRAGILE = ("it is fragile: where the real scores are lower than the fill, hidden ones "
            "win; -torch.inf is lower than any score")


def _in_half(make_args: Callable[[Generator], tuple]) -> list[EdgeCase]:
    """Return what to say of a function that fails in half precision."""
    return [EdgeCase(_TOO_LARGE, lambda g: Probe(
                "half precision", make_args(g), too_large_in_half)),
            EdgeCase(_WIDENED, lambda g: Probe(
                "half precision", make_args(g), widened_in_half))]


_HALF = _in_half(lambda g: qkv(g, 2, 4, 3, 5))
_ABOVE = EdgeCase("it is fragile: it fails where a hidden score is 10,000 (all visible "
                "weights are 0 then, if the softmax sees that score); mask before the "
                "softmax", _far_above)
_BELOW = EdgeCase(_FRAGILE, _far_below)

causal_attention = Exercise(
    "causal_attention", "02", "causal_attention(q, k, v) -> (B, T, Dv)",
    make_probes=probes, mistakes=(*CAUSAL, *MASKING, *MASK_FINITE, MASK_LATE),
    read_out=partial(read_out, causal=True), edge_cases=(*_HALF, _ABOVE, _BELOW),
    axes={"q": "B T d", "k": "B T d", "v": "B T Dv", "": "B T Dv"}, crashes=CRASHES,
    hints=HINTS,
    show="v is the identity: the result is the weights", sums=True,
    solution=_CAUSAL_ATTENTION)

causal_attention_to_repair = causal_attention.to_repair(
    "causal_attention_to_repair", "M1",
    "does masked_fill change `scores`, or return a new tensor? (In PyTorch the names "
    "of methods that change a tensor end in _.)",
    "scores = scores.masked_fill(future, -torch.inf)",
    "`future` is right. Does it reach the softmax? Print `scores` just before it: "
    "which of them are -inf?")

mask_scores = Exercise(
    "mask_scores", "02", "mask_scores(scores) -> (B, T, T), ready for softmax(-1)",
    make_probes=mask_probes, mistakes=(*MASKING, *MASK_ONLY),
    edge_cases=(
        EdgeCase(_FRAGILE, lambda g: Probe("after softmax, scores near -20,000", (
            torch.randn(2, 5, 5, generator=g) - 20_000,), softened)),
        *_in_half(lambda g: (torch.randn(2, 4, 4, generator=g),))),
    axes={"scores": "B T Tk", "": "B T Tk"}, sums=True,
    show="after softmax, random scores",
    hints=("Query t may attend to keys 0 to t.", "Print your result for 4 x 4 zeros.",
           "scores.masked_fill(~allowed, -torch.inf)"), solution=_MASK_SCORES)

# --- the mask as a table --------------------------------------------------------------


def table_probes(g: Generator) -> list[Probe]:
    """Return numbers of queries and keys: as many, fewer, one, and a random pair."""
    many = 7 + int(torch.randint(3, (), generator=g))
    few = many - 2 - int(torch.randint(2, (), generator=g))
    pairs = {"4 queries, 4 keys": (4, 4), "2 queries, 5 keys": (2, 5),
             "1 query, 4 keys": (1, 4), "1 query, 1 key": (1, 1),
             f"{few} queries, {many} keys": (few, many)}
    many = 20 + int(torch.randint(80, (), generator=g))
    few = many - int(torch.randint(20, (), generator=g))
    pairs[f"{few} queries and {many} keys"] = (few, many)
    probes = [Probe(name, pair, sizes={"num_queries": pair[0], "num_keys": pair[1]})
              for name, pair in pairs.items()]
    return [*probes, Probe("whether the entries are True and False", (3, 4), kind),
            Probe("what happens for 5 queries and 3 keys", (5, 3), refusal)]


def read_mask(run: RunProbe, g: Generator) -> list[Clue]:
    """Return which queries see too much, too little or nothing."""
    found = []
    for pair in ((4, 4), (2, 5)):
        mask = run(Probe("", pair)).value
        if not isinstance(mask, Tensor) or mask.shape != pair:
            continue
        right = causal_mask.reference(*pair)
        wrong = (mask.bool() != right).any(1).nonzero().flatten().tolist()
        if wrong:
            place = pair[1] - pair[0] + wrong[0]
            seen = mask[wrong[0]].nonzero().flatten().tolist()
            found.append(Clue(
                f"row of {pair}", f"causal_mask{pair}: query {wrong[0]} is token "
                                  f"{place}"
                f"; it may attend to the keys {', '.join(map(str, range(place + 1)))}, "
                f"yours attends to {', '.join(map(str, seen)) or 'none'}"))
    return found


_Q_FIRST = "Which keys may the first query attend to? And the last one?"
_Q_LAST = ("The queries belong to the last tokens. Which of 5 tokens have queries, if "
           "there are 2?")

TABLE = (
    Mistake("M1", "a mask that hides nothing",
            edit=("key <= query", "(key <= query) | True"), question=_Q_FIRST,
            why="every query may attend to every key",
            where="look at how query and key are compared"),
    Mistake("M2", "the mask upside down: the past is hidden, the future shown",
            edit=("<=", ">="), question=_Q_FIRST,
            why="keys before a query are False, keys after it are True"),
    Mistake("M3", "the mask inverted: True where a key is hidden",
            edit=("<=", ">"),
            why="what may be seen is False, and what is hidden is True",
            question="What does True mean here?"),
    Mistake("M3t", "triu(ones, 1): True where a key is hidden, counted from the top "
            "left",
            edit=[("<=", ">"), (" + num_keys - num_queries", "")], question=_Q_LAST,
            why="the triangle of what is hidden, for queries that begin at token 0"),
    Mistake("M2t", "triu(ones): the future shown, counted from the top left",
            edit=[("<=", ">="), (" + num_keys - num_queries", "")], question=_Q_LAST,
            why="the triangle of the future, for queries that begin at token 0"),
    Mistake("M4", "the diagonal hidden: a token may not see itself",
            edit=("<=", "<"),
            why="each row has one True too few, at its own position",
            question="May a token attend to itself?"),
    Mistake("M5", "one future token visible",
            edit=("- num_queries", "- num_queries + 1"), question=_Q_FIRST,
            why="each row has one True too many"),
    Mistake("M15", "aligned at the top left: the queries taken for the first tokens",
            edit=(" + num_keys - num_queries", ""), question=_Q_LAST,
            why="query 0 is taken for token 0, whatever came before"),
    Mistake("M15s", "shifted to the wrong side: num_queries - num_keys",
            edit=("num_keys - num_queries", "num_queries - num_keys"), question=_Q_LAST,
            why="the fewer queries there are, the further they are moved to the left"),
    Mistake("M15n", "no mask when there are fewer queries than keys",
            edit=("    allowed =",
                  "    if num_queries < num_keys:\n"
                  "        query = query + num_keys\n"
                  "    allowed ="), question=_Q_LAST,
            why="right for one query, and for as many queries as keys; in between the "
                "future shows"),
    Mistake("M16", "1 and 0 (int) instead of True and False",
            edit=("return allowed", "return allowed.int()"),
            why="masked_fill refuses it, and ~ of 1 is -2, which counts as True",
            question="What does ~ do to True, and what to 1?"),
    Mistake("M16f", "1.0 and 0.0 (float) instead of True and False",
            edit=("return allowed", "return allowed.float()"),
            why="torch.ones gives floats; ~ refuses them",
            question="What does torch.ones contain?"),
    Mistake("M16a", "0 and -inf, to be added to scores, instead of True and False",
            edit=("return allowed", "return torch.where(allowed, 0.0, -torch.inf)"),
            why="the contract asks for a table of True and False",
            question="What turns False into minus infinity: the mask, or attention?"),
    Mistake("M17", "rows and columns exchanged: (num_keys, num_queries)",
            edit=[("torch.arange(num_keys)", "torch.arange(num_keys)[:, None]"),
                  ("(num_queries)[:, None]", "(num_queries)")], question=_Q_FIRST,
            why="with 2 queries and 5 keys it is (5, 2); with as many, it is "
                "transposed"),
    Mistake("M18", "a row for every key: (num_keys, num_keys)",
            edit=("torch.arange(num_queries)[:, None] + num_keys - num_queries",
                  "torch.arange(num_keys)[:, None]"), question=_Q_LAST,
            why="the rows of tokens without a query are still there"),
    Mistake("M18q", "num_keys is never used: (num_queries, num_queries)",
            edit=[("torch.arange(num_keys)", "torch.arange(num_queries)"),
                  (" + num_keys - num_queries", "")], question=_Q_LAST,
            why="the earlier keys have no column"),
    Mistake("M19", "each token sees only itself",
            edit=("<=", "=="), question=_Q_FIRST,
            why="one True in each row"),
    Mistake("M20", "more queries than keys are accepted: no ValueError",
            edit=("num_queries > num_keys", "False"),
            why="for 5 queries and 3 keys it returns a table",
            question="The queries belong to the last tokens. To which tokens can 5 "
                 "queries belong, if there are 3 keys?",
            where="what does your function do first?"),
    Mistake("M20e", "more queries than keys give an error that is not a ValueError",
            edit=("ValueError", "AssertionError"),
            why="for 5 queries and 3 keys another error is raised",
            question="Which class of error does the exercise ask for?"),
)

causal_mask = Exercise(
    "causal_mask", "02", "causal_mask(num_queries, num_keys) -> (num_queries, "
    "num_keys), True = may attend",
    make_probes=table_probes, mistakes=TABLE, read_out=read_mask,
    crashes=((r"bitwise_not|~", "~ works on True and False only: .bool() first"),
             (r"^ValueError", "if the error is your own: only more queries than keys "
              "should raise it")),
    hints=("The queries belong to the last tokens. At which position is query i?",
           "Print your mask for 1 query and 4 keys: it should be True throughout.",
           "torch.arange(num_keys) <= torch.arange(num_keys)[-num_queries:, None]"),
    show="2 queries, 5 keys", solution=_CAUSAL_MASK)

# --- the test for leaks ---------------------------------------------------------------


def _tables(t: int) -> dict[str, Tensor]:
    """Return tables (T, T): output i reads token j where entry (i, j) is not 0."""
    past = torch.ones(t, t).tril() / torch.arange(1, t + 1)[:, None]
    last = torch.eye(t)[-1][:, None]                             # output T - 1 alone
    leaking = {}
    for name, place in {"far": (0, -1), "middle": (1, 2), "early": (0, 1),
                        "late": (-2, -1)}.items():
        leaking[name] = past.clone()
        leaking[name][place] = 0.7
    return {**leaking, "past": past, "zero": last * torch.eye(t)[0],
            "one": last * torch.eye(t)[1], "own": torch.eye(t),
            "none": torch.zeros(t, t), "all": torch.full((t, t), 1 / t),
            "earlier": torch.ones(t - 1).diag(-1), "next": torch.ones(t - 1).diag(1),
            "rest": torch.ones(t, t).triu(), "centred": torch.eye(t) - 1 / t}


def leak_probes(g: Generator) -> list[Probe]:
    """Return functions of tokens, causal ones and leaking ones, with an input each."""
    b, t, c = 3, 6, 4
    table = _tables(t)
    one = torch.eye(c)[2]                                        # channel 2 alone
    cancel = torch.tensor([1.0, -1.0, 0.0, 0.0])
    others = torch.tensor([0.0, 1.0, 1.0, 1.0])                  # all but channel 0
    functions = {
        "the mean of the past (causal)": Mixer(table["past"]),
        "each token on its own (causal)": Mixer(table["own"]),
        "the token before (causal)": Mixer(table["earlier"]),
        "the last output reads token 0 (causal)": Mixer(table["zero"], keep=2),
        "the last output reads token 1 (causal)": Mixer(table["one"]),
        "all channels but the first of the last output read token 1 (causal)":
            Mixer(table["one"], factors=others),
        "each token minus the mean over the examples (causal)":
            Mixer(table["own"], mixed=True),
        "always 0 (causal)": Mixer(table["none"]),
        "the mean of all (leaks)": Mixer(table["all"]),
        "the next token (leaks)": Mixer(table["next"]),
        "minus the mean over the tokens (leaks)": Mixer(table["centred"]),
        "output 0 reads the last token (leaks)": Mixer(table["far"]),
        "output 1 reads token 2 (leaks)": Mixer(table["middle"], keep=3),
        "output 0 reads token 1 (leaks)": Mixer(table["early"]),
        "the second-to-last output reads the last token (leaks)": Mixer(table["late"]),
        "only example 1 leaks": Mixer(table["all"], example=1),
        "only channel 2 leaks": Mixer(table["all"], channels=one),
        "two channels leak, with opposite signs": Mixer(table["all"], channels=cancel),
        "a faint leak into one channel": Mixer(table["all"], channels=one / 100),
        "a leak of one four-thousandth": Mixer(
            table["all"], channels=torch.ones(c) / 4000),
        "only channel 3 of later tokens leaks":
            Mixer(table["all"], reads=torch.eye(c)[3]),
        "only channel 0 of later tokens leaks":
            Mixer(table["all"], reads=torch.eye(c)[0]),
        "the mean of the past, apart from rounding (causal)":
            Mixer(table["past"], rough=0.7),
    }
    second, third = (torch.arange(256) == i for i in (2, 3))     # of many channels
    alone = Mixer(table["far"], channels=(second.float() - third.float()) / 4000,
                  reads=second)  # small enough for a jacobian, 3072 x 3072
    rest = {"the sum of this token and all later ones, x positive (leaks)": 1.0,
            "minus the sum of this token and all later ones, x positive (leaks)": -1.0}
    return [*(Probe(name, (function, 1.5 * torch.randn(b, t, c, generator=g)), verdict)
              for name, function in functions.items()),
            Probe("four numbers of 3,072 leak, one four-thousandth",
                  (alone, 1.5 * torch.randn(2, t, 256, generator=g)), verdict),
            *(Probe(name, (Mixer(table["rest"], factors=sign),
                           4 + torch.rand(b, t, c, generator=g)), verdict)
              for name, sign in rest.items())]


def shuffled_leak_probes(g: Generator) -> list[Probe]:
    """Return the same in an order of the seed: no list of answers fits them all."""
    probes = leak_probes(g)
    return [probes[i] for i in torch.randperm(len(probes), generator=g)]


def read_leaks(run: RunProbe, g: Generator) -> list[Clue]:
    """Return the first missed leak and the first false alarm."""
    found: dict[str, Clue] = {}
    for probe in leak_probes(g):
        value, right = run(probe).value, observe(leaks.reference, probe).value
        if isinstance(value, bool) and value != right:
            key = "missed" if right else "false alarm"
            found.setdefault(key, Clue(
                key, f'{key}: your test says {value} of a function '
                f'that we made, "{probe.name}"'))
    return list(found.values())


_Q_LEAK = "Which outputs may move when token 3 changes, and which may not?"

LEAKS = (
    Mistake("N1", "a test that never finds a leak",
            edit=("range(x.size(1))", "range(1)"),
            why="it says False for every function: what it changes never reaches what "
                "it compares",
            question="Would your test notice if the function read the next token?",
            where="which token is changed, and which numbers are compared with which?"),
    Mistake("N2", "a test that counts the token's own output as a leak",
            edit=("[:, :j]", "[:, :j + 1]"),
            why="even a function that treats each token on its own is called a leak",
            question="May output 3 react to token 3?"),
    Mistake("N3", "a test that looks after the changed token, not before it",
            edit=("[:, :j]", "[:, j + 1:]"), question=_Q_LEAK,
            why="a function that reads the past is called a leak"),
    Mistake("N3f", "a test that counts the changed token and those after it",
            edit=("[:, :j]", "[:, j:]"), question=_Q_LEAK,
            why="a function that reads the past is called a leak"),
    Mistake("N4", "a test that calls any change of any output a leak",
            edit=("[:, :j]", ""), question=_Q_LEAK,
            why="only a function that ignores its input passes"),
    Mistake("N5", "only the last token is changed",
            edit=("range(x.size(1))", "[-1]"),
            why="a leak from a token in the middle is missed",
            question="Can token 2 leak if the last token doesn't?"),
    Mistake("N5s", "only the first token tested decides (a return inside the loop)",
            edit=[("range(x.size(1))", "range(1, x.size(1))"),
                  ("    return False", "        return False")],
            why="leaks from later tokens are missed",
            question="When does your loop stop?",
            where="look at the indentation of `return False`",
            fix="return False after the loop has ended"),
    Mistake("N6", "only the output next to the changed token is compared",
            edit=("[:, :j]", "[:, j - 1:j]"),
            why="a leak from far away is missed",
            question="May output 0 read the last token?"),
    Mistake("N6z", "only output 0 is compared",
            edit=("[:, :j]", "[:, :min(j, 1)]"),
            why="a leak into output 1 is missed",
            question="Which outputs come before token 3?",
            where="look at the index of the outputs"),
    Mistake("N7", "only the first example is compared",
            edit=("[:, :j]", "[0, :j]"),
            why="a leak in another example is missed",
            question="How many examples are in x?"),
    Mistake("N8", "only the first channel is compared",
            edit=("[:, :j]", "[:, :j, 0]"),
            why="a leak in another channel is missed",
            question="How many channels does an output have?"),
    Mistake("N14", "the examples before j are compared, not the outputs: [:j]",
            edit=("[:, :j]", "[:j]"),
            why="a function that reads the past is called a leak",
            question="Which axis of an output (B, T, C) is the time?"),
    Mistake("N14c", "the channels before j are compared, not the outputs: [..., :j]",
            edit=("[:, :j]", "[..., :j]"),
            why="a function that reads the past is called a leak",
            question="Which axis of an output (B, T, C) is the time?"),
    Mistake("N15", "only increases count, not decreases (.abs() is missing)",
            edit=[("torch.randn_like(x[:, j])", "0"), (".abs()", "")],
            why="an output that falls when the token becomes 0 or random is missed",
            question="Is an output that becomes smaller one that moves?"),
    Mistake("N15r", "only increases count, not decreases (.abs() is missing), and the "
                    "token is only made larger",
            edit=[("torch.randn_like(x[:, j])", "x[:, j] + 1"), (".abs()", "")],
            why="an output that falls with it is missed",
            question="Is an output that becomes smaller one that moves?"),
    Mistake("N16", "a test that says True for every function",
            edit=("return False", "return True"),
            why="a function that reads nothing but the past is called a leak, too",
            question="What would your test say of lambda x: x?"),
    Mistake("N17", "examples are changed and compared, not tokens: changed[j]",
            edit=[("x.size(1)", "len(x)"),
                  ("changed[:, j] = torch.randn_like(x[:, j])",
                   "changed[j] = torch.randn_like(x[j])"),
                  ("[:, :j]", "[:j]")],
            why="it says True only of a function that mixes the examples",
            question="Which axis of x (B, T, C) is the time?",
            where="count the axes where token j is changed"),
    Mistake("N9", "too wide a tolerance",
            edit=("1e-5", "0.15"),
            why="a faint leak is missed",
            question="How large is a rounding error, and how large a leak?"),
    Mistake("N9t", "a tolerance of 0.001 or more",
            edit=("1e-5", "1e-3"),
            why="a leak of one four-thousandth is missed",
            question="How large is a rounding error, and how large a leak?"),
    Mistake("N9m", "the mean of all changes, not the largest",
            edit=("(moved[:, :j] > 1e-5).any()", "moved[:, :j].mean() > 1e-5"),
            why="a leak into a few of many numbers is missed",
            question="Four of 3,072 values move by 0.0002. What is the mean?"),
    Mistake("N9z", "no tolerance: rounding is mistaken for a leak",
            edit=("1e-5", "0"),
            why="a causal function moves by 1e-6, because sums round",
            question="How large is a rounding error, and how large a leak?"),
    Mistake("N18", "only channel 0 of the token is changed",
            edit=("changed[:, j] = torch.randn_like(x[:, j])",
                  "changed[:, j, 0] = torch.randn_like(x[:, j, 0])"),
            why="a leak that reads another channel is missed",
            question="How many channels does token j have?"),
    Mistake("N19", "later tokens exchanged, not changed",
            edit=("changed[:, j] = torch.randn_like(x[:, j])",
                  "changed[:, j:] = x[:, j:].flip(1)"),
            why="a function that adds them up gives the same sum",
            question="Does a mean notice the order of the tokens?"),
    Mistake("N10", "changes are added up with their signs",
            edit=[(".abs()", ".sum((0, 2)).abs()"), ("[:, :j]", "[:j]")],
            why="two changes of opposite sign cancel",
            question="What is (+1) + (-1), and has something moved?"),
    Mistake("N11", "x itself is changed (no clone)",
            edit=("x.clone()", "x"),
            why="the caller's x is not the same after the call",
            question="Who else may still need x?"),
    Mistake("N11a", "x itself is changed (no clone), by the same number everywhere",
            edit=[("x.clone()", "x"), ("torch.randn_like(x[:, j])", "x[:, j] + 1")],
            why="the caller's x is not the same after the call, and a mean that is "
                "subtracted first hides the change",
            question="Who else may still need x?"),
    Mistake("N12", "the changes pile up: tokens that were changed before stay changed",
            edit=[("    for j", "    changed = x.clone()\n    for j"),
                  ("        changed = x.clone()\n", "")],
            why="an output that reads an earlier token moves because of that token",
            question="Before token 3 changes, what should tokens 0 to 2 be?"),
    Mistake("N13", "the opposite: True for a causal function",
            edit=[("return True", "return False"), ("return False", "return True")],
            why="right about every function, with True and False exchanged",
            question="What should True mean?"),
)


def _one_token(g: Generator) -> Probe:
    return Probe("one token", (Mixer(torch.eye(1)), torch.randn(2, 1, 3, generator=g)),
                 verdict)


def _toy(name: str, **options: Any) -> Callable[[Generator], Probe]:
    """Return what makes a probe of one toy function."""
    def probe(g: Generator) -> Probe:
        x = torch.randn(2, 6, 4, generator=g)
        return Probe(name, (Mixer(_tables(6)[name], **options), x), verdict)
    return probe


leaks = Exercise(
    "leaks", "02", "leaks(function, x) -> True if the future leaks",
    make_probes=shuffled_leak_probes, mistakes=LEAKS, read_out=read_leaks,
    edge_cases=(EdgeCase(
        "it takes rounding for a leak: a causal function may move by 1e-6. Allow 1e-5: "
        "> 1e-5, or allclose(..., atol=1e-5)", _toy("past", rough=9.0)),
     EdgeCase("it misses a leak where the mean of each token is subtracted first, as "
              "in layer norm: adding one number to all channels changes nothing there; "
              "replace the token by a random one",
              _toy("all", centred=True)),
     EdgeCase("it fails on a text of one token, which has no future", _one_token)),
    crashes=((r"max\(\).*(numel|non-zero size)|arg is an empty sequence",
              "no output comes before token 0: for j = 0 the slice is empty and has no "
              "maximum, so begin at j = 1"),),
    hints=("Change one token. Which outputs must stay exactly as they were?",
           "Try it on lambda x: x.roll(-1, 1), which reads the next token, and on "
           "lambda x: x.cumsum(1), which is causal.",
           "changed = x.clone(); changed[:, j] = torch.randn_like(x[:, j]); compare "
           "function(changed)[:, :j] with function(x)[:, :j]"),
    show="output 1 reads token 2 (leaks)", solution=_LEAKS)

# --- the answers that are values ------------------------------------------------------

_ROLL = Mistake(
    "N20", "overlooking that roll takes the last token round to the front",
    "output 0 of C is the last token",
    "What does C put at position 0, which has no token before it?",
    "print x.roll(1, 1) for tokens 1, 2, 3", "C leaks, from the last token to output 0")
_EXAMPLES = Mistake(
    "N21", "mistaking a mean over the examples for a leak in time",
    "E mixes texts, but output i needs nothing after token i of any of them",
    "Along which axis does E average?", "dim=0 is the batch", "E does not leak")
_OPPOSITE = Mistake(
    "N22", "the functions that do not leak, instead of those that do",
    "every letter is on the wrong side", "When does your test say True?",
    "look at where you collect the letters", "keep the letters for which it says True")
_SOFTMAX = Mistake(
    "N23", "overlooking that a softmax over the tokens divides by a sum over all",
    "every output of F moves when the last token changes",
    "What is each number of a softmax divided by?", "which axis is dim=1?",
    "F leaks, through its sum")


_NO_MASK = Mistake(
    "N24", "no mask: row 0 sees the future",
    "the first token attends to itself only", "Which keys may query 0 attend to?",
    "row 0", "[1.0, 0, 0, 0]")
_LATE = Mistake(
    "N25", "masked after the softmax, without renormalising",
    "a row of weights adds up to 1", "What does row 0 add up to?", "row 0",
    "[1.0, 0, 0, 0]")
_DIAGONAL = Mistake(
    "N26", "the diagonal hidden: a token may not attend to itself",
    "a token may attend to itself and to what came before it",
    "May a token attend to itself?", "the last number of each row",
    "[1.0, 0, 0, 0] and [0.1, 0.2, 0.3, 0.4]")
_LOGS = Mistake(
    "N27", "the scores, not the weights", "the weights of a row add up to 1",
    "How does a score become a weight?", "e to the power of ln 3 is 3",
    "[0.1, 0.2, 0.3, 0.4]")
_NO_LOGS = Mistake(
    "N28", "a softmax of 1 to 4, as if the scores were not logarithms",
    "e to the power of ln 3 is 3, not e to the 3",
    "What is e to the power of ln 3?", "row 3", "[0.1, 0.2, 0.3, 0.4]")
_NO_EXP = Mistake(
    "N31", "the scores divided by their sum, without exponentials",
    "the scores are logarithms: the first one, ln 1 = 0, would get no weight at all",
    "What makes a score positive before it is divided by the sum?",
    "e to the power of ln 3 is 3", "[0.1, 0.2, 0.3, 0.4]")
_EVEN = Mistake(
    "N29", "equal weights", "the scores differ, so the weights do",
    "What is e to the power of ln 3, and of ln 4?", "row 3", "[0.1, 0.2, 0.3, 0.4]")
_UPSIDE = Mistake(
    "N30", "the mask upside down: the past is hidden",
    "the last token attends to all four, the first one to itself only",
    "Which keys may the last query attend to?", "row 3", "[0.1, 0.2, 0.3, 0.4]")


def _hidden_weight(scores: Tensor, fill: float) -> float:
    """Return the largest weight that a hidden key gets, for scores (T, T)."""
    hidden = torch.ones(scores.shape, dtype=torch.bool).triu(1)
    weights = scores.double().masked_fill(hidden, fill).softmax(-1)
    return weights[hidden].max().item()


def _breaks(value: Value) -> list[str]:
    """Return why a fill and scores do not show what a finite fill can do."""
    if not isinstance(value, list | tuple) or len(value) != 2:
        return ["expected a list of two: [fill, scores]"]
    fill, scores = float(value[0]), torch.as_tensor(value[1], dtype=torch.float32)
    if not math.isfinite(fill):
        return [f"the fill is {fill}: no finite score is below it, so nothing breaks"]
    if scores.dim() != 2 or scores.size(0) != scores.size(1) or len(scores) < 2:
        return [f"the scores have the shape {tuple(scores.shape)}, expected (T, T) "
                "with T = 2 or more"]
    if not scores.isfinite().all():
        return ["some scores are not finite: q.k never gives that"]
    ordinary = torch.randn(100, 6, 6, generator=torch.Generator().manual_seed(0))
    usual = max(_hidden_weight(3 * one, fill) for one in ordinary)
    if usual > 1e-4:
        return [f"the fill {fill:g} does not look fine: with ordinary scores (standard "
                f"deviation 3) a hidden key already gets {usual:.2g}, and at most "
                "0.0001 is allowed"]
    weight = _hidden_weight(scores, fill)
    if not weight > 0.01:
        return [f"with your scores a hidden key gets {weight:.2g}: more than 0.01 is "
                "asked for. How low must the visible scores be, compared with the "
                "fill?"]
    return []


def _sorted_letters(value: Value) -> object:
    """Return letters ("BF", "f, b", ["B", "F"]) as a text in the order of the alphabet.

    What is not letters is returned as it is.
    """
    if isinstance(value, list | tuple | set) and all(
            isinstance(part, str) for part in value):
        value = " ".join(sorted(value))
    if not isinstance(value, str):
        return value
    letters = re.findall(r"\w", value.upper())
    return "".join(sorted(set(letters))) if set(letters) <= set("ABCDEF") else value


ANSWERS = (
    Answer("02.1", "rows 0 and 3 of causal weights, scores ln 1, ln 2, ln 3, ln 4",
           {"row 0": [1.0, 0, 0, 0], "row 3": [0.1, 0.2, 0.3, 0.4]}, decimals=1,
           precision="one decimal is", predict=True,
           wrong=(({"row 0": [0.1, 0.2, 0.3, 0.4]}, _NO_MASK),
                  ({"row 0": [0.25] * 4}, _NO_MASK), ({"row 0": [0.1, 0, 0, 0]}, _LATE),
                  ({"row 0": [0, 0, 0, 0]}, _DIAGONAL),
                  ({"row 3": [1 / 6, 2 / 6, 3 / 6, 0]}, _DIAGONAL),
                  ({"row 3": [math.log(n) for n in (1, 2, 3, 4)]}, _LOGS),
                  ({"row 3": [0.032, 0.087, 0.237, 0.644]}, _NO_LOGS),
                  ({"row 3": [0, 0.2181, 0.3457, 0.4362]}, _NO_EXP),
                  ({"row 3": [0.25] * 4}, _EVEN), ({"row 3": [0, 0, 0, 1]}, _UPSIDE),
                  ({"row 3": [0, 0, 0, 0.4]}, _UPSIDE),
                  ({"row 0": [0.1, 0.2, 0.3, 0.4], "row 3": [0, 0, 0, 1]}, _UPSIDE),
                  ({"row 0": [0.1, 0.2, 0.3, 0.4], "row 3": [0, 0, 0, 0.4]}, _UPSIDE)),
           hints=("Which keys may query 0 attend to, and which may query 3?",
                  "e to the power of ln 3 is 3. Divide by the sum over the keys that "
                  "may be seen.",
                  "One visible key gets everything; 1 + 2 + 3 + 4 = 10."),
           solution='predicted = {"row 0": [1.0, 0, 0, 0],\n'
                    '             "row 3": [0.1, 0.2, 0.3, 0.4]}'),
    Answer("02.4", "the letters of the functions that leak", "BCF",
           normalise=_sorted_letters,
           wrong=(("BF", _ROLL), ("BCEF", _EXAMPLES), ("ADE", _OPPOSITE),
                  ("BC", _SOFTMAX), ("BEF", _ROLL)),
           hints=("Ask two questions about each letter: does it mix tokens (axis 1) at "
                  "all? If it does, can a later token reach an earlier position?",
                  "Ask your test about each of the six.",
                  'Collect the letters for which leaks(function, x) is True.'),
           solution='leaking = "".join(letter for letter, function in functions.items()'
                    "\n                  if leaks(function, x))"),
    Answer("02.5", "a fill that looks fine, and scores (T, T) that break it",
           lambda: [-100.0, [[-100.0, 0.0], [0.0, 0.0]]], test=_breaks,
           hints=("Softmax depends on differences between scores only. Take the first "
                  "row, one visible score and the fill beside it: low compared with "
                  "what?",
                  "The hidden scores are thrown away. The visible ones are yours: make "
                  "the one of row 0 as low as the fill.",
                  "fill = -100 and a visible score of -100: half and half."),
           solution="fill = -100.0\nscores = [[-100.0, 0.0], [0.0, 0.0]]"),
)
