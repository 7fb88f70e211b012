"""Lesson 06: next-token probabilities, sampling, generation (catalogue: G)."""

import math

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
from gpt2_lesson.checks.fakes.toy_models import (
    ToyModel,
    ever_drawn,
    lengths_seen,
    manners,
    mode_afterwards,
    one_draw,
    randomness,
    shares,
)
from gpt2_lesson.checks.probing import Probe, Value

# --- the right answers ----------------------------------------------------------------

_NEXT_PROBABILITIES = """\
def next_probabilities(logits, temperature, top_k):
    if temperature == 0:
        best = logits.argmax(-1, keepdim=True)
        return torch.zeros_like(logits).scatter(-1, best, 1.0)
    if top_k is not None:
        limit = logits.topk(min(top_k, logits.size(-1))).values[:, -1:]
        logits = logits.masked_fill(logits < limit, -torch.inf)
    return (logits / temperature).softmax(-1)"""

_SAMPLE_NEXT = f"""\
{_NEXT_PROBABILITIES}


def sample_next(logits, temperature, top_k, generator):
    probabilities = next_probabilities(logits, temperature, top_k)
    ids = torch.multinomial(probabilities, 1, generator=generator)
    return ids"""

_GENERATE = """\
def generate(model, input_ids, max_new_tokens, max_seq_length):
    was_training = model.training
    model.eval()
    ids = input_ids
    with torch.no_grad():
        for _ in range(max_new_tokens):
            logits = model(ids[:, -max_seq_length:])
            new = logits[:, -1].argmax(-1, keepdim=True)
            ids = torch.cat([ids, new], dim=1)
    model.train(was_training)
    return ids"""


class _ExactTorch:
    """PyTorch, except that `multinomial` samples in exact proportion."""

    def __getattr__(self, name: str) -> object:
        return getattr(torch, name)

    @staticmethod
    def multinomial(p: Tensor, n: int, generator: Generator | None = None) -> Tensor:
        """Return ids (B, 1): equal rows of p (B, V) get each id by its exact fraction.

        The generator decides their order; a single row is sampled as usual.
        """
        if len(p) == 1 or not p.isfinite().all() or (p < 0).any():
            return torch.multinomial(p, n, generator=generator)  # raises where p is bad
        ids = torch.zeros(len(p), 1, dtype=torch.long)
        marks = p.double() @ torch.arange(1.0, p.size(1) + 1).double().sqrt()
        kinds, kind = marks.mul(1e9).round().unique(return_inverse=True)
        for i in range(len(kinds)):
            here = (kind == i).nonzero()[:, 0]                   # rows that are equal
            edges = p[here[0]].double().cumsum(0)
            places = (torch.arange(len(here)).double() + 0.5) / len(here)
            drawn = torch.searchsorted(edges, places * edges[-1])
            order = torch.randperm(len(here), generator=generator)
            ids[here, 0] = drawn.clamp(max=p.size(1) - 1)[order]
        return ids


# --- probes ---------------------------------------------------------------------------


def _rows(g: Generator, b: int, v: int, shift: float = 0.0) -> Tensor:
    """Return logits (b, v): levels 0.6 apart in random order, the last one high."""
    levels = 0.6 * torch.arange(v) + 0.2 * torch.rand(b, v, generator=g)
    mixed = torch.stack([row[torch.randperm(v, generator=g)] for row in levels])
    mixed[-1, -1] += 0.6 * v                                     # best: the last id
    heights = torch.tensor([0.9, 0.0, 1.8])[:b, None]            # rows differ
    return mixed - mixed.mean() + shift + heights


def probability_probes(g: Generator) -> list[Probe]:
    """Return the probes of `next_probabilities`: settings alone and together."""
    sizes = {"B": 3, "V": 5}
    low, high = _rows(g, 3, 5, -9.0), _rows(g, 3, 5)
    return [
        Probe("temperature 1, all tokens", (high, 1.0, None), sizes=sizes),
        Probe("temperature 0.5", (high, 0.5, None), sizes=sizes),
        Probe("temperature 3", (low, 3.0, None), sizes=sizes),
        Probe("k = 3, all logits negative", (low, 1.0, 3)),
        Probe("temperature 0.7 and k = 2", (high, 0.7, 2), sizes=sizes),
        Probe("k = 1", (low, 1.0, 1), sizes=sizes),
        Probe("temperature 0: always the most probable", (high, 0, None), sizes=sizes),
        Probe("temperature 0, two logits 0.0001 apart",
              (torch.tensor([[0.0, 2.0, 2.0001, 1.0]]), 0, None)),
        Probe("temperature 0 and k = 2", (low, 0.0, 2), sizes=sizes),
        Probe("k = 99, more than there are tokens", (high, 1.0, 99), sizes=sizes),
        Probe("logits of several hundred", (200 * high, 1.0, 4), sizes=sizes),
        Probe("one row", (_rows(g, 1, 7), 1.5, 2)),
    ]


def _tied(g: Generator) -> Probe:
    return Probe("two tokens tied for the k-th rank",
                 (torch.tensor([[4.0, 16, 32, 16, 1, 0.25]]).log(), 1.0, 2))


def sampling_probes(g: Generator) -> list[Probe]:
    """Return the probes of `sample_next`: sure samples, frequencies, randomness."""
    low, high = _flat(g, -3.0), _flat(g, 0.0)
    positive = torch.tensor([[0.5, 3.0, 1.0, 2.0, 4.0, 0.2]])
    return [
        Probe("one token certain", (_sure(g), 1.0, 2), one_draw, {"B": 3, "V": 6}),
        Probe("frequencies at temperature 0", (low, 0, None), shares),
        Probe("frequencies with k = 1", (high, 1.0, 1), shares),
        Probe("frequencies in many samples", (high, 1.0, None), shares),
        Probe("frequencies at temperature 2.5", (low, 2.5, None), shares),
        Probe("frequencies at temperature 0.3, k = 99", (high, 0.3, 99), shares),
        Probe("frequencies with k = 3", (low, 1.0, 3), shares),
        Probe("which tokens are ever sampled with k = 2 at temperature 2",
            (low, 2.0, 2),
              ever_drawn),
        Probe("frequencies, all logits positive", (positive, 1.0, None), shares),
        Probe("randomness", (high,), randomness),
    ]


def _flat(g: Generator, top: float) -> Tensor:
    """Return logits (2, 6), 0.4 apart, the largest last in one row; max is `top`."""
    levels = -0.4 * torch.arange(6) - 0.1 * torch.rand(2, 6, generator=g)
    rows = [levels[0].flip(0), levels[1][torch.randperm(6, generator=g)]]
    return torch.stack(rows) + torch.tensor([[top], [top - 0.5]])


def _sure(g: Generator) -> Tensor:
    """Return logits (3, 6), 50 apart, so that nearly any sampler has no choice."""
    start = int(torch.randint(6, (), generator=g))
    return torch.stack([50.0 * torch.arange(-3, 3).roll(start + i) for i in range(3)])


def generation_probes(g: Generator) -> list[Probe]:
    """Return the probes of `generate`: short, beyond the window, edge cases."""
    def ids(b: int, t: int, v: int) -> Tensor:
        return torch.randint(v, (b, t), generator=g)

    return [
        Probe("two rows", (ToyModel(29, 16, g), ids(2, 3, 29), 4, 16)),
        Probe("growing past the window", (ToyModel(31, 6, g), ids(3, 4, 31), 7, 6)),
        Probe("a prompt longer than the window",
              (ToyModel(23, 5, g), ids(2, 8, 23), 3, 5)),
        Probe("no new token", (ToyModel(23, 5, g), ids(2, 3, 23), 0, 5)),
        Probe("one token", (ToyModel(37, 12, g), ids(1, 1, 37), 5, 12)),
        Probe("how the model is used", (ToyModel(29, 16, g), ids(2, 3, 29), 2, 16),
              manners),
        Probe("the mode afterwards, of a model in training mode",
              (ToyModel(29, 16, g), ids(2, 3, 29), 2, 16), mode_afterwards),
        Probe("the mode afterwards, of a model in evaluation mode",
              (ToyModel(29, 16, g).eval(), ids(2, 3, 29), 2, 16), mode_afterwards),
    ]


# --- what can be read out when nothing matches ----------------------------------------


def read_probabilities(run: RunProbe, g: Generator) -> list[Clue]:
    """Return what probabilities show: sums, kept tokens, the effective temperature."""
    logits, found = _rows(g, 2, 6, -5.0), []
    plain, hot, cut, zero = (
        _numbers(run(Probe(name, (logits, *settings))).value, logits)
        for name, *settings in (("T = 1", 1.0, None), ("T = 2", 2.0, None),
                                ("k = 2", 1.0, 2), ("T = 0", 0, None)))
    for text, p in (("", plain), (" at temperature 2", hot), (" with k = 2", cut),
                    (" at temperature 0", zero)):
        if p is None:
            continue
        if not p.isfinite().all():
            found.append(Clue(f"nan{text}", f"there is nan or infinity{text}"))
        elif not p.sum(-1).allclose(torch.ones(2).double(), atol=1e-4):
            sums = ", ".join(f"{value:.3g}" for value in p.sum(-1).tolist())
            found.append(Clue(f"sum{text}", "the probabilities of a row do not add "
                              f"up to 1{text}: their sums are {sums}"))
    return (found + _kept_clue(cut, logits) + _factor(plain, logits, 1)
            + _factor(hot, logits, 2))[:3]


def _numbers(value: Value, logits: Tensor) -> Tensor | None:
    """Return a result of the logits' shape in double precision; None for others."""
    if not isinstance(value, Tensor) or value.shape != logits.shape:
        return None
    return None if value.is_complex() else value.double()


def _kept_clue(p: Tensor | None, logits: Tensor) -> list[Clue]:
    """Return how many tokens are kept with k = 2, and whether they are the best."""
    if p is None or not p.isfinite().all():
        return []
    kept = [int(n) for n in (p.abs() > 1e-7).sum(-1)]
    if kept != [2, 2]:
        return [Clue("kept", f"with k = 2, {kept[0]} tokens of the first row and "
                     f"{kept[1]} of the second are not at probability 0, "
                     "expected 2 and 2")]
    if not (p.gather(-1, logits.topk(2).indices) > 0).all():
        return [Clue("others", "with k = 2, two tokens are kept, but not the two "
                     "most probable")]
    return []


def _factor(p: Tensor | None, logits: Tensor, temperature: float) -> list[Clue]:
    """Regress the log probabilities on the logits: the factor is 1/temperature."""
    if p is None or not (p > 1e-12).all() or not p.isfinite().all():
        return []
    logs, x = (part - part.mean(-1, keepdim=True)
               for part in (p.log(), logits.double()))
    factor = ((logs * x).sum() / (x * x).sum()).item()
    if (logs - factor * x).abs().max() > 0.01:
        return [Clue("no softmax", f"at temperature {temperature} your log "
                     "probabilities do not follow the logits, so your result is "
                     "not their softmax")]
    if abs(factor - 1 / temperature) > 1e-3:
        return [Clue(f"factor {temperature}", "your log probabilities are "
                     f"{factor:.3g} times the logits at temperature {temperature}, "
                     f"expected {1 / temperature:.3g} times")]
    return []


def read_samples(run: RunProbe, g: Generator) -> list[Clue]:
    """Return what many samples show: range, forbidden tokens, temperature, seeds."""
    logits, found = _flat(g, -2.0), []
    plain, cut = (
        _numbers(run(Probe(name, (logits, 1.0, top_k), shares)).value, logits)
        for name, top_k in (("many", None), ("k = 2", 2)))
    facts = run(Probe("randomness", (logits,), randomness)).value
    found += _kept_clue(cut, logits)
    if plain is not None:
        off = (plain - logits.softmax(-1)).abs().max().item()
        if off > 0.09:
            found.append(Clue("shares", "in many samples at temperature 1 a token's "
                              f"frequency is off by {off:.2f} from its probability"))
        best = plain.gather(-1, logits.argmax(-1, keepdim=True)).min()
        if best > 0.999:
            found.append(Clue("always", "all samples are the most probable token"))
    if isinstance(facts, dict):
        found += [Clue(f"not {name}", f"this should be true: {name}")
                  for name, holds in facts.items() if not holds]
    return found[:3]


def read_generation(run: RunProbe, g: Generator) -> list[Clue]:
    """Return what the toy model noted: lengths, and which tokens decide."""
    model, ids = ToyModel(29, 6, g), torch.randint(29, (2, 4), generator=g)
    found = []
    lengths = run(Probe("lengths", (model, ids, 4, 6), lengths_seen)).value
    if isinstance(lengths, list) and lengths != [4, 5, 6, 6]:
        listed = ", ".join(map(str, lengths[:8])) or "nothing"
        found.append(Clue("lengths", "for 4 tokens after a prompt of 4, with a window "
                          f"of 6, your model was given {listed} tokens, expected "
                          "4, 5, 6, 6"))
    out = run(Probe("ids", (model, ids, 4, 6))).value
    if not isinstance(out, Tensor) or out.dim() != 2 or len(out) != 2:
        return found
    if out.size(1) < 8 or not torch.equal(out[:, :4], ids):
        found.append(Clue("prompt", f"from a prompt of 4 and 4 new tokens came "
                          f"{tuple(out.shape)}; the first 4 should be the prompt"))
    else:
        right = generate.reference(model, ids, 4, 6)
        agree = (out[:, :8] == right).all(0).long().cumprod(0).sum().item()
        if agree < 8:
            found.append(Clue(f"from {agree}", f"your new tokens are right up to number"
                              f" {agree - 4} and differ from there"))
    return found


# --- mistakes -------------------------------------------------------------------------

_AT_ZERO = """\
    if temperature == 0:
        best = logits.argmax(-1, keepdim=True)
        return torch.zeros_like(logits).scatter(-1, best, 1.0)
"""
_Q_ZERO = "Which token should temperature 0 choose?"
_Q_T = ("What should happen to the probabilities as the temperature goes to 0? And to "
        "infinity?")
_Q_K = "With k = 1, which tokens may be sampled?"
_Q_LAST = ("The model predicts at every position. Which prediction is about the next "
           "token?")
_Q_CROP = "A text of 9 tokens, a window of 5: which 5 say most about the next one?"
_Q_RETURN = "Who still needs the prompt: the caller of your function, or your loop?"
_Q_ROWS = "Do two rows have the same k-th logit?"
_Q_99 = "What should k = 99 mean for 5 tokens?"
_Q_GREEDY = "Which token is the most probable?"
_Q_MODE = "In which mode was the model before the call, and in which is it afterwards?"
_Q_TWICE = "What does softmax do to numbers between 0 and 1?"
_Q_SAME = "What would a text look like in which every sample is the same?"

TEMPERATURE = (
    Mistake("G2", "logits multiplied by the temperature",
            edit=("logits / temperature", "logits * temperature"),
            why="a temperature of 0.5 flattens the distribution, where it should "
                "sharpen it",
            question=_Q_T),
    Mistake("G3", "a temperature without effect: never used, or the probabilities (not "
                  "the logits) divided by it and renormalised",
            edit=("(logits / temperature)", "logits"),
            why="the probabilities are those of temperature 1 at every temperature",
            question=_Q_T),
    Mistake("G4", "temperature 0 divides by 0", edit=(_AT_ZERO, ""),
            why="at temperature 0 there is nan: 0/0, or inf - inf", question=_Q_ZERO),
    Mistake("G4z", "temperature 0 divides by 0 (1 / temperature)",
            edit=[(_AT_ZERO, ""), ("/ temperature", "* (1 / temperature)")],
            why="ZeroDivisionError at temperature 0", question=_Q_ZERO),
    Mistake("G4o", "temperature 0 treated as temperature 1",
            edit=[(_AT_ZERO, ""), ("/ temperature", "/ (temperature or 1)")],
            why="at temperature 0 tokens other than the most probable one have a "
                "probability above 0",
            question=_Q_ZERO),
    Mistake("G3f", "the temperature is never used, not even 0: always 1",
            edit=[(_AT_ZERO, ""), ("(logits / temperature)", "logits")],
            why="the result is the same at every temperature",
            where="look at the line with the temperature",
            fix="Divide the logits by it, and treat 0 on its own", question=_Q_T),
)
TOP_K = (
    Mistake("G5", "forbidden tokens filled with 0 (or -1e-10), not minus infinity",
            edit=("-torch.inf", "0.0"),
            why="where all logits are negative, the forbidden tokens become the most "
                "probable",
            question="Which logit gets probability 0 from softmax?"),
    Mistake("G6", "one token too many kept (k + 1)",
            edit=("min(top_k,", "min(top_k + 1,"),
            why="with k = 1 two tokens have a probability above 0: it is not greedy",
            question=_Q_K),
    Mistake("G6l", "one token too few kept (<= or > at the limit)",
            edit=("logits < limit", "logits <= limit"),
            why="with k = 1 no token is left: nan, or an error", question=_Q_K),
    Mistake("G7", "the limit of row 0 used for every row",
            edit=("values[:, -1:]", "values[0, -1]"),
            why="row 0 is right, the other rows keep too many or too few",
            question=_Q_ROWS),
    Mistake("G7m", "one limit for the whole batch: the smallest",
            edit=("values[:, -1:]", "values.min()"),
            why="rows with high logits keep too many tokens", question=_Q_ROWS),
    Mistake("G8", "k larger than the vocabulary crashes (topk)",
            edit=("min(top_k, logits.size(-1))", "top_k"),
            why="with k = 99 and fewer tokens, topk raises an error", question=_Q_99),
    Mistake("G8i", "k larger than the vocabulary crashes (an index)",
            edit=("logits.topk(min(top_k, logits.size(-1))).values[:, -1:]",
                  "logits.sort(descending=True).values[:, [top_k - 1]]"),
            why="with k = 99 and fewer tokens, index k does not exist", question=_Q_99),
    Mistake("G9", "ranks among the k best taken for token ids",
            edit=("logits = logits.masked",
                  "logits = logits.sort(descending=True).values\n"
                  "        logits = logits.masked"),
            why="only the first k ids ever have a probability above 0, even if other "
                "tokens have larger logits",
            question="topk returns values and indices. Which token is number 0 of the "
                     "k best?"),
    Mistake("G22", "the k smallest kept",
            edit=[("logits.size(-1)))", "logits.size(-1)), largest=False)"),
                  ("logits < limit", "logits > limit")],
            why="with k = 1 the least probable token gets probability 1",
            question=_Q_K),
    Mistake("G7b", "the k largest logits of the whole batch, not of each row",
            edit=("logits.topk(min(top_k, logits.size(-1))).values[:, -1:]",
                  "logits.flatten().topk(min(top_k, logits.numel())).values[-1]"),
            why="some rows keep no token at all: nan",
            question="Whose logits does a row compete with?"),
    Mistake("G7d", "top-k over the batch (dim=0)",
            edit=("logits.topk(min(top_k, logits.size(-1))).values[:, -1:]",
                  "logits.topk(min(top_k, len(logits)), dim=0).values[-1:]"),
            why="each token competes with itself in the other rows",
            question="Over which axis do the tokens compete?"),
    Mistake("G23", "top_k never used", edit=("logits = logits.masked", "logits.masked"),
            why="with k = 1 all tokens have a probability above 0", question=_Q_K),
)
_SOFTMAX = (
    Mistake("G15", "always the most probable token",
            edit=("(logits / temperature).softmax(-1)",
                  "F.one_hot(logits.argmax(-1), logits.size(-1)).float()"),
            why="the temperature has no effect: the largest logit gets all the "
                "probability",
            question=_Q_T),
    Mistake("G16", "softmax over the batch (dim=0)",
            edit=(".softmax(-1)", ".softmax(0)"),
            why="with a single row every token gets probability 1",
            question="For one row, over which axis must the probabilities add up to "
                     "1?"),
)
PROBABILITIES = (
    *TEMPERATURE, *TOP_K, *_SOFTMAX,
    Mistake("G3d", "the probabilities divided by the temperature, not the logits",
            edit=("(logits / temperature).softmax(-1)",
                  "logits.softmax(-1) / temperature"),
            why="the rows add up to 1/temperature", question=_Q_T),
    Mistake("G5a", "probabilities cut after the softmax, and not renormalised",
            edit=("logits = logits.masked_fill(logits < limit, -torch.inf)",
                  "return (logits / temperature).softmax(-1) * (logits >= limit)"),
            why="the forbidden tokens have 0, but the rows add up to less than 1",
            question="Where does the probability of the forbidden tokens go?"),
    Mistake("G4r", "temperature 0 puts all on one logit of the whole batch",
            edit=("        best = logits.argmax(-1, keepdim=True)\n"
                  "        return torch.zeros_like(logits).scatter(-1, best, 1.0)",
                  "        return (logits == logits.max()).float()"),
            why="only one row has a token, the others are 0",
            question="Over which axis should the largest logit be found?"),
    Mistake("G4s", "temperature 0 treated as 0.001",
            edit=[(_AT_ZERO, ""), ("/ temperature", "/ max(temperature, 1e-3)")],
            why="two tokens whose logits are nearly equal share the probability",
            question=_Q_ZERO),
    Mistake("G16t", "softmax twice", edit=(".softmax(-1)", ".softmax(-1).softmax(-1)"),
            why="the probabilities are pulled towards equal ones, and forbidden tokens "
                "get some again",
            question=_Q_TWICE),
    Mistake("G16u", "all kept tokens get the same probability",
            edit=("logits = logits.masked_fill(logits < limit, -torch.inf)",
                  "return (logits >= limit) / (logits >= limit).sum(-1, keepdim=True)"),
            why="the logits decide only which tokens are kept",
            question="Which of the kept tokens is the most probable?"),
    Mistake("G7l", "the limit of the last row for all rows",
            edit=("values[:, -1:]", "values[-1, -1]"),
            why="only the last row keeps k tokens",
            question="How large is each row's own k-th logit?"),
    Mistake("G5c", "softmax before top-k, and after it once more",
            edit=[("limit = logits.topk",
                   "logits = (logits / temperature).softmax(-1)\n"
                   "        limit = logits.topk"),
                  ("logits = logits.masked_fill(logits < limit, -torch.inf)",
                   "return logits.masked_fill(logits < limit, -torch.inf)"
                   ".softmax(-1)")],
            why="the probabilities of the kept tokens are pulled towards equal ones",
            question=_Q_TWICE),
    Mistake("G5w", "divided by the sum of the whole batch, not of each row",
            edit=("logits = logits.masked_fill(logits < limit, -torch.inf)",
                  "p = (logits / temperature).softmax(-1) * (logits >= limit)\n"
                  "        return p / p.sum()"),
            why="the rows add up to less than 1",
            question="What should the probabilities of one row add up to?"),
    Mistake("G23a", "with top_k the temperature is not used",
            edit=("limit, -torch.inf)",
                  "limit, -torch.inf)\n        return logits.softmax(-1)"),
            why="right without top_k, and at temperature 1", question=_Q_T),
    Mistake("G23c", "with a temperature top_k is not used",
            edit=("top_k is not None:", "top_k is not None and temperature == 1:"),
            why="right without a temperature, and without top_k", question=_Q_K),
    Mistake("G4i", "temperature 0 gives whole numbers (one_hot without .float())",
            edit=("torch.zeros_like(logits).scatter(-1, best, 1.0)",
                  "F.one_hot(best[:, 0], logits.size(-1))"),
            why="the values are right, but of another dtype",
            question="Which dtype do probabilities have?"),
    Mistake("G9s", "the probabilities of the k best alone: (B, k), not (B, V)",
            edit=("logits.masked_fill(logits < limit, -torch.inf)",
                  "logits.topk(min(top_k, logits.size(-1))).values"),
            why="nobody can tell which tokens they belong to",
            question="What is the probability of a forbidden token?"),
    Mistake("G16l", "log_softmax instead of softmax",
            edit=(".softmax(-1)", ".log_softmax(-1)"),
            why="all values are 0 or negative",
            question="Are logarithms of probabilities probabilities?"),
    Mistake("G16e", "exp without subtracting the largest logit",
            edit=("return (logits / temperature).softmax(-1)",
                  "e = (logits / temperature).exp()\n"
                  "    return e / e.sum(-1, keepdim=True)"),
            why="nan at large logits: e to the 400 is infinite, and inf/inf is nan",
            question="Softmax stays the same if all logits of a row shrink by the same "
                 "number. Which number keeps exp finite?"),
    Mistake("G21", "changes its input in place (/=, [...] =, a method ending in _)",
            edit=[("logits = logits.masked_fill(", "logits.masked_fill_("),
                  ("logits / temperature", "logits.div_(temperature)")],
            why="the caller's logits are not the same after the call",
            question="Who else may still need the logits?"),
)
SAMPLES = (
    *TEMPERATURE, *TOP_K, *_SOFTMAX,
    Mistake("G15m", "multinomial on the logits, not on probabilities",
            edit=("(logits / temperature).softmax(-1)", "logits / temperature"),
            why="an error where logits are negative; where all are positive, tokens "
                "come in proportion to their logits",
            question="multinomial takes probabilities. What turns logits into them?"),
    Mistake("G17", "one sample for all rows",
            edit=[("(probabilities, 1", "(probabilities[:1], 1"),
                  ("return ids", "return ids.expand(len(logits), 1)")],
            why="all rows of a batch get the same token",
            question="Whose probabilities does row 1 sample from?"),
    Mistake("G18", "the generator is not used", edit=(", generator=generator", ""),
            why="the frequencies are right, but equal seeds do not give equal ids",
            question="How would somebody repeat your sample?"),
    Mistake("G19", "seeds itself at each call",
            edit=("=generator)", "=torch.Generator().manual_seed(0))"),
            why="every call samples the same: the generator decides nothing",
            question=_Q_SAME),
    Mistake("G19c", "each call starts a new generator with the same seed",
            edit=("=generator)",
                  "=torch.Generator().manual_seed(generator.initial_seed()))"),
            why="every call of one generator samples the same", question=_Q_SAME),
    Mistake("G3t", "the temperature is applied twice",
            edit=("/ temperature", "/ temperature**2"),
            why="a temperature of 0.5 acts like 0.25", question=_Q_T),
    Mistake("G9r", "ranks in a sorted list taken for token ids",
            edit=("(probabilities, 1",
                  "(probabilities.sort(descending=True).values, 1"),
            why="small ids come most often, whatever their logits",
            question="sort returns values and indices. Which token is number 0 of the "
                     "sorted ones?"),
    Mistake("G20", "returns (B,), not (B, 1)", edit=("return ids", "return ids[:, 0]"),
            why="the ids are right, but can't be appended to (B, T)",
            question="Which shape can be concatenated to (B, T) along the tokens?"),
    Mistake("G20p", "returns the probability of the token, not its id",
            edit=("return ids", "return probabilities.gather(-1, ids)"),
            why="the result contains numbers between 0 and 1",
            question="What does the next call of the model need?"),
)
GENERATION = (
    Mistake("G1", "reads the first position, not the last",
            edit=("logits[:, -1]", "logits[:, 0]"),
            why="the end of the prompt does not matter", question=_Q_LAST),
    Mistake("G1m", "takes the mean over all positions",
            edit=("logits[:, -1]", "logits.mean(1)"),
            why="the predictions after old tokens count too", question=_Q_LAST),
    Mistake("G1b", "reads the position before the last",
            edit=("logits[:, -1]", "logits[:, max(-2, -logits.size(1))]"),
            why="the last token is ignored", question=_Q_LAST),
    Mistake("G10", "crops to the oldest tokens",
            edit=("ids[:, -max_seq_length:]", "ids[:, :max_seq_length]"),
            why="past the window, new tokens no longer change what comes: one repeats",
            question=_Q_CROP),
    Mistake("G10s", "the window one token too short",
            edit=("-max_seq_length:", "-max_seq_length + 1:"),
            why="right until the window is full, then its oldest token is missing",
            question=_Q_CROP),
    Mistake("G10r", "crops the text itself, not only what the model sees",
            edit=("dim=1)", "dim=1)[:, -max_seq_length:]"),
            why="past the window, the start of the prompt is gone from the result",
            question=_Q_RETURN),
    Mistake("G11", "no crop", edit=("ids[:, -max_seq_length:]", "ids"),
            why="an IndexError as soon as the text outgrows the window",
            question="How many tokens does the model take at most?"),
    Mistake("G11f", "stops when the window is full",
            edit=("range(max_new_tokens)",
                  "range(min(max_new_tokens, max_seq_length - ids.size(1)))"),
            why="too few new tokens", question="May a text be longer than the window?"),
    Mistake("G12", "no eval(): dropout stays on", edit=("    model.eval()\n", ""),
            why="the model forgets half of what it read (model.training = False alone "
                "doesn't reach its parts)",
            question="When should dropout act?"),
    Mistake("G12s", "the model stays in evaluation mode afterwards",
            edit=("    model.train(was_training)\n", ""),
            why="a training run that goes on would do so without dropout",
            question=_Q_MODE),
    Mistake("G12t", "the model is in training mode afterwards, even if it was in "
                    "evaluation mode before",
            edit=("model.train(was_training)", "model.train()"),
            why="its next use gets dropout", question=_Q_MODE),
    Mistake("G13", "no no_grad: gradients are recorded",
            edit=("torch.no_grad()", "torch.enable_grad()"),
            why="the ids are right, but each step keeps memory for a backward pass "
                "that never comes",
            question="Who will call backward?"),
    Mistake("G14", "returns the new tokens only",
            edit=("return ids", "return ids[:, input_ids.size(1):]"),
            why="the prompt is missing from the result", question=_Q_RETURN),
    Mistake("G14l", "returns the last token only",
            edit=("return ids", "return ids[:, -1:]"),
            why="the result is (B, 1)", question=_Q_RETURN),
    Mistake("G14f", "new tokens put in front of the text",
            edit=("[ids, new]", "[new, ids]"),
            why="the prompt is at the end of the result",
            question="At which end does a text grow?"),
    Mistake("G15", "samples, where greedy decoding was asked for",
            edit=("argmax(-1, keepdim=True)", "softmax(-1).multinomial(1)"),
            why="two calls give different texts", question=_Q_GREEDY),
    Mistake("G22", "the least probable token (argmin)", edit=("argmax", "argmin"),
            why="every new token is the one that the model finds least probable",
            question=_Q_GREEDY),
    Mistake("G24", "the model sees the last token only",
            edit=("ids[:, -max_seq_length:]", "ids[:, -1:]"),
            why="right after a prompt of one token, wrong from the second step on",
            question="What does this model know without its text?"),
    Mistake("G24n", "after the prompt the model sees each new token alone",
            edit=[("ids = input_ids", "ids = new = input_ids"),
                  ("model(ids[", "model(new[")],
            why="the first new token is right; for the next ones the text is forgotten",
            where="What is passed to the model in the second step?",
            fix="model(ids[:, -max_seq_length:])",
            question="Does this model remember what it read in the step before?"),
    Mistake("G22s", "the second most probable token",
            edit=("argmax(-1, keepdim=True)", "topk(2).indices[:, 1:]"),
            why="every new token is the runner-up",
            question="At which index of topk is the largest logit, counted from 0?"),
    Mistake("G25", "the model sees the prompt at every step",
            edit=("model(ids[", "model(input_ids["),
            why="every new token is the same: the new ones are never read",
            question="Which tensor grows in your loop?"),
    Mistake("G26", "row 0's token appended to every row",
            edit=("keepdim=True)", "keepdim=True)[:1].expand(len(ids), 1)"),
            why="row 0 is right, the others continue row 0's text",
            question="Does each row choose for itself?"),
    Mistake("G27", "one token too many",
            edit=("range(max_new_tokens)", "range(max_new_tokens + 1)"),
            why="T + max_new_tokens + 1 tokens come back",
            question="With 0 new tokens, what should come back?"),
    Mistake("G27f", "one token too few",
            edit=("range(max_new_tokens)", "range(1, max_new_tokens)"),
            why="T + max_new_tokens - 1 tokens come back",
            question="With 1 new token, what should come back?"),
    Mistake("G27t", "max_new_tokens taken for the whole length",
            edit=("range(max_new_tokens)", "range(max_new_tokens - ids.size(1))"),
            why="too few tokens: the prompt was counted as new",
            question="Does a longer prompt leave less to generate?"),
)

next_probabilities = Exercise(
    "next_probabilities", "06",
    "next_probabilities(logits, temperature, top_k) -> (B, V)",
    make_probes=probability_probes, mistakes=PROBABILITIES, read_out=read_probabilities,
    edge_cases=(EdgeCase(
        "tokens tied with the k-th do not all stay: their order in the list "
        "decides", _tied),),
    axes={"logits": "B V", "": "B V"},
    hints=("Three steps: cut what is below the k-th logit of its row, divide by the "
           "temperature, softmax. Temperature 0 is a case of its own.",
           "Print your result for the logits 2, 1, 0, -1 with k = 2: what do the "
           "probabilities add up to?",
           "logits.masked_fill(logits < limit, -torch.inf), then softmax(-1)"),
    show="k = 3, all logits negative", sums=True, solution=_NEXT_PROBABILITIES)

next_probabilities_to_repair = next_probabilities.to_repair(
    "next_probabilities_to_repair", "G6",
    "which entry of a row of `ordered` is the smallest that stays when top_k is 1?",
    "last = min(top_k, logits.size(-1)) - 1")

sample_next = Exercise(
    "sample_next", "06",
    "sample_next(logits, temperature, top_k, generator) -> (B, 1)",
    make_probes=sampling_probes, mistakes=SAMPLES, read_out=read_samples,
    axes={"logits": "B V", "": "B 1"},
    crashes=((r"probability tensor|inf.*nan.*< ?0",
              "multinomial takes probabilities (not negative, not nan): which "
              "softmax made them?"),),
    hints=("The probabilities are exact, and you have them. Only one line is random.",
           "Sample 1,000 times from 1/2, 1/4, 1/4 and count.",
           "torch.multinomial(next_probabilities(logits, temperature, top_k), 1, "
           "generator=generator)"),
    atol=0.09, rtol=0.0, show="frequencies with k = 3", solution=_SAMPLE_NEXT,
    names={"torch": _ExactTorch()})

generate = Exercise(
    "generate", "06", "generate(model, input_ids, max_new_tokens, max_seq_length) -> "
    "(B, T + max_new_tokens), greedy", make_probes=generation_probes,
    mistakes=GENERATION,
    read_out=read_generation, axes={"input_ids": "B T", "": "B T"},
    crashes=(
        (r"index out of range in self", "the model was given more tokens than fit into "
                                        "its window, max_seq_length"),
        (r"[Ss]izes of tensors must match|Tensors must have same number of dimensions",
         "cat joins along one axis, dim=1 here; the new token must be (B, 1)"),
        (r"cannot be converted to Scalar|only one element",
         ".item() takes one number: a batch has a token for each row")),
    hints=("Ask the model, take the last position, append its most probable "
           "token, repeat.",
           "Print the shape of each tensor in your loop for B = 2.",
           "logits = model(ids[:, -max_seq_length:]); new = logits[:, -1].argmax(-1, "
           "keepdim=True); ids = torch.cat([ids, new], dim=1)"),
    show="growing past the window", solution=_GENERATE)

# --- the answers that are values ------------------------------------------------------

# Of 8 texts of the story model at temperatures 0.5, 1, 2, 3, measured.
_PAIRS, _NATS = [0.772, 0.779, 0.794, 0.934], [0.148, 0.148, 0.406, 3.129]
_BYTES = 8 * 160


def _measured(pairs: list[float], nats: list[float]) -> dict[str, list[float]]:
    return {"different pairs of words": pairs, "nats per byte": nats}


def _greedy_loses(value: Value) -> list[str]:
    """Return why greedy does not lose by a factor of 2 here, if so."""
    if not isinstance(value, list | tuple) or len(value) != 2:
        return ["expected a list of two: [first, second]"]
    try:
        first, second = (torch.as_tensor(part, dtype=torch.float64) for part in value)
    except (TypeError, ValueError):
        return ["first must be 3 numbers, and second 3 lists of 3 numbers"]
    if first.shape != (3,) or second.shape != (3, 3):
        return [f"first has the shape {tuple(first.shape)} and second "
                f"{tuple(second.shape)}, expected (3,) and (3, 3)"]
    rows = {"first": first} | {f"second[{i}]": row for i, row in enumerate(second)}
    for name, row in rows.items():
        if not (row >= 0).all() or not abs(row.sum() - 1) < 1e-3:
            return [f"{name} must contain probabilities: not negative, adding up to 1; "
                    f"its sum is {row.sum():.4g}, its smallest number {row.min():.4g}"]
    return _lost_by(first[:, None] * second, int(first.argmax()))


def _lost_by(texts: Tensor, start: int) -> list[str]:
    """Return what is missing to a factor of 2: texts (3, 3), greedy's first word."""
    greedy, best = texts[start].max().item(), texts.max().item()
    if best >= 2 * greedy - 1e-6:
        return []
    return [f"greedy's text has the probability {greedy:.3f}, and the most probable "
            f"text {best:.3f}: {best / max(greedy, 1e-9):.2f} times as much, "
            "at least 2 times is required"]


_ALONE = Mistake(
    "P1", "the pairs counted in each text alone, or in one text only",
    "a pair that two texts share does not count as a repetition",
    "Which pairs does the second text repeat from the first?",
    "Where does the set begin?", "One set for the pairs of all 8 texts")
_WORDS = Mistake(
    "P2", "different words, not pairs of words",
    "a story has few words, and many ways to join them",
    "What is a pair of words?", "Look for zip(words, words[1:])",
    "pairs = [pair for words in texts for pair in zip(words, words[1:])]")
_COUNT = Mistake(
    "P4", "the number of different pairs, not divided by the number of pairs",
    "it has to be divided by how many pairs there are in all",
    "Different pairs of how many?", "Look for a division",
    "len(set(pairs)) / len(pairs)")
_LETTERS = Mistake(
    "P5", "pairs of neighbouring bytes, not of words",
    "there are few pairs of letters, and every word repeats them",
    "What does .split() give?", "What do your pairs contain?",
    "bytes(row).decode(errors='replace').split()")
_BITS = Mistake(
    "P6", "bits, not nats", "a nat is 1.44 bits, so the numbers are larger",
    "In which unit are the results of nats_of?", "Look for log2, or a division by ln 2",
    "nats_of(model, ids).mean()")
_SUM = Mistake(
    "P7", "the nats of all bytes together, not per byte",
    "the sum grows with the number of texts and their length",
    "How many bytes are 8 texts of 160?", "Look for sum", "nats_of(model, ids).mean()")
_TEXT = Mistake(
    "P8", "the nats of a whole text, not per byte", "a text has 160 bytes",
    "How many bytes does one text have?", "Look at what the sum is divided by",
    "nats_of(model, ids).mean()")
_PERPLEXITY = Mistake(
    "P9", "the perplexity, e to the nats", "a model that is sure of every byte has a "
                                           "perplexity of 1, but 0 nats",
    "What should the number be for a model that is sure of every byte?", "Look for exp",
    "nats_of(model, ids).mean()")
_SWAPPED = Mistake(
    "P10", "the two entries exchanged", "a fraction is never above 1, and nats may be",
    "Which of the two numbers can be above 1?", "Compare the names with the numbers",
    "different_pairs for the first entry, nats_per_byte for the second")
_OWN = Mistake(
    "P3", "the loss at the sampling temperature, not at temperature 1",
    "a model at another temperature is another model: its own text costs it less",
    "Who should judge all four kinds of text?", "Look for a division of the logits",
    "Use the logits as they are")

_COLD, _HALF, _HOT, _TOP = "T close to 0", "T = 0.5", "T very large", "k = 1"
_PLAIN = [0.5, 0.25, 0.125, 0.125]
_POWER = "4, 2, 1 and 1 to the power 1/T, divided by their sum"


def _setting(id: str, name: str, why: str, question: str, fix: str = _POWER) -> Mistake:
    return Mistake(id, name, why, question, "compare with temperature 1: 4 : 2 : 1 : "
                                        "1", fix)


_TURNED_ROUND = _setting(
    "P11", "cold and hot exchanged", "a small T makes the differences between logits "
                                     "larger",
    "What are the logits divided by, and do they grow or shrink?")
_MULTIPLIED = _setting(
    "P12", "logits multiplied by T, not divided", "T = 0.5 should make it sharper",
    "What are the logits divided by, and do they grow or shrink?")
_IGNORED = _setting(
    "P13", "the setting has no effect: the probabilities of temperature 1",
    "4 : 2 : 1 : 1 is what you get without the setting",
    "What does the setting change: the logits, or which tokens stay?")
_NOT_AGAIN = _setting(
    "P14", "not renormalised: they don't add up to 1",
    "what is left has to add up to 1 again", "What do your four numbers add up to?",
    "divide by their sum")
_DIVIDED = _setting(
    "P15", "probabilities divided by T, not logits", "they don't add up to 1",
    "What is divided by T: the logits, or the probabilities?")
_VANISHED = _setting(
    "P16", "logits of 0 taken for probabilities of 0",
    "equal logits give equal probabilities", "What is the softmax of four zeros?")

ANSWERS = (
    Answer("06.1", "the probabilities of four words at several settings", {
        "T close to 0": [1.0, 0.0, 0.0, 0.0], "T = 0.5": [16 / 22, 4 / 22, 1 / 22,
                                                          1 / 22],
        "T very large": [0.25, 0.25, 0.25, 0.25], "k = 1": [1.0, 0.0, 0.0, 0.0]},
        decimals=2, precision="two decimals are", predict=True, wrong=(
            ({_COLD: [0.25] * 4}, _TURNED_ROUND), ({_HOT: [1, 0, 0, 0]}, _TURNED_ROUND),
            ({_HALF: [0.369, 0.261, 0.185, 0.185]}, _MULTIPLIED),
            ({_COLD: _PLAIN}, _IGNORED), ({_HALF: _PLAIN}, _IGNORED),
            ({_HOT: _PLAIN}, _IGNORED), ({_TOP: _PLAIN}, _IGNORED),
            ({_TOP: [0.5, 0, 0, 0]}, _NOT_AGAIN), ({_HALF: [16, 4, 1, 1]}, _NOT_AGAIN),
            ({_HALF: [1, 0.5, 0.25, 0.25]}, _DIVIDED),
            ({_HALF: [0.25, 0.0625, 0.015625, 0.015625]}, _NOT_AGAIN),
            ({_HOT: [0, 0, 0, 0]}, _VANISHED), ({_TOP: [1, 1, 1, 1]}, _NOT_AGAIN)),
        hints=(
            "Dividing the logits by T raises their exponentials, here 4, 2, 1 and 1, "
            "to the power 1/T, before they are normalised.",
            "For T = 0.5 the power is 2. What are the squares of 4, 2, 1 and 1, and "
            "what do they add up to?",
            "16, 4, 1 and 1, divided by 22"),
        solution="""\
predicted = {
    "T close to 0": [1.0, 0.0, 0.0, 0.0],
    "T = 0.5": [0.73, 0.18, 0.05, 0.05],
    "T very large": [0.25, 0.25, 0.25, 0.25],
    "k = 1": [1.0, 0.0, 0.0, 0.0],
}"""),
    Answer("06.4", "different pairs of words, and nats per byte, at four temperatures",
           _measured(_PAIRS, _NATS), (
               (_measured([0.989, 0.989, 0.978, 0.985], _NATS), _ALONE),
               (_measured([0.460, 0.458, 0.462, 0.673], _NATS), _WORDS),
               (_measured([207, 208, 212, 255], _NATS), _COUNT),
               (_measured([0.191, 0.184, 0.198, 0.35], _NATS), _LETTERS),
               (_measured(_PAIRS, [0.145, 0.148, 0.309, 1.546]), _OWN),
               (_measured(_PAIRS, [x / math.log(2) for x in _NATS]), _BITS),
               (_measured(_PAIRS, [x * _BYTES for x in _NATS]), _SUM),
               (_measured(_PAIRS, [x * 160 for x in _NATS]), _TEXT),
               (_measured(_PAIRS, [math.exp(x) for x in _NATS]), _PERPLEXITY),
               (_measured(_NATS, _PAIRS), _SWAPPED)),
           rtol=0.06, atol=0.0051, precision="two decimals are", hints=(
               "The ids are bytes: "
               'bytes(row.tolist()).decode(errors="replace").split() '
               "are the words of a text. (At a high temperature some bytes are not "
               "text, and are replaced.)",
               "zip(words, words[1:]) gives the pairs of one text. Put those of all 8 "
               "texts into one list, before you count the different ones with set.",
               "len(set(pairs)) / len(pairs), and nats_of(model, ids).mean()"),
           solution="""\
def different_pairs(ids):
    texts = [bytes(row).decode(errors="replace").split() for row in ids.tolist()]
    pairs = [pair for words in texts for pair in zip(words, words[1:])]
    return len(set(pairs)) / len(pairs)

def nats_per_byte(ids):
    return nats_of(model, ids).mean().item()

measured = {
    "different pairs of words": [different_pairs(texts_at(t)) for t in (0.5, 1, 2, 3)],
    "nats per byte": [nats_per_byte(texts_at(t)) for t in (0.5, 1, 2, 3)],
}"""),
    Answer("06.5", "probabilities of two words with which greedy loses by a factor of "
                   "2",
           [[0.4, 0.3, 0.3], [[0.34, 0.33, 0.33], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]],
           test=_greedy_loses, hints=(
               "The probability of a text is the product of two probabilities: "
               "first[i] * second[i][j].",
               "After the first word that greedy decoding chooses, the model should be "
               "unsure. After another first word, nearly as probable, it should be "
               "sure.",
               "first = 0.4, 0.3, 0.3; after word 0 all equal, after word 1 one of "
               "them certain"),
           solution="""\
first = [0.4, 0.3, 0.3]
second = [[0.34, 0.33, 0.33], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]"""),
)
