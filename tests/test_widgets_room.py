"""A figure in a notebook's column: all of it is seen without scrolling inside it."""

from pathlib import Path

import pytest
import torch

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
    "attention, 300 tokens": lambda: widgets.attention(widgets.capture(
        GPT2Model(256, 16, 1, 2, 300, 32), torch.arange(300)[None] % 90 + 33,
        ["token"] * 300)),
    "choose": lambda: widgets.choose(
        {name: {"scores": maps(1)[0], "weights": maps(1)[0]} for name in ("a", "b")},
        list("abcde"), meter=("leak", {"a": 0, "b": 1})),
    "compare": lambda: widgets.compare({"a": maps(2), "b": maps(2)},
                                       {"a": maps(2), "b": maps(2)}),
    "parameters": lambda: widgets.parameters(story_model()),
    "sampling": lambda: widgets.sampling(widgets.capture(story_model(), IDS)),
    "scrub": lambda: widgets.scrub(maps(3), [0, 10, 20], list("abcde"),
                                   {"loss": [3.0, 2.0, 1.0]}),
    "trace": lambda: widgets.trace(widgets.capture(story_model(), IDS)),
}


@pytest.mark.parametrize("name", FIGURES)
def test_nothing_scrolls_inside(name: str, chromium, tmp_path: Path) -> None:
    """The figure's own width counts, not the page's: there may be a side bar."""
    path = tmp_path / "page.html"
    path.write_text(f"<!doctype html>{FIGURES[name]()._frame()}", encoding="utf-8")
    page = chromium.new_page(viewport={"width": 1300, "height": 900})
    page.goto(path.as_uri())
    frame = page.frame_locator("iframe")
    frame.locator("#figure[data-ready]").wait_for()
    if name.startswith("attention"):            # a list of heads takes room too
        frame.get_by_role("combobox", name="find", exact=True).select_option(
            "duplicate")
    for width in (1264, 1000, 850, 700, 390, 320):
        page.evaluate("width => document.body.style = `margin:0;width:${width}px`",
                      width)
        for _ in range(400):                    # until it is drawn for that width
            page.wait_for_timeout(50)
            wide, room, needed = page.frames[1].evaluate(
                "[innerWidth, innerHeight, document.documentElement.scrollHeight]")
            if wide == width and needed <= room:
                break
        assert wide == width and needed <= room, (wide, room, needed)
    page.close()
