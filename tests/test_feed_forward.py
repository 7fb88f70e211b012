"""GELU and the feed-forward network."""

import math

import torch
from torch.testing import assert_close

from gpt2_lesson.causal_masking import influence
from gpt2_lesson.feed_forward import FeedForward, gelu


def by_hand(x: float) -> float:
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
    return 0.5 * x * (1 + math.tanh(inner))


def test_gelu_is_the_tanh_form() -> None:
    x = torch.linspace(-8, 8, 2001, dtype=torch.float64)
    wanted = torch.tensor([by_hand(v) for v in x.tolist()], dtype=torch.float64)
    assert_close(gelu(x), wanted, rtol=0, atol=1e-12)
    assert_close(
        gelu(torch.tensor([-0.7524, 0.0, 8.0])),
        torch.tensor([-0.17, 0.0, 8.0]),
        rtol=0,
        atol=1e-4,
    )
    exact = 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))
    gap = (gelu(x) - exact).abs()
    assert 4.7e-4 < gap.max() < 4.8e-4 and abs(x[gap.argmax()].abs() - 2.7) < 0.02


def test_the_network_equals_its_formula() -> None:
    mlp = FeedForward(3, 7).eval().double()
    with torch.no_grad():
        for parameter in mlp.parameters():
            parameter.normal_()
    x = torch.randn(2, 4, 3, dtype=torch.float64)
    hidden = x @ mlp.up_proj.weight.T + mlp.up_proj.bias
    hidden = torch.tensor([by_hand(v) for v in hidden.flatten().tolist()]).view_as(
        hidden
    )
    wanted = hidden.double() @ mlp.down_proj.weight.T + mlp.down_proj.bias
    assert_close(mlp(x), wanted, rtol=1e-5, atol=1e-5)
    table = influence(mlp, x)
    assert torch.equal(table, torch.diag(table.diagonal()))  # positions do not mix


def test_dropout_and_size() -> None:
    mlp, x = FeedForward(4, 16, dropout=0.5), torch.randn(5, 4)
    assert not torch.equal(mlp(x), mlp(x))
    mlp.eval()
    assert torch.equal(mlp(x), mlp(x))
    with torch.device("meta"):
        assert sum(p.numel() for p in FeedForward(768, 3072).parameters()) == 4_722_432
