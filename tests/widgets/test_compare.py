"""The first difference between two computations is found, and named."""

import numpy as np
import pytest
import torch

from gpt2_lesson import widgets
from gpt2_lesson.gpt2_model import GPT2Model
from gpt2_lesson.widgets.compare import stages_of

HOSTILE = "</script><img src=x onerror=alert(1)>"


def stages() -> dict[str, torch.Tensor]:
    """Return attention's stages for two heads of five tokens."""
    q, k, v = torch.randn(3, 1, 2, 5, 4)
    scores = (q @ k.mT / 2).masked_fill(torch.ones(5, 5).triu(1).bool(), -torch.inf)
    weights = scores.softmax(-1)
    return {"scores": scores, "weights": weights, "mixed": weights @ v}


def changed(name: str, place: tuple, value: float) -> tuple[dict, dict]:
    """Return stages with one number changed, and the right ones."""
    reference = stages()
    mine = {key: x.clone() for key, x in reference.items()}
    mine[name][place] = value
    return mine, reference


def test_no_difference_is_said_with_the_tolerance(capsys) -> None:
    reference = stages()
    figure = widgets.compare(dict(reference), reference)
    print(figure)
    assert capsys.readouterr().out == "no difference above 1e-5 in 3 stages\n"
    assert figure.first_difference is None


def test_the_first_stage_in_order_and_its_first_place_are_named() -> None:
    mine, reference = changed("weights", (0, 1, 3, 2), 0.75)
    mine["weights"][0, 1, 4, 0] = 9.0  # larger, but later
    mine["mixed"] += 1
    difference = widgets.compare(mine, reference).first_difference
    expected = reference["weights"][0, 1, 3, 2].item()
    assert difference.stage == "weights"
    assert difference.place == {"batch": 0, "head": 1, "row": 3, "column": 2}
    assert difference.mine == 0.75 and difference.expected == expected
    assert str(difference) == (
        "first difference: weights, batch 0, head 1, row 3, column 2: yours 0.75, "
        f"expected {expected:.4g}"
    )


def test_the_tolerance_is_kept_and_close_numbers_get_more_digits() -> None:
    mine, reference = {"x": torch.tensor([1.0, 1.00001])}, {"x": torch.ones(2)}
    assert widgets.compare(mine, reference, atol=1e-4).first_difference is None
    figure = widgets.compare(mine, reference, atol=1e-6)
    assert "place 1: yours 1.00001, expected 1" in str(figure)


@pytest.mark.filterwarnings("error")
def test_what_float32_cannot_tell_apart_is_read_as_the_headline_says(
    open_figure,
) -> None:
    page = open_figure(widgets.compare({"x": [1000000.01]}, {"x": [1e6]}))
    assert page.locator(".said").inner_text().endswith("difference 0.01.")
    page = open_figure(widgets.compare({"x": [1e300, 1e-5 + 1e-13]}, {"x": [1e300, 0]}))
    said = page.locator(".said").inner_text()
    assert "place 1: yours" in said and "tolerance" not in said
    page = open_figure(widgets.compare({"x": [0.1]}, {"x": [0.0]}, atol=0.1))
    assert "difference 0.1, within the tolerance" in page.locator(".said").inner_text()


def test_a_long_name_of_a_stage_stays_inside(open_figure) -> None:
    name = "x" * 80
    page = open_figure(
        widgets.compare({name: torch.ones(4, 4)}, {name: torch.zeros(4, 4)}), width=320
    )
    assert page.evaluate("document.documentElement.scrollWidth") == 320


def test_all_that_differs_still_fits() -> None:
    mine, other = (
        {f"stage {i}": torch.randn(64, 64) for i in range(12)} for _ in range(2)
    )
    widgets.compare(mine, other)
    widgets.compare({"x": torch.randn(9, 64, 64)}, {"x": torch.randn(9, 64, 64)})


def test_nan_infinity_shape_and_a_missing_stage_are_differences() -> None:
    mine, reference = changed("scores", (0, 0, 2, 1), torch.nan)
    assert "row 2, column 1: yours NaN (not a number), expected" in str(
        widgets.compare(mine, reference)
    )
    mine, reference = changed("scores", (0, 0, 0, 1), 3.0)
    assert "column 1: yours 3, expected -infinity" in str(
        widgets.compare(mine, reference)
    )
    same = {"x": torch.tensor([torch.nan, torch.inf])}
    assert widgets.compare(same, dict(same)).first_difference is None
    reference = stages()
    mine = reference | {"weights": reference["weights"][:, :1]}
    assert str(widgets.compare(mine, reference)) == (
        "first difference: weights: yours has the shape (1, 1, 5, 5), expected "
        "(1, 2, 5, 5)"
    )
    del mine["weights"]
    assert "weights: yours lacks this stage" in str(widgets.compare(mine, reference))


@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 4, 5, 6), (300, 200)])
def test_any_shape_can_be_compared(shape: tuple, open_figure) -> None:
    reference = {"empty": torch.ones(0, 4), "x": torch.randn(shape)}
    mine = {name: x.clone() for name, x in reference.items()}
    mine["x"].view(-1)[-1] = 8.5
    figure = widgets.compare(mine, reference)
    place = figure.first_difference.place
    assert list(place.values()) == [size - 1 for size in shape]
    page = open_figure(figure)
    assert page.locator(".comp-head").inner_text() == str(figure)
    said = page.locator(".said").inner_text()
    assert ": yours 8.5, expected " in said
    assert all(f"{axis} {index}" in said for axis, index in place.items())


def test_records_part_where_the_weights_were_changed() -> None:
    model = GPT2Model(256, 16, 2, 3, 12, 32).eval()
    ids = torch.tensor([list(b"hello hello")])
    reference = widgets.capture(model, ids)
    with torch.no_grad():
        model.blocks[1].attn.qkv_proj.weight.mul_(3)
    mine = widgets.capture(model, ids)
    difference = widgets.compare(mine, reference).first_difference
    assert difference.stage == "layer 1: scores"
    assert widgets.compare(reference, reference).first_difference is None
    scores = stages_of(reference)["layer 2: scores"]
    np.testing.assert_allclose(
        torch.from_numpy(scores).softmax(-1), reference.weights[2], atol=1e-6
    )
    with pytest.raises(ValueError, match="different texts"):
        widgets.compare(widgets.capture(model, ids[:, :4]), reference)


def test_wrong_kinds_are_refused() -> None:
    with pytest.raises(ValueError, match="no stages"):
        widgets.compare({}, {})
    with pytest.raises(TypeError, match="real numbers"):
        widgets.compare({"x": "text"}, {"x": torch.ones(2)})
    with pytest.raises(TypeError, match="two mappings"):
        widgets.compare(torch.ones(2), torch.ones(2))


def test_a_reader_sees_stages_maps_and_all_three_numbers(open_figure) -> None:
    mine, reference = changed("weights", (0, 1, 3, 2), 0.75)
    page = open_figure(widgets.compare(mine, reference, list("abcde")))
    assert (
        page.get_by_role("button", name="weights").get_attribute("aria-pressed")
        == "true"
    )
    expected = reference["weights"][0, 1, 3, 2].item()
    said = page.locator(".said")
    assert "batch 0, head 1, row 3 (“d”), column 2 (“c”): yours 0.75" in (
        said.inner_text()
    )
    page.get_by_text("Table").click()
    page.locator("tbody tr").first.wait_for()
    cells = page.locator("tbody td").all_inner_texts()
    assert [float(cell.replace("−", "-")) for cell in cells] == pytest.approx(
        [0.75, expected, 0.75 - expected], abs=1e-5
    )
    page.locator("canvas").nth(2).focus()
    page.keyboard.press("ArrowUp")
    assert "row 2 (“c”)" in said.inner_text()
    assert "difference 0, within the tolerance" in said.inner_text()
    page.get_by_role("button", name="scores").click()
    page.locator("h2", has_text="scores").wait_for()


def test_names_do_not_run_and_a_large_model_fits(open_figure) -> None:
    big = {f"layer {i}: weights": torch.randn(12, 128, 128) for i in range(12)}
    other = big | {"layer 7: weights": big["layer 7: weights"] + 1}
    figure = widgets.compare(other | {HOSTILE: torch.ones(1)}, big)
    page = open_figure(figure, width=390, dark=True)
    assert page.locator("img").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page = open_figure(
        widgets.compare(
            {HOSTILE: torch.ones(2, 2)}, {HOSTILE: torch.zeros(2, 2)}, [HOSTILE, ""]
        )
    )
    assert page.locator("img").count() == 0
    assert page.locator("h2", has_text=HOSTILE).count() == 1
