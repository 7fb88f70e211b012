"""The arithmetic bench counts as the package does."""

import json

import numpy as np
import pytest
import torch

from gpt2_lesson import widgets
from gpt2_lesson.attention import attention
from gpt2_lesson.causal_masking import causal_mask
from gpt2_lesson.widgets import figure as pages


@pytest.fixture(scope="module")
def attend(chromium):
    """Give `attend(q, k, v, options)`, the drawing's own function."""
    page = chromium.new_page()
    text = pages.script("arithmetic")

    def call(*args):
        return page.evaluate(
            f"(() => {{ {text}\nreturn attendOne(...{json.dumps(args)}); }})()"
        )

    yield call
    page.close()


@pytest.mark.parametrize("root", [True, False])
@pytest.mark.parametrize("mask", [True, False])
def test_the_drawing_counts_as_attention_does(attend, root: bool, mask: bool) -> None:
    q, k, v = (torch.randn(5, n, dtype=torch.float64) for n in (2, 2, 3))
    scaled = q if root else q * 2**0.5  # takes back the division
    mixed, weights = attention(scaled, k, v, causal_mask(5) if mask else None)
    for asks in range(5):
        got = attend(
            q[asks].tolist(),
            k.tolist(),
            v.tolist(),
            {"root": root, "mask": mask, "asks": asks},
        )
        np.testing.assert_allclose(got["weights"], weights[asks], atol=1e-14)
        np.testing.assert_allclose(got["mixed"], mixed[asks], atol=1e-13)


def test_at_first_it_shows_the_lessons_numbers(open_figure) -> None:
    figure = widgets.arithmetic()
    assert "0.17, 0.33, 0.50" in figure.alt and "[4.00, 5.00]" in figure.alt
    page = open_figure(figure)
    assert "the average of the values is [4.00, 5.00]" in (
        page.locator(".said").inner_text()
    )
    assert page.locator(".bench-small").filter(has_text="=").all_inner_texts() == [
        "= 1/6",
        "= 1/3",
        "= 1/2",
    ]
    page.get_by_role("button", name="mask the future").click()
    page.get_by_role("combobox").select_option("1")
    assert "is [2.00, 4.00]. 1 later token is hidden." in (
        page.locator(".said").inner_text()
    )
    page.get_by_role("button", name="start again").click()
    page.get_by_role("button", name="divide by").click()
    q, k, v = (torch.tensor(figure.state[name]) for name in "qkv")
    mixed = attention(q * 2**0.5, k, v)[0][-1]
    assert f"[{mixed[0]:.2f}, {mixed[1]:.2f}]" in page.locator(".said").inner_text()


def test_the_query_is_dragged_by_mouse_keys_and_slider(open_figure) -> None:
    page = open_figure(widgets.arithmetic())
    box = page.locator(".bench-drag").bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(*middle)
    page.mouse.down()
    assert "[0.00, 0.00]. All keys match alike" in page.locator(".said").inner_text()
    unit = (box["width"] / 2 - 10) / 2  # the plane goes to 2
    page.mouse.move(middle[0] - unit, middle[1] - unit)
    page.mouse.up()
    assert "asks with [−1.0" in page.locator(".said").inner_text()
    page.mouse.move(*middle)  # let go: nothing follows
    assert "asks with [−1.0" in page.locator(".said").inner_text()
    page.get_by_role("button", name="start again").click()
    page.locator(".bench-drag").focus()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowLeft")
    assert "asks with [1.31, 0.10]" in page.locator(".said").inner_text()


def test_a_drag_selects_no_text_and_the_values_triangle_is_drawn(open_figure) -> None:
    page = open_figure(widgets.arithmetic(mask=False))
    assert page.get_by_role("button", name="mask the future").count() == 0
    box = page.locator(".bench-drag").bounding_box()
    page.mouse.move(box["x"] + 150, box["y"] + 150)
    page.mouse.down()
    page.mouse.move(box["x"] + 150, box["y"] + 500, steps=4)
    page.mouse.up()
    assert page.evaluate("String(getSelection())") == ""
    assert page.evaluate("document.activeElement.tagName") == "svg"  # keys go on
    assert len(page.locator(".bench-hull").get_attribute("points").split()) == 3


def test_hostile_tokens_and_eight_of_them_fit_a_phone(open_figure) -> None:
    tokens = [
        "</script><img src=x onerror=alert(1)>",
        "\u2028",
        "",
        " ",
        "x" * 40,
        "😀",
        "שלום",
        "\n",
    ]
    q, k, v = (torch.randn(8, n) for n in (2, 2, 4))
    page = open_figure(widgets.arithmetic(q, k, v, tokens), width=390)
    page.get_by_role("button", name="mask the future").click()
    assert page.locator("img").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert "newline" in page.locator(".said").inner_text()


def test_other_shapes_are_refused_in_words() -> None:
    with pytest.raises(ValueError, match=r"q has the shape \(3, 4\).*two channels"):
        widgets.arithmetic(q=torch.randn(3, 4))
    with pytest.raises(ValueError, match="9 tokens, expected 1 to 8"):
        widgets.arithmetic(*torch.randn(3, 9, 2), tokens=list("abcdefghi"))
    with pytest.raises(ValueError, match="finite"):
        widgets.arithmetic(k=torch.full((3, 2), torch.nan))


@pytest.mark.parametrize("width", [1240, 1000, 768])
def test_the_bench_fills_its_width(width: int, open_figure) -> None:
    """And says exp, which is what it shows."""
    page = open_figure(widgets.arithmetic(), width=width)
    boxes = [box.bounding_box() for box in page.locator(".bench-columns > div").all()]
    assert min(box["x"] for box in boxes) < 10
    assert max(box["x"] + box["width"] for box in boxes) > width - 10
    planes = [box.bounding_box() for box in page.locator("svg").all()]
    assert sum(plane["width"] for plane in planes) > 0.5 * width
    head = page.locator("thead th").all_inner_texts()
    assert "exp" in head
    assert page.evaluate("document.documentElement.scrollWidth") == width
