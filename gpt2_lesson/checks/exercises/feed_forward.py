"""Lesson 04: GELU and the feed-forward network (catalogue: F)."""

import itertools
import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Generator, Tensor

from gpt2_lesson.checks.exercise import (
    Answer,
    Clue,
    EdgeCase,
    Exercise,
    Mistake,
    RunProbe,
)
from gpt2_lesson.checks.fakes.adapters import in_half
from gpt2_lesson.checks.probing import Probe, Value, gradients

_ROOT = math.sqrt(2 / math.pi)

# --- the right answers ----------------------------------------------------------------

_GELU = """\
def gelu(x):
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
    return 0.5 * x * (1 + torch.tanh(inner))"""

_FEED_FORWARD = f"""\
{_GELU}


def feed_forward(x, w1, b1, w2, b2):
    hidden = gelu(x @ w1 + b1)
    return hidden @ w2 + b2"""

# --- probes ---------------------------------------------------------------------------


def gelu_probes(g: Generator) -> list[Probe]:
    """Return inputs for GELU: points, a line, far away, three axes, gradients."""
    return [Probe("x = -2, -1.3, -0.75, 1.3, 8", (
                torch.tensor([-2, -1.3, -0.75, 1.3, 8]),)),
            Probe("x from -3 to 3", (torch.linspace(-3, 3, 25),)),
            Probe("x far from 0", (torch.tensor([-1000.0, -8, -5, 0, 5, 8, 1000]),)),
            Probe("where the constants have the largest effect, 1 to 1.6", (
                torch.linspace(1, 1.6, 7),)),
            Probe("three axes", (2 * torch.randn(2, 5, 4, generator=g),)),
            Probe("one number", (torch.tensor(1.5),)),
            Probe("the gradient of x", (2 * torch.randn(3, 4, generator=g),),
                  gradients)]


def _sized(g: Generator, b: int, t: int, c: int, f: int, std: float = 1.0) -> tuple:
    """Return x, w1, b1, w2, b2, such that GELU gets numbers of about 1.5."""
    return (torch.randn(b, t, c, generator=g),
            1.5 * torch.randn(c, f, generator=g) / math.sqrt(c),
            std * torch.randn(f, generator=g),
            torch.randn(f, c, generator=g) / math.sqrt(f),
            std * torch.randn(c, generator=g))


def network_probes(g: Generator) -> list[Probe]:
    """Return the probes: all sizes different, square, no biases, alone, gradients."""
    x, w1, b1, w2, b2 = _sized(g, 2, 3, 4, 6)
    return [Probe("B, T, C, F all different", _sized(g, 3, 5, 4, 7),
                  sizes={"B": 3, "T": 5, "C": 4, "F": 7}),
            Probe("F = C", _sized(g, 2, 4, 3, 3)),
            Probe("biases 0", _sized(g, 2, 3, 5, 8, 0.0)),
            Probe("one token", _sized(g, 1, 1, 4, 6)),
            Probe("large x", (4 * x, w1, b1, w2, b2)),
            Probe("the gradients of x, w1, b1, w2 and b2", _sized(g, 2, 3, 4, 5),
                  gradients)]


# --- what can be read out when nothing matches ----------------------------------------


def read_gelu(run: RunProbe, g: Generator) -> list[Clue]:
    """Return what gelu does far away and at 0, and the constants in its tanh."""
    x = torch.tensor([-8.0, 0.0, 8.0, -0.75])
    return _far(_values(run(Probe("points", (x,))).value, 4)) + _constants(
        lambda x: run(Probe("line", (x,))).value)


def read_network(run: RunProbe, g: Generator) -> list[Clue]:
    """Return what gelu does between two identities, and whether it is there at all."""
    eye, zero = torch.eye(3), torch.zeros(3)

    def curve(x: Tensor) -> Value:
        many = x[:, None, None].expand(-1, -1, 3).contiguous()   # one token each
        value = run(Probe("identities", (many, eye, zero, eye, zero))).value
        return value[:, 0, 0] if isinstance(value, Tensor) and value.shape == (
            many.shape) else None

    points = _values(curve(torch.tensor([-8.0, 0.0, 8.0, -0.75])), 4)
    return _straight(run, g) + _far(points, "with identities for w1 and w2 ") + (
        _constants(curve))


def _values(value: Value, n: int) -> list[float]:
    good = isinstance(value, Tensor) and value.shape == (n,) and value.isfinite().all()
    return value.tolist() if good else []


def _far(points: list[float], start: str = "") -> list[Clue]:
    """Return what is wrong with the values at -8, 0 and 8."""
    wanted = {-8: 0, 0: 0, 8: 8}
    found = [f"{place} is {value:.4g}, expected {wanted[place]}"
             for place, value in zip(wanted, points, strict=False)
             if abs(value - wanted[place]) > 1e-3]
    return [Clue("far", f"{start}your value at " + "; at ".join(found))] * bool(found)


def _constants(curve: Callable[[Tensor], Value]) -> list[Clue]:
    """Return the factor and the cubic term that the values imply.

    y = 0.5 x (1 + tanh(a x + c x^3)) gives a x + c x^3 = atanh(2 y / x - 1).
    """
    x = torch.linspace(0.3, 1.5, 9)
    found = _values(curve(x), 9)
    if not found:
        return []
    x, y = x.double(), torch.tensor(found, dtype=torch.float64)
    inner = torch.atanh(2 * y / x - 1)
    powers = torch.stack([x, x**3], 1)
    if not inner.isfinite().all():
        return []
    fit = torch.linalg.lstsq(powers, inner[:, None]).solution
    if (powers @ fit - inner[:, None]).abs().max() > 2e-3:
        return [Clue("no tanh", "your values are not 0.5 x (1 + tanh(a x + c x^3)) for "
                     "any a and c")]
    a, c = fit.flatten().tolist()
    if abs(a - _ROOT) < 2e-4 and abs(c - _ROOT * 0.044715) < 2e-4:
        return []
    return [Clue("constants", "from x = 0.3 to 1.5 your values are those of "
                 f"0.5 x (1 + tanh({a:.4f} x "
                 f"{'-' if c < 0 else '+'} {abs(c):.4f} x^3)); expected inside tanh: "
                 "0.7979 x + 0.0357 x^3, which is sqrt(2/pi) (x + 0.044715 x^3)")]


def _straight(run: RunProbe, g: Generator) -> list[Clue]:
    """Return whether f(a + b) + f(0) = f(a) + f(b), as in a linear function."""
    x, *weights = _sized(g, 2, 3, 4, 6)
    parts = [run(Probe("sum", (part, *weights))).value
             for part in (x, 2 * x, 0 * x)]
    if not all(isinstance(part, Tensor) and part.shape == x.shape for part in parts):
        return []
    if (parts[1] + parts[2]).allclose(2 * parts[0], atol=1e-4):
        return [Clue("straight", "there is no activation function in yours: f(2x) - "
                     "f(0) is twice f(x) - f(0)")]
    return []


# --- mistakes -------------------------------------------------------------------------

_Q_FAR = "What should GELU give far to the right, and far to the left?"
_Q_FORM = "Compare with the formula, one factor after the other."
_Q_SIGN = "What is the sign of the term at x = -2, and what should it be?"
_Q_NETWORK = "Widen, apply gelu, narrow: which of the three comes when?"
_Q_TOKENS = "May other tokens change the result of this one?"

_OTHER_FUNCTIONS = (
    Mistake("F1", "the erf form of GELU (what F.gelu gives by itself)",
            edit=("0.5 * x * (1 + torch.tanh(inner))", "F.gelu(x)"),
            why="off by at most 0.0005, near |x| = 2.7: not the form that GPT-2 was "
                "trained with",
            question="There are two forms of GELU. Which one did GPT-2 train with?"),
    Mistake("F2", "x * sigmoid(1.702 x), a cheaper approximation of GELU",
            edit=("0.5 * x * (1 + torch.tanh(inner))", "x * torch.sigmoid(1.702 * x)"),
            why="the error is largest near |x| = 2.3",
            question="Which form did GPT-2 train with?"),
    Mistake("F3", "ReLU", edit=("0.5 * x * (1 + torch.tanh(inner))", "torch.relu(x)"),
            why="0 left of 0, with a corner at 0: GELU dips to -0.17 at x = -0.75",
            question="What does GELU give at x = -0.75?"),
    Mistake("F3s", "SiLU: x * sigmoid(x)",
            edit=("0.5 * x * (1 + torch.tanh(inner))", "F.silu(x)"),
            why="the error is largest near x = -2",
            question="By how much is x multiplied at x = 2?"),
    Mistake("F3l", "leaky ReLU",
            edit=("0.5 * x * (1 + torch.tanh(inner))", "F.leaky_relu(x)"),
            why="left of 0 it falls without end: GELU returns to 0", question=_Q_FAR),
    Mistake("F3t", "tanh alone",
            edit=("0.5 * x * (1 + torch.tanh(inner))", "torch.tanh(x)"),
            why="never above 1: GELU(8) is 8", question=_Q_FAR),
)
_OTHER_NUMBERS = (
    Mistake("F4", "0.44715 instead of 0.044715: a zero is missing",
            edit=("0.044715", "0.44715"),
            why="the error is largest near |x| = 1.3", question=_Q_FORM),
    Mistake("F4b", "0.0044715 instead of 0.044715: one zero too many",
            edit=("0.044715", "0.0044715"),
            why="the cube hardly counts", question=_Q_FORM),
    Mistake("F4r", "0.0447 instead of 0.044715: two digits are cut off",
            edit=("0.044715", "0.0447"),
            why="right to four digits, and off by 0.00001 near x = 1.3",
            question=_Q_FORM),
    Mistake("F4n", "no cubic term", edit=("0.044715", "0"),
            why="tanh(0.80 x) alone", question=_Q_FORM),
    Mistake("F4m", "the cubic term is subtracted", edit=("(x +", "(x -"),
            why="far from 0 the result goes to the wrong side", question=_Q_FORM),
    Mistake("F5", "x squared instead of x cubed", edit=("x**3", "x**2"),
            why="the square is positive on both sides, so the left half is wrong",
            question=_Q_SIGN),
    Mistake("F5q", "x to the power of 4, not of 3", edit=("x**3", "x**4"),
            why="an even power is positive on both sides", question=_Q_SIGN),
    Mistake("F6r", "0.8 instead of sqrt(2/pi)", edit=("math.sqrt(2 / math.pi)", "0.8"),
            why="sqrt(2/pi) is 0.79788", question=_Q_FORM),
    Mistake("F6p", "3.14 instead of pi", edit=("math.pi", "3.14"),
            why="right to three digits", question=_Q_FORM),
    Mistake("F6", "sqrt(2)/pi instead of sqrt(2/pi)",
            edit=("math.sqrt(2 / math.pi)", "math.sqrt(2) / math.pi"),
            why="the factor inside tanh is 0.45, expected 0.80", question=_Q_FORM),
    Mistake("F6b", "2/pi instead of sqrt(2/pi)",
            edit=("math.sqrt(2 / math.pi)", "2 / math.pi"),
            why="the factor inside tanh is 0.64, expected 0.80", question=_Q_FORM),
    Mistake("F6c", "sqrt(pi/2), the fraction upside down",
            edit=("2 / math.pi", "math.pi / 2"),
            why="the factor inside tanh is 1.25, expected 0.80", question=_Q_FORM),
    Mistake("F7", "the 0.5 in front is missing", edit=("0.5 * ", ""),
            why="everything is doubled: at 8 it gives 16", question=_Q_FAR),
    Mistake("F7t", "2 in front, not 0.5", edit=("0.5 * ", "2 * "),
            why="everything is four times too large: at 8 it gives 32",
            question=_Q_FAR),
)
GELU = (
    *_OTHER_FUNCTIONS, *_OTHER_NUMBERS,
    Mistake("F8", "no activation function: x is returned as it is",
            edit=("0.5 * x * (1 + torch.tanh(inner))", "x"),
            why="the result is x itself",
            question="What should a negative number become?"),
    Mistake("F6d", "the factor multiplies x alone, not the whole sum",
            edit=("(x + 0.044715 * x**3)", "x + 0.044715 * x**3"),
            why="the cubic term is not multiplied by 0.80: brackets are missing",
            question=_Q_FORM),
    Mistake("F6x", "x inside tanh is missing: the cubic term alone",
            edit=("(x + ", "("),
            why="near 0 the result is x / 2, too flat on the left", question=_Q_FORM),
    Mistake("F6y", "the power takes the whole sum: (x + 0.044715 x)**3",
            edit=("x**3)", "x)**3"),
            why="the brackets are around x, too", question=_Q_FORM),
    Mistake("F6z", "the constant is cubed, too: (0.044715 x)**3",
            edit=("0.044715 * x**3", "(0.044715 * x)**3"),
            why="0.044715 cubed is 0.00009, so the term is lost", question=_Q_FORM),
    Mistake("F7s", "sigmoid of the inner sum, not tanh",
            edit=("0.5 * x * (1 + torch.tanh(inner))", "x * torch.sigmoid(inner)"),
            why="the same formula with sigmoid needs twice the inner sum",
            question=_Q_FORM),
    Mistake("F7a", "tanh around everything",
            edit=("0.5 * x * (1 + torch.tanh(inner))",
                  "torch.tanh(0.5 * x * (1 + inner))"),
            why="never above 1: GELU(8) is 8", question=_Q_FAR),
    Mistake("F7h", "0.5 instead of the 1 before tanh",
            edit=("0.5 * x * (1 +", "x * (0.5 +"),
            why="far to the left it is not 0", question=_Q_FAR),
    Mistake("F3e", "ELU", edit=("0.5 * x * (1 + torch.tanh(inner))", "F.elu(x)"),
            why="left of 0 it falls to -1: GELU returns to 0", question=_Q_FAR),
    Mistake("F3p", "softplus",
            edit=("0.5 * x * (1 + torch.tanh(inner))", "F.softplus(x)"),
            why="at 0 it is ln 2, not 0", question="What does GELU give at 0?"),
    Mistake("F7b", "the 1 before tanh is missing", edit=("1 + torch", "torch"),
            why="far to the left it gives -x/2 and not 0: the result is even",
            question=_Q_FAR),
    Mistake("F7c", "1 - tanh instead of 1 + tanh", edit=("1 + torch", "1 - torch"),
            why="left and right are exchanged", question=_Q_FAR),
    Mistake("F7d", "the factor x is missing: only 0.5 (1 + tanh) is returned",
            edit=("x * (1", "(1"),
            why="it runs from 0 to 1; GELU is that number times x", question=_Q_FAR),
    Mistake("F13", "changes its input in place", edit=("0.5 * x", "x.mul_(0.5)"),
            why="the caller's x is not the same after the call",
            question="Who else may need x?"),
    Mistake("F14", "no gradient passes through tanh (detach, no_grad, .data)",
            edit=("torch.tanh(inner)", "torch.tanh(inner).detach()"),
            why="the values are right, but the gradient is not",
            question="How would training reach what is inside tanh?"),
)
_TOO_FINE = ("F4r", "F6p", "F6r") # by the tolerance here; gelu is checked first
NETWORK = (
    *(replace(one, why=f"in the activation function: {one.why}")
      for one in (*_OTHER_FUNCTIONS, *_OTHER_NUMBERS) if one.id not in _TOO_FINE),
    Mistake("F8", "no activation function: two linear maps, which amount to one",
            edit=("gelu(x @ w1 + b1)", "x @ w1 + b1"),
            why="f(2x) - f(0) is twice f(x) - f(0): there is no nonlinearity",
            question=_Q_NETWORK),
    Mistake("F9", "the activation after the second linear map",
            edit=[("gelu(x @ w1 + b1)", "x @ w1 + b1"),
                  ("hidden @ w2 + b2", "gelu(hidden @ w2 + b2)")],
            why="no output is below -0.17, the lowest point of GELU",
            question=_Q_NETWORK),
    Mistake("F9b", "the activation after each of the two linear maps",
            edit=("hidden @ w2 + b2", "gelu(hidden @ w2 + b2)"),
            why="no output is below -0.17, the lowest point of GELU",
            question=_Q_NETWORK),
    Mistake("F9c", "the activation before the first linear map",
            edit=("gelu(x @ w1 + b1)", "gelu(x) @ w1 + b1"),
            why="x goes through gelu before it is widened", question=_Q_NETWORK),
    Mistake("F11", "every token gets the average of all tokens",
            edit=("x @", "x.mean(1, keepdim=True).expand_as(x) @"),
            why="all tokens of a text give the same result", question=_Q_TOKENS),
    Mistake("F11b", "a softmax over the tokens",
            edit=("x @ w1 + b1", "(x @ w1 + b1).softmax(1)"),
            why="changing one token changes the results of the others",
            question="Where in the model do tokens exchange something?"),
    Mistake("F11l", "every token gets the last token's result",
            edit=("x @", "x[:, -1:].expand_as(x) @"),
            why="all tokens of a text give the same result", question=_Q_TOKENS),
    Mistake("F11e", "every example gets the first one's result",
            edit=("x @", "x[:1].expand_as(x) @"),
            why="changing example 1 changes nothing",
            question="Which examples does x contain?"),
    Mistake("F23", "the hidden layer is returned: w2 and b2 are not used",
            edit=("hidden @ w2 + b2", "hidden"),
            why="the result has F channels, not C", question=_Q_NETWORK),
    Mistake("F21w", "narrowed with w1 transposed, not with w2", edit=("@ w2", "@ w1.T"),
            why="whatever w2 is, the result is the same", question=_Q_NETWORK),
    Mistake("F9t", "the activation twice in a row",
            edit=("gelu(x @ w1 + b1)", "gelu(gelu(x @ w1 + b1))"),
            why="the hidden layer goes through gelu two times", question=_Q_NETWORK),
    Mistake("F3g", "hidden * gelu(hidden): multiplied by itself",
            edit=[("gelu(x @ w1 + b1)", "x @ w1 + b1"),
                  ("hidden @", "hidden * gelu(hidden) @")],
            why="it grows like the square of x",
            question="What does gelu multiply by already?"),
    Mistake("F3m", "softmax instead of the activation function",
            edit=("gelu(x @ w1 + b1)", "(x @ w1 + b1).softmax(-1)"),
            why="the hidden units of a token add up to 1",
            question="Do hidden units compete?"),
    Mistake("F3n", "a layer norm after the activation",
            edit=("hidden @", "F.layer_norm(hidden, hidden.shape[-1:]) @"),
            why="the size of x makes no difference any more", question=_Q_NETWORK),
    Mistake("F16m", "b2 is subtracted", edit=("+ b2", "- b2"),
            why="with b2 = 0 the result is right",
            question="What is added at the end?"),
    Mistake("F16w", "b2 added to w2, not to the product", edit=("w2 + b2", "(w2 + b2)"),
            why="b2 is multiplied by the hidden layer",
            question="What is added at the end?"),
    Mistake("F12", "dropout that is always on",
            edit=("hidden @", "F.dropout(hidden, 0.3) @"),
            why="two calls give different results",
            question="When should dropout act?"),
    Mistake("F15", "b1 is missing", edit=(" + b1", ""),
            why="whatever b1 is, the result is the same",
            question="What does the hidden layer add before its activation function?"),
    Mistake("F16", "b2 is missing", edit=(" + b2", ""),
            why="whatever b2 is, the result is the same",
            question="What is added at the end?"),
    Mistake("F17", "b1 added after the activation",
            edit=("gelu(x @ w1 + b1)", "gelu(x @ w1) + b1"),
            why="b1 moves the result of gelu, not the place where it starts to rise",
            question="The bias is a threshold: where must it be to move the curve?"),
    Mistake("F18", "w1 transposed (F.linear does so)", edit=("@ w1", "@ w1.T"),
            why="right shapes only where F = C",
            question="w1 is (C, F), and a row of x has C numbers. Which axes meet?"),
    Mistake("F18b", "w2 transposed", edit=("@ w2", "@ w2.T"),
            why="right shapes only where F = C",
            question="w2 is (F, C), and a row of the hidden layer has F numbers. Which "
                 "axes meet?"),
    Mistake("F18c", "both matrices transposed (F.linear does so)",
            edit=[("@ w1", "@ w1.T"), ("@ w2", "@ w2.T")],
            why="right shapes only where F = C",
            question="Which axes of x and w1 meet?"),
    Mistake("F19", "w1 and w2 exchanged", edit=[("@ w1", "@ w2"), ("@ w2", "@ w1")],
            why="right shapes only where F = C", question="Which matrix widens?"),
    Mistake("F20", "x is added to the result, which is the block's job",
            edit=("return hidden", "return x + hidden"),
            why="yours minus the expected result is x",
            question="Who adds the result to the residual stream: the network or the "
                 "block?"),
    Mistake("F13", "changes its input in place", edit=("x @", "x.add_(b2) @"),
            why="the caller's x is not the same after the call",
            question="Who else may need x?"),
    Mistake("F14", "no gradient passes through the hidden layer (detach, no_grad, "
                   ".data)",
            edit=("hidden @", "hidden.detach() @"),
            why="the values are right, but x, w1 and b1 would never learn",
            question="How would training reach w1?"),
)

gelu = Exercise(
    "gelu", "04", "gelu(x) -> a tensor like x", make_probes=gelu_probes, mistakes=GELU,
    read_out=read_gelu,
    edge_cases=(EdgeCase(
        "it is fragile: nan or infinity far from 0 (e to the x overflows)",
            lambda g: Probe("x of 10,000", (torch.tensor([-1e4, 1e4]),))),
     EdgeCase("it fails in half precision", lambda g: Probe(
         "half precision", (torch.linspace(-3, 3, 7),), in_half))),
    hints=("Far to the left it returns 0, far to the right x, and at 0 it returns 0. "
           "Where does yours fail?",
           "Print it at -8, 0 and 8, then compare the constants with the formula.",
           "0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * "
           "(x + 0.044715 * x**3)))"),
    show="x = -2, -1.3, -0.75, 1.3, 8", atol=5e-6, rtol=1e-6, solution=_GELU)

gelu_to_repair = gelu.to_repair(
    "gelu_to_repair", "F4", "look at the factor of the cube",
    "cube = 0.044715 * torch.pow(x, 3)")

feed_forward = Exercise(
    "feed_forward", "04", "feed_forward(x, w1, b1, w2, b2) -> (B, T, C)",
    make_probes=network_probes, mistakes=NETWORK, read_out=read_network,
    axes={"x": "B T C", "w1": "C F", "b1": "F", "w2": "F C", "b2": "C", "": "B T C"},
    crashes=(
        (r"(mat1 and mat2|batch2 tensor).*\|.*(@|mm|matmul|linear)",
         "w1 is (C, F) and w2 is (F, C): x @ w1, without a transpose"),
        (r"size of tensor a.*\|.*(\w ?\* ?w[12]\b|\bw[12] ?\* ?\w)",
         "* multiplies entry by entry: the product of matrices is @"),
        (r"size of tensor a.*\|.*\bb[12]\b",
         "b1 is (F,) and belongs to the hidden layer, b2 is (C,) and belongs to the "
         "result")),
    show="B, T, C, F all different",
    hints=("Three steps: widen with w1 and b1, apply gelu, narrow with w2 and b2. "
           "Which of them differs from yours?",
           "Try it with w1 and w2 the identity and b1 and b2 zero: what is left is "
           "gelu.", "gelu(x @ w1 + b1) @ w2 + b2"), solution=_FEED_FORWARD)

# --- the answers that are values ------------------------------------------------------

_FACTS = torch.tensor(list(itertools.product((0.0, 1.0), repeat=3)))   # (8, 3)
_FEWEST = 2


def _two_of_three(value: Value) -> list[str]:
    """Return what keeps [w1, b1, w2, b2] from telling exactly two of three facts."""
    if not isinstance(value, list | tuple) or len(value) != 4:
        return ["expected a list of four: [w1, b1, w2, b2]"]
    w1, b1, w2, b2 = (torch.as_tensor(part, dtype=torch.float64) for part in value)
    hidden = w1.size(1) if w1.dim() == 2 else 0
    for name, part, shape in (("w1", w1, (3, hidden)), ("b1", b1, (hidden,)),
                              ("w2", w2, (hidden, 1)), ("b2", b2, (1,))):
        if part.shape != shape:
            letters = ("(3, F)", "(F,)", "(F, 1)", "(1,)")[
                ("w1", "b1", "w2", "b2").index(name)]
            return [f"{name} has the shape {tuple(part.shape)}, expected {letters}"]
    result = (torch.relu(_FACTS.double() @ w1 + b1) @ w2 + b2)[:, 0]
    for facts, one in zip(_FACTS.tolist(), result.tolist(), strict=True):
        wanted = float(sum(facts) == 2)
        if not abs(one - wanted) < 0.01:
            return [f"for the facts {[int(fact) for fact in facts]} it gives "
                    f"{one:.3g}, expected {wanted:.0f}"]
    if hidden > _FEWEST:
        return [f"all eight cases are right, with {hidden} hidden units: it can be "
                "done with fewer"]
    return []


def _gap(gap: float, where: float, differ: int) -> dict[str, float]:
    return {"largest gap": gap, "at": where, "differ in half": differ}


_NOT_X = Mistake(
    "P1", "the fraction Phi(x) alone, without the factor x",
    "far to the right x is multiplied by 1: GELU follows x there",
    "What is the fraction multiplied by?", "the formula has an x in front", "[0, 0, 8]")
_ONLY_STRAIGHT = Mistake(
    "P2", "x itself", "far to the left x is multiplied by nearly 0",
    "What fraction of the bell curve is below -8?", "the value at -8", "[0, 0, 8]")
_DIP = Mistake(
    "P3", "the lowest value, taken for the value far to the left",
    "-0.17 is reached at x = -0.75; further left it rises back to 0",
    "What fraction of the bell curve is below -8?", "the value at -8", "[0, 0, 8]")
_DOUBLE = Mistake(
    "F7", "the 0.5 in front is missing", "1 + tanh is 2 far to the right, and 0.5 * 2 "
    "is 1", "What is 0.5 * 8 * (1 + 1)?", "the value at 8", "[0, 0, 8]")
_HALF_AT_0 = Mistake(
    "P9", "the fraction of the bell curve at 0, not 0 times it",
    "GELU(0) is 0 times a half", "What is the fraction multiplied by?",
    "the value at 0", "[0, 0, 8]")
_FRACTION = Mistake(
    "P10", "the fraction of the bell curve at 8, not 8 times it",
    "GELU(8) is 8 times nearly 1", "What is the fraction multiplied by?",
    "the value at 8", "[0, 0, 8]")
_HALVED = Mistake(
    "P11", "half of x at 8",
    "nearly all of the bell curve is below 8, not half of it",
    "What fraction of the bell curve is below 8?", "the value at 8", "[0, 0, 8]")
_SHORT = "two significant digits are"
_PLACE = Mistake(
    "P7", "the index in the list, not the x with that index",
    "argmax gives an index; all x are between 2 and 4",
    "At which x is the gap largest?", "look at argmax", "x[gap.argmax()]")
_ALL_HALF = Mistake(
    "P8", "the gap of results in half precision, not in double precision",
    "half precision has steps of 1/512 there, so each gap is 0 or at least one step, "
    "0.00195", "When are the results rounded: before the gap is computed, or after?",
    "which type does x have when the gap is computed?",
    "gap = (F.gelu(x) - F.gelu(x, approximate=\"tanh\")).abs() with x in float64")

ANSWERS = (
    Answer("04.1", "GELU at -8, at 0 and at 8", [0.0, 0.0, 8.0], decimals=2,
           precision="two decimals are", predict=True,
           wrong=(([0.0, 0.5, 1.0], _NOT_X), ([-8.0, 0.0, 8.0], _ONLY_STRAIGHT),
                  ([-0.17, 0.0, 8.0], _DIP), ([0.0, 0.0, 16.0], _DOUBLE),
                  ([0.0, 0.5, 8.0], _HALF_AT_0), ([0.0, 0.0, 1.0], _FRACTION),
                  ([0.0, 0.0, 4.0], _HALVED)),
           hints=("GELU(x) is x times a fraction between 0 and 1.",
                  "Nearly nothing of the bell curve is below -8, half of it below 0, "
                  "nearly all of it below 8.",
                  "-8 times nearly 0, 0 times a half, 8 times nearly 1."),
           solution="predicted = [0.0, 0.0, 8.0]"),
    Answer("04.4", "the largest gap of the two forms, where it is, and how many of the "
           "1,024 values of x from 2 to 4 differ in half precision",
           _gap(0.000473, 2.699, 156), rtol=0.02, precision=_SHORT,
           wrong=((_gap(0.000473, 2.699, 1024), Mistake(
               "P4", "compared before rounding to half precision",
               "nearly every result differs, in digits that half precision drops",
               "What does .half() do to both results?", "compare after .half()",
               "(erf.half() != tanh.half()).sum()")),
                  (_gap(0.000473, 2.699, 1024 - 156), Mistake(
               "P5", "counted the equal ones, not those that differ",
               "156 and 868 make 1024", "Which of the two is asked for?",
               "== or !=", "(erf.half() != tanh.half()).sum()")),
                  (_gap(0.000473, 2.699, 178), Mistake(
               "P6", "the formulas computed in half precision",
               "each step of the formula is rounded, which adds differences of its own",
               "When is the result rounded: once, or after each step?",
               "compute in double precision, then .half()",
               "F.gelu(x).half(), with x in float64")),
                  (_gap(0.000473, 358, 156), _PLACE),
                  *((_gap(1 / 512, at, count), _ALL_HALF)
                    for at, count in ((2.066, 156), (2.07, 178), (2.049, 236)))),
           hints=("(a - b).abs() is the gap at each x, in double precision; .max() and "
                  ".argmax() return its size and its position in the list.",
                  "Compute in double precision first, then round: F.gelu(x).half(). "
                  "Compare the two rounded results with != and count.",
                  "(F.gelu(x).half() != F.gelu(x, approximate=\"tanh\").half()).sum()"),
           solution="x = torch.arange(1024, 2048, dtype=torch.float64) / 512\n"
                    'erf, tanh = F.gelu(x), F.gelu(x, approximate="tanh")\n'
                    "gap = (erf - tanh).abs()\n"
                    'measured = {"largest gap": gap.max().item(),\n'
                    '            "at": x[gap.argmax()].item(),\n'
                    '            "differ in half":\n'
                    "                (erf.half() != tanh.half()).sum().item()}"),
    Answer("04.5", "w1 (3, F), b1 (F,), w2 (F, 1), b2 (1,), which tell exactly two of "
           "three facts, with the smallest F",
           lambda: [torch.ones(3, 2), torch.tensor([-1.0, -2.0]),
                    torch.tensor([[1.0], [-2.0]]), torch.zeros(1)], test=_two_of_three,
           hints=("The order of the facts does not count. So every hidden unit may see "
                  "their sum, 0 to 3, and the network has to give 0, 0, 1, 0.",
                  "relu(sum - 1) is 0, 0, 1, 2. Subtract something that is 0, 0, 0, 2.",
                  "relu(sum - 1) rises from 1 on; from 2 on it must fall: subtract "
                  "2 relu(sum - 2)."),
           solution="w1, b1 = torch.ones(3, 2), torch.tensor([-1.0, -2.0])\n"
                    "w2, b2 = torch.tensor([[1.0], [-2.0]]), torch.zeros(1)"),
)
