"""The check of the induction score, and the measured answers of lessons 03 and 12."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from catalogue import Catalogue, function_of

from gpt2_lesson import checks
from gpt2_lesson.corpora import story_model
from gpt2_lesson.corpora.stories import stories
from gpt2_lesson.looking_inside import ablate_heads, logit_lens
from gpt2_lesson.looking_inside import induction_score as lesson_score
from gpt2_lesson.training import next_token_loss

BEGIN = "T = maps.size(-1)\nassert 0 < period < T\nt = torch.arange(period, T)\n"
WRONG = {
    "I0": BEGIN.replace("assert 0 < period < T\n", "")
    + "return maps[..., t, t - period + 1].mean(-1)",
    "I1": BEGIN + "return maps[..., t, t - period].mean(-1)",
    "I1b": BEGIN + "return maps.diagonal(-period, dim1=-2, dim2=-1).mean(-1)",
    "I2": BEGIN + "t = t[t - period + 2 < T]\n"
    "return maps[..., t, t - period + 2].mean(-1)",
    "I3": BEGIN + "return maps.diagonal(1 - period, dim1=-2, dim2=-1).mean(-1)",
    "I4": BEGIN + "return maps[..., t[1:], t[1:] - period + 1].mean(-1)",
    "I5": BEGIN + "return maps[..., t - period + 1, t].mean(-1)",
    "I6": BEGIN + "return sum(maps[..., i, i - period + 1] for i in range(period, T))",
    "I7": BEGIN + "return maps[..., t, t - period + 1].sum(-1) / T",
    "I10": BEGIN.replace("arange(period, T)", "arange(T)")
    + "return maps[..., t, t - period + 1].mean(-1)",
    "I8": BEGIN + "return maps[..., t, t - period + 1].max(-1).values",
    "I9": BEGIN + "return maps[..., t, t - period + 1].mean()",
    "I0s": BEGIN.replace("0 < ", "")
    + "return maps[..., period:, 1:].diagonal(0, -2, -1).mean(-1)",
    "I0b": "return maps[..., period:, 1:].diagonal(0, -2, -1).mean(-1)",
    "I0r": BEGIN.replace("assert 0 <", "if not 0 <").replace("< T\n", "< T: return 0\n")
    + "return maps[..., t, t - period + 1].mean(-1)",
    "I11": BEGIN + "return maps[..., t, t - 1].mean(-1)",
    "I12": BEGIN + "return maps[..., t, t].mean(-1)",
    "I2b": BEGIN + "return maps[..., t, t - period - 1].mean(-1)",
    "I13": BEGIN + "return maps[..., -1, T - period]",
    "I14": BEGIN + "return (maps[..., t, :].argmax(-1) == t - period + 1)"
    ".float().mean(-1)",
    "I15": BEGIN + "return maps[..., t, :][..., t - period + 1].mean((-2, -1))",
    "I16": BEGIN + "return maps[..., t, t - period + 1].median(-1).values",
}
HONEST = {
    "lesson": lesson_score,
    "index": BEGIN + "return maps[..., t, t - period + 1].mean(-1)",
    "diagonal": BEGIN + "return maps[..., period:, 1:].diagonal(0, -2, -1).mean(-1)",
    "loop": BEGIN + "rows = range(period, T)\n"
    "return sum(maps[..., i, i - period + 1] for i in rows) / len(rows)",
    "stack": BEGIN + "return torch.stack([maps[..., i, i + 1 - period] for i in "
    "t.tolist()], -1).mean(-1)",
    "gather": BEGIN + "rows = maps[..., period:, :]\n"
    "keys = (t - period + 1)[:, None].expand(*rows.shape[:-1], 1)\n"
    "return rows.gather(-1, keys).squeeze(-1).mean(-1)",
    "one-hot": BEGIN + "want = F.one_hot(t - period + 1, T).float()\n"
    "return (maps[..., period:, :] * want).sum(-1).mean(-1)",
    "einsum": BEGIN + "want = F.one_hot(t - period + 1, T).float()\n"
    "return torch.einsum('...tk,tk->...', maps[..., period:, :], want) / "
    "len(t)",
    "trace": BEGIN + "part = maps[..., period:, 1:T - period + 1]\n"
    "return torch.linalg.diagonal(part).mean(dim=-1)",
}


class TestCatalogue(Catalogue):
    cases = {"induction_score": (WRONG, HONEST)}


def test_the_slip_that_the_lesson_shows_is_two() -> None:
    report = checks.induction_score(
        lambda maps, period: maps.diagonal(-period, dim1=-2, dim2=-1).mean(-1)
    )
    assert {mistake.id for mistake in report.matches[0]} == {"I0b", "I1"}


def answers(name: str):
    return partial(checks.answer, name)


def test_the_answers_on_heads_are_what_the_model_gives() -> None:
    model = story_model()
    texts = ["\n" + story for story in stories(100, seed=12).splitlines()]
    ids = torch.tensor([list(text.encode())[:100] for text in texts[:10]])

    def nats(heads: list[tuple[int, int]]) -> float:
        with ablate_heads(model, heads), torch.no_grad():
            return next_token_loss(model(ids), ids).item()

    whole = nats([])
    single = [nats([(layer, head)]) - whole for layer in range(4) for head in range(4)]
    best = max(range(16), key=single.__getitem__)
    first = [(0, head) for head in range(4)]
    measured = {
        "most needed": list(divmod(best, 4)),
        "its cost": single[best],
        "layer 0, one by one": sum(single[:4]),
        "layer 0, all at once": nats(first) - whole,
    }
    assert answers("12.3")(measured).passed
    total = {
        name: value + whole * (4 if "one by" in name else 1)
        for name, value in list(measured.items())[1:]
    }
    report = answers("12.3")({"most needed": [0, 1], **total})
    assert report.named == "losses, not what they rose by"
    cost, singly, together = list(measured.values())[1:]
    wrong = {
        "costs with the wrong sign": (-cost, -singly, -together),
        "four losses added up, and the whole model's loss subtracted once": (
            cost,
            singly + 3 * whole,
            together,
        ),
        "losses added up one by one, not costs": (cost, singly + 4 * whole, together),
        "one by one and all at once exchanged": (cost, together, singly),
    }
    for name, values in wrong.items():
        given = dict(zip(measured, ([0, 1], *values), strict=True))
        assert answers("12.3")(given).named == name


def test_the_answers_on_the_lens_are_what_the_model_gives() -> None:
    model, text = story_model(), next(iter(stories(100, seed=12).splitlines()))
    text = "\n" + text[: text.index("Toby") + 2]
    lens = logit_lens(model, torch.tensor([list(text.encode())]))[:, 0]
    for row, name in ((-1, ""), (-2, "the position before: one row too early")):
        odds = lens[:, row].softmax(-1)
        said = "".join(map(chr, odds.argmax(-1).tolist()))
        report = answers("12.4")(
            {"says": said, "probability of b": odds[:, ord("b")].tolist()}
        )
        assert report.named == name and report.passed == (not name)
    odds, said = lens[:, -1].softmax(-1), "omxxb"
    wrong = {
        "one of: the residual stream read without the final norm; or a softmax "
        "over the depths, not over the letters": lens[:, -1].softmax(0)[:, ord("b")],
        "the probability of the most probable letter, whatever it is": odds.amax(-1),
        "logarithms of the probabilities": odds[:, ord("b")].log(),
        "the embeddings left out": odds[1:, ord("b")],
    }
    for name, values in wrong.items():
        given = {"says": said[5 - len(values) :], "probability of b": values.tolist()}
        assert answers("12.4")(given).named == name


def test_predictions_can_be_worked_out() -> None:
    even = torch.ones(5, 5).tril() / torch.arange(1, 6)[:, None]
    heads = torch.stack(
        [
            even,
            torch.eye(5).roll(-1, 1),
            F.one_hot((torch.arange(5) - 2).clamp(min=0), 5),
        ]
    )
    names = ("even", "previous token", "same token")
    predicted = dict(zip(names, lesson_score(heads, 2).tolist(), strict=True))
    assert answers("12.1")(predicted).passed, predicted
    c, t = 512, 100
    assert answers("03.1")(
        {
            "parameters": [4 * c * c + 4 * c] * 2,
            "products for q @ k.T": [h * t * t * (c // h) for h in (1, 8)],
            "attention weights": [h * t * t for h in (1, 8)],
        }
    ).passed


def test_what_is_read_out_is_true() -> None:
    """A share of hits, and a `return None`, read the right cells: no cells are told."""
    code = (
        "rows = maps[..., period:, :]\n"
        "return 2 * (rows.argmax(-1) == t - period + 1).float().mean(-1)"
    )
    hits = str(
        checks.induction_score(function_of(checks.induction_score, BEGIN + code))
    )
    silent = str(
        checks.induction_score(
            lambda maps, period: (
                lesson_score(maps, period) if period < maps.size(-1) else None
            )
        )
    )
    assert "halving all weights" in hits and "no error, but None" in silent
    assert "reads the cells" not in hits + silent


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("return maps[t, t - period + 1].mean()", "maps[..., queries, keys]"),
        ("return maps[..., t, t - period + 1].mean(-1).item()", "no .item()"),
        ("assert 1 < period", "here 1 <= period < T holds"),
    ],
)
def test_a_crash_is_told_what_to_look_at(code: str, said: str) -> None:
    function = function_of(checks.induction_score, BEGIN + code)
    assert said in str(checks.induction_score(function))
