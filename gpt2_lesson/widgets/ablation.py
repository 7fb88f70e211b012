"""Each head ablated in turn: what the next token's probability becomes without it."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from gpt2_lesson import plots, validation
from gpt2_lesson.generation import evaluating
from gpt2_lesson.gpt2_model import GPT2Model
from gpt2_lesson.looking_inside import ablate_heads, inputs_of
from gpt2_lesson.widgets.capture import blocks_of, byte_name
from gpt2_lesson.widgets.figure import Figure
from gpt2_lesson.widgets.packing import pack_fractions
from gpt2_lesson.widgets.sampling import named

TOP_K = 5  # tokens shown before, and after, each ablation


def ablate_each(model: GPT2Model, input_ids: Tensor) -> tuple[Tensor, Tensor]:
    """Return ln p of the next token, (V,) whole and (L, H, V) without each head.

    `input_ids` is one row (1, T) or (T,); the next token is the one after its last.
    `without[l, h] - before` is what ablating head h of layer l changes, in nats. Raises
    ValueError for several rows, and what the model raises.
    """
    validation.gpt2_model(model)
    input_ids = _one_row(input_ids)
    config = model.config
    before = _log_probs(model, input_ids)
    heads = [
        (layer, head)
        for layer in range(config.num_layers)
        for head in range(config.num_heads)
    ]
    without = []
    for head in tqdm(heads, "without each head", unit="head", leave=False):
        with ablate_heads(model, [head]):
            without.append(_log_probs(model, input_ids))
    return before, torch.stack(without).unflatten(0, (config.num_layers, -1))


def ablation(
    model: GPT2Model,
    input_ids: Tensor,
    target: int | Sequence[int],
    names: Sequence[str] | None = None,
    baseline: int | Sequence[int] | None = None,
    alt: str | None = None,
    *,
    weights: bool = True,
    watch: Mapping[str, Sequence[int]] | None = None,
    computed: tuple[Tensor, Tensor] | None = None,
) -> Figure:
    """Show for every head what the probability of `target` becomes without it.

    Parameters
    ----------
    model, input_ids
        The model, and one row of ids (1, T) or (T,).
    target
        The id of a next token, or several: then one of them.
    names
        The names of all V tokens; None means bytes for V = 256, else numbers.
    baseline
        An id or several: the ratio of target to baseline is shown instead; None means
        the probability itself.
    alt
        The text alternative; None means a sentence about the head that changes most.
    weights
        Whether to set the change beside the weights with which the last token attends
        back.
    watch
        Named positions of the text whose weights are added up, such as the letters of a
        name: {"Nora": range(28, 32)}. The figure opens with the first; None means none.
    computed
        What `ablate_each` returned, to save the time; None computes it.

    Raises
    ------
    TypeError, ValueError, IndexError
        For invalid ids or positions, and what the model raises.
    FloatingPointError
        For a model whose probabilities are NaN.
    """
    validation.gpt2_model(model)
    input_ids = _one_row(input_ids)
    size = model.config.vocab_size
    wanted = _ids(target, size, "target")
    against = [] if baseline is None else _ids(baseline, size, "baseline")
    if set(wanted) & set(against):
        raise ValueError(f"baseline {against} holds a target of {wanted}")
    if names is None and size == 256:
        names = [byte_name(i) for i in range(256)]
    names = named(names, size)
    watch = {} if watch is None else validation.mapping("watch", watch)
    groups = _groups(watch, input_ids.size(-1), weights)
    if computed is None:
        computed = ablate_each(model, input_ids)
    before, without = _pair(computed)
    _check_computed(before, without, model)
    was, now = (_measured(probs, wanted, against) for probs in (before, without))
    state = {
        "layers": len(without),
        "heads": without.size(1),
        "target": [names[i] for i in wanted],
        "baseline": [names[i] for i in against],
        "tokens": [names[i] for i in input_ids[0].tolist()],
        "was": _digits(was),
        "now": [[_digits(x) for x in row] for row in now],
        **_bars(before, without, wanted + against, names),
        "weights": _last_weights(model, input_ids) if weights else None,
        "watch": groups,
    }
    alt = alt or _point(was, now, wanted, against, names)
    rows = 36 * len(without)
    return Figure(
        "ablation",
        state,
        _picture(now - was, wanted, against, names, alt),
        alt,
        height=rows + 500,
    )


def _one_row(input_ids: Tensor) -> Tensor:
    if isinstance(input_ids, Tensor) and input_ids.dim() == 1:
        input_ids = input_ids[None]
    validation.input_ids(input_ids)
    if len(input_ids) > 1:
        raise ValueError(
            f"input_ids has {len(input_ids)} rows, expected one: input_ids[:1]"
        )
    return input_ids


def _log_probs(model: GPT2Model, input_ids: Tensor) -> Tensor:
    with evaluating(model):
        logits = model(input_ids)
    validation.model_output(model, logits)
    return logits[0, -1].float().log_softmax(-1).cpu()


def _ids(given: Any, size: int, what: str) -> list[int]:
    """Return a list of ids. Raises TypeError, ValueError or IndexError."""
    ids = given.tolist() if isinstance(given, Tensor) else given
    ids = [ids] if isinstance(ids, int) else ids
    right = isinstance(ids, list | tuple) and all(
        isinstance(i, int) and not isinstance(i, bool) for i in ids
    )
    if not right:
        raise TypeError(
            f"{what} is {given!r}, expected a token id or a list of them: encode the "
            "text first"
        )
    if not ids or len(set(ids)) < len(ids):
        raise ValueError(f"{what} is {given!r}, expected one id or more, each once")
    for i in ids:
        if not 0 <= i < size:
            raise IndexError(f"{what}: token id {i}, expected 0 to {size - 1}")
    return list(ids)


def _groups(
    watch: Mapping[str, Sequence[int]], size: int, weights: bool
) -> list[tuple[str, list[int]]]:
    """Return (name, positions) of each. Raises ValueError or IndexError."""
    if watch and not weights:
        raise ValueError("watch needs weights, but weights is False")
    groups = [
        (
            str(name),
            [
                validation.whole_number(f"a position of watch[{name!r}]", i)
                for i in validation.names(f"watch[{name!r}]", places)
            ],
        )
        for name, places in watch.items()
    ]
    for name, places in groups:
        if not places or len(set(places)) < len(places):
            raise ValueError(
                f"watch[{name!r}] is {places}, expected one or more "
                "positions, each once"
            )
        if min(places) < 0 or max(places) >= size:
            raise IndexError(
                f"watch[{name!r}] is {places}, expected positions from 0 to {size - 1}"
            )
    return groups


def _pair(computed: Any) -> tuple[Tensor, Tensor]:
    pair = validation.names("computed", computed)
    if len(pair) != 2 or not all(isinstance(part, Tensor) for part in pair):
        raise TypeError("computed is not what ablate_each returns, two tensors")
    return pair[0], pair[1]


def _check_computed(before: Tensor, without: Tensor, model: GPT2Model) -> None:
    config = model.config
    expected = (config.num_layers, config.num_heads, config.vocab_size)
    if without.shape != expected or before.shape != expected[2:]:
        raise ValueError(
            f"computed has the shapes {tuple(before.shape)}, {tuple(without.shape)}, "
            f"expected {expected[2:]}, {expected}: what ablate_each gives for this "
            "model"
        )
    if before.isnan().any() or without.isnan().any():
        raise FloatingPointError(
            "the model's probabilities hold NaN: nothing can be compared"
        )


def _measured(log_probs: Tensor, wanted: list[int], against: list[int]) -> Tensor:
    """Return ln p (...) of any of `wanted`, less those of `against`, of (..., V)."""
    measure = log_probs[..., wanted].logsumexp(-1)
    return measure - log_probs[..., against].logsumexp(-1) if against else measure


def _bars(before: Tensor, without: Tensor, always: list[int], names: list[str]) -> dict:
    """Return each head's tokens to be shown, as places in "names", with their
    probabilities."""
    top = before.topk(min(TOP_K, len(before))).indices.tolist()
    shown, after = [], []
    for log_probs in without.flatten(0, 1):
        now = log_probs.topk(min(TOP_K, len(before))).indices.tolist()
        ids = list(dict.fromkeys([*always[:TOP_K], *top, *now]))[: 2 * TOP_K]
        shown.append(ids)
        after.append([_digits(x) for x in log_probs[ids].exp()])
    used = sorted({i for ids in shown for i in ids})
    index = {i: at for at, i in enumerate(used)}
    return {
        "names": [names[i] for i in used],
        "before": [_digits(x) for x in before[used].exp()],
        "shown": [[index[i] for i in ids] for ids in shown],
        "after": after,
        "always": [index[i] for i in always[:TOP_K]],
    }


def _last_weights(model: GPT2Model, input_ids: Tensor) -> str:
    """Return the last query's attention (L, H, T), packed."""
    attentions = [block.attn for block in blocks_of(model)]
    given = inputs_of(attentions, model, input_ids)
    with torch.no_grad():
        rows = [
            attn.weights(x)[0, :, -1].float().cpu()
            for attn, x in zip(attentions, given, strict=True)
        ]
    return pack_fractions(torch.stack(rows).numpy())


def _digits(value: Tensor) -> float:
    """Return a number in six digits; minus infinity, which JSON lacks, as -1000."""
    return float(f"{max(float(value), -1000.0):.6g}")


def _quoted(ids: list[int], names: list[str]) -> str:
    return " or ".join(f"'{plots.short_name(names[i], 14)}'" for i in ids)


def _measure_name(wanted: list[int], against: list[int], names: list[str]) -> str:
    versus = f" against {_quoted(against, names)}" if against else ""
    return f"{_quoted(wanted, names)}{versus}"


def _point(
    was: Tensor, now: Tensor, wanted: list[int], against: list[int], names: list[str]
) -> str:
    """Return what the picture says, in a sentence."""
    change = now - was
    layer, head = divmod(int(change.abs().argmax()), change.size(1))
    small = int((change.abs() < 0.1).sum())
    probs = "" if against else f", from {was.exp():.2g} to {now[layer, head].exp():.2g}"
    return (
        f"The probability of {_measure_name(wanted, against, names)} as the next token "
        f"changes most without layer {layer} head {head}{probs} "
        f"({change[layer, head]:+.2f} nats); {small} of {change.numel()} heads change "
        "its logarithm by less than 0.1 nats."
    )


def _picture(
    change: Tensor, wanted: list[int], against: list[int], names: list[str], alt: str
) -> bytes:
    change = torch.where(change.abs() < 0.005, 0.0, change)  # no "-0.00"
    return plots.as_png(
        plots.show_matrix,
        change,
        alt=alt,
        rows=[f"layer {i}" for i in range(len(change))],
        columns=[str(i) for i in range(change.size(1))],
        xlabel="ablated head",
        title=f"change in {'ln of the ratio' if against else 'ln p'} of "
        f"{_measure_name(wanted, against, names)}, nats",
    )
