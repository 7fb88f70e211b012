"""A mistake is an edit of the right answer: the text that is replaced, and by what."""

import hashlib
import linecache
import math
import re
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Edit = tuple[str, str]
NAMES: dict[str, Any] = {
    "torch": torch,
    "math": math,
    "nn": nn,
    "F": F,
    "Tensor": Tensor,
}


def apply_edits(solution: str, edits: Iterable[Edit]) -> str | None:
    """Return `solution` with all the edits made; None where two of them overlap.

    Raises ValueError for a text that does not occur exactly once in the solution.
    """
    spans = []
    for old, new in edits:
        if solution.count(old) != 1:
            raise ValueError(
                f"{old!r} occurs {solution.count(old)} times in the "
                "solution, expected once: give more of the text around it"
            )
        start = solution.index(old)
        spans.append((start, start + len(old), new))
    spans.sort()
    if any(end > start for (_, end, _), (start, _, _) in pairwise(spans)):
        return None
    for start, end, new in reversed(spans):
        solution = solution[:start] + new + solution[end:]
    return solution


def compile_function(source: str, names: dict[str, Any]) -> Callable:
    """Return the function or class that `source` defines, the last one of several.

    It sees torch, math, nn, F, Tensor and `names`.
    """
    name = re.findall(r"^(?:def|class) (\w+)", source, re.MULTILINE)[-1]
    file = f"<{name} {hashlib.sha256(source.encode()).hexdigest()[:12]}>"
    linecache.cache[file] = len(source), None, source.splitlines(True), file
    space = NAMES | names
    exec(compile(source, file, "exec"), space)
    return space[name]


def changed_lines(solution: str, edits: Iterable[Edit]) -> tuple[str, str]:
    """Return the lines that the edits change, as (wrong, right); "" for none."""
    before = solution.splitlines()
    after = (apply_edits(solution, edits) or solution).splitlines()
    while before and after and before[0] == after[0]:
        before, after = before[1:], after[1:]
    while before and after and before[-1] == after[-1]:
        before, after = before[:-1], after[:-1]
    wrong, right = (
        "\n".join(line.strip() for line in lines if line.strip())
        for lines in (after, before)
    )
    return wrong, right
