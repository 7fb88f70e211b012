"""The sampling bench: its probs are lesson 06's, ties and borders included."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from gpt2_lesson import widgets
from gpt2_lesson.corpora import story_model
from gpt2_lesson.generation import next_probabilities

JS = Path(__file__).parents[2] / "gpt2_lesson/widgets/js/numbers/probabilities.js"
WORDS = "mat sofa bed roof lap moon idea Tuesday of".split()
ODDS = torch.tensor([32, 16, 16, 8, 4, 2, 1, 1, 0.25])
HOSTILE = [
    "</script><img src=x onerror=alert(1)>",
    "\u2028",
    "",
    "x" * 40,
    "🦊",
    "שלום",
    " ",
    "\n",
    "<!--",
]


def in_node(cases: list[dict]) -> list[list[float]]:
    """Return what probabilities.js's nextProbs makes of the cases."""
    if shutil.which("node") is None:
        pytest.skip("no node on this machine")
    code = f"""
        import {{ nextProbs }} from "{JS.as_uri()}";
        let text = "";
        for await (const part of process.stdin) text += part;
        console.log(JSON.stringify(JSON.parse(text).map((c) => Array.from(
          nextProbs(Float32Array.from(c.logits, (x) => x ?? -Infinity),
                   c.temperature, c.top_k, c.top_p).probs))));"""
    done = subprocess.run(
        ["node", "--input-type=module", "-e", code],
        check=True,
        input=json.dumps(cases),
        capture_output=True,
        text=True,
    )
    return json.loads(done.stdout)


def test_odds_are_lesson_06s():
    """Random logits with many ties, every mix of settings, and borders met exactly."""
    logits = [
        torch.randn(9),
        torch.randint(-2, 3, (40,)).float(),
        ODDS.log(),
        torch.tensor([0.5, 0.25, 0.125, 0.125]).log(),
        torch.zeros(10),
        torch.randn(700) * 4,
        torch.tensor([1.0, -torch.inf, 1.0, 0.0]),
    ]
    settings = [
        (t, k, p)
        for t in (0, 1e-5, 0.3, 1, 2)
        for k in (None, 1, 2, 7, 10**6)
        for p in (None, 0.05, 0.25, 0.5, 0.75, 0.9, 1)
    ]
    cases = [
        {
            "logits": [x if x > -1e30 else None for x in row.tolist()],
            "temperature": t,
            "top_k": k,
            "top_p": p,
        }
        for row in logits
        for t, k, p in settings
    ]
    expected = [
        next_probabilities(row, t, k, p) for row in logits for t, k, p in settings
    ]
    for case, got, want in zip(cases, in_node(cases), expected, strict=True):
        case["logits"] = len(case["logits"])
        got = torch.tensor(got, dtype=torch.float32)
        seen = (got > 1e-7) | (want > 1e-7)  # below that, float32 sums decide
        assert torch.equal(got[seen] > 0, want[seen] > 0), case
        torch.testing.assert_close(got, want, atol=1e-6, rtol=0)


def columns(page) -> dict[str, list[str]]:
    """Return the rows of the page's bars: name -> the texts of its cells."""
    return {
        row[0]: row[1:]
        for row in page.evaluate(
            "[...document.querySelectorAll('.sb-grid > .row')].map(r =>"
            "[...r.children].filter(c => !c.ariaHidden).map(c => c.textContent))"
        )
    }


def slide(page, label: str, value: float) -> None:
    page.get_by_role("slider", name=label).evaluate(
        "(node, value) => { node.value = value;"
        " node.dispatchEvent(new Event('input', {bubbles: true})); }",
        value,
    )


def test_bench_of_nine_words(open_figure):
    """The lesson's hand-checked numbers; temperature 0; draws that add up."""
    page = open_figure(widgets.sampling(ODDS.log(), names=WORDS, top_k=2))
    assert columns(page)["mat"] == ["0.399", "0.500", ""]
    assert columns(page)["bed"] == ["0.199", "0.250", ""]  # tied with the second
    assert columns(page)["roof"] == ["0.100", "cut", ""]
    assert "3 of 9" in page.inner_text("main") and "0.798" in page.inner_text("main")
    page.get_by_text("sample 100").click()
    page.get_by_text("sample one").click()
    drawn = {name: int(cells[2]) for name, cells in columns(page).items()}
    assert sum(drawn.values()) == 101 and drawn["roof"] == 0
    assert abs(drawn["mat"] - 50.5) < 20
    slide(page, "temperature", 0)
    assert columns(page)["mat"] == ["0.399", "1.000", ""]  # draws are forgotten
    assert "change nothing" in page.inner_text("[aria-live]")


def test_the_sentence_is_right_when_nothing_differs(open_figure):
    page = open_figure(widgets.sampling(ODDS.log(), names=WORDS, top_k=1))
    page.get_by_text("sample 100").click()
    assert page.inner_text("[aria-live]").endswith(
        "Each sampled fraction equals its probability to three decimals."
    )
    slide(page, "top-k", 1)
    page.get_by_text("sample one").click()
    assert "The largest difference (0.5" in page.inner_text("[aria-live]")


def test_large_vocabulary_keeps_every_token():
    """All 50,257 logits and names fit, and the figure stays below its limit."""
    logits, names = torch.randn(50257) * 3, [f" word{i}" for i in range(50257)]
    figure = widgets.sampling(logits, names=names, top_p=0.9)
    assert len(figure._frame()) < 700_000


def test_record_text_and_next(open_figure):
    """At a position of a text, the token that really came next is marked."""
    record = widgets.capture(story_model(), torch.tensor([list(b"\nOne day Tess")]))
    page = open_figure(widgets.sampling(record, position=2), width=390)
    assert any(name.startswith("e ◂") for name in columns(page))
    assert "↵On" in page.inner_text(".sb-text")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_hostile_names_stay_text(open_figure):
    figure = widgets.sampling(torch.arange(9.0), names=HOSTILE)
    page = open_figure(figure)
    assert HOSTILE[0] in page.inner_text(".sb-grid")
    assert page.evaluate("document.querySelectorAll('img').length") == 0


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: widgets.sampling([1, 2]), "expected what widgets.capture"),
        (lambda: widgets.sampling(torch.zeros(2, 3)), r"\(2, 3\), expected \(V,\)"),
        (lambda: widgets.sampling(torch.zeros(2), names=["a"]), "list of 1, expected"),
        (lambda: widgets.sampling(torch.zeros(2), temperature=-1), "temperature is -1"),
        (lambda: widgets.sampling(torch.full((2,), torch.nan)), "not finite"),
        (
            lambda: widgets.sampling(
                widgets.capture(story_model(), torch.tensor([[65, 66]])), position=2
            ),
            "expected 0 to 1",
        ),
    ],
)
def test_bad_input_is_named(call, words):
    with pytest.raises(
        (TypeError, ValueError, IndexError, FloatingPointError), match=words
    ):
        call()
