"""Layer norm by the formula, and the block's formula in letters."""

import torch
import torch.nn as nn
from torch.testing import assert_close

from gpt2_lesson.causal_masking import influence
from gpt2_lesson.layer_norm import LayerNorm, TransformerBlock


def test_layer_norm_equals_its_formula_on_rows_of_every_size() -> None:
    norm = LayerNorm(4).double()
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    for size in (1e-4, 1e-3, 1.0, 1e3, 0.0):
        for row in torch.randn(6, 4, dtype=torch.float64) * size + 3 * size:
            mean = sum(row) / 4
            variance = sum((value - mean) ** 2 for value in row) / 4
            wanted = (row - mean) / (variance + 1e-5) ** 0.5 * norm.weight + norm.bias
            assert_close(norm(row), wanted)
    plain = LayerNorm(4)(torch.tensor([1.0, 0, 0, 0]))
    assert_close(
        plain, torch.tensor([1.732, -0.577, -0.577, -0.577]), rtol=0, atol=1e-3
    )


class Spy(nn.Module):
    """Stands for a part; returns its input times a number: the formula shows."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: torch.Tensor, *_: object) -> torch.Tensor:
        return self.factor * x


def test_the_block_is_pre_norm() -> None:
    block = TransformerBlock(8, 2, 16)
    block.ln_attn, block.attn, block.ln_mlp, block.mlp = map(Spy, (2.0, 3.0, 5.0, 7.0))
    x = torch.randn(1, 3, 8)
    before = x.clone()
    assert_close(block(x), (1 + 2 * 3) * (1 + 5 * 7) * x)
    assert torch.equal(x, before)


def test_block_is_causal_silent_branches_pass_the_stream_and_size() -> None:
    block, x = TransformerBlock(8, 2, 32).eval(), torch.randn(2, 5, 8)
    assert_close(influence(block, x).triu(1), torch.zeros(5, 5))
    for projection in (block.attn.out_proj, block.mlp.down_proj):
        nn.init.zeros_(projection.weight)
        nn.init.zeros_(projection.bias)
    assert torch.equal(block(x), x)
    with torch.device("meta"):
        block = TransformerBlock(768, 12, 3072)
    assert sum(p.numel() for p in block.parameters()) == 7_087_872
