"""The checks of GELU and of the feed-forward network: catalogue entries F."""

import math

import pytest
import torch
import torch.nn.functional as F
from catalogue import Catalogue

from gpt2_lesson import checks
from gpt2_lesson.feed_forward import FeedForward
from gpt2_lesson.feed_forward import gelu as lesson_gelu

INNER = "math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)"
GELU = {
    "F1": "return F.gelu(x)",
    "F1b": "return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))",
    "F1c": "return x * torch.distributions.Normal(0, 1).cdf(x)",
    "F2": "return x * torch.sigmoid(1.702 * x)",
    "F3": "return torch.relu(x)",
    "F3r": "return x.clamp(min=0)",
    "F3s": "return F.silu(x)",
    "F3l": "return F.leaky_relu(x, 0.01)",
    "F3t": "return x.tanh()",
    "F4": """inner = math.sqrt(2 / math.pi) * (x + 0.44715 * x**3)
return 0.5 * x * (1 + torch.tanh(inner))""",
    "F4b": """inner = (2 / torch.pi) ** 0.5 * (x + 0.0044715 * x.pow(3))
return x / 2 * (1 + inner.tanh())""",
    "F5": """inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**2)
return 0.5 * x * (1 + torch.tanh(inner))""",
    "F6": """inner = math.sqrt(2) / math.pi * (x + 0.044715 * x**3)
return 0.5 * x * (1 + torch.tanh(inner))""",
    "F6b": "return 0.5 * x * (1 + torch.tanh(2 / math.pi * (x + 0.044715 * x**3)))",
    "F6c": """inner = math.sqrt(math.pi / 2) * (x + 0.044715 * x**3)
return 0.5 * x * (1 + torch.tanh(inner))""",
    "F6d": """inner = math.sqrt(2 / math.pi) * x + 0.044715 * x**3
return 0.5 * x * (1 + torch.tanh(inner))""",
    "F7": f"return x * (1 + torch.tanh({INNER}))",
    "F7b": f"return 0.5 * x * torch.tanh({INNER})",
    "F7c": f"return 0.5 * x * (1 - torch.tanh({INNER}))",
    "F7d": f"return 0.5 * (1 + torch.tanh({INNER}))",
    "F8": "return x",
    "F13": f"t = torch.tanh({INNER})\nx *= 0.5\nreturn x * (1 + t)",
    "F14": f"return 0.5 * x * (1 + torch.tanh({INNER}).detach())",
    "F21": f"return 0.5 * x + (1 + torch.tanh({INNER}))",
    "F22": "return 0.5 * x * (1 + torch.sigmoid(x))",
    "F23": f"return 0.5 * (x * 1 + torch.tanh({INNER}))",
    "F3e": "return F.elu(x)",
    "F3p": "return torch.log(1 + x.exp()).where(x < 50, x)",
    "F7a": f"return torch.tanh(0.5 * x * (1 + {INNER}))",
    "F7h": f"return x * (0.5 + torch.tanh({INNER}))",
    "F7s": f"return x * torch.sigmoid({INNER})",
    "F7t": f"return 2 * x * (1 + torch.tanh({INNER}))",
}
GELU |= {
    name: "return 0.5 * x * (1 + torch.tanh(" + INNER.replace(*change) + "))"
    for name, change in {
        "F4r": ("0.044715", "0.0447"),
        "F4n": (" + 0.044715 * x**3", ""),
        "F4m": ("x +", "x -"),
        "F5q": ("x**3", "x**4"),
        "F6x": ("x + ", ""),
        "F6r": ("math.sqrt(2 / math.pi)", "0.8"),
        "F6p": ("math.pi", "3.14"),
        "F6y": ("0.044715 * x**3)", "0.044715 * x)**3"),
        "F6z": ("0.044715 * x**3", "(0.044715 * x)**3"),
    }.items()
}
BEND = {
    name: body
    for name, body in {
        "F1": "F.gelu(h)",
        "F2": "h * torch.sigmoid(1.702 * h)",
        "F3": "F.relu(h)",
        "F3s": "F.silu(h)",
        "F3l": "F.leaky_relu(h)",
        "F3t": "torch.tanh(h)",
        "F4": "0.5 * h * (1 + torch.tanh(math.sqrt(2 / math.pi) "
        "* (h + 0.44715 * h**3)))",
        "F5": "0.5 * h * (1 + torch.tanh(math.sqrt(2 / math.pi) "
        "* (h + 0.044715 * h**2)))",
        "F6": "0.5 * h * (1 + torch.tanh(math.sqrt(2) / math.pi "
        "* (h + 0.044715 * h**3)))",
        "F7": "h * (1 + torch.tanh(math.sqrt(2 / math.pi) * (h + 0.044715 * h**3)))",
        "F8": "h",
    }.items()
}
NETWORK = {
    name: f"h = x @ w1 + b1\nreturn {bend} @ w2 + b2" for name, bend in BEND.items()
} | {
    "F8b": "return (x @ w1 + b1) @ w2 + b2",
    "F9": "return gelu((x @ w1 + b1) @ w2 + b2)",
    "F9b": "return gelu(gelu(x @ w1 + b1) @ w2 + b2)",
    "F9c": "return (gelu(x) @ w1 + b1) @ w2 + b2",
    "F11": """x = x.mean(1, keepdim=True).expand_as(x)
return gelu(x @ w1 + b1) @ w2 + b2""",
    "F11b": "return gelu((x @ w1 + b1).softmax(1)) @ w2 + b2",
    "F11c": "return gelu(x.cumsum(1) @ w1 + b1) @ w2 + b2",
    "F12": "return F.dropout(gelu(x @ w1 + b1), 0.1) @ w2 + b2",
    "F12b": "return F.dropout(gelu(x @ w1 + b1) @ w2 + b2, 0.1)",
    "F15": "return gelu(x @ w1) @ w2 + b2",
    "F16": "return gelu(x @ w1 + b1) @ w2",
    "F17": "return (gelu(x @ w1) + b1) @ w2 + b2",
    "F18": "return gelu(x @ w1.T + b1) @ w2 + b2",
    "F18b": "return gelu(x @ w1 + b1) @ w2.T + b2",
    "F18c": "return F.linear(gelu(F.linear(x, w1, b1)), w2, b2)",
    "F19": "return gelu(x @ w2 + b1) @ w1 + b2",
    "F20": "return x + gelu(x @ w1 + b1) @ w2 + b2",
    "F13": "x += b2\nreturn gelu(x @ w1 + b1) @ w2 + b2",
    "F14": "return gelu(x @ w1 + b1).detach() @ w2 + b2",
    "F21": "h = gelu(x @ w1 + b1)\nreturn (h @ w2 + b2, h)",
    "F22": "gelu(x @ w1 + b1) @ w2 + b2",
    "F23": "return gelu(x @ w1 + b1)",
    "F3g": "h = x @ w1 + b1\nreturn h * gelu(h) @ w2 + b2",
    "F3m": "return (x @ w1 + b1).softmax(-1) @ w2 + b2",
    "F3n": "h = gelu(x @ w1 + b1)\nreturn F.layer_norm(h, h.shape[-1:]) @ w2 + b2",
    "F9t": "return gelu(gelu(x @ w1 + b1)) @ w2 + b2",
    "F11l": "return (gelu(x[:, -1:] @ w1 + b1) @ w2 + b2).expand_as(x)",
    "F11e": "return (gelu(x[0] @ w1 + b1) @ w2 + b2).expand_as(x)",
    "F16m": "return gelu(x @ w1 + b1) @ w2 - b2",
    "F16w": "return gelu(x @ w1 + b1) @ (w2 + b2)",
    "F21w": "return gelu(x @ w1 + b1) @ w1.T + b2",
}


def by_loops(x, w1, b1, w2, b2):
    rows = []
    for example in x:
        for token in example:
            hidden = torch.stack([token.dot(w1[:, j]) for j in range(w1.size(1))]) + b1
            rows.append(lesson_gelu(hidden) @ w2 + b2)
    return torch.stack(rows).view_as(x)


def as_module(x, w1, b1, w2, b2):
    mlp = FeedForward(*w1.shape).eval()
    state = {
        "up_proj.weight": w1.T,
        "up_proj.bias": b1,
        "down_proj.weight": w2.T,
        "down_proj.bias": b2,
    }
    return torch.func.functional_call(mlp, state, (x,))


def series(x):
    u = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
    return 0.5 * x * (1 + (u.exp() - (-u).exp()) / (u.exp() + (-u).exp()))


HONEST_GELU = {
    "lesson": lesson_gelu,
    "fused": lambda x: F.gelu(x, approximate="tanh"),
    "module": torch.nn.GELU("tanh"),
    "sigmoid": lambda x: (
        x * torch.sigmoid(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))
    ),
    "decimal": lambda x: (
        0.5 * x * (1 + torch.tanh(0.7978845608 * (x + 0.044715 * x * x * x)))
    ),
    "factored": lambda x: (
        x / 2 * (1 + ((2 / torch.pi) ** 0.5 * x * (1 + 0.044715 * x.square())).tanh())
    ),
    "torch names": lambda x: torch.mul(
        x,
        torch.add(
            torch.tanh(
                torch.sqrt(torch.tensor(2 / torch.pi))
                * (x + 0.044715 * torch.pow(x, 3))
            ),
            1,
        )
        / 2,
    ),
    "double": lambda x: F.gelu(x.double(), approximate="tanh").to(x.dtype),
    "elementwise": lambda x: torch.stack(
        [F.gelu(one, approximate="tanh") for one in x.reshape(-1)]
    ).reshape(x.shape),
}
HONEST_NETWORK = {
    "lesson": as_module,
    "plain": lambda x, w1, b1, w2, b2: lesson_gelu(x @ w1 + b1) @ w2 + b2,
    "linear": lambda x, w1, b1, w2, b2: F.linear(
        lesson_gelu(F.linear(x, w1.T, b1)), w2.T, b2
    ),
    "addmm": lambda x, w1, b1, w2, b2: torch.addmm(
        b2, lesson_gelu(torch.addmm(b1, x.reshape(-1, x.size(-1)), w1)), w2
    ).view(x.shape),
    "einsum": lambda x, w1, b1, w2, b2: (
        torch.einsum(
            "btf,fc->btc", lesson_gelu(torch.einsum("btc,cf->btf", x, w1) + b1), w2
        )
        + b2
    ),
    "matmul": lambda x, w1, b1, w2, b2: torch.add(
        torch.matmul(lesson_gelu(torch.add(torch.matmul(x, w1), b1)), w2), b2
    ),
    "loops": by_loops,
    "token by token": lambda x, w1, b1, w2, b2: torch.stack(
        [lesson_gelu(x[:, t] @ w1 + b1) @ w2 + b2 for t in range(x.size(1))], 1
    ),
    "turned": lambda x, w1, b1, w2, b2: (
        (w2.T @ lesson_gelu(w1.T @ x.mT + b1[:, None]) + b2[:, None]).mT
    ),
    "in parts": lambda x, w1, b1, w2, b2: (
        sum(lesson_gelu(x @ w1[:, [j]] + b1[j]) * w2[j] for j in range(len(b1))) + b2
    ),
}
CASES = {"gelu": (GELU, HONEST_GELU), "feed_forward": (NETWORK, HONEST_NETWORK)}
EXTRA = {"gelu": lesson_gelu}


class TestCatalogue(Catalogue):
    cases = CASES
    seconds = 1
    extra = EXTRA


@pytest.mark.parametrize(
    ("name", "right", "wrong", "says"),
    [
        ("04.1", [-0.0, 0, 8], [0, 0.5, 1], "the fraction Phi(x) alone"),
        ("04.1", [0.0, 0.0, 8.0], [-0.17, 0, 8], "the lowest value"),
    ],
)
def test_a_wrong_value_has_a_name(name: str, right, wrong, says: str) -> None:
    assert checks.answer(name, right).passed
    report = checks.answer(name, wrong)
    assert not report.passed and says in report.named


def test_half_precision_is_as_measured() -> None:
    x = torch.arange(1024, 2048, dtype=torch.float64) / 512
    assert torch.equal(x.half().double(), x)  # every half from 2 to 4
    erf, tanh = F.gelu(x), F.gelu(x, approximate="tanh")
    gap = (erf - tanh).abs()
    value = {
        "largest gap": gap.max(),
        "at": x[gap.argmax()],
        "differ in half": (erf.half() != tanh.half()).sum(),
    }
    assert checks.answer("04.4", value).passed
    value["differ in half"] = (erf != tanh).sum()
    assert "before rounding" in checks.answer("04.4", value).named
    index = {
        "largest gap": gap.max(),
        "at": gap.argmax(),
        "differ in half": (erf.half() != tanh.half()).sum(),
    }
    assert "the index in the list" in checks.answer("04.4", index).named


def test_all_in_half_precision_has_a_name() -> None:
    x = torch.arange(1024, 2048).div(512).half()
    forms = {
        "erf": F.gelu,
        "tanh": lambda x: F.gelu(x, approximate="tanh"),
        "by hand": lambda x: (
            0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
        ),
        "erf by hand": lambda x: 0.5 * x * (1 + torch.erf(x / math.sqrt(2))),
    }
    for one, other in (("erf", "tanh"), ("erf by hand", "by hand"), ("erf", "by hand")):
        gap = (forms[one](x) - forms[other](x)).abs()
        value = {
            "largest gap": gap.max(),
            "at": x[gap.argmax()],
            "differ in half": (gap > 0).sum(),
        }
        assert "in half precision" in checks.answer("04.4", value).named


def test_two_missing_biases_are_told_in_two_sentences() -> None:
    report = checks.feed_forward(lambda x, w1, b1, w2, b2: lesson_gelu(x @ w1) @ w2)
    whys = [mistake.why for mistake in report.matches[0]]
    assert [mistake.id for mistake in report.matches[0]] == ["F15", "F16"]
    assert len(set(whys)) == 2


@pytest.mark.parametrize(
    ("w1", "b1", "w2", "b2", "says"),
    [
        (torch.ones(3, 2), [-1, -2], [[1], [-2]], [0], ""),
        (
            -torch.ones(3, 2),
            [2, 3],
            [[-2], [1]],
            [0],
            "for the facts [0, 0, 0] it gives",
        ),
        (torch.ones(3, 3), [-1, -2, -3], [[1], [-2], [0]], [0], "with fewer"),
        (torch.ones(3, 2), [-1, -2], [1, -2], [0], "w2 has the shape (2,)"),
        (torch.ones(3, 1), [-1], [[1]], [0], "for the facts [1, 1, 1] it gives 2"),
    ],
)
def test_a_network_for_two_of_three(w1, b1, w2, b2, says: str) -> None:
    report = checks.answer("04.5", [w1, b1, w2, b2])
    assert report.passed == (not says) and says in str(report)
