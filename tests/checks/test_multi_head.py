"""The checks of heads and of the layer that uses them: catalogue entry H."""

import math

import pytest
import torch
import torch.nn.functional as F
from catalogue import Catalogue

from gpt2_lesson import checks, widgets
from gpt2_lesson.corpora import story_model
from gpt2_lesson.corpora.stories import stories
from gpt2_lesson.multi_head import MultiHeadAttention
from gpt2_lesson.multi_head import merge_heads as lesson_merge
from gpt2_lesson.multi_head import split_heads as lesson_split

# What learners write, as bodies; B, T, C, H, D are what they call the sizes.
SIZES = "B, T, C = x.shape\nH, D = num_heads, C // num_heads\n"
SPLIT = {
    name: SIZES + body
    for name, body in {
        "H1": "return x.reshape(B, H, T, D)",
        "H1b": "return x.view(B, num_heads, T, -1)",
        "H5": "return x.view(B, T, D, H).permute(0, 3, 1, 2)",
        "H5b": "return torch.stack([x[..., h::H] for h in range(H)], dim=1)"
        " if C % H == 0 else x.view(-1)[-1:].view(H, D)",
        "H9": "return x.view(B, T, -1, num_heads).transpose(1, 2)",
        "H1t": "return x.view(B, T, H, D)",
        "H1c": "return x.view(B, T, H, D).permute(0, 2, 3, 1)",
        "H1h": "return torch.stack(x.view(B, T, H, D).unbind(2))",
        "H8": "x = x.view(B, T, H, D)\n"
        "return torch.stack([x[:, :, 0] for h in range(H)], 1)",
        "H9w": "x.view(B, T, H, D)\nreturn x.unsqueeze(1).expand(B, H, T, C)",
        "H13": "return torch.stack([x[..., h * D:(h + 1) * D] for h in range(H)], 1)",
    }.items()
}
MERGE = {
    name: "B, H, T, D = heads.shape\n" + body
    for name, body in {
        "H2": "return heads.reshape(B, T, H * D)",
        "H2b": "return heads.contiguous().view(heads.size(0), T, -1)",
        "H5": "return heads.permute(0, 2, 3, 1).reshape(B, T, D * H)",
        "H5b": "return torch.stack(heads.unbind(1), dim=-1).flatten(2)",
        "H4": "return heads.mean(dim=1)",
        "H4s": "return sum(heads.unbind(1))",
        "H8": "for h in range(H):\n    return heads[:, h]",
        "H2t": "return torch.cat(list(heads.unbind(1)), dim=1)",
        "H2a": "return heads.transpose(1, 2).contiguous()",
        "H2c": "return heads.transpose(2, 3).flatten(1, 2)",
        "H2d": "return heads.transpose(-2, -1).reshape(B, T, -1)",
        "H5r": "out = []\nfor h in range(H):\n    out.insert(0, heads[:, h])\n"
        "return torch.cat(out, -1)",
    }.items()
}

LINES = {
    "project": "qkv = x @ w_qkv + b_qkv",
    "chunk": "q, k, v = qkv.chunk(3, dim=-1)",
    "split": "q, k, v = (p.reshape(B, T, H, D).transpose(1, 2) for p in (q, k, v))",
    "scores": "s = q @ k.transpose(-2, -1) / math.sqrt(D)",
    "mask": "s = s.masked_fill(torch.ones(T, T).triu(1).bool(), -torch.inf)",
    "weights": "w = s.softmax(dim=-1)",
    "mix": "y = w @ v",
    "merge": "y = y.transpose(1, 2).reshape(B, T, C)",
    "out": "return y @ w_out + b_out",
}


def layer(**lines: str) -> str:
    return SIZES + "\n".join({**LINES, **lines}.values())


LAYER = {
    "H0": layer(split="", scores="s = q @ k.mT / math.sqrt(C)", merge=""),
    "H0b": layer(
        project="q, k, v = (x @ w_qkv + b_qkv).chunk(3, dim=-1)",
        chunk="",
        split="y = F.scaled_dot_product_attention(q, k, v, is_causal=True)",
        scores="",
        mask="",
        weights="",
        mix="",
        merge="",
    ),
    "H0d": layer(split="", merge=""),
    "H1": layer(split="q, k, v = (p.reshape(B, H, T, D) for p in (q, k, v))"),
    "H1b": layer(
        split="q, k, v = [p.contiguous().view(B, H, T, D) for p in (q, k, v)]"
    ),
    "H1v": layer(
        split="q, k, v = (p.reshape(B, H, T, D) for p in (q, k, v))",
        merge="y = y.reshape(B, T, C)",
    ),
    "H2": layer(merge="y = y.reshape(B, T, C)"),
    "H2d": layer(merge="y = y.transpose(-2, -1).reshape(B, T, C)"),
    "H3": layer(scores="s = q @ k.mT / math.sqrt(C)"),
    "H3b": layer(scores="s = q @ k.mT * x.size(-1) ** -0.5"),
    "H3h": layer(scores="s = q @ k.mT / H ** 0.5"),
    "H4": layer(merge="y = y.mean(1).repeat(1, 1, H)"),
    "H4s": layer(merge="y = y.sum(1)"),
    "H5": layer(
        split="q, k, v = (p.reshape(B, T, D, H).permute(0, 3, 1, 2) for p in (q, k, v))"
    ),
    "H5b": layer(
        split="q, k, v = (p.reshape(B, T, D, H).permute(0, 3, 1, 2) "
        "for p in (q, k, v))",
        merge="y = y.permute(0, 2, 3, 1).reshape(B, T, C)",
    ),
    "H5m": layer(merge="y = y.permute(0, 2, 3, 1).reshape(B, T, C)"),
    "H6": layer(weights="w = s.softmax(dim=1)"),
    "H7": layer(out="return y"),
    "H7t": layer(out="return F.linear(y, w_out, b_out)"),
    "H8": layer(
        split="q, k, v = (torch.stack([p[..., :D] for h in range(H)], 1) "
        "for p in (q, k, v))"
    ),
    "H9": layer(
        split="q, k, v = (p.reshape(B, T, H, C).transpose(1, 2) for p in (q, k, v))"
    ),
    "H10": layer(chunk="q, v, k = qkv.chunk(3, dim=-1)"),
    "H10k": layer(chunk="k, q, v = qkv.split(C, dim=-1)"),
    "H10v": layer(chunk="v, k, q = qkv.chunk(3, dim=-1)"),
    "H11": layer(
        chunk="q, k, v = qkv.reshape(B, T, H, 3, D).unbind(3)",
        split="q, k, v = (p.transpose(1, 2) for p in (q, k, v))",
    ),
    "H11b": layer(
        chunk="q, k, v = qkv.view(B, T, H, 3 * D).chunk(3, dim=-1)",
        split="q, k, v = (p.transpose(1, 2) for p in (q, k, v))",
    ),
    "H11c": layer(chunk="q, k, v = qkv.view(B, T, C, 3).unbind(-1)"),
    "H12": layer(project="qkv = x @ w_qkv"),
    "H12o": layer(out="return y @ w_out"),
    "A1": layer(scores="s = q @ k.mT"),
    "A2": layer(scores="s = q @ k.mT / D"),
    "A8": layer(weights="w = F.softmax(s, dim=2)"),
    "A11": layer(weights="w = s"),
    "M1": layer(mask="s.masked_fill(torch.ones(T, T).triu(1).bool(), -torch.inf)"),
    "M1b": layer(mask=""),
    "M2": layer(mask="s = s.masked_fill(torch.ones(T, T).tril(-1) == 1, -torch.inf)"),
    "M4": layer(mask="s = s.masked_fill(torch.ones(T, T).triu() == 1, -torch.inf)"),
    "M5": layer(mask="s = s.masked_fill(torch.ones(T, T).triu(2) == 1, -torch.inf)"),
    "M6": layer(mask="s = s.masked_fill(torch.ones(T, T).tril() == 0, 0)"),
    "M11": layer(mask="", weights="w = s.softmax(-1).tril()"),
}


def by_head(x, w_qkv, b_qkv, w_out, b_out, num_heads):
    """One head after the other, each with its own columns of the weights."""
    size, rest = divmod(x.size(-1), num_heads)
    if rest:
        raise ValueError("uneven heads")
    width, out = x.size(-1), b_out.expand_as(x)
    for h in range(num_heads):
        own = torch.arange(h * size, (h + 1) * size)
        q, k, v = (
            x @ w_qkv[:, own + i * width] + b_qkv[own + i * width] for i in range(3)
        )
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        out = out + mixed @ w_out[own]
    return out


def by_module(x, w_qkv, b_qkv, w_out, b_out, num_heads):
    attn = MultiHeadAttention(x.size(-1), num_heads, dropout=0.0)
    named = {
        "qkv_proj.weight": w_qkv.T,
        "qkv_proj.bias": b_qkv,
        "out_proj.weight": w_out.T,
        "out_proj.bias": b_out,
    }
    return torch.func.functional_call(attn, named, (x,))


def by_torch(x, w_qkv, b_qkv, w_out, b_out, num_heads):
    x = x.transpose(0, 1)
    mask = torch.full((len(x), len(x)), -torch.inf).triu(1)
    return F.multi_head_attention_forward(
        x,
        x,
        x,
        x.size(-1),
        num_heads,
        w_qkv.T,
        b_qkv,
        None,
        None,
        False,
        0.0,
        w_out.T,
        b_out,
        attn_mask=mask,
        need_weights=False,
    )[0].transpose(0, 1)


HONEST = {
    "split_heads": {
        "lesson": lesson_split,
        "view": SIZES + "return x.view(B, T, H, D).transpose(1, 2)",
        "minus one": "return x.view(*x.shape[:2], num_heads, -1).permute(0, 2, 1, 3)",
        "unflatten": "return x.unflatten(-1, (num_heads, -1)).transpose(1, 2)",
        "reshape": SIZES + "return x.reshape(B, T, H, D).movedim(2, 1).contiguous()",
        "einsum": SIZES + "return torch.einsum('bthd->bhtd', x.reshape(B, T, H, D))",
        "loop": SIZES + "assert C % H == 0\nreturn torch.stack("
        "[x[..., h * D:(h + 1) * D] for h in range(H)], dim=1)",
        "chunk": SIZES + "if C % H:\n    raise ValueError(C)\n"
        "return torch.stack(x.chunk(H, dim=-1), 1)",
        "swapaxes": SIZES + "return torch.swapaxes(x.view(B, T, H, D), 1, 2)",
    },
    "merge_heads": {
        "lesson": lesson_merge,
        "reshape": "B, H, T, D = heads.shape\n"
        "return heads.transpose(1, 2).reshape(B, T, H * D)",
        "view": "B, H, T, D = heads.shape\n"
        "return heads.transpose(1, 2).contiguous().view(B, T, -1)",
        "permute": "return heads.permute(0, 2, 1, 3).flatten(-2)",
        "cat": "return torch.cat(list(heads.unbind(1)), dim=-1)",
        "loop": "return torch.cat([heads[:, h] for h in range(heads.size(1))], 2)",
        "movedim": "return heads.movedim(1, 2).flatten(start_dim=2)",
        "einsum": "return torch.einsum('bhtd->bthd', heads).flatten(2)",
        "hstack": "return torch.dstack(list(heads.unbind(1)))",
    },
    "multi_head_attention": {
        "by head": by_head,
        "module": by_module,
        "torch": by_torch,
        "plain": layer(),
        "fused": layer(
            scores="y = F.scaled_dot_product_attention(q, k, v, is_causal=True)",
            mask="",
            weights="",
            mix="",
        ),
        "q scaled": layer(scores="s = (q / D ** 0.5) @ k.mT"),
        "added mask": layer(mask="s = s + torch.full((T, T), -torch.inf).triu(1)"),
        "-1e9": layer(mask="s = s.masked_fill(torch.ones(T, T).tril() == 0, -1e9)"),
        "F.linear": layer(
            project="qkv = F.linear(x, w_qkv.T, b_qkv)",
            out="return F.linear(y, w_out.T, b_out)",
        ),
        "five axes": layer(
            chunk="q, k, v = qkv.view(B, T, 3, H, D).permute(2, 0, 3, 1, 4)", split=""
        ),
        "three weights": layer(
            project="",
            chunk="q, k, v = (x @ w + b for w, b in zip("
            "w_qkv.chunk(3, 1), b_qkv.chunk(3)))",
        ),
        "einsum": layer(
            split="q, k, v = (p.reshape(B, T, H, D) for p in (q, k, v))",
            scores="s = torch.einsum('bihd,bjhd->bhij', q, k) / math.sqrt(D)",
            mix="y = torch.einsum('bhij,bjhd->bihd', w, v)",
            merge="y = y.reshape(B, T, C)",
        ),
        "flat batch": layer(
            split="q, k, v = (p.reshape(B, T, H, D).transpose(1, 2).reshape("
            "B * H, T, D) for p in (q, k, v))",
            merge="y = y.view(B, H, T, D).transpose(1, 2).flatten(2)",
        ),
        "last wins": layer(
            weights="w = s.exp() / s.exp().sum(-1, keepdim=True)"
        ).replace("s.exp()", "(s - s.amax(-1, keepdim=True)).exp()"),
    },
}
WRONG = {"split_heads": SPLIT, "merge_heads": MERGE, "multi_head_attention": LAYER}
NAMES = list(WRONG)


class TestCatalogue(Catalogue):
    cases = {name: (WRONG[name], HONEST[name]) for name in NAMES}


def test_two_mistakes_at_once_are_both_named() -> None:
    body = layer(merge="y = y.reshape(B, T, C)", scores="s = q @ k.mT / math.sqrt(C)")
    report = checks.multi_head_attention(compiled_layer(body))
    assert {mistake.id for mistake in report.matches[0]} == {"H2", "H3"}


def test_no_heads_and_a_second_mistake_are_both_named() -> None:
    for scale, other in (("", "A1"), (" / math.sqrt(C)", "M1")):
        lines = {"split": "", "merge": "", "scores": f"s = q @ k.mT{scale}"}
        lines |= {"mask": ""} if scale else {}
        report = checks.multi_head_attention(compiled_layer(layer(**lines)))
        assert {mistake.id for mistake in report.matches[0]} == {"H0", other}


@pytest.mark.parametrize("chunk", ["chunk(3)", "split(C)"])
def test_a_projection_cut_along_the_texts_is_told_about_the_axis(chunk: str) -> None:
    report = checks.multi_head_attention(
        compiled_layer(layer(chunk=f"q, k, v = qkv.{chunk}"))
    )
    assert ".chunk(3, dim=-1)" in report.symptoms[-1]


def test_split_heads_shows_all_heads_with_their_numbers() -> None:
    report = checks.split_heads(
        lambda x, h: x.reshape(x.size(0), h, x.size(1), x.size(-1) // h)
    )
    assert report.table == [
        "the numbers 0 to 11, 2 heads:",
        "yours     head 0: 0 1 2, 3 4 5; head 1: 6 7 8, 9 10 11",
        "expected  head 0: 0 1 2, 6 7 8; head 1: 3 4 5, 9 10 11",
    ]


def test_what_is_shown_is_where_they_differ() -> None:
    report = checks.split_heads(
        lambda x, h: torch.stack(x[..., : x.size(-1) // h * h].chunk(h, -1), 1)
    )
    assert "silently dropped" in report.named
    assert report.table == [
        "10 channels do not split into 4 heads:",
        "yours     'no error, but a result (2, 4, 3, 2)'",
        "expected  'an error'",
    ]


def compiled_layer(body: str):
    from catalogue import function_of

    return function_of(checks.multi_head_attention, body)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            {"scores": "s = q @ k.mT * 0.3"},
            "effective scale is 0.3000 where D = 4, expected 0.5000",
        ),
        (
            {"merge": "y = y.roll(1, 1).transpose(1, 2).reshape(B, T, C)"},
            "come from the value channels 3, 4, 5, 0, 1, 2, expected 0, 1, 2, 3, 4, 5",
        ),
        (
            {
                "mask": "s[:, 0] = s[:, 0].masked_fill("
                "torch.ones(T, T).triu(1).bool(), -torch.inf)"
            },
            "the result of head 1 contains",
        ),
        (
            {"weights": "w = s.softmax(-1).mean(1, keepdim=True)"},
            "both heads have the same weights",
        ),
    ],
)
def test_what_matches_no_mistake_is_measured(line: dict, words: str) -> None:
    report = checks.multi_head_attention(compiled_layer(layer(**line)))
    assert not report.passed and not report.named
    assert words in report.clues[0].text, str(report)


def test_the_message_shows_numbers_that_tell_where_they_come_from() -> None:
    report = checks.merge_heads(
        lambda heads: heads.reshape(heads.size(0), heads.size(2), -1)
    )
    assert "behaves like this known mistake: merged without a transpose" in str(report)
    assert "0       1       2       3       4" in str(report)  # yours
    assert "0       1       2       6       7" in str(report)  # expected


def test_right_but_fragile() -> None:
    late = layer(
        mask="", weights="w = s.softmax(-1).tril()\nw = w / w.sum(-1, keepdim=True)"
    )
    report = checks.multi_head_attention(compiled_layer(late))
    assert report.passed and "0/0" in report.remarks[0]
    assert not checks.multi_head_attention(by_head).remarks
    assert math.isclose(report.score(4), 4)


def test_one_number_where_two_are_asked_for_is_told_the_form() -> None:
    report = checks.answer(
        "03.1",
        {
            "parameters": 1_050_624,
            "products for q @ k.T": [5_120_000, 5_120_000],
            "attention weights": [10_000, 80_000],
        },
    )
    assert not report.passed and "'parameters' should be a list of 2" in str(report)


def story_maps() -> torch.Tensor:
    """Return the weights of ten stories as the problem set makes them."""
    return torch.stack(
        [
            torch.as_tensor(
                widgets.capture(
                    story_model(), torch.tensor([list(text[:100].encode())])
                ).weights
            )
            for text in stories(10, seed=5).splitlines()
        ]
    )


@pytest.mark.parametrize(
    "offset, name",
    [
        (-1, ""),
        (0, "the weight on the character itself"),
        (-2, "the weight two characters back"),
        (1, "the weight on the character after (always 0)"),
    ],
)
def test_which_diagonal_was_measured(offset: int, name: str) -> None:
    table = story_maps().diagonal(offset, -2, -1).mean((0, -1))
    report = checks.answer(
        "03.6", [[round(value, 2) for value in row] for row in table.tolist()]
    )
    assert report.passed == (not name) and name in str(report)


EYE = torch.eye(6)
BY_HAND = {  # rows 0 to 5 are the position's, 6 to 11 the letter's
    "": {},
    "the two halves of the result exchanged": {"w_out": torch.eye(12).roll(6, 0)},
    "the right targets, with queries that are too short": {
        "q": torch.cat([5 * EYE.roll(1, 0), 5 * EYE[:1].expand(6, 6)], 1)
    },
    "a head that attends to the token itself": {
        "q": torch.cat([30 * EYE, 30 * EYE[:1].expand(6, 6)], 1)
    },
    "a head that searches for the position after": {
        "q": torch.cat([30 * EYE.roll(1, 1), 30 * EYE[:1].expand(6, 6)], 1)
    },
    "the values say positions, not letters": {"value_rows": slice(0, 6)},
}


@pytest.mark.parametrize("name", BY_HAND)
def test_two_heads_by_hand(name: str) -> None:
    part = {
        "q": torch.cat([30 * EYE.roll(1, 0), 30 * EYE[:1].expand(6, 6)], 1),
        "w_out": torch.eye(12),
        "value_rows": slice(6, 12),
        **BY_HAND[name],
    }
    w_qkv = torch.zeros(12, 36)
    w_qkv[:6, :12], w_qkv[:6, 12:24] = part["q"], EYE.repeat(1, 2)
    w_qkv[part["value_rows"], 24:] = EYE.repeat(1, 2)
    report = checks.answer("03.7", [w_qkv, part["w_out"]])
    assert report.passed == (not name) and name in str(report)
