"""Lesson 05: layer norm and the pre-norm block (catalogue: L and B)."""

import math
import re
from collections.abc import Callable

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
from gpt2_lesson.checks.fakes.formula import Layer, Silent, formula, slope
from gpt2_lesson.checks.probing import Probe, Value, gradients

# --- the right answers ----------------------------------------------------------------

_LAYER_NORM = """\
def layer_norm(x, weight, bias, eps=1e-5):
    mean = x.mean(-1, keepdim=True)
    difference = x - mean
    variance = (difference**2).mean(-1, keepdim=True)
    normed = difference / (variance + eps).sqrt()
    return normed * weight + bias"""

_BLOCK = """\
def block(x, ln_attn, attn, ln_mlp, mlp):
    x = x + attn(ln_attn(x))
    return x + mlp(ln_mlp(x))"""

# --- probes ---------------------------------------------------------------------------


def _affine(g: Generator, c: int) -> tuple[Tensor, Tensor]:
    """Return a weight and a bias (C,), none of them near 0 or 1."""
    weight, bias = torch.randn(2, c, generator=g)
    return weight + 0.5 * weight.sign(), bias + 0.5 * bias.sign()


def _rows(g: Generator, b: int, t: int, c: int) -> Tensor:
    """Return rows (B, T, C) of standard deviation 1, each with another mean."""
    x = torch.randn(b, t, c, generator=g)
    x = (x - x.mean(-1, keepdim=True)) / x.std(-1, correction=0, keepdim=True)
    return x + torch.randn(b, t, 1, generator=g)


def norm_probes(g: Generator) -> list[Probe]:
    """Return the probes: C = 4, tiny, constant, shifted rows, T = C, an own eps."""
    x = _rows(g, 3, 5, 4)
    weight, bias = _affine(g, 4)
    sizes = {"B": 3, "T": 5, "C": 4}
    spreads = torch.tensor([0.3, 1.0, 2.0, 5.0, 20.0])[:, None]
    constant = torch.full((2, 3, 4), 2.5)
    ones, zeros = torch.ones(4), torch.zeros(4)
    square = _rows(g, 1, 4, 4)
    return [Probe("C = 4, rows of standard deviation 1, weight 1, bias 0",
                  (x, ones, zeros), sizes=sizes),
            Probe("any weight and bias", (x, weight, bias), sizes=sizes),
            Probe("rows of standard deviation 0.3 to 20", (x * spreads, weight, bias)),
            Probe("rows shifted by 3", (x + 3, weight, bias)),
            Probe("tiny rows, of standard deviation 0.001", (x / 1000, weight, bias)),
            Probe("rows of equal numbers", (constant, weight, bias)),
            Probe("one example, T = C", (square, weight, bias)),
            Probe("one token, C = 6", (_rows(g, 1, 1, 6), *_affine(g, 6))),
            Probe("eps = 0.5", (x, weight, bias, 0.5)),
            Probe("gradients", (10 * x, weight, bias), gradients)]


def _layers(g: Generator, c: int) -> list[Layer]:
    """Return four different stand-ins, of which attn mixes tokens."""
    return [Layer(name, torch.randn(c, c, generator=g) / c**0.5, name == "attn")
            for name in ("ln_attn", "attn", "ln_mlp", "mlp")]


def block_probes(g: Generator) -> list[Probe]:
    """Return the probes: four layers, silent ones, one token, gradients."""
    x = torch.randn(2, 5, 4, generator=g)
    layers = _layers(g, 4)
    ln_attn, attn, ln_mlp, mlp = layers
    return [Probe("four layers", (x, *layers), sizes={"B": 2, "T": 5, "C": 4}),
            Probe("attn and mlp return 0", (x, ln_attn, Silent(), ln_mlp, Silent())),
            Probe("attn returns 0", (x, ln_attn, Silent(), ln_mlp, mlp)),
            Probe("mlp returns 0", (x, ln_attn, attn, ln_mlp, Silent())),
            Probe("one token", (torch.randn(1, 1, 6, generator=g), *_layers(g, 6))),
            Probe("gradients", (x, *layers), slope)]


def block_formula(g: Generator) -> Probe:
    """Return the probe whose value is the formula."""
    return Probe("the formula", (torch.randn(2, 5, 6, generator=g), *_layers(g, 6)),
                 formula)


# --- what can be read out when nothing matches ----------------------------------------


def read_norm(run: RunProbe, g: Generator) -> list[Clue]:
    """Return mean and deviation of rows, the effective eps, and the affine part."""
    x = _rows(g, 2, 3, 4)
    weight, bias = torch.ones(4), torch.zeros(4)

    def rows(x: Tensor, *affine: Tensor) -> Tensor | None:
        value = run(Probe("rows", (x, *(affine or (weight, bias))))).value
        good = isinstance(value, Tensor) and value.shape == x.shape
        return value if good and value.isfinite().all() else None

    found = _row_clues(rows(x), "rows of standard deviation about 1")
    found = found or _row_clues(rows(x + 3), "the same rows, shifted by 3")
    return (found or _eps_clue(x, rows)) + _affine_clue(x, rows)


def _row_clues(y: Tensor | None, which: str) -> list[Clue]:
    """Return that rows have a mean other than 0, or a deviation other than 1."""
    if y is None:
        return []
    mean, std = y.mean(-1).flatten(), y.std(-1, correction=0).flatten()
    if mean.abs().max() < 1e-3 and (std - 1).abs().max() < 1e-3:
        return []
    return [Clue("rows", f"{which}, with weight 1 and bias 0: your results have means "
                 f"{_range(mean)} and standard deviations {_range(std)}, "
                 "expected 0 and 1")]


def _range(values: Tensor) -> str:
    low, high = values.min().item(), values.max().item()
    return (f"of {low:.3g}" if abs(high - low) < 1e-3
            else f"from {low:.3g} to {high:.3g}")


def _eps_clue(x: Tensor, rows: Callable[..., Tensor | None]) -> list[Clue]:
    """Return the eps that the standard deviation of a tiny row implies.

    The result has the deviation s / sqrt(s^2 + eps) for a row of deviation s.
    """
    tiny = x / 1000
    y = rows(tiny)
    if y is None:
        return []
    s, out = (part.double().std(-1, correction=0) for part in (tiny, y))
    eps = ((s / out) ** 2 - s**2).flatten()
    if not eps.isfinite().all() or (eps - 1e-5).abs().max() < 1e-7:
        return []
    if eps.abs().max() > 0.01:                   # no eps any more: something else
        return [Clue("tiny rows", "rows of standard deviation 0.001 come out with "
                     f"standard deviations {_range(out)}, expected 0.302")]
    if eps.max() - eps.min() < 0.02 * eps.abs().max() + 1e-8:
        return [Clue("eps", f"your effective eps, added to the variance under the root,"
                     f" is {eps.median():.3g}, expected 1e-05")]
    return [Clue("eps", "rows of standard deviation 0.001 are off: eps is not added to "
                 "the variance under the root")]


def _affine_clue(x: Tensor, rows: Callable[..., Tensor | None]) -> list[Clue]:
    """Return what a row of equal numbers gives: it should be the bias."""
    weight, bias = torch.tensor([2.0, 3, 4, 5]), torch.tensor([-1.0, 7, 6, 9])
    y = rows(torch.ones_like(x), weight, bias)
    if y is None or y.allclose(bias.expand_as(y), atol=1e-3):
        return []
    return [Clue("affine", "a row of equal numbers has no differences, so its result "
                 f"should be the bias, {bias.tolist()}: yours is "
                 f"{[round(one, 3) for one in y[0, 0].tolist()]}")]


def read_block(run: RunProbe, g: Generator) -> list[Clue]:
    """Return which layers are not used, or used twice, and what silent ones give."""
    text = run(block_formula(g)).value
    if not isinstance(text, str) or text == "?":
        return []
    missing = [name for name in ("ln_attn", "attn", "ln_mlp", "mlp")
               if not re.search(rf"\b{name}\(", text)]
    found = [Clue("unused", f"your result does not use {' and '.join(missing)}")]
    found = found * bool(missing)
    x = torch.randn(2, 5, 6, generator=g)
    ln_attn, _, ln_mlp, _ = _layers(g, 6)
    y = run(Probe("silent", (x, ln_attn, Silent(), ln_mlp, Silent()))).value
    if isinstance(y, Tensor) and y.shape == x.shape and not y.allclose(x, atol=1e-5):
        found.append(Clue("silent", "with attn and mlp returning 0 your block should "
                          "return x, and does not: the sum must contain the plain x"))
    return found or _reads_clue(text)


_READS = {"ln_attn": ("x", "the block's input"),
          "attn": ("ln_attn(x)", "what ln_attn returns"),
          "ln_mlp": ("x + attn(ln_attn(x))", "the residual stream, after attn"),
          "mlp": ("ln_mlp(x + attn(ln_attn(x)))", "what ln_mlp returns")}


def _reads_clue(text: str) -> list[Clue]:
    """Return the first layer that reads something else than it should."""
    for name, (wanted, words) in _READS.items():
        given = _inside(text, name)[0]
        if given != wanted:
            given = "no sum of x and layers" if "?" in given else given
            return [Clue("reads", f"{name} reads {given} in your block; it should read "
                         f"{words}")]
    return [Clue("added", "each layer reads what it should; what is added up differs: "
                 "the residual stream and the result of each sublayer, each once")]


def _inside(text: str, name: str) -> list[str]:
    """Return what is in the brackets of each `name(...)` in a formula."""
    found = []
    for match in re.finditer(rf"\b{name}\(", text):
        depth, end = 1, match.end()
        while depth:
            depth += {"(": 1, ")": -1}.get(text[end], 0)
            end += 1
        found.append(text[match.end():end - 1])
    return found


# --- mistakes -------------------------------------------------------------------------

_Q_UNIT = ("The standard deviation is the root of the variance. Which of them has x's "
           "unit?")
_Q_MEAN = "What should the mean of each row be afterwards?"
_Q_LEFT = "What is the mean of a row from which its mean has been subtracted?"
_Q_FIRST = "What does Python do first: the minus, or the division?"
_Q_VARIANCE = "By how many is the sum of the squares divided?"
_Q_EPS = "What is eps added to: the variance or its square root?"
_Q_AXIS = "Which numbers does one token's mean run over?"
_Q_AFFINE = "What multiplies each channel, and what is added to it?"

LAYER_NORM = (
    Mistake("L1", "the unbiased variance (divided by C - 1)",
            edit=("(difference**2).mean(", "x.var("),
            why="at C = 4 the result is 0.866 times the right one",
            question=_Q_VARIANCE),
    Mistake("L2", "eps outside the root: sqrt(variance) + eps",
            edit=("(variance + eps).sqrt()", "(variance.sqrt() + eps)"),
            why="rows of standard deviation 0.001 come out three times too large; "
                "others look right",
            question=_Q_EPS),
    Mistake("L3", "no eps", edit=(" + eps", ""),
            why="a row of equal numbers gives nan: 0/0",
            question="What is 0 divided by 0?"),
    Mistake("L4", "eps is 1e-6, not 1e-5", edit=("+ eps", "+ 1e-6"),
            why="rows of standard deviation 0.001 come out 2.4 times too large",
            question=_Q_EPS),
    Mistake("L4b", "eps is 1e-12, not 1e-5", edit=("+ eps", "+ 1e-12"),
            why="rows of standard deviation 0.001 come out 3.3 times too large",
            question=_Q_EPS),
    Mistake("L13", "the argument eps is not used: always 1e-5",
            edit=("+ eps", "+ 1e-5"),
            why="right with the default, wrong with another eps", question=_Q_EPS),
    Mistake("L14", "the larger of variance and eps, not their sum",
            edit=("(variance + eps)", "variance.clamp(min=eps)"),
            why="tiny rows come out slightly too large", question=_Q_EPS),
    Mistake("L4q", "eps is squared", edit=("+ eps", "+ eps**2"),
            why="rows of standard deviation 0.001 come out 3.3 times too large",
            question=_Q_EPS),
    Mistake("L4t", "eps added twice", edit=("+ eps", "+ 2 * eps"),
            why="rows of standard deviation 0.001 come out too small", question=_Q_EPS),
    Mistake("L3n", "eps added to the numerator, not to the variance",
            edit=("difference / (variance + eps)", "(difference + eps) / variance"),
            why="a row of equal numbers gives infinity: eps / 0",
            question="What must not become 0: what is divided, or what it is divided "
                     "by?"),
    Mistake("L1s", "the sum of the squares, not their mean",
            edit=("(difference**2).mean(", "(difference**2).sum("),
            why="the result is too small, by a factor of sqrt(C): half at C = 4",
            question=_Q_VARIANCE),
    Mistake("L1n", "divided by the length of the row (its norm)",
            edit=("(variance + eps).sqrt()",
                  "(difference.norm(dim=-1, keepdim=True) + eps)"),
            why="the result is too small, by a factor of sqrt(C): half at C = 4",
            question=_Q_VARIANCE),
    Mistake("L1z", "F.normalize: divided by the length of the row",
            edit=("difference / (variance + eps).sqrt()",
                  "F.normalize(difference, dim=-1)"),
            why="the result is too small, by a factor of sqrt(C): half at C = 4",
            question=_Q_VARIANCE),
    Mistake("L12n", "x.std(): the unbiased variance, and no eps",
            edit=[("(difference**2).mean(", "x.var("), (" + eps", "")],
            why="at C = 4 the result is 0.866 times the right one, and a row of equal "
                "numbers gives nan",
            question=_Q_VARIANCE),
    Mistake("L2p", "brackets are missing: ... / variance.sqrt() + eps * weight + bias",
            edit=[("(variance + eps).sqrt()", "variance.sqrt()"),
                  ("normed *", "normed + eps *")],
            why="eps is multiplied by the weight, and the variance alone is under "
                "the root",
            question=_Q_EPS),
    Mistake("L16m", "no gradient passes through the mean (detach, no_grad)",
            edit=("x.mean", "x.detach().mean"),
            why="the values are right, but the gradient of x is not",
            question="Does the mean of a row change when one number changes?"),
    Mistake("L1a", "the mean of the absolute differences, not of their squares",
            edit=("(difference**2)", "difference.abs()"),
            why="rows with one large number come out too large", question=_Q_VARIANCE),
    Mistake("L5v", "one variance for the whole tensor",
            edit=("(-1, keepdim=True)\n    normed", "()\n    normed"),
            why="changing one token changes all others", question=_Q_AXIS),
    Mistake("L5m", "one mean for the whole tensor",
            edit=("x.mean(-1, keepdim=True)", "x.mean()"),
            why="changing one token changes all others", question=_Q_AXIS),
    Mistake("L10s", "the sum subtracted, not the mean", edit=("x.mean", "x.sum"),
            why="a row of equal numbers does not give the bias", question=_Q_LEFT),
    Mistake("L10p", "the mean added, not subtracted",
            edit=("difference /", "(x + mean) /"),
            why="the mean of the result is not 0", question=_Q_LEFT),
    Mistake("L10m", "the median subtracted, not the mean",
            edit=("x.mean(-1, keepdim=True)", "x.median(-1, keepdim=True).values"),
            why="the mean of the result is not 0", question=_Q_LEFT),
    Mistake("L23", "scaled from 0 to 1 by the smallest and the largest number",
            edit=[("x.mean", "x.amin"),
                  ("(variance + eps).sqrt()",
                   "(x.amax(-1, keepdim=True) - mean + eps)")],
            why="no result is below the bias where the weight is positive",
            question="Which two numbers describe a row here: mean and variance, or its "
                 "ends?"),
    Mistake("L9t", "multiplied by the root, not divided",
            edit=("/ (variance", "* (variance"),
            why="rows of standard deviation 2 come out four times too large",
            question="Should a row of large numbers become larger or smaller?"),
    Mistake("L6d", "divided by the weight", edit=("* weight", "/ weight"),
            why="right only where the weight is 1", question=_Q_AFFINE),
    Mistake("L6m", "the bias is subtracted", edit=("+ bias", "- bias"),
            why="a row of equal numbers gives minus the bias", question=_Q_AFFINE),
    Mistake("L5", "normalised over tokens and channels together",
            edit=[("x.mean(-1,", "x.mean((-2, -1),"),
                  ("(-1, keepdim=True)\n    normed",
                   "((-2, -1), keepdim=True)\n    normed")],
            why="changing one token changes the others", question=_Q_AXIS),
    Mistake("L5b", "normalised over the tokens (dim=1), channel by channel",
            edit=[("x.mean(-1,", "x.mean(-2,"),
                  ("(-1, keepdim=True)\n    normed", "(-2, keepdim=True)\n    normed")],
            why="changing one token changes the others", question=_Q_AXIS),
    Mistake("L5c", "normalised over the batch (dim=0)",
            edit=[("x.mean(-1,", "x.mean(0,"),
                  ("(-1, keepdim=True)\n    normed", "(0, keepdim=True)\n    normed")],
            why="with a single example the result is the bias everywhere",
            question=_Q_AXIS),
    Mistake("L5d", "one mean and one variance for the whole tensor",
            edit=[("x.mean(-1,", "x.mean((0, 1, 2),"),
                  ("(-1, keepdim=True)\n    normed",
                   "((0, 1, 2), keepdim=True)\n    normed")],
            why="changing one token changes all others", question=_Q_AXIS),
    Mistake("L11", "batch norm: over batch and tokens, channel by channel",
            edit=[("x.mean(-1,", "x.mean((0, 1),"),
                  ("(-1, keepdim=True)\n    normed",
                   "((0, 1), keepdim=True)\n    normed")],
            why="an example gives a different result on its own than in a batch",
            question=_Q_AXIS),
    Mistake("L6", "weight and bias are not used", edit=(" * weight + bias", ""),
            why="right as long as the weight is 1 and the bias 0", question=_Q_AFFINE),
    Mistake("L6b", "the bias is not used", edit=(" + bias", ""),
            why="a row of equal numbers gives 0, not the bias", question=_Q_AFFINE),
    Mistake("L6c", "the weight is not used", edit=(" * weight", ""),
            why="right only where the weight is 1", question=_Q_AFFINE),
    Mistake("L7", "weight and bias exchanged",
            edit=[("* weight", "* bias"), ("+ bias", "+ weight")],
            why="a row of equal numbers gives the weight, not the bias",
            question=_Q_AFFINE),
    Mistake("L7b", "the bias added before the weight multiplies",
            edit=("normed * weight + bias", "(normed + bias) * weight"),
            why="a row of equal numbers gives weight times bias", question=_Q_AFFINE),
    Mistake("L7c", "multiplied by 1 + weight", edit=("* weight", "* (1 + weight)"),
            why="the weight starts at 1 in GPT-2, so it is the whole factor",
            question=_Q_AFFINE),
    Mistake("L7p", "multiplied by the weight with @, not with *",
            edit=("* weight", "@ weight"),
            why="@ multiplies and adds up over the channels: (B, T, C) becomes (B, T)",
            question="Each channel has a weight of its own. Should anything be added "
                     "up over the channels?"),
    Mistake("L8", "keepdim=True is missing",
            edit=[("x.mean(-1, keepdim=True)", "x.mean(-1)"),
                  ("(difference**2).mean(-1, keepdim=True)",
                   "x.var(-1, correction=0)")],
            why="(B, T, C) and (B, T) do not broadcast; where T = C they do, but along "
                "the wrong axis",
            question="Which shape do the rows' means have, and with which axis of x do "
                     "they line up?"),
    Mistake("L9", "divided by the variance, not by its root", edit=(".sqrt()", ""),
            why="rows of standard deviation 2 come out half as large as they should",
            question=_Q_UNIT),
    Mistake("L9b", "divided by the square of the variance", edit=(".sqrt()", "**2"),
            why="rows of standard deviation 2 come out an eighth as large as they "
                "should",
            question=_Q_UNIT),
    Mistake("L9a", "divided by the mean absolute difference, not by the root of the "
                   "variance",
            edit=[("(difference**2)", "difference.abs()"), (".sqrt()", "")],
            why="rows come out with a standard deviation somewhat above 1",
            question="The standard deviation is the root of the mean of what: of |x - "
                 "mean|, or of its square?"),
    Mistake("L22", "brackets forgotten: x - mean / root, which is x - (mean / root)",
            edit=("difference /", "x - mean /"),
            why="only the mean is divided; rows keep their standard deviation",
            question=_Q_FIRST),
    Mistake("L22b", "brackets forgotten: x - mean / root * weight + bias",
            edit=[("difference /", "mean /"), ("normed *", "x - normed *")],
            why="only the mean is divided and weighted; x stays as it is",
            question=_Q_FIRST),
    Mistake("L15", "only centred: not divided by the standard deviation",
            edit=(" / (variance + eps).sqrt()", ""),
            why="rows keep their standard deviation",
            question="What should the new variance be?"),
    Mistake("L10", "RMS norm: the mean is not subtracted", edit=("x - mean", "x"),
            why="rows shifted by 3 come out with a mean of about 0.95",
            question=_Q_MEAN),
    Mistake("L10b", "the mean is subtracted in the variance, not in the numerator",
            edit=("difference /", "x /"),
            why="the standard deviation is 1, but shifted rows stay shifted",
            question=_Q_MEAN),
    Mistake("L12", "x.std() + eps: the unbiased variance, and eps outside the root",
            edit=[("(difference**2).mean(", "x.var("),
                  ("(variance + eps).sqrt()", "(variance.sqrt() + eps)")],
            why="at C = 4 the result is 0.866 times the right one, and tiny rows are "
                "off",
            question="By how many is the sum of the squares divided? And what is eps "
                     "added to?"),
    Mistake("L16", "no gradient passes through mean and variance (detach, no_grad, "
                   ".data)",
            edit=[("x.mean", "x.detach().mean"),
                  ("(difference**2)", "(difference.detach()**2)")],
            why="the values are right, the gradients are not",
            question="Does the mean change when x changes?"),
    Mistake("L17", "changes its input in place", edit=("x - mean", "x.sub_(mean)"),
            why="the caller's x is not the same after the call",
            question="Who else may need x?"),
)

_Q_STREAM = "What does each sublayer read, and to what is its result added?"

BLOCK = (
    Mistake("B1", "post-norm: the norms are on the residual stream, after each "
                  "addition",
            edit=[("x + attn(ln_attn(x))", "ln_attn(x + attn(x))"),
                  ("x + mlp(ln_mlp(x))", "ln_mlp(x + mlp(x))")],
            why="the residual stream itself is normalised, so x no longer runs "
                "straight through",
            question="What does a norm see in pre-norm: the residual stream, or a copy "
                     "for the sublayer?"),
    Mistake("B1b", "the norms after the sublayers: x + ln(attn(x))",
            edit=[("attn(ln_attn(x))", "ln_attn(attn(x))"),
                  ("mlp(ln_mlp(x))", "ln_mlp(mlp(x))")],
            why="attn and mlp read the plain residual stream",
            question="What should attn read?"),
    Mistake("B2", "no residual connection: each sublayer replaces the residual stream",
            edit=[("x + attn", "attn"), ("x + mlp", "mlp")],
            why="when attn and mlp return 0, the block returns 0: x is lost",
            question=_Q_STREAM),
    Mistake("B2a", "no residual connection around attn", edit=("x + attn", "attn"),
            why="attention replaces the residual stream", question=_Q_STREAM),
    Mistake("B2m", "no residual connection around mlp", edit=("x + mlp", "mlp"),
            why="when mlp returns 0, x is lost", question=_Q_STREAM),
    Mistake("B3", "residual connections that start after the norm",
            edit=[("x + attn", "ln_attn(x) + attn"), ("x + mlp", "ln_mlp(x) + mlp")],
            why="when attn and mlp return 0, the block returns ln_mlp(ln_attn(x)), not "
                "x",
            question=_Q_STREAM),
    Mistake("B3a", "the first residual connection starts from ln_attn(x)",
            edit=("x + attn", "ln_attn(x) + attn"),
            why="x is normalised before attn's result is added",
            question=_Q_STREAM),
    Mistake("B3m", "the second residual connection starts from ln_mlp(x)",
            edit=("x + mlp", "ln_mlp(x) + mlp"),
            why="the residual stream is normalised before mlp's result is added",
            question=_Q_STREAM),
    Mistake("B4", "parallel sublayers: mlp does not see what attn added",
            edit=[("x = x +", "h = x +"), ("return x", "return h")],
            why="mlp reads ln_mlp(x), with the block's input for x",
            question="Which residual stream should mlp read: before or after attn has "
                 "added?"),
    Mistake("B4b", "mlp reads attn's result alone, not the residual stream",
            edit=[("x = x + attn", "h = attn"),
                  ("x + mlp(ln_mlp(x))", "x + h + mlp(ln_mlp(h))")],
            why="ln_mlp gets what attn returned, without x",
            question="Which residual stream should mlp read?"),
    Mistake("B4c", "the second addition starts from the block's input",
            edit=[("x = x +", "h = x +"), ("ln_mlp(x)", "ln_mlp(h)")],
            why="what attn found is read by mlp, but not kept in the residual stream",
            question=_Q_STREAM),
    Mistake("B5", "the same norm twice: ln_attn before both sublayers",
            edit=("ln_mlp(x)", "ln_attn(x)"),
            why="ln_mlp is never used: right at the start of training, wrong "
                "afterwards",
            question="Each sublayer has a norm of its own. Which one is mlp's?"),
    Mistake("B5m", "the same norm twice: ln_mlp before both sublayers",
            edit=("ln_attn(x)", "ln_mlp(x)"),
            why="ln_attn is never used: right at the start of training, wrong "
                "afterwards",
            question="Each sublayer has a norm of its own. Which one is attn's?"),
    Mistake("B5x", "the two norms exchanged",
            edit=[("ln_attn(x)", "ln_mlp(x)"), ("ln_mlp(x)", "ln_attn(x)")],
            why="ln_mlp comes before attn, and ln_attn before mlp",
            question="Each sublayer has a norm of its own. Which one is whose?"),
    Mistake("B6", "changes its input in place (x += ...)",
            edit=[("x = x +", "x +="),
                  ("return x + mlp(ln_mlp(x))", "x += mlp(ln_mlp(x))\n    return x")],
            why="the caller's x is not the same after the call",
            question="x += writes into the caller's tensor. Who may still need it?"),
    Mistake("B7", "mlp before attn",
            edit=[("attn(ln_attn(x))", "mlp(ln_mlp(x))"),
                  ("mlp(ln_mlp(x))", "attn(ln_attn(x))")],
            why="attn reads what mlp has added",
            question="First the tokens exchange information, then each is processed on "
                     "its own. Which part does which?"),
    Mistake("B8", "dropout on the residual stream, always on",
            edit=[("x + attn", "F.dropout(x, 0.3) + attn"),
                  ("x + mlp", "F.dropout(x, 0.3) + mlp")],
            why="two calls give different results, even when attn and mlp return 0",
            question="Dropout belongs to the sublayers. What happens to x if it acts "
                     "on the residual stream?"),
    Mistake("B8b", "dropout on the sublayers, always on",
            edit=[("attn(ln_attn(x))", "F.dropout(attn(ln_attn(x)), 0.3)"),
                  ("mlp(ln_mlp(x))", "F.dropout(mlp(ln_mlp(x)), 0.3)")],
            why="two calls give different results",
            question="When should dropout act?"),
    Mistake("B9", "the residual stream added twice: x + x + ...",
            edit=[("x + attn", "2 * x + attn"), ("x + mlp", "2 * x + mlp")],
            why="when attn and mlp return 0, the block returns 4 x",
            question=_Q_STREAM),
    Mistake("B9a", "the residual stream added twice around attn",
            edit=("x + attn", "2 * x + attn"),
            why="when attn and mlp return 0, the block returns 2 x",
            question=_Q_STREAM),
    Mistake("B9m", "the residual stream added twice around mlp",
            edit=("x + mlp", "2 * x + mlp"),
            why="when attn and mlp return 0, the block returns 2 x",
            question=_Q_STREAM),
    Mistake("B10", "no norm before attn", edit=("ln_attn(x)", "x"),
            why="attn reads the plain residual stream",
            question="What should attn read?"),
    Mistake("B10m", "no norm before mlp", edit=("ln_mlp(x)", "x"),
            why="mlp reads the plain residual stream",
            question="What should mlp read?"),
    Mistake("B1s", "each norm twice: before its sublayer and after it",
            edit=[("attn(ln_attn(x))", "ln_attn(attn(ln_attn(x)))"),
                  ("mlp(ln_mlp(x))", "ln_mlp(mlp(ln_mlp(x)))")],
            why="what a sublayer returns is normalised before it is added",
            question="What should be added to the residual stream: what the sublayer "
                     "returns, or its norm?"),
    Mistake("B1o", "ln_attn after attn, not before it",
            edit=("attn(ln_attn(x))", "ln_attn(attn(x))"),
            why="attn reads the plain residual stream",
            question="What should attn read?"),
    Mistake("B4d", "mlp reads attn's result alone, and only mlp's is added to x",
            edit=[("x = x + attn", "h = attn"), ("ln_mlp(x)", "ln_mlp(h)")],
            why="what attn returns is no longer in the residual stream",
            question=_Q_STREAM),
    Mistake("B12", "attn twice, mlp never", edit=("mlp(ln_mlp", "attn(ln_mlp"),
            why="mlp is not used",
            question="Which of the two sublayers works on each token separately?"),
    Mistake("B12m", "mlp twice, attn never", edit=("attn(ln_attn", "mlp(ln_attn"),
            why="attn is not used",
            question="Which of the two sublayers lets tokens exchange something?"),
    Mistake("B12a", "the second sublayer is missing", edit=(" + mlp(ln_mlp(x))", ""),
            why="mlp is not used", question="How many sublayers does a block have?"),
    Mistake("B12b", "the first sublayer is missing",
            edit=("    x = x + attn(ln_attn(x))\n", ""),
            why="attn is not used", question="How many sublayers does a block have?"),
    Mistake("B13", "the sublayers' results are subtracted",
            edit=[("x + attn", "x - attn"), ("x + mlp", "x - mlp")],
            why="if one sublayer returns 0, the sign shows", question=_Q_STREAM),
    Mistake("B13t", "multiplied, where it should be added",
            edit=[("x + attn", "x * attn"), ("x + mlp", "x * mlp")],
            why="when attn and mlp return 0, the block returns 0", question=_Q_STREAM),
    Mistake("B13h", "each sum halved",
            edit=[("x + attn(ln_attn(x))", "(x + attn(ln_attn(x))) / 2"),
                  ("x + mlp(ln_mlp(x))", "(x + mlp(ln_mlp(x))) / 2")],
            why="the residual stream shrinks by half in each line", question=_Q_STREAM),
    Mistake("B11", "one more norm at the end: ln_mlp on the result",
            edit=("x + mlp(ln_mlp(x))", "ln_mlp(x + mlp(ln_mlp(x)))"),
            why="the residual stream itself is normalised, so x no longer runs "
                "straight through",
            question="Which has a norm at its end: each block, or only the model?"),
)

layer_norm = Exercise(
    "layer_norm", "05", "layer_norm(x, weight, bias, eps=1e-5) -> (B, T, C)",
    make_probes=norm_probes, mistakes=LAYER_NORM, read_out=read_norm,
    edge_cases=(EdgeCase(
        "it is fragile: on rows near 5,000 the mean of the squares minus the square of "
        "the mean loses its digits; subtract the mean first, then square",
            lambda g: Probe("whole numbers near 5,000", (
                5000.0 + torch.randint(-9, 9, (2, 3, 4), generator=g), torch.ones(4),
                torch.zeros(4)))),
     EdgeCase("it fails in half precision", lambda g: Probe("half precision", (
         torch.randn(2, 3, 4, generator=g), *_affine(g, 4)), in_half))),
    axes={"x": "B T C", "weight": "C", "bias": "C", "": "B T C"},
    crashes=((r"dimension 1\b|\| .*(@|matmul)",
              "a tensor (B, T) meets one of (C,). "
      "@ adds up over the channels; * multiplies channel by channel"),
     (r"size of tensor a|must match", "the mean of a row needs keepdim=True: (B, T, 1) "
      "fits (B, T, C), and (B, T) does not"),
     (r"positional argument", "the check passes eps too: layer_norm(x, weight, bias, "
      "eps=1e-5)")),
    hints=("Four steps: subtract the mean, divide by the standard deviation, multiply "
           "by the weight, add the bias. Which of them differs from yours?",
     "With weight 1 and bias 0, are mean and standard deviation of your rows 0 and 1?",
     "(x - mean) / (variance + eps).sqrt() * weight + bias"),
    show="C = 4, rows of standard deviation 1, weight 1, bias 0", solution=_LAYER_NORM)

block = Exercise(
    "block", "05", "block(x, ln_attn, attn, ln_mlp, mlp) -> (B, T, C)",
    make_probes=block_probes, mistakes=BLOCK, read_out=read_block,
    axes={"x": "B T C", "": "B T C"},
    crashes=((r"positional argument", "each of the four layers takes one tensor: "
              "attn(ln_attn(x))"),),
    hints=("Two sublayers. Each reads a normalised copy of the residual stream, and "
           "what it returns is added to the residual stream itself.",
           "Read your formula from the inside out: what does each layer get? Then: "
           "which parts are added, and how often?",
           "x = x + attn(ln_attn(x)), then x = x + mlp(ln_mlp(x))"),
    display=block_formula, reveal=False, solution=_BLOCK)

block_to_repair = block.to_repair("block_to_repair", "B3")

# --- the answers that are values ------------------------------------------------------

_WIDTHS = [2**k for k in range(1, 11)]
_OFF = [1 - math.sqrt((c - 1) / c) for c in _WIDTHS]


def _versions(row: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the right norm of a row (4,), and what wrong versions give."""
    off, eps = row - row.mean(), 1e-5
    variance = (off**2).mean()
    right = off / (variance + eps).sqrt()
    return right, {
        "unbiased variance": off / (row.var() + eps).sqrt(),
        "eps outside the root": off / (variance.sqrt() + eps),
        "eps 1e-6": off / (variance + 1e-6).sqrt(),
        "no eps": off / variance.sqrt(),
        "divided by the variance": off / (variance + eps),
        "mean not subtracted": row / ((row**2).mean() + eps).sqrt(),
        "only centred": off}


def _unmasks(value: Value) -> list[str]:
    """Return which wrong versions a row of four numbers does not unmask."""
    row = torch.as_tensor(value, dtype=torch.float64)
    if row.shape != (4,) or not row.isfinite().all():
        return [f"expected one row of four finite numbers; it has the shape "
                f"{tuple(row.shape)}"]
    right, wrong = _versions(row)
    size = right.abs().max()
    if size < 1e-6:                              # equal numbers
        return ["the right result of this row is nearly 0 everywhere: there is too "
                "little to compare"]
    shares = {name: ((one - right).abs().max() / size).item()
              for name, one in wrong.items()}
    hidden = [f"{name} ({share:.2%} off)" for name, share in shares.items()
              if share < 0.01]                                   # nan unmasks, too
    return [f"not unmasked, since less than 1% off: {', '.join(hidden)}"
            ] * bool(hidden)


_SWAPPED = Mistake(
    "P1", "mean and standard deviation exchanged",
    "the weight stretches, the bias shifts",
    "Which of the two moves the mean?", "the order of the two answers", "[3, 2]")
_PLAIN = Mistake(
    "P2", "mean and standard deviation before weight and bias",
    "weight and bias come after the normalisation, and nothing undoes them",
    "What happens to a number after it has been normalised?", "the last step",
    "[3, 2]")
_SQUARED = Mistake(
    "P3", "the variance, not the standard deviation",
    "twice as large numbers have twice the standard deviation, and four times the "
    "variance",
    "Which of the two is asked for?", "the second answer", "[3, 2]")
_LATE = Mistake(
    "L7", "the bias added before the weight multiplies",
    "the bias comes last, so nothing multiplies it",
    "Which comes last, weight or bias?", "the first answer", "[3, 2]")
_NO_SHIFT = Mistake(
    "P10", "the bias left out: the mean stays 0", "the bias is added to every number",
    "What does adding 3 to every number do to their mean?", "the first answer",
    "[3, 2]")
_NO_STRETCH = Mistake(
    "P11", "the weight left out: the standard deviation stays 1",
    "twice as large numbers have twice the standard deviation",
    "What does multiplying by 2 do to the standard deviation?", "the second answer",
    "[3, 2]")
_SHIFTED = Mistake(
    "P12", "the bias added to the standard deviation, too",
    "adding 3 to every number leaves their distances as they are",
    "What does a shift do to the distances between numbers?", "the second answer",
    "[3, 2]")
_RATIO = Mistake(
    "P4", "right over wrong, not wrong over right",
    "at C = 2 that ratio is 1.414; the other one is 0.707",
    "Which of the two results do you divide by?", "the denominator",
    "(wrong / right - 1).abs()")
_VARIANCE = Mistake(
    "P5", "the error of the variance, not of the result",
    "the result is divided by the variance's root, which halves a small error",
    "What is the variance used for?", "compare the results of both norms",
    "(wrong / right - 1).abs()")
_PERCENT = Mistake(
    "P6", "percent, not fractions",
    "0.01 means 1%, so every number is 100 times too large",
    "How is 1% written as a fraction?", "the last factor", "1 - wrong / right")
_SIGN = Mistake(
    "P7", "the opposite sign: wrong / right - 1",
    "too small is a positive number here: 1 - wrong / right",
    "Is wrong / right above or below 1?", "the order of the subtraction",
    "1 - wrong / right")
_NO_ONE = Mistake(
    "P8", "the ratio itself, without 1 -",
    "a ratio of 0.99 means that 0.01 is missing",
    "How far is the ratio from 1?", "the last step", "1 - wrong / right")
_NINE = Mistake(
    "P9", "nine numbers: one width is missing",
    "the widths are 2, 4, ..., 1024: ten of them",
    "Which width comes first, and which last?", "the first and the last width",
    "for width in widths: ...")

ANSWERS = (
    Answer("05.1", "mean and standard deviation of the output for weight 2, bias 3",
           [3.0, 2.0], decimals=2, precision="two decimals are", predict=True,
           wrong=(([2.0, 3.0], _SWAPPED), ([0.0, 1.0], _PLAIN), ([3.0, 4.0], _SQUARED),
                  ([6.0, 2.0], _LATE), ([0.0, 2.0], _NO_SHIFT), ([3.0, 1.0],
                  _NO_STRETCH), ([3.0, 5.0], _SHIFTED), ([3.0, 6.0], _SHIFTED)),
           hints=("Before weight and bias the mean is 0 and the standard deviation 1. "
                  "What does a factor do to each of the two, and what does a shift?",
                  "What does times 2 do to the mean 0, and to the standard deviation "
                  "1?",
                  "mean 0 * 2 + 3, standard deviation 1 * 2"), solution="predicted = "
                                                                        "[3.0, 2.0]"),
    Answer("05.4", "the error of the unbiased variance for C = 2, 4, ..., 1024", _OFF,
           rtol=0.02, precision="three significant digits are",
           wrong=(([math.sqrt(c / (c - 1)) - 1 for c in _WIDTHS], _RATIO),
                  ([1 / c for c in _WIDTHS], _VARIANCE),
                  ([1 / (c - 1) for c in _WIDTHS], _VARIANCE),
                  ([100 * off for off in _OFF], _PERCENT),
                  ([-off for off in _OFF], _SIGN),
                  ([1 - off for off in _OFF], _NO_ONE),
                  ([1 / (1 - off) for off in _OFF], _NO_ONE),
                  (_OFF[:-1], _NINE), (_OFF[1:], _NINE)),
           hints=("Draw one row with torch.randn(width), compute both results, and "
                  "divide one by the other. The ratio is the same in every channel.",
                  "Divide wrong by right, in one channel that is not near 0.",
                  "row.var() divides by C - 1, row.var(correction=0) by C."),
           solution="errors = []\nfor c in widths:\n    row = torch.randn(c)\n"
                    "    ratio = (row.var(correction=0) / row.var()).sqrt()\n"
                    "    errors.append(1 - ratio.item())"),
    Answer("05.5", "one row of four numbers for which every wrong norm is off by 1%",
           lambda: [0.001, 0.005, 0.002, 0.009], test=_unmasks,
           hints=("The mean of the row [1, -1, 2, -2] is 0, so leaving it in does no "
                  "harm there. What should your row have?",
                  "A mistake with eps shows only where eps is not small compared with "
                  "the variance. For which standard deviation is the variance about "
                  "0.00001?",
                  "A standard deviation near 0.003, and a mean that isn't 0."),
           solution="row = [0.001, 0.005, 0.002, 0.009]"),
)
