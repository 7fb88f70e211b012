"""The ablation grid: every cell is what the model says without that head."""

import copy

import pytest
import torch

from gpt2_lesson import widgets
from gpt2_lesson.gpt2_model import GPT2Model
from gpt2_lesson.looking_inside import attention_maps

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
    "b",
    "c",
]
IDS = torch.tensor([[0, 3, 5, 1, 10]])


@pytest.fixture
def model() -> GPT2Model:
    model = GPT2Model(11, 24, 3, 2, 16, 48, dropout=0.5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(8) if parameter.dim() > 1 else None
    return model


def test_each_is_zeroed_columns(model):
    """Cutting a head is the same as zeroing its columns of the output projection."""
    before, without = widgets.ablate_each(model, IDS)
    assert model.training  # left as it was
    model.eval()
    torch.testing.assert_close(before, model(IDS)[0, -1].log_softmax(-1).detach())
    for layer in range(2):
        for head in range(3):
            cut = copy.deepcopy(model)
            cut.blocks[layer].attn.out_proj.weight.data[:, 8 * head : 8 * head + 8] = 0
            expected = cut(IDS)[0, -1].log_softmax(-1).detach()
            torch.testing.assert_close(without[layer, head], expected)


def test_the_page(model, open_figure):
    """Cells, bars and the sentence show those numbers; hostile names stay text."""
    before, without = widgets.ablate_each(model, IDS[0])
    figure = widgets.ablation(model, IDS, [0, 4], HOSTILE, computed=(before, without))
    page = open_figure(figure)
    change = without[..., [0, 4]].logsumexp(-1) - before[[0, 4]].logsumexp(-1)
    cells = page.locator(".ab-cell .wide").all_inner_texts()
    for text, value in zip(cells, change.flatten().tolist(), strict=True):
        assert float(text.replace("−", "-")) == pytest.approx(value, abs=0.0051)
    page.locator(".ab-cell").nth(4).click()  # layer 1 head 1
    said = page.locator("[aria-live]").inner_text()
    probs = without[1, 1, [0, 4]].exp().sum()
    assert "layer 1 head 1" in said and f"{probs:.3f}" in said
    row = attention_maps(model, IDS)[1, 0, 1, -1]
    assert f"({int(row.argmax())}): {row.max():.2f}" in said
    assert page.evaluate("document.querySelectorAll('img').length") == 0
    page.keyboard.press("ArrowRight")
    assert "layer 1 head 2" in page.locator("[aria-live]").inner_text()
    page.get_by_text("Table: all heads").click()
    page.wait_for_selector("tbody")
    assert page.locator("tbody tr").count() == 6


def test_watched_places_are_added_up(model, open_figure):
    """It opens with the first group: the sum of its weights, in sentence and dots."""
    page = open_figure(
        widgets.ablation(
            model, IDS, 9, HOSTILE, watch={"a name": range(1, 4), "the start": [0]}
        )
    )
    sums = attention_maps(model, IDS)[:, 0, :, -1, 1:4].sum(-1).flatten()  # (L*H,)
    page.locator(".ab-cell").nth(2).click()
    assert (
        f"has {sums[2]:.2f} of its weight on a name."
        in page.locator("[aria-live]").inner_text()
    )
    places = page.evaluate(
        "[...document.querySelectorAll('.ab-plot circle')]"
        ".map(dot => Number(dot.getAttribute('cx')))"
    )
    expected = sorted((46 + 400 * sums).tolist())
    assert sorted(places) == pytest.approx(expected, abs=0.02)
    assert "weight of the last token on a name" in page.locator(".ab-plot").inner_html()
    page.locator(".ab-weights select").select_option(label="the start")
    assert "on the start" in page.locator(".ab-weights p").inner_text()
    page.locator(".ab-weights select").select_option(
        label="the token that each head attends to most"
    )
    note = page.locator(".ab-weights p").inner_text()
    assert note.startswith("Largest weight on a single token") and "both" not in note


@pytest.mark.parametrize(
    "watch, kind, words",
    [
        ({"a": [5]}, IndexError, "positions from 0 to 4"),
        ({"a": [-1]}, IndexError, "from 0 to 4"),
        ({"a": []}, ValueError, "one or more positions"),
        ({"a": [1, 1]}, ValueError, "each once"),
    ],
)
def test_places_that_are_not_there_are_named(model, watch, kind, words):
    with pytest.raises(kind, match=words):
        widgets.ablation(model, IDS, 9, watch=watch)


def test_baseline_and_narrow(model, open_figure):
    """Against a baseline the change is that of the difference of two logits."""
    model.eval()
    figure = widgets.ablation(model, IDS, 9, HOSTILE, baseline=10, weights=False)
    before, without = widgets.ablate_each(model, IDS)
    expected = (without[..., 9] - without[..., 10]) - (before[9] - before[10])
    got = torch.tensor(figure.state["now"]) - figure.state["was"]
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)
    page = open_figure(figure, width=390, dark=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.locator(".ab-plot").count() == 0


def test_no_effect_is_pale(model, open_figure):
    """A change near 0 is not painted as if it were large."""
    before, without = widgets.ablate_each(model, IDS)
    same = before + 0.002 * torch.rand(2, 3, 1)
    page = open_figure(widgets.ablation(model, IDS, 9, computed=(before, same)))
    shades = page.evaluate(
        "[...document.querySelectorAll('.ab-cell')].flatMap("
        "c => c.style.backgroundColor.match(/\\d+/g).map(Number))"
    )
    assert min(shades) > 235
    assert "hardly change" in page.locator("[aria-live]").inner_text()


@pytest.mark.parametrize(
    "target, kind, words",
    [
        ("e", TypeError, "expected a token id"),
        (1.5, TypeError, "target is 1.5"),
        (True, TypeError, "target is True"),
        ([], ValueError, "one id or more"),
        ([1, 1], ValueError, "each once"),
        (11, IndexError, "id 11, expected 0 to 10"),
        (-1, IndexError, "expected 0 to 10"),
    ],
)
def test_bad_target_is_named(model, target, kind, words):
    with pytest.raises(kind, match=words):
        widgets.ablation(model, IDS, target)


def test_other_bad_input(model):
    with pytest.raises(ValueError, match="2 rows, expected one"):
        widgets.ablate_each(model, IDS.repeat(2, 1))
    with pytest.raises(ValueError, match="holds a target"):
        widgets.ablation(model, IDS, 1, baseline=[1, 2])
    with pytest.raises(ValueError, match="what ablate_each gives"):
        widgets.ablation(model, IDS, 1, computed=(torch.zeros(3), torch.zeros(1, 1, 3)))
    before, without = widgets.ablate_each(model, IDS)
    with pytest.raises(FloatingPointError, match="NaN"):
        widgets.ablation(model, IDS, 1, computed=(before, without * torch.nan))
