import torch
from torch import Tensor


def causal_mask(
    num_queries: int, num_keys: int | None = None, device: torch.device | str | None = None
) -> Tensor:
    """Return the mask that lets each query look at its own token and at earlier ones.

    The result (Tq, Tk) is boolean, True = may look. The queries are the *last* `num_queries`
    of the `num_keys` tokens (all of them by default), so the corner at the bottom right is True.
    Raises ValueError if there are more queries than keys, or none.
    """
    num_keys = num_queries if num_keys is None else num_keys
    if not 1 <= num_queries <= num_keys:
        raise ValueError(
            f"{num_queries} queries for {num_keys} keys: expected 1 <= num_queries <= "
            "num_keys, since every query is also one of the tokens that can be looked at"
        )
    key = torch.arange(num_keys, device=device)                  # (Tk,)
    query = key[num_keys - num_queries :, None]                  # (Tq, 1)
    return key <= query                                          # (Tq, Tk)


class KVCache:
    """Keep the keys and values of all layers, in storage allocated once.

    `keys` and `values` have the shape (L, B, H, max_length, D); the first `length` tokens
    of each are filled. `append` in every layer, then add the new tokens to `length`.
    """

    def __init__(
        self, num_layers: int, batch_size: int, num_heads: int, max_length: int, head_dim: int,
        dtype: torch.dtype | None = None, device: torch.device | str | None = None,
    ) -> None:
        shape = (num_layers, batch_size, num_heads, max_length, head_dim)
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros(shape, dtype=dtype, device=device)
        self.length = 0

    def append(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Store `k` and `v` (B, H, T, D) of T new tokens; return all of them so far.

        Raises ValueError when the storage is full or the shapes do not fit.
        """
        end = self.length + k.size(-2)
        if end > self.keys.size(-2):
            raise ValueError(
                f"the cache holds {self.length} of at most {self.keys.size(-2)} tokens, so "
                f"{k.size(-2)} more do not fit: make a longer cache, or start a new one"
            )
        self.keys[layer, ..., self.length : end, :] = k
        self.values[layer, ..., self.length : end, :] = v
        return self.keys[layer, ..., :end, :], self.values[layer, ..., :end, :]
