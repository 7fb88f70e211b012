"""Answers that are values: a prediction, a measured number, a choice of letters."""

import time
from collections.abc import Iterator

import torch
from torch import Tensor

from gpt2_lesson.checks.clues import fingerprint
from gpt2_lesson.checks.compare import equal, shown
from gpt2_lesson.checks.exercise import Answer, Mistake
from gpt2_lesson.checks.probing import Observation, Value, neutral, plain
from gpt2_lesson.checks.report import Report


def judge(answer: Answer, value: Value) -> Report:
    """Return the report on a value: plain data, from anywhere."""
    start = time.perf_counter()
    with neutral():
        report = _report(answer, value)
    report.answer = repr(plain(value))[:200]
    report.seconds = time.perf_counter() - start
    return report


def _report(answer: Answer, value: Value) -> Report:
    value = answer.normalise(value)
    if _open(value):
        return Report(answer, "not written")
    digest = fingerprint([Observation(value)])
    complaints = _complaints(answer, value)
    if not complaints:
        return Report(answer, "right", fingerprint=digest)
    return Report(
        answer,
        "wrong",
        matches=_matches(answer, value),
        symptoms=complaints,
        fingerprint=digest,
    )


def _matches(answer: Answer, value: Value) -> list[tuple[Mistake, ...]]:
    """Return the mistake that the whole value is, or those of its entries."""
    whole = [mistake for wrong, mistake in answer.wrong if _is(answer, value, wrong)]
    if whole or not isinstance(value, dict):
        return [(mistake,) for mistake in _once(whole)]
    right, parts, told = answer.wanted(), [], set[str]()
    dicts = [one for one in answer.wrong if isinstance(one[0], dict)]
    for wrong, mistake in sorted(dicts, key=lambda one: -len(one[0])):
        if (
            wrong.keys() < value.keys()  # those of several entries first
            and not wrong.keys() <= told
            and _equals(answer, {key: value[key] for key in wrong}, wrong)
            and not all(_equals(answer, value[key], right[key]) for key in wrong)
        ):
            parts.append(mistake)
            told |= wrong.keys()
    return [tuple(_once(parts))] * bool(parts)


def _is(answer: Answer, value: Value, wrong: object) -> bool:
    if not callable(wrong):
        return _equals(answer, value, wrong)
    try:
        return bool(wrong(value))
    except Exception:  # a value of another form
        return False


def _complaints(answer: Answer, value: Value) -> list[str]:
    """Return what is wrong with a value: nothing for a right one."""
    if answer.test is not None:
        try:
            return list(answer.test(value))
        except Exception:
            return [f"your answer: {shown(value)}; expected {_kind(answer.wanted())}"]
    wanted = answer.wanted()
    if _equals(answer, value, wanted):
        return []
    if not _comparable(value, wanted):
        return [f"your answer: {shown(value)}; expected {_kind(wanted)}"]
    return [
        f"your answer: {shown(value, 300)}",
        *_parts(answer, value, wanted),
        *_too_short(answer, value, wanted),
    ]


def _parts(answer: Answer, value: Value, wanted: Value) -> list[str]:
    """Return which entries of a list or dict are right, not what they should be."""
    mine, right = _simple(value), _simple(wanted)
    if not isinstance(right, dict | list):
        return []
    if len(mine) != len(right) or (
        isinstance(right, dict) and mine.keys() != right.keys()
    ):
        return [f"expected {_kind(wanted)}"]
    names = (
        [repr(key) for key in wanted]
        if isinstance(right, dict)
        else [f"entry {i}" for i in range(len(right))]
    )
    if isinstance(right, dict):
        mine = {key: mine[key] for key in right}
    found = list(zip(names, _entries(mine), _entries(right), strict=True))
    odd = [
        f"{name} should be {_kind(b)}" for name, a, b in found if type(a) is not type(b)
    ]
    good, bad = (
        [name for name, a, b in found if _equals(answer, a, b) is state]
        for state in (True, False)
    )
    told = f"right: {', '.join(good)}; not yet: {', '.join(bad)}" if good else ""
    return [*odd[:1], *([told] if told else [])]


def _too_short(answer: Answer, value: Value, wanted: Value) -> list[str]:
    """Return that a right number has too few digits, if nothing else is wrong."""
    pairs = list(_leaves(_simple(value), _simple(wanted)))
    bad = [(a, b) for a, b in pairs if not _equals(answer, a, b)]
    rounded = all(
        isinstance(a, float)
        and isinstance(b, float)
        and a
        and abs(a - b) < 0.1 * abs(b)
        and a == round(b, _decimals(a))
        for a, b in bad
    )
    return [f"rounded too far: {answer.precision} asked for"] * bool(
        bad and rounded and answer.precision
    )


def _equals(answer: Answer, value: Value, wanted: Value) -> bool:
    """Return True for equal values; 6 equals 6.0, and a tensor of one number."""
    value, wanted = _simple(value), _simple(wanted)
    if answer.decimals is None:
        return equal(value, wanted, answer.atol, answer.rtol)
    return _same_form(value, wanted) and all(
        abs(a - b) < 0.6 * 10 ** -max(answer.decimals, min(_decimals(a), 4))
        if isinstance(a, float) and isinstance(b, float)
        else a == b
        for a, b in _leaves(value, wanted)
    )


def _once(mistakes: list[Mistake]) -> list[Mistake]:
    return list({mistake.name: mistake for mistake in mistakes}.values())


def _open(value: Value) -> bool:
    """Return True for None and `...`, and for what has a `...` somewhere in it."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return any(part is ... or _open(part) for part in value if part is not None)
    return value is None or value is ...


def _simple(value: Value) -> Value:
    """Return numbers as floats, texts stripped, in small letters, tensors as lists."""
    if isinstance(value, Tensor):
        return _simple(value.tolist())
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int | float):
        return float(value) if abs(value) < 2**1000 else float("inf")
    if isinstance(value, str):
        return " ".join(value.lower().split())
    if isinstance(value, dict):
        return {_simple(key): _simple(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_simple(part) for part in value]
    if hasattr(value, "item") and hasattr(value, "dtype"):
        return _simple(torch.as_tensor(value).tolist())
    return value


def _decimals(number: float) -> int:
    """Return with how many decimals a number was written: 2 for 0.25, 0 for 3.0."""
    text = f"{number:.6g}"
    return len(text.partition(".")[2]) if "e" not in text else 6


def _same_form(a: Value, b: Value) -> bool:
    """Return True for data that differ in their numbers and texts at most."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same_form(a[key], b[key]) for key in b)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_same_form, a, b))
    return type(a) is type(b) and not isinstance(a, dict | list)


def _leaves(a: Value, b: Value) -> Iterator[tuple[object, object]]:
    """Yield the pairs of numbers and texts that two pieces of data have in common."""
    if isinstance(a, dict) and isinstance(b, dict):
        for key in b.keys() & a.keys():
            yield from _leaves(a[key], b[key])
    elif isinstance(a, list) and isinstance(b, list):
        for pair in zip(a, b, strict=False):
            yield from _leaves(*pair)
    else:
        yield a, b


def _entries(value: dict | list) -> list:
    """Return the entries of a dict or of a list, in their order."""
    return list(value.values()) if isinstance(value, dict) else value


def _kind(wanted: Value) -> str:
    """Return what sort of value is wanted, without the value."""
    wanted = wanted if isinstance(wanted, dict) else _simple(wanted)
    if isinstance(wanted, dict):
        return f"a dict with the entries {', '.join(map(repr, wanted))}"
    if isinstance(wanted, list):
        return f"a list of {len(wanted)}"
    return {bool: "True or False", float: "a number", str: "a text"}.get(
        type(wanted), f"a {type(wanted).__name__}"
    )


def _comparable(value: Value, wanted: Value) -> bool:
    return type(_simple(value)) is type(_simple(wanted))
