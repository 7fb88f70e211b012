"""What `gpt2-lesson bench` compares with: a model of nanoGPT's design, transformers'.

The first is made of PyTorch's own layers as nanoGPT makes its own: fused attention, erf
GELU, no cache, so each new token is computed from the whole text so far.
"""

from typing import TYPE_CHECKING

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from gpt2_lesson.gpt2_model import GPT2Config

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel


class PlainBlock(nn.Module):
    """A pre-norm block of `nn.LayerNorm`, `nn.Linear` and `nn.GELU`."""

    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.to_qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        rows, length, width = x.shape
        qkv = self.to_qkv(self.norms[0](x)).view(rows, length, 3, self.heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(rows, length, width))
        return x + self.mlp(self.norms[1](x))


class PlainGPT(nn.Module):
    """Token ids (B, T) -> logits (B, T, V), tied head, drawn like GPT-2's."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.table = nn.Embedding(config.vocab_size, config.d_model)
        self.places = nn.Embedding(config.max_seq_length, config.d_model)
        self.blocks = nn.Sequential(
            *[
                PlainBlock(config.d_model, config.num_heads, config.d_ff)
                for _ in range(config.num_layers)
            ]
        )
        self.norm = nn.LayerNorm(config.d_model)
        for parameter in self.parameters():
            if parameter.dim() == 2:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, ids: Tensor, last_only: bool = False) -> Tensor:
        x = self.table(ids) + self.places.weight[: ids.size(1)]
        x = self.norm(self.blocks(x))
        return F.linear(x[:, -1:] if last_only else x, self.table.weight)

    @torch.no_grad()
    def write(self, ids: Tensor, new_tokens: int) -> Tensor:
        """Return `ids` (B, T) continued greedily."""
        self.eval()
        for _ in range(new_tokens):
            ids = torch.cat([ids, self(ids, last_only=True)[:, -1:].argmax(-1)], dim=1)
        return ids


def transformers_model(config: GPT2Config) -> "GPT2LMHeadModel | None":
    """Return transformers' GPT-2 of the same sizes, or None, and say so, without it."""
    try:
        from transformers import GPT2Config as TheirConfig
        from transformers import GPT2LMHeadModel, logging
    except ImportError:
        print("transformers is not installed: no comparison with it")
        return None
    logging.set_verbosity_error()
    last = config.vocab_size - 1
    return GPT2LMHeadModel(
        TheirConfig(
            vocab_size=config.vocab_size,
            n_embd=config.d_model,
            n_head=config.num_heads,
            n_layer=config.num_layers,
            n_positions=config.max_seq_length,
            n_inner=config.d_ff,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            bos_token_id=last,
            eos_token_id=last,
            loss_type="ForCausalLM",
        )
    )


def transformers_text(
    model: "GPT2LMHeadModel", prompt: Tensor, new_tokens: int
) -> Tensor:
    """Return the greedy continuation by transformers' model, of just as many tokens."""
    model.eval()
    return model.generate(
        prompt,
        max_new_tokens=new_tokens,
        min_new_tokens=new_tokens,
        do_sample=False,
        attention_mask=torch.ones_like(prompt),
    )
