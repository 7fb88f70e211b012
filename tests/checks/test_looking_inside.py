"""The check of the induction score, and the measured answers of lessons 03 and 12."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from catalogue import EXERCISES, Catalogue, function_of
from torch.testing import assert_close

from gpt2_lesson import checks
from gpt2_lesson.corpora import story_model
from gpt2_lesson.corpora.stories import stories
from gpt2_lesson.looking_inside import (
    ablate_heads,
    components,
    logit_attribution,
    logit_lens,
    patch_activations,
)
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

SIZE = (
    "D = x.size(-1) // num_heads\n"
    "out = x.clone()\n"
    "own = slice(head * D, head * D + D)\n"
)
WRONG_PATCH = {
    "Q1": SIZE + "out[..., own] = values[..., own]\nreturn out",
    "Q2": SIZE + "out[:, positions] = values[:, positions]\nreturn out",
    "Q3": SIZE + "for t in positions:\n    out[:, t, head::num_heads] = "
    "values[:, t, head::num_heads]\nreturn out",
    "Q4": SIZE.replace("x.size(-1) // num_heads", "num_heads")
    + "out[:, positions, own] = values[:, positions, own]\nreturn out",
    "Q6": "D = x.size(-1) // num_heads\nout = values.clone()\nfor t in positions:\n"
    "    out[:, t, head * D:head * D + D] = x[:, t, head * D:head * D + D]\nreturn out",
    "Q7": SIZE.replace(".clone()", "")
    + "out[:, positions, own] = values[:, positions, own]\nreturn out",
    "Q8": SIZE + "heads = out.unflatten(-1, (num_heads, D))\n"
    "heads[:, positions][:, :, head] = values.unflatten(-1, (num_heads, D))"
    "[:, positions][:, :, head]\nreturn heads.flatten(-2)",
    "Q9": SIZE + "for t in positions:\n    out[:, t, own] = 0\nreturn out",
    "Q10": SIZE + "for t in positions:\n    out[:, t, own] += values[:, t, own]\n"
    "return out",
    "Q12": SIZE + "for t in positions:\n    out[0, t, own] = values[0, t, own]\n"
    "return out",
    "Q13": SIZE + "for t in positions:\n    out[:, t, own] = values[:, t, own]\n"
    "    return out\nreturn out",
    "Q15": SIZE + "return values[:, positions, own]",
}
HONEST_PATCH = {
    "loop": SIZE + "for t in positions:\n    out[:, t, own] = values[:, t, own]\n"
    "return out",
    "mask": "B, T, C = x.shape\nD = C // num_heads\n"
    "mask = torch.zeros(T, num_heads, D, dtype=torch.bool)\n"
    "mask[positions, head] = True\n"
    "return torch.where(mask.view(T, C), values, x)",
    "heads": SIZE + "heads = out.unflatten(-1, (num_heads, D))\n"
    "heads[:, positions, head] = values.unflatten(-1, (num_heads, D))"
    "[:, positions, head]\nreturn heads.flatten(-2)",
    "lesson": SIZE + "out[:, positions, own] = values[:, positions, own]\nreturn out",
    "index_copy": SIZE + "t = torch.tensor(positions, dtype=torch.long)\n"
    "out[..., own] = x[..., own].index_copy(1, t, values[:, t][..., own])\n"
    "return out",
    "views": SIZE + "mine, theirs = out[..., own], values[..., own]\n"
    "mine[:, positions] = theirs[:, positions]\nreturn out",
    "arithmetic": "B, T, C = x.shape\nchosen = torch.zeros(T, C)\n"
    "for t in positions:\n"
    "    chosen[t, head * (C // num_heads):(head + 1) * (C // num_heads)] = 1\n"
    "return x * (1 - chosen) + values * chosen",
    "texts": SIZE + "for text, other in zip(out, values):\n"
    "    text[positions, own] = other[positions, own]\nreturn out",
    "concatenated": "parts = list(x.chunk(num_heads, -1))\n"
    "parts[head] = parts[head].clone()\n"
    "parts[head][:, positions] = values.chunk(num_heads, -1)[head][:, positions]\n"
    "return torch.cat(parts, -1)",
}
SUM = (
    "total = parts.sum(0)\n"
    "total = total - total.mean(-1, keepdim=True)\n"
    "std = torch.sqrt((total**2).mean(-1, keepdim=True) + eps)\n"
    "each = parts - parts.mean(-1, keepdim=True)\n"
)
WRONG_TERMS = {
    "D1": "normed = F.layer_norm(parts, parts.shape[-1:], weight, eps=eps)\n"
    "return ((tok_emb[right] - tok_emb[wrong]) * normed).sum(-1)",
    "D2": SUM + "return (each * weight * (tok_emb[right] - tok_emb[wrong])).sum(-1)",
    "D3": SUM + "return (parts / std * weight * (tok_emb[right] - tok_emb[wrong]))"
    ".sum(-1)",
    "D4": SUM + "return (each / std * (tok_emb[right] - tok_emb[wrong])).sum(-1)",
    "D5": SUM + "return (each / std * weight * tok_emb[right]).sum(-1)",
    "D6": SUM + "return torch.einsum('pbc,bc->pb', each / std * weight, "
    "tok_emb[wrong] - tok_emb[right])",
    "D7": SUM + "std = (parts.sum(0).var(-1, keepdim=True) + eps).sqrt()\n"
    "return (each / std * weight * (tok_emb[right] - tok_emb[wrong])).sum(-1)",
    "D8": SUM + "std = parts.sum(0).std(-1, correction=0, keepdim=True)\n"
    "return (each / std * weight * (tok_emb[right] - tok_emb[wrong])).sum(-1)",
    "D10a": "x = F.layer_norm(parts.sum(0), weight.shape, weight, eps=eps)\n"
    "return (x * (tok_emb[right] - tok_emb[wrong])).sum(-1)",
    "D13": SUM + "return torch.einsum('pbc,bc->bp', each / std * weight, "
    "tok_emb[right] - tok_emb[wrong])",
}
HONEST_TERMS = {
    "einsum": SUM + "return torch.einsum('pbc,bc->pb', each / std * weight, "
    "tok_emb[right] - tok_emb[wrong])",
    "two logits": SUM + "logits = each / std * weight @ tok_emb.T\n"
    "r = right.expand(len(parts), -1)[..., None]\n"
    "w = wrong.expand(len(parts), -1)[..., None]\n"
    "return (logits.gather(-1, r) - logits.gather(-1, w))[..., 0]",
    "lesson": SUM + "towards = tok_emb[right] - tok_emb[wrong]\n"
    "return (each * (weight * towards / std)).sum(-1)",
    "rsqrt": "d = tok_emb[right] - tok_emb[wrong]\nwhole = parts.sum(0)\n"
    "scale = (whole.var(-1, correction=0, keepdim=True) + eps).rsqrt()\n"
    "out = [((one - one.mean(-1, keepdim=True)) * scale * weight * d).sum(-1) "
    "for one in parts]\nreturn torch.stack(out)",
    "centred direction": SUM + "d = weight * (tok_emb[right] - tok_emb[wrong])\n"
    "d = d - d.mean(-1, keepdim=True)\nreturn (parts / std * d).sum(-1)",
    "matmul": SUM
    + "d = (weight * (tok_emb[right] - tok_emb[wrong]) / std)[..., None]\n"
    "return (each[..., None, :] @ d)[..., 0, 0]",
    "logits": SUM + "logits = (each / std * weight) @ tok_emb.T\n"
    "b = torch.arange(len(right))\n"
    "return logits[:, b, right] - logits[:, b, wrong]",
    "texts": SUM + "columns = [(each[:, b] / std[b] * weight) @ (tok_emb[right[b]] "
    "- tok_emb[wrong[b]]) for b in range(len(right))]\n"
    "return torch.stack(columns, 1)",
    "loop": SUM + "d = tok_emb[right] - tok_emb[wrong]\n"
    "return torch.stack([(one / std * weight * d).sum(-1) for one in each])",
}


class TestCatalogue(Catalogue):
    cases = {
        "induction_score": (WRONG, HONEST),
        "patch_head": (WRONG_PATCH, HONEST_PATCH),
        "attribution": (WRONG_TERMS, HONEST_TERMS),
    }


def test_the_exercises_on_parts_agree_with_the_lesson() -> None:
    model = story_model()
    ids = torch.tensor([list(b"\nOne foggy dusk Tess found a red lamp")])
    module = model.blocks[2].attn.out_proj
    values = torch.randn(1, ids.size(1), 128)
    with patch_activations(model, 2, values, [5, 9], head=3), torch.no_grad():
        expected = model(ids)

    def patch(_, given):
        return EXERCISES["patch_head"].reference(given[0], values, [5, 9], 3, 4)

    handle = module.register_forward_pre_hook(patch)
    with torch.no_grad():
        assert_close(model(ids), expected)
    handle.remove()
    right, wrong = torch.tensor([97]), torch.tensor([98])
    with torch.no_grad():
        added = logit_attribution(model, ids, right, wrong)
        found = EXERCISES["attribution"].reference(
            torch.stack(list(components(model, ids).values())),
            right,
            wrong,
            model.tok_emb.weight,
            model.ln_final.weight,
            model.ln_final.eps,
        )
    rest = [name for name in added if name != "biases"]  # the norm's bias is in these
    assert_close(
        torch.stack([added[name] for name in rest]),
        torch.stack([found[list(added).index(name)] for name in rest]),
    )


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
    assert report.named == "losses, not how much they rose"
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
    names = ("uniform", "previous token", "same token")
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
