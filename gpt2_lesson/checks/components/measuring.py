"""Surprise as one number, and what goes wrong with it (catalogue: S6, S9, S10)."""

import math

import torch
from torch import Generator, Tensor

from gpt2_lesson.checks.clues import Clue, shown
from gpt2_lesson.checks.engine import Exercise, Look, Mistake, Robust
from gpt2_lesson.checks.probing import Probe
from gpt2_lesson.checks.stand_ins.toy_models import as_number, choices

# --- perplexity -----------------------------------------------------------------------


def perplexity_of(batches: list[Tensor], *, base: float = math.e,
                  mean: str = "tokens", exp: str = "last", sign: int = 1,
                  unit: float = 1.0, less: float = 0.0) -> float:
    """Return e to the mean of all surprises (nats), given in batches (N,)."""
    parts = [part.double() * sign / unit for part in batches]
    if exp == "first":
        parts = [base ** part for part in parts]
    every = torch.cat(parts)
    value = {"tokens": every.mean(),
             "batches": torch.stack([part.mean() for part in parts]).mean(),
             "sum": every.sum(), "over batches": every.sum() / len(parts),
             "first": parts[0].mean(), "last": parts[-1].mean(),
             "one fewer": every.sum() / max(1, len(every) - 1),
             "one more": every.sum() / (len(every) + 1),
             "as the first": every.sum() / (len(parts) * len(parts[0])),
             "median": every.median()}[mean]
    if exp == "each batch":
        value = torch.stack([base ** part.mean() for part in parts]).mean()
    if exp == "sum of each":
        value = torch.stack([base ** part.mean() for part in parts]).sum()
    if exp == "inverse":
        value = 1 / (base ** -every).mean()
    return (base ** value if exp == "last" else value).item() - less


def bits_of(nats: Tensor, text: str, *, unit: str = "bits", per: str = "bytes",
            total: str = "sum", power: bool = False, sign: int = 1,
            turned: bool = False) -> float:
    """Return the surprise of a text in bits per byte, from each token's nats (N,)."""
    size = {"bytes": len(text.encode()), "characters": len(text), "tokens": len(nats),
            "words": len(text.split()), "one": 1, "bits": 8 * len(text.encode()),
            "stripped": len(text.strip().encode()),
            "different": len(set(text.encode())),
            "no spaces": len(text.replace(" ", "").encode()),
            "one more": len(text.encode()) + 1, "marked": len(text.encode("utf-16")),
            "utf-16": len(text.encode("utf-16-le"))}[per]
    value = nats.double().mean() if total == "mean" else nats.double().sum()
    value = sign * value.item() * {
        "bits": 1 / math.log(2), "nats": 1.0, "times": math.log(2),
        "log10": 1 / math.log(10), "digits": 1 / math.log10(2)}[unit] / size
    value = 1 / value if turned else value
    return 2 ** value if power else value


def joined(parts: list[Tensor], starts: list[int], *, kept: str = "first",
           shift: int = 0, stride: str = "each", last: bool = True) -> Tensor:
    """Return each token's surprise once (N,), from windows that overlap.

    parts[i][j] belongs to token starts[i] + j; a token counts in its first window.
    """
    if not last and len(parts) > 1:
        parts, starts = parts[:-1], starts[:-1]
    if kept == "all":
        return torch.cat(parts)
    if kept == "mean":
        n = starts[-1] + len(parts[-1])
        sums, counts = torch.zeros(n), torch.zeros(n)
        for part, start in zip(parts, starts, strict=True):
            sums[start:start + len(part)] += part
            counts[start:start + len(part)] += 1
        return sums / counts
    if kept == "last":
        ends = [*starts[1:], starts[-1] + len(parts[-1])]
        return torch.cat([part[:end - start] for part, start, end in
                          zip(parts, starts, ends, strict=True)])
    found, done = [parts[0]], starts[0] + len(parts[0])
    for part, start, before in zip(parts[1:], starts[1:], starts, strict=False):
        new = start + len(part) - done
        step = starts[1] - starts[0] if stride == "first" else start - before
        new = new if stride in ("each", "to the start", "added up") else step
        if stride == "added up":
            found.append(part[done - start:])
            done += len(part)
            continue
        found.append(part[:new] if kept == "front" else part[len(part) - new + shift:])
        done = start + (0 if stride == "to the start" else len(part))
    return torch.cat(found)


def least(nats: list[Tensor], endings: list[str], per_byte: bool, *,
          pick: str = "least", per: str = "bytes", when: str = "asked",
          total: str = "sum") -> int:
    """Return which ending is the least surprising: in all, or per byte."""
    use = {"asked": per_byte, "never": False, "always": True,
           "inverted": not per_byte, "mean else": per_byte}[when]
    scores = []
    if pick in ("first", "shortest", "fewest"):
        sizes = [len(tokens) for tokens in nats] if pick == "fewest" else [
            len(ending.encode()) for ending in endings]
        return 0 if pick == "first" else sizes.index(min(sizes))
    for tokens, ending in zip(nats, endings, strict=True):
        size = {"bytes": len(ending.encode()), "characters": len(ending),
                "times": 1 / len(ending.encode()),
                "stripped": len(ending.strip().encode()),
                "tokens": len(tokens), "words": len(ending.split()) or 1}[per]
        score = {"sum": tokens.sum(), "mean": tokens.mean(), "first": tokens[0],
                 "last": tokens[-1], "worst": tokens.max()}[total]
        if when == "mean else" and not per_byte:
            score = tokens.mean()
        scores.append(score / size if use else score)
    stacked = torch.stack(scores)
    best = int(stacked.argmax() if pick == "most" else stacked.argmin())
    return {"score": stacked[best].item(), "ending": endings[best],
            "from 1": best + 1}.get(pick, best)


# --- probes ---------------------------------------------------------------------------


def _nats(g: Generator, *sizes: int) -> list[Tensor]:
    """Return surprises (N,) for each size: mostly small, as a model's are."""
    return [3 * torch.rand(n, generator=g) ** 2 + 0.1 + i for i, n in enumerate(sizes)]


def perplexity_probes(g: Generator) -> list[Probe]:
    """Return batches of surprises: of unequal and equal length, one, one token."""
    batches = {"two batches, 3 tokens and 1": _nats(g, 3, 1),
               "three batches of unequal length": _nats(g, 2, 9, 4),
               "one batch": _nats(g, 6), "one token": _nats(g, 1),
               "equal lengths": _nats(g, 4, 4, 4),
               "all 3 nats": [torch.full((2,), 3.0), torch.full((3,), 3.0)]}
    return [Probe(name, (part,), as_number) for name, part in batches.items()]


_TEXTS = ("The cat sat on it.", "Zoë drank crème brûlée in a café.", "naïve 🙂🙂",
          "x", "Привет, мир", " a line,\n")


def bits_probes(g: Generator) -> list[Probe]:
    """Return surprises with texts: plain letters, accents, an emoji, one letter."""
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
    return Probe("a last window inside the one before",
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
        nats.append([2.5 * torch.rand(n, generator=g) + 0.2 for n in counts])
        endings.append(some)
    return nats, endings


def choice_probes(g: Generator) -> list[Probe]:
    """Return questions asked both ways: many, with two endings, with one."""
    many, few = _questions(g, 24, 4), _questions(g, 10, 2)
    return [Probe("24 questions, per byte", (*many, True), choices),
            Probe("24 questions, in all", (*many, False), choices),
            Probe("two endings, per byte", (*few, True), choices),
            Probe("two endings, in all", (*few, False), choices),
            Probe("one ending", (*_questions(g, 2, 1), True), choices)]


# --- what can be read out when nothing matches ----------------------------------------


def _value(look: Look, *args: object) -> float:
    value = look(Probe("read out", args, as_number)).value
    return float(value) if isinstance(value, int | float) else math.nan


def perplexity_clues(look: Look, g: Generator) -> list[Clue]:
    """Return what simple texts show: all tokens alike, the order, the split."""
    found = []
    for nats, wanted in ((0.0, "1"), (math.log(16), "16")):
        value = _value(look, [torch.full((2,), nats), torch.full((3,), nats)])
        if math.isfinite(value) and abs(value - float(wanted)) > 1e-3:
            each = "1" if wanted == "1" else f"1/{wanted}"
            found.append(Clue(f"all {wanted}", f"where each token has the probability "
                              f"{each}, yours is {value:.4g}, expected {wanted}"))
    a, b = _nats(g, 3, 5)
    pair = _value(look, [a, b]), _value(look, [torch.cat([a, b])])
    if all(map(math.isfinite, pair)) and abs(pair[0] - pair[1]) > 1e-3:
        found.append(Clue("split", "the same tokens in one batch or in two give "
                          f"{pair[1]:.4g} or {pair[0]:.4g}"))
    return found


def bits_clues(look: Look, g: Generator) -> list[Clue]:
    """Return what simple texts show: one bit per byte, twice the text, an accent."""
    found, bit = [], torch.full((4,), math.log(2))
    value = _value(look, bit, "abcd")
    if math.isfinite(value) and abs(value - 1) > 1e-3:
        found.append(Clue("one bit", "four bytes with one bit of surprise each: yours "
                          f"is {value:.4g}, expected 1"))
    pair = _value(look, bit, "abcd"), _value(look, bit, "abéd")
    if all(map(math.isfinite, pair)) and abs(pair[1] / (pair[0] or 1) - 0.8) > 1e-3:
        found.append(Clue("accent", "with é in the place of c there is one byte more: "
                          f"yours goes from {pair[0]:.4g} to {pair[1]:.4g}, expected "
                          "a fifth less"))
    pair = _value(look, bit[:2], "abcd"), _value(look, bit, "abcd")
    if all(map(math.isfinite, pair)) and abs(pair[1] - 2 * pair[0]) > 1e-3:
        found.append(Clue("tokens", "twice the tokens, of the same surprise each, for "
                          f"the same text: yours goes from {pair[0]:.4g} to "
                          f"{pair[1]:.4g}, expected twice as much"))
    return found


def join_clues(look: Look, g: Generator) -> list[Clue]:
    """Return which windows' numbers come back, by numbers that tell where they stood.

    Token t of window i is 100 * i + t.
    """
    starts = [0, 3, 5]
    parts = [100.0 * i + torch.arange(s, s + 5.0) for i, s in enumerate(starts)]
    out = look(Probe("read out", (parts, starts))).value
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


def choice_clues(look: Look, g: Generator) -> list[Clue]:
    """Return what two plain questions show."""
    found = []
    for nats, endings, per_byte, right, text in (
            (([1.0, 1.0], [3.0]), ("aaaa", "bbbb"), False, 0, "2 nats against 3, in "
             "all"),
            (([3.0], [1.0, 1.0]), ("aaaa", "bbbb"), True, 1, "3 nats against 2, both "
             "of 4 bytes, per byte"),
            (([2.0], [3.0]), ("ab", "abcd"), True, 1, "2 nats on 2 bytes against 3 on "
             "4, per byte"),
            (([2.0], [3.0]), ("ab", "abcd"), False, 0, "2 nats on 2 bytes against 3 on "
             "4, in all")):
        question = [[torch.tensor(n) for n in nats]], [list(endings)]
        value = look(Probe("read out", (*question, per_byte), choices)).value
        if isinstance(value, list) and value != [right]:
            found.append(Clue(text, f"{text}: you return {shown(value[0])}, expected "
                              f"{right}"))
    return found


# --- mistakes -------------------------------------------------------------------------

_Q_LAST = ("A token with the odds 1/8, one with 1/2: is the model as uncertain as "
           "among 4 equal tokens, or among 5?")
_Q_WEIGHT = "How much should a batch of one token count beside a batch of a hundred?"

PERPLEXITY = (
    Mistake("S9", "2 to the mean of nats",
            "at a mean of 3 nats it gives 8, not 20.1",
            "In which unit are the surprises, and which base belongs to it?",
            "Look at the base of the power", "mean.exp()", {"base": 2.0}),
    Mistake("S9t", "10 to the mean of nats", "at a mean of 3 nats it gives 1000",
            "In which unit are the surprises, and which base belongs to it?",
            "Look at the base of the power", "mean.exp()", {"base": 10.0}, mark="R"),
    Mistake("S10", "the mean of the batches' means",
            "a batch of one token counts as much as one of nine", _Q_WEIGHT,
            "Look for a mean of means", "torch.cat(batches).mean().exp()",
            {"mean": "batches"}, mark="S"),
    Mistake("S13", "the mean of the exponentials, not the exponential of the mean",
            "too large: rare surprises rule", _Q_LAST,
            "Compare the order: exp, mean", "mean first, exp last", {"exp": "first"}),
    Mistake("S13b", "the mean of the batches' perplexities",
            "a perplexity for each batch, then their mean", _Q_WEIGHT,
            "Look for exp inside the loop", "torch.cat(batches).mean().exp()",
            {"exp": "each batch"}, mark="R"),
    Mistake("S13n", "no exponential: the mean of nats",
            "a model that is sure of everything gets 0, not 1",
            "Among how many equal tokens does a model choose that is always sure?",
            "Look at the last line", "mean.exp()", {"exp": "none"}, mark="R"),
    Mistake("S9e", "e to the mean of bits",
            "at a mean of 3 nats it gives 75.8, not 20.1",
            "In which unit are the surprises, and which base belongs to it?",
            "Look for log2 or math.log(2)", "mean.exp() of the nats, or 2 ** bits",
            {"unit": math.log(2)}),
    Mistake("S13s", "the sum of the batches' perplexities",
            "two batches that are alike give twice the perplexity of one", _Q_WEIGHT,
            "Look for exp inside the loop", "torch.cat(batches).mean().exp()",
            {"exp": "sum of each"}),
    Mistake("S13h", "the inverse of the mean probability",
            "too small: the mean of the logs is not the log of the mean", _Q_LAST,
            "Which mean is taken: of the nats, or of the probabilities?",
            "mean of the nats first, exp last", {"exp": "inverse"}),
    Mistake("S13m", "1 subtracted at the end (expm1)",
            "a model that is sure of everything gets 0, not 1",
            "Among how many equal tokens does a model choose that is always sure?",
            "Look for expm1, or - 1", "mean.exp()", {"less": 1.0}),
    Mistake("S14n", "divided by one token too few (n - 1)",
            "too large, most of all for few tokens", "How many nats are added up?",
            "Look at what the sum is divided by", "Divide by the number of tokens",
            {"mean": "one fewer"}),
    Mistake("S14m", "divided by one token too many (n + 1)",
            "too small, most of all for few tokens", "How many nats are added up?",
            "Look at what the sum is divided by", "Divide by the number of tokens",
            {"mean": "one more"}),
    Mistake("S14f", "all batches taken to be as long as the first",
            "right for batches of equal length", "How many tokens are there in all?",
            "Look for len(batches[0])", "torch.cat(batches).mean().exp()",
            {"mean": "as the first"}),
    Mistake("S14", "the sum, not the mean",
            "it grows with the length of the text",
            "Should a longer text have a higher perplexity?", "Look for sum",
            "mean.exp()", {"mean": "sum"}, mark="R"),
    Mistake("S14b", "the sum divided by the number of batches, not of tokens",
            "it grows with the length of the batches",
            "What was added up, and how many were there?",
            "Look at what the sum is divided by", "Divide by the number of tokens",
            {"mean": "over batches"}, mark="R"),
    Mistake("S15", "only the first batch", "the other batches change nothing",
            "Where do the other batches go?", "Look for an index or an early return",
            "torch.cat(batches)", {"mean": "first"}, mark="R"),
    Mistake("S15l", "only the last batch", "the other batches change nothing",
            "Where do the other batches go?",
            "Is the total started anew in each round of the loop?",
            "torch.cat(batches)", {"mean": "last"}, mark="R"),
    Mistake("S16", "e to the minus mean", "it lies between 0 and 1: that is the "
            "(geometric) mean of the odds", "Can a model choose among fewer than one "
            "token?", "Count the minus signs", "Surprise is already -ln P: mean.exp()",
            {"sign": -1}, mark="R"),
)

_Q_BYTE = "What do all tokenizers agree on, however they cut the text?"
_Q_BIT = "A token with the odds 1/2 has one bit of surprise. How many nats?"

BITS = (
    Mistake("S6", "nats, not bits", "too small, by the factor ln 2 = 0.693", _Q_BIT,
            "Look for the change of unit", "nats / math.log(2)", {"unit": "nats"}),
    Mistake("S6m", "multiplied by ln 2, not divided",
            "too small, by the factor 0.48", _Q_BIT,
            "Look for the change of unit", "nats / math.log(2)", {"unit": "times"},
            mark="R"),
    Mistake("S6t", "log10 in the place of log2",
            "too small: decimal digits, not bits", _Q_BIT,
            "Look for the change of unit", "nats / math.log(2)", {"unit": "log10"}),
    Mistake("S17", "bits per token, not per byte",
            "a tokenizer with longer tokens gets a higher number", _Q_BYTE,
            "Look at what the sum is divided by", "len(text.encode())",
            {"per": "tokens"}, mark="R"),
    Mistake("S18", "divided by characters, not bytes",
            "right for plain letters, too large with accents and emoji",
            "How many bytes has é?", "Look at what the sum is divided by",
            "len(text.encode())", {"per": "characters"}, mark="R"),
    Mistake("S18w", "divided by words, not bytes", "too large, some 5 times", _Q_BYTE,
            "Look at what the sum is divided by", "len(text.encode())",
            {"per": "words"}, mark="R"),
    Mistake("S18o", "not divided at all: the bits of the whole text",
            "it grows with the length of the text",
            "Should a longer text get a higher number?", "Look at the last line",
            "Divide by len(text.encode())", {"per": "one"}, mark="R"),
    Mistake("S18e", "divided by 8 as well", "bits of surprise per bit of text",
            "The bits on top are of surprise. What is counted below?",
            "Look for an 8", "Divide by len(text.encode())", {"per": "bits"},
            mark="R"),
    Mistake("S6l", "divided by log10(2), not by ln 2",
            "too large, by the factor 2.3", _Q_BIT, "Look for log10",
            "nats / math.log(2)", {"unit": "digits"}),
    Mistake("S18i", "bytes per bit: the fraction is upside down",
            "a model that is less sure gets a lower number",
            "Which of the two stands above: bits, or bytes?", "Look at the division",
            "bits / len(text.encode())", {"turned": True}),
    Mistake("S18n", "the sign is wrong: a negative number of bits",
            "the nats are -ln P already, so they are not negative",
            "Which sign has -ln P?", "Look for a minus", "nats.sum() / math.log(2)",
            {"sign": -1}),
    Mistake("S18p", "divided by one byte too many", "too small, most of all for short "
            "texts", "How many bytes has the text?", "Look for + 1",
            "len(text.encode())", {"per": "one more"}),
    Mistake("S18d", "divided by the number of different bytes",
            "a byte that comes twice counts once", _Q_BYTE, "Look for set",
            "len(text.encode())", {"per": "different"}),
    Mistake("S18b", "divided by the bytes without spaces", "spaces are bytes, too",
            _Q_BYTE, "Look for replace or split", "len(text.encode())",
            {"per": "no spaces"}),
    Mistake("S18t", "divided by the bytes without spaces and newlines at the ends",
            "right for a text that begins and ends with something else", _Q_BYTE,
            "Look for strip", "len(text.encode())", {"per": "stripped"}),
    Mistake("S18u", "divided by the bytes of UTF-16, not of UTF-8",
            "an ASCII character has two bytes there, and there are two more in front",
            _Q_BYTE, "Look at the argument of encode", "len(text.encode())",
            {"per": "marked"}),
    Mistake("S19", "the mean over tokens, divided by the bytes as well",
            "twice the text gives half the number",
            "The surprise of all tokens, over the bytes of all tokens. What is missing "
            "in a mean?", "Look for mean", "nats.sum()", {"total": "mean"}, mark="R"),
    Mistake("S19p", "2 to the bits per byte", "that is a perplexity per byte",
            "Bits are what you have before the power. What comes after it?",
            "Look for exp, ** or pow", "Leave the power out", {"power": True},
            mark="R"),
)

_Q_ONCE = "A token stands in two windows. In which one has it more context?"

JOIN = (
    Mistake("S20", "overlaps counted each time",
            "more numbers than tokens: what two windows share counts twice",
            "How many tokens has the text, and how many numbers are yours?",
            "What of a window is new?", "part[len(part) - new:], new = end - done",
            {"kept": "all"}),
    Mistake("S20m", "the mean of both windows",
            "each token once, but its numbers with little context count too", _Q_ONCE,
            "Look for a mean, or for counts", "Keep the first number of each token",
            {"kept": "mean"}, mark="R"),
    Mistake("S21", "the later window wins",
            "each token once, but with the least context", _Q_ONCE,
            "Which window writes last?", "Keep the first number of each token",
            {"kept": "last"}, mark="R"),
    Mistake("S21f", "the front of each new window, not its end",
            "the numbers that count are those of old tokens", _Q_ONCE,
            "Look at the slice of a window", "part[len(part) - new:]",
            {"kept": "front"}, mark="R"),
    Mistake("S22", "every step taken to be as long as the first",
            "right for even steps, wrong where the last step is shorter",
            "Where did the window before end?", "What is the same for all windows?",
            "new = start + len(part) - done", {"stride": "first"}, mark="R"),
    Mistake("S22s", "as many new tokens as the window moved",
            "right while all windows are equally long; a short last window has fewer",
            "Where did the window before end?", "Look at how `new` is worked out",
            "new = start + len(part) - done", {"stride": "moved"}, mark="R"),
    Mistake("S23", "the last window left out", "the end of the text is missing",
            "How many windows come, and how many rounds has your loop?",
            "Look at the loop's end", "all parts", {"last": False}, mark="R"),
    Mistake("S22b", "`done` moved to the start of the window, not to its end",
            "from the third window on too many tokens count as new",
            "Up to which token have you counted after a window?",
            "Look at the line with done =", "done = start + len(part)",
            {"stride": "to the start"}),
    Mistake("S22a", "the lengths of the windows added up, as if nothing overlapped",
            "later windows lose tokens that nobody else has",
            "How many tokens do two windows of 5 hold that overlap by 2?",
            "Look for done +=", "done = start + len(part)", {"stride": "added up"}),
    Mistake("S24", "one new token too few in each window",
            "at each seam a token is missing",
            "Write down the first two windows' tokens. Which ones are new?",
            "Look at the slice of a window", "part[len(part) - new:]", {"shift": 1},
            mark="R"),
    Mistake("S24m", "one new token too many in each window",
            "at each seam a token counts twice",
            "Write down the first two windows' tokens. Which ones are new?",
            "Look at the slice of a window", "part[len(part) - new:]", {"shift": -1},
            mark="R"),
)

_Q_LEAST = "Which ending does the model hold likely: a surprising one, or not?"
_Q_FAIR = "A long ending has more tokens to be surprised at. What makes it fair?"

CHOICE = (
    Mistake("S25", "the most surprising ending (argmax)",
            "the ending with the lowest odds is chosen", _Q_LEAST, "Look for max",
            "argmin", {"pick": "most"}, mark="R"),
    Mistake("S26", "per_byte never used", "long endings lose by their length", _Q_FAIR,
            "Where does per_byte stand?",
            "Divide by len(ending.encode()) if per_byte", {"when": "never"}, mark="R"),
    Mistake("S26a", "always per byte", "per_byte=False changes nothing",
            "What does per_byte=False ask for?", "Where does per_byte stand?",
            "Divide by len(ending.encode()) if per_byte", {"when": "always"},
            mark="R"),
    Mistake("S26i", "per byte and in all exchanged",
            "per_byte=True gives what False should, and the other way round",
            "What does per_byte=False ask for?", "Look at the condition",
            "Divide by len(ending.encode()) if per_byte", {"when": "inverted"},
            mark="R"),
    Mistake("S17", "per token, not per byte",
            "an ending in many short tokens looks less surprising", _Q_FAIR,
            "Look at what the sum is divided by", "len(ending.encode())",
            {"per": "tokens"}, mark="R"),
    Mistake("S18", "per character, not per byte",
            "right for plain letters, other choices with accents and emoji",
            "How many bytes has é?", "Look at what the sum is divided by",
            "len(ending.encode())", {"per": "characters"}, mark="R"),
    Mistake("S18w", "per word, not per byte", "endings of one word lose", _Q_FAIR,
            "Look at what the sum is divided by", "len(ending.encode())",
            {"per": "words"}, mark="R"),
    Mistake("S19", "the mean over tokens, and then per byte as well",
            "divided twice: long endings win", _Q_FAIR, "Look for mean",
            "tokens.sum()", {"total": "mean"}, mark="R"),
    Mistake("S27", "only the first token of an ending",
            "the later tokens change nothing",
            "Which tokens belong to the ending?", "Look for [0]", "tokens.sum()",
            {"total": "first"}, mark="R"),
    Mistake("S27l", "only the last token of an ending",
            "the earlier tokens change nothing",
            "Which tokens belong to the ending?", "Look for [-1]", "tokens.sum()",
            {"total": "last"}, mark="R"),
    Mistake("S26t", "multiplied by the bytes, not divided",
            "long endings lose twice", _Q_FAIR, "Look at the sign before len",
            "tokens.sum() / len(ending.encode())", {"per": "times"}),
    Mistake("S26m", "per token where it should count in all",
            "right with per_byte, wrong without", "What does per_byte=False ask for?",
            "Look for mean", "tokens.sum() if not per_byte", {"when": "mean else"}),
    Mistake("S18t", "per byte without the space in front",
            "the space is one of the ending's bytes", _Q_FAIR, "Look for strip",
            "len(ending.encode())", {"per": "stripped"}),
    Mistake("S28", "returns the score, not the place of the ending",
            "the result is a number of nats", "What should the caller do with it?",
            "Look at the last line", "scores.index(min(scores))", {"pick": "score"}),
    Mistake("S28t", "returns the ending itself, not its place",
            "the result is a text", "What is asked for: the ending, or its number?",
            "Look at the last line", "scores.index(min(scores))", {"pick": "ending"}),
    Mistake("S28o", "counts from 1", "every place is one too large",
            "Which number has the first ending?", "Look for + 1, or for a start of 1",
            "scores.index(min(scores))", {"pick": "from 1"}),
    Mistake("S29", "the shortest ending, whatever the model thinks of it",
            "the nats make no difference", _Q_LEAST, "Where are `nats` used?",
            "tokens.sum()", {"pick": "shortest"}),
    Mistake("S29t", "the ending with the fewest tokens",
            "how surprising the tokens are makes no difference", _Q_LEAST,
            "Look for len(tokens)", "tokens.sum()", {"pick": "fewest"}),
    Mistake("S29f", "always the first ending", "the result is 0 for every question",
            _Q_LEAST, "Look for a return inside the loop",
            "return after the loop has ended", {"pick": "first"}),
)

perplexity = Exercise(
    "perplexity", "11", "perplexity(batches) -> a number", perplexity_of,
    perplexity_probes, PERPLEXITY, perplexity_clues,
    hints=("A batch of one token must not count as much as one of a hundred. What do "
           "you add up, and what do you divide by?",
           "Work it out by hand for the batches [ln 2, ln 2, ln 2] and [ln 16].",
           "torch.cat(batches).mean().exp().item()"),
    show="all 3 nats", solution="""\
def perplexity(batches):
    return torch.cat(batches).mean().exp().item()""")

bits_per_byte = Exercise(
    "bits_per_byte", "11", "bits_per_byte(nats, text) -> a number", bits_of,
    bits_probes, BITS, bits_clues,
    hints=('len("é") is 1, and len("é".encode()) is 2. Which of them do all '
           "tokenizers agree on?",
           "Work it out by hand for one token of ln 4 nats and the text é.",
           "nats.sum().item() / math.log(2) / len(text.encode())"), solution="""\
def bits_per_byte(nats, text):
    return nats.sum().item() / math.log(2) / len(text.encode())""")

count_once_to_repair = Exercise(
    "count_once", "11", "count_once(parts, starts) -> (N,), each token once", joined,
    join_probes, JOIN, join_clues, (Robust(
        "it fails where a window holds nothing new: part[-0:] is the whole window, "
        "since -0 is 0; part[len(part) - new:] is empty there", _nothing_new),),
    hints=("Go through the windows in order, and note up to which token you are done.",
           "Write down windows of 3 that start at 0, 2, 3. What is new in each?",
           "new = start + len(part) - done; keep part[len(part) - new:]"),
    solution="""\
def count_once(parts, starts):
    found, done = [], 0
    for part, start in zip(parts, starts):
        new = start + len(part) - done
        found.append(part[len(part) - new:])
        done = start + len(part)
    return torch.cat(found)""").to_repair("count_once_to_repair", "S20")

best_ending = Exercise(
    "best_ending", "11", "best_ending(nats, endings, per_byte) -> its place", least,
    choice_probes, CHOICE, choice_clues,
    hints=("A score for each ending, and the place of the smallest.",
           "Print your scores for two endings of different length, with and without "
           "per_byte.",
           "scores = [t.sum() / (len(e.encode()) if per_byte else 1) for t, e in "
           "zip(nats, endings)]"),
    solution="""\
def best_ending(nats, endings, per_byte):
    scores = []
    for tokens, ending in zip(nats, endings):
        size = len(ending.encode()) if per_byte else 1
        scores.append(tokens.sum().item() / size)
    return scores.index(min(scores))""")
