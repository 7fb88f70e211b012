import difflib
import math
from dataclasses import asdict, dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from gpt2_lesson.causal_masking import KVCache
from gpt2_lesson.generation import check_input_ids, generate
from gpt2_lesson.layer_norm import LayerNorm, TransformerBlock


@dataclass(frozen=True)
class GPT2Config:
    """The seven numbers that make a GPT-2; by default those of the small one.

    Raises TypeError or ValueError for a number that cannot be meant.
    """

    vocab_size: int = 50257
    d_model: int = 768
    num_heads: int = 12
    num_layers: int = 12
    max_seq_length: int = 1024
    d_ff: int = 3072
    dropout: float = 0.1

    def __post_init__(self) -> None:
        sizes = asdict(self)
        dropout = sizes.pop("dropout")
        for name, value in sizes.items():
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"{name} is {value!r}, expected a whole number")
            if value < 1:
                raise ValueError(f"{name} is {value}, expected 1 or more")
        if self.d_model % self.num_heads:
            raise ValueError(
                f"d_model {self.d_model} is not a multiple of num_heads {self.num_heads}"
            )
        if isinstance(dropout, bool) or not isinstance(dropout, (int, float)):
            raise TypeError(f"dropout is {dropout!r}, expected a number such as 0.1")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout is {dropout}, expected a share from 0 up to below 1")


GPT2_SIZES = {
    "gpt2": GPT2Config(),
    "gpt2-medium": GPT2Config(d_model=1024, num_heads=16, num_layers=24, d_ff=4096),
    "gpt2-large": GPT2Config(d_model=1280, num_heads=20, num_layers=36, d_ff=5120),
    "gpt2-xl": GPT2Config(d_model=1600, num_heads=25, num_layers=48, d_ff=6400),
}


@torch.no_grad()
def initialize(model: nn.Module, num_layers: int) -> None:
    """Draw GPT-2's first weights: std 0.02 (positions 0.01), biases 0, norms 1.

    The two projections that write into the stream get 0.02 / sqrt(2L), so that 2L additions
    leave its scale alone. Source: Radford et al. 2019, section 2.3, and OpenAI's code.
    """
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.zero_()
        elif name == "pos_emb.weight":
            parameter.normal_(std=0.01)
        elif name.endswith(("out_proj.weight", "down_proj.weight")):
            parameter.normal_(std=0.02 / math.sqrt(2 * num_layers))
        elif parameter.dim() == 2:
            parameter.normal_(std=0.02)


class GPT2Model(nn.Module):
    """GPT-2: token ids (B, T) -> logits (B, T, V) for the next token at every position.

    `cache` (from `new_cache`) holds what earlier calls computed; input_ids are then only the
    new tokens. Raises TypeError, ValueError or IndexError, in words, for ids that do not fit.
    Source: Radford et al. 2019.
    """

    def __init__(
        self, vocab_size: int, d_model: int, num_heads: int, num_layers: int,
        max_seq_length: int, d_ff: int, dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.config = GPT2Config(
            vocab_size, d_model, num_heads, num_layers, max_seq_length, d_ff, dropout
        )
        self.tok_emb = nn.Embedding(vocab_size, d_model)
        self.pos_emb = nn.Embedding(max_seq_length, d_model)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            TransformerBlock(d_model, num_heads, d_ff, dropout) for _ in range(num_layers)
        )
        self.ln_final = LayerNorm(d_model)
        initialize(self, num_layers)

    def forward(self, input_ids: Tensor, cache: KVCache | None = None) -> Tensor:
        start = 0 if cache is None else cache.length
        check_fits(input_ids, start, self.config, self.tok_emb.weight.device)
        positions = torch.arange(start, start + input_ids.size(1), device=input_ids.device)
        x = self.dropout(self.tok_emb(input_ids) + self.pos_emb(positions))    # (B, T, C)
        for layer, block in enumerate(self.blocks):
            x = block(x, cache, layer)                                         # (B, T, C)
        if cache is not None:
            cache.length += input_ids.size(1)
        return F.linear(self.ln_final(x), self.tok_emb.weight)                 # (B, T, V)

    @property
    def max_seq_length(self) -> int:
        """The number of tokens that the model can see at once."""
        return self.config.max_seq_length

    def new_cache(self, batch_size: int, max_length: int) -> KVCache:
        """Return an empty cache for `max_length` tokens, of this model's type and device."""
        table, config = self.tok_emb.weight, self.config
        head_dim = config.d_model // config.num_heads
        return KVCache(config.num_layers, batch_size, config.num_heads, max_length, head_dim,
                       table.dtype, table.device)

    def generate(self, input_ids, max_new_tokens, temperature=1.0, top_k=None):
        """Continue `input_ids` (B, T) by `max_new_tokens` tokens; see lesson 06's `generate`."""
        return generate(self, input_ids, max_new_tokens, temperature, top_k)


def check_fits(input_ids: Tensor, start: int, config: GPT2Config, device) -> None:
    check_input_ids(input_ids)
    if input_ids.device != device:
        raise ValueError(
            f"input_ids are on {input_ids.device}, the model is on {device}: "
            f"use input_ids.to({str(device)!r})"
        )
    if start + input_ids.size(1) > config.max_seq_length:
        raise ValueError(
            f"{start + input_ids.size(1)} tokens, but max_seq_length is "
            f"{config.max_seq_length}: crop the ids, or build a model with a longer one"
        )
    if input_ids.is_cpu and not torch.compiler.is_compiling():   # elsewhere it would wait
        for bad in input_ids[(input_ids < 0) | (input_ids >= config.vocab_size)][:1].tolist():
            row, column = (input_ids == bad).nonzero()[0].tolist()
            raise IndexError(
                f"token id {bad} at row {row}, position {column}: expected 0 to "
                f"{config.vocab_size - 1}, as vocab_size is {config.vocab_size}"
            )
