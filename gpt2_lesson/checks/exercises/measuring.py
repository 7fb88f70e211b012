"""Lesson 11: perplexity, bits per byte, windows, endings (catalogue: S6, S9, S10)."""

import math

import torch
from torch import Generator, Tensor

from gpt2_lesson.checks.compare import shown
from gpt2_lesson.checks.exercise import (
    Answer,
    Clue,
    EdgeCase,
    Exercise,
    Mistake,
    RunProbe,
)
from gpt2_lesson.checks.fakes.toy_models import as_number, choices
from gpt2_lesson.checks.probing import Probe, Value

# --- the right answers ----------------------------------------------------------------

_PERPLEXITY = """\
def perplexity(batches):
    nats = torch.cat(batches)
    mean = nats.sum() / len(nats)
    return mean.exp().item()"""

_BITS_PER_BYTE = """\
def bits_per_byte(nats, text):
    bits = nats.sum().item() / math.log(2)
    return bits / len(text.encode())"""

_COUNT_ONCE = """\
def count_once(parts, starts):
    found, done = [], 0
    for part, start in zip(parts, starts):
        new = start + len(part) - done
        found.append(part[len(part) - new:])
        done = start + len(part)
    return torch.cat(found)"""

_BEST_ENDING = """\
def best_ending(nats, endings, per_byte):
    scores = []
    for tokens, ending in zip(nats, endings):
        size = len(ending.encode()) if per_byte else 1
        scores.append(tokens.sum().item() / size)
    return scores.index(min(scores))"""

# --- probes ---------------------------------------------------------------------------


def _nats(g: Generator, *sizes: int) -> list[Tensor]:
    """Return nats (N,) for each size: mostly small, as a model's are."""
    return [3 * torch.rand(n, generator=g) ** 2 + 0.1 + i for i, n in enumerate(sizes)]


def perplexity_probes(g: Generator) -> list[Probe]:
    """Return batches of nats: of unequal and equal length, one, one token."""
    batches = {"two batches, 3 tokens and 1": _nats(g, 3, 1),
               "three batches of unequal length": _nats(g, 2, 9, 4),
               "one batch": _nats(g, 6), "one token": _nats(g, 1),
               "equal lengths": _nats(g, 4, 4, 4),
               "all 3 nats": [torch.full((2,), 3.0), torch.full((3,), 3.0)]}
    return [Probe(name, (part,), as_number) for name, part in batches.items()]


_TEXTS = ("The cat sat on it.", "Zoë drank crème brûlée in a café.", "naïve 🙂🙂",
          "x", "Привет, мир", " a line,\n")


def bits_probes(g: Generator) -> list[Probe]:
    """Return nats with texts: plain letters, accents, an emoji, one letter."""
    return [Probe(f"{text!r} in {n} token{'s' * (n > 1)}",
                  (torch.cat(_nats(g, n)), text), as_number)
            for text, n in zip(_TEXTS, (7, 12, 4, 1, 5, 3), strict=True)]


def _windows(g: Generator, lengths: list[int], starts: list[int]) -> tuple:
    return [3 * torch.rand(n, generator=g) + 0.1 for n in lengths], starts


def join_probes(g: Generator) -> list[Probe]:
    """Return windows: with overlap, end to end, a short last step, one alone."""
    return [
        Probe("windows of 6 that move on by 4", _windows(g, [6, 6, 6], [0, 4, 8])),
        Probe("a short last step", _windows(g, [6, 6, 6], [0, 4, 5])),
        Probe("a short last window", _windows(g, [5, 5, 5, 4], [0, 2, 4, 6])),
        Probe("steps of 1", _windows(g, [4] * 5, [0, 1, 2, 3, 4])),
        Probe("end to end", _windows(g, [3, 3, 2], [0, 3, 6])),
        Probe("one window", _windows(g, [5], [0])),
    ]


def _nothing_new(g: Generator) -> Probe:
    return Probe("a last window that lies within the one before",
                 _windows(g, [5, 5, 3], [0, 2, 4]))


_ENDINGS = (" mat.", " lap of the old king.", " sofa.", " roof, as cats do.", " bed",
            " sill.", " idée fixe.", " café à côté.", " блин", " 🙂🙂", " tree house.")


def _questions(g: Generator, count: int, size: int) -> tuple[list, list]:
    """Return nats and endings of questions: `size` endings, tokens of 1 to 4 letters.
    """
    nats, endings = [], []
    for _ in range(count):
        some = [_ENDINGS[i] for i in torch.randperm(len(_ENDINGS), generator=g)[:size]]
        counts = [1 + len(text) // int(torch.randint(2, 6, (), generator=g))
                  for text in some]
        nats.append([(2.5 * torch.rand(n, generator=g) + 0.2).round(decimals=4)
                     for n in counts])
        endings.append(some)
    return nats, endings


def choice_probes(g: Generator) -> list[Probe]:
    """Return questions asked both ways: many, with two endings, with one."""
    many, few = _questions(g, 24, 4), _questions(g, 10, 2)
    return [Probe("24 questions, per byte", (*many, True), choices),
            Probe("24 questions, total", (*many, False), choices),
            Probe("two endings, per byte", (*few, True), choices),
            Probe("two endings, total", (*few, False), choices),
            Probe("one ending", (*_questions(g, 2, 1), True), choices)]


def _one_question(probe: Probe, k: int) -> Probe:
    nats, endings, per_byte = probe.args
    return Probe(f"{probe.name}, question {k + 1}", (nats[k], endings[k], per_byte))


# --- what can be read out when nothing matches ----------------------------------------


def _value(run: RunProbe, *args: object) -> float:
    value = run(Probe("read out", args, as_number)).value
    return float(value) if isinstance(value, int | float) else math.nan


def perplexity_clues(run: RunProbe, g: Generator) -> list[Clue]:
    """Return what simple texts show: all tokens alike, the order, the split."""
    found = []
    for nats, wanted in ((0.0, "1"), (math.log(16), "16")):
        value = _value(run, [torch.full((2,), nats), torch.full((3,), nats)])
        if math.isfinite(value) and abs(value - float(wanted)) > 1e-3:
            each = "1" if wanted == "1" else f"1/{wanted}"
            found.append(Clue(f"all {wanted}", f"where each token has the probability "
                              f"{each}, yours is {value:.4g}, expected {wanted}"))
    a, b = _nats(g, 3, 5)
    pair = _value(run, [a, b]), _value(run, [torch.cat([a, b])])
    if all(map(math.isfinite, pair)) and abs(pair[0] - pair[1]) > 1e-3:
        found.append(Clue("split", "the same tokens in one batch or in two give "
                          f"{pair[1]:.4g} or {pair[0]:.4g}"))
    return found


def bits_clues(run: RunProbe, g: Generator) -> list[Clue]:
    """Return what simple texts show: one bit per byte, twice the text, an accent."""
    found, bit = [], torch.full((4,), math.log(2))
    value = _value(run, bit, "abcd")
    if math.isfinite(value) and abs(value - 1) > 1e-3:
        found.append(Clue("one bit", "four bytes that cost one bit each: your result "
                          f"is {value:.4g}, expected 1"))
    pair = _value(run, bit, "abcd"), _value(run, bit, "abéd")
    if all(map(math.isfinite, pair)) and abs(pair[1] / (pair[0] or 1) - 0.8) > 1e-3:
        found.append(Clue("accent", "with é instead of c there is one byte more: "
                          f"yours goes from {pair[0]:.4g} to {pair[1]:.4g}, expected "
                          "a fifth less"))
    pair = _value(run, bit[:2], "abcd"), _value(run, bit, "abcd")
    if all(map(math.isfinite, pair)) and abs(pair[1] - 2 * pair[0]) > 1e-3:
        found.append(Clue("tokens", "twice the tokens, each with the same NLL, for "
                          f"the same text: yours goes from {pair[0]:.4g} to "
                          f"{pair[1]:.4g}, expected twice as much"))
    return found


def join_clues(run: RunProbe, g: Generator) -> list[Clue]:
    """Return which windows' numbers come back, by numbers that tell where they stood.

    Token t of window i is 100 * i + t.
    """
    starts = [0, 3, 5]
    parts = [100.0 * i + torch.arange(s, s + 5.0) for i, s in enumerate(starts)]
    out = run(Probe("read out", (parts, starts))).value
    if (not isinstance(out, Tensor) or out.dim() != 1 or out.is_complex()
            or not out.isfinite().all()):
        return []
    tokens, found = [int(x) % 100 for x in out.tolist()], []
    twice = sorted({t for t in tokens if tokens.count(t) > 1})
    missing = sorted(set(range(10)) - set(tokens))
    if twice:
        found.append(Clue("twice", "with windows of 5 that start at 0, 3, 5, these "
                          f"tokens count more than once: {', '.join(map(str, twice))}"))
    if missing:
        found.append(Clue("missing", "with windows of 5 that start at 0, 3, 5, these "
                          f"tokens are missing: {', '.join(map(str, missing))}"))
    windows = [int(x) // 100 for x in out.tolist()]
    if not twice and not missing and windows != [0] * 5 + [1] * 3 + [2] * 2:
        found.append(Clue("window", "tokens 0 to 9 are taken from the windows "
                          f"{windows}, expected {[0] * 5 + [1] * 3 + [2] * 2}"))
    return found


def choice_clues(run: RunProbe, g: Generator) -> list[Clue]:
    """Return what two plain questions show."""
    found = []
    for nats, endings, per_byte, right, text in (
            (([1.0, 1.0], [3.0]), ("aaaa", "bbbb"), False, 0,
             "2 nats against 3, total"),
            (([3.0], [1.0, 1.0]), ("aaaa", "bbbb"), True, 1, "3 nats against 2, both "
             "of 4 bytes, per byte"),
            (([2.0], [3.0]), ("ab", "abcd"), True, 1, "2 nats on 2 bytes against 3 on "
             "4, per byte"),
            (([2.0], [3.0]), ("ab", "abcd"), False, 0,
             "2 nats on 2 bytes against 3 on 4, total")):
        question = [[torch.tensor(n) for n in nats]], [list(endings)]
        value = run(Probe("read out", (*question, per_byte), choices)).value
        if isinstance(value, list) and value != [right]:
            found.append(Clue(text, f"{text}: you return {shown(value[0])}, expected "
                              f"{right}"))
    return found


# --- mistakes -------------------------------------------------------------------------

_Q_LAST = ("One token had the probability 1/8, another 1/2. Is the model as uncertain "
           "as among 4 equally probable tokens, or among 5?")
_Q_WEIGHT = "How much should a batch of one token count beside a batch of a hundred?"

PERPLEXITY = (
    Mistake("S9", "2 to the mean of nats", edit=("mean.exp()", "(2 ** mean)"),
            why="at a mean of 3 nats it gives 8, not 20.1",
            question="In which unit are the losses, and which base belongs to it?"),
    Mistake("S9t", "10 to the mean of nats", edit=("mean.exp()", "(10 ** mean)"),
            why="at a mean of 3 nats it gives 1000",
            question="In which unit are the losses, and which base belongs to it?"),
    Mistake("S10", "the mean of the batches' means",
            edit=("nats.sum() / len(nats)",
                  "torch.stack([b.mean() for b in batches]).mean()"),
            why="a batch of one token counts as much as a batch of three",
            question=_Q_WEIGHT),
    Mistake("S13", "the mean of the exponentials, not the exponential of the mean",
            edit=[("nats.sum() / len(nats)", "nats.exp().mean()"),
                  ("mean.exp()", "mean")],
            why="too large: a few improbable tokens dominate",
            question=_Q_LAST),
    Mistake("S13b", "the mean of the batches' perplexities",
            edit=("mean.exp()",
                  "torch.stack([b.mean().exp() for b in batches]).mean()"),
            why="a perplexity for each batch, then their mean", question=_Q_WEIGHT),
    Mistake("S13n", "no exponential: the mean of nats", edit=("mean.exp()", "mean"),
            question="Among how many equal tokens does a model choose that is always "
                 "sure?", why="a model that is sure of everything gets 0, not 1"),
    Mistake("S9e", "e to the mean of bits",
            edit=("torch.cat(batches)", "torch.cat(batches) / math.log(2)"),
            why="at a mean of 3 nats it gives 75.8, not 20.1",
            question="In which unit are the losses, and which base belongs to it?"),
    Mistake("S13s", "the sum of the batches' perplexities",
            edit=("mean.exp()", "torch.stack([b.mean().exp() for b in batches]).sum()"),
            why="two batches that are alike give twice the perplexity of one",
            question=_Q_WEIGHT),
    Mistake("S13h", "the inverse of the mean probability",
            edit=[("nats.sum() / len(nats)", "(-nats).exp().mean()"),
                  ("mean.exp()", "(1 / mean)")], question=_Q_LAST,
            why="too small: the mean of the logs is not the log of the mean"),
    Mistake("S13m", "1 subtracted at the end (expm1)",
            edit=("mean.exp()", "mean.expm1()"),
            question="Among how many equal tokens does a model choose that is always "
                 "sure?", why="a model that is sure of everything gets 0, not 1"),
    Mistake("S14n", "divided by one token too few (n - 1)",
            edit=("len(nats)", "max(1, len(nats) - 1)"),
            why="too large, most of all for few tokens",
            question="How many nats are added up?"),
    Mistake("S14m", "divided by one token too many (n + 1)",
            edit=("len(nats)", "(len(nats) + 1)"),
            question="How many nats are added up?",
            why="too small, most of all for few tokens"),
    Mistake("S14f", "all batches taken to be as long as the first",
            edit=("len(nats)", "(len(batches) * len(batches[0]))"),
            why="right for batches of equal length",
            question="How many tokens are there in all?"),
    Mistake("S14", "the sum, not the mean", edit=(" / len(nats)", ""),
            why="it grows with the length of the text",
            question="Should a longer text have a higher perplexity?"),
    Mistake("S14b", "the sum divided by the number of batches, not of tokens",
            edit=("len(nats)", "len(batches)"),
            why="it grows with the length of the batches",
            question="What was added up, and how many were there?"),
    Mistake("S15", "only the first batch", edit=("torch.cat(batches)", "batches[0]"),
            why="the other batches change nothing",
            question="Where do the other batches go?"),
    Mistake("S15l", "only the last batch", edit=("torch.cat(batches)", "batches[-1]"),
            why="the other batches change nothing",
            question="Where do the other batches go?"),
    Mistake("S16", "e to the minus mean", edit=("mean.exp()", "(-mean).exp()"),
            why="between 0 and 1: it is the geometric mean of the probabilities",
            question="Can a model choose among fewer than one token?"),
)
_Q_BYTE = "What do all tokenizers agree on, however they split the text?"
_Q_BIT = "A token of probability 1/2 costs one bit. How many nats is that?"

BITS = (
    Mistake("S6", "nats, not bits", edit=(" / math.log(2)", ""),
            why="too small, by the factor ln 2 = 0.693", question=_Q_BIT),
    Mistake("S6m", "multiplied by ln 2, not divided",
            edit=("/ math.log(2)", "* math.log(2)"),
            why="too small, by the factor 0.48", question=_Q_BIT),
    Mistake("S6t", "log10 instead of log2", edit=("math.log(2)", "math.log(10)"),
            why="too small: decimal digits, not bits", question=_Q_BIT),
    Mistake("S17", "bits per token, not per byte", edit=("text.encode()", "nats"),
            why="a tokenizer with longer tokens gets a higher number",
            question=_Q_BYTE),
    Mistake("S18", "divided by characters, not bytes", edit=("text.encode()", "text"),
            why="right for ASCII, too large with accents and emoji",
            question="How many bytes does é take?"),
    Mistake("S18w", "divided by words, not bytes",
            edit=("text.encode()", "text.split()"), why="about 5 times too large",
            question=_Q_BYTE),
    Mistake("S18o", "not divided at all: the bits of the whole text",
            edit=(" / len(text.encode())", ""),
            why="it grows with the length of the text",
            question="Should a longer text get a higher number?"),
    Mistake("S18e", "divided by 8 as well",
            edit=("len(text.encode())", "(8 * len(text.encode()))"),
            why="bits of loss per bit of text",
            question="The numerator counts bits of loss. And the denominator?"),
    Mistake("S6l", "divided by log10(2), not by ln 2",
            edit=("math.log(2)", "math.log10(2)"), why="too large, by the factor 2.3",
            question=_Q_BIT),
    Mistake("S18i", "bytes per bit: the fraction is upside down",
            edit=("bits / len(text.encode())", "len(text.encode()) / bits"),
            why="a model that is less sure gets a lower number",
            question="Which is divided by which: the bits, or the bytes?"),
    Mistake("S18n", "the sign is wrong: a negative number of bits",
            edit=("nats.sum()", "-nats.sum()"), question="What is the sign of -ln P?",
            why="the nats are already -ln P, so they are not negative"),
    Mistake("S18p", "divided by one byte too many",
            edit=("len(text.encode())", "(len(text.encode()) + 1)"),
            why="too small, most of all for short texts",
            question="How many bytes does the text have?"),
    Mistake("S18d", "divided by the number of different bytes",
            edit=("text.encode()", "set(text.encode())"),
            why="a byte that comes twice counts once", question=_Q_BYTE),
    Mistake("S18b", "divided by the bytes without spaces",
            edit=("text.encode()", "text.replace(' ', '').encode()"),
            why="spaces are bytes, too", question=_Q_BYTE),
    Mistake("S18t", "divided by the bytes without spaces and newlines at the ends",
            edit=("text.encode()", "text.strip().encode()"), question=_Q_BYTE,
            why="right for a text that begins and ends with something else"),
    Mistake("S18u", "divided by the bytes of UTF-16, not of UTF-8",
            edit=("encode()", "encode('utf-16')"),
            why="an ASCII character has two bytes there, and there are two more in "
                "front", question=_Q_BYTE),
    Mistake("S19", "the mean over tokens, divided by the bytes as well",
            edit=("nats.sum()", "nats.mean()"),
            question="The loss of all tokens, divided by the bytes of all tokens. What "
                     "is missing in a mean?",
            why="twice the text gives half the number"),
    Mistake("S19p", "2 to the bits per byte",
            edit=("bits / len(text.encode())", "2 ** (bits / len(text.encode()))"),
            why="that is a perplexity per byte",
            question="Bits are what you have before the power. What comes after it?"),
)
_Q_ONCE = "A token occurs in two windows. In which of them does it have more context?"

_MEAN_OF_BOTH = """\
def count_once(parts, starts):
    size = starts[-1] + len(parts[-1])
    total, count = torch.zeros(size), torch.zeros(size)
    for part, start in zip(parts, starts):
        total[start:start + len(part)] += part
        count[start:start + len(part)] += 1
    return total / count"""
_LATER_WINS = """\
def count_once(parts, starts):
    out = torch.zeros(starts[-1] + len(parts[-1]))
    for part, start in zip(parts, starts):
        out[start:start + len(part)] = part
    return out"""

JOIN = (
    Mistake("S20", "overlaps counted each time",
            edit=("part[len(part) - new:]", "part"),
            why="more numbers than tokens: what two windows share counts twice",
            question="How many tokens does the text have, and how many numbers do you "
                     "return?"),
    Mistake("S20m", "the mean of both windows", source=_MEAN_OF_BOTH, question=_Q_ONCE,
            why="each token once, but its numbers with little context count too"),
    Mistake("S21", "the later window wins", source=_LATER_WINS,
            why="each token once, but with the least context", question=_Q_ONCE),
    Mistake("S21f", "the front of each new window, not its end",
            edit=("part[len(part) - new:]", "part[:new]"),
            why="the numbers that count are those of old tokens", question=_Q_ONCE),
    Mistake("S22", "every step taken to be as long as the first",
            edit=("start + len(part) - done",
                  "starts[1] - starts[0] if done else len(part)"),
            why="right for even steps, wrong where the last step is shorter",
            question="Where did the window before end?"),
    Mistake("S22s", "as many new tokens as the window moved",
            edit=[("for part, start in zip(parts, starts):",
                   "for part, start, old in zip(parts, starts, [None, *starts]):"),
                  ("start + len(part) - done",
                   "len(part) if old is None else start - old")],
            why="right while all windows are equally long; a short last window has "
                "fewer", question="Where did the window before end?"),
    Mistake("S23", "the last window left out",
            edit=("zip(parts, starts)",
                  "list(zip(parts, starts))[:max(1, len(parts) - 1)]"),
            why="the end of the text is missing",
            question="How many windows are there, and how often does your loop run?"),
    Mistake("S22b", "`done` moved to the start of the window, not to its end",
            edit=("done = start + len(part)", "done = start"),
            why="from the third window on too many tokens count as new",
            question="Up to which token have you counted after a window?"),
    Mistake("S22a", "the lengths of the windows added up, as if nothing overlapped",
            edit=[("part[len(part) - new:]", "part[done - start:]"),
                  ("done = start + len(part)", "done += len(part)")],
            why="later windows lose tokens that no other window contains",
            question="How many tokens do two windows of 5 contain that overlap by 2?"),
    Mistake("S24", "one new token too few in each window",
            edit=("- new:]", "- new + (start > 0):]"),
            why="at each seam a token is missing",
            question="Write down the first two windows' tokens. Which ones are new?"),
    Mistake("S24m", "one new token too many in each window",
            edit=("- new:]", "- new - (start > 0):]"),
            why="at each seam a token counts twice",
            question="Write down the first two windows' tokens. Which ones are new?"),
)
_Q_LEAST = "Which ending is the most probable: one with a high loss, or a low one?"
_Q_FAIR = "A longer ending has more tokens to add up. What makes the comparison fair?"

CHOICE = (
    Mistake("S25", "the least probable ending (argmax)",
            edit=("min(scores)", "max(scores)"),
            why="the ending with the lowest probability is chosen", question=_Q_LEAST),
    Mistake("S26", "per_byte never used", edit=("if per_byte", "if False"),
            why="long endings lose by their length", question=_Q_FAIR),
    Mistake("S26a", "always per byte", edit=(" if per_byte else 1", ""),
            why="per_byte=False changes nothing",
            question="What does per_byte=False ask for?"),
    Mistake("S26i", "per byte and total exchanged",
            edit=("if per_byte", "if not per_byte"),
            why="per_byte=True returns what False should, and the other way round",
            question="What does per_byte=False ask for?"),
    Mistake("S17", "per token, not per byte", edit=("ending.encode()", "tokens"),
            why="an ending that is cut into many short tokens gets a lower loss",
            question=_Q_FAIR),
    Mistake("S18", "per character, not per byte", edit=("ending.encode()", "ending"),
            why="right for ASCII, other choices with accents and emoji",
            question="How many bytes does é take?"),
    Mistake("S18w", "per word, not per byte",
            edit=("len(ending.encode())", "(len(ending.split()) or 1)"),
            why="endings of one word lose", question=_Q_FAIR),
    Mistake("S19", "the mean over tokens, and then per byte as well",
            edit=("tokens.sum()", "tokens.mean()"),
            why="divided twice: long endings win", question=_Q_FAIR),
    Mistake("S27", "only the first token of an ending",
            edit=("tokens.sum()", "tokens[0]"), why="the later tokens change nothing",
            question="Which tokens belong to the ending?"),
    Mistake("S27l", "only the last token of an ending",
            edit=("tokens.sum()", "tokens[-1]"),
            why="the earlier tokens change nothing",
            question="Which tokens belong to the ending?"),
    Mistake("S26t", "multiplied by the bytes, not divided", edit=("/ size", "* size"),
            why="long endings lose twice", question=_Q_FAIR),
    Mistake("S26m", "per token where the total is asked for",
            edit=("tokens.sum()", "(tokens.sum() if per_byte else tokens.mean())"),
            why="right with per_byte, wrong without",
            question="What does per_byte=False ask for?"),
    Mistake("S18t", "per byte without the space in front",
            edit=("ending.encode()", "ending.strip().encode()"),
            why="the space is one of the ending's bytes", question=_Q_FAIR),
    Mistake("S28", "returns the score, not the position of the ending",
            edit=("scores.index(min(scores))", "min(scores)"),
            why="the result is a number of nats",
            question="What should the caller do with it?"),
    Mistake("S28t", "returns the ending itself, not its position",
            edit=("scores.index(min(scores))", "endings[scores.index(min(scores))]"),
            why="the result is a text",
            question="What is asked for: the ending, or its number?"),
    Mistake("S28o", "counts from 1",
            edit=("scores.index(min(scores))", "scores.index(min(scores)) + 1"),
            why="every position is one too large",
            question="What is the number of the first ending?"),
    Mistake("S29", "the shortest ending, whatever the model thinks of it",
            edit=("tokens.sum().item() / size", "len(ending.encode())"),
            why="the nats make no difference", question=_Q_LEAST),
    Mistake("S29t", "the ending with the fewest tokens",
            edit=("tokens.sum().item() / size", "len(tokens)"),
            why="how surprising the tokens are makes no difference", question=_Q_LEAST),
    Mistake("S29f", "always the first ending", edit=("scores.index(min(scores))", "0"),
            why="the result is 0 for every question", question=_Q_LEAST),
)

perplexity = Exercise(
    "perplexity", "11", "perplexity(batches) -> a number",
    make_probes=perplexity_probes, mistakes=PERPLEXITY, read_out=perplexity_clues,
    hints=("A batch of one token must not count as much as one of a hundred. What do "
           "you add up, and what do you divide by?",
           "Compute it by hand for the batches [ln 2, ln 2, ln 2] and [ln 16].",
           "torch.cat(batches).mean().exp().item()"),
    crashes=((r"stack expects each tensor", "the batches have different lengths: "
              "torch.cat joins them, torch.stack can't"),),
    show="all 3 nats", solution=_PERPLEXITY)

bits_per_byte = Exercise(
    "bits_per_byte", "11", "bits_per_byte(nats, text) -> a number",
    make_probes=bits_probes, mistakes=BITS, read_out=bits_clues,
    hints=('len("é") is 1, and len("é".encode()) is 2. Which of them do all '
           "tokenizers agree on?",
           "Compute it by hand for one token of ln 4 nats and the text é.",
           "nats.sum().item() / math.log(2) / len(text.encode())"),
    solution=_BITS_PER_BYTE)

count_once_to_repair = Exercise(
    "count_once", "11", "count_once(parts, starts) -> (N,), each token once",
    make_probes=join_probes, mistakes=JOIN, read_out=join_clues, edge_cases=(EdgeCase(
        "it fails where a window contains nothing new: part[-0:] is the whole window, "
        "since -0 is 0; part[len(part) - new:] is empty there", _nothing_new),),
    hints=("Go through the windows in order, and keep track of the last token that has "
           "been counted.",
           "Write down windows of 3 tokens that start at 0, 2 and 3. What is new in "
           "each?",
           "new = start + len(part) - done; keep part[len(part) - new:]"),
    solution=_COUNT_ONCE).to_repair(
        "count_once_to_repair", "S20",
        "`done` says how many tokens have been counted. Which line changes it, and "
        "when? (If `new` is 0, part[-new:] is the whole window.)",
        "done = start + len(part), as the last line of the loop")

best_ending = Exercise(
    "best_ending", "11",
    "best_ending(nats, endings, per_byte) -> the index of the winner",
    make_probes=choice_probes, mistakes=CHOICE, read_out=choice_clues,
    one_call=_one_question,
    hints=("A score for each ending, and the position of the smallest.",
           "Print your scores for two endings of different length, with and without "
           "per_byte.",
           "scores = [t.sum() / (len(e.encode()) if per_byte else 1) for t, e in "
           "zip(nats, endings)]"),
    solution=_BEST_ENDING)

# --- the answers that are values ------------------------------------------------------

# One sentence of 49 bytes and 11 words, as the story model reads it, measured.
_NATS = 11.163


def _four(**changed: float) -> dict[str, float]:
    """Return the four numbers of the sentence, some of them changed."""
    right = {"nats": _NATS, "byte": math.exp(_NATS / 49), "word": math.exp(_NATS / 11),
             "bits": _NATS / math.log(2) / 49} | changed
    return {"nats in total": right["nats"], "perplexity per byte": right["byte"],
            "perplexity per word": right["word"], "bits per byte": right["bits"]}


def _three_ways(value: Value) -> list[str]:
    """Return why a question does not tell the three ways of counting apart."""
    if not isinstance(value, list | tuple) or len(value) != 3:
        return ["expected a list of three: [(nats, ending), (nats, ending), ...]"]
    totals, sizes = [], []
    for i, part in enumerate(value):
        if not isinstance(part, list | tuple) or len(part) != 2:
            return [f"entry {i} is not a pair (nats, ending)"]
        nats, ending = part
        nats = nats.tolist() if isinstance(nats, Tensor) else nats
        if not isinstance(ending, str) or not ending:
            return [f"the ending of entry {i} must be a text of one character or "
                    "more"]
        if not isinstance(nats, list | tuple) or not nats or not all(
                isinstance(one, int | float) and math.isfinite(one) for one in nats):
            return [f"the nats of {ending!r} must be a list: a number for each token, "
                    "one or more"]
        if min(nats) < 0:
            return [f"a token with {min(nats)} nats: -ln of a probability is never "
                    "below 0"]
        if len(nats) > len(ending.encode()):
            size = len(ending.encode())
            return [f"{ending!r} has {len(nats)} tokens and {size} "
                    f"byte{'s' * (size != 1)}: a token has one byte or more"]
        totals.append(sum(nats))
        sizes.append((1, len(nats), len(ending.encode())))
    return _same_winner(totals, sizes)


def _same_winner(totals: list[float], sizes: list[tuple[int, int, int]]) -> list[str]:
    names, winners = ("in total", "per token", "per byte"), []
    for way in range(3):
        scores = [total / size[way] for total, size in zip(totals, sizes, strict=True)]
        if sorted(scores)[1] - min(scores) < 1e-9:
            return [f"{names[way]}, two endings are equally good"]
        winners.append(scores.index(min(scores)))
    if len(set(winners)) == 3:
        return []
    return ["the winners are " + ", ".join(
        f"ending {winner} {name}" for name, winner in zip(names, winners, strict=True))
        + ": expected three different ones"]


_BITS_UP = Mistake(
    "P1", "nats, not bits, per byte", "a nat is 1.44 bits, so bits are more",
    "How many bits is one nat?", "Look at the last number",
    "nats.sum() / math.log(2) / 49")
_BITS_DOWN = Mistake(
    "P1x", "nats times ln 2, not divided by it", "a nat is 1.44 bits, so bits are more",
    "How many bits is one nat: more than one, or less?", "Look at the last number",
    "nats.sum() / math.log(2) / 49")
_BASE = Mistake(
    "P2", "2 to the mean of nats", "2 belongs to bits, e belongs to nats",
    "In which unit is the mean?", "Look at the base of the power",
    "math.exp(nats.sum() / 49)")
_MEAN = Mistake(
    "P3", "the mean of the nats, not their sum", "the total is over all 49 bytes",
    "What do the nats of 49 bytes add up to?", "Look for mean", "nats.sum()")
_PER_WORD = Mistake(
    "P4", "bits per word, not per byte", "a sentence has 49 bytes and 11 words",
    "Per what?", "Look at the last division", "nats.sum() / math.log(2) / 49")
_ALL_BITS = Mistake(
    "P5", "bits of the whole sentence, not per byte", "it has 49 bytes", "Per what?",
    "Look at the last division", "nats.sum() / math.log(2) / 49")
_CHANGED = Mistake(
    "P6", "the two perplexities exchanged", "a word costs more than a byte",
    "Which is larger, the nats per word or per byte?",
    "Compare the names with the numbers",
    "math.exp(nats.sum() / 49) is the one per byte")
_NO_EXP = Mistake(
    "P7", "the mean nats, not e to the power of them",
    "a perplexity is a number of choices, and never below 1",
    "What is the perplexity of a model that is sure of everything?", "Look for exp",
    "math.exp(nats.sum() / 49), math.exp(nats.sum() / 11)")
_EXP_FIRST = Mistake(
    "P18", "the mean of the exponentials, not the exponential of the mean",
    "the least probable bytes dominate that mean", "What is averaged: the nats, or "
    "e to the power of them?", "Look at what exp is applied to",
    "math.exp(nats.sum() / 49)")
_FROM_BYTES = Mistake(
    "P19", "the perplexity per word computed from the one per byte, times 49 / 11",
    "an exponential of nats does not grow in proportion to them",
    "What is divided by 11: the nats, or e to the power of them?",
    "Begin with the total of the nats", "math.exp(nats.sum() / 11)")
_EXP_OVER = Mistake(
    "P20", "divided after the exponential, not before",
    "e to the power of all nats is one over the probability of the whole sentence",
    "What is divided: the nats, or e to the power of them?",
    "Look at what exp is applied to",
    "math.exp(nats.sum() / 49), math.exp(nats.sum() / 11)")

_BITS, _NATS_1, _PPL, _TWO = ("bits", "nats", "perplexity", "perplexity of 1/2 and 1/8")


def _uniform(id: str, name: str, why: str, question: str, fix: str) -> Mistake:
    return Mistake(id, name, why, question, "begin with the bits of one token", fix)


_HALVINGS = "How many halvings lead from 1 to 1/16?"
_UNIT = "Which is larger, a bit or a nat?"
_CHOICES = "As uncertain as among how many equal choices?"
_MEAN_FIRST = "What is averaged: the bits, or something else?"
_WRONG_11 = (
    ({_BITS: 16}, _uniform("P8", "the number of choices, not its logarithm",
                           "16 choices are 4 halvings", _HALVINGS, "4 bits")),
    ({_BITS: 2.7726}, _uniform("P9", "nats, where bits are asked for",
                               "a bit is 0.693 nats, so there are more bits", _UNIT,
                               "4 bits")),
    ({_NATS_1: 4}, _uniform("P10", "bits, where nats are asked for",
                            "a bit is 0.693 nats, so there are fewer nats", _UNIT,
                            "4 * 0.693")),
    ({_NATS_1: 5.7708}, _uniform("P11", "divided by ln 2, not multiplied",
                                 "a bit is 0.693 nats, so there are fewer nats", _UNIT,
                                 "4 * 0.693")),
    ({_NATS_1: 16}, _uniform("P8", "the number of choices, not its logarithm",
                             "16 choices are 4 halvings", _HALVINGS, "4 * 0.693")),
    ({_PPL: 4}, _uniform("P12", "the bits, not 2 to the power of them",
                         "a perplexity is a number of choices", _CHOICES, "2 ** 4")),
    ({_PPL: 2.7726}, _uniform("P13", "the nats, not e to the power of them",
                              "a perplexity is a number of choices", _CHOICES,
                              "e ** 2.77")),
    ({_PPL: 1 / 16}, _uniform("P14", "the probability, not one over it",
                              "a perplexity is never below 1", _CHOICES, "16")),
    ({_TWO: 5}, _uniform("P15", "the mean of 2 and 8, one over each probability",
                         "one improbable token would dominate that mean", _MEAN_FIRST,
                         "2 ** ((1 + 3) / 2)")),
    ({_TWO: 3.2}, _uniform("P16", "one over the mean probability",
                           "the logarithm comes before the mean", _MEAN_FIRST,
                           "2 ** ((1 + 3) / 2)")),
    ({_TWO: 2}, _uniform("P12", "the bits, not 2 to the power of them",
                         "a perplexity is a number of choices", _CHOICES,
                         "2 ** ((1 + 3) / 2)")),
    ({_TWO: 16}, _uniform("P17", "of both tokens together, not per token",
                          "1 bit and 3 bits are 4 bits for two tokens", _MEAN_FIRST,
                          "2 ** ((1 + 3) / 2)")),
)
ANSWERS = (
    Answer("11.1", "bits, nats and perplexity of simple probabilities", {
        "bits": 4.0, "nats": 2.77, "perplexity": 16.0,
        "perplexity of 1/2 and 1/8": 4.0}, _WRONG_11, rtol=0.005,
        precision="two decimals are", predict=True, hints=(
            "Each halving of the probability is one bit. How many halvings lead from 1 "
            "to 1/16?",
            "A bit is 0.693 nats. For two tokens: first the mean of their bits, and "
            "then 2 to the power of it.",
            "The mean of 1 bit and 3 bits is 2 bits, and 2 to the 2 is 4."),
        solution="""\
predicted = {
    "bits": 4,
    "nats": 2.77,
    "perplexity": 16,
    "perplexity of 1/2 and 1/8": 4,
}"""),
    Answer("11.4", "one sentence in four units", _four(), (
        (_four(bits=_NATS / 49), _BITS_UP),
        (_four(bits=_NATS * math.log(2) / 49), _BITS_DOWN),
        (_four(byte=2 ** (_NATS / 49), word=2 ** (_NATS / 11)), _BASE),
        (_four(nats=_NATS / 49), _MEAN),
        (_four(bits=_NATS / math.log(2) / 11), _PER_WORD),
        (_four(bits=_NATS / math.log(2)), _ALL_BITS),
        (_four(byte=math.exp(_NATS / 11), word=math.exp(_NATS / 49)), _CHANGED),
        (_four(byte=_NATS / 49, word=_NATS / 11), _NO_EXP),
        ({"perplexity per byte": 1.4846}, _EXP_FIRST),  # as the story model reads it
        ({"perplexity per word": 6.6132}, _EXP_FIRST),
        ({"perplexity per word": math.exp(_NATS / 49) * 49 / 11}, _FROM_BYTES),
        ({"perplexity per byte": math.exp(_NATS) / 49}, _EXP_OVER),
        ({"perplexity per word": math.exp(_NATS) / 11}, _EXP_OVER)),
        rtol=0.01, atol=0.0051, precision="two decimals are", hints=(
            "All four numbers come from one, the nats of the whole sentence. What is "
            "divided by 49, and what by 11?",
            "A nat is 1/ln 2 bits, so there are more bits than nats.",
            "nats.sum(), math.exp(nats.sum() / 49), math.exp(nats.sum() / 11), "
            "nats.sum() / math.log(2) / 49"),
        solution="""\
total = nats.sum().item()
measured = {
    "nats in total": total,
    "perplexity per byte": math.exp(total / 49),
    "perplexity per word": math.exp(total / 11),
    "bits per byte": total / math.log(2) / 49,
}"""),
    Answer("11.5", "three endings for which three ways of scoring disagree",
           [([1.0], "a"), ([0.5] * 4, "b c d"), ([1.5, 1.5], "e" * 30)],
           test=_three_ways, hints=(
               "Let one ending have the lowest total loss, another the lowest loss per "
               "token, and the third the lowest loss per byte.",
               "Many tokens of low loss each win per token. A long text in few tokens "
               "wins per byte.",
               '([1.0], "a"), ([0.5] * 4, "b c d"), ([1.5, 1.5], "e" * 30)'),
           solution="""\
question = [([1.0], "a"), ([0.5] * 4, "b c d"), ([1.5, 1.5], "e" * 30)]"""),
)
