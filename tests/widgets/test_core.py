"""What every figure stands on: the record of a run, packed numbers, the safe page."""

import base64
import gzip
import html
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from gpt2_lesson import widgets
from gpt2_lesson.gpt2_model import GPT2Model
from gpt2_lesson.widgets.figure import MOST_BYTES, Figure, script
from gpt2_lesson.widgets.packing import (
    as_json,
    pack,
    pack_triangles,
    unpack_triangles,
)

HOSTILE = "</script><img src=x onerror=alert(1)><!--\u2028\u2029&quot;&amp;"


@pytest.fixture(scope="module")
def model() -> GPT2Model:
    torch.manual_seed(0)
    model = GPT2Model(256, 24, 3, 2, 16, 48, dropout=0.5)
    for block in model.blocks:
        torch.nn.init.normal_(block.attn.qkv_proj.weight, std=0.5)
    return model


@pytest.fixture(scope="module")
def ids() -> torch.Tensor:
    return torch.tensor([list(b"a cat, a mat")])


@pytest.fixture(scope="module")
def picture() -> bytes:
    return base64.b64decode(
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4"
        "2mNgAAAAAgAB4iG8MwAAAABJRU5ErkJggg=="
    )


# ---------------------------------------------------------------- the record


def test_maps_are_the_models_own(model, ids):
    """PyTorch's fused attention, fed one-hot values, gives the captured weights."""
    record = widgets.capture(model, ids)
    seen = []
    hooks = [
        block.attn.qkv_proj.register_forward_hook(
            lambda module, given, out: seen.append(out)
        )
        for block in model.blocks
    ]
    model.eval()
    with torch.no_grad():
        model(ids)
    for hook in hooks:
        hook.remove()
    for layer, qkv in enumerate(seen):
        q, k, v = (t.view(1, 12, 3, 8).transpose(1, 2) for t in qkv.chunk(3, -1))
        weights = torch.nn.functional.scaled_dot_product_attention(
            q, k, torch.eye(12).expand(1, 3, 12, 12), is_causal=True
        )[0]
        np.testing.assert_allclose(record.weights[layer], weights, atol=1e-6)


def test_scores_are_weights_and_totals(model, ids):
    """ln(weight) + total is q.k / sqrt(D), reckoned pair by pair."""
    record = widgets.capture(model, ids)
    attn = model.blocks[0].attn
    x = model.blocks[0].ln_attn(model.tok_emb(ids[0]) + model.pos_emb(torch.arange(12)))
    q, k, _ = attn.qkv_proj(x).detach().chunk(3, -1)
    for head in range(3):
        for query in range(12):
            for key in range(query + 1):
                part = slice(8 * head, 8 * head + 8)
                score = float(q[query, part] @ k[key, part]) / 8**0.5
                got = np.log(record.weights[0, head, query, key])
                assert got + record.totals[0, head, query] == pytest.approx(
                    score, abs=1e-4
                )


def test_sizes_are_what_reaches_the_stream(model, ids):
    """A head that looks at one token alone adds a vector of that token's size."""
    record = widgets.capture(model, ids)
    attn = model.blocks[0].attn
    x = model.blocks[0].ln_attn(model.tok_emb(ids[0]) + model.pos_emb(torch.arange(12)))
    value = attn.qkv_proj(x).detach().chunk(3, -1)[2]
    for head in range(3):
        only = torch.zeros_like(value)
        only[:, 8 * head : 8 * head + 8] = value[:, 8 * head : 8 * head + 8]
        added = (attn.out_proj(only) - attn.out_proj.bias).detach().norm(dim=-1)
        np.testing.assert_allclose(record.sizes[0, head], added, rtol=1e-4)


def test_some_layers_and_heads(model, ids):
    """A part of the record is that part of the whole one."""
    whole = widgets.capture(model, ids)
    part = widgets.capture(model, ids[0], layers=[1], heads=[2, 0])
    np.testing.assert_array_equal(part.weights, whole.weights[1:, [2, 0]])
    np.testing.assert_array_equal(part.sizes, whole.sizes[1:, [2, 0]])
    assert (part.layers, part.heads) == ([1], [2, 0])


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_left_as_it_was(model, ids, training, monkeypatch):
    """No hook stays and no mode changes, even where the model raises halfway."""

    def hooks():
        return sum(
            len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()
        )

    model.train(training)
    model.blocks[1].mlp.eval()
    modes = [module.training for module in model.modules()]
    before = [widgets.capture(model, ids).weights for _ in range(2)]
    np.testing.assert_array_equal(*before)  # no dropout in a map
    with pytest.raises((IndexError, RuntimeError, ValueError)):
        widgets.capture(model, torch.full((1, 4), 999))
    monkeypatch.setattr(model.blocks[1].mlp, "forward", lambda x: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        widgets.capture(model, ids)
    assert hooks() == 0
    assert [module.training for module in model.modules()] == modes
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"layers": [2]}, r"layers is \[2\], expected some of 0 to 1"),
        ({"layers": [0, 0]}, "each once"),
        ({"heads": []}, r"heads is \[\]"),
        ({"tokens": "a cat, a mat"}, "a text of 12, expected a list of 12 names"),
        ({"tokens": ["a"]}, "a list of 1, expected a list of 12"),
        ({"vocabulary": ["a"]}, "names 1 tokens of 256"),
    ],
)
def test_capture_refuses(model, ids, settings, said):
    with pytest.raises(ValueError, match=said):
        widgets.capture(model, ids, **settings)


@pytest.mark.parametrize("layers", [0, "0", [0.5], ["0"]])
def test_capture_refuses_what_is_no_list_of_numbers(model, ids, layers):
    with pytest.raises(TypeError, match="expected a (whole number|list)"):
        widgets.capture(model, ids, layers=layers)


@pytest.mark.parametrize("kind", [np.array, torch.tensor])
def test_numbers_of_any_kind_choose(model, ids, kind):
    """What numpy or torch counted can be chosen, and drawn."""
    part = widgets.capture(model, ids, layers=kind([1, 0]), heads=kind([2]))
    assert (part.layers, part.heads) == ([1, 0], [2])
    widgets.attention(part, layer=kind(1).item(), query=np.int64(3))


def test_capture_refuses_too_much(model, ids, monkeypatch):
    """The error names the way out, and the way out works."""
    module = sys.modules["gpt2_lesson.widgets.capture"]  # not the function
    monkeypatch.setattr(module, "MOST_BYTES", 2000)
    with pytest.raises(ValueError, match=r"layers=\[\.\.\.\], heads=\[\.\.\.\]"):
        widgets.capture(model, ids)
    widgets.capture(model, ids, layers=[0], heads=[1])


# ---------------------------------------------------------------- packing


@pytest.mark.parametrize("sharp", [0.1, 1, 6])
def test_pack_and_unpack(sharp):
    """Every code is off by no more than it says; rows keep their places."""
    scores = sharp * np.random.default_rng(0).normal(size=(2, 3, 40, 40))
    powers = np.exp(scores) * np.tri(40)
    weights = (powers / powers.sum(-1, keepdims=True)).reshape(6, 40, 40)
    exact = unpack_triangles(pack_triangles(weights, True), 6, 40)
    assert abs(exact - weights).max() <= 7.7e-6
    for levels in (255, 90, 45):
        short = unpack_triangles(pack_triangles(weights, False, levels), 6, 40)
        off = abs(short - weights)
        assert (off <= np.sqrt(weights) / levels + 0.26 / levels**2).all()
        assert (short[..., ~np.tri(40, dtype=bool)] == 0).all()
        assert abs(short - weights).max() <= 3.9e-3 * 255 / levels


def test_triangle_order():
    """Row after row: (0,0), (1,0), (1,1), (2,0), ..."""
    weights = np.tril(np.arange(9).reshape(1, 3, 3)) / 10
    raw = base64.b64decode(pack_triangles(weights, True)["data"])
    codes = np.frombuffer(gzip.decompress(raw), "<u2") / 65535
    np.testing.assert_allclose(codes, [0, 0.3, 0.4, 0.6, 0.7, 0.8], atol=1e-5)


def test_packing_is_stable():
    values = np.arange(5, dtype=">f4")
    assert pack(values) == pack(values.astype("<f4"))


def test_json_inside_a_script():
    """No text ends the element, and the same text is read back."""
    text = as_json({HOSTILE: [HOSTILE, 0.5]})
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text) == {HOSTILE: [HOSTILE, 0.5]}
    assert json.loads(as_json(["\udce9"]).encode()) == ["\udce9"]  # half a character
    with pytest.raises(ValueError):
        as_json([float("nan")])


# ---------------------------------------------------------------- the figure


def test_bundle(picture):
    """A picture, its words and a frame: no widget, so nothing that needs a kernel."""
    figure = Figure("attention", {"x": HOSTILE}, picture, f"The point {HOSTILE}")
    data, metadata = figure._repr_mimebundle_()
    assert set(data) == {"text/html", "image/png", "text/plain"}
    assert metadata == {"image/png": {"alt": figure.alt}}
    assert base64.b64decode(data["image/png"]) == picture
    markup = data["text/html"]
    assert 'sandbox="allow-scripts"' in markup and "same-origin" not in markup
    assert not re.search(r"<script|<img src=x", markup)
    page = html.unescape(re.search(r'srcdoc="([^"]*)"', markup)[1])
    assert page == figure.page()
    assert page.count("<script") == page.count("</script>") == 2
    assert "default-src 'none'" in page and "<img" not in page


def test_scripts_stand_alone():
    """No import or export is left, nothing is fetched, and no text becomes HTML."""
    folder = Path(widgets.__file__).with_name("js")
    names = {path.stem for path in folder.glob("*.js")} - {"live", "host"}
    assert len(names) > 9
    for view in names:
        source = script(view)
        assert not re.search(r"^(import|export) ", source, re.M)
        assert source.count("async function mount(") <= 1
        assert "</script" not in source and "<!--" not in source
        for word in ("innerHTML", "insertAdjacentHTML", "eval(", "fetch(", "http:"):
            assert word not in source.replace("http://www.w3.org/2000/svg", ""), word


def test_figure_refuses(picture):
    with pytest.raises(ValueError, match="alt is empty"):
        Figure("attention", {}, picture, " ")
    with pytest.raises(ValueError, match=r"1\.\d MB.*layers=\[\.\.\.\]"):
        Figure("attention", {"x": "a" * MOST_BYTES}, picture, "The point.")
    with pytest.raises(ValueError, match="MB"):  # the picture counts both times
        Figure("attention", {}, picture + bytes(MOST_BYTES * 2 // 5), "The point.")


def test_half_characters_are_named(picture, tmp_path):
    """A token decoded with surrogateescape is no UTF-8; its code stands for it."""
    figure = Figure("attention", {"x": "\udce9"}, picture, "After \udce9.")
    figure.save_html(tmp_path / "a.html")
    assert figure.alt == "After \\udce9."


def test_saved_files(picture, tmp_path):
    figure = Figure("attention", {}, picture, "The point.")
    figure.save_png(tmp_path / "a.png")
    figure.save_html(tmp_path / "a.html")
    assert (tmp_path / "a.png").read_bytes() == picture
    assert (tmp_path / "a.html").read_text(encoding="utf-8") == figure.page()
    assert repr(figure) == "The point."
