"""The checks of attention and its mask: catalogue entries A and M."""

import linecache
import math

import pytest
import torch
import torch.nn.functional as F
from catalogue import Catalogue

from gpt2_lesson import checks
from gpt2_lesson.attention import attention as lesson_attention
from gpt2_lesson.causal_masking import causal_mask

# What learners write, as bodies of attention(q, k, v); {M} is where the mask goes.
BODIES = {
    "A1": "s = q @ k.transpose(-2, -1){M}\nreturn s.softmax(-1) @ v",
    "A2": "s = q @ k.transpose(-2, -1) / k.shape[-1]{M}\nreturn F.softmax(s, -1) @ v",
    "A2b": """d = q.size(-1) ** 0.5
s = (q / d) @ (k / d).mT{M}
return s.softmax(dim=2) @ v""",
    "A3": "s = q @ k.mT * math.sqrt(q.size(-1)){M}\nreturn s.softmax(-1) @ v",
    "A4": "s = q @ k.mT / math.sqrt(q.size(1)){M}\nreturn s.softmax(-1) @ v",
    "A5": "s = q @ k.mT / v.shape[-1] ** 0.5{M}\nreturn s.softmax(-1) @ v",
    "A6": "s = q @ k.mT / math.sqrt(len(q)){M}\nreturn s.softmax(-1) @ v",
    "A7": "s = q @ k.mT{M}\nw = s.softmax(-1) / math.sqrt(q.size(-1))\nreturn w @ v",
    "A8": "s = q @ k.mT / math.sqrt(q.size(-1)){M}\nreturn s.softmax(-2) @ v",
    "A8b": "s = q @ k.mT / math.sqrt(q.size(-1)){M}\nreturn torch.softmax(s, 1) @ v",
    "A9": "s = q @ k.mT / math.sqrt(q.size(-1)){M}\nreturn s.softmax(0) @ v",
    "A11": "s = q @ k.mT / math.sqrt(q.size(-1)){M}\nreturn s @ v",
    "A12": "s = q @ k.mT / math.sqrt(q.size(-1)){M}\nreturn s.log_softmax(-1) @ v",
    "A13": """s = q @ k.mT / math.sqrt(q.size(-1)){M}
return s / s.sum(-1, keepdim=True) @ v""",
    "A14": "s = q @ k.mT / math.sqrt(q.size(-1)){M}\nreturn torch.sigmoid(s) @ v",
    "A15": """s = q @ k.mT / math.sqrt(q.size(-1)){M}
w = s.softmax(-1)
return F.softmax(w, dim=-1) @ v""",
    "A16": "s = k @ q.mT / math.sqrt(q.size(-1)){M}\nreturn s.softmax(-1) @ v",
    "A17": "s = q @ q.mT / math.sqrt(q.size(-1)){M}\nreturn s.softmax(-1) @ v",
    "A17k": "s = k @ k.mT / math.sqrt(q.size(-1)){M}\nreturn s.softmax(-1) @ v",
    "A18": "s = q @ k.mT / math.sqrt(q.size(-1)){M}\nreturn s.softmax(-1).mT @ v",
    "A19": "s = q @ k.mT / math.sqrt(q.size(-1)){M}\nreturn s.softmax(-1) @ k",
    "A19w": "s = q @ k.mT / math.sqrt(q.size(-1)){M}\nreturn s.softmax(-1)",
    "A20": """s = q @ k.mT / math.sqrt(q.size(-1)){M}
e = torch.exp(s)
return e / e.sum(-1, keepdim=True) @ v""",
    "A21": """q /= math.sqrt(q.size(-1))
s = q @ k.mT{M}
return s.softmax(-1) @ v""",
    "A21g": """with torch.no_grad():
    q /= math.sqrt(q.size(-1))
s = q @ k.mT{M}
return s.softmax(-1) @ v""",
    "A21gb": """q.data.mul_(q.size(-1) ** -0.5)
s = q @ k.mT{M}
return s.softmax(-1) @ v""",
    "A21d": """s = q @ k.mT / math.sqrt(q.size(-1)){M}
return F.dropout(s.softmax(-1), 0.3) @ v""",
    "A21n": """s = q @ k.mT / math.sqrt(q.size(-1)){M}
return s.detach().softmax(-1) @ v""",
    "A22": "return v.mean(1, keepdim=True).expand_as(v)",
    "A24": "s = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT{M}\n"
    "return s.softmax(-1) @ v",
    "A24d": "s = -torch.cdist(q, k) / math.sqrt(q.size(-1)){M}\n"
    "return s.softmax(-1) @ v",
}
BODIES |= {
    name: "s = q @ k.mT / math.sqrt(q.size(-1)){M}\n" + last
    for name, last in {
        "A7t": "return s.softmax(-1) @ v / q.size(1)",
        "A7v": "return s.softmax(-1) @ v / math.sqrt(v.size(-1))",
        "A9t": "return s.flatten(1).softmax(-1).view_as(s) @ v",
        "A9s": "e = (s - s.amax(-1, keepdim=True)).exp()\nreturn e / e.sum() @ v",
        "A11e": "return s.exp() @ v",
        "A19q": "return s.softmax(-1) @ q",
        "A15h": "return F.one_hot(s.argmax(-1), s.size(-1)).float() @ v",
        "A23": "return v + s.softmax(-1) @ v",
    }.items()
} | {
    "A2f": "s = q @ k.mT / q.size(-1) ** 0.25{M}\nreturn s.softmax(-1) @ v",
    "A2m": "s = -q @ k.mT / math.sqrt(q.size(-1)){M}\nreturn s.softmax(-1) @ v",
}
PAST = ".masked_fill(torch.ones_like(q @ k.mT).triu(1).bool(), -torch.inf)"
UNMASKED = {name: body.replace("{M}", "") for name, body in BODIES.items()} | {
    "M0": BODIES["A1"].replace("{M}", f" / math.sqrt(q.size(-1))\ns = s{PAST}")
}
MASKED = {
    name: "\n".join(
        f"{line.split('{M}')[0]}\ns = s{PAST}" if "{M}" in line else line
        for line in body.splitlines()
    )
    for name, body in BODIES.items()
}

# What learners do to the scores s; used in mask_scores and inside causal_attention.
MASKS = {
    "M1": "s.masked_fill(torch.ones_like(s).triu(1).bool(), -torch.inf)",
    "M2": "s = s.masked_fill(torch.ones_like(s).tril(-1).bool(), -torch.inf)",
    "M3": "s = s.masked_fill(torch.ones_like(s).tril() == 1, -torch.inf)",
    "M4": "s = s.masked_fill(torch.ones_like(s).triu() == 1, float('-inf'))",
    "M5": "s = s.masked_fill(torch.ones_like(s).triu(diagonal=2) == 1, -torch.inf)",
    "M6": "s = s * torch.tril(torch.ones(s.shape[-2:]))",
    "M6b": "s = s.masked_fill(torch.ones_like(s).tril() == 0, -1e-10)",
    "M8": "s = s + torch.tril(torch.ones_like(s))",
    "M9": "s = s.masked_fill(torch.ones_like(s).tril() == 0, -1)",
    "M9b": "s = s.masked_fill(torch.ones_like(s).tril() == 0, -10)",
    "M10": "s = s.masked_fill(torch.ones_like(s).tril() == 0, torch.inf)",
    "M12": "s = s + torch.ones_like(s).triu(1) * -torch.inf",
    "M12b": """past = torch.ones_like(s).tril()
s = s * past + (1 - past) * float("-inf")""",
    "M14": """s = s.clone()
s[0] = s[0].masked_fill(torch.ones_like(s[0]).tril() == 0, -torch.inf)""",
}
SCORES = "s = q @ k.mT / math.sqrt(q.size(-1))\n"
CAUSAL = (
    {name: f"{SCORES}{body}\nreturn s.softmax(-1) @ v" for name, body in MASKS.items()}
    | {"M11": f"{SCORES}w = s.softmax(-1).tril()\nreturn w @ v"}
    | {
        name: f"{SCORES}{change}\nreturn s.softmax(-1) @ v"
        for name, change in {
            "M3f": "s = s.masked_fill(torch.ones_like(s).tril() == 1, -1e9)",
            "M3n": "s = s - 1e9 * torch.ones_like(s).tril()",
            "M4f": "s = s.masked_fill(torch.ones_like(s).triu() == 1, -1e9)",
            "M4n": "s = s - 1e9 * torch.ones_like(s).triu()",
            "M9m": "s = s.masked_fill(torch.ones_like(s).triu(1) == 1, s.min().item())",
            "M10n": "s = s + 1e9 * torch.ones_like(s).triu(1)",
        }.items()
    }
)
MASK_SCORES = {
    name: f"s = scores\n{body}\nreturn s" for name, body in MASKS.items()
} | {"M13": f"s = scores{PAST.replace('q @ k.mT', 'scores')}\nreturn s.softmax(-1)"}


def by_loops(q, k, v, causal=False):
    out = torch.zeros(q.size(0), q.size(1), v.size(2))
    for b in range(q.size(0)):
        for t in range(q.size(1)):
            end = t + 1 if causal else k.size(1)
            scores = torch.stack([q[b, t].dot(k[b, s]) for s in range(end)])
            shares = (scores / math.sqrt(q.size(2))).softmax(0)
            out = out.index_put(
                (torch.tensor(b), torch.tensor(t)),
                (shares[:, None] * v[b, :end]).sum(0),
            )
    return out


def by_hand(q, k, v):
    e = q @ k.mT / q.size(-1) ** 0.5
    e = torch.exp(e - e.amax(-1, keepdim=True))
    return e / e.sum(-1, keepdim=True) @ v


HONEST = {
    "lesson": lambda q, k, v: lesson_attention(q, k, v)[0],
    "fused": lambda q, k, v: F.scaled_dot_product_attention(q, k, v),
    "einsum": lambda q, k, v: torch.einsum(
        "bts,bsd->btd",
        (torch.einsum("btd,bsd->bts", q, k) / math.sqrt(q.shape[-1])).softmax(-1),
        v,
    ),
    "bmm": lambda q, k, v: torch.bmm(
        F.softmax(torch.bmm(q, k.permute(0, 2, 1)) * q.size(2) ** -0.5, dim=2), v
    ),
    "q first": lambda q, k, v: ((q / math.sqrt(q.size(-1))) @ k.mT).softmax(-1) @ v,
    "both": lambda q, k, v: (
        ((q / q.size(-1) ** 0.25) @ (k / q.size(-1) ** 0.25).mT).softmax(-1) @ v
    ),
    "loops": by_loops,
    "by hand": by_hand,
    "turned": lambda q, k, v: (v.mT @ (k @ q.mT / math.sqrt(q.size(-1))).softmax(1)).mT,
    "log": lambda q, k, v: (q @ k.mT / math.sqrt(q.size(-1))).log_softmax(-1).exp() @ v,
}


def causal_by(mask):
    def causal_attention(q, k, v):
        return mask(q @ k.mT / math.sqrt(q.size(-1))).softmax(-1) @ v

    return causal_attention


HONEST_MASKS = {
    "lesson": lambda s: s.masked_fill(~causal_mask(s.size(-1)), -torch.inf),
    "tril == 0": lambda s: s.masked_fill(torch.ones_like(s).tril() == 0, -torch.inf),
    "-1e9": lambda s: s.masked_fill(torch.ones_like(s).triu(1).bool(), -1e9),
    "finfo": lambda s: s.masked_fill(
        torch.ones_like(s).triu(1).bool(), torch.finfo(s.dtype).min
    ),
    "added": lambda s: s + torch.full(s.shape[-2:], -torch.inf).triu(1),
    "where": lambda s: torch.where(torch.ones_like(s).tril().bool(), s, -torch.inf),
    "arange": lambda s: torch.where(
        torch.arange(s.size(1))[:, None] >= torch.arange(s.size(2)), s, -torch.inf
    ),
    "loop": lambda s: torch.stack(
        [
            torch.cat([row[:, : t + 1], torch.full_like(row[:, t + 1 :], -1e30)], -1)
            for t, row in enumerate(s.unbind(1))
        ],
        1,
    ),
}
HONEST_CAUSAL = {name: causal_by(mask) for name, mask in HONEST_MASKS.items()} | {
    "fused": lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True),
    "loops": lambda q, k, v: by_loops(q, k, v, causal=True),
    "after": lambda q, k, v: (
        (w := (q @ k.mT / math.sqrt(q.size(-1))).softmax(-1).tril())
        / w.sum(-1, keepdim=True)
        @ v
    ),
}
CASES = {
    "attention": (UNMASKED, HONEST),
    "mask_scores": (MASK_SCORES, HONEST_MASKS),
    "causal_attention": (MASKED | CAUSAL, HONEST_CAUSAL),
}


class TestCatalogue(Catalogue):
    cases = CASES


def test_two_mistakes_at_once_are_both_named() -> None:
    report = checks.causal_attention(lambda q, k, v: (q @ k.mT).softmax(-1).tril() @ v)
    assert {mistake.id for mistake in report.matches[0]} == {"A1", "M11"}


@pytest.mark.parametrize(("factor", "scale"), [(1.3, "0.4333"), (0.2, "0.0667")])
def test_an_unknown_scale_is_measured(factor: float, scale: str) -> None:
    report = checks.attention(
        lambda q, k, v: (q @ k.mT * factor / math.sqrt(q.size(-1))).softmax(-1) @ v
    )
    assert f"your effective scale is {scale} where D = 9" in report.clues[0].text


def test_right_but_fragile() -> None:
    after = checks.causal_attention(HONEST_CAUSAL["after"])
    assert after.passed and "hidden score is 10,000" in after.remarks[0]
    assert len(after.remarks) == 1
    for check, form in (
        (checks.causal_attention, causal_by),
        (checks.mask_scores, lambda mask: mask),
    ):
        for fill, said in (
            (-1e9, "half precision"),
            (-100, "lower than the fill"),
            (-1e4, "lower than the fill"),
        ):
            report = check(
                form(
                    lambda s, fill=fill: s.masked_fill(
                        torch.ones_like(s).triu(1).bool(), fill
                    )
                )
            )
            assert report.passed and len(report.remarks) == 1
            assert said in report.remarks[0]
        assert not check(form(HONEST_MASKS["where"])).remarks


def on_its_line(name: str, *lines: str):
    """Return a function whose lines Python can show, as those of a notebook."""
    exercise = checks.all_exercises()[name]
    text = "\n    ".join([f"def {exercise.signature.split(' ->')[0]}:", *lines])
    linecache.cache[text] = len(text), None, text.splitlines(True), text
    space = {"torch": torch, "F": F}
    exec(compile(text, text, "exec"), space)
    return space[name]


@pytest.mark.parametrize(
    ("name", "line", "said"),
    [
        ("attention", "s = q @ k / 2", "the last two axes of k"),
        ("attention", "s = q @ k.T / 2", "k.T reverses all three axes"),
        ("attention", "s = torch.bmm(q, k)", "the last two axes of k"),
        ("attention", "s = (q @ k.mT).softmax(-1).mT @ v.mT", "(B, T, T) @ (B, T, Dv)"),
        ("attention", "s = q * v", "two shapes do not fit"),
        (
            "causal_attention",
            "s = (q @ k.mT).masked_fill(torch.ones(2, 2) == 1, 0)",
            "two shapes do not fit",
        ),
        ("feed_forward", "h = x @ w1.T", "x @ w1, without a transpose"),
        ("feed_forward", "h = F.linear(x, w1, b1)", "x @ w1, without a transpose"),
        (
            "feed_forward",
            "h = x @ w1 + b2",
            "b1 is (F,) and belongs to the hidden layer",
        ),
        ("feed_forward", "h = x * w1 + b1", "the product of matrices is @"),
        ("feed_forward", "h = b1 + w1 * x", "the product of matrices is @"),
        ("feed_forward", "h = 0.5 * (x @ w1) + x", "two shapes do not fit"),
    ],
)
def test_a_crash_is_read_with_its_line(name: str, line: str, said: str) -> None:
    check = getattr(checks, name)
    (hint,) = check(on_its_line(name, line, "return x")).symptoms[3:]
    assert said in hint


# The answers that are values


@pytest.mark.parametrize(
    ("measure", "name"),
    [
        (lambda s, root: (s / root).softmax(-1).amax(-1).mean(), ""),
        (lambda s, root: (s / root).softmax(-1).max(), "P7"),
        (lambda s, root: (s.softmax(-1) / root).amax(-1).mean(), "P4"),
        (lambda s, root: (s / root).amax(-1).mean(), "P5"),
        (lambda s, root: (s / root).softmax(-2).amax(-1).mean(), "P6"),
        (lambda s, root: (s / root).softmax(-1).mean(), "P3"),
    ],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_wrong_measurement_has_a_name(measure, name: str, seed: int) -> None:
    found: dict[str, list[float]] = {"without the scaling": [], "with the scaling": []}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for d in (4, 16, 64, 256):
            for key, root in zip(found, (1, math.sqrt(d)), strict=True):
                q, k = torch.randn(2, 64, 64, d)
                found[key].append(measure(q @ k.mT, root).item())
    report = checks.answer("01.4", found)
    assert report.passed == (not name)
    assert [one.id for match in report.matches for one in match] == [name] * bool(name)


@pytest.mark.parametrize(
    ("length", "said"),
    [
        (18.49, "with the weight 0.9899 only: at least 0.9900"),
        (18.2, "with the weight 0.9888 only"),
        (19, ""),
    ],
)
def test_a_share_just_too_small_is_shown_as_such(length: float, said: str) -> None:
    k = torch.eye(8)
    report = checks.answer("01.5", [length * k.roll(2, 0), k])
    assert report.passed == (not said) and said in str(report)


def test_what_is_said_of_a_missing_softmax_holds_behind_a_mask() -> None:
    """Minus infinity is no share: without a softmax the mask gives nan, not 0."""
    for name in ("A11", "A12", "A13"):
        for exercise, said in (
            (checks.attention, False),
            (checks.causal_attention, True),
        ):
            (mistake,) = (one for one in exercise.mistakes if one.id == name)
            report = exercise(exercise.with_mistakes(mistake.id))
            (why,) = (one.why for match in report.matches for one in match)
            assert ("nan" in why) is said is ("nan" in "".join(report.table))
