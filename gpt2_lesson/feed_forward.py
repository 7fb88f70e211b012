import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor


def gelu(x: Tensor) -> Tensor:
    """Return 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), GPT-2's form of x Phi(x).

    Any shape. Source: Hendrycks and Gimpel 2016, section 2.
    """
    return F.gelu(x, approximate="tanh")


class FeedForward(nn.Module):
    """Widen, bend, narrow: the same small network at every position, (B, T, C) -> (B, T, C).

    `d_ff` is the width between; `dropout` falls on the result.
    """

    def __init__(self, d_model: int, d_ff: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.up_proj = nn.Linear(d_model, d_ff)
        self.down_proj = nn.Linear(d_ff, d_model)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        hidden = gelu(self.up_proj(x))                           # (B, T, F)
        return self.dropout(self.down_proj(hidden))              # (B, T, C)
