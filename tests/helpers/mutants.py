"""Wrong functions made by machine: every operator, constant, axis and name changed.

`mutants(source)` yields (what was changed, source) for each small change of a
function's text. `judge` runs a check over them: none that differs may be accepted.
"""

import ast
import contextlib
import copy
import math
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import torch
import torch.nn.functional as F

from gpt2_lesson.checks.diagnosis import diagnose, on_probe
from gpt2_lesson.checks.exercise import Exercise
from gpt2_lesson.checks.probing import observe

OPERATORS = {
    ast.Add: (ast.Sub, ast.Mult),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Div, ast.Add),
    ast.Div: (ast.Mult,),
    ast.MatMult: (ast.Mult,),
    ast.Pow: (ast.Mult,),
    ast.FloorDiv: (ast.Mult,),
    ast.Mod: (ast.Mult,),
    ast.BitAnd: (ast.BitOr,),
    ast.BitOr: (ast.BitAnd,),
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.And: (ast.Or,),
    ast.Or: (ast.And,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
}
METHODS = {
    "softmax": ("log_softmax", "sigmoid"),
    "tril": ("triu",),
    "triu": ("tril",),
    "mean": ("sum",),
    "sum": ("mean",),
    "sqrt": ("square",),
    "tanh": ("sin",),
    "exp": ("expm1",),
    "max": ("min",),
    "min": ("max",),
    "argmax": ("argmin",),
    "amax": ("amin",),
    "view": (),
    "add": ("sub",),
    "mul": ("add",),
}


def compiled(source: str, name: str, extra: dict | None = None) -> Callable:
    """Return the function `name` that the source text defines."""
    names = {"torch": torch, "F": F, "math": math, "nn": torch.nn, **(extra or {})}
    exec(compile(source, f"<{name}>", "exec"), names)  # noqa: S102
    return names[name]


def mutants(source: str) -> Iterator[tuple[str, str]]:
    """Yield (description, text) of every small change to the text, each once."""
    tree, seen = ast.parse(source), {ast.unparse(ast.parse(source))}
    for k, node in enumerate(ast.walk(tree)):
        for what, change in _changes(node, tree):
            changed = copy.deepcopy(tree)
            target = next(n for j, n in enumerate(ast.walk(changed)) if j == k)
            try:
                change(target)
                text = ast.unparse(ast.fix_missing_locations(changed))
            except (AttributeError, ValueError, TypeError):
                continue
            if text not in seen:
                seen.add(text)
                line = getattr(node, "lineno", 0)
                yield f"line {line}: {what}", text


def _changes(node: ast.AST, tree: ast.AST) -> Iterator[tuple[str, Callable]]:
    """Yield (description, function that changes a node) for one node."""
    for field_name in ("op", "ops"):
        found = getattr(node, field_name, None)
        old = found[0] if isinstance(found, list) and found else found
        for new in OPERATORS.get(type(old), ()):

            def swap(n, new=new, field_name=field_name):
                setattr(n, field_name, [new()] if field_name == "ops" else new())

            yield f"{type(old).__name__} -> {new.__name__}", swap
    if isinstance(node, ast.BinOp):
        yield "operands exchanged", _exchange
        yield "left operand alone", partial(_become, part="left")
        yield "right operand alone", partial(_become, part="right")
    if isinstance(node, ast.UnaryOp):
        yield "unary operator dropped", partial(_become, part="operand")
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        values = {node.value + 1, node.value - 1, -node.value, node.value * 2, 0}
        for value in sorted(values - {node.value}):
            yield f"{node.value} -> {value}", partial(setattr_of, "value", value)
    if isinstance(node, ast.Constant) and type(node.value) is bool:
        yield f"{node.value} flipped", partial(setattr_of, "value", not node.value)
    if isinstance(node, ast.Attribute):
        for new in METHODS.get(node.attr, ()):
            yield f".{node.attr} -> .{new}", partial(setattr_of, "attr", new)
    if isinstance(node, ast.Call):
        for i, keyword in enumerate(node.keywords):
            yield f"{keyword.arg}= dropped", lambda n, i=i: n.keywords.pop(i)
        if isinstance(node.func, ast.Attribute) and not isinstance(
            node.func.value, ast.Name
        ):
            yield f".{node.func.attr}(...) dropped", partial(_become, part="func.value")
        if len(node.args) > 1:
            yield "first two arguments exchanged", _exchange_arguments
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
        for other in _local_names(tree) - {node.id}:
            yield f"{node.id} -> {other}", partial(setattr_of, "id", other)
    if hasattr(node, "body") and isinstance(node.body, list) and len(node.body) > 1:
        for i, part in enumerate(node.body):
            if not isinstance(part, ast.FunctionDef | ast.Return):
                yield f"statement {i} left out", lambda n, i=i: n.body.pop(i)


def setattr_of(name: str, value: object, node: ast.AST) -> None:
    """Set an attribute; the node comes last, for `partial`."""
    setattr(node, name, value)


def _exchange(node: ast.BinOp) -> None:
    node.left, node.right = node.right, node.left


def _exchange_arguments(node: ast.Call) -> None:
    node.args[0], node.args[1] = node.args[1], node.args[0]


def _become(node: ast.AST, part: str) -> None:
    """Turn a node into one of its parts."""
    new = node
    for name in part.split("."):
        new = getattr(new, name)
    fields = {
        key: getattr(new, key)
        for key in (*new._fields, *new._attributes)
        if hasattr(new, key)
    }
    node.__class__ = new.__class__
    node.__dict__ = fields


def _local_names(tree: ast.AST) -> set[str]:
    arguments = {arg.arg for arg in ast.walk(tree) if isinstance(arg, ast.arg)}
    stored = {
        name.id
        for name in ast.walk(tree)
        if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store)
    }
    return arguments | stored


class TookTooLong(BaseException):
    """A mutant that does not end."""


@contextlib.contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise TookTooLong inside the block after so many seconds of work.

    It comes as Ctrl-C does: no check takes it for an error of the function, or keeps it
    as what a mistake does.
    """
    before = signal.signal(signal.SIGPROF, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_PROF, seconds, 0.2)
    try:
        yield
    except KeyboardInterrupt:
        raise TookTooLong from None
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


@dataclass
class Counts:
    """What became of the mutants of one function."""

    named: list[str] = field(default_factory=list)
    clue: list[str] = field(default_factory=list)
    crashed: list[str] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)
    equivalent: list[str] = field(default_factory=list)
    accepted: list[str] = field(default_factory=list)
    false_names: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        parts = (
            "named",
            "clue",
            "crashed",
            "silent",
            "equivalent",
            "accepted",
            "false_names",
        )
        return ", ".join(f"{len(getattr(self, part))} {part}" for part in parts)


def judge(
    exercise: Exercise,
    source: str,
    extra: dict | None = None,
    seeds: range = range(100, 106),
    seconds: float = 0.5,
) -> Counts:
    """Return what the check says about every mutant of a right function.

    An accepted mutant must do the same as the right one on the fresh probes of
    `seeds` (then it is "equivalent", else "accepted"). A name must hold there too
    (else "false"); a clue must come again on fresh inputs (else "silent"). A mutant
    that takes longer than `seconds` counts as crashed.
    """
    counts = Counts()
    exercise.expected(0)  # first, without a limit: it may import modules
    for what, text in mutants(source):
        try:
            function = compiled(text, exercise.name, extra)
            with limited(seconds):
                report = diagnose(exercise, partial(observe, function))
                kind = _kind(exercise, function, report, seeds)
        except (TookTooLong, SyntaxError):
            kind = "crashed"
        except Exception as error:  # while the text is executed
            kind, what = "crashed", f"{what}: {error}"
        getattr(counts, kind).append(what)
    return counts


def _kind(exercise: Exercise, function: Callable, report, seeds: range) -> str:
    if report.passed:
        return "equivalent" if _same_on(exercise, function, seeds) else "accepted"
    if report.state == "not written":
        return "crashed"
    if report.matches:
        for seed in seeds:
            for i, probe in enumerate(exercise.probes(seed)):
                seen = observe(function, probe)
                if not any(
                    exercise.same(
                        seen, on_probe(exercise, tuple(m.id for m in match), seed, i)
                    )
                    for match in report.matches
                ):
                    return "false_names"
        return "named"
    if report.symptoms and "crashed on" in report.symptoms[0]:
        return "crashed"
    again = diagnose(exercise, partial(observe, function), seed=seeds[0])
    keys = {clue.key for clue in report.clues} & {clue.key for clue in again.clues}
    said = keys or _shape_said(report)
    return "clue" if said else "silent"


def _shape_said(report) -> bool:
    """Return True if the symptom itself says what is wrong: type, shape, in place."""
    words = (
        "it returns",
        "changes its input",
        "two calls",
        "an error was expected",
        "there is nan",
    )
    return any(text.startswith(words) or words[-1] in text for text in report.symptoms)


def _same_on(exercise: Exercise, function: Callable, seeds: range) -> bool:
    return all(
        exercise.same(observe(function, probe), wanted)
        for seed in seeds
        for probe, wanted in zip(
            exercise.probes(seed), exercise.expected(seed), strict=True
        )
    )
