import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from gpt2_lesson.attention import attention
from gpt2_lesson.causal_masking import KVCache, causal_mask


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """Return (B, T, C) as (B, H, T, D): each head gets its own D = C / H channels.

    Raises ValueError if C is not a multiple of `num_heads`.
    """
    batch_size, num_tokens, d_model = x.shape
    if num_heads < 1 or d_model % num_heads:
        raise ValueError(f"{d_model} channels cannot be split into {num_heads} equal heads")
    return x.view(batch_size, num_tokens, num_heads, -1).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """Return (B, H, T, D) as (B, T, C), the heads' channels side by side again."""
    return x.transpose(1, 2).flatten(2)


def fused_attention(q: Tensor, k: Tensor, v: Tensor, dropout: float = 0.0) -> Tensor:
    """Return what causal `attention` mixes, without ever storing the weights.

    q (B, H, Tq, D), k and v (B, H, Tk, D); the queries are the last Tq of the Tk tokens.
    `dropout` is the share of weights set to 0. Source: Dao et al. 2022 (FlashAttention).
    """
    num_queries, num_keys = q.size(-2), k.size(-2)
    square = num_queries == num_keys
    mask = None                                      # one query may look at every key
    if not square and num_queries > 1:
        mask = causal_mask(num_queries, num_keys, device=q.device)
    return F.scaled_dot_product_attention(q, k, v, mask, dropout, is_causal=square)


class MultiHeadAttention(nn.Module):
    """Causal attention of `num_heads` heads, (B, T, C) -> (B, T, C).

    Dropout falls on the weights and on the result, as in GPT-2. With a `cache`, x holds
    only the new tokens of layer number `layer`. Raises ValueError if C % H is not 0.
    """

    def __init__(self, d_model: int, num_heads: int, dropout: float = 0.1) -> None:
        super().__init__()
        if num_heads < 1 or d_model % num_heads:
            raise ValueError(f"d_model {d_model} is not a multiple of num_heads {num_heads}")
        self.num_heads = num_heads
        self.qkv_proj = nn.Linear(d_model, 3 * d_model)
        self.out_proj = nn.Linear(d_model, d_model)
        self.dropout = nn.Dropout(dropout)

    def heads(self, x: Tensor) -> list[Tensor]:
        """Return queries, keys and values, each (B, H, T, D)."""
        return [split_heads(t, self.num_heads) for t in self.qkv_proj(x).chunk(3, dim=-1)]

    def forward(self, x: Tensor, cache: KVCache | None = None, layer: int = 0) -> Tensor:
        q, k, v = self.heads(x)
        if cache is not None:
            k, v = cache.append(layer, k, v)
        mixed = fused_attention(q, k, v, self.dropout.p if self.training else 0.0)
        return self.dropout(self.out_proj(merge_heads(mixed)))

    def weights(self, x: Tensor) -> Tensor:
        """Return the attention weights (B, H, T, T) that `forward` uses and never shows."""
        q, k, v = self.heads(x)
        return attention(q, k, v, causal_mask(x.size(1), device=x.device))[1]
