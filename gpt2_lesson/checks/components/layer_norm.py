"""Layer norm and the pre-norm block, and what goes wrong (catalogue: L and B)."""

import re
from collections.abc import Callable
from functools import partial

import torch
from torch import Generator, Tensor

from gpt2_lesson.checks.clues import Clue
from gpt2_lesson.checks.components.displayed import Displayed
from gpt2_lesson.checks.engine import Exercise, Look, Mistake, Robust
from gpt2_lesson.checks.probing import Probe, gradients
from gpt2_lesson.checks.stand_ins.drives import in_half
from gpt2_lesson.checks.stand_ins.formula import Layer, Silent, formula, slope

Norm = Callable[[Tensor], Tensor]


def normed(x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5, *,
           axis: object = -1, correction: int = 0, centred: str = "both",
           root: str = "around both", own_eps: float | None = None, power: str = "root",
           affine: str = "both", keep: bool = True, detached: bool = False,
           in_place: bool = False, brackets: bool = True, middle: str = "mean",
           of: str = "mean", times_eps: float = 1.0, eps_power: int = 1,
           fixed_mean: bool = False) -> Tensor:
    """Return x (B, T, C) with mean 0, variance 1 per token, weighted and shifted."""
    eps = times_eps * (eps if own_eps is None else own_eps) ** eps_power
    mean = {"mean": lambda: x.mean(axis, keepdim=keep),
            "sum": lambda: x.sum(axis, keepdim=True),
            "median": lambda: x.median(-1, keepdim=True).values,
            "least": lambda: x.amin(axis, keepdim=True),
            "minus": lambda: -x.mean(axis, keepdim=True),
            "of all": x.mean}[middle]()
    mean = mean.detach() if fixed_mean else mean
    off = x.sub_(mean) if in_place else x - mean
    if centred == "neither":
        variance, off = (x**2).mean(axis, keepdim=keep), x
    elif keep:
        variance = x.var(axis, correction=correction, keepdim=True)
    else:
        variance = x.var(axis, correction=0)
    off = x if centred == "in the variance only" else off
    spread = variance.sqrt() + eps if root == "variance" else (variance + eps).sqrt()
    if root == "largest":
        spread = variance.clamp(min=eps).sqrt()
    if root == "absolute":
        spread = off.abs().mean(axis, keepdim=keep) + eps
    if of in ("sum", "all"):                         # of the squared differences
        squares = (x - mean) ** 2
        variance = squares.sum(-1, keepdim=True) if of == "sum" else squares.mean()
        spread = (variance + eps).sqrt()
    if middle not in ("mean", "least", "minus"):
        spread = (((x - mean) ** 2).mean(-1, keepdim=True) + eps).sqrt()
    if of == "length":
        spread = off.norm(dim=-1, keepdim=True) + eps
    if of == "normalize":
        spread = off.norm(dim=-1, keepdim=True).clamp(min=1e-12)
    if of == "range":
        spread = x.amax(-1, keepdim=True) - x.amin(-1, keepdim=True) + eps
    if of == "root of absolutes":
        spread = (off.abs().mean(-1, keepdim=True) + eps).sqrt()
    if of == "bare":
        off, spread = off + eps, variance.sqrt()
    spread = {"root": spread, "variance": variance + eps, "square": (variance + eps)**2,
              "none": torch.ones_like(spread)}.get(power, spread)
    if detached:
        spread, off = spread.detach(), off - mean.detach() + mean
    y = off / spread if brackets else x - mean / spread
    if power == "times":
        y = off * (variance + eps).sqrt()
    if of == "no brackets":
        return off / variance.sqrt() + eps * weight + bias
    return {"divided": lambda: y / weight + bias, "minus": lambda: y * weight - bias,
            "both": lambda: y * weight + bias, "none": lambda: y,
            "weight": lambda: y * weight, "bias": lambda: y + bias,
            "swapped": lambda: y * bias + weight, "late": lambda: (y + bias) * weight,
            "1 + weight": lambda: y * (1 + weight) + bias,
            "product": lambda: y @ weight + bias,
            "mean": lambda: x - mean / spread * weight + bias}[affine]()


def block_of(x: Tensor, ln_attn: Norm, attn: Norm, ln_mlp: Norm, mlp: Norm, *,
             keep_attn: str = "x", keep_mlp: str = "x", norm_attn: str = "before",
             norm_mlp: str = "before", order: str = "attn mlp", reads: str = "sum",
             norms: str = "attn mlp", in_place: bool = False, dropout: float = 0.0,
             stream_dropout: float = 0.0, last: str = "", parts_used: str = "attn mlp",
             sign: int = 1, halved: bool = False) -> Tensor:
    """Return x + attn(ln_attn(x)), plus mlp(ln_mlp(...)) of it: (B, T, C)."""
    named = {"attn": ln_attn, "mlp": ln_mlp}
    first, second = (named[name] for name in norms.split())
    parts = [(first, attn, keep_attn, norm_attn), (second, mlp, keep_mlp, norm_mlp)]
    start = stream = branch = x
    if parts_used in ("attn attn", "mlp mlp"):
        one = attn if parts_used == "attn attn" else mlp
        parts = [(norm, one, keep, where) for norm, _, keep, where in parts]
    parts = {"attn": parts[:1], "mlp": parts[1:]}.get(parts_used, parts)
    for i, (norm, part, keep, where) in enumerate(
            parts if order == "attn mlp" else parts[::-1]):
        source = stream if reads == "sum" or i == 0 else (
            start if reads == "start" else branch)
        read = norm(source) if where in ("before", "both sides") else source
        branch = sign * torch.dropout(part(read), dropout, train=True)
        branch = norm(branch) if where in ("on the branch", "both sides") else branch
        stream = torch.dropout(stream, stream_dropout, train=True)
        kept = {"x": stream, "times": stream, "normed": read, "none": 0,
        "double": 2 * stream,
                "start": start}[keep]
        if in_place:
            stream += branch
            continue
        stream = kept * branch if keep == "times" else kept + branch
        stream = stream / 2 if halved else stream
        stream = norm(stream) if where == "after" else stream
    return named[last](stream) if last else stream


# --- probes ---------------------------------------------------------------------------


def _affine(g: Generator, c: int) -> tuple[Tensor, Tensor]:
    """Return a weight and a bias (C,), none of them near 0 or 1."""
    weight, bias = torch.randn(2, c, generator=g)
    return weight + 0.5 * weight.sign(), bias + 0.5 * bias.sign()


def _rows(g: Generator, b: int, t: int, c: int) -> Tensor:
    """Return rows (B, T, C) of spread 1, each with another mean."""
    x = torch.randn(b, t, c, generator=g)
    x = (x - x.mean(-1, keepdim=True)) / x.std(-1, correction=0, keepdim=True)
    return x + torch.randn(b, t, 1, generator=g)


def norm_probes(g: Generator) -> list[Probe]:
    """Return the battery: C = 4, tiny, constant, shifted rows, T = C, an own eps."""
    x = _rows(g, 3, 5, 4)
    weight, bias = _affine(g, 4)
    sizes = {"B": 3, "T": 5, "C": 4}
    spreads = torch.tensor([0.3, 1.0, 2.0, 5.0, 20.0])[:, None]
    constant = torch.full((2, 3, 4), 2.5)
    ones, zeros = torch.ones(4), torch.zeros(4)
    square = _rows(g, 1, 4, 4)
    return [Probe("C = 4, rows of spread 1, weight 1, bias 0", (x, ones, zeros),
                  sizes=sizes),
            Probe("any weight and bias", (x, weight, bias), sizes=sizes),
            Probe("rows of spread 0.3 to 20", (x * spreads, weight, bias)),
            Probe("rows shifted by 3", (x + 3, weight, bias)),
            Probe("tiny rows, of spread 0.001", (x / 1000, weight, bias)),
            Probe("rows of equal numbers", (constant, weight, bias)),
            Probe("one example, T = C", (square, weight, bias)),
            Probe("one token, C = 6", (_rows(g, 1, 1, 6), *_affine(g, 6))),
            Probe("eps = 0.5", (x, weight, bias, 0.5)),
            Probe("gradients", (x, weight, bias), gradients)]


def _layers(g: Generator, c: int) -> list[Layer]:
    """Return four different stand-ins, of which attn mixes tokens."""
    return [Layer(name, torch.randn(c, c, generator=g) / c**0.5, name == "attn")
            for name in ("ln_attn", "attn", "ln_mlp", "mlp")]


def block_probes(g: Generator) -> list[Probe]:
    """Return the battery: four layers, silent ones, one token, gradients."""
    x = torch.randn(2, 5, 4, generator=g)
    layers = _layers(g, 4)
    silent = [layers[0], Silent(), layers[2], Silent()]
    no_attn, no_mlp = [*layers], [*layers]
    no_attn[1], no_mlp[3] = Silent(), Silent()
    return [Probe("four layers", (x, *layers), sizes={"B": 2, "T": 5, "C": 4}),
            Probe("attn and mlp return 0", (x, *silent)),
            Probe("attn returns 0", (x, *no_attn)),
            Probe("mlp returns 0", (x, *no_mlp)),
            Probe("one token", (torch.randn(1, 1, 6, generator=g), *_layers(g, 6))),
            Probe("gradients", (x, *layers), slope)]


def block_formula(g: Generator) -> Probe:
    """Return the probe whose value is the formula."""
    return Probe("the formula", (torch.randn(2, 5, 6, generator=g), *_layers(g, 6)),
                 formula)


# --- what can be read out when nothing matches ----------------------------------------


def read_norm(look: Look, g: Generator) -> list[Clue]:
    """Return mean and spread of the rows, the effective eps, and the affine part."""
    x = _rows(g, 2, 3, 4)
    weight, bias = torch.ones(4), torch.zeros(4)

    def rows(x: Tensor, *affine: Tensor) -> Tensor | None:
        value = look(Probe("rows", (x, *(affine or (weight, bias))))).value
        good = isinstance(value, Tensor) and value.shape == x.shape
        return value if good and value.isfinite().all() else None

    found = _row_clues(rows(x), "rows of spread about 1")
    found = found or _row_clues(rows(x + 3), "the same rows, shifted by 3")
    return (found or _eps_clue(x, rows)) + _affine_clue(x, rows)


def _row_clues(y: Tensor | None, which: str) -> list[Clue]:
    """Return that rows have another mean than 0, or another spread than 1."""
    if y is None:
        return []
    mean, spread = y.mean(-1).flatten(), y.std(-1, correction=0).flatten()
    if mean.abs().max() < 1e-3 and (spread - 1).abs().max() < 1e-3:
        return []
    return [Clue("rows", f"{which}, with weight 1 and bias 0: your results have means "
                 f"{_range(mean)} and spreads {_range(spread)}, expected 0 and 1")]


def _range(values: Tensor) -> str:
    low, high = values.min().item(), values.max().item()
    return (f"of {low:.3g}" if abs(high - low) < 1e-3
            else f"from {low:.3g} to {high:.3g}")


def _eps_clue(x: Tensor, rows: Callable[..., Tensor | None]) -> list[Clue]:
    """Return the eps that the spread of a tiny row implies.

    spread of the result = s / sqrt(s^2 + eps) for a row of spread s.
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
        return [Clue("tiny rows", "rows of spread 0.001 come out with spreads "
                     f"{_range(out)}, expected 0.302")]
    if eps.max() - eps.min() < 0.02 * eps.abs().max() + 1e-8:
        return [Clue("eps", f"your effective eps, added to the variance under the root,"
                     f" is {eps.median():.3g}, expected 1e-05")]
    return [Clue("eps", "rows of spread 0.001 are off: eps does not stand beside the "
                 "variance under the root")]


def _affine_clue(x: Tensor, rows: Callable[..., Tensor | None]) -> list[Clue]:
    """Return what a row of equal numbers gives: it should be the bias."""
    weight, bias = torch.tensor([2.0, 3, 4, 5]), torch.tensor([-1.0, 7, 6, 9])
    y = rows(torch.ones_like(x), weight, bias)
    if y is None or y.allclose(bias.expand_as(y), atol=1e-3):
        return []
    return [Clue("affine", "a row of equal numbers has no differences, so its result "
                 f"should be the bias, {bias.tolist()}: yours is "
                 f"{[round(one, 3) for one in y[0, 0].tolist()]}")]


def read_block(look: Look, g: Generator) -> list[Clue]:
    """Return which layers are not used, or used twice, and what silent ones give."""
    text = look(block_formula(g)).value
    if not isinstance(text, str) or text == "?":
        return []
    missing = [name for name in ("ln_attn", "attn", "ln_mlp", "mlp")
               if not re.search(rf"\b{name}\(", text)]
    found = [Clue("unused", f"your result does not use {' and '.join(missing)}")]
    found = found * bool(missing)
    x = torch.randn(2, 5, 6, generator=g)
    ln_attn, _, ln_mlp, _ = _layers(g, 6)
    y = look(Probe("silent", (x, ln_attn, Silent(), ln_mlp, Silent()))).value
    if isinstance(y, Tensor) and y.shape == x.shape and not y.allclose(x, atol=1e-5):
        found.append(Clue("silent", "with attn and mlp returning 0 your block should "
                          "return x, and does not: x must stand alone in the sum"))
    return found or _reads_clue(text)


_READS = {"ln_attn": ("x", "the block's input"),
          "attn": ("ln_attn(x)", "what ln_attn returns"),
          "ln_mlp": ("x + attn(ln_attn(x))", "the stream, after the first addition"),
          "mlp": ("ln_mlp(x + attn(ln_attn(x)))", "what ln_mlp returns")}


def _reads_clue(text: str) -> list[Clue]:
    """Return the first layer that reads something else than it should, in words."""
    for name, (wanted, words) in _READS.items():
        given = _inside(text, name)[0]
        if given != wanted:
            given = "no sum of x and layers" if "?" in given else given
            return [Clue("reads", f"{name} reads {given} in your block; it should read "
                         f"{words}")]
    return [Clue("added", "each layer reads what it should; what is added up differs: "
                 "the stream and the result of each branch, each once")]


def _inside(text: str, name: str) -> list[str]:
    """Return what stands in the brackets of each `name(...)` in a formula."""
    found = []
    for match in re.finditer(rf"\b{name}\(", text):
        depth, end = 1, match.end()
        while depth:
            depth += {"(": 1, ")": -1}.get(text[end], 0)
            end += 1
        found.append(text[match.end():end - 1])
    return found


# --- mistakes -------------------------------------------------------------------------

_Q_VARIANCE = "The mean of the squares: of how many?"
_Q_EPS = "What is eps added to: the variance or its root?"
_Q_AXIS = "Which numbers does one token's mean run over?"
_Q_AFFINE = "What multiplies each channel, and what is added to it?"
_DIVIDE = "(x - mean) / (variance + eps).sqrt()"
_VARIANCE = "x.var(-1, correction=0, keepdim=True)"

LAYER_NORM = (
    Mistake("L1", "the unbiased variance (divided by C - 1)",
            "at C = 4 the result is 0.866 times the right one", _Q_VARIANCE,
            "look at var or std, and at its correction", _VARIANCE, {"correction": 1}),
    Mistake("L2", "eps outside the root: sqrt(variance) + eps",
            "rows of spread 0.001 come out three times too large; others look right",
            _Q_EPS, "look at the brackets around eps", _DIVIDE, {"root": "variance"}),
    Mistake("L3", "no eps", "a row of equal numbers gives nan: 0/0",
            "What is 0 divided by 0?", "which arguments do you use?", _DIVIDE,
            {"own_eps": 0.0}),
    Mistake("L4", "eps is 1e-6, not 1e-5",
            "rows of spread 0.001 come out 2.4 times too large", _Q_EPS,
            "which eps do you use?", "use the argument eps", {"own_eps": 1e-6}),
    Mistake("L4b", "eps is 1e-12, not 1e-5",
            "rows of spread 0.001 come out 3.3 times too large", _Q_EPS,
            "which eps do you use?", "use the argument eps", {"own_eps": 1e-12}),
    Mistake("L13", "the argument eps is not used: always 1e-5",
            "right with the default, wrong with another eps", _Q_EPS,
            "which arguments do you use?", _DIVIDE, {"own_eps": 1e-5}, mark="R"),
    Mistake("L14", "the larger of variance and eps, not their sum",
            "tiny rows come out slightly too large", _Q_EPS, "look for max or clamp",
            _DIVIDE, {"root": "largest"}, mark="R"),
    Mistake("L4q", "eps is squared", "rows of spread 0.001 come out 3.3 times too "
                                     "large",
            _Q_EPS, "look at eps", _DIVIDE, {"eps_power": 2}),
    Mistake("L4t", "twice eps (added in two places)",
            "rows of spread 0.001 come out too small", _Q_EPS,
            "count the places where eps is added", _DIVIDE, {"times_eps": 2.0}),
    Mistake("L3n", "eps added to the numerator, not to the variance",
            "a row of equal numbers gives infinity: eps / 0",
            "What must not become 0: what is divided, or what it is divided by?",
            "look at the brackets around eps", _DIVIDE, {"of": "bare"}),
    Mistake("L1s", "the sum of the squares, not their mean",
            "the result is too small, by the root of C: at C = 4 by half", _Q_VARIANCE,
            "look for sum", _VARIANCE, {"of": "sum"}),
    Mistake("L1n", "divided by the length of the row (its norm)",
            "the result is too small, by the root of C: at C = 4 by half", _Q_VARIANCE,
            "look for norm or normalize", _DIVIDE, {"of": "length"}),
    Mistake("L1z", "F.normalize: divided by the length of the row",
            "the result is too small, by the root of C: at C = 4 by half", _Q_VARIANCE,
            "what does F.normalize divide by?", _DIVIDE, {"of": "normalize"}),
    Mistake("L12n", "x.std(): the unbiased variance, and no eps",
            "at C = 4 the result is 0.866 times the right one, and a row of equal "
            "numbers gives nan", _Q_VARIANCE, "what does std divide by, and where is "
            "eps?", _DIVIDE, {"correction": 1, "own_eps": 0.0}),
    Mistake("L2p", "brackets are missing: ... / variance.sqrt() + eps * weight + bias",
            "eps is multiplied by the weight, and the variance stays alone under the "
            "root", _Q_EPS, "what does / take first, and what +?", _DIVIDE,
            function=partial(normed, of="no brackets")),
    Mistake("L16m", "no gradient passes through the mean (detach, no_grad)",
            "the values are right, but the gradient of x is not",
            "Does the mean of a row change when one number changes?",
            "look for detach, no_grad, .data", "leave the mean attached",
            {"fixed_mean": True}),
    Mistake("L1a", "the mean of the absolute differences, not of their squares",
            "rows with one large number come out too large", _Q_VARIANCE,
            "look for abs: where is the square?", _VARIANCE,
            {"of": "root of absolutes"}),
    Mistake("L5v", "one variance for the whole tensor",
            "changing one token changes all others", _Q_AXIS,
            "look at the second mean: has it an axis?", _VARIANCE, {"of": "all"}),
    Mistake("L5m", "one mean for the whole tensor",
            "changing one token changes all others", _Q_AXIS,
            "look at the first mean: has it an axis?", "x.mean(-1, keepdim=True)",
            {"middle": "of all"}),
    Mistake("L10s", "the sum taken off, not the mean",
            "a row of equal numbers does not give the bias", "What is left of a row "
            "when "
            "its mean is taken off?", "look for sum", "x.mean(-1, keepdim=True)",
            {"middle": "sum"}),
    Mistake("L10p", "the mean added, not taken off",
            "the result has not the mean 0", "What is left of a row when its mean is "
            "taken off?", "look at the sign before mean", _DIVIDE,
            {"middle": "minus"}),
    Mistake("L10m", "the median taken off, not the mean",
            "the result has not the mean 0", "What is left of a row when its mean is "
            "taken off?", "look for median", "x.mean(-1, keepdim=True)",
            {"middle": "median"}),
    Mistake("L23", "scaled from 0 to 1 by the smallest and the largest number",
            "no result is below the bias where the weight is positive",
            "Which two numbers describe a row here: mean and variance, or its ends?",
            "look for amin and amax", _DIVIDE,
            function=partial(normed, middle="least", of="range")),
    Mistake("L9t", "multiplied by the root, not divided",
            "rows of spread 2 come out four times too large",
            "Should a row of large numbers become larger or smaller?",
            "look at the sign before the root", _DIVIDE, {"power": "times"}),
    Mistake("L6d", "divided by the weight", "right only where the weight is 1",
            _Q_AFFINE, "look at the last line", "y * weight + bias",
            {"affine": "divided"}),
    Mistake("L6m", "the bias is subtracted", "a row of equal numbers gives minus the "
            "bias", _Q_AFFINE, "look at the sign before bias", "y * weight + bias",
            {"affine": "minus"}),
    Mistake("L5", "normalised over tokens and channels together",
            "changing one token changes the others", _Q_AXIS,
            "look at the axes of mean and var", "x.mean(-1, keepdim=True)",
            {"axis": (-2, -1)}, mark="S"),
    Mistake("L5b", "normalised over the tokens (dim=1), channel by channel",
            "changing one token changes the others", _Q_AXIS,
            "look at the axes of mean and var", "x.mean(-1, keepdim=True)",
            {"axis": -2}, mark="S"),
    Mistake("L5c", "normalised over the batch (dim=0)",
            "with one example alone the result is the bias everywhere", _Q_AXIS,
            "look at the axes of mean and var", "x.mean(-1, keepdim=True)",
            {"axis": 0}, mark="S"),
    Mistake("L5d", "one mean and one variance for the whole tensor",
            "changing one token changes all others", _Q_AXIS,
            "mean() without an axis takes everything", "x.mean(-1, keepdim=True)",
            {"axis": (0, 1, 2)}, mark="S"),
    Mistake("L11", "batch norm: over batch and tokens, channel by channel",
            "one example alone gives another result than in a batch", _Q_AXIS,
            "look at the axes of mean and var", "x.mean(-1, keepdim=True)",
            {"axis": (0, 1)}, mark="R"),
    Mistake("L6", "weight and bias are not used",
            "right as long as the weight is 1 and the bias 0", _Q_AFFINE,
            "which arguments do you use?", "y * weight + bias", {"affine": "none"},
            mark="S"),
    Mistake("L6b", "the bias is not used", "a row of equal numbers gives 0, not the "
            "bias", _Q_AFFINE, "which arguments do you use?", "y * weight + bias",
            {"affine": "weight"}, mark="R"),
    Mistake("L6c", "the weight is not used", "right only where the weight is 1",
            _Q_AFFINE, "which arguments do you use?", "y * weight + bias",
            {"affine": "bias"}, mark="R"),
    Mistake("L7", "weight and bias exchanged",
            "a row of equal numbers gives the weight, not the bias", _Q_AFFINE,
            "look at the last line", "y * weight + bias", {"affine": "swapped"},
            mark="R"),
    Mistake("L7b", "the bias added before the weight multiplies",
            "a row of equal numbers gives weight times bias", _Q_AFFINE,
            "look at the brackets of the last line", "y * weight + bias",
            {"affine": "late"}, mark="R"),
    Mistake("L7c", "multiplied by 1 + weight",
            "the weight starts at 1 in GPT-2, so it is the whole factor", _Q_AFFINE,
            "look at the last line", "y * weight + bias", {"affine": "1 + weight"},
            mark="R"),
    Mistake("L7p", "multiplied by the weight with @, not with *",
            "@ multiplies and adds up over the channels: (B, T, C) becomes (B, T)",
            "Each channel has a weight of its own. Should anything be added up over "
            "the channels?", "look at the sign before weight", "y * weight + bias",
            {"affine": "product"}),
    Mistake("L8", "keepdim=True is missing",
            "(B, T, C) and (B, T) do not fit; where T = C they fit wrongly",
            "Which shape has the mean of each row, and against which axis of x is it "
            "laid?", "look at mean and var", "x.mean(-1, keepdim=True)",
            {"keep": False}, mark="R"),
    Mistake("L9", "divided by the variance, not by its root",
            "rows of spread 2 come out half as large as they should",
            "The spread is the root of the variance. Which of them has x's unit?",
            "look for the root", _DIVIDE, {"power": "variance"}, mark="S"),
    Mistake("L9b", "divided by the square of the variance",
            "rows of spread 2 come out an eighth as large as they should",
            "The spread is the root of the variance. Which of them has x's unit?",
            "look at the power", _DIVIDE, {"power": "square"}, mark="R"),
    Mistake("L9a", "divided by the mean absolute difference, not by the root of the "
            "variance", "rows come out with a spread somewhat above 1",
            "The spread is the root of the mean of what: of |x - mean|, or of its "
            "square?", "look for abs", _DIVIDE, {"root": "absolute"}),
    Mistake("L22", "brackets forgotten: x - mean / spread, which is x - (mean / "
            "spread)", "only the mean is divided; rows of spread 2 keep their spread",
            "What does Python do first: the minus, or the division?",
            "look at the brackets around x - mean", _DIVIDE, {"brackets": False}),
    Mistake("L22b", "brackets forgotten: x - mean / spread * weight + bias",
            "only the mean is divided and weighted; x stays as it is",
            "What does Python do first: the minus, or the division?",
            "look at the brackets around x - mean", _DIVIDE, {"affine": "mean"},
            mark="R"),
    Mistake("L15", "only centred: not divided by the spread",
            "rows of spread 2 keep their spread", "What should the new variance be?",
            "what happens after the mean is taken off?", _DIVIDE, {"power": "none"},
            mark="R"),
    Mistake("L10", "RMS norm: the mean is not taken off",
            "rows shifted by 3 come out with a mean of about 0.95",
            "What should the mean of each row be afterwards?",
            "is the mean subtracted before squaring?", _DIVIDE, {"centred": "neither"}),
    Mistake("L10b", "the mean is taken off in the variance, not above it",
            "the spread is 1, but shifted rows stay shifted",
            "What should the mean of each row be afterwards?",
            "what do you divide by the spread?", _DIVIDE,
            {"centred": "in the variance only"}, mark="R"),
    Mistake("L12", "x.std() + eps: the unbiased variance, and eps outside the root",
            "at C = 4 the result is 0.866 times the right one, and tiny rows are off",
            "The mean of the squares: of how many? And what is eps added to?",
            "std divides by C - 1 unless correction=0", _DIVIDE,
            {"correction": 1, "root": "variance"}, mark="S"),
    Mistake("L16", "no gradient passes mean and spread (detach, no_grad, .data)",
            "the values are right, the gradients are not",
            "Does the mean change when x changes?", "look for detach, no_grad, .data",
            "leave mean and spread attached", {"detached": True}, mark="R"),
    Mistake("L17", "changes its input in place",
            "the caller's x is not the same after the call", "Who else may need x?",
            "look for -=, /=, and names ending in _", "x - mean makes a new tensor",
            {"in_place": True}, mark="R"),
)

_Q_STREAM = "Which two things are added: what does each branch read, and what is kept?"
_FIRST, _SECOND = "x = x + attn(ln_attn(x))", "x = x + mlp(ln_mlp(x))"
_BOTH = f"{_FIRST}, then {_SECOND}"

BLOCK = (
    Mistake("B1", "post-norm: the norms stand on the stream, after each addition",
            "the stream itself is normed, so x no longer runs straight through",
            "What does a norm see in pre-norm: the stream, or a copy for the branch?",
            "look at what is inside each norm", _BOTH,
            {"norm_attn": "after", "norm_mlp": "after"}),
    Mistake("B1b", "the norms after the branches: x + ln(attn(x))",
            "attn and mlp read the plain stream", "What should attn read?",
            "look at the order of norm and branch", _BOTH,
            {"norm_attn": "on the branch", "norm_mlp": "on the branch"}, mark="R"),
    Mistake("B2", "no residual: each branch replaces the stream",
            "when attn and mlp return 0, the block returns 0: x is lost", _Q_STREAM,
            "look for the additions", _BOTH, {"keep_attn": "none", "keep_mlp": "none"}),
    Mistake("B2a", "no residual around attn", "attention replaces the stream",
            _Q_STREAM, "look at the line with attn", _FIRST, {"keep_attn": "none"}),
    Mistake("B2m", "no residual around mlp", "when mlp returns 0, x is lost",
            _Q_STREAM, "look at the line with mlp", _SECOND, {"keep_mlp": "none"}),
    Mistake("B3", "the residual is taken from the normed stream",
            "when attn and mlp return 0, the block returns ln_mlp(ln_attn(x)), not x",
            _Q_STREAM, "did x = ln_attn(x) overwrite the stream?", _BOTH,
            {"keep_attn": "normed", "keep_mlp": "normed"}),
    Mistake("B3a", "the first residual is taken from ln_attn(x)",
            "x is normed before attn's result is added", _Q_STREAM,
            "did x = ln_attn(x) overwrite the stream?", _FIRST,
            {"keep_attn": "normed"}),
    Mistake("B3m", "the second residual is taken from ln_mlp(x)",
            "the stream is normed before mlp's result is added", _Q_STREAM,
            "did x = ln_mlp(x) overwrite the stream?", _SECOND, {"keep_mlp": "normed"}),
    Mistake("B4", "parallel branches: mlp does not see what attn added",
            "mlp reads ln_mlp(x), with the block's input for x",
            "Which stream should mlp read: before or after attn has added?",
            "what does ln_mlp get?", _BOTH, {"reads": "start"}),
    Mistake("B4b", "mlp reads attn's result alone, not the stream",
            "ln_mlp gets what attn returned, without x",
            "Which stream should mlp read?", "what does ln_mlp get?", _BOTH,
            {"reads": "branch"}, mark="R"),
    Mistake("B4c", "the second addition starts from the block's input",
            "what attn found is read by mlp, but not kept in the stream", _Q_STREAM,
            "which x is mlp's result added to?", _BOTH, {"keep_mlp": "start"},
            mark="R"),
    Mistake("B5", "the same norm twice: ln_attn before both branches",
            "ln_mlp is never used: right at the start of training, wrong afterwards",
            "Each branch has a norm of its own. Which one reads for mlp?",
            "look at the names of the norms", _SECOND, {"norms": "attn attn"}),
    Mistake("B5m", "the same norm twice: ln_mlp before both branches",
            "ln_attn is never used: right at the start of training, wrong afterwards",
            "Each branch has a norm of its own. Which one reads for attn?",
            "look at the names of the norms", _FIRST, {"norms": "mlp mlp"}),
    Mistake("B5x", "the two norms exchanged",
            "ln_mlp stands before attn, and ln_attn before mlp",
            "Each branch has a norm of its own. Which one is whose?",
            "look at the names of the norms", _BOTH, {"norms": "mlp attn"}, mark="R"),
    Mistake("B6", "changes its input in place (x += ...)",
            "the caller's x is not the same after the call",
            "x += writes into the tensor that the caller still holds. Who may need it?",
            "look for +=", _FIRST, {"in_place": True}),
    Mistake("B7", "mlp before attn", "attn reads what mlp has added",
            "Tokens exchange first, then each one thinks for itself. Which part is "
            "which?", "look at the order of the lines", _BOTH, {"order": "mlp attn"},
            mark="R"),
    Mistake("B8", "dropout on the stream, always on",
            "two calls give different results, also when attn and mlp return 0",
            "Dropout belongs to the branches. What happens to x if it falls on the "
            "stream?", "look for dropout", "leave it out: attn and mlp hold their own",
            {"stream_dropout": 0.3}, mark="R"),
    Mistake("B8b", "dropout on the branches, always on",
            "two calls give different results",
            "When should dropout act?", "look for dropout",
            "leave it out: attn and mlp hold their own", {"dropout": 0.3}, mark="R"),
    Mistake("B9", "the stream added twice: x + x + ...",
            "when attn and mlp return 0, the block returns 4 x", _Q_STREAM,
            "count how often x is added", _BOTH,
            {"keep_attn": "double", "keep_mlp": "double"}, mark="R"),
    Mistake("B9a", "the stream added twice around attn",
            "when attn and mlp return 0, the block returns 2 x", _Q_STREAM,
            "count how often x is added", _FIRST, {"keep_attn": "double"}, mark="R"),
    Mistake("B9m", "the stream added twice around mlp",
            "when attn and mlp return 0, the block returns 2 x", _Q_STREAM,
            "count how often x is added", _SECOND, {"keep_mlp": "double"}, mark="R"),
    Mistake("B10", "no norm before attn", "attn reads the plain stream",
            "What should attn read?", "look at the line with attn", _FIRST,
            {"norm_attn": ""}, mark="R"),
    Mistake("B10m", "no norm before mlp", "mlp reads the plain stream",
            "What should mlp read?", "look at the line with mlp", _SECOND,
            {"norm_mlp": ""}, mark="R"),
    Mistake("B1s", "each norm twice: before its branch and after it",
            "what a branch returns is normed before it is added",
            "What should be added to the stream: the branch, or its norm?",
            "count the norms of each line", _BOTH,
            {"norm_attn": "both sides", "norm_mlp": "both sides"}),
    Mistake("B1o", "ln_attn after attn, not before it", "attn reads the plain stream",
            "What should attn read?", "look at the order of norm and branch", _FIRST,
            {"norm_attn": "on the branch"}),
    Mistake("B4d", "mlp reads attn's result alone, and only mlp's is added to x",
            "what attn returns is in the stream no more", _Q_STREAM,
            "how often is something added to x?", _BOTH,
            {"reads": "branch", "keep_mlp": "start"}),
    Mistake("B12", "attn twice, mlp never", "mlp is not used",
            "Which of the two branches thinks for each token alone?",
            "look at the second line", _SECOND, {"parts_used": "attn attn"}),
    Mistake("B12m", "mlp twice, attn never", "attn is not used",
            "Which of the two branches lets tokens exchange something?",
            "look at the first line", _FIRST, {"parts_used": "mlp mlp"}),
    Mistake("B12a", "the second branch is missing", "mlp is not used",
            "How many branches has a block?", "look at what is returned", _BOTH,
            {"parts_used": "attn"}),
    Mistake("B12b", "the first branch is missing", "attn is not used",
            "How many branches has a block?", "look at the first line", _BOTH,
            {"parts_used": "mlp"}),
    Mistake("B13", "the branches are subtracted", "with one branch silent the sign "
                                                  "shows",
            _Q_STREAM, "look at the sign before the branch", _BOTH, {"sign": -1}),
    Mistake("B13t", "multiplied, where it should be added",
            "when attn and mlp return 0, the block returns 0", _Q_STREAM,
            "look at the operator", _BOTH, {"keep_attn": "times", "keep_mlp": "times"}),
    Mistake("B13h", "each sum halved", "the stream shrinks by half in each line",
            _Q_STREAM, "look for / 2, or for a mean", _BOTH, {"halved": True}),
    Mistake("B11", "one more norm at the end: ln_mlp on the result",
            "the stream itself is normed, so x no longer runs straight through",
            "Which norm belongs to the end of a block? (None; the model has one.)",
            "look at the last line", _SECOND, {"last": "mlp"}, mark="R"),
)

layer_norm = Exercise(
    "layer_norm", "05", "layer_norm(x, weight, bias, eps=1e-5) -> (B, T, C)", normed,
    norm_probes, LAYER_NORM, read_norm,
    (Robust("it is fragile: on rows near 5,000 the mean of squares minus the squared "
            "mean loses its digits; take the mean off first, then square",
            lambda g: Probe("whole numbers near 5,000", (
                5000.0 + torch.randint(-9, 9, (2, 3, 4), generator=g), torch.ones(4),
                torch.zeros(4)))),
     Robust("it fails in half precision", lambda g: Probe("half precision", (
         torch.randn(2, 3, 4, generator=g), *_affine(g, 4)), in_half))),
    {"x": "B T C", "weight": "C", "bias": "C", "": "B T C"},
    ((r"dimension 1\b|\| .*(@|matmul)", "a tensor (B, T) stands beside one of (C,). "
      "@ adds up over the channels; * multiplies channel by channel"),
     (r"size of tensor a|must match", "the mean of a row needs keepdim=True: (B, T, 1) "
      "fits (B, T, C), and (B, T) does not"),
     (r"positional argument", "the check passes eps too: layer_norm(x, weight, bias, "
      "eps=1e-5)")),
    ("Four steps: take the mean off, divide by the spread, multiply by the weight, add "
     "the bias. Which of them differs from yours?",
     "With weight 1 and bias 0, print mean and spread of your rows: 0 and 1?",
     "(x - mean) / (variance + eps).sqrt() * weight + bias"),
    show="C = 4, rows of spread 1, weight 1, bias 0", solution="""\
def layer_norm(x, weight, bias, eps=1e-5):
    difference = x - x.mean(-1, keepdim=True)
    variance = (difference**2).mean(-1, keepdim=True)
    return difference / (variance + eps).sqrt() * weight + bias""")

block = Displayed(
    "block", "05", "block(x, ln_attn, attn, ln_mlp, mlp) -> (B, T, C)", block_of,
    block_probes, BLOCK, read_block, axes={"x": "B T C", "": "B T C"},
    crashes=((r"positional argument", "each of the four layers takes one tensor: "
              "attn(ln_attn(x))"),),
    hints=("Two branches. Each reads a normed copy of the stream, and what it returns "
           "is added to the stream itself.",
           "Read your formula from the inside: what does each layer get? Then: which "
           "parts are added, and how often?", _BOTH),
    display=block_formula, reveal=False, solution="""\
def block(x, ln_attn, attn, ln_mlp, mlp):
    x = x + attn(ln_attn(x))
    return x + mlp(ln_mlp(x))""")

block_to_repair = block.to_repair("block_to_repair", "B3")
