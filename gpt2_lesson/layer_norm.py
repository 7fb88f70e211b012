import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from gpt2_lesson.causal_masking import KVCache
from gpt2_lesson.feed_forward import FeedForward
from gpt2_lesson.multi_head import MultiHeadAttention


class LayerNorm(nn.Module):
    """Shift and scale each token's channels to mean 0 and variance 1, then by `weight`, `bias`.

    Any shape (..., C). `eps` keeps a constant row from dividing by 0.
    Source: Ba, Kiros and Hinton 2016, equation 4.
    """

    def __init__(self, d_model: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(d_model))
        self.bias = nn.Parameter(torch.zeros(d_model))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)


class TransformerBlock(nn.Module):
    """One layer of GPT-2, (B, T, C) -> (B, T, C): two branches, each added to the stream.

    Pre-norm: a branch reads a normed copy of the stream, and the stream itself is only
    ever added to. `cache` and `layer` go to the attention.
    Source: Radford et al. 2019, section 2.3.
    """

    def __init__(self, d_model: int, num_heads: int, d_ff: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.ln_attn = LayerNorm(d_model)
        self.attn = MultiHeadAttention(d_model, num_heads, dropout)
        self.ln_mlp = LayerNorm(d_model)
        self.mlp = FeedForward(d_model, d_ff, dropout)

    def forward(self, x: Tensor, cache: KVCache | None = None, layer: int = 0) -> Tensor:
        x = x + self.attn(self.ln_attn(x), cache, layer)
        return x + self.mlp(self.ln_mlp(x))
