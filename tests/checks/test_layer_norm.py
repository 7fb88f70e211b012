"""The checks of layer norm and of the pre-norm block: catalogue entries L and B."""

import pytest
import torch
import torch.nn.functional as F
from catalogue import (
    Catalogue,
    function_of,
)

from gpt2_lesson import checks
from gpt2_lesson.checks.fakes.formula import formula

OFF = "d = x - x.mean(-1, keepdim=True)\n"
VAR = OFF + "var = (d**2).mean(-1, keepdim=True)\n"
NORM = {
    "L1": OFF + "return d / (x.var(-1, keepdim=True) + eps).sqrt() * weight + bias",
    "L1b": """var, mean = torch.var_mean(x, -1, keepdim=True)
return (x - mean) * torch.rsqrt(var + eps) * weight + bias""",
    "L1c": OFF
    + """std = ((d**2).sum(-1, keepdim=True) / (x.size(-1) - 1) + eps).sqrt()
return d / std * weight + bias""",
    "L2": VAR + "return d / (var.sqrt() + eps) * weight + bias",
    "L2b": OFF
    + """std = x.std(-1, correction=0, keepdim=True)
return weight * d / (std + eps) + bias""",
    "L3": VAR + "return d / var.sqrt() * weight + bias",
    "L3b": OFF + "return d / x.std(-1, unbiased=False, keepdim=True) * weight + bias",
    "L4": VAR + "return d / (var + 1e-6).sqrt() * weight + bias",
    "L4b": VAR + "return d / (var + 1e-12).sqrt() * weight + bias",
    "L13": "return F.layer_norm(x, weight.shape, weight, bias)",
    "L14": VAR + "return d / var.clamp(min=eps).sqrt() * weight + bias",
    "L5": "return F.layer_norm(x, x.shape[1:], eps=eps) * weight + bias",
    "L5b": """mean = x.mean(1, keepdim=True)
var = x.var(1, correction=0, keepdim=True)
return (x - mean) / torch.sqrt(var + eps) * weight + bias""",
    "L5c": """mean = x.mean(0)
return (x - mean) / (x.var(0, correction=0) + eps) ** 0.5 * weight + bias""",
    "L5d": """mean, var = x.mean(), x.var(correction=0)
return (x - mean) / torch.sqrt(var + eps) * weight + bias""",
    "L11": """y = F.batch_norm(x.mT, None, None, training=True, eps=eps).mT
return y * weight + bias""",
    "L11b": """flat = x.reshape(-1, x.size(-1))
var, mean = torch.var_mean(flat, 0, correction=0)
return (x - mean) / (var + eps).sqrt() * weight + bias""",
    "L6": VAR + "return d / (var + eps).sqrt()",
    "L6a": "return F.layer_norm(x, weight.shape, eps=eps)",
    "L6b": VAR + "return d / (var + eps).sqrt() * weight",
    "L6c": VAR + "return d / (var + eps).sqrt() + bias",
    "L7": "return F.layer_norm(x, weight.shape, bias, weight, eps)",
    "L7b": VAR + "return weight * (d / (var + eps).sqrt() + bias)",
    "L7c": VAR + "return d / (var + eps).sqrt() * (1 + weight) + bias",
    "L7p": VAR + "return d / (var + eps).sqrt() @ weight + bias",
    "L7pa": VAR + "y = torch.matmul(d / (var + eps).sqrt(), weight)\nreturn y + bias",
    "L8": "var, mean = torch.var_mean(x, -1, correction=0)\n"
    "return (x - mean) / (var + eps).sqrt() * weight + bias",
    "L9": VAR + "return d / (var + eps) * weight + bias",
    "L9b": VAR + "return d / (var + eps) ** 2 * weight + bias",
    "L9a": OFF + "return d / (d.abs().mean(-1, keepdim=True) + eps) * weight + bias",
    "L9ab": OFF + "return weight * d / d.abs().mean(-1, keepdim=True) + bias",
    "L22": VAR + "mean = x.mean(-1, keepdim=True)\n"
    "return (x - mean / torch.sqrt(var + eps)) * weight + bias",
    "L22b": VAR + "mean = x.mean(-1, keepdim=True)\n"
    "return x - mean / (var + eps).sqrt() * weight + bias",
    "L15": OFF + "return d * weight + bias",
    "L10": "return F.rms_norm(x, weight.shape, weight, eps) + bias",
    "L10a": """rms = torch.sqrt(x.pow(2).mean(-1, keepdim=True) + eps)
return weight * x / rms + bias""",
    "L10b": VAR + "return x / (var + eps).sqrt() * weight + bias",
    "L12": """mean, std = x.mean(-1, keepdim=True), x.std(-1, keepdim=True)
return weight * (x - mean) / (std + eps) + bias""",
    "L16": "mean = x.mean(-1, keepdim=True).detach()\n"
    "var = x.detach().var(-1, correction=0, keepdim=True)\n"
    "return (x - mean) / (var + eps).sqrt() * weight + bias",
    "L17": "x -= x.mean(-1, keepdim=True)\n"
    "var = x.var(-1, correction=0, keepdim=True)\n"
    "return x / (var + eps).sqrt() * weight + bias",
    "L18": "x = F.softmax(x, -1)\nreturn x * weight + bias",
    "L1z": "return F.normalize(x - x.mean(-1, keepdim=True), dim=-1) * weight + bias",
    "L23'": "y = (x - x.amin(-1, keepdim=True))\n"
    "return y / (y.amax(-1, keepdim=True) + eps) * weight + bias",
    "L21": VAR + "y = d / (var + eps).sqrt() * weight + bias\nreturn y, var",
    "L1s": VAR.replace("(d**2).mean", "(d**2).sum")
    + "return d / (var + eps).sqrt() * weight + bias",
    "L1n": OFF + "return d / (d.norm(dim=-1, keepdim=True) + eps) * weight + bias",
    "L1a": VAR.replace("(d**2)", "d.abs()")
    + "return d / (var + eps).sqrt() * weight + bias",
    "L2p": VAR + "return d / var.sqrt() + eps * weight + bias",
    "L3n": VAR + "return (d + eps) / var.sqrt() * weight + bias",
    "L4q": VAR + "return d / (var + eps**2).sqrt() * weight + bias",
    "L4t": VAR + "return d / (var + eps + eps).sqrt() * weight + bias",
    "L5v": OFF + "return d / ((d**2).mean() + eps).sqrt() * weight + bias",
    "L12n": OFF + "return d / x.std(-1, keepdim=True) * weight + bias",
    "L16m": OFF.replace("x.mean", "x.detach().mean")
    + "var = x.var(-1, correction=0, keepdim=True)\n"
    "return d / (var + eps).sqrt() * weight + bias",
    "L6d": VAR + "return d / (var + eps).sqrt() / weight + bias",
    "L6m": VAR + "return d / (var + eps).sqrt() * weight - bias",
    "L9t": VAR + "return d * (var + eps).sqrt() * weight + bias",
    "L10p": VAR + "return (x + x.mean(-1, keepdim=True)) / (var + eps).sqrt() * weight "
    "+ bias",
    "L23": """least, most = x.amin(-1, keepdim=True), x.amax(-1, keepdim=True)
return (x - least) / (most - least + eps) * weight + bias""",
}
NORM |= {
    name: VAR.replace("x.mean(-1, keepdim=True)", middle)
    + "return d / (var + eps).sqrt() * weight + bias"
    for name, middle in {
        "L5m": "x.mean()",
        "L10s": "x.sum(-1, keepdim=True)",
        "L10m": "x.median(-1, keepdim=True).values",
    }.items()
}
BLOCK = {
    "B1": "x = ln_attn(x + attn(x))\nreturn ln_mlp(x + mlp(x))",
    "B1b": "x = x + ln_attn(attn(x))\nreturn x + ln_mlp(mlp(x))",
    "B2": "return mlp(ln_mlp(attn(ln_attn(x))))",
    "B2a": "x = attn(ln_attn(x))\nreturn x + mlp(ln_mlp(x))",
    "B2m": "x = x + attn(ln_attn(x))\nreturn mlp(ln_mlp(x))",
    "B3": "x = ln_attn(x)\nx = x + attn(x)\nx = ln_mlp(x)\nreturn x + mlp(x)",
    "B3a": "x = ln_attn(x)\nx = x + attn(x)\nreturn x + mlp(ln_mlp(x))",
    "B3m": "x = x + attn(ln_attn(x))\nh = ln_mlp(x)\nreturn h + mlp(h)",
    "B4": "return x + attn(ln_attn(x)) + mlp(ln_mlp(x))",
    "B4b": "h = attn(ln_attn(x))\nreturn x + h + mlp(ln_mlp(h))",
    "B4c": "h = x + attn(ln_attn(x))\nreturn x + mlp(ln_mlp(h))",
    "B5": "x = x + attn(ln_attn(x))\nreturn x + mlp(ln_attn(x))",
    "B5m": "x = x + attn(ln_mlp(x))\nreturn x + mlp(ln_mlp(x))",
    "B5x": "x = x + attn(ln_mlp(x))\nreturn x + mlp(ln_attn(x))",
    "B6": "x += attn(ln_attn(x))\nx += mlp(ln_mlp(x))\nreturn x",
    "B6a": "return x.add_(attn(ln_attn(x))).add_(mlp(ln_mlp(x)))",
    "B7": "x = x + mlp(ln_mlp(x))\nreturn x + attn(ln_attn(x))",
    "B8": """x = F.dropout(x + attn(ln_attn(x)), 0.1)
return F.dropout(x + mlp(ln_mlp(x)), 0.1)""",
    "B8b": """x = x + F.dropout(attn(ln_attn(x)), 0.1)
return x + F.dropout(mlp(ln_mlp(x)), 0.1)""",
    "B9": "x = x + x + attn(ln_attn(x))\nreturn x + x + mlp(ln_mlp(x))",
    "B9m": "h = x + attn(ln_attn(x))\nreturn h + h + mlp(ln_mlp(h))",
    "B10": "x = x + attn(x)\nreturn x + mlp(ln_mlp(x))",
    "B10m": "x = x + attn(ln_attn(x))\nreturn x + mlp(x)",
    "B10b": "x = x + attn(x)\nreturn x + mlp(x)",
    "B11": "x = x + attn(ln_attn(x))\nreturn ln_mlp(x + mlp(ln_mlp(x)))",
    "B9'": "h = x + attn(ln_attn(x))\nreturn x + h + mlp(ln_mlp(h))",
    "B14": "x = x + attn(ln_attn(x))\nx + mlp(ln_mlp(x))",
    "B12a": "x = x + attn(ln_attn(x))\nreturn x",
    "B12b": "return x + mlp(ln_mlp(x))",
    "B12": "x = x + attn(ln_attn(x))\nreturn x + attn(ln_mlp(x))",
    "B12m": "x = x + mlp(ln_attn(x))\nreturn x + mlp(ln_mlp(x))",
    "B1s": "x = x + ln_attn(attn(ln_attn(x)))\nreturn x + ln_mlp(mlp(ln_mlp(x)))",
    "B1o": "x = x + ln_attn(attn(x))\nreturn x + mlp(ln_mlp(x))",
    "B4d": "return x + mlp(ln_mlp(attn(ln_attn(x))))",
    "B13": "x = x - attn(ln_attn(x))\nreturn x - mlp(ln_mlp(x))",
    "B13t": "x = x * attn(ln_attn(x))\nreturn x * mlp(ln_mlp(x))",
    "B13h": "x = (x + attn(ln_attn(x))) / 2\nreturn (x + mlp(ln_mlp(x))) / 2",
    "B15": "x = x + attn(ln_attn(x)).detach()\nreturn x + mlp(ln_mlp(x))",
}


def norm_by_loops(x, weight, bias, eps=1e-5):
    rows = []
    for row in x.reshape(-1, x.size(-1)):
        mean = sum(row) / len(row)
        variance = sum((one - mean) ** 2 for one in row) / len(row)
        rows.append((row - mean) / (variance + eps) ** 0.5 * weight + bias)
    return torch.stack(rows).reshape(x.shape)


def by_var_mean(x, weight, bias, eps=1e-5):
    var, mean = torch.var_mean(x, -1, correction=0, keepdim=True)
    return torch.rsqrt(var + eps) * (x - mean) * weight + bias


def by_parts(x, weight, bias, eps=1e-5):
    mean = x.mean(2).unsqueeze(2)
    std = torch.sqrt(x.var(2, unbiased=False) + eps)[..., None]
    return torch.addcmul(bias, weight, (x - mean) / std)


def by_squares(x, weight, bias, eps=1e-5):
    mean, square = x.mean(-1, keepdim=True), x.square().mean(-1, keepdim=True)
    return (x - mean) / (square - mean.square() + eps).sqrt() * weight + bias


def by_norm(x, weight, bias, eps=1e-5):
    d = x - x.mean(-1, keepdim=True)
    size = d.norm(dim=-1, keepdim=True)
    return d / (size**2 / x.size(-1) + eps) ** 0.5 * weight + bias


def as_module(x, weight, bias, eps=1e-5):
    return torch.func.functional_call(
        torch.nn.LayerNorm(x.size(-1), eps), {"weight": weight, "bias": bias}, (x,)
    )


HONEST_NORM = {
    "fused": lambda x, w, b, eps=1e-5: F.layer_norm(x, w.shape, w, b, eps),
    "module": as_module,
    "loops": norm_by_loops,
    "var_mean": by_var_mean,
    "parts": by_parts,
    "squares": by_squares,
    "norm": by_norm,
    "corrected": lambda x, w, b, eps=1e-5: (
        (x - x.mean(-1, keepdim=True))
        / torch.sqrt(x.var(-1, keepdim=True) * (x.size(-1) - 1) / x.size(-1) + eps)
        * w
        + b
    ),
    "double": lambda x, w, b, eps=1e-5: F.layer_norm(
        x.double(), w.shape, w.double(), b.double(), eps
    ).float(),
    "einsum": lambda x, w, b, eps=1e-5: (
        torch.einsum("btc,c->btc", F.layer_norm(x, x.shape[-1:], eps=eps), w) + b
    ),
}


def with_names(x, ln_attn, attn, ln_mlp, mlp):
    normed = ln_attn(x)
    mixed = attn(normed)
    middle = x + mixed
    thought = mlp(ln_mlp(middle))
    return middle + thought


def by_class(x, ln_attn, attn, ln_mlp, mlp):
    class Residual:
        def __init__(self, norm, part):
            self.norm, self.part = norm, part

        def __call__(self, x):
            return self.part(self.norm(x)) + x

    for step in (Residual(ln_attn, attn), Residual(ln_mlp, mlp)):
        x = step(x)
    return x


def in_place_of_a_copy(x, ln_attn, attn, ln_mlp, mlp):
    x = x.clone()
    x += attn(ln_attn(x))
    x += mlp(ln_mlp(x))
    return x


def reshaped(x, ln_attn, attn, ln_mlp, mlp):
    flat = x.reshape(-1, x.size(-1)) + attn(ln_attn(x)).flatten(0, 1)
    return torch.add(flat, mlp(ln_mlp(flat))).view(x.shape)


HONEST_BLOCK = {
    "plain": lambda x, n1, a, n2, m: (h := x + a(n1(x))) + m(n2(h)),
    "names": with_names,
    "class": by_class,
    "copy": in_place_of_a_copy,
    "other order": lambda x, n1, a, n2, m: m(n2(a(n1(x)) + x)) + (a(n1(x)) + x),
    "torch.add": lambda x, n1, a, n2, m: torch.add(
        h := torch.add(x, a(n1(x))), m(n2(h))
    ),
    "reshaped": reshaped,
    "example by example": lambda x, n1, a, n2, m: torch.stack(
        [(h := one + a(n1(one))) + m(n2(h)) for one in x]
    ),
    "stacked": lambda x, n1, a, n2, m: torch.stack(
        [h := torch.stack([x, a(n1(x))]).sum(0), m(n2(h))]
    ).sum(0),
    "einsum": lambda x, n1, a, n2, m: torch.einsum(
        "ibtc->btc", torch.stack([x, y := a(n1(x)), m(n2(x + y))])
    ),
}
CASES = {"layer_norm": (NORM, HONEST_NORM), "block": (BLOCK, HONEST_BLOCK)}


class TestCatalogue(Catalogue):
    cases = CASES
    seconds = 1


RIGHT = "x + attn(ln_attn(x)) + mlp(ln_mlp(x + attn(ln_attn(x))))"


@pytest.mark.parametrize(
    "style", [name for name in HONEST_BLOCK if name != "example by example"]
)
def test_the_formula_of_a_right_block_is_found_in_every_style(style: str) -> None:
    g = torch.Generator().manual_seed(0)
    assert formula(HONEST_BLOCK[style], *checks.block.display(g).args) == RIGHT


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ("B1", "ln_mlp(ln_attn(x + attn(x)) + mlp(ln_attn(x + attn(x))))"),
        (
            "B3",
            "ln_mlp(ln_attn(x) + attn(ln_attn(x))) + "
            "mlp(ln_mlp(ln_attn(x) + attn(ln_attn(x))))",
        ),
        ("B6", RIGHT),
        ("B9", "4 x + 2 attn(ln_attn(x)) + mlp(ln_mlp(2 x + attn(ln_attn(x))))"),
    ],
)
def test_the_report_shows_the_formula_and_not_the_answer(wrong: str, text: str) -> None:
    report = checks.block(function_of(checks.block, BLOCK[wrong]))
    assert report.table == ["the formula:", f"yours     {text}"]
    assert text == RIGHT or RIGHT not in str(report)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (
            "return x + ln_attn(2 * attn(x)) + mlp(ln_mlp(x))",
            "ln_attn reads 2 attn(x) in your block; it should read the block's input",
        ),
        (
            "h = ln_attn(x)\nx = x + attn(h)\nreturn x + mlp(ln_mlp(h))",
            "ln_mlp reads ln_attn(x) in your block; it should read the residual stream",
        ),
        (
            "x = x + attn(ln_attn(x))\nreturn x - mlp(ln_mlp(x))",
            "what is added up differs",
        ),
        ("x = x + attn(ln_attn(x) ** 2)\nreturn x + mlp(ln_mlp(x))", "attn reads"),
    ],
)
def test_what_differs_in_a_block_is_told_in_words(wrong: str, words: str) -> None:
    report = checks.block(function_of(checks.block, wrong))
    assert not report.named and RIGHT not in str(report)
    assert words in report.clues[0].text


@pytest.mark.parametrize(
    ("wrong", "says", "hides"),
    [
        ("L7p", "* multiplies channel by channel", "keepdim"),
        ("L7pa", "* multiplies channel by channel", "keepdim"),
        ("L8", "the mean of a row needs keepdim=True", "@"),
    ],
)
def test_shapes_that_do_not_fit(wrong: str, says: str, hides: str) -> None:
    crash = checks.layer_norm(function_of(checks.layer_norm, NORM[wrong])).symptoms
    assert says in crash[-1] and hides not in crash[-1]


def test_a_tiny_row_that_keeps_its_spread_is_no_matter_of_eps() -> None:
    report = checks.layer_norm(
        function_of(
            checks.layer_norm,
            """\
mean, spread = x.mean(-1, keepdim=True), (x.var(-1, keepdim=True) + eps).sqrt()
return (x + mean / spread) * weight + bias""",
        )
    )
    assert not any("effective eps" in clue.text for clue in report.clues)


def test_an_unknown_eps_is_measured() -> None:
    report = checks.layer_norm(
        lambda x, w, b, eps=1e-5: F.layer_norm(x, w.shape, w, b, 3 * eps)
    )
    assert any("is 3e-05, expected 1e-05" in clue.text for clue in report.clues)


def test_right_but_fragile() -> None:
    assert "loses its digits" in checks.layer_norm(by_squares).remarks[0]
    assert not checks.layer_norm(by_var_mean).remarks


@pytest.mark.parametrize(
    ("name", "right", "wrong", "says"),
    [
        ("05.1", [3, 2], [2, 3], "exchanged"),
        ("05.1", [3.0, 2.0], [0, 1], "before weight"),
        (
            "05.1",
            torch.tensor([3.0, 2.0]),
            [3, 4],
            "the variance, not the standard deviation",
        ),
        ("05.1", (3, 2), [6, 2], "the bias added before"),
    ],
)
def test_a_wrong_value_has_a_name(name: str, right, wrong, says: str) -> None:
    assert checks.answer(name, right).passed
    assert says in checks.answer(name, wrong).named


def test_errors_of_the_unbiased_variance_are_as_measured() -> None:
    g, errors, upside_down = torch.Generator().manual_seed(0), [], []
    for width in (2**k for k in range(1, 11)):
        row = 3 * torch.randn(width, generator=g)
        wrong = (row - row.mean()) / (row.var() + 1e-5).sqrt()
        ratio = (wrong / F.layer_norm(row, row.shape)).median().item()
        errors.append(1 - ratio)
        upside_down.append(1 / ratio - 1)
    assert checks.answer("05.4", errors).passed
    for wrong, says in (
        (upside_down, "right over wrong"),
        ([100 * one for one in errors], "percent, not fractions"),
        ([-one for one in errors], "the opposite sign"),
        ([1 - one for one in errors], "the ratio itself"),
        ([1 / (1 - one) for one in errors], "the ratio itself"),
        (errors[1:], "nine numbers"),
        (errors[:-1], "nine numbers"),
    ):
        assert says in checks.answer("05.4", wrong).named


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ([0.001, 0.005, 0.002, 0.009], ""),
        ([-3e-3, 4e-3, 1e-3, 5e-3], ""),
        (
            [1, 2, 3, 4],
            "eps outside the root (0.00% off), eps 1e-6 (0.00% off), no eps",
        ),
        ([1e-5, 2e-5, 3e-5, 5e-5], "1% off: unbiased variance (0.00% off)"),
        ([1e-5, 2e-5, 0, 0], "1% off: unbiased variance (0.00% off)"),
        ([0.1] * 4, "nearly 0 everywhere"),
        ([-0.003, 0.003, -0.003, 0.003], "mean not subtracted"),
        ([2, 2, 2, 2], "nearly 0 everywhere"),
        ([[1, 2, 3, 4]], "one row of four"),
    ],
)
def test_a_row_that_unmasks(row: list, says: str) -> None:
    report = checks.answer("05.5", row)
    assert report.passed == (not says) and says in str(report)
