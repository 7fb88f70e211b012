"""GELU and the feed-forward network, and what goes wrong with them (catalogue: F)."""

import math
from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from gpt2_lesson.checks.clues import Clue
from gpt2_lesson.checks.engine import Exercise, Look, Mistake, Robust
from gpt2_lesson.checks.probing import Probe, gradients
from gpt2_lesson.checks.stand_ins.drives import in_half

_ROOT = math.sqrt(2 / math.pi)


def gelu_of(x: Tensor, *, form: str = "tanh", cubic: float = 0.044715, power: int = 3,
            root: float = _ROOT, half: float = 0.5, one: float = 1.0, sign: int = 1,
            inside: bool = True, times_x: bool = True, in_place: bool = False,
            detached: bool = False, first: float = 1.0, cubed: str = "x",
            over: str = "inner") -> Tensor:
    """Return GPT-2's GELU of any shape, or what a mistake makes of it."""
    other = {"erf": lambda: F.gelu(x), "sigmoid": lambda: x * torch.sigmoid(1.702 * x),
             "relu": lambda: torch.relu(x), "silu": lambda: F.silu(x),
             "none": lambda: x, "leaky": lambda: F.leaky_relu(x),
             "only tanh": lambda: torch.tanh(x), "elu": lambda: F.elu(x),
             "softplus": lambda: F.softplus(x)}
    if form in other:
        return other[form]()
    term = {"x": cubic * x**power, "c x": (cubic * x)**power}.get(cubed)
    inner = (x + cubic * x)**power if cubed == "all" else first * x + term
    inner = root * inner if inside else root * x + term
    if over == "sigmoid":
        return x * torch.sigmoid(inner)
    if over == "all":
        return torch.tanh(half * x * (one + inner))
    bend = torch.tanh(inner)
    bend = bend.detach() if detached else bend
    x = x.mul_(half) if in_place else half * x
    return (one + sign * bend) * (x if times_x else half)


def network(x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, *,
            bend: str = "tanh", cubic: float = 0.044715, power: int = 3,
            root: float = _ROOT, half: float = 0.5, place: str = "between",
            bias1: str = "before", bias2: str = "last", turned: str = "",
            order: str = "w1 w2", tokens: str = "alone", add: bool = False,
            in_place: bool = False, dropout: float = 0.0, detached: bool = False,
            hidden_axis: str = "", ends: str = "narrow") -> Tensor:
    """Return x (B, T, C), widened, bent and narrowed again: (B, T, C)."""
    def curved(part: Tensor, here: str) -> Tensor:
        if here not in place.split():
            return part
        return gelu_of(part, form=bend, cubic=cubic, power=power, root=root, half=half)

    if in_place:
        x = x.mul_(1).add_(b2)
    start = x
    if tokens != "alone":
        x = {"averaged": x.mean(1, keepdim=True), "last": x[:, -1:], "softmax": x,
             "example 0": x[:1]}[tokens].expand_as(x)
    if order == "w2 w1":
        w1, w2 = w2, w1
    w1, w2 = (w.T if name in turned else w for name, w in (("w1", w1), ("w2", w2)))
    hidden = curved(x, "first") @ w1 + (b1 if bias1 == "before" else 0)
    if tokens == "softmax":
        hidden = hidden.softmax(1)
    if place == "twice":
        hidden = gelu_of(gelu_of(hidden))
    hidden = {"softmax": lambda: hidden.softmax(-1),
              "gate": lambda: hidden * gelu_of(hidden),
              "norm": lambda: F.layer_norm(gelu_of(hidden), hidden.shape[-1:]),
              }.get(hidden_axis, lambda: curved(hidden, "between"))()
    hidden = hidden + (b1 if bias1 == "after" else 0)
    hidden = torch.dropout(hidden, dropout, train=True)
    hidden = hidden.detach() if detached else hidden
    if ends == "wide":
        return hidden
    if ends == "w1 again":
        w2 = w1.mT
    w2 = w2 + b2 if bias2 == "on w2" else w2
    b2 = {"last": b2, "minus": -b2}.get(bias2, 0)
    out = curved(hidden @ w2 + b2, "last")
    return out + start if add else out


# --- probes ---------------------------------------------------------------------------


def gelu_probes(g: Generator) -> list[Probe]:
    """Return inputs for GELU: points, a line, far away, three axes, gradients."""
    return [Probe("x = -2, -1.3, -0.75, 1.3, 8", (
                torch.tensor([-2, -1.3, -0.75, 1.3, 8]),)),
            Probe("x from -3 to 3", (torch.linspace(-3, 3, 25),)),
            Probe("x far from 0", (torch.tensor([-1000.0, -8, -5, 0, 5, 8, 1000]),)),
            Probe("where the constants show best, 1 to 1.6", (
                torch.linspace(1, 1.6, 7),)),
            Probe("three axes", (2 * torch.randn(2, 5, 4, generator=g),)),
            Probe("one number", (torch.tensor(1.5),)),
            Probe("the gradient of x", (2 * torch.randn(3, 4, generator=g),),
                  gradients)]


def _sized(g: Generator, b: int, t: int, c: int, f: int, spread: float = 1.0) -> tuple:
    """Return x, w1, b1, w2, b2, such that GELU gets numbers of about 1.5."""
    return (torch.randn(b, t, c, generator=g),
            1.5 * torch.randn(c, f, generator=g) / math.sqrt(c),
            spread * torch.randn(f, generator=g),
            torch.randn(f, c, generator=g) / math.sqrt(f),
            spread * torch.randn(c, generator=g))


def network_probes(g: Generator) -> list[Probe]:
    """Return the battery: all sizes different, square, no biases, alone, gradients."""
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


def read_gelu(look: Look, g: Generator) -> list[Clue]:
    """Return what the bend does far away and at 0, and the constants in its tanh."""
    x = torch.tensor([-8.0, 0.0, 8.0, -0.75])
    return _far(_values(look(Probe("points", (x,))).value, 4)) + _constants(
        lambda x: look(Probe("line", (x,))).value)


def read_network(look: Look, g: Generator) -> list[Clue]:
    """Return the bend between two identities, and whether there is a bend at all."""
    eye, zero = torch.eye(3), torch.zeros(3)

    def bend(x: Tensor) -> object:
        many = x[:, None, None].expand(-1, -1, 3).contiguous()   # one token each
        value = look(Probe("identities", (many, eye, zero, eye, zero))).value
        return value[:, 0, 0] if isinstance(value, Tensor) and value.shape == (
            many.shape) else None

    points = _values(bend(torch.tensor([-8.0, 0.0, 8.0, -0.75])), 4)
    return _straight(look, g) + _far(points, "with identities for w1 and w2 ") + (
        _constants(bend))


def _values(value: object, n: int) -> list[float]:
    good = isinstance(value, Tensor) and value.shape == (n,) and value.isfinite().all()
    return value.tolist() if good else []


def _far(points: list[float], start: str = "") -> list[Clue]:
    """Return what is wrong with the values at -8, 0 and 8."""
    wanted = {-8: 0, 0: 0, 8: 8}
    found = [f"{place} is {value:.4g}, expected {wanted[place]}"
             for place, value in zip(wanted, points, strict=False)
             if abs(value - wanted[place]) > 1e-3]
    return [Clue("far", f"{start}your value at " + "; at ".join(found))] * bool(found)


def _constants(bend: object) -> list[Clue]:
    """Return the factor and the cubic term that the values imply, read backwards.

    y = 0.5 x (1 + tanh(a x + c x^3)) gives a x + c x^3 = atanh(2 y / x - 1).
    """
    x = torch.linspace(0.3, 1.5, 9)
    y = _values(bend(x), 9)
    if not y:
        return []
    x, y = x.double(), torch.tensor(y, dtype=torch.float64)
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
    return [Clue("constants", "read backwards from x = 0.3 to 1.5, yours is "
                 f"0.5 x (1 + tanh({a:.4f} x "
                 f"{'-' if c < 0 else '+'} {abs(c):.4f} x^3)), expected 0.7979 x + "
                 "0.0357 x^3: the root of 2/pi, and that root times 0.044715")]


def _straight(look: Look, g: Generator) -> list[Clue]:
    """Return whether f(a + b) + f(0) = f(a) + f(b), as without a bend."""
    x, *weights = _sized(g, 2, 3, 4, 6)
    parts = [look(Probe("sum", (part, *weights))).value
             for part in (x, 2 * x, 0 * x)]
    if not all(isinstance(part, Tensor) and part.shape == x.shape for part in parts):
        return []
    if (parts[1] + parts[2]).allclose(2 * parts[0], atol=1e-4):
        return [Clue("straight", "there is no bend in your function: f(2x) - f(0) is "
                     "twice f(x) - f(0)")]
    return []


# --- mistakes -------------------------------------------------------------------------

_Q_FAR = "What should the bend give far to the right, and far to the left?"
_Q_FORM = "Compare with the formula, one factor after the other."
_LINE = ("0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * "
         "(x + 0.044715 * x**3)))")

_BENDS = (
    ("F1", "the erf form of GELU (what F.gelu gives by itself)",
     "off by at most 0.0005, near |x| = 2.7: not the form that GPT-2 was trained with",
     "There are two forms of GELU. Which one did GPT-2 train with?",
     "look at the function's name, and at its `approximate`",
     'F.gelu(x, approximate="tanh"), or the formula with tanh', "erf"),
    ("F2", "x * sigmoid(1.702 x), a cheaper stand-in for GELU",
     "the error is largest near |x| = 2.3", "Which form did GPT-2 train with?",
     "look at the function between x and the result", _LINE, "sigmoid"),
    ("F3", "ReLU", "0 left of 0, with a corner at 0: GELU dips to -0.17 at x = -0.75",
     "What does GELU give at x = -0.75?", "look at the function's name", _LINE, "relu"),
    ("F3s", "SiLU: x * sigmoid(x)", "the error is largest near x = -2",
     "By how much is x multiplied at x = 2?", "look at the factor inside the sigmoid",
     _LINE, "silu"),
    ("F3l", "leaky ReLU", "left of 0 it falls without end: GELU returns to 0",
     _Q_FAR, "look at the function's name", _LINE, "leaky"),
    ("F3t", "tanh alone", "never above 1: GELU(8) is 8", _Q_FAR,
     "tanh is one part of the formula: what is done with it?", _LINE, "only tanh"),
)
_FORMULA = (
    Mistake("F4", "0.44715 for 0.044715: a zero is lost",
            "the error is largest near |x| = 1.3", _Q_FORM,
            "count the zeros of the constant before x cubed", "0.044715 * x**3",
            {"cubic": 0.44715}),
    Mistake("F4b", "0.0044715 for 0.044715: a zero too many",
            "the cube hardly counts",
            _Q_FORM, "count the zeros of the constant before x cubed",
            "0.044715 * x**3", {"cubic": 0.0044715}),
    Mistake("F4r", "0.0447 for 0.044715: two digits are cut off",
            "right to four digits, and off by 0.00001 near x = 1.3", _Q_FORM,
            "count the digits of the constant before x cubed", "0.044715 * x**3",
            {"cubic": 0.0447}),
    Mistake("F4n", "no cubic term", "tanh(0.80 x) alone", _Q_FORM,
            "what is added to x inside tanh?", "x + 0.044715 * x**3", {"cubic": 0.0}),
    Mistake("F4m", "the cubic term is subtracted",
            "far from 0 the result goes to the wrong side", _Q_FORM,
            "look at the sign before the cubic term", "x + 0.044715 * x**3",
            {"cubic": -0.044715}),
    Mistake("F5", "x squared for x cubed",
            "the square is positive on both sides, so the left half is bent wrongly",
            "Which sign has the term at x = -2, and which should it have?",
            "look at the power", "x**3", {"power": 2}),
    Mistake("F5q", "x to the power of 4, not of 3",
            "an even power is positive on both sides",
            "Which sign has the term at x = -2, and which should it have?",
            "look at the power", "x**3", {"power": 4}),
    Mistake("F6r", "0.8 for sqrt(2/pi)", "sqrt(2/pi) is 0.79788", _Q_FORM,
            "look at the factor inside tanh", "math.sqrt(2 / math.pi)", {"root": 0.8}),
    Mistake("F6p", "3.14 for pi", "right to three digits", _Q_FORM,
            "how exact is your pi?", "math.pi", {"root": math.sqrt(2 / 3.14)}),
    Mistake("F6", "sqrt(2)/pi for sqrt(2/pi)",
            "the slope inside tanh is 0.45, expected 0.80", _Q_FORM,
            "is pi under the root?", "math.sqrt(2 / math.pi)",
            {"root": math.sqrt(2) / math.pi}),
    Mistake("F6b", "2/pi without the root",
            "the slope inside tanh is 0.64, expected 0.80", _Q_FORM,
            "look at the factor inside tanh", "math.sqrt(2 / math.pi)",
            {"root": 2 / math.pi}),
    Mistake("F6c", "sqrt(pi/2), the fraction upside down",
            "the slope inside tanh is 1.25, expected 0.80", _Q_FORM,
            "which of 2 and pi stands above?", "math.sqrt(2 / math.pi)",
            {"root": math.sqrt(math.pi / 2)}),
    Mistake("F7", "the 0.5 in front is missing", "all is doubled: at 8 it gives 16",
            _Q_FAR, "which number should 1 + tanh be multiplied by, far to the right?",
            "0.5 * x * (1 + torch.tanh(...))", {"half": 1.0}),
    Mistake("F7t", "2 in front, not 0.5", "all is four times too large: at 8 it gives "
            "32", _Q_FAR,
            "which number should 1 + tanh be multiplied by, far to the right?",
            "0.5 * x * (1 + torch.tanh(...))", {"half": 2.0}),
)

GELU = (
    *(Mistake(*texts, {"form": form}) for *texts, form in _BENDS), *_FORMULA,
    Mistake("F8", "no bend: x comes back", "the result is x itself",
            "What should a negative number become?", "what is done to x before return?",
            _LINE, {"form": "none"}),
    Mistake("F6d", "the factor multiplies x alone, not the whole sum",
            "the cubic term is not multiplied by 0.80: brackets are missing", _Q_FORM,
            "look at the brackets inside tanh",
            "math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)", {"inside": False},
            mark="R"),
    Mistake("F6x", "x inside tanh is missing: the cubic term alone",
            "near 0 the result is x / 2, too flat on the left", _Q_FORM,
            "what is added inside tanh?", "x + 0.044715 * x**3", {"first": 0.0}),
    Mistake("F6y", "the power takes the whole sum: (x + 0.044715 x)**3", "brackets "
    "stand "
            "around x too", _Q_FORM, "what is cubed?", "x + 0.044715 * x**3",
            {"cubed": "all"}),
    Mistake("F6z", "the constant is cubed, too: (0.044715 x)**3",
            "0.044715 cubed is 0.00009, so the term is lost", _Q_FORM,
            "what is cubed?", "x + 0.044715 * x**3", {"cubed": "c x"}),
    Mistake("F7s", "sigmoid of the inner sum, where it is tanh",
            "the same formula with sigmoid needs twice the inner sum", _Q_FORM,
            "look at the function around the sum",
            "0.5 * x * (1 + torch.tanh(...)), or x * sigmoid of twice the sum",
            {"over": "sigmoid"}),
    Mistake("F7a", "tanh around everything", "never above 1: GELU(8) is 8", _Q_FAR,
            "which part stands inside tanh?", _LINE, {"over": "all"}),
    Mistake("F7h", "0.5 for the 1 before tanh", "far to the left it is not 0", _Q_FAR,
            "tanh runs from -1 to 1: what makes it run from 0 to 2?",
            "1 + torch.tanh(...)", function=lambda x: 2 * gelu_of(x, one=0.5)),
    Mistake("F3e", "ELU", "left of 0 it falls to -1: GELU returns to 0", _Q_FAR,
            "look at the function's name", _LINE, {"form": "elu"}),
    Mistake("F3p", "softplus", "at 0 it is ln 2, not 0", "What does GELU give at 0?",
            "look at the function's name", _LINE, {"form": "softplus"}),
    Mistake("F7b", "the 1 before tanh is missing",
            "far to the left it gives -x/2 and not 0: the result is even", _Q_FAR,
            "tanh runs from -1 to 1: what makes it run from 0 to 2?",
            "1 + torch.tanh(...)", {"one": 0.0}, mark="R"),
    Mistake("F7c", "1 - tanh for 1 + tanh", "left and right are exchanged", _Q_FAR,
            "look at the sign before tanh", "1 + torch.tanh(...)", {"sign": -1},
            mark="R"),
    Mistake("F7d", "the factor x is missing: only the share is returned",
            "it runs from 0 to 1; GELU is that share times x", _Q_FAR,
            "what is the share multiplied by?", "0.5 * x * (1 + ...)",
            {"times_x": False}, mark="R"),
    Mistake("F13", "changes its input in place",
            "the caller's x is not the same after the call", "Who else may need x?",
            "look for *=, +=, and names ending in _", "write 0.5 * x, a new tensor",
            {"in_place": True}, mark="R"),
    Mistake("F14", "no gradient passes through tanh (detach, no_grad, .data)",
            "the values are right, but the slope is not",
            "How would training reach what is inside tanh?",
            "look for detach, no_grad, .data", "leave it attached", {"detached": True},
            mark="R"),
)

_TOO_FINE = ("F4r", "F6p",
"F6r")        # for the network's tolerance; gelu is checked first
_Q_NETWORK = "Widen, bend, narrow: which of the three comes when?"
_NETWORK_LINE = "gelu(x @ w1 + b1) @ w2 + b2"

NETWORK = (
    *(replace(one, why=f"of the activation alone: {one.why}") for one in (
        *(Mistake(*texts, {"bend": form}) for *texts, form in _BENDS), *_FORMULA)
      if one.id not in _TOO_FINE),
    Mistake("F8", "no activation: two linear maps, worth one",
            "f(2x) - f(0) is twice f(x) - f(0): nothing bends", _Q_NETWORK,
            "what stands between the two products?", _NETWORK_LINE, {"place": ""},
            mark="R"),
    Mistake("F9", "the activation after the second linear map",
            "no output is below -0.17, the lowest point of GELU", _Q_NETWORK,
            "which product does gelu get?", _NETWORK_LINE, {"place": "last"}),
    Mistake("F9b", "the activation after both linear maps",
            "no output is below -0.17, the lowest point of GELU", _Q_NETWORK,
            "count the calls of gelu", _NETWORK_LINE, {"place": "between last"},
            mark="R"),
    Mistake("F9c", "the activation before the first linear map", "x is bent before it "
            "is widened", _Q_NETWORK, "what does gelu get?", _NETWORK_LINE,
            {"place": "first"}, mark="R"),
    Mistake("F11", "every token gets the average of all tokens",
            "all tokens of a text give the same result", "May other tokens change the "
            "result of this one?", "look for a mean, or for dim=1", _NETWORK_LINE,
            {"tokens": "averaged"}, mark="R"),
    Mistake("F11b", "a softmax over the tokens",
            "changing one token changes the results of the others",
            "Where in the model do tokens exchange something?",
            "look for softmax, and at its axis", _NETWORK_LINE, {"tokens": "softmax"},
            mark="R"),
    Mistake("F11l", "every token gets the last token's result",
            "all tokens of a text give the same result", "May other tokens change the "
            "result of this one?", "look for [:, -1]", _NETWORK_LINE,
            {"tokens": "last"}),
    Mistake("F11e", "every example gets the first one's result",
            "changing example 1 changes nothing", "Which examples does x hold?",
            "look for a [0]", _NETWORK_LINE, {"tokens": "example 0"}),
    Mistake("F23", "the hidden layer is returned: w2 and b2 are not used",
            "the result has F channels, not C", _Q_NETWORK, "look at the last line",
            _NETWORK_LINE, {"ends": "wide"}),
    Mistake("F21w", "narrowed with w1 transposed, not with w2",
            "whatever w2 is, the result is the same", _Q_NETWORK,
            "which matrix does the second product use?", _NETWORK_LINE,
            {"ends": "w1 again"}),
    Mistake("F9t", "the activation twice in a row", "the hidden layer goes through "
                                                    "gelu "
            "two times", _Q_NETWORK, "count the calls of gelu", _NETWORK_LINE,
            function=partial(network, place="twice")),
    Mistake("F3g", "hidden * gelu(hidden): multiplied by itself",
            "it grows like the square of x", "What does gelu multiply by already?",
            "what is done with the result of gelu?", _NETWORK_LINE,
            function=partial(network, hidden_axis="gate")),
    Mistake("F3m", "softmax in the place of the activation",
            "the hidden units of a token add up to 1", "Do hidden units compete?",
            "look for softmax", _NETWORK_LINE,
            function=partial(network, hidden_axis="softmax")),
    Mistake("F3n", "a layer norm after the activation",
            "the size of x makes no difference any more", _Q_NETWORK,
            "look for a norm", _NETWORK_LINE,
            function=partial(network, hidden_axis="norm")),
    Mistake("F16m", "b2 is subtracted", "with b2 = 0 the result is right",
            "What is added at the end?", "look at the sign before b2", _NETWORK_LINE,
            {"bias2": "minus"}),
    Mistake("F16w", "b2 added to w2, not to the product",
            "b2 is multiplied by the hidden layer", "What is added at the end?",
            "look at the brackets around w2", _NETWORK_LINE, {"bias2": "on w2"}),
    Mistake("F12", "dropout that is always on", "two calls give different results",
            "When should dropout act?", "look for dropout",
            "leave it out here; a module has self.training", {"dropout": 0.3},
            mark="R"),
    Mistake("F15", "b1 is missing", "whatever b1 is, the result is the same",
            "What does the hidden layer add before it bends?",
            "which arguments do you use?", _NETWORK_LINE, {"bias1": ""}, mark="R"),
    Mistake("F16", "b2 is missing", "whatever b2 is, the result is the same",
            "What is added at the end?", "which arguments do you use?", _NETWORK_LINE,
            {"bias2": ""}, mark="R"),
    Mistake("F17", "b1 added after the bend",
            "b1 moves the result of the bend, not the place where it bends",
            "The bias is a threshold: where must it be to move the bend?",
            "look at the brackets of gelu", "gelu(x @ w1 + b1)", {"bias1": "after"},
            mark="R"),
    Mistake("F18", "w1 transposed (F.linear does so)", "right shapes only where F = C",
            "w1 is (C, F), and a row of x has C numbers. Which axes meet?",
            "nn.Linear keeps its weight as (out, in), this exercise as (in, out)",
            "x @ w1", {"turned": "w1"}, mark="R"),
    Mistake("F18b", "w2 transposed", "right shapes only where F = C",
            "w2 is (F, C), and a row of the hidden layer has F numbers. Which axes "
            "meet?", "look at the second product", "hidden @ w2", {"turned": "w2"},
            mark="R"),
    Mistake("F18c", "both matrices transposed (F.linear does so)",
            "right shapes only where F = C", "Which axes of x and w1 meet?",
            "nn.Linear keeps its weight as (out, in), this exercise as (in, out)",
            "x @ w1, and hidden @ w2", {"turned": "w1 w2"}, mark="R"),
    Mistake("F19", "w1 and w2 exchanged", "right shapes only where F = C",
            "Which matrix widens?", "look at the order of the two products",
            _NETWORK_LINE, {"order": "w2 w1"}, mark="R"),
    Mistake("F20", "x added to the result: that is the block's part",
            "yours minus the expected result is x",
            "Who adds the result to the stream: the network or the block?",
            "look at the last line", _NETWORK_LINE, {"add": True}, mark="R"),
    Mistake("F13", "changes its input in place",
            "the caller's x is not the same after the call", "Who else may need x?",
            "look for *=, +=, and names ending in _", "x = x + ... makes a new tensor",
            {"in_place": True}, mark="R"),
    Mistake("F14", "no gradient passes the hidden layer (detach, no_grad, .data)",
            "the values are right, but x, w1 and b1 would never learn",
            "How would training reach w1?", "look for detach, no_grad, .data",
            "leave the hidden layer attached", {"detached": True}, mark="R"),
)

gelu = Exercise(
    "gelu", "04", "gelu(x) -> a tensor like x", gelu_of, gelu_probes, GELU, read_gelu,
    (Robust("it is fragile: nan or infinity far from 0 (e to the x overflows)",
            lambda g: Probe("x of 10,000", (torch.tensor([-1e4, 1e4]),))),
     Robust("it fails in half precision", lambda g: Probe(
         "half precision", (torch.linspace(-3, 3, 7),), in_half))),
    hints=("Far left it gives 0, far right x, at 0 it gives 0. Which of them fails?",
           "Print it at -8, 0 and 8, then compare the constants with the formula.",
           _LINE),
    show="x = -2, -1.3, -0.75, 1.3, 8", atol=5e-6, rtol=1e-6, solution="""\
def gelu(x):
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
    return 0.5 * x * (1 + torch.tanh(inner))""")

gelu_to_repair = gelu.to_repair("gelu_to_repair", "F4")

feed_forward = Exercise(
    "feed_forward", "04", "feed_forward(x, w1, b1, w2, b2) -> (B, T, C)", network,
    network_probes, NETWORK, read_network,
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
    hints=("Three steps: widen with w1 and b1, bend, narrow with w2 and b2. Which of "
           "them differs from yours?",
           "Try it with w1 and w2 the identity and b1 and b2 zero: what is left is "
           "gelu.", _NETWORK_LINE), solution="""\
def feed_forward(x, w1, b1, w2, b2):
    hidden = x @ w1 + b1
    inner = math.sqrt(2 / math.pi) * (hidden + 0.044715 * hidden**3)
    hidden = 0.5 * hidden * (1 + torch.tanh(inner))
    return hidden @ w2 + b2""")
