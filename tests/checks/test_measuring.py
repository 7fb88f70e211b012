"""The checks of perplexity, bits per byte, windows and endings: S6, S9, S10, more."""

import math

import pytest
import torch
from catalogue import (
    Catalogue,
    function_of,
)

from gpt2_lesson import checks
from gpt2_lesson.corpora import story_model
from gpt2_lesson.measuring import token_nll

ALL = "every = torch.cat(batches)\n"
PERPLEXITY = {
    "S9": ALL + "return 2 ** every.mean().item()",
    "S9b": "n = sum(len(b) for b in batches)\n"
    "return torch.exp2(sum(b.sum() for b in batches) / n).item()",
    "S9t": ALL + "return 10 ** float(every.mean())",
    "S10": "return torch.stack([b.mean() for b in batches]).mean().exp()",
    "S10b": """total = 0
for batch in batches:
    total += batch.mean().item()
return math.exp(total / len(batches))""",
    "S13": ALL + "return every.exp().mean().item()",
    "S13b": "return sum(b.mean().exp().item() for b in batches) / len(batches)",
    "S13n": ALL + "return every.mean().item()",
    "S14": ALL + "return every.sum().exp().item()",
    "S14b": "return math.exp(sum(b.sum().item() for b in batches) / len(batches))",
    "S15": "for batch in batches:\n    return batch.mean().exp().item()",
    "S15b": "return batches[0].mean().exp()",
    "S15l": "for b in batches:\n    total, n = b.sum(), len(b)\n"
    "return (total / n).exp().item()",
    "S16": ALL + "return (-every).mean().exp().item()",
    "S9e": ALL + "return (every / math.log(2)).mean().exp().item()",
    "S13'": "return sum(b.exp().sum() for b in batches).item() / sum("
    "map(len, batches))",
    "S13s": "return sum(b.mean().exp().item() for b in batches)",
    "S13h": ALL + "return 1 / (-every).exp().mean().item()",
    "S13m": ALL + "return every.mean().expm1().item()",
    "S14n": ALL + "return (every.sum() / max(1, len(every) - 1)).exp().item()",
    "S14m": ALL + "return (every.sum() / (len(every) + 1)).exp().item()",
    "S14f": ALL + "return (every.sum() / len(batches) / len(batches[0])).exp().item()",
}
BITS = {
    "S6": "return nats.sum().item() / len(text.encode())",
    "S6m": "return nats.sum().item() * math.log(2) / len(text.encode())",
    "S6t": "return nats.sum().item() / math.log(10) / len(text.encode())",
    "S6b": "return float(nats.sum() / len(text.encode('utf-8')))",
    "S17": "return nats.mean().item() / math.log(2)",
    "S17b": "return (nats.sum() / math.log(2) / len(nats)).item()",
    "S18": "return nats.sum().item() / math.log(2) / len(text)",
    "S18w": "return nats.sum().item() / math.log(2) / len(text.split())",
    "S18o": "return nats.sum().item() / math.log(2)",
    "S18e": "return nats.sum().item() / math.log(2) / (8 * len(text.encode()))",
    "S19": "return nats.mean().item() / math.log(2) / len(text.encode())",
    "S19p": "return 2 ** (nats.sum().item() / math.log(2) / len(text.encode()))",
    "S19q": "return math.exp(nats.sum().item() / len(text.encode()))",
}
BITS |= {
    name: f"return {change}"
    for name, change in {
        "S6l": "nats.sum().item() / math.log10(2) / len(text.encode())",
        "S18i": "len(text.encode()) / (nats.sum().item() / math.log(2))",
        "S18n": "-nats.sum().item() / math.log(2) / len(text.encode())",
        "S18p": "nats.sum().item() / math.log(2) / (len(text.encode()) + 1)",
        "S18d": "nats.sum().item() / math.log(2) / len(set(text.encode()))",
        "S18b": "nats.sum().item() / math.log(2) / len(text.replace(' ', '').encode())",
        "S18t": "nats.sum().item() / math.log(2) / len(text.strip().encode())",
        "S18u": "nats.sum().item() / math.log(2) / len(text.encode('utf-16'))",
    }.items()
}
LOOP = """found, done = [], 0
for part, start in zip(parts, starts):
    new = start + len(part) - done
    found.append(part[len(part) - new:])
    done = start + len(part)
return torch.cat(found)"""
STORE = """out = torch.zeros(starts[-1] + len(parts[-1]))
for part, start in zip(parts, starts):
    out[start:start + len(part)] = part
return out"""
GIVEN = (
    "return torch.cat(parts)",
    LOOP.replace("part[len(part) - new:]", "part"),
    LOOP.replace("    done = start + len(part)\n", "").replace(
        "part[len(part) - new:]", "part[-new:]"
    ),
)
JOIN = {
    "S20m": """n = starts[-1] + len(parts[-1])
total, count = torch.zeros(n), torch.zeros(n)
for part, start in zip(parts, starts):
    total[start:start + len(part)] += part
    count[start:start + len(part)] += 1
return total / count""",
    "S21": STORE,
    "S21b": "ids = {}\nfor part, start in zip(parts, starts):\n"
    "    ids.update({start + j: x for j, x in enumerate(part)})\n"
    "return torch.stack([ids[t] for t in sorted(ids)])",
    "S21f": LOOP.replace("part[len(part) - new:]", "part[:new]"),
    "S22": """stride = starts[1] - starts[0] if len(starts) > 1 else 0
return torch.cat([parts[0]] + [part[len(part) - stride:] for part in parts[1:]])""",
    "S22s": """found = [parts[0]]
for i in range(1, len(parts)):
    new = starts[i] - starts[i - 1]
    found.append(parts[i][len(parts[i]) - new:])
return torch.cat(found)""",
    "S23": LOOP.replace(
        "zip(parts, starts):", "list(zip(parts, starts))[:-1] or zip(parts, starts):"
    ),
    "S24": LOOP.replace("- new:]", "- new + (start > 0):]"),
    "S24m": LOOP.replace("- new:]", "- new - (start > 0):]"),
    "S22b": LOOP.replace("done = start + len(part)", "done = start"),
    "S22a": LOOP.replace("done = start + len(part)", "done += len(part)").replace(
        "part[len(part) - new:]", "part[done - start:]"
    ),
}
CHOOSE = """scores = []
for tokens, ending in zip(nats, endings):
    size = len(ending.encode()) if per_byte else 1
    scores.append(tokens.sum().item() / size)
return scores.index(min(scores))"""
CHOICE = {
    "S25": CHOOSE.replace("min(", "max("),
    "S25b": "s = [t.sum() / (len(e.encode()) if per_byte else 1) for t, e in "
    "zip(nats, endings)]\nreturn torch.stack(s).argmax()",
    "S26": "return torch.stack([t.sum() for t in nats]).argmin().item()",
    "S26a": CHOOSE.replace(" if per_byte else 1", ""),
    "S26i": CHOOSE.replace("if per_byte", "if not per_byte"),
    "S17": CHOOSE.replace("len(ending.encode())", "len(tokens)"),
    "S17b": "s = [t.mean() if per_byte else t.sum() for t in nats]\n"
    "return int(torch.stack(s).argmin())",
    "S18": CHOOSE.replace("ending.encode()", "ending"),
    "S18w": CHOOSE.replace("ending.encode()", "ending.split()"),
    "S19": CHOOSE.replace("tokens.sum()", "tokens.mean()"),
    "S27": CHOOSE.replace("tokens.sum()", "tokens[0]"),
    "S27l": CHOOSE.replace("tokens.sum()", "tokens[-1]"),
    "S26t": CHOOSE.replace("/ size", "* size"),
    "S26m": CHOOSE.replace(
        "tokens.sum()", "(tokens.sum() if per_byte else tokens.mean())"
    ),
    "S18t": CHOOSE.replace("ending.encode()", "ending.strip().encode()"),
    "S28": CHOOSE.replace("scores.index(min(scores))", "min(scores)"),
    "S28t": CHOOSE.replace("scores.index(", "endings[scores.index(") + "]",
    "S28o": CHOOSE + " + 1",
    "S29": "sizes = [len(e.encode()) for e in endings]\nreturn sizes.index(min(sizes))",
    "S29t": "sizes = [len(tokens) for tokens in nats]\nreturn sizes.index(min(sizes))",
    "S29f": CHOOSE.replace("\nreturn", "\n    return"),
}


def product_of_odds(batches):
    n = sum(map(len, batches))
    return math.prod(math.exp(-x) for batch in batches for x in batch) ** (-1 / n)


def running(batches):
    total = count = 0
    for batch in batches:
        total += batch.sum()
        count += batch.numel()
    return torch.exp(total / count)


def weighted(batches):
    sizes = torch.tensor([float(len(b)) for b in batches])
    means = torch.stack([b.mean() for b in batches])
    return ((sizes * means).sum() / sizes.sum()).exp().item()


HONEST_PERPLEXITY = {
    "cat": "return torch.cat(batches).mean().exp()",
    "math": ALL + "return math.exp(every.sum().item() / len(every))",
    "running": running,
    "weighted": weighted,
    "product": product_of_odds,
    "bits": ALL + "return 2 ** (every / math.log(2)).mean().item()",
    "pow": ALL + "return math.e ** float(every.mean())",
    "list": "x = [v for b in batches for v in b.tolist()]\n"
    "return math.exp(sum(x) / len(x))",
    "double": "return float(torch.hstack(batches).double().mean().exp())",
}
HONEST_BITS = {
    "plain": "return nats.sum().item() / math.log(2) / len(text.encode())",
    "tensor": "return nats.sum() / math.log(2.0) / len(text.encode('utf-8'))",
    "log2 e": "return nats.sum().item() * math.log2(math.e) / len(bytes(text, 'utf8'))",
    "each token": "return sum(x / math.log(2) for x in nats.tolist()) / "
    "len(text.encode())",
    "odds": "return -torch.log2(torch.exp(-nats)).sum().item() / len(text.encode())",
    "mean": "return float(nats.mean()) * len(nats) / math.log(2) / len(text.encode())",
    "per byte": "return float(nats.sum() / len(text.encode()) / math.log(2))",
    "array": "return nats.sum().item() / math.log(2) / len(bytearray(text.encode()))",
}
HONEST_JOIN = {
    "plain": LOOP,
    "backwards": STORE.replace(
        "zip(parts, starts)", "reversed(list(zip(parts, starts)))"
    ),
    "filter": "return torch.cat([part[max(0, e - s):] for part, s, e in zip(parts, "
    "starts, [0] + [s + len(p) for p, s in zip(parts, starts)])])",
    "token by token": """out = []
for part, start in zip(parts, starts):
    for j, x in enumerate(part):
        if start + j == len(out):
            out.append(x)
return torch.stack(out)""",
    "dict": """first = {}
for part, start in zip(parts, starts):
    for j in range(len(part)):
        first.setdefault(start + j, part[j].item())
return torch.tensor([first[t] for t in range(len(first))])""",
    "nan": """out = torch.full((starts[-1] + len(parts[-1]),), torch.nan)
for part, start in zip(parts, starts):
    here = out[start:start + len(part)]
    out[start:start + len(part)] = torch.where(here.isnan(), part, here)
return out""",
    "grow": """out = parts[0]
for part, start in zip(parts[1:], starts[1:]):
    out = torch.cat([out, part[len(out) - start:]])
return out""",
    "recursive": """if len(parts) == 1:
    return parts[0]
rest = count_once_to_repair(parts[:-1], starts[:-1])
return torch.hstack((rest, parts[-1][len(rest) - starts[-1]:]))""",
}
HONEST_CHOICE = {
    "plain": CHOOSE,
    "tensor": "s = [t.sum() / (len(e.encode()) if per_byte else 1) for t, e in "
    "zip(nats, endings)]\nreturn torch.stack(s).argmin()",
    "int": "s = torch.tensor([t.sum() / len(e.encode()) ** per_byte for t, e in "
    "zip(nats, endings)])\nreturn int(s.argmin())",
    "key": "return min(range(len(nats)), key=lambda i: float(nats[i].sum()) / (len("
    "endings[i].encode()) if per_byte else 1))",
    "sorted": "sizes = [len(e.encode('utf-8')) if per_byte else 1 for e in endings]\n"
    "return sorted(range(len(nats)), key=lambda i: nats[i].sum() / "
    "sizes[i])[0]",
    "negative": "s = [-t.sum() / (len(e.encode()) if per_byte else 1) for t, e in "
    "zip(nats, endings)]\nreturn torch.stack(s).argmax().item()",
    "bits": CHOOSE.replace("tokens.sum().item()", "tokens.sum().item() / math.log(2)"),
    "loop": """best, place = math.inf, None
for i in range(len(endings)):
    score = sum(nats[i].tolist())
    if per_byte:
        score /= len(endings[i].encode())
    if score < best:
        best, place = score, i
return place""",
}
CASES = {
    "perplexity": (PERPLEXITY, HONEST_PERPLEXITY),
    "bits_per_byte": (BITS, HONEST_BITS),
    "count_once_to_repair": (JOIN, HONEST_JOIN),
    "best_ending": (CHOICE, HONEST_CHOICE),
}


class TestCatalogue(Catalogue):
    cases = CASES
    seconds = 5
    share = 0.9


@pytest.mark.parametrize(
    "done",
    ["done += new", "done = start + len(part)", "done = max(done, start + len(part))"],
)
def test_minus_zero_is_no_reason_to_refuse_a_repair(done: str) -> None:
    form = LOOP.replace("part[len(part) - new:]", "part[-new:]").replace(
        "done = start + len(part)", done
    )
    report = checks.count_once_to_repair(function_of(checks.count_once_to_repair, form))
    assert report.passed and "-0 is 0" in report.remarks[0]
    plain = checks.count_once_to_repair(function_of(checks.count_once_to_repair, LOOP))
    assert plain.passed and not plain.remarks


def test_a_crash_names_the_arguments_rightly() -> None:
    report = checks.best_ending(function_of(checks.best_ending, "return nats.sum()"))
    assert report.symptoms[0].endswith('"24 questions, per byte"')
    assert report.given[0].endswith(", True")


@pytest.mark.parametrize(
    "value",
    [
        [(1, "a")] * 3,
        [1, 2, 3],
        [([], "a")] * 3,
        [(["x"], "a")] * 3,
        "abc",
        [([math.nan], "abc")] * 3,
        [([1.0], 3)] * 3,
        [([1.0], "a", 2)] * 3,
    ],
)
def test_a_question_of_another_form_is_told_its_form(value: object) -> None:
    report = checks.answer("11.5", value)
    assert not report.passed
    assert any(
        word in report.symptoms[0] for word in ("must be", "not a pair", "expected")
    ), report.symptoms


@pytest.mark.parametrize("form", GIVEN)
def test_overlaps_counted_each_time_are_not_repaired_yet(form: str) -> None:
    report = checks.count_once_to_repair(function_of(checks.count_once_to_repair, form))
    assert report.state == "not written" and report.symptoms


def test_the_hints_about_four_numbers_compute_them_from_a_tensor() -> None:
    exercise = checks.all_exercises()["11.4"]
    names = {"nats": torch.full((49,), 11.163 / 49), "math": math}
    right = list(exercise.wanted().values())
    assert list(eval(exercise.hints[2], names)) == pytest.approx(right, rel=1e-4)
    for one in exercise.mistakes:
        found = eval(one.fix.partition(" is ")[0], names)
        for number in found if isinstance(found, tuple) else [found]:
            assert any(abs(number - x) < 1e-3 for x in right), one.fix


@pytest.mark.parametrize(
    ("byte", "word", "said"),
    [
        ("nats.exp().mean()", "math.exp(total / 11)", "mean of the exponentials"),
        ("nats.exp().mean()", "nats.exp().sum() / 11", "mean of the exponentials"),
        ("math.exp(total / 49)", "math.exp(total / 49) * 49 / 11", "times 49 / 11"),
        ("math.exp(total / 49)", "math.exp(total) / 11", "after the exponential"),
        ("math.exp(total) / 49", "math.exp(total) / 11", "after the exponential"),
    ],
)
def test_the_wrong_perplexities_of_a_sentence_are_named(
    byte: str, word: str, said: str
) -> None:
    text = "One foggy day Noah found a blue drum by the gate."
    nats = token_nll(story_model(), list(f"\n{text}".encode()))
    names = {"nats": nats, "total": nats.sum().item(), "math": math}
    values = dict(checks.all_exercises()["11.4"].wanted())
    values["perplexity per byte"] = eval(byte, names)
    values["perplexity per word"] = eval(word, names)
    report = checks.answer("11.4", values)
    assert said in report.named and "two" not in report.named


def test_one_question_is_shown_whole_where_an_ending_is_chosen_wrongly() -> None:
    wrong = function_of(checks.best_ending, CHOICE["S17"])
    said = checks.best_ending(wrong)
    (given,) = said.given
    names = {}
    text = given.removeprefix("input     ").replace(", endings =", "\nendings =")
    exec(text.replace(", per_byte =", "\nper_byte ="), names)
    names["nats"] = [torch.tensor(tokens) for tokens in names["nats"]]
    args = [names[name] for name in ("nats", "endings", "per_byte")]
    right = function_of(checks.best_ending, CHOOSE)
    assert said.table[1:] == [
        f"yours     {wrong(*args)}",
        f"expected  {right(*args)}",
    ]


def test_one_byte_is_not_bytes() -> None:
    question = [([1.0, 1.0], "a"), ([2.0], "b"), ([3.0], "c")]
    assert "2 tokens and 1 byte:" in str(checks.answer("11.5", question))
