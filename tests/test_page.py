"""Lessons as pages, and what a committed notebook keeps of a figure."""

import base64
import io

import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output
from PIL import Image

from gpt2_lesson.cli import notebooks
from gpt2_lesson.widgets import Figure


@pytest.fixture
def figure(monkeypatch: pytest.MonkeyPatch) -> Figure:
    """Give a figure without a drawing of its own."""
    monkeypatch.setattr("gpt2_lesson.widgets.figure.script", lambda view: "")
    picture = io.BytesIO()
    Image.new("RGB", (8, 6), "white").save(picture, "PNG")
    return Figure("attention", {}, picture.getvalue(), 'Looks at "a" & <b>.')


def stored(*outputs: tuple[dict, dict]) -> list:
    """Return the outputs that a committed notebook keeps of these."""
    cell = new_code_cell("show()", id="show", outputs=[
        new_output("execute_result", data, metadata=metadata, execution_count=1)
        for data, metadata in outputs
    ])
    return notebooks.normalise(new_notebook(cells=[cell])).cells[0].outputs


def test_of_a_figure_the_picture_and_its_alt_text_are_kept(figure: Figure) -> None:
    data, metadata = figure._repr_mimebundle_()
    assert "text/html" in data
    [kept] = stored((data, metadata))
    assert kept.data == {"image/png": base64.b64encode(figure.picture).decode(),
                         "text/plain": figure.alt}
    assert kept.metadata == {"image/png": {"alt": figure.alt}}


def test_other_pages_stay_and_of_a_widget_the_picture(figure: Figure) -> None:
    data, metadata = figure._repr_mimebundle_()
    del data["text/html"]
    table = {"text/html": "<table></table>", "image/png": "AAAA"}
    assert stored((table, {}))[0].data == table
    [kept] = stored(({notebooks.WIDGET: {"model_id": "1"}, **data}, metadata))
    assert kept.data == data and kept.metadata == metadata
