"""The page in which a model runs: its numbers are PyTorch's, and it needs nothing."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from browser import PATIENCE, offline_pages
from torch import Tensor, nn

from gpt2_lesson.cli import main
from gpt2_lesson.corpora.story_model import story_model
from gpt2_lesson.gpt2_model import GPT2Model
from gpt2_lesson.looking_inside import ablate_heads, logit_lens
from gpt2_lesson.tokenizer import Tokenizer
from gpt2_lesson.widgets import capture
from gpt2_lesson.widgets.front import front_page

PROMPT = "One foggy night Mia found a "
TEXTS = [PROMPT, "The cat sat on the mat because it", "zzz 日本 🙂 123"]


@pytest.fixture(scope="module")
def opened(chromium) -> Iterator:
    """Give a function that opens a page, cut off from everything outside."""
    with offline_pages(chromium) as new_page:

        def open_it(path: Path, **settings):
            page = new_page(**settings)
            page.goto(path.as_uri())
            page.wait_for_selector("#front[data-ready]")
            return page

        yield open_it


@pytest.fixture(scope="module")
def stories(opened, tmp_path_factory):
    """Give the course's own page, made by its command."""
    path = tmp_path_factory.mktemp("front") / "page.html"
    assert main(["front", "stories", "--out", str(path), "--lessons", "pages/"]) == 0
    assert path.stat().st_size <= 2_500_000
    return opened(path)


def asked(page, ids: list[int], off: tuple[int, ...] = ()) -> dict[str, Tensor]:
    """Return what the page's model says about `ids`: logits (V,), lens (L + 1, V)."""
    found = page.evaluate(
        """async ([ids, off]) => {
        const { ask } = await front;
        const { logits, lens } = await ask("read", { ids, off, lens: true });
        return { logits: [...logits], lens: lens.map((one) => [...one]) };
    }""",
        [ids, list(off)],
    )
    return {name: torch.tensor(values) for name, values in found.items()}


@pytest.mark.parametrize("text", TEXTS)
def test_probabilities_and_lens_are_pytorchs(stories, text: str) -> None:
    model, ids = story_model(), list(text.encode())
    found = asked(stories, ids)
    with torch.no_grad():
        wanted = model(torch.tensor([ids]))[0, -1]
    lens = logit_lens(model, torch.tensor([ids]))[:, 0, -1]
    assert (found["logits"].softmax(-1) - wanted.softmax(-1)).abs().max() < 0.005
    assert (found["lens"].softmax(-1) - lens.softmax(-1)).abs().max() < 0.01


def test_an_ablated_head_changes_what_it_changes_in_pytorch(stories) -> None:
    model, ids = story_model(), list(PROMPT.encode())
    for heads in ([(1, 1)], [(0, 2), (3, 0)]):
        found = asked(stories, ids, tuple(layer * 4 + head for layer, head in heads))
        with torch.no_grad(), ablate_heads(model, heads):
            wanted = model(torch.tensor([ids]))[0, -1].softmax(-1)
        assert (found["logits"].softmax(-1) - wanted).abs().max() < 0.01
    whole = asked(stories, ids)["logits"].softmax(-1)
    assert (whole - wanted).abs().max() > 0.05  # else nothing was tested


def test_attention_is_that_of_capture(stories) -> None:
    ids = list(TEXTS[1].encode())
    found = stories.evaluate(
        """async (ids) => {
        const { ask, names, readMaps } = await front;
        await ask("read", { ids, off: [], lens: false });
        const { state } = await ask("maps", { names, off: [] });
        const maps = await readMaps(state), size = ids.length;
        return maps.layers.flatMap((layer) => maps.heads.map((head) => ids.map((_, t) =>
            ids.map((_, s) => maps.weights(layer * 4 + head, t, s)))));
    }""",
        ids,
    )
    wanted = capture(story_model(), torch.tensor([ids])).weights
    found = torch.tensor(found).view(4, 4, len(ids), len(ids))
    assert (found - torch.as_tensor(wanted)).abs().max() < 2e-3


def test_200_greedy_tokens_are_pytorchs(stories) -> None:
    prompt = list(TEXTS[0].encode())
    ids = stories.evaluate(
        """async (ids) => {
        const { ask } = await front;
        for (let i = 0; i < 200; i++) {
            const { logits } = await ask("read", { ids, off: [], lens: false });
            ids = [...ids, logits.indexOf(Math.max(...logits))];
        }
        return ids;
    }""",
        prompt,
    )
    wanted = story_model().generate(torch.tensor([prompt]), 200, temperature=0)
    assert ids == wanted[0].tolist()


def test_type_click_generate_and_switch_off(stories) -> None:
    expect = pytest.importorskip("playwright.sync_api").expect
    expect.set_options(timeout=PATIENCE)
    box = stories.get_by_label("Your text")
    tokens = stories.locator(".front-next button")
    box.fill("One foggy night Mi")
    expect(tokens.first.locator("bdi")).to_have_text("a")
    tokens.first.click()
    expect(box).to_have_value("One foggy night Mia")
    stories.get_by_role("button", name="Sample one token").click()
    expect(box).not_to_have_value("One foggy night Mia")
    head = stories.get_by_role("button", name="layer 1 head 1")
    head.click()
    expect(head).to_have_attribute("aria-pressed", "false")
    expect(stories.locator(".front-bar[style*='--was:0.']").first).to_be_attached()
    head.click()
    link = stories.get_by_role("link", name="lesson 01").get_attribute("href")
    assert link == "pages/01_attention.html"


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 1280])
def test_nobody_is_kept_out_of_the_page(
    opened, axe, tmp_path: Path, dark: bool, width: int
) -> None:
    path = tmp_path / "page.html"
    assert main(["front", "stories", "--out", str(path)]) == 0
    page = opened(
        path,
        viewport={"width": width, "height": 900},
        color_scheme="dark" if dark else "light",
    )
    found = axe.run(page).response["violations"]
    serious = [one for one in found if one["impact"] in ("serious", "critical")]
    assert [one["id"] for one in serious] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_model_with_merges_of_its_own(opened, tmp_path: Path) -> None:
    text = "the cat sat on the mat, the café's naïve cats don't; 123 cats!\n\n  日本 🙂"
    tokenizer = Tokenizer.train(text * 3, 290)
    torch.manual_seed(0)
    model = GPT2Model(290, 32, 2, 2, 64, 64).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.15)
    path = tmp_path / "page.html"
    path.write_text(front_page(model, tokenizer, prompt="the cat"), encoding="utf-8")
    page = opened(path)
    for sample in (text, "the cat", "naïve 🙂 cafés don't  \n x"):
        ids = page.evaluate(
            "async (text) => (await front).tokenizer.encode(text)", sample
        )
        assert ids == tokenizer.encode(sample)
        back = page.evaluate("async (ids) => (await front).tokenizer.decode(ids)", ids)
        assert back == sample
    ids = tokenizer.encode("the cat sat")
    with torch.no_grad():
        wanted = model(torch.tensor([ids]))[0, -1].softmax(-1)
    assert (asked(page, ids)["logits"].softmax(-1) - wanted).abs().max() < 0.005


def test_what_cannot_be_made_into_a_page_is_refused() -> None:
    model = GPT2Model(256, 8, 1, 1, 8, 8)
    with pytest.raises(ValueError, match="256 tokens, the tokenizer 258"):
        front_page(model, Tokenizer.train("a b c d " * 99, 258, ()))
    with pytest.raises(ValueError, match="prompt is empty"):
        front_page(model, Tokenizer(), prompt="")
    with pytest.raises(ValueError, match="at most 10,000,000"):
        front_page(GPT2Model(256, 1024, 8, 1, 8, 4096), Tokenizer())
