"""What a caller can get wrong, in words: what came, what was expected, what to do.

Lessons and tools share this module; it imports neither. Each function raises TypeError
or ValueError, unless it says otherwise, and returns the value in its plain type.
"""

import contextlib
import math
import numbers

from torch import Tensor


def whole_number(
    name: str, value: object, least: int | None = None, most: int | None = None
) -> int:
    """Return a whole number within limits: Python's, NumPy's, or a 0-d tensor's."""
    plain = _plain(value)
    if isinstance(plain, bool) or not isinstance(plain, numbers.Integral):
        raise TypeError(f"{name} is {value!r}, expected a whole number")
    if (least is not None and plain < least) or (most is not None and plain > most):
        raise ValueError(f"{name} is {plain}, expected {_limits(least, most)}")
    return int(plain)


def number(
    name: str,
    value: object,
    least: float | None = None,
    *,
    above: float | None = None,
    below: float = math.inf,
) -> float:
    """Return a finite number: `least` or more, more than `above`, less than `below`."""
    plain = _plain(value)
    if isinstance(plain, bool) or not isinstance(plain, numbers.Real):
        raise TypeError(f"{name} is {value!r}, expected a number")
    with contextlib.suppress(OverflowError):  # a whole number that no float can hold
        plain = float(plain)
    too_small = (least is not None and plain < least) or (
        above is not None and plain <= above
    )
    if too_small or not plain < below or plain == -math.inf:
        wanted = "a finite number" if least is None else f"{least} or more"
        wanted = wanted if above is None else f"more than {above}"
        wanted += "" if below == math.inf else f", below {below}"
        raise ValueError(f"{name} is {plain}, expected {wanted}")
    return plain


def choice(name: str, value: object, allowed: tuple[str, ...]) -> str:
    """Return one of the `allowed` words."""
    if not isinstance(value, str) or value not in allowed:
        words = " or ".join(repr(word) for word in allowed)
        raise ValueError(f"{name} is {value!r}, expected {words}")
    return value


def seed(name: str, value: object) -> int:
    """Return a seed that PyTorch's generators take."""
    return whole_number(name, value, 0, 2**64 - 1)


def _plain(value: object) -> object:
    """Return the number in a 0-d tensor or array; anything else as it is."""
    if isinstance(value, Tensor) and value.dim() == 0 and not value.is_meta:
        return value.item()
    if getattr(value, "shape", None) == () and hasattr(value, "item"):  # NumPy's
        return value.item()
    return value


def _limits(least: int | None, most: int | None) -> str:
    """Return the limits of a whole number in words."""
    if most is None:
        return f"{least} or more"
    return f"at most {most}" if least is None else f"{least} to {most}"
