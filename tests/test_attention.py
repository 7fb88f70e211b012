"""`attention`: worked numbers, PyTorch's own, and what must not change."""

import math

import torch
import torch.nn.functional as F
from torch.testing import assert_close

from gpt2_lesson.attention import attention


def random_qkv() -> list[torch.Tensor]:
    """All sizes differ: 2 sentences, 5 queries, 7 keys, 4 and 3 channels."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, *s, generator=generator) for s in ((5, 4), (7, 4), (7, 3))]


def test_the_numbers_worked_by_hand() -> None:
    k = torch.zeros(3, 4)
    k[:, 0] = torch.tensor([1.0, 2.0, 3.0]).log()
    v = torch.tensor([[6.0, 0.0], [0.0, 6.0], [6.0, 6.0]])
    mixed, weights = attention(torch.tensor([[2.0, 0, 0, 0]]), k, v)
    assert_close(weights, torch.tensor([[1 / 6, 1 / 3, 1 / 2]]))
    assert_close(mixed, torch.tensor([[4.0, 5.0]]))


def test_equals_a_loop_over_plain_numbers() -> None:
    q, k, v = random_qkv()
    mixed, weights = attention(q, k, v)
    for b in range(2):
        for i in range(5):
            scores = [
                sum(float(x * y) for x, y in zip(q[b, i], key, strict=True)) / 2
                for key in k[b]
            ]
            powers = [math.exp(score) for score in scores]
            shares = torch.tensor([power / sum(powers) for power in powers])
            assert_close(weights[b, i], shares)
            assert_close(
                mixed[b, i], sum(s * x for s, x in zip(shares, v[b], strict=True))
            )


def test_equals_pytorch_with_and_without_a_mask() -> None:
    q, k, v = random_qkv()
    mask = torch.rand(5, 7, generator=torch.Generator().manual_seed(1)) < 0.6
    mask[:, 0] = True
    for chosen in (None, mask):
        mixed, weights = attention(q, k, v, chosen)
        assert_close(mixed, F.scaled_dot_product_attention(q, k, v, chosen))
        assert_close(weights.sum(-1), torch.ones(2, 5))
    assert weights[:, ~mask].max() == 0


def test_huge_scores_and_gradients_are_finite() -> None:
    q, k, v = (t.requires_grad_() for t in random_qkv())
    mixed, _ = attention(1e4 * q, 1e4 * k, v)
    assert mixed.isfinite().all()
    attention(q, k, v)[0].square().sum().backward()
    assert all(t.grad.norm() > 0 for t in (q, k, v))


def test_shuffled_inputs_give_shuffled_outputs_and_are_left_alone() -> None:
    x = torch.randn(6, 4)
    before, order = x.clone(), torch.randperm(6)
    assert_close(
        attention(x[order], x[order], x[order])[0], attention(x, x, x)[0][order]
    )
    assert torch.equal(x, before)
