"""Settings to choose from, and the training scrubber, as a reader sees them."""

import numpy as np
import pytest
import torch
from browser import wait_until

from gpt2_lesson import widgets
from gpt2_lesson.causal_masking import causal_mask
from gpt2_lesson.widgets import frames as frames_module
from gpt2_lesson.widgets.figure import MOST_BYTES
from gpt2_lesson.widgets.packing import unpack_triangles

PNG = bytes(24)  # a picture without any height
HOSTILE = [
    "</script><img src=x onerror=alert(1)>",
    "\u2028",
    "",
    "x" * 40,
    "😀",
    "שלום",
]


def masks() -> dict[str, dict[str, torch.Tensor]]:
    """Return the weights of six tokens under three masks."""
    scores = torch.randn(6, 6)
    right = causal_mask(6)
    shown = {"right": right, "inverted": ~right, "none": torch.ones_like(right)}
    return {
        name: {
            "weights": scores.masked_fill(~mask, -torch.inf).softmax(-1),
            "mask": mask.float(),
        }
        for name, mask in shown.items()
    }


def runs(count: int, size: int) -> torch.Tensor:
    """Return causal weights (count, size, size), sharper from map to map."""
    scores = torch.randn(size, size) * torch.arange(count)[:, None, None]
    return scores.masked_fill(~causal_mask(size), -torch.inf).softmax(-1)


def test_a_setting_shows_its_own_numbers_meter_and_nan(open_figure) -> None:
    frames = masks()
    leak = {"right": 0.0, "inverted": 0.8, "none": 0.4}
    figure = widgets.choose(
        frames,
        list("abcdef"),
        numbers={name: f"about {name}" for name in frames},
        meter=("leak", leak),
    )
    page = open_figure(figure)
    meter = page.get_by_role("meter", name="leak")
    assert meter.get_attribute("aria-valuetext") == "none (exactly 0)"
    page.get_by_role("radio", name="inverted").check()
    assert page.locator(".frame-number").inner_text() == "about inverted"
    assert meter.get_attribute("aria-valuetext") == "0.800"
    assert "not a number: weights, row “f”" in page.locator(".said").inner_text()
    page.locator("canvas").first.focus()
    for key in ("ArrowDown", "ArrowRight", "ArrowRight", "ArrowRight"):
        page.keyboard.press(key)
    wanted = frames["inverted"]["weights"][0, 3].item()
    assert f"row “a”, column “d”: weights {wanted:.4f}, mask 1.0000" in (
        page.locator(".said").inner_text()
    )


def test_the_axes_of_influence_and_the_meter_in_the_still_picture(monkeypatch) -> None:
    drawn = {}
    monkeypatch.setattr(
        frames_module.plots,
        "as_png",
        lambda *_, **settings: drawn.update(settings) or PNG,
    )
    maps = {name: {"influence": torch.eye(2)} for name in ("a", "b", "c")}
    meter = ("leak", {"a": 0.561, "b": 0.0, "c": 1.0})
    figure = widgets.choose(maps, ["x", "y"], meter=meter)
    assert figure.state["axes"] == [
        "row: whose output moves; column: which token was changed"
    ]
    assert drawn["title"] == ["a: leak 0.56", "b: leak 0", "c: leak 1.00"]
    own = widgets.choose(maps, ["x", "y"], axes={"influence": "mine"})
    assert own.state["axes"] == ["mine"] and drawn["title"] == ["a", "b", "c"]


def test_the_table_holds_every_number_and_the_sum_of_each_row(open_figure) -> None:
    frames = masks()
    page = open_figure(widgets.choose(frames, list("abcdef")))
    page.get_by_text("Table: weights").click()
    page.locator("tbody tr").first.wait_for()
    rows = page.locator("tbody tr").all()
    cells = [[float(x) for x in row.locator("td").all_inner_texts()] for row in rows]
    np.testing.assert_allclose(
        np.array(cells)[:, :6], frames["right"]["weights"], atol=5.1e-5
    )
    np.testing.assert_allclose(np.array(cells)[:, 6], 1.0)


def test_no_token_runs_and_all_fit_a_phone(open_figure) -> None:
    size = len(HOSTILE)
    maps = runs(3, size)
    for figure in (
        widgets.choose(
            {HOSTILE[0]: {HOSTILE[0]: maps[0]}},
            HOSTILE,
            numbers={HOSTILE[0]: HOSTILE[0]},
        ),
        widgets.scrub(maps, [0, 1, 2], HOSTILE, {HOSTILE[0]: [1.0, 2.0, 3.0]}),
    ):
        page = open_figure(figure, width=390, dark=True)
        for summary in page.locator("summary").all():
            summary.click()
        assert page.locator("img").count() == 0
        assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_what_does_not_fit_together_is_refused() -> None:
    frames = masks()
    with pytest.raises(ValueError, match="expected \\(2, 2\\) for 2 tokens"):
        widgets.choose(frames, ["a", "b"])
    with pytest.raises(ValueError, match="'none' has the maps"):
        widgets.choose(frames | {"none": {"other": torch.eye(6)}}, list("abcdef"))
    with pytest.raises(ValueError, match="meter is for"):
        widgets.choose(frames, list("abcdef"), meter=("leak", {"right": 0.0}))
    maps = runs(2, 3)
    with pytest.raises(ValueError, match="above the diagonal"):
        widgets.scrub(maps.mT, [0, 1], list("abc"))
    with pytest.raises(ValueError, match="numbers that rise"):
        widgets.scrub(maps, [1, 1], list("abc"))
    with pytest.raises(ValueError, match="outside 0 to 1"):
        widgets.scrub(maps * 2, [0, 1], list("abc"))
    with pytest.raises(ValueError, match="curve 'loss'"):
        widgets.scrub(maps, [0, 1], list("abc"), {"loss": [1.0]})


def test_the_slider_moves_map_marker_and_numbers(open_figure) -> None:
    maps, steps = runs(5, 6), [0, 10, 30, 70, 200]
    loss = ([0, 20, 40, 200], [4.0, 3.0, 2.0, 1.0])
    page = open_figure(
        widgets.scrub(
            maps, steps, list("abcdef"), {"loss": loss, "score": np.linspace(0, 1, 5)}
        )
    )
    page.locator("canvas").click(position={"x": 5, "y": 5})
    page.get_by_role("slider").focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    said = page.locator(".said").inner_text()
    assert said.startswith("Step 10, loss ~3.500 nats per token, score 0.250.")
    page.locator("canvas").focus()
    for key in ("End", "Home", "ArrowDown", "ArrowDown", "ArrowRight"):
        page.keyboard.press(key)
    weight = page.locator(".said").inner_text().split("weight ")[1][:6]
    assert float(weight) == pytest.approx(maps[1, 2, 1].item(), abs=6e-5)
    page.get_by_text("Table").click()
    page.locator("tbody tr").first.wait_for()
    last = page.locator("tbody tr").last.locator("td").all_inner_texts()
    assert last[:2] == ["1.000 nats per token", "1.000"]
    assert float(last[2]) == pytest.approx(maps[4, 2, 1].item(), abs=6e-5)


def test_twenty_checkpoints_of_128_tokens_fit_and_more_are_approximate() -> None:
    maps = runs(20, 128)
    figure = widgets.scrub(maps, range(20), [str(i) for i in range(128)])
    assert len(figure._frame()) < MOST_BYTES
    assert figure.state["maps"]["code"] == "u16"
    back = unpack_triangles(figure.state["maps"], 20, 128)
    np.testing.assert_allclose(back, maps, atol=7.7e-6)
    flat = torch.randn(50, 128, 128).masked_fill(~causal_mask(128), -torch.inf)
    more = widgets.scrub(flat.softmax(-1), range(50), list("x" * 128))
    assert len(more._frame()) < MOST_BYTES
    assert more.state["maps"]["code"] == "u8sqrt"


def test_it_opens_at_the_end_with_the_text_coloured(open_figure) -> None:
    """Also on a phone, where too small cells have the names of the marked ones."""
    maps = torch.eye(40).roll(-3, 1).tril().expand(2, 40, 40).clone()
    maps[1, 39] = torch.eye(40)[7]
    tokens = [chr(65 + i) for i in range(40)]
    page = open_figure(widgets.scrub(maps, [0, 9], tokens), width=390)
    assert page.locator(".said").inner_text().startswith("Step 9")
    assert page.locator("canvas").bounding_box()["width"] > 300
    dark = page.locator(".strip .token").evaluate_all(
        "nodes => nodes.flatMap((node, i) => node.style.background === "
        "'rgb(8, 48, 107)' ? [i] : [])"
    )
    assert dark == [7]
    assert page.locator(".cell-names .chosen").all_inner_texts() == [
        tokens[39],
        tokens[7],
    ]
    page.locator(".strip .token").nth(20).click()
    assert f"“{tokens[20]}” (position 20)" in page.locator(".said").inner_text()


def test_the_button_steps_where_motion_is_reduced(open_figure) -> None:
    page = open_figure(widgets.scrub(runs(3, 4), [5, 6, 7], list("abcd")))
    assert page.get_by_role("button", name="play").count() == 0
    assert page.locator(".said").inner_text().startswith("Step 7")
    page.get_by_role("button", name="next").click()  # from the end to the start
    assert page.locator(".said").inner_text().startswith("Step 5")


def test_played_it_goes_to_the_end_and_stops(open_figure) -> None:
    page = open_figure(widgets.scrub(runs(5, 4), range(5), list("abcd")), motion=True)
    page.get_by_role("slider").press("Home")
    page.locator(".said").evaluate("""node => {
      globalThis.steps = [];
      new MutationObserver(() => steps.push(Number(node.textContent.match(/\\d+/)[0])))
        .observe(node, { childList: true });
    }""")
    page.evaluate("""() => {
      const [begin, end] = [setInterval, clearInterval];
      globalThis.clocks = new Set();
      globalThis.setInterval = (...given) => {
        const clock = begin(...given);
        clocks.add(clock);
        return clock;
      };
      globalThis.clearInterval = (clock) => { end(clock); clocks.delete(clock); };
    }""")
    play = page.get_by_role("button", name="play")
    play.click()
    wait_until(page, "() => steps.length === 4")
    assert play.get_attribute("aria-pressed") == "false"
    assert page.evaluate("[steps, clocks.size]") == [[1, 2, 3, 4], 0]


def test_names_in_the_alt_text_keep_their_capitals() -> None:
    alt = widgets.choose({"QK": {"scores of K": torch.eye(2)}}, ["a", "b"]).alt
    assert alt == "Scores of K at 1 setting: QK."
