"""`gpt2-lesson bench --figures`: how large and how quick an attention map is.

The case is that of GPT-2 small on 128 tokens, 12 layers x 12 heads, with weights that
pack well (few large ones) and with weights that hardly do (nearly equal ones).
"""

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import numpy as np

from gpt2_lesson.widgets import Figure, Record, attention

LAYERS, HEADS, TOKENS = 12, 12, 128
SPREADS = {"few large weights": 4.0, "nearly equal weights": 0.1}
LIMITS = {  # what a reader does not notice, or can wait for
    "size in a notebook, MB": 1.1,
    "time to paint, ms": 1000.0,
    "longest stall, ms": 200.0,
    "answer to the pointer, ms": 50.0,
}
# Notes when the figure stands painted, tasks of over 50 ms, and for each move of the
# pointer the time from the move until the page has changed.
WATCH = """
const seen = globalThis.measured = { paint: 0, stall: 0, hovers: [] };
new PerformanceObserver((list) => {
  seen.stall = Math.max(seen.stall, ...list.getEntries().map((task) => task.duration));
}).observe({ type: "longtask", buffered: true });
let moved = null;
for (const kind of ["pointerover", "pointermove"]) {
  document.addEventListener(kind, (event) => { moved = event.timeStamp; }, true);
}
new MutationObserver(() => {
  if (moved !== null) seen.hovers.push(performance.now() - moved);
  moved = null;
  if (seen.paint || !document.querySelector("#figure[data-ready]")) return;
  seen.paint = -1;
  requestAnimationFrame(() => setTimeout(() => {
    seen.paint = performance.now();
    document.documentElement.dataset.painted = "";
  }));
}).observe(document, { subtree: true, childList: true, attributes: true });
"""


def report(rounds: int) -> int:
    """Print the medians of `rounds` beside their limits; return 1 if one is over it."""
    over = 0
    print(f"attention map, {LAYERS} layers x {HEADS} heads, {TOKENS} tokens, "
          f"medians of {rounds} rounds")
    with browser() as chromium:
        for name, spread in SPREADS.items():
            found = measure(attention(record(spread)), chromium, rounds)
            print(name)
            for what, value in found.items():
                over += value > LIMITS[what]
                print(f"  {what:26} {value:8.2f}   (at most {LIMITS[what]:g})")
    return int(over > 0)


def record(spread: float) -> Record:
    """Return a record of random scores; a large `spread` gives few large weights."""
    draw = np.random.default_rng(0)
    shape = (LAYERS, HEADS, TOKENS, TOKENS)
    scores = spread * draw.standard_normal(shape, np.float32)
    weights = np.tril(np.exp(scores))
    sums = weights.sum(-1)
    ids = np.arange(TOKENS) % 90
    none = np.zeros((0, TOKENS), np.float32)
    return Record(
        tokens=[f"word{i}" if i % 7 else " " for i in ids], input_ids=ids,
        layers=list(range(LAYERS)), heads=list(range(HEADS)),
        weights=weights / sums[..., None], totals=np.log(sums),
        sizes=1 + draw.random(shape[:-1], np.float32),
        logits=np.zeros((TOKENS, 90), np.float32), lens_ids=none, lens_odds=none,
        stream=none, from_attention=none, from_mlp=none, vocabulary=[],
    )


def measure(figure: Figure, chromium, rounds: int) -> dict[str, float]:
    """Return the medians of what LIMITS names, in fresh pages of a browser."""
    bundle, metadata = figure._repr_mimebundle_()
    size = len(json.dumps([bundle, metadata], ensure_ascii=False).encode()) / 1e6
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "figure.html")
        figure.save_html(path)
        seen = [watch(path, chromium) for _ in range(rounds)]
    times = [median(column) for column in zip(*seen, strict=True)]
    return dict(zip(LIMITS, [size, *times], strict=True))


def watch(path: Path, chromium) -> tuple[float, float, float]:
    """Return ms to paint, of the longest stall, and from pointer to answer (median)."""
    page = chromium.new_page(viewport={"width": 1280, "height": 900})
    page.add_init_script(WATCH)
    page.goto(path.as_uri())
    page.wait_for_selector("html[data-painted]")
    boxes = [token.bounding_box() for token in page.locator("button.token").all()[::4]]
    for box in boxes:
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.wait_for_timeout(30)
    for key in ("End", "Home"):  # the last layer, and the first again
        page.locator("select").first.press(key)
        page.wait_for_timeout(30)
    seen = page.evaluate("measured")
    page.close()
    return seen["paint"], seen["stall"], median(seen["hovers"])


@contextmanager
def browser() -> Iterator:
    """Give this machine's Chromium. Raises ImportError or FileNotFoundError."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise ImportError(
            "the figures are measured in a browser, which Playwright drives: "
            "pip install playwright"
        ) from None
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        raise FileNotFoundError(
            "the figures are measured in Chromium, and there is none: "
            "apt-get install chromium"
        )
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        yield chromium
        chromium.close()
