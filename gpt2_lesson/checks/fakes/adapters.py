"""Ways to call a function other than with the probe's arguments as they are."""

from torch import Tensor

from gpt2_lesson.checks.probing import Function, plain


def softened(function: Function, *args: object) -> object:
    """Return the softmax over the last axis of what the function returns.

    So that every fill that gives a weight of 0 counts as the same.
    """
    output = function(*args)
    return output.softmax(-1) if isinstance(output, Tensor) else output


def in_half(function: Function, *args: Tensor) -> Tensor | str:
    """Return "float16" if the function works in half precision and stays in it."""
    output = function(*(arg.half() for arg in args))
    kind = "nan" if output.isnan().any() else str(output.dtype)
    return kind.removeprefix("torch.")


def too_large_in_half(function: Function, *args: Tensor) -> bool:
    """Return True if the function meets a number too large for half precision."""
    try:
        return in_half(function, *args) == "nan"
    except Exception as error:
        return "overflow" in str(error)


def widened_in_half(function: Function, *args: Tensor) -> bool:
    """Return True if the function makes more of half precision, or mixes the two."""
    try:
        return in_half(function, *args) not in ("float16", "nan")
    except Exception as error:
        return "overflow" not in str(error)


def listed(function: Function, *args: object) -> object:
    """Return a sequence or array of whole numbers as a list."""
    output = function(*args)
    output = output.tolist() if hasattr(output, "tolist") else output
    return list(output) if isinstance(output, list | tuple) else output


def listed_items(function: Function, *args: object) -> object:
    """Return a mapping as a dict, whose order counts."""
    output = function(*args)
    if not hasattr(output, "items"):
        return _not_a_dict(output)
    return {plain(key): value for key, value in output.items()}


def sorted_items(function: Function, *args: object) -> object:
    """Return a mapping as a sorted dict: its order does not count."""
    output = listed_items(function, *args)
    if not isinstance(output, dict):
        return output
    return dict(sorted(output.items(), key=lambda item: str(item[0])))


def _not_a_dict(output: object) -> object:
    """Return None as it is, else a text that says what came in a dict's place."""
    return (
        output
        if output is None or output is ...
        else (f"not a dict but a {type(output).__name__}")
    )
