"""What a model computed for one text, as plain numbers: the data of the figures."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor

from gpt2_lesson import validation
from gpt2_lesson.attention import attention
from gpt2_lesson.causal_masking import causal_mask
from gpt2_lesson.gpt2_model import GPT2Model
from gpt2_lesson.layer_norm import TransformerBlock
from gpt2_lesson.looking_inside import inputs_of, logit_lens

MOST_BYTES = 512 * 2**20  # of weights in memory
LENS = 8  # most probable tokens kept of each early answer


@dataclass(frozen=True)
class Record:
    """One text's way through a model, in NumPy arrays; T tokens, L layers, H heads.

    `layers` and `heads` number the rows of the next three. `weights` (L, H, T, T): the
    attention; `totals` (L, H, T): ln of each row's sum of exp(score), so a score is
    ln(weight) + total; `sizes` (L, H, T): the norm of each token's value after the
    output projection, so weight x size is what reaches the residual stream.
    `logits` (T, V); `lens_ids` and `lens_probs` (all layers + 1, T, 8): the most
    probable next tokens if the model stopped there; `lens_next` (all layers + 1, T):
    the probability of the token that came next, and at the end of the text of the
    model's own most probable one; `stream`, `from_attention`, `from_mlp` (all layers,
    T): norms of the residual stream before a layer, and of what its two branches add.
    `vocabulary` names all V tokens, or is empty.
    """

    tokens: list[str]
    input_ids: np.ndarray
    layers: list[int]
    heads: list[int]
    weights: np.ndarray
    totals: np.ndarray
    sizes: np.ndarray
    logits: np.ndarray
    lens_ids: np.ndarray
    lens_probs: np.ndarray
    stream: np.ndarray
    from_attention: np.ndarray
    from_mlp: np.ndarray
    vocabulary: list[str]
    lens_next: np.ndarray

    @property
    def num_tokens(self) -> int:
        """Return T."""
        return len(self.tokens)

    def name(self, token_id: int) -> str:
        """Return the text of a token id, or the id itself where no text is known."""
        return self.vocabulary[token_id] if self.vocabulary else str(token_id)


def capture(
    model: GPT2Model,
    input_ids: Tensor,
    tokens: Sequence[str] | None = None,
    *,
    layers: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
    vocabulary: Sequence[str] | None = None,
) -> Record:
    """Return what `model` does with one row of ids (1, T) or (T,), in eval mode.

    The model is left as it was, even after an error of its own, which is passed on.

    Parameters
    ----------
    model, input_ids
        A GPT2Model, and ids for it.
    tokens
        The names of the T tokens; None means those in `vocabulary`.
    vocabulary
        The names of all V tokens; None means bytes for V = 256, else numbers.
    layers, heads
        Whose attention is kept; None means all.

    Raises
    ------
    ValueError
        For names that do not fit, for a layer or head that is not there or is named
        twice, and when the weights would take more than 512 MB.
    TypeError
        For a layer or head that is not a whole number, or an object that is not a
        model.
    """
    validation.gpt2_model(model)
    if isinstance(input_ids, Tensor) and input_ids.dim() == 1:
        input_ids = input_ids[None]
    config = model.config
    layers = _choose(layers, config.num_layers, "layers")
    heads = _choose(heads, config.num_heads, "heads")
    blocks = blocks_of(model)
    attentions = [block.attn for block in blocks]
    branches = [module for block in blocks for module in (block.attn, block.ln_mlp)]
    given = inputs_of([*branches, *blocks, model.ln_final], model, input_ids)
    if input_ids.size(0) != 1:
        raise ValueError(
            f"input_ids has {input_ids.size(0)} rows, expected one: input_ids[:1]"
        )
    num_tokens = input_ids.size(1)
    wanted = 4 * len(layers) * len(heads) * num_tokens**2
    if wanted > MOST_BYTES:
        raise ValueError(
            f"the weights of {plural(len(layers), 'layer')} x "
            f"{plural(len(heads), 'head')} on {plural(num_tokens, 'token')} take "
            f"{wanted / 2**20:.0f} MB, the most is {MOST_BYTES / 2**20:.0f}: "
            "choose some with layers=[...], heads=[...]"
        )
    vocabulary = _vocabulary(vocabulary, config.vocab_size)
    tokens = _tokens(tokens, input_ids[0].tolist(), vocabulary)
    stream = [x[0] for x in given[len(branches) :]]  # L + 1 of (T, C)
    middle = given[1 : len(branches) : 2]  # what ln_mlp reads, the stream halfway
    with torch.no_grad():
        maps = [_maps(attentions[layer], given[2 * layer], heads) for layer in layers]
    lens = logit_lens(model, input_ids)[:, 0].float()  # (L + 1, T, V)
    top = lens.topk(min(LENS, config.vocab_size))
    sums = lens.logsumexp(-1, keepdim=True)  # probabilities are exp(logit - sum)
    weights, totals, sizes = (_stacked(parts) for parts in zip(*maps, strict=True))
    return Record(
        tokens=tokens,
        input_ids=input_ids[0].cpu().numpy(),
        layers=layers,
        heads=heads,
        weights=weights,
        totals=totals,
        sizes=sizes,
        logits=_numbers(lens[-1]),
        lens_ids=top.indices.cpu().numpy(),
        lens_probs=_numbers((top.values - sums).exp()),
        stream=_stacked([x.norm(dim=-1) for x in stream[:-1]]),
        from_attention=_stacked(
            [(y[0] - x).norm(dim=-1) for x, y in zip(stream, middle, strict=False)]
        ),
        from_mlp=_stacked(
            [(x - y[0]).norm(dim=-1) for x, y in zip(stream[1:], middle, strict=True)]
        ),
        vocabulary=vocabulary,
        lens_next=_numbers((_next_logits(lens, input_ids[0]) - sums).exp()[..., 0]),
    )


def blocks_of(model: GPT2Model) -> list[TransformerBlock]:
    """Return a model's blocks, which PyTorch's list knows as modules only."""
    return [cast(TransformerBlock, block) for block in model.blocks]


def _next_logits(lens: Tensor, ids: Tensor) -> Tensor:
    """Return each layer's logit (L + 1, T, 1) of the token that came next.

    After the last token nothing came: there it is the model's own most probable one.
    """
    followed = torch.cat([ids[1:].long(), lens[-1, -1:].argmax(-1)])  # (T,)
    places = followed[None, :, None].expand(len(lens), -1, 1)
    return lens.gather(-1, places)


def _maps(module, x: Tensor, heads: list[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Return weights (H, T, T), totals (H, T) and value sizes (H, T) of one layer."""
    q, k, v = (t[0, heads] for t in module.heads(x))  # (H, T, D) each
    mask = causal_mask(x.size(1), device=x.device)
    weights = attention(q, k, v, mask)[1]
    scores = q @ k.mT / q.size(-1) ** 0.5
    totals = scores.masked_fill(~mask, -torch.inf).logsumexp(-1)
    out = module.out_proj.weight.unflatten(1, (module.num_heads, -1))  # (C, H, D)
    sizes = torch.einsum("htd,chd->htc", v, out[:, heads]).norm(dim=-1)
    return weights, totals, sizes


def _choose(chosen: Sequence[int] | None, count: int, what: str) -> list[int]:
    if chosen is None:
        return list(range(count))
    chosen = [
        validation.whole_number(f"one of {what}", i)
        for i in validation.names(what, chosen)
    ]
    if (
        not chosen
        or len(set(chosen)) < len(chosen)
        or not (0 <= min(chosen) <= max(chosen) < count)
    ):
        raise ValueError(
            f"{what} is {chosen}, expected some of 0 to {count - 1}, each once"
        )
    return chosen


def _vocabulary(names: Sequence[str] | None, vocab_size: int) -> list[str]:
    if names is None:
        return [byte_name(i) for i in range(256)] if vocab_size == 256 else []
    names = validation.names("vocabulary", names)
    if len(names) != vocab_size:
        raise ValueError(f"vocabulary names {len(names)} tokens of {vocab_size}")
    return names


def _tokens(
    names: Sequence[str] | None, ids: list[int], vocabulary: list[str]
) -> list[str]:
    if names is None:
        return [vocabulary[i] if vocabulary else str(i) for i in ids]
    if not isinstance(names, str):
        names = validation.names("tokens", names)
    if isinstance(names, str) or len(names) != len(ids):
        raise ValueError(
            f"tokens is {'a text' if isinstance(names, str) else 'a list'} of "
            f"{len(names)}, expected a list of {len(ids)} names, one for each token id"
        )
    return [str(name) for name in names]


def check_finite(what: str, *numbers: np.ndarray) -> None:
    """Raise ValueError where `what` holds a number that no figure can show."""
    if not all(np.isfinite(x).all() for x in numbers):
        raise ValueError(
            f"{what} holds NaN or infinity, which no figure can show: "
            "look for where they enter the model"
        )


def plural(count: int, word: str) -> str:
    """Return a count with its word: "1 token", "2 tokens"."""
    return f"{count} {word}{'' if count == 1 else 's'}"


def byte_name(byte: int) -> str:
    """Return the character of a byte up to 127, else its number, as in <0xe9>."""
    return chr(byte) if byte < 128 else f"<0x{byte:02x}>"


def _numbers(values: Tensor) -> np.ndarray:
    return values.detach().float().cpu().numpy()


def _stacked(parts: Sequence[Tensor]) -> np.ndarray:
    return np.stack([_numbers(part) for part in parts])
