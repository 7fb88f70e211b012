"""One token's way: every number shown is the model's."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from gpt2_lesson import plots, widgets
from gpt2_lesson.corpora import story_model
from gpt2_lesson.looking_inside import attention_maps, logit_lens

TEXT = b"\nOne foggy dusk Tess found a red lamp"


@pytest.fixture(scope="module")
def record() -> widgets.Record:
    return widgets.capture(story_model(), torch.tensor([list(TEXT)]), layers=[1, 3])


def rows(page) -> list[str]:
    return page.locator(".tr-row:not(.head)").all_inner_texts()


def test_lens_next_is_the_lens(record):
    """The probs of what came next are those of the lens, layer by layer."""
    lens = logit_lens(story_model(), torch.tensor([list(TEXT)]))[:, 0].softmax(-1)
    for at in (0, 7, len(TEXT) - 2):
        expected = lens[:, at, TEXT[at + 1]].numpy()
        assert record.lens_next[:, at] == pytest.approx(expected, rel=1e-5, abs=1e-12)
    assert record.lens_next[-1, -1] == pytest.approx(float(lens[-1, -1].max()))


def test_numbers_on_the_page(record, open_figure):
    """Readings, probs, norms and looks of one token, against the model."""
    at = TEXT.index(b"d lamp") - 1
    page = open_figure(widgets.trace(record, position=at))
    ids = torch.tensor([list(TEXT)])
    lens = logit_lens(story_model(), ids)[:, 0, at].softmax(-1)
    maps = attention_maps(story_model(), ids)[:, 0, :, at]  # (L, H, T)
    norms = np.stack([record.stream, record.from_attention, record.from_mlp])
    shown = rows(page)
    assert norms[:, :, at].max() >= 10
    assert len(shown) == 5 and "not captured" in shown[1]
    first = page.locator(".tr-chip:first-child bdi").all_inner_texts()
    for floor, probs in enumerate(lens):
        assert first[floor] == plots.token_name(chr(probs.argmax()))
        assert f"{probs.max():.2f}" in shown[floor]
        wanted = float(probs[ord("d")])
        assert (f"{wanted:.3f}" if wanted >= 0.0005 else "<0.001") in shown[floor]
    for layer in (1, 3):
        head = int(maps[layer].amax(-1).argmax())
        key = int(maps[layer, head].argmax())
        assert f"head {head}: {maps[layer, head, key]:.2f} on" in shown[layer + 1]
        assert f"({key})" in shown[layer + 1]
        digits = 0 if norms[:, :, at].max() >= 100 else 1  # one format for all
        for norm in norms[:, layer, at]:
            assert f"{norm:.{digits}f}" in shown[layer + 1].split()
    assert shown[2].startswith("after layer 1")


def test_choosing_a_token(record, open_figure):
    """Arrow keys walk the text, with one token in the tab order; all stays in view."""
    page = open_figure(widgets.trace(record, position=3), width=390)
    page.locator(".token[tabindex='0']").focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.textContent") == "␣"
    assert page.locator(".token[tabindex='0']").count() == 1
    assert page.locator("[aria-live]").inner_text().startswith("Position 4, 'space'")
    page.keyboard.press("End")
    assert "the text ends here" in page.locator("[aria-live]").inner_text()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_hostile_names(open_figure):
    names = [
        "</script><img src=x onerror=alert(1)>",
        "\u2028",
        "",
        "x" * 40,
        "🦊",
        "שלום",
    ]
    record = widgets.capture(story_model(), torch.tensor([list(b"Tess a")]), names)
    page = open_figure(widgets.trace(record, position=1))
    assert page.evaluate("document.querySelectorAll('img').length") == 0
    assert names[0] in page.inner_text(".strip")


def test_the_next_token_is_known_by_its_id(open_figure):
    """Whatever the tokens are called, and where several have one name."""
    ids = torch.tensor([list(TEXT)])
    at = TEXT.index(b"d lamp") - 1
    plain = open_figure(widgets.trace(widgets.capture(story_model(), ids), at))
    hits = plain.locator(".tr-chip.hit").count()
    assert hits > 0
    for settings in (
        {"tokens": [f"t{i}" for i in range(len(TEXT))]},
        {"vocabulary": ["same"] * 256},
    ):
        record = widgets.capture(story_model(), ids, **settings)
        page = open_figure(widgets.trace(record, at))
        assert page.locator(".tr-chip.hit").count() == hits


def test_the_alt_text_holds_no_control_characters(record):
    """They are named as in the pictures, once."""
    ids = torch.tensor([[10, 2, 3]])
    record = widgets.capture(story_model(), ids)
    assert "'\\x02', what came next" in widgets.trace(record, 0).alt
    alt = widgets.attention(widgets.capture(story_model(), ids[:, 1:2])).alt
    assert '"\\x02" (token 0)' in alt
    assert "'\\x03'" in widgets.ablation(story_model(), ids, 3).alt


def test_a_record_that_broke_is_named_and_numpy_counts(record):
    for part in ("weights", "lens_probs", "stream"):
        broken = getattr(record, part).copy()
        broken.flat[-1] = np.nan
        with pytest.raises(ValueError, match="NaN or infinity"):
            widgets.trace(replace(record, **{part: broken}))
    for figure in (widgets.trace, widgets.sampling):
        assert figure(record, np.int64(2)).state["position"] == 2
        with pytest.raises(TypeError, match="expected a whole number"):
            figure(record, 1.0)


def test_bad_position(record):
    with pytest.raises(IndexError, match="position is 99, expected 0 to"):
        widgets.trace(record, position=99)


@pytest.mark.parametrize("width", [1280, 390])
def test_the_text_is_cut_between_its_rows(record, open_figure, width):
    """However far it is scrolled, no row of letters is seen in part."""
    long = widgets.capture(story_model(), torch.tensor([list(TEXT * 6)]))
    page = open_figure(widgets.trace(long, position=170), width=width)
    cut = (
        "(() => { const box = document.querySelector('.strip')"
        ".getBoundingClientRect(); return [...document.querySelectorAll('.token')]"
        ".map(t => t.getBoundingClientRect()).filter(r => (r.top < box.top) != "
        "(r.bottom <= box.top + 3) || (r.bottom > box.bottom) != "
        "(r.top >= box.bottom - 3)).length })()"
    )
    assert page.evaluate(cut) == 0
    page.locator(".token[tabindex='0']").focus()
    page.keyboard.press("End")
    assert page.evaluate(cut) == 0


def test_the_still_picture_names_the_likeliest(record, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        plots, "as_png", lambda *given, **_: drawn.extend(given) or bytes(24)
    )
    at = TEXT.index(b"d lamp") - 1
    widgets.trace(record, position=at)
    read = [record.name(int(ids[0])) for ids in record.lens_ids[:, at]]
    assert drawn[2][0].startswith("embedding '") and drawn[2][-1] == (
        f"after layer 3 '{read[-1]}'"
    )
