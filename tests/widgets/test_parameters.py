"""The parameter map counts what the model has."""

import pytest
import torch.nn as nn

from gpt2_lesson import widgets
from gpt2_lesson.gpt2_model import GPT2_SIZES, GPT2Config, GPT2Model


def test_the_small_gpt2_is_counted_without_being_built() -> None:
    figure = widgets.parameters(GPT2Config())
    leaves = figure.state["leaves"]
    assert figure.state["total"] == 124_439_808
    assert sum(leaf["count"] for leaf in leaves) == 124_439_808
    assert figure.alt.startswith("124,439,808 parameters: embeddings 31.6%")
    assert "embedding matrix" in figure.state["tied"]
    block = [leaf for leaf in leaves if leaf["place"] == "block 3"]
    assert sum(leaf["count"] for leaf in block) == 12 * 768**2 + 13 * 768


def test_a_model_and_its_config_give_the_same_map() -> None:
    model = GPT2Model(11, 8, 2, 3, 5, 32)
    assert widgets.parameters(model).state == widgets.parameters(model.config).state
    assert widgets.parameters(model).state["total"] == sum(
        p.numel() for p in model.parameters()
    )


def test_a_tied_layer_counts_once_and_an_own_head_counts() -> None:
    model = nn.Module()
    model.tok_emb = nn.Embedding(5, 4)
    model.lm_head = nn.Linear(4, 5, bias=False)
    apart = widgets.parameters(model).state
    assert apart["total"] == 40 and apart["tied"] == ""
    assert [leaf["part"] for leaf in apart["leaves"]] == ["embeddings", "other"]
    model.lm_head.weight = model.tok_emb.weight
    tied = widgets.parameters(model).state
    assert tied["total"] == 20
    assert tied["tied"].startswith("lm_head.weight: the same numbers")


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(TypeError, match="is a str"):
        widgets.parameters("gpt2")
    with pytest.raises(ValueError, match="no parameters"):
        widgets.parameters(nn.ReLU())


def test_the_map_is_read_by_mouse_and_keys(open_figure) -> None:
    page = open_figure(widgets.parameters(GPT2_SIZES["gpt2"]))
    said = page.locator(".said")
    assert said.inner_text().startswith("tok_emb.weight: 50,257 × 768 = 38,597,376")
    for text in page.locator(".param-name").filter(has_text="down").all()[4:5]:
        text.hover()
    assert said.inner_text() == (
        "blocks.4.mlp.down_proj.weight: 768 × 3,072 = 2,359,296 parameters, 1.9% of "
        "all. All 12 blocks together: 28,311,552, 22.8%."
    )
    page.locator(".param-map").focus()
    page.keyboard.press("PageDown")
    assert said.inner_text().startswith("blocks.5.mlp.down_proj.weight")
    page.keyboard.press("ArrowRight")
    assert said.inner_text().startswith("blocks.5.mlp.down_proj.bias: 768 parameters")
    page.keyboard.press("End")
    assert said.inner_text().startswith("ln_final.bias")
    page.locator("summary").click()
    page.locator("tbody tr").first.wait_for()
    assert page.locator("tbody tr").last.inner_text().split() == [
        "all",
        "124,439,808",
        "100%",
    ]


def test_the_largest_model_fits_a_phone(open_figure) -> None:
    page = open_figure(widgets.parameters(GPT2_SIZES["gpt2-xl"]), dark=True, width=390)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.locator("h2").first.inner_text() == "1,557,611,200 parameters"
