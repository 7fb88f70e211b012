"""The live figure, without a front end: what it sends, shares, shows and refuses."""

import base64
import gzip

import numpy as np
import pytest
import torch
import traitlets

from gpt2_lesson import GPT2Model, widgets
from gpt2_lesson.widgets.packing import unpack_triangles

TEXT = "Tess saw </script>"


@pytest.fixture
def model() -> GPT2Model:
    return GPT2Model(256, 16, 2, 2, 32, 32)


@pytest.fixture
def live(model: GPT2Model, monkeypatch: pytest.MonkeyPatch) -> widgets.live.Live:
    """Give a live figure whose messages are kept in `live.sent`, not sent."""
    live = widgets.explore(model, text=TEXT)
    sent = []
    monkeypatch.setattr(live, "send", lambda *message: sent.append(message))
    live.sent = sent
    return live


def ask(live: widgets.live.Live, content: dict) -> tuple:
    """Return the answer to what a view asks."""
    live._handle_custom_msg(content, [])
    return live.sent.pop()


def read_weights(message: dict, buffers: list[bytes]) -> np.ndarray:
    """Return the weights (L x H, T, T) that a message carries."""
    packed = message["state"]["weights"]
    data = base64.b64encode(buffers[packed["data"]]).decode()
    size = len(message["state"]["tokens"])
    return unpack_triangles({"code": packed["code"], "data": data}, 4, size)


def test_its_style_and_its_sentence_are_its_own(live, monkeypatch) -> None:
    assert ":root" not in live._css and "\n.figure {" in live._css
    seen = live.figure().alt
    monkeypatch.setattr(widgets.live, "attention", None)  # no picture for a sentence
    assert repr(live).startswith(seen)


def test_an_answer_holds_the_models_own_weights_as_bytes(live, model) -> None:
    for text in (None, "Tom sat", "Töm\n"):
        message, buffers = ask(live, {"request": "a-1", "text": text})
        ids = torch.tensor([list((text or TEXT).encode())])
        expected = widgets.capture(model, ids)
        assert message["request"] == "a-1" and message["text"] == (text or TEXT)
        assert message["state"]["tokens"] == expected.tokens
        np.testing.assert_allclose(
            read_weights(message, buffers),
            expected.weights.reshape(4, ids.size(1), -1),
            atol=1e-5,
        )
        assert all(gzip.decompress(part) for part in buffers)
        assert live.query == ids.size(1) - 1 and not live.locked
        assert live.key == expected.weights[0, 0, -1].argmax()


@pytest.mark.parametrize(
    ("text", "words"),
    [("", "type at least one character"), ("x" * 33, "33 tokens, the model reads 32")],
)
def test_what_goes_wrong_is_told_in_words_and_the_next_text_works(
    live, text: str, words: str
) -> None:
    [answer] = ask(live, {"request": "a-1", "text": text})
    assert answer["request"] == "a-1" and words in answer["error"]
    assert live.text == TEXT and live.record.num_tokens == len(TEXT)
    assert ask(live, {"request": "a-2", "text": "ok"})[0]["state"]["tokens"] == [
        "o",
        "k",
    ]


def test_an_error_of_the_tokenizer_is_told_too(model) -> None:
    class Half:
        def encode(self, text: str) -> list[int]:
            return [{"a": 1, "b": 2}[letter] for letter in text]

        def decode(self, ids: list[int]) -> str:
            return "".join(" ab"[i] for i in ids)

    live = widgets.explore(model, Half(), "abba")
    assert live.record.tokens == list("abba")
    live.send = lambda *message: sent.append(message)
    sent = []
    live._handle_custom_msg({"request": 1, "text": "c"}, [])
    assert "'c'" in sent[0][0]["error"] and live.text == "abba"


def test_only_what_is_looked_at_is_shared_and_checked(live) -> None:
    base = set(widgets.live.anywidget.AnyWidget().keys)
    assert set(live.keys) - base == {
        "layer",
        "head",
        "query",
        "key",
        "locked",
        "measure",
        "_css",
    }
    live.layer, live.head, live.query, live.measure = 1, 1, 3, "scores"
    for name, value in [
        ("layer", 2),
        ("head", -1),
        ("query", len(TEXT)),
        ("key", 99),
        ("measure", "guess"),
    ]:
        with pytest.raises(traitlets.TraitError, match=name):
            setattr(live, name, value)
    assert (live.layer, live.head, live.query, live.measure) == (1, 1, 3, "scores")
    message, _ = ask(live, {"request": 1, "text": None})
    state = message["state"]
    assert (state["layer"], state["head"], state["query"]) == (1, 1, 3)
    assert state["measure"] == "scores"


def test_reading_from_python_reaches_every_view(live) -> None:
    live.layer = 1
    live.read("Tom")
    [(message, _)] = live.sent
    assert message["request"] is None and message["text"] == "Tom"
    assert message["state"]["layer"] == 1 and live.query == 2
    with pytest.raises(ValueError, match="33 tokens"):
        live.read("x" * 33)
    assert live.text == "Tom"


def test_stored_it_is_a_picture_and_no_page(live) -> None:
    data, metadata = live._repr_mimebundle_()
    assert set(data) == {
        "application/vnd.jupyter.widget-view+json",
        "image/png",
        "text/plain",
    }
    assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG")
    assert metadata["image/png"] == {"alt": data["text/plain"]}
    assert data["text/plain"].startswith("Attention map, layer 0 head 0:")


def test_a_model_of_words_needs_its_tokenizer() -> None:
    model = GPT2Model(300, 16, 2, 2, 32, 32)
    with pytest.raises(ValueError, match="knows 300 tokens.*its tokenizer"):
        widgets.explore(model, text="a")


def test_a_text_too_long_for_a_figure_is_refused_where_it_is_typed() -> None:
    model = GPT2Model(256, 24, 12, 12, 256, 24)
    live = widgets.explore(model, text="a" * 9)
    with pytest.raises(ValueError, match="take fewer tokens"):
        live.read("a" * 250)
    assert live.record.num_tokens == 9


def test_its_style_leaves_the_notebook_alone(live) -> None:
    assert ":root" not in live._css and ".figure {" in live._css
