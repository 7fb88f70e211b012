"""A figure in a notebook's column: all of it is seen, and nothing is empty below."""

from pathlib import Path

import pytest
import torch
from browser import PATIENCE, wait_until

from gpt2_lesson import GPT2Model, widgets
from gpt2_lesson.corpora import story_model

TEXT = b"\nOne foggy dusk Tess found a red lamp"
IDS = torch.tensor([list(TEXT)])


def maps(steps: int) -> torch.Tensor:
    """Return attention maps (steps, 5, 5)."""
    mask = torch.ones(5, 5).tril().log()
    return (torch.randn(steps, 5, 5) + mask).softmax(-1)


FIGURES = {
    "ablation": lambda: widgets.ablation(story_model(), IDS, ord("s")),
    "arithmetic": widgets.arithmetic,
    "attention": lambda: widgets.attention(widgets.capture(story_model(), IDS)),
    "attention, 300 tokens": lambda: widgets.attention(
        widgets.capture(
            GPT2Model(256, 16, 1, 2, 300, 32),
            torch.arange(300)[None] % 90 + 33,
            ["token"] * 300,
        )
    ),
    "choose": lambda: widgets.choose(
        {name: {"scores": maps(1)[0], "weights": maps(1)[0]} for name in ("a", "b")},
        list("abcde"),
        meter=("leak", {"a": 0, "b": 1}),
    ),
    "compare": lambda: widgets.compare(
        {"a": maps(2), "b": maps(2)}, {"a": maps(2), "b": maps(2)}
    ),
    "parameters": lambda: widgets.parameters(story_model()),
    "sampling": lambda: widgets.sampling(widgets.capture(story_model(), IDS)),
    "scrub": lambda: widgets.scrub(
        maps(3), [0, 10, 20], list("abcde"), {"loss": [3.0, 2.0, 1.0]}
    ),
    "predict": lambda: widgets.attention(
        widgets.capture(story_model(), IDS), predict=True
    ),
    "trace": lambda: widgets.trace(widgets.capture(story_model(), IDS)),
}


HOLDS = """wide => {
  const frame = document.querySelector("iframe"), box = frame.getBoundingClientRect();
  const { width, bottom } = frame.parentNode.getBoundingClientRect();
  return box.width === wide && width === wide && bottom === box.bottom
    && getComputedStyle(frame.previousElementSibling).display === "none";
}"""
FITS = """wide => {
  const { scrollWidth, scrollHeight, clientHeight } = document.documentElement;
  const below = innerHeight - document.body.getBoundingClientRect().height;
  return innerWidth === wide && scrollWidth <= wide && scrollHeight === clientHeight
    && below >= 0 && below < 2;
}"""


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_as_high_as_it_needs(name: str, chromium, tmp_path: Path) -> None:
    """At each width that it has itself (there may be a side bar), and when it grows."""
    path = tmp_path / "page.html"
    path.write_text(f"<!doctype html>{FIGURES[name]()._frame()}", encoding="utf-8")
    page = chromium.new_page(viewport={"width": 1300, "height": 900})
    page.set_default_timeout(PATIENCE)
    page.goto(path.as_uri())
    frame = page.frame_locator("iframe")
    frame.locator("#figure[data-ready]").wait_for()
    if name.startswith("attention"):  # a list of heads takes room too
        frame.get_by_role("combobox", name="find", exact=True).select_option(
            "duplicate"
        )
    for width in (1264, 1000, 768, 390, 320):
        page.evaluate(
            "width => document.body.style = `margin:0;width:${width}px`", width
        )
        wait_until(page.frames[1], FITS, arg=width)
        wait_until(page, HOLDS, arg=width)
    if name == "predict":  # the map appears after the guess
        frame.locator(".token").nth(1).click()
    elif name != "arithmetic":  # a table unfolds
        frame.locator("summary").first.click()
    wait_until(page.frames[1], FITS, arg=320)
    page.close()
