"""The mask itself, and the test for leaks (catalogue: M, and N for the test)."""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from gpt2_lesson.checks.clues import Clue
from gpt2_lesson.checks.engine import Exercise, Look, Mistake, Robust
from gpt2_lesson.checks.probing import Probe
from gpt2_lesson.checks.stand_ins.causal import Mixer, kind, refusal, verdict

# --- the mask -------------------------------------------------------------------------


def mask_of(num_queries: int, num_keys: int, *, corner: str = "bottom right",
            show: str = "past", shift: int = 0, size: str = "", holds: str = "bool",
            refuses: str = "ValueError") -> Tensor:
    """Return who may look at whom (Tq, Tk), True = may look; or a wrong table."""
    if not 1 <= num_queries <= num_keys and refuses:
        raise {"ValueError": ValueError, "another error": AssertionError}[refuses](
            f"{num_queries} queries for {num_keys} keys")
    rows, columns = {"queries": (num_queries, num_queries), "keys": (num_keys, num_keys)
                     }.get(size, (num_queries, num_keys))
    first = {"bottom right": columns - rows, "top left": 0, "wrong sign":
             rows - columns, "square only": columns - rows}[corner]
    key = torch.arange(columns)                                  # (Tk,)
    query = first + shift + torch.arange(rows)[:, None]          # (Tq, 1)
    allowed = {"past": key <= query, "future": key >= query, "hidden": key > query,
               "self": key == query, "all": key <= key + 0 * query}[show]
    if corner == "square only" and rows < columns:
        allowed = torch.ones_like(allowed)
    allowed = allowed.T if size == "turned" else allowed
    return {"bool": lambda: allowed, "int": allowed.int, "float": allowed.float,
            "added": lambda: torch.zeros(allowed.shape).masked_fill(
                ~allowed, -torch.inf)}[holds]()


def mask_probes(g: Generator) -> list[Probe]:
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
    return [*probes, Probe("what the mask holds", (3, 4), kind),
            Probe("what happens for 5 queries and 3 keys", (5, 3), refusal)]


_Q_MASK = "Which keys may the first query look at? And the last one?"
_Q_LAST = "The queries are the last tokens: of 5, 2 queries are the tokens 3 and 4."

MASK = (
    Mistake("M1", "a mask that hides nothing", "every query may look at every key",
            _Q_MASK, "look at how query and key are compared", "key <= query",
            {"show": "all"}),
    Mistake("M2", "the mask upside down: the past is hidden, the future shown",
            "what lies behind a query is False, what lies ahead is True", _Q_MASK,
            "tril keeps the lower triangle, triu the upper one; look at < and >",
            "key <= query", {"show": "future"}),
    Mistake("M3", "the mask inverted: True where a key is hidden",
            "what may be seen is False, and what is hidden is True",
            "What does True mean here?",
            "compare the last row with the contract", "True = may look: ~hidden",
            {"show": "hidden"}),
    Mistake("M3t", "triu(ones, 1): True where a key is hidden, counted from the top "
                   "left",
            "the triangle of what is hidden, for queries that begin at token "
            "0", _Q_LAST,
            "what does triu(..., 1) keep? And print causal_mask(1, 4)",
            "key <= query, query number i at num_keys - num_queries + i",
            {"show": "hidden", "corner": "top left"}),
    Mistake("M2t", "triu(ones): the future shown, counted from the top left",
            "the triangle of the future, for queries that begin at token 0", _Q_LAST,
            "what does triu keep? And print causal_mask(1, 4)",
            "key <= query, query number i at num_keys - num_queries + i",
            {"show": "future", "corner": "top left"}),
    Mistake("M4", "the diagonal hidden: a token may not see itself",
            "each row has one True too few, its own place",
            "May a token look at itself?", "look at < and <=, or at `diagonal`",
            "key <= query", {"shift": -1}),
    Mistake("M5", "one future token visible", "each row has one True too many",
            _Q_MASK, "look at the number added to the place, or at `diagonal`",
            "query number i stands at num_keys - num_queries + i", {"shift": 1}),
    Mistake("M15", "aligned at the top left: the queries taken for the first tokens",
            "query 0 is taken for token 0, whatever came before", _Q_LAST,
            "print causal_mask(1, 4): the newest token may see everything",
            "query number i stands at num_keys - num_queries + i",
            {"corner": "top left"}),
    Mistake("M15s", "shifted to the wrong side: num_queries - num_keys",
            "the fewer queries there are, the further they are moved to the left",
            _Q_LAST, "look at the order of the subtraction",
            "num_keys - num_queries + i", {"corner": "wrong sign"}),
    Mistake("M15n", "no mask when there are fewer queries than keys",
            "right for one query, and for as many queries as keys; in between the "
            "future shows", _Q_LAST, "look for an `if`, or print causal_mask(2, 5)",
            "query number i stands at num_keys - num_queries + i",
            {"corner": "square only"}, mark="R"),
    Mistake("M16", "1 and 0 (int) in the place of True and False",
            "masked_fill refuses it, and ~ of 1 is -2, which counts as True",
            "What does ~ do to True, and what to 1?", "look at the result's dtype",
            "compare with <=, or end with .bool()", {"holds": "int"}),
    Mistake("M16f", "1.0 and 0.0 (float) in the place of True and False",
            "torch.ones gives floats; ~ refuses them", "What does torch.ones hold?",
            "look at the result's dtype", "end with .bool()", {"holds": "float"}),
    Mistake("M16a", "0 and -inf, to be added to scores, in the place of True and False",
            "the contract asks for a table of yes and no",
            "Who turns No into minus infinity: the mask, or attention?",
            "look at the last step", "return the table of True and False itself",
            {"holds": "added"}),
    Mistake("M17", "rows and columns exchanged: (num_keys, num_queries)",
            "with 2 queries and 5 keys it is (5, 2); with as many, a table turned over",
            _Q_MASK,
            "a row is a query that looks", "key along the last axis, query[:, None]",
            {"size": "turned"}),
    Mistake("M18", "a row for every key: (num_keys, num_keys)",
            "the rows of tokens that do not ask are still there", _Q_LAST,
            "how many rows has the result?", "keep the last rows: [-num_queries:]",
            {"size": "keys"}),
    Mistake("M18q", "num_keys is never used: (num_queries, num_queries)",
            "the earlier keys have no column", _Q_LAST,
            "how many columns has the result?", "num_keys columns",
            {"size": "queries"}),
    Mistake("M19", "each token sees itself alone", "one True in each row",
            _Q_MASK, "look for == or eye", "key <= query", {"show": "self"}),
    Mistake("M20", "more queries than keys are let through: no ValueError",
            "for 5 queries and 3 keys it returns a table",
            "The queries are the last tokens. Which tokens are 5 queries, if there are "
            "3 keys?", "what does your function do first?",
            "if num_queries > num_keys: raise ValueError(...)", {"refuses": ""}),
    Mistake("M20e", "more queries than keys give an error that is no ValueError",
            "for 5 queries and 3 keys another error is raised",
            "Which class of error does the exercise ask for?",
            "assert raises an AssertionError, torch often a RuntimeError",
            "if num_queries > num_keys: raise ValueError(...)",
            {"refuses": "another error"}),
)


def read_mask(look: Look, g: Generator) -> list[Clue]:
    """Return which queries see too much, too little or nothing."""
    found = []
    for pair in ((4, 4), (2, 5)):
        mask = look(Probe("", pair)).value
        if not isinstance(mask, Tensor) or mask.shape != pair:
            continue
        wrong = (mask.bool() != mask_of(*pair)).any(1).nonzero().flatten().tolist()
        if wrong:
            place = pair[1] - pair[0] + wrong[0]
            seen = mask[wrong[0]].nonzero().flatten().tolist()
            found.append(Clue(
                f"row of {pair}", f"causal_mask{pair}: query {wrong[0]} is token "
                                  f"{place}"
                f"; it may look at the keys {', '.join(map(str, range(place + 1)))}, "
                f"yours looks at {', '.join(map(str, seen)) or 'none'}"))
    return found


causal_mask = Exercise(
    "causal_mask", "02", "causal_mask(num_queries, num_keys) -> (num_queries, "
    "num_keys), True = may look",
    mask_of, mask_probes, MASK, read_mask,
    crashes=((r"bitwise_not|~", "~ works on True and False only: .bool() first"),
             (r"^ValueError", "if the error is your own: only more queries than keys "
              "should raise it")),
    hints=("The queries are the last tokens. At which place does query i stand?",
           "Print your mask for 1 query and 4 keys: it should be True throughout.",
           "torch.arange(num_keys) <= torch.arange(num_keys)[-num_queries:, None]"),
    show="2 queries, 5 keys", solution="""\
def causal_mask(num_queries, num_keys):
    if not 1 <= num_queries <= num_keys:
        raise ValueError(f"{num_queries} queries for {num_keys} keys")
    key = torch.arange(num_keys)
    query = torch.arange(num_queries)[:, None] + num_keys - num_queries
    return key <= query""")


# --- the test for leaks ---------------------------------------------------------------


def find_leak(function: Callable[[Tensor], Tensor], x: Tensor, *, tokens: str = "each",
              outputs: str = "before", axis: str = "", tolerance: float = 1e-5,
              keeps: bool = False, in_place: bool = False, opposite: bool = False,
              summed: bool = False, rises: str = "", changes: str = "a token") -> bool:
    """Return True if an output (B, T, C) before token j moves when token j changes."""
    last = x.size(1) - 1
    other = {"": x.flip(-1) * torch.linspace(-1.5, 2, x.size(-1)) + 0.3, "to 0": 0 * x,
             "to more": x + 1}[rises]                            # (B, T, C)
    before, changed = function(x), x if in_place else x.clone()
    for j in {"each": range(last + 1), "last": [last], "first": [0], "second": [1],
              "middle": [last // 2]}[tokens]:
        if not (keeps or in_place):
            changed = x.clone()
        if changes == "one channel":
            changed[:, j, 0] = other[:, j, 0]
        elif changes == "swapped":
            changed[:, j:] = x[:, j:].flip(1)
        else:
            changed[:, j] = other[:, j]
        moved = function(changed) - before
        moved = {"": moved, "example": moved[:1], "channel": moved[..., :1],
                 "examples": moved[:j], "channels": moved[..., :j]}[axis]
        if not moved.numel():
            continue
        moved = moved.clamp(min=0) if rises else moved
        moved = moved.sum((0, 2)).abs() if summed else moved.abs().amax((0, 2))  # (T,)
        first, end = {"before": (0, j), "until": (0, j + 1), "after": (j + 1, last + 1),
                      "from": (j, last + 1), "any": (0, last + 1),
                      "neighbour": (max(j - 1, 0), j), "zero": (0, min(j, 1))}[outputs]
        if (moved[first:end] > tolerance).any():
            return not opposite
    return opposite


def between_examples(function: Callable[[Tensor], Tensor], x: Tensor) -> bool:
    """Return True if an output of an example moves when an example after it changes."""
    before = function(x)
    for j in range(1, len(x)):
        changed = x.clone()
        changed[j] = -x[j]
        if ((function(changed) - before)[:j].abs() > 1e-5).any():
            return True
    return False


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
        "each token alone (causal)": Mixer(table["own"]),
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
        "the last output but one reads the last token (leaks)": Mixer(table["late"]),
        "only example 1 leaks": Mixer(table["all"], example=1),
        "only channel 2 leaks": Mixer(table["all"], channels=one),
        "two channels leak, with opposite signs": Mixer(table["all"], channels=cancel),
        "a faint leak of one hundredth": Mixer(table["all"], channels=one / 100),
        "only channel 3 of later tokens leaks":
            Mixer(table["all"], reads=torch.eye(c)[3]),
        "only channel 0 of later tokens leaks":
            Mixer(table["all"], reads=torch.eye(c)[0]),
        "the mean of the past, but for rounding (causal)":
            Mixer(table["past"], rough=0.7),
    }
    rest = {"the sum of this token and all later ones, x positive (leaks)": 1.0,
            "minus the sum of this token and all later ones, x positive (leaks)": -1.0}
    return [*(Probe(name, (function, 1.5 * torch.randn(b, t, c, generator=g)), verdict)
              for name, function in functions.items()),
            *(Probe(name, (Mixer(table["rest"], factors=sign),
                           4 + torch.rand(b, t, c, generator=g)), verdict)
              for name, sign in rest.items())]


def shuffled_leak_probes(g: Generator) -> list[Probe]:
    """Return the same in an order of the seed: no list of answers fits them all."""
    probes = leak_probes(g)
    return [probes[i] for i in torch.randperm(len(probes), generator=g)]


_Q_LEAK = "Which outputs may move when token 3 changes, and which may not?"

LEAKS = (
    Mistake("N1", "a test that never finds a leak",
            "it says False for every function: what it changes never reaches what it "
            "compares",
            "Would your test notice if the function read the next token?",
            "which token is changed, and which numbers are compared with which?",
            "change token j, then compare the outputs before j",
            {"tokens": "first"}),
    Mistake("N2", "a test that counts the token's own output as a leak",
            "each token alone is called a leak", "May output 3 react to token 3?",
            "look at the end of the slice", "[:, :j], which leaves j out",
            {"outputs": "until"}),
    Mistake("N3", "a test that looks after the changed token, not before it",
            "a function that reads the past is called a leak", _Q_LEAK,
            "look at the slice of the outputs", "[:, :j]", {"outputs": "after"}),
    Mistake("N3f", "a test that looks at the changed token and after it",
            "a function that reads the past is called a leak", _Q_LEAK,
            "look at the slice of the outputs", "[:, :j]", {"outputs": "from"}),
    Mistake("N4", "a test that calls any change of any output a leak",
            "only a function that ignores its input passes", _Q_LEAK,
            "look at which outputs are compared", "the outputs before j alone: [:, :j]",
            {"outputs": "any"}),
    Mistake("N5", "only the last token is changed",
            "a leak from a token in the middle is missed",
            "Can the last token be blameless and token 2 not?",
            "look for -1 where token j is changed", "a loop over all tokens j",
            {"tokens": "last"}),
    Mistake("N5s", "only the first token tested decides (a return inside the loop)",
            "leaks from later tokens are missed", "When does your loop stop?",
            "look at the indentation of `return False`",
            "return False after the loop has ended", {"tokens": "second"}),
    Mistake("N6", "only the output next to the changed token is compared",
            "a leak from far away is missed",
            "May output 0 read the last token?", "look at the index of the outputs",
            "all outputs before j: [:, :j]", {"outputs": "neighbour"}),
    Mistake("N6z", "only output 0 is compared", "a leak into output 1 is missed",
            "Which outputs stand before token 3?", "look at the index of the outputs",
            "all outputs before j: [:, :j]", {"outputs": "zero"}),
    Mistake("N7", "only the first example is compared",
            "a leak in another example is missed", "How many examples are in x?",
            "look for a [0]", "compare all examples", {"axis": "example"}),
    Mistake("N8", "only the first channel is compared",
            "a leak in another channel is missed", "How many channels has an output?",
            "look for [..., 0]", "compare all channels", {"axis": "channel"}),
    Mistake("N14", "the examples before j are compared, not the outputs: [:j]",
            "a function that reads the past is called a leak",
            "Which axis of an output (B, T, C) is the time?",
            "count the axes in the slice of the outputs", "[:, :j]",
            {"axis": "examples", "outputs": "any"}),
    Mistake("N14c", "the channels before j are compared, not the outputs: [..., :j]",
            "a function that reads the past is called a leak",
            "Which axis of an output (B, T, C) is the time?",
            "count the axes in the slice of the outputs", "[:, :j]",
            {"axis": "channels", "outputs": "any"}),
    Mistake("N15", "only a rise counts, no fall (.abs() is missing)",
            "an output that falls when the token becomes 0 or random is missed",
            "Is an output that becomes smaller one that moves?",
            "look for max() or > without .abs()", ".abs() first", {"rises": "to 0"}),
    Mistake("N15r", "only a rise counts, no fall (.abs() is missing), and the token is "
            "only made larger", "an output that falls with it is missed",
            "Is an output that becomes smaller one that moves?",
            "look for max() or > without .abs()", ".abs() first",
            {"rises": "to more"}),
    Mistake("N16", "a test that says True for every function",
            "a function that reads nothing but the past is called a leak, too",
            "What would your test say of lambda x: x?",
            "which numbers are compared with which? Two calls of the function belong "
            "together", "compare function(changed) with function(x), before j",
            {"tokens": "first", "opposite": True}),
    Mistake("N17", "examples are changed and compared, not tokens: changed[j]",
            "it says True only of a function that mixes the examples",
            "Which axis of x (B, T, C) is the time?",
            "count the axes where token j is changed", "changed[:, j] = ...",
            function=between_examples),
    Mistake("N9", "too wide a tolerance", "a faint leak is missed",
            "How large is a rounding error, and how large a leak?",
            "look at the number that the change is compared with",
            "1e-5 is above rounding, and below a leak that matters",
            {"tolerance": 0.15}),
    Mistake("N9z", "no tolerance: rounding is taken for a leak",
            "a causal function moves by 1e-6, because sums round",
            "How large is a rounding error, and how large a leak?",
            "look at the number that the change is compared with",
            "> 1e-5, or allclose(..., atol=1e-5)", {"tolerance": 0.0}),
    Mistake("N18", "only channel 0 of the token is changed",
            "a leak that reads another channel is missed",
            "How many channels has token j?", "look at where the token is changed",
            "changed[:, j] = ..., all channels", {"changes": "one channel"}),
    Mistake("N19", "later tokens exchanged, not changed",
            "a function that adds them up gives the same sum",
            "Does a mean notice in which order the tokens stand?",
            "look for flip, roll or randperm", "put other numbers into token j",
            {"changes": "swapped"}),
    Mistake("N10", "changes are added up with their signs",
            "two changes of opposite sign cancel",
            "What is (+1) + (-1), and has something moved?", "look at sum or mean",
            ".abs() first", {"summed": True}),
    Mistake("N11", "x itself is changed (no clone)",
            "the caller's x is not the same after the call",
            "Who else may still need x?", "look at changed = x", "changed = x.clone()",
            {"in_place": True}),
    Mistake("N12", "the changes pile up: token j is changed, the ones before stay so",
            "an output that reads an earlier token moves for that token's sake",
            "Before token 3 changes, what should tokens 0 to 2 be?",
            "where is x.clone()?", "clone inside the loop, once for each j",
            {"keeps": True}),
    Mistake("N13", "the opposite: True for a causal function",
            "right about every function, with True and False exchanged",
            "What shall True mean?", "look at the return lines",
            "True if something before j moved", {"opposite": True}),
)


def read_leaks(look: Look, g: Generator) -> list[Clue]:
    """Return the first missed leak and the first false alarm."""
    found = {}
    for probe in leak_probes(g):
        value, right = look(probe).value, find_leak(*probe.args)
        if isinstance(value, bool) and value != right:
            key = "missed" if right else "false alarm"
            found.setdefault(key, Clue(
                key, f'{key}: your test says {value} of a function '
                f'that we made, "{probe.name}"'))
    return list(found.values())


def _one_token(g: Generator) -> Probe:
    return Probe("one token", (Mixer(torch.eye(1)), torch.randn(2, 1, 3, generator=g)),
                 verdict)


def _toy(name: str, **options: float) -> Callable[[Generator], Probe]:
    """Return what makes a probe of one toy function."""
    def probe(g: Generator) -> Probe:
        x = torch.randn(2, 6, 4, generator=g)
        return Probe(name, (Mixer(_tables(6)[name], **options), x), verdict)
    return probe


leaks = Exercise(
    "leaks", "02", "leaks(function, x) -> True if the future leaks",
    find_leak, shuffled_leak_probes, LEAKS, read_leaks,
    (Robust("it takes rounding for a leak: a causal function may move by 1e-6. Allow "
            "1e-5: > 1e-5, or allclose(..., atol=1e-5)", _toy("past", rough=9.0)),
     Robust("it misses a leak where each token is first freed of its mean, as in layer "
            "norm: adding one number to all channels changes nothing there; put a "
            "random token in the place of the old one", _toy("all", centred=True)),
     Robust("it fails on a text of one token, which has no future", _one_token)),
    crashes=((r"max\(\).*(numel|non-zero size)|arg is an empty sequence",
              "no output stands before token 0: for j = 0 the slice is empty and has "
              "no maximum, so begin at j = 1"),),
    hints=("Change one token. Which outputs must stay exactly as they were?",
           "Try it on lambda x: x.roll(-1, 1), which reads the next token, and on "
           "lambda x: x.cumsum(1), which is causal.",
           "changed = x.clone(); changed[:, j] = torch.randn_like(x[:, j]); compare "
           "function(changed)[:, :j] with function(x)[:, :j]"),
    show="output 1 reads token 2 (leaks)", solution="""\
def leaks(function, x):
    before = function(x)
    for j in range(1, x.size(1)):
        changed = x.clone()
        changed[:, j] = torch.randn_like(changed[:, j])
        moved = (function(changed) - before)[:, :j]
        if moved.abs().max() > 1e-5:
            return True
    return False""")
