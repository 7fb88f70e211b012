"""The attention map with a text box: the model reads what is typed, at once.

This one needs a kernel. Saved, it is a picture; `attention` stays alive in a page.
"""

import base64
import re
from collections.abc import Sequence
from typing import Any, Protocol

import anywidget
import torch
import traitlets

from gpt2_lesson import validation
from gpt2_lesson.gpt2_model import GPT2Model
from gpt2_lesson.widgets.attention import (
    MEASURES,
    attention,
    check_size,
    map_state,
    point,
)
from gpt2_lesson.widgets.capture import Record, capture, plural
from gpt2_lesson.widgets.figure import Figure, script, style

PACKED = ("weights", "totals", "sizes")  # what goes as bytes beside a message


class TextCodec(Protocol):
    """What turns a text into token ids and back, such as `gpt2_lesson.Tokenizer`."""

    def encode(self, text: str) -> list[int]: ...

    def decode(self, ids: list[int]) -> str: ...


class Live(anywidget.AnyWidget):
    """The widget that `explore` makes.

    `layer`, `head`, `query`, `key`, `locked` and `measure` are what the reader looks
    at: they may be read, set and linked. `text` and `record` are the newest text and
    what the model did with it; `read(text)` gives it another.
    """

    _esm = script("live")
    _css = re.sub(r":root\s*,\s*", "", style())  # the notebook stays as it is
    layer = traitlets.Int().tag(sync=True)
    head = traitlets.Int().tag(sync=True)
    query = traitlets.Int().tag(sync=True)
    key = traitlets.Int().tag(sync=True)
    locked = traitlets.Bool(False).tag(sync=True)
    measure = traitlets.Enum(MEASURES, MEASURES[0]).tag(sync=True)

    def __init__(
        self,
        model: GPT2Model,
        tokenizer: TextCodec | None,
        text: str,
        layers: Sequence[int] | None,
        heads: Sequence[int] | None,
    ) -> None:
        """Read `text`, then make the widget. Raises as `explore` does."""
        self._model, self._tokenizer = model, tokenizer
        self._layers, self._heads = layers, heads
        self.text, self.record = text, self._captured(text)
        query = self.record.num_tokens - 1
        super().__init__(
            layer=self.record.layers[0],
            head=self.record.heads[0],
            query=query,
            key=int(self.record.weights[0, 0, query].argmax()),
        )
        self.on_msg(Live._answer)

    def read(self, text: str) -> None:
        """Show another text in every view, from its last token on.

        Raises ValueError for a text that does not fit the model; the old one stays.
        """
        self._take(text)
        self.send(*self._message())

    def figure(self) -> Figure:
        """Return what is seen now as a figure that needs no kernel."""
        return attention(self.record, self.layer, self.head, self.measure, self.query)

    def _take(self, text: str) -> None:
        """Show `text` instead of the text before."""
        record = self._captured(text)
        self.text, self.record = text, record
        row, column = record.layers.index(self.layer), record.heads.index(self.head)
        query = record.num_tokens - 1
        with self.hold_sync():
            self.key = int(record.weights[row, column, query].argmax())
            self.query, self.locked = query, False

    def _captured(self, text: str) -> Record:
        if not text:
            raise ValueError("there is no text yet: type at least one character")
        ids, tokens = self._tokens(text)
        most = self._model.config.max_seq_length
        if len(ids) > most:
            raise ValueError(
                f"the text has {plural(len(ids), 'token')}, the model reads {most}"
            )
        device = next(self._model.parameters()).device
        input_ids = torch.tensor([ids], device=device)
        record = capture(
            self._model, input_ids, tokens, layers=self._layers, heads=self._heads
        )
        check_size(record, len(record.layers), len(record.heads))
        return record

    def _tokens(self, text: str) -> tuple[list[int], list[str] | None]:
        """Return a text's ids and their names (None: capture knows those of bytes)."""
        if self._tokenizer is not None:
            ids = list(self._tokenizer.encode(text))
            return ids, [self._tokenizer.decode([i]) for i in ids]
        size = self._model.config.vocab_size
        if size != 256:
            raise ValueError(
                f"the model knows {size} tokens, and without a tokenizer a text is "
                "read as bytes, of which there are 256: give explore its tokenizer"
            )
        return list(text.encode()), None

    def _message(self, request: str | None = None) -> tuple[dict, list[bytes]]:
        """Return the map of all heads as a message, its packed numbers as bytes."""
        state = map_state(self.record, self.layer, self.head, self.measure, self.query)
        buffers = [base64.b64decode(state[name]["data"]) for name in PACKED]
        light = {name: {**state[name], "data": i} for i, name in enumerate(PACKED)}
        state = {**state, **light}
        return {"request": request, "text": self.text, "state": state}, buffers

    def _answer(self, content: dict[str, Any], buffers: list) -> None:
        """Answer a request of a view; an error is shown to the reader."""
        request, text = content.get("request"), content.get("text")
        try:
            if text is not None and text != self.text:
                self._take(text)
            self.send(*self._message(request))
        except Exception as error:  # whatever the model or the tokenizer raises
            words = str(error) or type(error).__name__
            self.send({"request": request, "error": words})

    @traitlets.validate("layer", "head", "query", "key")
    def _check(self, proposal: dict[str, Any]) -> int:
        """Return a proposed number. Raises TraitError when the record lacks it."""
        name, value = proposal["trait"].name, proposal["value"]
        known = {"layer": self.record.layers, "head": self.record.heads}.get(
            name, range(self.record.num_tokens)
        )
        if value not in known:
            raise traitlets.TraitError(
                f"{name} is {value}, expected one of {known[0]} to {known[-1]}"
            )
        return value

    def __repr__(self) -> str:
        seen = point(self.record, self.layer, self.head, self.measure, self.query)
        return f"{seen} (Run the cell to change the text.)"

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict, dict]:
        """Return the widget and its picture; no HTML, which would hide the picture."""
        data, metadata = super()._repr_mimebundle_(**kwargs) or ({}, {})
        figure = self.figure()
        data["image/png"] = base64.b64encode(figure.picture).decode()
        data["text/plain"] = figure.alt
        return data, {**metadata, "image/png": {"alt": figure.alt}}


def explore(
    model: GPT2Model,
    tokenizer: TextCodec | None = None,
    text: str = "The cat sat on the mat because it",
    *,
    layers: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
) -> Live:
    """Return the attention map of a model under a box in which the text is typed.

    The widget's `layer`, `head`, `query`, `key`, `locked` and `measure` can be set and
    linked to others.

    Parameters
    ----------
    model
        A GPT2Model.
    tokenizer
        Anything with encode and decode; None means a model of bytes.
    text
        What is in the box at first.
    layers, heads
        What is kept of a large model; None means all.

    Raises
    ------
    ValueError
        For a text that does not fit the model.
    TypeError
        For a tokenizer without `decode`.
    """
    validation.gpt2_model(model)
    validation.text("text", text)
    if tokenizer is not None and not hasattr(tokenizer, "decode"):
        raise TypeError(
            f"tokenizer is {validation.shown(tokenizer)}, expected an "
            "object with encode and decode"
        )
    return Live(model, tokenizer, text, layers, heads)
