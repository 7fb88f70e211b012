"""Take the README's picture of the attention map, attention_map.png, in Chromium."""

import io
import tempfile
from pathlib import Path

import torch
from PIL import Image

from gpt2_lesson import widgets
from gpt2_lesson.bench.figures import browser
from gpt2_lesson.corpora import story_model

FOLDER = Path(__file__).parent
TEXT = "\nOne foggy dusk Tess found a red lamp by the pond."


def attention_map() -> bytes:
    """Return the PNG of the map as a reader meets it, 256 colours."""
    ids = torch.tensor([list(TEXT.encode())])
    figure = widgets.attention(widgets.capture(story_model(), ids), layer=1, head=1)
    with tempfile.TemporaryDirectory() as folder, browser() as chromium:
        path = Path(folder) / "map.html"
        figure.save_html(path)
        page = chromium.new_page(viewport={"width": 1000, "height": figure.height})
        page.goto(path.as_uri())
        page.wait_for_selector("#figure[data-ready]")
        image = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    small = io.BytesIO()
    image.quantize(256).save(small, "png", optimize=True)
    return small.getvalue()


if __name__ == "__main__":
    (FOLDER / "attention_map.png").write_bytes(attention_map())
