"""Heads: the reshape, the fused kernel, the class against PyTorch's own."""

import pytest
import torch
import torch.nn as nn
from torch.testing import assert_close

from gpt2_lesson.attention import attention
from gpt2_lesson.causal_masking import causal_mask, influence
from gpt2_lesson.multi_head import (
    KVCache,
    MultiHeadAttention,
    fused_attention,
    merge_heads,
    split_heads,
)


def test_split_and_merge() -> None:
    x = torch.arange(2 * 3 * 8).view(2, 3, 8)
    heads = split_heads(x, 4)
    for b in range(2):
        for h in range(4):
            for t in range(3):
                assert torch.equal(heads[b, h, t], x[b, t, 2 * h : 2 * h + 2])
    assert torch.equal(merge_heads(heads), x)
    assert split_heads(torch.arange(12).view(1, 2, 6), 2).tolist() == [
        [[[0, 1, 2], [6, 7, 8]], [[3, 4, 5], [9, 10, 11]]]
    ]


@pytest.mark.parametrize("num_queries", range(1, 7))
def test_fused_equals_our_own(num_queries: int) -> None:
    q, k, v = torch.randn(3, 2, 3, 6, 4)
    q = q[..., -num_queries:, :]
    own, _ = attention(q, k, v, causal_mask(num_queries, 6))
    assert_close(fused_attention(q, k, v), own)


def test_equals_pytorchs_multi_head_attention() -> None:
    ours = MultiHeadAttention(12, 3).eval()
    theirs = nn.MultiheadAttention(12, 3, batch_first=True).eval()
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.normal_()
        theirs.in_proj_weight.copy_(ours.qkv_proj.weight)
        theirs.in_proj_bias.copy_(ours.qkv_proj.bias)
        theirs.out_proj.load_state_dict(ours.out_proj.state_dict())
    x = torch.randn(2, 5, 12)
    wanted, weights = theirs(
        x, x, x, attn_mask=~causal_mask(5), average_attn_weights=False
    )
    assert_close(ours(x), wanted, rtol=1e-4, atol=1e-5)
    assert_close(ours.weights(x), weights, rtol=1e-4, atol=1e-5)
    assert_close(influence(ours, x).triu(1), torch.zeros(5, 5))


def test_cache_gives_back_everything_without_a_copy() -> None:
    cache = KVCache(2, 3, 4, 6, 5, dtype=torch.float64)
    k, v = torch.randn(2, 2, 3, 4, 6, 5, dtype=torch.float64)
    for start, end in ((0, 3), (3, 4), (4, 6)):
        for layer in range(2):
            keys, values = cache.append(
                layer, k[layer, :, :, start:end], v[layer, :, :, start:end]
            )
            assert torch.equal(keys, k[layer, :, :, :end])
            assert torch.equal(values, v[layer, :, :, :end])
            assert keys.untyped_storage().data_ptr() == cache.keys.data_ptr()
            assert cache.length == (end if layer == 1 else start)


@pytest.mark.parametrize("sizes", [[1] * 5, [4, 1], [2, 3], [1, 3, 1]])
def test_a_cache_changes_nothing(sizes: list[int]) -> None:
    attn, x = MultiHeadAttention(8, 2).eval(), torch.randn(3, 5, 8)
    cache, outputs = KVCache(2, 3, 2, 5, 4), []
    for piece in x.split(sizes, dim=1):
        outputs.append(attn(piece, cache, layer=1))
    assert_close(torch.cat(outputs, dim=1), attn(x))
    assert cache.keys[0].abs().max() == 0  # the other layer is untouched


def test_dropout_only_in_training_and_four_c_squared_parameters() -> None:
    attn, x = MultiHeadAttention(8, 2, dropout=0.5), torch.randn(1, 9, 8)
    assert not torch.equal(attn(x), attn(x))
    attn.eval()
    assert torch.equal(attn(x), attn(x))
    assert sum(p.numel() for p in attn.parameters()) == 4 * 8**2 + 4 * 8


def test_dropout_falls_on_the_weights_and_on_the_result() -> None:
    attn, x, mixed = MultiHeadAttention(8, 2, dropout=0.5), torch.randn(1, 9, 8), []
    attn.out_proj.register_forward_pre_hook(lambda _, args: mixed.append(args[0]))
    assert 0.2 < attn(x).eq(0).float().mean() < 0.8
    attn(x)
    assert not torch.equal(*mixed)
