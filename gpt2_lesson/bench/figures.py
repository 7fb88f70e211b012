"""How large and how quick an attention map is.

The cases are GPT-2 small on 128 tokens, 12 layers x 12 heads, with weights that pack
well (few large ones) and with weights that hardly do (nearly equal ones), and one head
on all the tokens that GPT-2 reads.
"""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import numpy as np

from gpt2_lesson.widgets import Figure, Record, attention

CASES = {  # standard deviation of the scores, layers, heads, tokens
    "12 x 12 heads, 128 tokens, few large weights": (4.0, 12, 12, 128),
    "12 x 12 heads, 128 tokens, nearly equal weights": (0.1, 12, 12, 128),
    "one head, 1024 tokens": (1.0, 1, 1, 1024),
}
MOVES = 32  # of the pointer, at most
PATIENCE = 600_000  # milliseconds for an answer, on a busy machine
LIMITS = {  # what a reader does not notice, or can wait for
    "size in a notebook, MB": 1.1,
    "time to paint, ms": 1000.0,
    "longest stall, ms": 200.0,
    "answer to the pointer, ms": 50.0,
}
# The centres of the tokens in view; the last is the one that is asked about already.
IN_VIEW = """() => [...document.querySelectorAll("button.token")].slice(0, -1)
  .map((token) => {
    const { left, top, width, height } = token.getBoundingClientRect();
    return { token, x: left + width / 2, y: top + height / 2 };
  })
  .filter(({ token, x, y }) => token.contains(document.elementFromPoint(x, y)))
  .map(({ x, y }) => [x, y])"""
PAINTED = """() => new Promise((done) => requestAnimationFrame(() =>
  requestAnimationFrame(() => setTimeout(done))))"""
# Notes when the figure stands painted, tasks of over 50 ms, and for each move of the
# pointer the time from the move until the page has changed.
WATCH = """
const seen = globalThis.measured = { paint: 0, stall: 0, hovers: [] };
const note = (tasks) => {
  seen.stall = Math.max(seen.stall, ...tasks.map((task) => task.duration));
};
const tasks = new PerformanceObserver((list) => note(list.getEntries()));
globalThis.finished = () => { note(tasks.takeRecords()); return seen; };
tasks.observe({ type: "longtask", buffered: true });
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
    print(f"attention map, medians of {rounds} rounds")
    with browser() as chromium:
        for name, case in CASES.items():
            found = measure(attention(record(*case)), chromium, rounds)
            print(name)
            for what, value in found.items():
                over += value > LIMITS[what]
                print(f"  {what:26} {value:8.2f}   (at most {LIMITS[what]:g})")
    return int(over > 0)


def record(std: float, layers: int, heads: int, tokens: int) -> Record:
    """Return a record of random scores; a large `std` gives few large weights."""
    draw = np.random.default_rng(0)
    shape = (layers, heads, tokens, tokens)
    scores = std * draw.standard_normal(shape, np.float32)
    weights = np.tril(np.exp(scores))
    sums = weights.sum(-1)
    ids = np.arange(tokens) % 90
    none = np.zeros((0, tokens), np.float32)
    return Record(
        tokens=[f"word{i}" if i % 7 else " " for i in ids],
        input_ids=ids,
        layers=list(range(layers)),
        heads=list(range(heads)),
        weights=weights / sums[..., None],
        totals=np.log(sums),
        sizes=1 + draw.random(shape[:-1], np.float32),
        logits=np.zeros((tokens, 90), np.float32),
        lens_ids=none,
        lens_probs=none,
        stream=none,
        from_attention=none,
        from_mlp=none,
        vocabulary=[],
        lens_next=none,
    )


def measure(
    figure: Figure, chromium, rounds: int, of: Callable[[tuple], float] = median
) -> dict[str, float]:
    """Return the medians of what LIMITS names, in fresh pages of a browser.

    `of` may be another choice among the rounds, such as `min`. Raises RuntimeError for
    a figure that asks for anything outside its page, TimeoutError of Playwright for one
    that does not answer.
    """
    bundle, metadata = figure._repr_mimebundle_()
    size = len(json.dumps([bundle, metadata], ensure_ascii=False).encode()) / 1e6
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "figure.html")
        figure.save_html(path)
        seen = [watch(path, chromium) for _ in range(rounds)]
    times = [of(column) for column in zip(*seen, strict=True)]
    return dict(zip(LIMITS, [size, *times], strict=True))


def watch(path: Path, chromium) -> tuple[float, float, float]:
    """Return ms to paint, of the longest stall, and from pointer to answer (median)."""
    page = chromium.new_page(viewport={"width": 1280, "height": 900}, offline=True)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.set_default_timeout(PATIENCE)
    page.add_init_script(WATCH)
    page.goto(path.as_uri())
    page.wait_for_selector("html[data-painted]")
    places = page.evaluate(IN_VIEW)
    for i, place in enumerate(places[:: -(-len(places) // MOVES)]):
        page.mouse.move(*place)
        page.wait_for_function("i => measured.hovers.length > i", arg=i)
    for key in ("End", "Home"):  # the last layer, and the first again
        page.locator("select").first.press(key)
        page.evaluate(PAINTED)
    seen = page.evaluate("finished()")
    page.close()
    if outside := [url for url in asked if not url.startswith(("file:", "data:"))]:
        raise RuntimeError(
            f"the figure asked for {outside[0]}: it must live without a network"
        )
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
            executable_path=found, args=["--no-sandbox", "--disable-gpu"]
        )
        yield chromium
        chromium.close()
