"""The attention map, as a reader meets it: what is said, painted, and done by keys."""

import io
import re
from dataclasses import replace
from importlib.resources import files

import numpy as np
import pytest
import torch
from matplotlib import colormaps
from PIL import Image

from gpt2_lesson import widgets
from gpt2_lesson.corpora import story_model
from gpt2_lesson.corpora.stories import stories
from gpt2_lesson.widgets.figure import MOST_BYTES
from gpt2_lesson.widgets.labels import head_labels
from gpt2_lesson.widgets.packing import unpack_triangles

TEXT = b"\nTess found a lamp. Tess ran."
NASTY = [
    "</script><img src=x onerror='window.ran=1'>",
    "<img src=x onerror=ran=1>",
    "javascript:window.ran=1",
    "\u2028",
    "\u2029",
    "",
    " ",
    "\n",
    "\t",
    "a" * 40,
    "\U0001f469\u200d\U0001f52c",
    "\u05e9\u05dc\u05d5\u05dd",
    "\u202eabc",
    "${window.ran=1}",
    "'\"><svg onload=ran=1>",
    "&lt;b&gt;",
] * 2


@pytest.fixture(scope="module")
def record() -> widgets.Record:
    return widgets.capture(story_model(), torch.tensor([list(TEXT)]))


def made(record, weights: np.ndarray, ids=None, tokens=None) -> widgets.Record:
    """Return a record of these weights (L, H, T, T)."""
    num_layers, num_heads, size, _ = weights.shape
    return replace(
        record,
        weights=weights,
        totals=np.zeros(weights.shape[:3]),
        sizes=np.ones(weights.shape[:3]),
        layers=list(range(num_layers)),
        heads=list(range(num_heads)),
        tokens=tokens or ["a"] * size,
        input_ids=np.arange(size) if ids is None else np.array(ids),
    )


def spread(num_layers: int, num_heads: int, size: int, sharp: float) -> np.ndarray:
    scores = np.random.default_rng(0).normal(size=(num_layers, num_heads, size, size))
    powers = np.exp(sharp * scores.astype(np.float32)) * np.tri(size, dtype=np.float32)
    return powers / powers.sum(-1, keepdims=True)


# ---------------------------------------------------------------- names for heads


def test_heads_made_for_it():
    """Heads that look at one kind of place get its name, score 1, and no other."""
    ids = [5, 6, 7, 5, 6, 8, 7, 5, 9, 6]
    size = len(ids)
    first, itself = np.zeros((size, size)), np.eye(size)
    first[:, 0] = 1
    previous = np.eye(size, k=-1)
    previous[0, 0] = 1
    induction, duplicate = first.copy(), first.copy()
    for t in range(size):
        seen = [s for s in range(t) if ids[s] == ids[t]]
        if seen:
            induction[t], duplicate[t] = 0, 0
            induction[t, seen[-1] + 1], duplicate[t, seen[-1]] = 1, 1
    even = np.tri(size) / np.arange(1, size + 1)[:, None]
    maps = np.stack([previous, first, itself, induction, duplicate, even])[None]
    labels = {label.name: label for label in head_labels(maps, ids)}
    names = [
        "previous token",
        "first token",
        "itself",
        "induction",
        "duplicate",
        "broad",
    ]
    assert list(labels) == names
    for i, name in enumerate(names):
        assert labels[name].scores[0, i] == pytest.approx(1)
        own = [n for n in names if labels[n].scores[0, i] >= labels[n].threshold]
        assert name in own
    assert [n for n in names if labels[n].scores[0, 5] >= labels[n].threshold] == [
        "broad"
    ]  # even weights earn no other name


def test_scores_by_loops(record):
    """Induction and duplicate, reckoned query by query."""
    labels = {
        label.name: label for label in head_labels(record.weights, record.input_ids)
    }
    ids = list(TEXT)
    induction, duplicate = [], []
    for t in range(len(ids)):
        seen = [s for s in range(t) if ids[s] == ids[t]]
        after = [s + 1 for s in seen if s + 1 < t]
        row = record.weights[2, 1, t]
        duplicate += [row[seen].sum()] if seen else []
        induction += [row[after].sum()] if after else []
    assert labels["induction"].scores[2, 1] == pytest.approx(np.mean(induction))
    assert labels["duplicate"].scores[2, 1] == pytest.approx(np.mean(duplicate))


def test_no_token_twice(record):
    labels = head_labels(np.eye(4)[None, None], [1, 2, 3, 4])
    assert [label.name for label in labels if label.scores is None] == [
        "induction",
        "duplicate",
    ]


# ---------------------------------------------------------------- what is in it


def test_short_texts_are_exact(record):
    figure = widgets.attention(record)
    packed = figure.state["weights"]
    assert packed["code"] == "u16"
    weights = unpack_triangles(packed, 16, len(TEXT)).reshape(record.weights.shape)
    assert abs(weights - record.weights).max() <= 7.7e-6


@pytest.mark.parametrize("sharp", [0.02, 1])
def test_gpt2_small_fits(record, sharp):
    """12 layers x 12 heads x 128 tokens, the hardest to pack included."""
    figure = widgets.attention(made(record, spread(12, 12, 128, sharp)))
    assert len(figure._frame()) < MOST_BYTES
    assert figure.state["weights"]["code"] == "u8sqrt"


def test_a_thousand_tokens(record):
    """One head fits; two layers do not, and the error's way out works."""
    long = made(record, spread(2, 4, 1024, 1))
    with pytest.raises(ValueError, match=r"layers=\[0\], heads=\[0\]"):
        widgets.attention(long)
    figure = widgets.attention(long, layers=[1], heads=[2])
    assert (figure.state["layers"], figure.state["heads"]) == ([1], [2])
    assert len(figure._frame()) < MOST_BYTES


def test_a_part_of_a_record(record):
    """Layers and heads go by their numbers in the model."""
    part = widgets.capture(
        story_model(), torch.tensor([list(TEXT)]), layers=[3, 1], heads=[2]
    )
    figure = widgets.attention(part, layer=1)
    weights = record.weights[1, 2, -1]
    assert f'layer 1 head 2: "." (token {len(TEXT) - 1})' in figure.alt
    assert f"{weights.max():.2f}." in figure.alt
    for wrong in (
        {"layer": 0},
        {"head": 0},
        {"layers": [2]},
        {"heads": []},
        {"query": len(TEXT)},
        {"measure": "entropy"},
    ):
        with pytest.raises(ValueError):
            widgets.attention(part, **wrong)


def test_a_model_that_broke_is_named(record):
    weights = record.weights.copy()
    weights[1, 0, 3] = np.nan
    with pytest.raises(ValueError, match="NaN or infinity"):
        widgets.attention(replace(record, weights=weights))


@pytest.mark.filterwarnings("error")
def test_each_measure_has_its_own_sentence(record):
    weights = np.array([[1.0, 0, 0], [0.5, 0.5, 0], [0.996, 0.002, 0.002]])[None, None]
    small = replace(made(record, weights), totals=np.full((1, 1, 3), 2.0))
    alts = {
        measure: widgets.attention(small, measure=measure).alt
        for measure in ("weights", "scores", "value-weighted")
    }
    start = 'Attention map, layer 0 head 0: "a" (token 2) '
    assert alts == {
        "weights": start + 'attends most to "a" (token 0), 1.00.',
        "scores": start + 'scores "a" (token 0) highest, 2.00.',
        "value-weighted": start + 'gets most from "a" (token 0), 1.00 of all by weight '
        "times size of the value.",
    }
    low = replace(small, totals=np.full((1, 1, 3), 0.01))
    assert "highest, 0.00599." in widgets.attention(low, measure="scores").alt
    idle = replace(small, sizes=np.zeros((1, 1, 3)))
    assert widgets.attention(idle, measure="value-weighted").alt == (
        start + "gets nothing from any token."
    )


def test_a_query_that_is_no_number_is_named(record):
    with pytest.raises(TypeError, match="query is '1', expected a whole number"):
        widgets.attention(record, query="1")
    with pytest.raises(TypeError, match="of type NoneType, expected a GPT2Model"):
        widgets.capture(None, torch.tensor([[1]]))


@pytest.mark.filterwarnings("error")
def test_long_and_foreign_tokens_leave_room_for_the_picture(record):
    tokens = ["\u65e5\u672c", "a" * 300, *"bcd"]
    weights = np.tri(5)[None, None] / np.arange(1, 6)[:, None]
    figure = widgets.attention(made(record, weights, tokens=tokens))
    widgets.scrub(weights[0], [0], tokens)
    pixels = np.asarray(Image.open(io.BytesIO(figure.picture)).convert("RGB"), int)
    assert (pixels[..., 2] - pixels[..., 0] > 60).mean() > 0.01  # blue cells


def test_still_picture(record):
    """Small, in the course's style, and for each measure; a guess is not told."""
    for measure in ("weights", "scores", "value-weighted"):
        picture = widgets.attention(record, measure=measure).picture
        assert 2_000 < len(picture) < 60_000
        assert Image.open(io.BytesIO(picture)).format == "PNG"
    alt = widgets.attention(record, layer=1, head=1, predict=True).alt
    assert alt.startswith("Guess") and "0." not in alt


# ---------------------------------------------------------------- on the page

PIXELS = """([canvas, places]) => {
  const scale = canvas.width / parseFloat(canvas.style.width);
  return places.map(([x, y]) => Array.from(canvas.getContext("2d")
    .getImageData(Math.floor(x * scale), Math.floor(y * scale), 1, 1).data));
}"""


def pixels(page, selector: str, places: list) -> list:
    return page.evaluate(PIXELS, [page.locator(selector).element_handle(), places])


def chooser(page, name: str):
    return page.get_by_role("combobox", name=name, exact=True)


def dark_shares() -> np.ndarray:
    """Return the 256 colours (256, 3) between the nine of colours.js, for the dark."""
    folder = files("gpt2_lesson.widgets").joinpath("js", "numbers")
    source = folder.joinpath("colours.js").read_text(encoding="utf-8")
    shares = source[source.index("shares: {") :]
    stops = re.findall("#([0-9a-f]{6})", re.search(r"dark: \[(.*?)\]", shares)[1])
    rgb = np.array([list(bytes.fromhex(stop)) for stop in stops])
    assert rgb.shape == (9, 3)
    places = np.linspace(0, 8, 256)
    return np.stack([np.interp(places, range(9), part) for part in rgb.T], -1)


@pytest.mark.parametrize("dark", [False, True])
def test_colours_of_cells(record, open_figure, dark):
    """Each cell has the colour of its weight; the future has none."""
    page = open_figure(widgets.attention(record, layer=2, head=1), dark=dark)
    size = len(TEXT)
    cell = page.locator(".att-masked").bounding_box()["width"] / size
    places = [(t, s) for t in range(0, size, 3) for s in range(0, size, 2)]
    night = dark_shares() if dark else None
    got = pixels(
        page, ".att-masked", [[(s + 0.5) * cell, (t + 0.5) * cell] for t, s in places]
    )
    for (t, s), colour in zip(places, got, strict=True):
        share = float(record.weights[2, 1, t, s])
        if s > t:
            assert colour == [0, 0, 0, 0]
        elif dark:
            assert abs(night[round(share * 255)] - colour[:3]).max() <= 4, (t, s, share)
        else:
            blue = 255 * np.array(colormaps["Blues"](round(share * 255))[:3])
            assert abs(blue - colour[:3]).max() <= 4, (t, s, share)


@pytest.mark.parametrize("width", [756, 768, 1000])
def test_a_whole_story_has_room_beside_all_heads(open_figure, width: int) -> None:
    """The map of 190 tokens and the small maps: nothing of them is scrolled away."""
    ids = torch.tensor([list(stories(250).encode()[:190])])
    page = open_figure(
        widgets.attention(widgets.capture(story_model(), ids)), width=width
    )
    room = """[...document.querySelectorAll(".att-box")].map((box) =>
      box.getBoundingClientRect().right
      - box.querySelector("canvas").getBoundingClientRect().right)"""
    assert min(page.evaluate(room)) >= 0


def test_colours_of_small_maps(record, open_figure):
    """The grid has layers as rows and heads as columns."""
    weights = np.zeros((2, 3, 4, 4))
    weights[..., 0] = 1
    weights[1, 2] = np.eye(4)
    page = open_figure(widgets.attention(made(record, weights)))
    side, step = 62, 65
    at = [
        [26 + head * step + side * 7 / 8, 18 + layer * step + side * 7 / 8]
        for layer in range(2)
        for head in range(3)
    ]
    dark = [sum(colour[:3]) < 300 for colour in pixels(page, ".att-heads canvas", at)]
    assert dark == [False] * 5 + [True]


def test_sentence_and_row(record, open_figure):
    """What is said and listed is the model's; the listed numbers add up to 1."""
    page = open_figure(widgets.attention(record, layer=1, head=0, query=20))
    row = record.weights[1, 0, 20]
    key = int(row.argmax())
    said = page.locator(".said").first.inner_text()
    assert said.startswith("layer 1 head 0:") and said.endswith(f", {row[key]:.2f}.")
    assert f"(token {key})" in said or "itself" in said
    numbers = [float(x) for x in page.locator(".att-number").all_inner_texts()]
    assert numbers[:8] == pytest.approx(np.sort(row)[::-1][:8], abs=1e-4)
    assert sum(numbers) == pytest.approx(1, abs=5e-4) and len(numbers) == 9
    assert page.get_by_text("these add up to 1.0000").count() == 1
    page.locator("summary").first.click()
    page.locator("details td").first.wait_for()
    cells = page.locator("details").first.locator("td").all_inner_texts()
    assert [float(x) for x in cells[1::4]] == pytest.approx(row[:21], abs=1e-4)


def test_mouse(record, open_figure):
    """Pointing chooses, a click holds, a second click lets go."""
    page = open_figure(widgets.attention(record, query=5))
    token = page.locator(".token")
    title = page.locator(".att-row h2")
    token.nth(9).hover()
    assert "(token 9)" in title.inner_text()
    token.nth(9).click()
    token.nth(12).hover()
    assert "(token 9)" in title.inner_text()
    assert token.nth(9).get_attribute("aria-pressed") == "true"
    token.nth(9).click()
    token.nth(12).hover()
    assert "(token 12)" in title.inner_text()
    box = page.locator(".att-masked").bounding_box()
    cell = box["width"] / len(TEXT)
    page.mouse.move(box["x"] + 4.5 * cell, box["y"] + 20.5 * cell)
    assert (
        f"{record.weights[0, 0, 20, 4]:.4f}"
        in page.locator(".att-map .att-reading").inner_text()
    )
    page.mouse.move(box["x"] + 25.5 * cell, box["y"] + 21.5 * cell)  # the future
    assert "(token 21)" in title.inner_text()
    grid = page.locator(".att-heads canvas")
    grid.click(position={"x": 26 + 2 * 83 + 20, "y": 18 + 83 + 20})
    assert "layer 1 head 2" in page.locator(".att-map h2").inner_text()


def test_keys(record, open_figure):
    """Text, heads and layers are walked by keys, with one stop for each part."""
    page = open_figure(widgets.attention(record, layer=1, head=1, query=5))
    page.locator(".token[tabindex='0']").focus()
    title = page.locator(".att-map h2")
    for key, query, head in [
        ("ArrowRight", 6, "layer 1 head 1"),
        ("ArrowDown", 6, "layer 1 head 2"),
        ("PageDown", 6, "layer 2 head 2"),
        ("Home", 0, "layer 2"),
        ("End", len(TEXT) - 1, "layer 2 head 2"),
    ]:
        page.keyboard.press(key)
        assert f"(token {query})" in page.locator(".att-row h2").inner_text()
        assert head in title.inner_text()
    assert page.locator(".token[tabindex='0']").count() == 1
    page.keyboard.press("Enter")
    assert page.locator(".token[aria-pressed='true']").count() == 1
    page.keyboard.press("Escape")
    assert page.locator(".token[aria-pressed='true']").count() == 0
    page.locator(".att-masked").focus()
    page.keyboard.press("ArrowUp")
    assert f"(token {len(TEXT) - 2})" in page.locator(".att-row h2").inner_text()
    page.locator(".att-heads canvas").focus()
    page.keyboard.press("ArrowLeft")
    assert "layer 2 head 1" in title.inner_text()


def test_measures_and_heads(record, open_figure):
    page = open_figure(widgets.attention(record, layer=2, head=1, query=25))
    chooser(page, "as").select_option("value-weighted")
    share = record.weights[2, 1, 25] * record.sizes[2, 1]
    first = page.locator(".att-number").first
    assert float(first.inner_text()) == pytest.approx(
        (share / share.sum()).max(), abs=2e-4
    )
    chooser(page, "as").select_option("scores")
    score = np.log(record.weights[2, 1, 25].max()) + record.totals[2, 1, 25]
    assert float(first.inner_text().replace("−", "-")) == pytest.approx(score, abs=0.01)
    assert chooser(page, "show").is_disabled()
    chooser(page, "as").select_option("weights")
    chooser(page, "show").select_option("average")
    assert float(first.inner_text()) == pytest.approx(
        record.weights[2, :, 25].mean(0).max(), abs=1e-4
    )
    assert "add up to 1.0000" in page.locator(".att-row").inner_text()
    chooser(page, "show").select_option("largest")
    assert float(first.inner_text()) == pytest.approx(
        record.weights[2, :, 25].max(), abs=1e-4
    )
    assert "need not add up to 1" in page.locator(".att-row").inner_text()


def test_finding_heads(record, open_figure):
    """A name dims the heads without it and lists the best, which can be chosen."""
    weights = spread(2, 3, 12, 0.5)
    weights[1, 1] = np.eye(12, k=-1)
    weights[1, 1, 0, 0] = 1
    page = open_figure(widgets.attention(made(record, weights)))
    chooser(page, "find").select_option("previous token")
    best = page.locator(".att-best button")
    assert best.first.inner_text() == "layer 1 head 1: 1.00"
    best.first.click()
    assert "layer 1 head 1" in page.locator(".att-map h2").inner_text()
    assert "previous token 1.00" in page.locator(".att-heads .att-reading").inner_text()
    chooser(page, "find").select_option("induction")
    assert "no token occurs twice" in page.locator(".att-best").inner_text()


def test_the_picture_of_a_question_does_not_tell_the_answer(record) -> None:
    """With other weights it is the same picture; of the answer it is not."""
    other = replace(record, weights=record.weights[::-1].copy())
    asked, told = (
        [
            widgets.attention(r, query=12, predict=predict, alt="a").picture
            for r in (record, other)
        ]
        for predict in (True, False)
    )
    assert asked[0] == asked[1] and told[0] != told[1]


def test_rows_hold_no_zeros_and_are_read_downwards(record, open_figure):
    """What would read 0.0000 is in the rest; two columns, one after the other."""
    row = np.array([0.6, 0, 0.3, 0.00001, 0.06, 0, 0.03, 0.00999])
    weights = np.tile(np.eye(8), (1, 1, 1, 1))
    weights[0, 0, 7] = row
    page = open_figure(widgets.attention(made(record, weights)))
    numbers = page.locator(".att-number").all_inner_texts()
    assert numbers == ["0.6000", "0.3000", "0.0600", "0.0300", "0.0100", "0.0000"]
    assert page.locator(".att-name").last.inner_text() == "rest (3)"
    tops = page.evaluate(
        "[...document.querySelectorAll('.att-bar')]"
        ".map(bar => bar.getBoundingClientRect().top)"
    )
    assert tops[:3] == tops[3:] and tops[0] < tops[1] < tops[2]


def test_simple(record, open_figure):
    """Only layer and head are left to choose; map, text, row and heads stay."""
    page = open_figure(widgets.attention(record, simple=True))
    shown = page.locator("select:visible")
    assert shown.count() == 2
    assert "name" not in page.locator(".att-heads").inner_text()
    for part in (".att-tokens", ".att-map", ".att-bars", ".att-heads canvas"):
        assert page.locator(part).first.is_visible()


@pytest.mark.parametrize("width", [1280, 390])
def test_the_chosen_token_is_in_sight(record, open_figure, width):
    """Of a long text too; and what it attends to where there is room for both."""
    weights = np.tile(np.eye(300), (1, 1, 1, 1))
    weights[0, 0, 299], weights[0, 0, 299, 3] = 0, 1.0
    weights[0, 0, 150], weights[0, 0, 150, 140] = 0, 1.0
    for query, seen in ((299, [299]), (150, [150, 140])):
        figure = widgets.attention(made(record, weights, [1] * 300), query=query)
        page = open_figure(figure, width=width)
        assert page.evaluate(
            """places => {
              const box = document.querySelector(".att-tokens");
              return places.every((i) => {
                const { offsetTop } = document.querySelectorAll(".token")[i];
                const top = offsetTop - box.offsetTop - box.scrollTop;
                return top >= 0 && top < box.clientHeight;
              });
            }""",
            seen,
        )


def test_predict(record, open_figure):
    """Nothing is shown before the guess; then what the guess really got."""
    figure = widgets.attention(record, layer=1, head=1, query=12, predict=True)
    page = open_figure(figure)
    row = record.weights[1, 1, 12]
    tinted = "[...document.querySelectorAll('.token')].some(b => b.style.background)"
    assert not page.locator(".att-columns").is_visible()
    assert not page.evaluate(tinted)
    assert page.locator(".token").nth(13).is_disabled()
    page.locator(".token").nth(10).click()
    verdict = page.locator(".att-guess .said").inner_text()
    got, rank = re.search(r"its weight is ([\d.]+), rank (\d+) of 13", verdict).groups()
    assert float(got) == pytest.approx(row[10], abs=5e-3)
    assert int(rank) == 1 + (row > row[10]).sum()
    assert page.locator(".att-columns").is_visible() and page.evaluate(tinted)
    page.get_by_role("button", name="Guess for another token").click()
    assert not page.locator(".att-columns").is_visible()
    assert not page.evaluate(tinted)


def test_no_token_runs(record, open_figure):
    """32 hostile tokens, in every place where a token is written."""
    hostile = made(record, spread(2, 2, 32, 2), tokens=NASTY)
    hostile = replace(hostile, vocabulary=NASTY)
    page = open_figure(widgets.attention(hostile, query=31))
    for i in range(32):
        page.locator(".token").nth(i).hover()
    for summary in page.locator("summary").all():
        summary.click()
    assert page.evaluate("window.ran === undefined")
    assert page.locator("img, svg, script[src]").count() == 0
    assert page.locator(".token").count() == 32
    assert "</script>" in page.locator(".token").first.inner_text()


@pytest.mark.parametrize("width", [1280, 700, 390])
def test_nothing_is_cut_off(record, open_figure, width):
    """No sideways scrolling."""
    page = open_figure(widgets.attention(record), width=width)
    chooser(page, "find").select_option("duplicate")
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_pointing_at_a_token_draws_no_map_anew(record, open_figure):
    """What it costs: a row of bars and the tokens' colours, however many heads."""
    page = open_figure(widgets.attention(made(record, spread(2, 2, 40, 1))))
    drawn = page.evaluate("""() => {
      let drawn = 0;
      for (const name of ["putImageData", "drawImage"]) {
        const draw = CanvasRenderingContext2D.prototype[name];
        CanvasRenderingContext2D.prototype[name] = function (...given) {
          drawn += 1;
          return draw.apply(this, given);
        };
      }
      const over = new PointerEvent("pointerover", { bubbles: true });
      const tokens = [...document.querySelectorAll(".token")];
      for (const token of tokens.slice(5, 15)) token.dispatchEvent(over);
      return drawn;
    }""")
    assert "(token 14)" in page.locator(".said").first.inner_text()
    assert drawn == 0
