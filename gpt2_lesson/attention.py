import math

import torch
import torch.nn.functional as F
from torch import Tensor


def attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return the average of the values for each query, and the weights it used.

    q (..., Tq, D), k (..., Tk, D), v (..., Tk, Dv); `mask` (Tq, Tk) is True where a query
    may look. Returns mixed (..., Tq, Dv) and weights (..., Tq, Tk), whose rows add up to 1.
    Raises ValueError for shapes that do not fit, TypeError for a mask that is not boolean.
    Source: Vaswani et al. 2017, equation 1.
    """
    if q.size(-1) != k.size(-1) or k.size(-2) != v.size(-2):
        raise ValueError(
            f"q {tuple(q.shape)}, k {tuple(k.shape)}, v {tuple(v.shape)} do not fit: q and k "
            "need the same last size (D), k and v the same number of tokens (Tk)"
        )
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))     # (..., Tq, Tk)
    if mask is not None:
        if mask.dtype != torch.bool:
            raise TypeError(f"mask is {mask.dtype}, expected torch.bool: True = may look")
        scores = scores.masked_fill(~mask, -torch.inf)
    weights = scores.softmax(-1)                                 # (..., Tq, Tk)
    return weights @ v, weights
