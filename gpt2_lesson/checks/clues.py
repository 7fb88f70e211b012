"""What can be measured about a wrong function when no mistake has its behaviour.

Every clue is a fact about what the function did; none guesses a cause.
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import is_dataclass, replace
from typing import Any

import torch
from torch import Tensor

from gpt2_lesson.checks.compare import equal, gap, shown, tensors
from gpt2_lesson.checks.exercise import Clue, Exercise, RunProbe
from gpt2_lesson.checks.probing import (
    Observation,
    Probe,
    article,
    call,
    gradients,
    observe,
)
from gpt2_lesson.checks.settings import settings

_CRASHES = (
    (
        r"mat1 and mat2|size of tensor a|batch2 tensor|must match the size|"
        r"inconsistent tensor size",
        "two shapes do not fit: write the shape behind each line, and see which axis "
        "should be transposed or kept (keepdim=True)",
    ),
    (
        r"shape '.*' is invalid for input",
        "view and reshape must keep the number of "
        "entries: multiply the sizes on both sides",
    ),
    (
        r"Dimension out of range",
        "this tensor does not have the axis that you name: count from the end, dim=-1 "
        "is the last",
    ),
    (
        r"view size is not compatible",
        "after a transpose use reshape, or .contiguous().view",
    ),
    (
        r"(positional argument|unexpected keyword).* \| $",
        "the check passes the "
        "arguments by position, in the order in which the exercise names them",
    ),
    (
        r"only one element tensors|can be converted to (a )?(Python )?scalar",
        "a "
        "function of `math` takes one number; torch has the same one for tensors "
        "(torch.tanh, ...)",
    ),
    (
        r"IndexError: (list|tuple|string|bytes|pop)",
        "a list or a string is empty, or has no such index: print its length (the last "
        "index is one less), and the index",
    ),
    (
        r"index out of range|out of bounds",
        "an index is as large as the axis, or "
        "larger: print the largest index and the size",
    ),
    (
        r"name '(\w+)' is not defined",
        "a name is used that was never defined: is it a typo, or a cell that was not "
        "run?",
    ),
    (
        r"a leaf Variable that requires grad|modified by an inplace",
        "a tensor is "
        "changed in place (+=, [...] =, a method ending in _): build a new one",
    ),
    (
        r"boolean|Boolean|bool",
        "a mask may need another type: True/False for masked_fill, numbers for adding",
    ),
)


def crash(exercise: Exercise, probe: Probe, seen: Observation) -> list[str]:
    """Return what to say about a crash: which shapes came, what commonly causes it."""
    lines = [
        f'crashed on "{probe.name}"',
        f"{seen.error}: {seen.message}".removesuffix(": "),
    ]
    if seen.where:
        lines.append(seen.where)
    if settings.mode == "exam":
        return lines  # what happened, and no advice
    lines += [
        hint
        for pattern, hint in (*exercise.crashes, *_CRASHES)
        if re.search(pattern, f"{seen.error}: {seen.message} | {seen.where}")
    ][:1]
    return lines


def inputs(exercise: Exercise, probe: Probe) -> tuple[str, bool]:
    """Return a probe's input in short, and whether it is all there.

    Plain data and small tensors are written out, larger tensors by their shape. The
    names are those of the function's arguments where a probe is passed on as it is.
    """
    names = exercise.arguments
    direct = probe.adapter.__module__.rpartition(".")[2] in ("probing", "adapters")
    if not direct or len(names) != len(probe.args):
        names = [""] * len(probe.args)
    found = [_literal(arg) for arg in probe.args]
    texts = [
        f"{name}{' = ' if whole or text[:1] != '(' else ' '}{text}" if name else text
        for name, (text, whole) in zip(names, found, strict=True)
    ]
    return ", ".join(texts), all(whole for _, whole in found)


def _literal(arg: object) -> tuple[str, bool]:
    """Return a short text for `arg`, and whether all of it is there."""
    if isinstance(arg, Tensor):
        if (
            arg.numel() > 12
            or arg.is_floating_point()
            and not torch.equal(arg, arg.round(decimals=4))
        ):
            return str(tuple(arg.shape)), False
        return shown(arg, 160), True
    if isinstance(arg, list | tuple) and any(
        isinstance(part, Tensor | list | tuple) for part in arg
    ):
        parts = [_literal(part) for part in arg[:6]]
        texts = [
            f"tensor {text}" if isinstance(part, Tensor) and not whole else text
            for part, (text, whole) in zip(arg, parts, strict=False)
        ]
        texts += ["..."] * (len(arg) > 6)
        return f"[{', '.join(texts)}]", len(arg) <= 6 and all(one for _, one in parts)
    if isinstance(arg, type) or not (
        is_dataclass(arg)
        or isinstance(arg, int | float | str | bytes | list | tuple | dict | None)
    ):
        return f"<{type(arg).__name__}>", False
    text = shown(arg, 120)
    return text, not text.endswith("...")


def wrong_type(value: object, wanted: object, contract: str = "") -> list[str]:
    """Return what to say about None, a tuple, a number where a tensor is wanted.

    `contract` says what is expected; without it the type of `wanted` does.
    """
    if value is None:
        return ["it returns None: is there a `return` at the end?"]
    if isinstance(value, str) and value.startswith("not "):  # an adapter says so
        return [f"it returns {value}"]
    text = f"it returns {_named(value)}, expected {contract or _named(wanted)}"
    if isinstance(value, tuple) and isinstance(wanted, Tensor):
        text += ": return the result alone"
    if isinstance(value, Tensor) and isinstance(wanted, float | int):
        text += ": .item() turns a tensor of one number into a number"
    return [text]


def _named(value: object) -> str:
    if isinstance(value, Tensor):
        return f"a tensor {tuple(value.shape)} of {value.dtype}"
    if isinstance(value, list | tuple):
        return f"a {type(value).__name__} of {len(value)}"
    if isinstance(value, int | float | str | dict):
        return f"the {type(value).__name__} {shown(value)}"
    if isinstance(value, bytes):
        return f"bytes, {shown(value)}"
    return article(value)


def wrong_shape(value: object, wanted: object, probe: Probe) -> list[str]:
    """Return what to say about a wrong shape or dtype; nothing if both are right."""
    if not isinstance(value, Tensor) or not isinstance(wanted, Tensor):
        return []
    if value.shape != wanted.shape:
        return [f"it returns {_shape(value, probe)}, expected {_shape(wanted, probe)}"]
    if value.is_floating_point() != wanted.is_floating_point():
        return [f"it returns numbers of {value.dtype}, expected {wanted.dtype}"]
    return []


def _shape(value: Tensor, probe: Probe) -> str:
    """Return a shape in numbers, and in letters where the sizes tell the axes apart."""
    letters = {size: name for name, size in probe.sizes.items()}
    shape = tuple(value.shape)
    if not shape:
        return "a tensor of one number, without axes"
    if (
        len(letters) < len(probe.sizes)
        or 1 in shape
        or not all(size in letters for size in shape)
    ):
        return str(shape)
    names = ", ".join(letters[size] for size in shape)
    return f"({names}{',' * (len(shape) == 1)}) = {shape}"


def difference(
    exercise: Exercise,
    probes: list[Probe],
    seen: list[Observation],
    expected: list[Observation],
    right: list[bool],
) -> list[str]:
    """Return how far off the values are, where, and what NaN commonly comes from."""
    lines = []
    kinds = {type(one.value) for one in expected}
    facts = (float, dict) if Tensor in kinds else ()  # beside tensors
    wrong = {type(b.value) for b, ok in zip(expected, right, strict=True) if not ok}
    gaps = [
        float("nan")
        if int in wrong or isinstance(b.value, facts)
        else gap(a.value, b.value)
        for a, b in zip(seen, expected, strict=True)
    ]
    largest = max((g for g in gaps if g == g), default=0.0)
    of_values = max(
        (
            g
            for g, probe in zip(gaps, probes, strict=True)
            if g == g and probe.adapter is not gradients
        ),
        default=0.0,
    )
    if of_values > exercise.atol:
        largest = of_values  # gradients are another matter
    good, bad = (
        [probe.name for probe, ok in zip(probes, right, strict=True) if ok is wanted]
        for wanted in (True, False)
    )
    if largest > exercise.atol and any(
        isinstance(one.value, Tensor | float) for one in expected
    ):
        size = f"{largest:,.0f}" if largest >= 100 else f"{largest:.2g}"
        lines.append(f"your result is off by up to {size}")
    if good and len(bad) < len(good):
        lines.append(f"wrong only on: {'; '.join(bad)}")
    elif good:
        lines.append(f"correct only on: {'; '.join(good)}")
    nan = any(part.isnan().any() for one in seen for part in tensors(one.value))
    if nan and not any(
        part.isnan().any() for one in expected for part in tensors(one.value)
    ):
        lines.append(
            "there is nan: it comes from 0/0, inf - inf, inf/inf, or from a "
            "softmax over a row that is -inf throughout"
        )
    return lines


def fingerprint(seen: list[Observation]) -> str:
    """Return a short text that changes when the behaviour changes."""
    text = "|".join(
        f"{one.error}{one.changed}{one.repeats}"
        + ",".join([*map(_rounded, tensors(one.value)), *_words(one.value)])
        for one in seen
    )
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16]


def _words(value: object) -> Iterator[str]:
    """Yield what is not a number inside plain data: texts, keys, True and False."""
    if isinstance(value, dict):
        yield from map(shown, value)
        value = [*value.values()]
    if isinstance(value, list | tuple):
        for part in value[:1000]:
            yield from _words(part)
    elif isinstance(value, bool) or not isinstance(value, int | float | Tensor):
        yield shown(value, 500)


def _rounded(part: Tensor) -> str:
    numbers = part.flatten()[:1000].double().round(decimals=4)
    return f"{tuple(part.shape)}{numbers.tolist()}"


# --- general clues, for any function of tensors ---------------------------------------


def general(
    exercise: Exercise,
    run: RunProbe,
    probes: list[Probe],
    seen: list[Observation],
    expected: list[Observation],
    right: list[bool],
    told: bool = False,
) -> list[Clue]:
    """Return what is true of a wrong function: arguments unread, leaks, factors.

    Where the differences lie is told only if there is nothing better, `told` included.
    """
    i = next(
        (
            i
            for i, ok in enumerate(right)
            if not ok and not seen[i].error and not expected[i].error
        ),
        None,
    )
    if i is None:
        return []
    mine, wanted = seen[i].value, expected[i].value
    pairs = [
        (a.value, b.value)
        for a, b, ok in zip(seen, expected, right, strict=True)
        if not ok
        and isinstance(a.value, Tensor)
        and isinstance(b.value, Tensor)
        and a.value.shape == b.value.shape
        and a.value.numel() > 1
        and _moved(a.value, b.value).any()
    ]
    found = list(_relation(pairs)) if pairs else []
    alike = (
        isinstance(mine, str)
        and isinstance(wanted, str)
        and (mine[:1] in ("", wanted[:1]))
    )
    if alike or isinstance(mine, list) and isinstance(wanted, list):
        found += list(_lists(list(mine), list(wanted), probes[i].name))
    if isinstance(mine, dict) and isinstance(wanted, dict) and has_keys(mine, wanted):
        found += list(_dicts(mine, wanted, probes[i].name))
    if isinstance(wanted, Tensor) and probes[i].adapter is call:
        found += list(_arguments_read(exercise, run, probes[i]))
        found += list(_spread(exercise, run, probes[i]))
    if pairs and not found and not told:
        found += list(_places(pairs))
    elif isinstance(mine, Tensor) and isinstance(wanted, Tensor):
        found += list(_axes_swapped(mine, wanted))
    return found


def _other(arg: Tensor, among: Any = ...) -> Tensor:
    """Return `arg` with other numbers in the part `among`, of the same kind."""
    changed = arg.clone()
    part = changed[among]
    if arg.is_floating_point():
        changed[among] = part * -0.7 + 0.9
    elif part.dim() and not torch.equal(part, part.flip(-1)):
        changed[among] = part.flip(-1)
    else:
        changed[among] = (part + 1) % (int(arg.max()) + 1)
    return changed


def _with(probe: Probe, k: int, arg: Tensor) -> Probe:
    return replace(probe, args=(*probe.args[:k], arg, *probe.args[k + 1 :]))


def _arguments_read(exercise: Exercise, run: RunProbe, probe: Probe) -> Iterator[Clue]:
    """Yield the arguments that the function never reads, though the right one does."""
    base = run(probe), observe(exercise.reference, probe)
    for k, (name, arg) in enumerate(zip(exercise.arguments, probe.args, strict=False)):
        if not isinstance(arg, Tensor):
            continue
        changed = _with(probe, k, _other(arg))
        now = run(changed), observe(exercise.reference, changed)
        if any(one.error for one in now) or now[1].value is None:
            continue
        if (
            not _moved(base[0].value, now[0].value).any()
            and _moved(base[1].value, now[1].value).any()
        ):
            yield Clue(
                f"unread {name}",
                f'on "{probe.name}" your result stays the '
                f"same when `{name}` changes, and the right one does not",
            )


def _moved(before: object, after: object) -> Tensor:
    """Return where two results differ; True for results that can't be compared."""
    if not (
        isinstance(before, Tensor)
        and isinstance(after, Tensor)
        and before.shape == after.shape
    ):
        return torch.tensor(True)
    return ~before.double().isclose(
        after.double(), rtol=1e-4, atol=1e-6, equal_nan=True
    )


def _spread(exercise: Exercise, run: RunProbe, probe: Probe) -> Iterator[Clue]:
    """Yield the axes along which a change travels where it should not, or should."""
    out_axes = exercise.axes.get("", "").split()
    base = run(probe).value, observe(exercise.reference, probe).value
    if not (
        isinstance(base[0], Tensor)
        and isinstance(base[1], Tensor)
        and base[0].shape == base[1].shape
        and base[1].dim() == len(out_axes)
    ):
        return
    for k, (name, arg) in enumerate(zip(exercise.arguments, probe.args, strict=False)):
        for axis, letter in enumerate(exercise.axes.get(name, "").split()):
            if (
                letter not in out_axes
                or not isinstance(arg, Tensor)
                or arg.dim() <= axis
                or arg.size(axis) < 2
            ):
                continue
            place = out_axes.index(letter)
            for index in (arg.size(axis) - 1, 0):
                among = (slice(None),) * axis + (index,)
                changed = _with(probe, k, _other(arg, among))
                now = run(changed).value, observe(exercise.reference, changed).value
                mine, right = (
                    [
                        j
                        for j in range(base[1].size(place))
                        if moved.dim() and moved.select(place, j).any()
                    ]
                    for moved in map(_moved, base, now)
                )
                clue = _travel(name, letter, index, mine, right, probe.name)
                if clue is not None:
                    yield clue
                    return


_AXES = {
    "B": "example",
    "T": "token",
    "Tq": "query",
    "Tk": "key",
    "C": "channel",
    "H": "head",
    "V": "vocabulary entry",
}


def _travel(
    name: str, letter: str, index: int, mine: list[int], right: list[int], probe: str
) -> Clue | None:
    """Return the clue for a change at `index` that moved `mine` instead of `right`."""
    word = _AXES.get(letter, f"index along {letter}")
    extra = sorted(set(mine) - set(right))
    missing = sorted(set(right) - set(mine))
    if extra:
        return Clue(
            f"leak {letter}",
            f'on "{probe}" changing {word} {index} of '
            f"`{name}` changes your result for {word} {_listed(extra)}, and "
            "the right one stays",
        )
    if missing:
        return Clue(
            f"deaf {letter}",
            f'on "{probe}" changing {word} {index} of '
            f"`{name}` leaves your result for {word} {_listed(missing)} as it "
            "is, and the right one changes",
        )
    return None


def _listed(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers[:6])) + (", ..." if len(numbers) > 6 else "")


def _relation(pairs: list[tuple[Tensor, Tensor]]) -> Iterator[Clue]:
    """Yield one relation between yours and the expected that holds on all pairs."""
    pairs = [(a.double(), b.double()) for a, b in pairs]
    if any(not a.isfinite().all() for a, _ in pairs):
        yield from _nan_places(pairs)
        return
    flat_a, flat_b = (torch.cat([pair[k].flatten() for pair in pairs]) for k in (0, 1))
    if flat_a.abs().max() < 1e-12:
        yield Clue("zero", "your result is 0 everywhere")
        return
    use = flat_b.abs() > 1e-3
    if use.any() and _constant(flat_a[use] / flat_b[use]):
        ratio = (flat_a[use] / flat_b[use]).median().item()
        yield Clue("factor", f"your result is {ratio:.4g} times the expected one")
        return
    if _constant(flat_a - flat_b):
        yield Clue(
            "offset",
            "your result is the expected one plus "
            f"{(flat_a - flat_b).median().item():.4g}",
        )
        return
    for key, text, change in _REARRANGED:
        if all(
            a.shape == (c := change(b)).shape and a.allclose(c, atol=1e-5, rtol=1e-4)
            for a, b in pairs
        ):
            yield Clue(key, text)
            return


def _constant(values: Tensor) -> bool:
    middle = values.median()
    return bool(((values - middle).abs() < 1e-4 * middle.abs().clamp(min=1e-2)).all())


_REARRANGED = (
    (
        "transposed",
        "your result is the expected one with its last two axes swapped",
        lambda b: b.transpose(-2, -1) if b.dim() > 1 else b,
    ),
    (
        "reversed",
        "your result is the expected one in reverse along the last axis",
        lambda b: b.flip(-1),
    ),
    (
        "reversed tokens",
        "your result is the expected one with the tokens in reverse",
        lambda b: b.flip(-2) if b.dim() > 1 else b,
    ),
    (
        "late",
        "your result at token t is the expected one of token t - 1",
        lambda b: b.roll(1, -2) if b.dim() > 1 else b,
    ),
    (
        "early",
        "your result at token t is the expected one of token t + 1",
        lambda b: b.roll(-1, -2) if b.dim() > 1 else b,
    ),
    (
        "magnitude",
        "your result has the right absolute values, but the wrong sign in places",
        lambda b: b.abs(),
    ),
)


def _nan_places(pairs: list[tuple[Tensor, Tensor]]) -> Iterator[Clue]:
    a = next(a for a, _ in pairs if not a.isfinite().all())
    if a.dim() < 2:
        return
    rows = (
        (~a.isfinite()).flatten(0, -3).any(0).any(-1)
        if a.dim() > 2
        else (~a.isfinite()).any(-1)
    )
    bad = rows.nonzero().flatten().tolist()
    if len(bad) < rows.numel():
        yield Clue(
            "nan rows",
            f"nan or infinity occurs only in row {_listed(bad)} of {rows.numel()}",
        )
    elif bad:
        yield Clue("nan", "nan or infinity occurs in every row")


def _places(pairs: list[tuple[Tensor, Tensor]]) -> Iterator[Clue]:
    """Yield where the differences lie, if they lie in some places only."""
    pairs = [(a.double(), b.double()) for a, b in pairs]
    a, b = pairs[0]
    wrong = ~a.isclose(b, rtol=1e-4, atol=1e-5)
    if not wrong.any():
        return
    for axis in range(a.dim()):
        here = wrong.transpose(0, axis).flatten(1).any(1) if a.dim() > 1 else wrong
        bad = here.nonzero().flatten().tolist()
        if len(bad) < here.numel():
            names = {0: "first axis", a.dim() - 1: "last axis", a.dim() - 2: "tokens"}
            yield Clue(
                f"places {axis}",
                "only some entries differ: along the "
                f"{names.get(axis, f'axis {axis}')} ({here.numel()} long) "
                f"those at {_listed(bad)}",
            )
            return
    diff = torch.cat([(a - b)[~a.isclose(b, rtol=1e-4, atol=1e-5)] for a, b in pairs])
    if (diff > 0).all() or (diff < 0).all():
        yield Clue(
            "bias",
            f"your result is too {'large' if diff[0] > 0 else 'small'} "
            f"everywhere, by {diff.abs().min():.2g} to {diff.abs().max():.2g}",
        )
    elif diff.abs().max() < 0.02 * max(b.abs().max() for _, b in pairs):
        yield Clue("close", "your result is close: a constant or an epsilon may differ")


def _lists(mine: list, wanted: list, name: str) -> Iterator[Clue]:
    """Yield how two lists differ: in their length, and where first."""
    if len(mine) != len(wanted):
        yield Clue(
            "length",
            f'on "{name}" yours has {len(mine)} '
            f"entr{'y' if len(mine) == 1 else 'ies'}, expected {len(wanted)}",
        )
    place = next(
        (
            i
            for i, (a, b) in enumerate(zip(mine, wanted, strict=False))
            if not equal(a, b, 1e-5, 1e-4)
        ),
        None,
    )
    if place is not None:
        yield Clue(
            "place",
            f'on "{name}" the first difference is at position {place} '
            "(counted from 0)"
            + (
                ""
                if isinstance(wanted[place], Tensor)
                else f": yours {shown(mine[place])}, expected {shown(wanted[place])}"
            ),
        )
    elif len(mine) < len(wanted):
        yield Clue("end", "what you return is right, but it ends too early")
    else:
        yield Clue("more", "the beginning is right, but more follows")


def has_keys(mine: dict, wanted: dict) -> bool:
    """Return True for dicts that a function returned, False for an adapter's facts."""
    return any(not isinstance(key, str) for key in (*wanted, *mine))


def _dicts(mine: dict, wanted: dict, name: str) -> Iterator[Clue]:
    """Yield the first key that is missing, too many, or has another value."""
    missing = [key for key in wanted if key not in mine]
    extra = [key for key in mine if key not in wanted]
    other = [k for k in wanted if k in mine and not equal(mine[k], wanted[k], 0, 0)]
    if missing:
        yield Clue("missing", f'on "{name}" the key {shown(missing[0])} is missing')
    if extra:
        yield Clue("extra", f'on "{name}" the key {shown(extra[0])} is one too many')
    if other:
        key = other[0]
        text = f"{shown(mine[key])}, expected {shown(wanted[key])}"
        yield Clue("value", f'on "{name}" the value of {shown(key)} is {text}')
    if not (missing or extra or other):
        yield Clue("order", f'on "{name}" the entries are right, in another order')


def _axes_swapped(mine: Tensor, wanted: Tensor) -> Iterator[Clue]:
    """Yield that the result has the expected entries in another order of the axes."""
    if mine.shape != wanted.shape and sorted(mine.shape) == sorted(wanted.shape):
        yield Clue(
            "axes",
            "the sizes are right, but in another order: an axis was "
            "moved and not moved back",
        )
