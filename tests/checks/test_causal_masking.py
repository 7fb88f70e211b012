"""The checks of the mask and of the test for leaks: catalogue entries M and N."""

import pytest
import torch
from catalogue import Catalogue, function_of
from torch.autograd.functional import jacobian

from gpt2_lesson import checks
from gpt2_lesson.causal_masking import causal_mask as lesson_mask
from gpt2_lesson.causal_masking import influence

# What learners write as the body of causal_mask(num_queries, num_keys).
MASKS = {
    "M1": "return torch.ones(num_queries, num_keys).bool()",
    "M2": """i = torch.arange(num_queries)[:, None] + num_keys - num_queries
return i <= torch.arange(num_keys)""",
    "M2b": """return torch.ones(num_queries, num_keys).triu(
    num_keys - num_queries).bool()""",
    "M3": """return torch.triu(torch.ones(num_queries, num_keys),
    diagonal=num_keys - num_queries + 1).bool()""",
    "M4": """big = torch.ones(num_keys, num_keys).tril(-1).bool()
return big[-num_queries:]""",
    "M4b": """return torch.arange(num_keys) < torch.arange(
    num_keys - num_queries, num_keys)[:, None]""",
    "M5": """offset = num_keys - num_queries + 1
return torch.tril(torch.ones(num_queries, num_keys), offset) == 1""",
    "M15": "return torch.tril(torch.ones(num_queries, num_keys)).bool()",
    "M15b": """mask = torch.zeros(num_queries, num_keys, dtype=torch.bool)
for i in range(num_queries):
    mask[i, :i + 1] = True
return mask""",
    "M15c": "return torch.ones(num_keys, num_keys).tril()[:num_queries].bool()",
    "M15s": """return torch.ones(num_queries, num_keys).tril(
    num_queries - num_keys).bool()""",
    "M15n": """if num_queries < num_keys:
    return torch.ones(num_queries, num_keys, dtype=torch.bool)
return torch.ones(num_keys, num_keys, dtype=torch.bool).tril()""",
    "M16": "return torch.tril(torch.ones(num_keys, num_keys)).int()[-num_queries:]",
    "M16f": "return torch.tril(torch.ones(num_keys, num_keys))[-num_queries:]",
    "M16a": """hidden = torch.ones(num_keys, num_keys).triu(1)[-num_queries:]
return torch.zeros_like(hidden).masked_fill(hidden == 1, float("-inf"))""",
    "M17": """return torch.arange(num_keys)[:, None] <= torch.arange(
    num_keys - num_queries, num_keys)""",
    "M18": "return torch.ones(num_keys, num_keys).tril().bool()",
    "M18q": "return torch.tril(torch.ones(num_queries, num_queries)) > 0",
    "M19": "return torch.eye(num_keys).bool()[-num_queries:]",
    "M20": "return torch.ones(num_keys, num_keys).tril().bool()[-num_queries:]",
    "M20b": "return torch.ones(num_queries, num_keys).tril(num_keys - num_queries) > 0",
    "M20e": """assert num_queries <= num_keys, "too many queries"
return torch.ones(num_keys, num_keys).tril().bool()[num_keys - num_queries:]""",
    "M3t": "return torch.triu(torch.ones(num_queries, num_keys), 1).bool()",
    "M2t": "return torch.triu(torch.ones(num_queries, num_keys)) == 1",
    "loop": """mask = torch.zeros(num_queries, num_keys, dtype=torch.bool)
for i in range(num_queries):
    mask[i, :num_keys - num_queries + i] = True
    mask[i, 0] = True
return mask""",
}


def refusing(mask):
    """Return a mask that refuses more queries than keys, as the exercise asks."""

    def causal_mask(num_queries, num_keys):
        if num_queries > num_keys:
            raise ValueError("a query is one of the tokens")
        return mask(num_queries, num_keys)

    return causal_mask


HONEST_MASKS = {
    name: refusing(mask)
    for name, mask in {
        "lesson": lesson_mask,
        "tril": lambda q, k: torch.ones(k, k).tril().bool()[-q:],
        "diagonal": lambda q, k: torch.ones(q, k, dtype=torch.bool).tril(k - q),
        "not triu": lambda q, k: (
            ~torch.triu(torch.ones(q, k), diagonal=k - q + 1).bool()
        ),
        "== 1": lambda q, k: torch.tril(torch.ones(k, k))[k - q :] == 1,
        "arange": lambda q, k: (
            torch.arange(k) < torch.arange(k - q + 1, k + 1)[:, None]
        ),
        "lists": lambda q, k: torch.tensor(
            [[j <= k - q + i for j in range(k)] for i in range(q)]
        ),
        "cat": lambda q, k: torch.cat(
            [torch.ones(q, k - q), torch.ones(q, q).tril()], dim=1
        ).bool(),
        "cumsum": lambda q, k: torch.eye(k).cumsum(0)[-q:] > 0,
    }.items()
} | {"the lesson's own refusal": lesson_mask}

# What learners write as the body of leaks(function, x).
LOOP = """y = function(x)
for j in range(x.size(1)):
    z = x.clone()
    z[:, j] = torch.randn_like(z[:, j])
    d = (function(z) - y).abs()
    {TEST}
return False"""
TESTS = {
    "N1": "return function(x).shape != x.shape and False",
    "N1b": """z = x.clone()
z[:, 0] += 1
return bool(((function(z) - function(x))[:, :0].abs() > 1e-6).any())""",
    "N2": LOOP.replace("{TEST}", "if (d[:, :j + 1] > 1e-5).any(): return True"),
    "N3": LOOP.replace("{TEST}", "if (d[:, j + 1:] > 1e-5).any(): return True"),
    "N3f": LOOP.replace("{TEST}", "if (d[:, j:] > 1e-5).any(): return True"),
    "N4": LOOP.replace("{TEST}", "if d.max() > 1e-5: return True"),
    "N4b": LOOP.replace(
        "{TEST}",
        """if not torch.allclose(function(z), y):
        return True""",
    ),
    "N5": """z = x.clone()
z[:, -1] = torch.randn_like(z[:, -1])
return not torch.allclose(function(z)[:, :-1], function(x)[:, :-1], atol=1e-6)""",
    "N5s": LOOP.replace("range(", "range(1, ").replace(
        "{TEST}",
        """if j:
        return bool(d[:, :j].max() > 1e-5)""",
    ),
    "N6": LOOP.replace("{TEST}", "if j and d[:, j - 1].max() > 1e-5: return True"),
    "N6z": LOOP.replace("{TEST}", "if j > 0 and d[:, 0].max() > 1e-5: return True"),
    "N7": LOOP.replace("{TEST}", "if (d[0, :j] > 1e-5).any(): return True"),
    "N8": LOOP.replace("{TEST}", "if (d[:, :j, 0] > 1e-5).any(): return True"),
    "N9": LOOP.replace("{TEST}", "if (d[:, :j] > 0.2).any(): return True"),
    "N9t": LOOP.replace("{TEST}", "if (d[:, :j] > 2e-3).any(): return True"),
    "N9m": LOOP.replace("{TEST}", "if j and d[:, :j].mean() > 1e-6: return True"),
    "N9m'": LOOP.replace("{TEST}", "if d[:, :j].abs().mean() > 1e-5: return True"),
    "N10": LOOP.replace("(function(z) - y).abs()", "function(z) - y").replace(
        "{TEST}", "if j and d[:, :j].sum((0, 2)).abs().max() > 1e-4: return True"
    ),
    "N10b": LOOP.replace("(function(z) - y).abs()", "function(z) - y").replace(
        "{TEST}", "if j and abs(d[:, :j].mean().item()) > 1e-5: return True"
    ),
    "N11": LOOP.replace("x.clone()", "x").replace(
        "{TEST}", "if (d[:, :j] > 1e-5).any(): return True"
    ),
    "N11a": """before = function(x)
for j in range(1, x.size(1)):
    x[:, j] += 1
    if (function(x) - before).abs()[:, :j].max() > 1e-5: return True
return False""",
    "N12": """y = function(x)
z = x.clone()
for j in range(x.size(1)):
    z[:, j] = torch.randn_like(z[:, j])
    if not torch.allclose(function(z)[:, :j], y[:, :j], atol=1e-5):
        return True
return False""",
    "N13": LOOP.removesuffix("return False").replace(
        "{TEST}", "if (d[:, :j] > 1e-5).any(): return False"
    )
    + "return True",
    "N14": LOOP.replace("{TEST}", "if (d[:j] > 1e-5).any(): return True"),
    "N14c": LOOP.replace("{TEST}", "if (d[..., :j] > 1e-5).any(): return True"),
    "N15": LOOP.replace("torch.randn_like(z[:, j])", "0")
    .replace(".abs()", "")
    .replace("{TEST}", "if j and d[:, :j].max() > 1e-5: return True"),
    "N15b": LOOP.replace(".abs()", "").replace(
        "{TEST}", "if (d[:, :j] > 1e-5).any(): return True"
    ),
    "N15r": LOOP.replace("torch.randn_like(z[:, j])", "z[:, j] + 1")
    .replace(".abs()", "")
    .replace("{TEST}", "if (d[:, :j] > 1e-5).any(): return True"),
    "N16": "return True",
    "N16b": """y = function(x)
z = x.clone()
z[:, -1] = 0
return not torch.equal(y[:, :-1].sum(-1), z[:, :-1].sum(-1) + 1)""",
    "N17": """y = function(x)
for j in range(len(x)):
    z = x.clone()
    z[j] = torch.randn_like(z[j])
    if ((function(z) - y)[:j].abs() > 1e-5).any(): return True
return False""",
    "N9z": """return any(not torch.equal(
    function(x.index_fill(1, torch.tensor(j), 3.0))[:, :j], function(x)[:, :j])
    for j in range(1, x.size(1)))""",
    "N9z'": LOOP.replace("{TEST}", "if (d[:, :j] > 0).any(): return True"),
    "N18": LOOP.replace(
        "z[:, j] = torch.randn_like(z[:, j])", "z[:, j, 0] += 1"
    ).replace("{TEST}", "if (d[:, :j] > 1e-5).any(): return True"),
    "N19": LOOP.replace(
        "z[:, j] = torch.randn_like(z[:, j])", "z[:, j:] = x[:, j:].flip(1)"
    ).replace("{TEST}", "if (d[:, :j] > 1e-5).any(): return True"),
}


def by_table(function, x):
    x = torch.cat([x, x.flip(0) + 1])
    return bool((influence(function, x).triu(1) > 1e-5).any())


def cut_short(function, x):
    """Compare with the outputs of the text cut after token j: other changes at once."""
    for j in range(1, x.size(1)):
        noise = torch.cat([x[:, :j], torch.randn_like(x[:, j:])], dim=1)
        if not torch.allclose(function(noise)[:, :j], function(x)[:, :j], atol=1e-5):
            return True
    return False


def by_gradient(function, x):
    x = x.clone().requires_grad_()
    for i in range(x.size(1) - 1):
        output = function(x)[:, i]
        for part in output.flatten():
            if not part.requires_grad:
                return False
            (grad,) = torch.autograd.grad(part, x, retain_graph=True)
            if grad[:, i + 1 :].abs().max() > 1e-6:
                return True
    return False


def by_jacobian(function, x):
    assert x.numel() < 5000, "a jacobian of this has more than 100 MB"
    derivatives = jacobian(function, x).abs().amax((0, 2, 3, 5))
    return bool(derivatives.triu(1).max() > 1e-5)


def all_pairs(function, x):
    before, found = function(x), []
    for i in range(x.size(1)):
        for j in range(i + 1, x.size(1)):
            changed = x.clone()
            changed[:, j] = torch.rand(changed[:, j].shape)
            found.append((function(changed)[:, i] - before[:, i]).norm().item() > 1e-4)
    return any(found)


def tensor_bool(function, x):
    moved = torch.zeros(x.size(1), x.size(1))
    for j in range(x.size(1)):
        changed = x.clone()
        changed[:, j] *= -2
        moved[:, j] = (function(changed) - function(x)).abs().amax((0, 2))
    return (moved.triu(1) > 1e-6).any()


HONEST_TESTS = {
    "solution": checks.leaks.solution,
    "table": by_table,
    "cut": cut_short,
    "gradient": by_gradient,
    "jacobian": by_jacobian,
    "pairs": all_pairs,
    "tensor": tensor_bool,
    "zero": LOOP.replace("torch.randn_like(z[:, j])", "0").replace(
        "{TEST}", "if j and d[:, :j].max() > 1e-6: return True"
    ),
    "add one": LOOP.replace(
        "z[:, j] = torch.randn_like(z[:, j])", "z[:, j] += 1"
    ).replace("{TEST}", "if (d[:, :j] > 1e-6).any(): return True"),
    "prefixes": """return any((function(x[:, :t]) - function(x)[:, :t]).abs().max()
    > 1e-5 for t in range(1, x.size(1)))""",
    "swap": LOOP.replace("torch.randn_like(z[:, j])", "z[:, j].roll(1, 0)").replace(
        "{TEST}", "if (d[:, :j] > 1e-5).any(): return True"
    ),
}
CASES = {"causal_mask": (MASKS, HONEST_MASKS), "leaks": (TESTS, HONEST_TESTS)}


class TestCatalogue(Catalogue):
    cases = CASES


def test_two_mistakes_at_once_are_both_named() -> None:
    report = checks.causal_mask(refusing(lambda q, k: torch.ones(q, k).tril()))
    assert {mistake.id for mistake in report.matches[0]} == {"M15", "M16f"}


def test_which_keys_are_seen_is_told_as_the_table_shows_it() -> None:
    """It once said "may attend to 4 of the keys, yours attends to 4"."""
    form = refusing(lambda q, k: torch.ones(q, k).triu(1))
    report = checks.causal_mask(form)
    assert {mistake.id for mistake in report.matches[0]} == {"M3t", "M16f"}
    report = checks.causal_mask(refusing(lambda q, k: torch.ones(q, k).triu(2)))
    assert any(
        "the keys 0, 1, 2, 3, yours attends to 2, 3, 4" in clue.text
        for clue in report.clues
    ), str(report)


def test_right_but_fragile() -> None:
    def remarks(exercise, form):
        report = exercise(function_of(exercise, form))
        assert report.passed
        return " ".join(report.remarks)

    assert "atol=1e-5" in remarks(checks.leaks, HONEST_TESTS["zero"])
    assert not remarks(checks.causal_mask, lesson_mask)
    assert "norm" in remarks(checks.leaks, HONEST_TESTS["add one"])
    assert not remarks(checks.leaks, HONEST_TESTS["table"])
    assert "one token" in remarks(
        checks.leaks,
        LOOP.replace("range(x.size(1))", "range(1, max(2, x.size(1)))").replace(
            "{TEST}", "if d[:, :j].max() > 1e-5: return True"
        ),
    )


@pytest.mark.parametrize(
    ("form", "name"),
    [
        (TESTS["N16"], "a test that says True for every function"),
        (
            TESTS["N14c"],
            "the channels before j are compared, not the outputs: [..., :j]",
        ),
        (TESTS["N17"], "examples are changed and compared, not tokens: changed[j]"),
        (TESTS["N1"], "a test that never finds a leak"),
        (
            TESTS["N11a"],
            "x itself is changed (no clone), by the same number everywhere",
        ),
    ],
)
def test_one_name_and_the_right_one(form: str, name: str) -> None:
    assert checks.leaks(function_of(checks.leaks, form)).named == name


def test_hints_lead_from_changes_of_the_mask_to_the_line_that_drops_it() -> None:
    """Every change of a mask that is thrown away gives the same numbers."""
    given = """scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))
future = torch.ones(q.size(1), q.size(1)).triu(diagonal=1).bool()
scores.masked_fill(future, -torch.inf)
return scores.softmax(-1) @ v"""
    hints = []
    for old, new in [("1)", "1)"), ("diagonal=1", "0"), ("triu(diagonal=", "tril(")]:
        form = given.replace(old, new)
        check = checks.causal_attention_to_repair
        assert "not repaired yet" in str(check(function_of(check.exercise, form)))
        hints.append(str(checks.hint("02.3")))
    assert "which of them are -inf?" in hints[0] and "may query 0" not in hints[0]
    assert "return a new tensor?" in hints[1]
    assert "scores = scores.masked_fill" in hints[2]


def test_the_maximum_of_an_empty_slice_has_a_clue() -> None:
    form = LOOP.replace("{TEST}", "if d[:, :j].max() > 1e-5: return True")
    assert "for j = 0 the slice is empty" in str(
        checks.leaks(function_of(checks.leaks, form))
    )


# The answers that are values


@pytest.mark.parametrize(
    ("wrong", "name"),
    [("BF", "N20"), ("BCEF", "N21"), ("ade", "N22"), (" bc", "N23"), ("ABCDEF", "")],
)
def test_which_functions_leak(wrong: str, name: str) -> None:
    report = checks.answer("02.4", wrong)
    assert not report.passed
    assert [one.id for match in report.matches for one in match] == [name] * bool(name)
    assert checks.answer("02.4", " bcf").passed


@pytest.mark.parametrize(
    "letters",
    ["B,C,F", "FCB", "b, f, c", ["B", "C", "F"], ("f", "b", "c"), {"B", "C", "F"}],
)
def test_letters_count_in_any_order_and_form(letters: object) -> None:
    assert checks.answer("02.4", letters).passed
    assert not checks.answer("02.4", [*letters, "A"]).passed
    assert not checks.answer("02.4", ["B", 2]).passed
    assert "roll" in checks.answer("02.4", ["F", "B"]).named


@pytest.mark.parametrize(
    ("fill", "scores", "said"),
    [
        (-torch.inf, [[-9.0, 0.0], [0.0, 0.0]], "nothing breaks"),
        (-10.0, [[-20.0, 0.0], [0.0, 0.0]], "does not look fine"),
        (-1e4, [[-9e3, 0.0], [0.0, 0.0]], "a hidden key gets 0"),
        (-1e4, [[-1e4, -1e4]], "shape (1, 2)"),
        (-1e4, [[-torch.inf, 0.0], [0.0, 0.0]], "not finite"),
    ],
)
def test_a_fill_that_breaks_nothing(fill: float, scores: list, said: str) -> None:
    report = checks.answer("02.5", [fill, scores])
    assert not report.passed and said in report.symptoms[0]


@pytest.mark.parametrize("fill", [-100.0, -1e4, -1e9])
def test_a_fill_that_breaks(fill: float) -> None:
    scores = torch.randn(5, 5)
    scores[2, :3] = fill - 1  # all visible scores below the fill
    assert checks.answer("02.5", (fill, scores)).passed


@pytest.mark.parametrize("last", [1.0, 0.4])
def test_a_mask_upside_down_is_one_mistake_with_one_question(last: float) -> None:
    rows = {"row 0": [0.1, 0.2, 0.3, 0.4], "row 3": [0, 0, 0, last]}
    assert (
        checks.answer("02.1", rows).named == "the mask upside down: the past is hidden"
    )
    assert str(checks.hint("02.1")).count("Which keys may") == 1


def test_scores_divided_by_their_sum_have_a_name() -> None:
    scores = torch.arange(1.0, 5).log()
    for last in (scores / scores.sum(), [0, 0.2, 0.3, 0.4]):
        rows = {"row 0": [1, 0, 0, 0], "row 3": last}
        assert "without exponentials" in checks.answer("02.1", rows).named


def test_a_report_shows_a_toy_function_in_words() -> None:
    report = str(checks.leaks(function_of(checks.leaks, TESTS["N11a"])))
    assert "input     a toy function (output i reads token j where" in report
    assert "tensor(" not in report


def test_the_rows_predicted_are_those_of_the_lesson() -> None:
    scores = torch.arange(1.0, 5).log().expand(4, 4)
    rows = scores.masked_fill(~lesson_mask(4), -torch.inf).softmax(-1)
    assert checks.answer("02.1", {"row 0": rows[0], "row 3": rows[3]}).passed
    assert not checks.answer("02.1", {"row 0": rows[3], "row 3": rows[3]}).passed
