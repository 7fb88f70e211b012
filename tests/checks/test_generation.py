"""The checks of odds, draws and writing: catalogue entries G."""

import contextlib
from functools import partial

import torch
import torch.nn.functional as F
from catalogue import Catalogue, function_of, rejected

from gpt2_lesson import checks
from gpt2_lesson import generation as lesson
from gpt2_lesson.checks.exercises.generation import (
    _NATS,
    _PAIRS,
    _measured,
    read_probabilities,
)
from gpt2_lesson.checks.probing import observe

# What learners write. {ZERO} answers temperature 0; LIMIT cuts below the k-th logit.
ZERO = """if temperature == 0:
    return F.one_hot(logits.argmax(-1), logits.size(-1)).float()
"""
CUT = """if top_k is not None:
    limit = logits.topk(min(top_k, logits.size(-1))).values[:, -1:]
    logits = logits.masked_fill(logits < limit, -torch.inf)
"""
LAST = "return (logits / temperature).softmax(-1)"


def cut(line: str) -> str:
    return (
        f"{ZERO}if top_k is not None:\n    k = min(top_k, logits.size(-1))\n"
        + ("".join(f"    {part}\n" for part in line.splitlines()))
        + LAST
    )


ODDS = {
    "G2": ZERO + CUT + "return (logits * temperature).softmax(-1)",
    "G2b": ZERO
    + "p = F.softmax(logits * temperature, -1)\n"
    + CUT.replace("logits", "p").replace("-torch.inf", "0")
    + "return p / p.sum(1, keepdim=True)",
    "G3": ZERO
    + CUT
    + """p = logits.softmax(-1) / temperature
return p / p.sum(-1, keepdim=True)""",
    "G3b": ZERO + CUT + "return logits.softmax(-1)",
    "G3d": ZERO + CUT + "return logits.softmax(-1) / temperature",
    "G4": CUT + LAST,
    "G4b": "logits = logits / temperature\n" + CUT + "return logits.softmax(-1)",
    "G4z": "beta = 1 / temperature\n" + CUT + "return (logits * beta).softmax(-1)",
    "G4o": CUT + "if temperature > 0:\n    logits = logits / temperature\n"
    "return logits.softmax(-1)",
    "G5": ZERO + CUT.replace("-torch.inf", "0") + LAST,
    "G5b": ZERO + CUT.replace("-torch.inf", "-1e-10") + LAST,
    "G5m": cut("""limit = logits.topk(k).values[:, -1:]
logits = logits * (logits >= limit)"""),
    "G5a": ZERO
    + """p = (logits / temperature).softmax(-1)
if top_k is not None:
    kth = p.topk(min(top_k, p.size(-1))).values[:, -1:]
    p = torch.where(p < kth, 0.0, p)
return p""",
    "G6": cut("""k = min(k + 1, logits.size(-1))
limit = logits.topk(k).values[:, -1:]
logits = logits.masked_fill(logits < limit, -torch.inf)"""),
    "G6s": cut("""k = min(k, logits.size(-1) - 1)
limit = logits.sort(descending=True).values[:, k, None]
logits = logits.masked_fill(logits < limit, -torch.inf)"""),
    "G6l": cut("""limit = logits.topk(k).values[:, -1:]
logits = logits.masked_fill(logits <= limit, -torch.inf)"""),
    "G7": cut("""limit = logits.topk(k).values[0, -1]
logits = logits.masked_fill(logits < limit, -torch.inf)"""),
    "G7m": cut("""limit = logits.topk(k).values.min()
logits = torch.where(logits < limit, -torch.inf, logits)"""),
    "G8": ZERO + CUT.replace("min(top_k, logits.size(-1))", "top_k") + LAST,
    "G8i": ZERO
    + """if top_k is not None:
    limit = logits.sort(descending=True).values[:, top_k - 1]
    logits = logits.masked_fill(logits < limit[:, None], -torch.inf)
"""
    + LAST,
    "G9": cut("""best = logits.topk(k).values
p = torch.zeros_like(logits)
p[:, :k] = (best / temperature).softmax(-1)
return p"""),
    "G9s": cut("return (logits.topk(k).values / temperature).softmax(-1)"),
    "G15": "return F.one_hot(logits.argmax(-1), logits.size(-1)).float()",
    "G16": ZERO + CUT + "return (logits / temperature).softmax(0)",
    "G16l": ZERO + CUT + "return (logits / temperature).log_softmax(-1)",
    "G16e": ZERO
    + CUT
    + """e = (logits / temperature).exp()
return e / e.sum(-1, keepdim=True)""",
    "G21": ZERO
    + """logits /= temperature
if top_k is not None:
    limit = logits.topk(min(top_k, logits.size(-1))).values[:, -1:]
    logits[logits < limit] = -torch.inf
return logits.softmax(-1)""",
    "G22": cut("""limit = logits.topk(k, largest=False).values[:, -1:]
logits = logits.masked_fill(logits > limit, -torch.inf)"""),
    "G22b": cut("""limit = logits.sort().values[:, k - 1, None]
logits = logits.masked_fill(logits > limit, -torch.inf)"""),
    "G23": ZERO + LAST,
    "G23b": ZERO + CUT.replace("logits = logits.", "logits.") + LAST,
    "G3f": CUT + "return logits.softmax(-1)",
    "G4s": "temperature = max(temperature, 1e-3)\n" + CUT + LAST,
    "G4r": """if temperature == 0:
    p = torch.zeros_like(logits)
    p.view(-1)[logits.argmax()] = 1
    return p
"""
    + CUT
    + LAST,
    "G4i": ZERO.replace(".float()", "") + CUT + LAST,
    "G5c": ZERO
    + "p = (logits / temperature).softmax(-1)\n"
    + CUT.replace("logits", "p")
    + "return p.softmax(-1) if top_k else p",
    "G5w": ZERO
    + "p = (logits / temperature).softmax(-1)\n"
    + CUT.replace("logits", "p").replace("-torch.inf", "0")
    + ("return p / p.sum() if top_k else p"),
    "G7l": ZERO + CUT.replace("values[:, -1:]", "values[-1, -1]") + LAST,
    "G7b": cut("""limit = logits.flatten().topk(min(top_k, logits.numel())).values[-1]
logits = logits.masked_fill(logits < limit, -torch.inf)"""),
    "G7d": cut("""limit = logits.topk(min(top_k, len(logits)), dim=0).values[-1:]
logits = logits.masked_fill(logits < limit, -torch.inf)"""),
    "G16t": ZERO + CUT + LAST + ".softmax(-1)",
    "G16u": cut("""kept = (logits >= logits.topk(k).values[:, -1:]).float()
return kept / kept.sum(-1, keepdim=True)"""),
    "G23a": ZERO + CUT + "if top_k:\n    return logits.softmax(-1)\n" + LAST,
    "G23c": ZERO + "if temperature != 1:\n    " + LAST + "\n" + CUT + LAST,
}
DRAW = """if top_k is not None:
    limit = logits.topk(min(top_k, logits.size(-1))).values[:, -1:]
    logits = logits.masked_fill(logits < limit, -torch.inf)
p = F.one_hot(logits.argmax(-1), logits.size(-1)).float()
if temperature > 0:
    p = (logits / temperature).softmax(-1)
"""
ENDS = "return torch.multinomial(p, 1, generator=generator)"
# For a sampler, odds that do not add up to 1 are no mistake: multinomial shares out.
HARMLESS = ("G3d", "G5a", "G9s", "G16l", "G16e", "G21")
OF_ODDS = ("G4r", "G4s", "G4i", "G5c", "G5w", "G7l", "G16t", "G16u", "G23a", "G23c")
DRAWS = {
    name: "def odds(logits, temperature, top_k):\n"
    + "".join(f"    {line}\n" for line in body.splitlines())
    + (
        "def sample_next(logits, temperature, top_k, generator):\n"
        "    p = odds(logits, temperature, top_k)\n    " + ENDS
    )
    for name, body in ODDS.items()
    if name not in (*HARMLESS, *OF_ODDS)
} | {
    "G9": """if temperature == 0:
    return logits.argmax(-1, keepdim=True)
values = logits.topk(min(top_k or 99, logits.size(-1))).values if top_k else logits
return torch.multinomial((values / temperature).softmax(-1), 1, generator=generator)""",
    "G15b": "return logits.argmax(-1, keepdim=True)",
    "G15m": ZERO.replace(
        "F.one_hot(logits.argmax(-1), logits.size(-1)).float()",
        "logits.argmax(-1, keepdim=True)",
    )
    + CUT
    + ("return torch.multinomial(logits / temperature, 1, generator=generator)"),
    "G17": DRAW + "one = torch.multinomial(p[0], 1, generator=generator)\n"
    "return one.expand(len(p), 1)",
    "G18": DRAW + "return torch.multinomial(p, 1)",
    "G19": DRAW + "generator.manual_seed(42)\n" + ENDS,
    "G19b": DRAW + "torch.manual_seed(0)\nreturn torch.multinomial(p, 1)",
    "G20": DRAW + ENDS + "[:, 0]",
    "G20s": DRAW + ENDS + ".squeeze()",
    "G3t": DRAW.replace("p = (logits", "p = (logits / temperature") + ENDS,
    "G9r": DRAW + "p = p.sort(descending=True).values\n" + ENDS,
    "G19c": DRAW + "generator = torch.Generator().manual_seed("
    "generator.initial_seed())\n" + ENDS,
    "G20p": DRAW + "ids = torch.multinomial(p, 1, generator=generator)\n"
    "return p.gather(1, ids)",
}
LOOP = """was_training = model.training
model.eval()
ids = input_ids
with torch.no_grad():
    for _ in range(max_new_tokens):
        logits = model(ids[:, -max_seq_length:])
        new = logits[:, -1].argmax(-1, keepdim=True)
        ids = torch.cat([ids, new], dim=1)
model.train(was_training)
return ids"""


def changed(*pairs: str) -> str:
    text = LOOP
    for old, new in zip(pairs[::2], pairs[1::2], strict=True):
        assert old in text
        text = text.replace(old, new)
    return text


WRITE = {
    "G1": changed("logits[:, -1]", "logits[:, 0]"),
    "G1m": changed("logits[:, -1]", "logits.mean(dim=1)"),
    "G1b": changed("logits[:, -1]", "logits[:, max(-2, -logits.size(1))]"),
    "G1c": changed(
        "logits[:, -1].argmax(-1, keepdim=True)", "logits.argmax(-1)[:, :1]"
    ),
    "G10": changed("ids[:, -max_seq_length:]", "ids[:, :max_seq_length]"),
    "G10s": changed("-max_seq_length:", "-max_seq_length + 1:"),
    "G10r": changed(
        "model(ids[:, -max_seq_length:])",
        "model(ids)",
        "        logits",
        "        ids = ids[:, -max_seq_length:]\n        logits",
        "dim=1)",
        "dim=1)[:, -max_seq_length:]",
    ),
    "G11": changed("ids[:, -max_seq_length:]", "ids"),
    "G11f": changed(
        "        logits",
        "        if ids.size(1) >= max_seq_length:\n            break\n        logits",
    ),
    "G12": changed("model.eval()\n", ""),
    "G12b": changed("model.eval()", "model.train()"),
    "G12'": changed("model.eval()", "model.training = False"),
    "G12s": changed("model.train(was_training)\n", ""),
    "G12t": changed("model.train(was_training)", "model.train()"),
    "G13": changed("with torch.no_grad():", "if True:"),
    "G14": changed("return ids", "return ids[:, input_ids.size(1):]"),
    "G14b": changed(
        "ids = input_ids",
        "ids = input_ids\nnews = [ids[:, :0]]",
        "        ids = torch",
        "        news.append(new)\n        ids = torch",
        "return ids",
        "return torch.cat(news, 1)",
    ),
    "G14l": changed("return ids", "return ids[:, -1:]"),
    "G14f": changed("[ids, new]", "[new, ids]"),
    "G15": changed(".argmax(-1, keepdim=True)", ".softmax(-1).multinomial(1)"),
    "G22": changed("argmax", "argmin"),
    "G22s": changed("argmax(-1, keepdim=True)", "topk(2).indices[:, 1:]"),
    "G24": changed("ids[:, -max_seq_length:]", "ids[:, -1:]"),
    "G24n": changed(
        "ids = input_ids",
        "ids = new = input_ids",
        "model(ids[:, -max_seq_length:])",
        "model(new[:, -max_seq_length:])",
    ),
    "G25": changed("ids[:, -max_seq_length:]", "input_ids[:, -max_seq_length:]"),
    "G26": changed("keepdim=True)", "keepdim=True)[0].expand(len(ids), 1)"),
    "G27": changed("range(max_new_tokens)", "range(max_new_tokens + 1)"),
    "G27f": changed("range(max_new_tokens)", "range(1, max_new_tokens)"),
    "G27t": changed(
        "for _ in range(max_new_tokens):", "while ids.size(1) < max_new_tokens:"
    ),
}
CRASHES = {
    "dim 0": changed("dim=1", "dim=0"),
    "no axis": changed(".argmax(-1, keepdim=True)", ".argmax(-1)"),
    "item": changed(".argmax(-1, keepdim=True)", ".argmax(-1).item()"),
}


def by_scatter(logits, temperature, top_k):
    if temperature == 0:
        temperature, top_k = 1.0, 1
    values, ids = (logits / temperature).topk(min(top_k or 10**9, logits.size(-1)))
    return torch.zeros_like(logits).scatter_(-1, ids, values.softmax(-1))


def by_odds(logits, temperature, top_k):
    p = (logits / max(temperature, 1e-6)).softmax(-1)
    if top_k is not None and top_k < p.size(-1):
        p = p * (p >= p.sort(descending=True).values[:, top_k - 1 : top_k])
    return p / p.sum(-1, keepdim=True)


def by_rows(logits, temperature, top_k):
    rows = []
    for row in logits:
        order = row.argsort(descending=True)
        allowed = order[:1] if temperature == 0 else order[:top_k]
        p = torch.zeros_like(row)
        p[allowed] = (row[allowed] / (temperature or 1)).softmax(0)
        rows.append(p)
    return torch.stack(rows)


def nano(logits, temperature, top_k):
    if temperature == 0:
        return F.one_hot(torch.argmax(logits, 1), logits.shape[1]).to(logits.dtype)
    logits = logits / temperature
    if top_k is not None:
        v, _ = torch.topk(logits, min(top_k, logits.size(-1)))
        logits[logits < v[:, [-1]]] = -float("Inf")
    return F.softmax(logits, dim=-1)


def by_powers(logits, temperature, top_k):
    if temperature == 0:
        return (logits == logits.amax(-1, keepdim=True)).float()
    p = logits.double().log_softmax(-1).div(temperature).exp()
    rank = (logits[:, None, :] > logits[:, :, None]).sum(-1)
    p = torch.where(rank < (top_k or 10**9), p, 0)
    return (p / p.sum(-1, keepdim=True)).float()


def by_finite_fill(logits, temperature, top_k):
    if top_k:
        kth = logits.kthvalue(max(1, logits.size(-1) - top_k + 1), -1, True).values
        logits = logits + (logits < kth) * -1e9
    return (logits.double() / max(temperature, 1e-9)).softmax(-1).float()


def by_parts(logits, temperature, top_k):
    k = logits.size(1) if top_k is None else min(top_k, logits.size(1))
    if temperature == 0:
        k, temperature = 1, 1
    forbidden = torch.ones_like(logits).bool()
    forbidden.scatter_(1, logits.topk(k, dim=1).indices, False)
    return torch.softmax(logits.masked_fill(forbidden, -torch.inf) / temperature, 1)


HONEST_ODDS = {
    "lesson": lesson.next_probabilities,
    "scatter": by_scatter,
    "odds": by_odds,
    "rows": by_rows,
    "nano": nano,
    "powers": by_powers,
    "finite fill": by_finite_fill,
    "mask by index": by_parts,
}


def gumbel(logits, temperature, top_k, generator):
    logs = nano(logits, temperature, top_k).log()
    noise = -torch.rand(logs.shape, generator=generator).log()
    return (logs - noise.log()).argmax(-1, keepdim=True)


def exponential(logits, temperature, top_k, generator):
    p = nano(logits, temperature, top_k)
    return (p / torch.empty_like(p).exponential_(1, generator=generator)).argmax(
        -1, keepdim=True
    )


def inverse(logits, temperature, top_k, generator):
    sums = nano(logits, temperature, top_k).cumsum(-1)
    u = torch.rand(len(logits), 1, generator=generator) * sums[:, -1:]
    return (sums <= u).sum(-1, keepdim=True)


def among_best(logits, temperature, top_k, generator):
    if temperature == 0:
        return logits.argmax(-1, keepdim=True)
    values, ids = logits.topk(min(top_k or logits.size(-1), logits.size(-1)))
    place = torch.multinomial(
        F.softmax(values / temperature, -1), 1, generator=generator
    )
    return ids.gather(-1, place)


def greedy_by_hand(logits, temperature, top_k, generator):
    if temperature == 0 or top_k == 1:
        return logits.max(-1, keepdim=True).indices
    return nano(logits, temperature, top_k).multinomial(1, generator=generator)


def not_shared_out(logits, temperature, top_k, generator):
    p = (logits / max(temperature, 1e-6)).softmax(-1)
    kth = p.topk(min(top_k or p.size(1), p.size(1))).values[:, -1:]
    return torch.multinomial(p * (p >= kth), 1, generator=generator)


HONEST_DRAWS = {
    "lesson": lesson.sample_next,
    "gumbel": gumbel,
    "exponential": exponential,
    "inverse": inverse,
    "among the best": among_best,
    "by hand": greedy_by_hand,
    "not shared out": not_shared_out,
    "replacement": lambda logits, t, k, g: torch.multinomial(
        by_parts(logits, t, k), 1, replacement=True, generator=g
    ),
    "squeeze and back": lambda logits, t, k, g: torch.multinomial(
        by_powers(logits, t, k), 1, generator=g
    ).squeeze(-1)[:, None],
}


def each_row_alone(model, input_ids, max_new_tokens, max_seq_length):
    mode = model.training
    model.eval()
    rows = []
    for row in input_ids:
        row = row.tolist()
        for _ in range(max_new_tokens):
            with torch.no_grad():
                logits = model(torch.tensor([row[-max_seq_length:]]))
            row.append(logits[0, -1].argmax().item())
        rows.append(row)
    model.train(mode)
    return torch.tensor(rows)


@contextlib.contextmanager
def part_by_part(model):
    """Restore the mode of each part, as it was."""
    modes = [(part, part.training) for part in model.modules()]
    yield model.eval()
    for part, training in modes:
        part.training = training


def storage_first(model, input_ids, max_new_tokens, max_seq_length):
    b, t = input_ids.shape
    out = torch.zeros(b, t + max_new_tokens, dtype=torch.long)
    out[:, :t] = input_ids
    with torch.inference_mode(), part_by_part(model):
        for end in range(t, t + max_new_tokens):
            start = max(0, end - max_seq_length)
            out[:, end] = model(out[:, start:end])[:, -1, :].argmax(-1)
    return out.clone()


def recursive(model, input_ids, max_new_tokens, max_seq_length):
    if max_new_tokens == 0:
        return input_ids
    with lesson.evaluating(model):
        new = model(input_ids[:, -max_seq_length:])[:, -1].topk(1).indices
    longer = torch.hstack((input_ids, new))
    return recursive(model, longer, max_new_tokens - 1, max_seq_length)


@torch.no_grad()
def decorated(model, input_ids, max_new_tokens, max_seq_length):
    mode, model = model.training, model.train(False)
    while max_new_tokens > 0:
        seen = input_ids
        if seen.size(1) > max_seq_length:
            seen = seen[:, seen.size(1) - max_seq_length :]
        new = torch.argmax(torch.softmax(model(seen)[:, -1, :], dim=-1), dim=-1)
        input_ids = torch.cat((input_ids, new.unsqueeze(1)), dim=-1)
        max_new_tokens -= 1
    model.train(mode=mode)
    return input_ids


def with_a_deque(model, input_ids, max_new_tokens, max_seq_length):
    back = model.train if model.training else model.eval
    model.eval()
    columns = list(input_ids.unbind(1))
    torch.set_grad_enabled(False)
    for _ in range(max_new_tokens):
        window = torch.stack(columns[-max_seq_length:], 1)
        columns.append(model(window)[:, -1].max(-1).indices)
    torch.set_grad_enabled(True)
    back()
    return torch.stack(columns, 1)


HONEST_WRITING = {
    "plain": LOOP,
    "rows": each_row_alone,
    "storage": storage_first,
    "recursive": recursive,
    "decorated": decorated,
    "columns": with_a_deque,
    "k = 1": changed(".argmax(-1, keepdim=True)", ".topk(1).indices"),
    "sorted": changed(
        ".argmax(-1, keepdim=True)", ".sort(descending=True).indices[:, :1]"
    ),
    "lesson's draw": lambda model, ids, new, length: _with_lessons_draw(
        model, ids, new, length
    ),
}


def _with_lessons_draw(model, ids, new, length):
    with lesson.evaluating(model):
        for _ in range(new):
            drawn = lesson.sample_next(model(ids[:, -length:])[:, -1], temperature=0)
            ids = torch.cat([ids, drawn], 1)
    return ids


CASES = {
    "next_probabilities": (ODDS, HONEST_ODDS),
    "sample_next": (DRAWS, HONEST_DRAWS),
    "generate": (WRITE, HONEST_WRITING),
}
WHOLE = """def sample_next(logits, temperature, top_k, generator):
    if temperature == 0:
        return logits.argmax(-1, keepdim=True)
    if top_k is not None:
        limit = logits.topk(min(top_k, logits.size(-1))).values[:, -1:]
        logits = logits.masked_fill(logits < limit, -torch.inf)
    p = (logits / temperature).softmax(-1)
    return torch.multinomial(p, 1, generator=generator)"""


class TestCatalogue(Catalogue):
    cases = CASES
    share = 0.9
    sources = {"sample_next": WHOLE}
    seconds = 5


def test_crashes_of_the_loop_come_with_a_hint() -> None:
    for name, hint in (
        ("dim 0", "dim=1"),
        ("no axis", "must be (B, 1)"),
        ("item", "a token for each row"),
    ):
        report = rejected(checks.generate, CRASHES[name])
        assert any(hint in text for text in report.symptoms), str(report)


def test_right_but_fragile() -> None:
    tied = checks.next_probabilities(by_scatter)
    assert tied.passed and "tied" in tied.remarks[0]
    assert not checks.next_probabilities(lesson.next_probabilities).remarks


def test_one_cause_is_not_called_two() -> None:
    """A temperature that is never used was "two at once", in two readings."""
    report = rejected(checks.sample_next, DRAWS["G3f"])
    assert [[one.id for one in match] for match in report.matches] == [["G3f"]]


def test_read_outs_stand_other_types() -> None:
    report = rejected(
        checks.next_probabilities, ODDS["G5a"].replace("return p", "return 0.9 * p")
    )
    assert any("do not add up to 1" in clue.text for clue in report.clues), str(report)
    for kind in (
        "long()",
        "half()",
        "bool()",
        "bfloat16()",
        "cfloat()",
        "numpy()",
        "tolist()",
        "T",
        "sum()",
    ):

        def other(*args, kind=kind):
            return eval(f"p.{kind}", {"p": lesson.next_probabilities(*args)})

        look = partial(observe, other)
        found = read_probabilities(look, torch.Generator().manual_seed(0))
        assert isinstance(found, list)
        assert not checks.next_probabilities(other).passed or kind == "half()"


def test_wrong_measurements_are_named_after_what_was_measured() -> None:
    pairs, nats = _PAIRS, _NATS
    for name, wrong in {
        "or in one text only": _measured([0.941, 1, 1, 0.943], nats),
        "not divided by the number": _measured([207, 208, 212, 255], nats),
        "bits": _measured(pairs, [x / 0.6931 for x in nats]),
        "whole text": _measured(pairs, [x * 160 for x in nats]),
        "all bytes": _measured(pairs, [x * 1280 for x in nats]),
        "perplexity": _measured(pairs, torch.tensor(nats).exp()),
        "exchanged": _measured(nats, pairs),
    }.items():
        assert name in checks.answer("06.4", wrong).named, name


def test_odds_that_are_none_are_told_with_their_sum() -> None:
    rows = [[1.0, 0, 0], [0.5, 0.5, 0.5], [1, 0, 0]]
    assert "second[1] must contain probabilities" in str(
        checks.answer("06.5", [[0.4, 0.3, 0.3], rows])
    )
    assert "its sum is 0.9" in str(checks.answer("06.5", [[0.3, 0.3, 0.3], rows]))
    assert not checks.answer("06.5", [1, [2]]).passed


def test_a_small_leak_is_found() -> None:
    leaky = ODDS["G5"].replace(
        "masked_fill(logits < limit, 0)", "masked_fill(logits < limit, -12)"
    )
    report = rejected(checks.next_probabilities, leaky)
    assert any("at probability 0" in clue.text for clue in report.clues), str(report)


def test_one_solution_inside_another_is_shown_once(tmp_path, monkeypatch) -> None:
    """`sample_next` is shown with the function that it calls, next to that function."""
    monkeypatch.setenv("GPT2_LESSON_PROGRESS", str(tmp_path / "progress.json"))
    for name, right in {
        "next_probabilities": lesson.next_probabilities,
        "sample_next": lesson.sample_next,
        "generate": function_of(checks.generate, LOOP),
    }.items():
        assert getattr(checks, name)(right).passed
    shown = str(checks.solution("06.2"))
    for name in ("next_probabilities", "sample_next", "generate"):
        assert shown.count(f"def {name}(") == 1
