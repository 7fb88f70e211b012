"""Take the README's pictures in Chromium: front_page.png and attention_map.png."""

import io
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image

from gpt2_lesson import widgets
from gpt2_lesson.bench.figures import browser
from gpt2_lesson.cli import main
from gpt2_lesson.corpora import story_model

FOLDER = Path(__file__).parent
TEXT = "\nOne foggy dusk Tess found a red lamp by the pond."
ABLATED = "layer 0 head 1"


def attention_map(path: Path) -> tuple[int, int]:
    """Write the page of an attention map; return its width and height."""
    ids = torch.tensor([list(TEXT.encode())])
    figure = widgets.attention(widgets.capture(story_model(), ids), layer=1, head=1)
    figure.save_html(path)
    return 1000, figure.height


def front_page(path: Path) -> tuple[int, int]:
    """Write the front page; return the width and height of the part to show."""
    title = ["--title", "GPT-2, lesson by lesson"]
    assert main(["front", "stories", "--out", str(path), *title]) == 0
    return 900, 1084


def picture(write: Callable[[Path], tuple[int, int]]) -> bytes:
    """Return the PNG of a page as a reader meets it, 256 colours."""
    with tempfile.TemporaryDirectory() as folder, browser() as chromium:
        path = Path(folder) / "page.html"
        width, height = write(path)
        page = chromium.new_page(viewport={"width": width, "height": height})
        page.goto(path.as_uri())
        page.wait_for_selector("[data-ready]")
        if write is front_page:
            page.get_by_role("button", name=ABLATED).click()
            page.wait_for_timeout(2000)
        shot = page.screenshot(full_page=write is attention_map)
        image = Image.open(io.BytesIO(shot)).convert("RGB")
    small = io.BytesIO()
    image.quantize(256).save(small, "png", optimize=True)
    return small.getvalue()


if __name__ == "__main__":
    for write in (attention_map, front_page):
        (FOLDER / f"{write.__name__}.png").write_bytes(picture(write))
