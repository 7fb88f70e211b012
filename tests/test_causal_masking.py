"""`causal_mask` and `influence`."""

import pytest
import torch
from torch.testing import assert_close

from gpt2_lesson.attention import attention
from gpt2_lesson.causal_masking import causal_mask, influence


@pytest.mark.parametrize("num_keys", range(1, 8))
def test_a_query_sees_itself_and_the_past(num_keys: int) -> None:
    for num_queries in range(1, num_keys + 1):
        mask = causal_mask(num_queries, num_keys)
        first = num_keys - num_queries  # the place of the first query
        wanted = [
            [key <= first + i for key in range(num_keys)] for i in range(num_queries)
        ]
        assert mask.tolist() == wanted and mask.dtype == torch.bool
    assert torch.equal(causal_mask(num_keys), causal_mask(num_keys, num_keys))


def test_worked_numbers_and_no_nan() -> None:
    k = torch.zeros(3, 4)
    k[:, 0] = torch.tensor([1.0, 2.0, 3.0]).log()
    v = torch.tensor([[6.0, 0.0], [0.0, 6.0], [6.0, 6.0]])
    q = torch.tensor([2.0, 0, 0, 0]).expand(3, 4)
    mixed, _ = attention(q, k, v, causal_mask(3))
    assert_close(mixed, torch.tensor([[6.0, 0.0], [2.0, 4.0], [4.0, 5.0]]))


def shift(x: torch.Tensor) -> torch.Tensor:
    """Output t is token t - 1."""
    return torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1]], dim=1)


def test_influence_shows_who_reads_whom() -> None:
    x = torch.randn(3, 5, 2)
    assert (influence(shift, x) > 0).tolist() == torch.eye(5).bool().roll(1, 0).tril(
        -1
    ).tolist()
    assert (influence(lambda x: x.cumsum(1), x) > 0).tolist() == causal_mask(5).tolist()
    backwards = influence(lambda x: x.flip(1).cumsum(1).flip(1), x)
    assert backwards.triu(1).min() == 0 and backwards.triu(1).max() > 0
    ids = torch.randint(1000, (2, 5))
    assert (influence(lambda i: i.cumsum(1).float(), ids).triu(1) == 0).all()
