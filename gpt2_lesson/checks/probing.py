"""Look at what a function does: probes go in, plain data comes out.

Nothing here, nor in `fakes`, holds an answer: when a class is graded this file runs
beside the learner's code, in a process that never sees the references.
"""

import contextlib
import copy
import dis
import io
import linecache
import random
import warnings
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from types import CodeType
from typing import Any

import numpy as np
import torch
from torch import Tensor

Value = Any  # what a learner gives or returns
Function = Callable[..., Value]
COURSE = str(Path(__file__).parents[1] / "classroom")

NOT_A_FUNCTION = "not a function"  # in Observation.error


def call(function: Function, *args: object) -> Value:
    """Return what the function returns: the plainest adapter."""
    return function(*args)


def gradients(function: Function, *args: Value) -> Value:
    """Return the gradient that reaches each float argument; None where none does.

    What is differentiated is the sum of the output's squares, halved. What is not a
    tensor has no gradients, and comes back as it is.
    """
    leaves = [arg.requires_grad_() if _is_float(arg) else arg for arg in args]
    output = first_of(function(*leaves))
    if not isinstance(output, Tensor):
        return output
    if output.requires_grad:
        (output.square().sum() / 2).backward()
    return [leaf.grad for leaf in leaves if _is_float(leaf)]


def first_of(output: Value) -> Value:
    """Return the result of a pair (result, weights) of tensors; else what came."""
    pair = (
        isinstance(output, tuple)
        and len(output) == 2
        and all(isinstance(part, Tensor) for part in output)
    )
    return output[0] if pair else output


@dataclass(frozen=True, eq=False)
class Probe:
    """One input, and how a function is called with it.

    `name` is read by learners ("T = 1"). `args` are tensors, plain values or fakes;
    `adapter(function, *args)` returns plain data. `sizes` names the sizes of the axes
    ({"B": 2, "T": 5}), so that a wrong shape can be read as (B, T, T).
    """

    name: str
    args: tuple
    adapter: Callable[..., Value] = call
    sizes: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Observation:
    """What a function did with one probe.

    `value` is plain data (tensors, numbers, texts, lists, tuples, dicts of them).
    `error` is the class of an exception, `message` its text, `where` the line of it.
    `changed` lists the arguments that were changed in place; `repeats` is False if a
    second call, with another seed, gave something else, and `drawn` is True if the
    same seed gives the same again. `written` is False for a function not yet written.
    """

    value: Value = None
    error: str = ""
    message: str = ""
    where: str = ""
    changed: tuple[int, ...] = ()
    repeats: bool = True
    written: bool = True
    printed: str = ""
    drawn: bool = False


def observe(function: object, probe: Probe, again: bool = True) -> Observation:
    """Return what `function` does with the probe, called twice on copies of its input.

    Without `again` it is called once, and taken to repeat. The global random states,
    stdout, stderr and the warnings are left untouched.
    """
    if not_written(function):
        return Observation(written=False)
    if not callable(function):
        how = "quotes" if isinstance(function, str) else "brackets"
        return Observation(
            error=NOT_A_FUNCTION,
            message=f"{article(function)} came, expected "
            f"a function: pass the function's name, without {how}",
        )
    with neutral(), _quiet() as printed:
        args = copy.deepcopy(probe.args)
        try:
            output = probe.adapter(function, *args)
            value = plain(output)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt) and not _raised(error):
                raise  # someone pressed Ctrl-C
            return (
                Observation(written=False)
                if _promised(error)
                else _crash(error, function, printed)
            )
        if type(output) is function and function.__module__ != "builtins":
            return Observation(
                error=NOT_A_FUNCTION,
                message=f"the class {function.__name__} "
                "came, expected a function: make an object of it, or pass the "
                "function that does the work",
            )
        changed = tuple(
            i
            for i, (now, before) in enumerate(zip(args, probe.args, strict=True))
            if _is_plain(before) and not _equal(plain(now), before)
        )
        repeats = not again or _same_again(function, probe, value, seed=1)
        drawn = not repeats and _same_again(function, probe, value, seed=0)
    return Observation(
        value,
        changed=changed,
        repeats=repeats,
        written=value is not ...,
        printed=printed.getvalue()[:2000],
        drawn=drawn,
    )


def not_written(function: object) -> bool:
    """Return True for None, `...`, and functions with a docstring or `...` alone."""
    if function is None or function is ...:
        return True
    code = getattr(function, "__code__", None)
    return isinstance(code, CodeType) and _only_promised(code)


def _promised(error: BaseException) -> bool:
    """Return True for `raise NotImplementedError` in the learner's own text.

    PyTorch raises the same class for what it can't do, such as `x ^ 3`.
    """
    return isinstance(error, NotImplementedError) and _raised(error)


def _raised(error: BaseException) -> bool:
    """Return True for an error from a `raise` in Python, not in PyTorch nor the course.

    The course's own is the grader's, when the teacher stops it.
    """
    step = error.__traceback__
    if step is None:
        return False
    while step.tb_next is not None:
        step = step.tb_next
    code = step.tb_frame.f_code
    raised = any(
        op.opname == "RAISE_VARARGS" and op.offset == step.tb_lasti
        for op in dis.get_instructions(code)
    )
    return raised and not code.co_filename.startswith((torch.__path__[0], COURSE))


@lru_cache(maxsize=256)
def _only_promised(code: CodeType) -> bool:
    """Return True for code that does nothing but return None or `...`."""
    return all(
        op.argval in (None, ...)
        if op.opname in ("LOAD_CONST", "RETURN_CONST")
        else op.opname in ("RESUME", "RETURN_VALUE", "NOP", "POP_TOP")
        for op in dis.get_instructions(code)
    )


def code_of(function: object) -> str:
    """Return a text that changes when the code of a function or class changes.

    Comments, the layout and docstrings don't count.
    """
    if isinstance(function, type):
        return "".join(map(code_of, vars(function).values()))
    code = getattr(function, "__code__", function)
    if not isinstance(code, CodeType):
        return ""
    doc = code.co_consts[0] if code.co_consts else None
    consts = [
        code_of(part)
        if isinstance(part, CodeType)
        else repr(sorted(part, key=repr) if isinstance(part, frozenset) else part)
        for part in code.co_consts
        if not isinstance(doc, str) or part is not doc
    ]
    return f"{code.co_code.hex()}{consts}{code.co_names}{code.co_varnames}"


def plain(value: Value) -> Value:
    """Return a copy of `value` that later changes can't reach: tensors detached."""
    if isinstance(value, Tensor):
        odd = value.layout is not torch.strided or value.is_nested
        if (
            odd
            or value.is_complex()
            or value.is_quantized
            or "float8" in str(value.dtype)
        ):
            raise TypeError(
                "a complex, sparse, nested or quantized tensor came, "
                "expected a plain one"
            )
        return value.detach().to("cpu", copy=True).as_subclass(Tensor)
    if (
        isinstance(value, np.generic)
        or isinstance(value, np.ndarray)
        and (value.ndim == 0)
    ):
        return value.item()
    if isinstance(value, Coroutine):
        value.close()  # it will never be awaited
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return (
            type(value)(map(plain, value))
            if type(value) in (list, tuple)
            else (tuple(map(plain, value)))
        )
    return value


def _is_plain(arg: object) -> bool:
    """Return True for data that a function may change: tensors, lists, dicts."""
    if isinstance(arg, list | tuple):
        return all(map(_is_plain, arg))
    if isinstance(arg, dict):
        return all(map(_is_plain, arg.values()))
    return isinstance(arg, Tensor | int | float | str | bytes)


def _same_again(function: Function, probe: Probe, value: object, seed: int) -> bool:
    """Return True if one more call, after this seed, gives the same."""
    _seed(seed)
    try:
        again = plain(probe.adapter(function, *copy.deepcopy(probe.args)))
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) and not _raised(error):
            raise
        return False
    return _equal(again, value)


def _seed(seed: int) -> None:
    torch.default_generator.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)


def _equal(a: object, b: object) -> bool:
    """Return True for values equal but for rounding; NaN equals NaN.

    What can't be compared, such as two generators, counts as equal.
    """
    try:
        return _compared(a, b)
    except Exception:
        return True


def _compared(a: object, b: object) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return (
            a.shape == b.shape
            and a.dtype == b.dtype
            and torch.allclose(a, b, atol=1e-6, rtol=1e-5, equal_nan=True)
        )
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(_equal, a, b))
    if type(a) is type(b) and type(a).__eq__ is object.__eq__:
        return True
    return bool(a == b) or (a != a and b != b)


def _crash(
    error: BaseException, function: Function, printed: io.StringIO
) -> Observation:
    """Return what is to be told about an exception: class, text, the learner's line."""
    parts = [function, *(vars(function).values() if isinstance(function, type) else ())]
    code = next((part.__code__ for part in parts if hasattr(part, "__code__")), None)
    where, step = "", error.__traceback__
    while step is not None:
        here = step.tb_frame.f_code
        if code is not None and here.co_filename == code.co_filename:
            line = linecache.getline(here.co_filename, step.tb_lineno).strip()
            where = f"line {step.tb_lineno}: {line}" if line else ""
        step = step.tb_next
    try:
        message = " ".join(str(error).split())[:300]
    except Exception:
        message = ""
    return Observation(
        error=type(error).__name__,
        message=message,
        where=where,
        printed=printed.getvalue()[:2000],
    )


# What a result may depend on beside the input: how it is read, how it is set, and the
# value under which functions are judged (None: left as it is, but put back afterwards).
_GLOBALS: tuple[tuple[Callable, Callable, object], ...] = (
    (torch.get_default_dtype, torch.set_default_dtype, torch.float32),
    (torch.is_grad_enabled, torch.set_grad_enabled, True),
    (torch.get_num_threads, torch.set_num_threads, None),
    (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "highest"),
    (torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode, 0),
    (
        lambda: torch.is_autocast_enabled("cpu"),
        lambda on: torch.set_autocast_enabled("cpu", on),
        False,
    ),
    (
        lambda: torch.is_autocast_enabled("cuda"),
        lambda on: torch.set_autocast_enabled("cuda", on),
        False,
    ),
    (
        lambda: (torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()),
        lambda both: torch.autograd.set_detect_anomaly(*both),
        (False, True),
    ),
    (np.geterr, lambda kinds: np.seterr(**kinds), None),
    (random.getstate, random.setstate, None),
    (lambda: np.random.get_state(legacy=False), np.random.set_state, None),
)


@contextlib.contextmanager
def neutral() -> Iterator[None]:
    """Set the globals that results depend on, and put them back, whatever happens.

    A learner may have set another default type or device, switched gradients off, or
    asked for deterministic algorithms; a function is judged as in a fresh Python.
    """
    before = [get() for get, _, _ in _GLOBALS]
    device = torch.get_default_device()
    with contextlib.ExitStack() as stack:
        stack.callback(_restore, before, device)
        stack.enter_context(
            torch.random.fork_rng(
                devices=range(torch.cuda.device_count())
                if torch.cuda.is_initialized()
                else []
            )
        )
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        if device.type != "cpu":
            torch.set_default_device(None)
        if torch.get_default_device().type != "cpu":  # we stand in a `with` block
            stack.enter_context(torch.device("cpu"))
        for get, put, wanted in _GLOBALS:
            if wanted is not None and get() != wanted:
                put(wanted)
        yield


def _restore(before: list, device: torch.device) -> None:
    for (get, put, _), value in zip(_GLOBALS, before, strict=True):
        if put in (random.setstate, np.random.set_state) or get() != value:
            put(value)
    if torch.get_default_device() != device:
        torch.set_default_device(None if device.type == "cpu" else device)


@contextlib.contextmanager
def _quiet() -> Iterator[io.StringIO]:
    """Seed the random numbers; catch what is printed and warned."""
    out = io.StringIO()
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        _seed(0)
        yield out


def _is_float(arg: object) -> bool:
    return isinstance(arg, Tensor) and arg.is_floating_point()


def article(value: object) -> str:
    """Return the name of a value's type: "a list", "an int"."""
    name = type(value).__name__.replace("ndarray", "numpy array")
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
