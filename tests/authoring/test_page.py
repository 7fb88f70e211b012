"""Lessons as pages, and what a committed notebook keeps of a figure."""

import base64
import contextlib
import io
import re
from pathlib import Path
from urllib.parse import unquote

import nbformat
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from gpt2_lesson.authoring import notebooks, run
from gpt2_lesson.authoring.page import page
from gpt2_lesson.cli import main
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
    cell = new_code_cell(
        "show()",
        id="show",
        outputs=[
            new_output("execute_result", data, metadata=metadata, execution_count=1)
            for data, metadata in outputs
        ],
    )
    return notebooks.normalise(new_notebook(cells=[cell])).cells[0].outputs


def test_of_a_figure_the_picture_and_its_alt_text_are_kept(figure: Figure) -> None:
    data, metadata = figure._repr_mimebundle_()
    assert "text/html" in data
    [kept] = stored((data, metadata))
    assert kept.data == {
        "image/png": base64.b64encode(figure.picture).decode(),
        "text/plain": figure.alt,
    }
    assert kept.metadata == {"image/png": {"alt": figure.alt}}


def test_other_pages_stay_and_of_a_widget_the_picture(figure: Figure) -> None:
    data, metadata = figure._repr_mimebundle_()
    del data["text/html"]
    table = {"text/html": "<table></table>", "image/png": "AAAA"}
    assert stored((table, {}))[0].data == table
    [kept] = stored(({notebooks.WIDGET: {"model_id": "1"}, **data}, metadata))
    assert kept.data == data and kept.metadata == metadata


DRAWING = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"></svg>'
PROSE = r"""# 03 *Heads* & tails

<img src="../figures/heads.svg" alt="Two heads."> See [the next](04_next.ipynb#more),
[a page](https://example.org/a.ipynb) and `$HOME`.

$$\text{out} = \frac{Q K^\top}{\sqrt{D}}$$

![Again.](../figures/heads.svg) costs $x^2$.

<details><summary>Answer</summary>

**Four.**
</details>
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give a folder of lessons beside one of drawings."""
    for name in ("figures", "notebooks"):
        (tmp_path / "my course" / name).mkdir(parents=True)
    (tmp_path / "my course" / "figures" / "heads.svg").write_text(DRAWING)
    return tmp_path / "my course" / "notebooks"


def paged(folder: Path, *cells) -> BeautifulSoup:
    """Return the page of a notebook of these cells."""
    return BeautifulSoup(page(new_notebook(cells=list(cells)), folder), "html.parser")


def test_prose_keeps_its_pictures_formulas_links_and_answers(folder: Path) -> None:
    soup = paged(folder, new_markdown_cell(PROSE))
    assert soup.title.text == "03 Heads & tails"
    images = soup.find_all("img")
    assert [image["alt"] for image in images] == ["Two heads.", "Again."]
    for image in images:
        kind, data = image["src"].split(",")
        assert kind == "data:image/svg+xml;base64"
        assert base64.b64decode(data).decode() == DRAWING
    block, inline = soup.find_all("math")
    assert block["display"] == "block" and block.find("msqrt").text == "D"
    assert block["tabindex"] == "0"  # it may be wider than a phone
    assert inline.find("msup").text == "x2"
    assert "$" not in soup.main.text.replace("$HOME", "")
    assert [link.get("href") for link in soup.find_all("a")] == [
        None,
        "https://example.org/a.ipynb",
    ]  # the next lesson is not there
    assert soup.details.summary.text == "Answer" and soup.details.strong.text == "Four."


def test_what_the_learner_predicts_is_folded(folder: Path) -> None:
    output = [new_output("stream", text="42\n")]
    hidden = new_code_cell(
        "a", outputs=output, metadata={"jupyter": {"outputs_hidden": True}}
    )
    soup = paged(folder, hidden, new_code_cell("b", outputs=output))
    one, other = soup.select(".output_wrapper")
    assert one.parent.name == "details" and one.parent.summary.text == "Show the output"
    assert other.find_parent("details") is None


def test_outputs_keep_figures_alt_texts_and_no_markup_of_their_texts(
    folder: Path, figure: Figure
) -> None:
    data, metadata = figure._repr_mimebundle_()
    picture = {kind: data[kind] for kind in ("image/png", "text/plain")}
    cell = new_code_cell(
        "show('<b>')",
        outputs=[
            new_output(
                "stream", text="</pre><script>bad()</script>\x1b[31mred\x1b[0m\n"
            ),
            new_output("display_data", data, metadata=metadata),
            new_output("display_data", picture, metadata=metadata),
        ],
    )
    soup = paged(folder, cell)
    assert soup.find("script") is None
    assert "</pre><script>bad()</script>" in soup.select_one(".output_stdout").text
    assert soup.select_one(".ansi-red-fg").text == "red"
    assert soup.iframe["srcdoc"] == figure.page()
    assert soup.iframe["sandbox"] == ["allow-scripts"]
    assert [image["alt"] for image in soup.find_all("img")] == [figure.alt] * 2
    assert soup.select_one(".highlight .s1").text == "'<b>'"
    assert all(box["tabindex"] == "0" for box in soup.find_all("pre"))


def test_nothing_on_a_page_comes_from_outside(folder: Path, figure: Figure) -> None:
    data, metadata = figure._repr_mimebundle_()
    cell = new_code_cell(
        "f", outputs=[new_output("display_data", data, metadata=metadata)]
    )
    soup = paged(folder, new_markdown_cell(PROSE), cell)
    assert soup.find("link") is None
    for node in soup.find_all(src=True):
        assert node["src"].startswith("data:")
    assert "url(" not in soup.style.text and "@import" not in soup.style.text
    assert "default-src 'none'" in soup.find("meta", {"http-equiv": True})["content"]


@pytest.mark.parametrize(
    "address",
    [
        "https://example.org/a.png",
        "//example.org/a.png",
        "../figures/no.svg",
        "../../secret.png",
        "/etc/hostname",
        "file:///etc/hostname",
        "../key.txt",
        "link.png",
    ],
)
def test_a_picture_that_is_not_one_of_the_courses_is_refused(
    folder: Path, address: str
) -> None:
    (folder.parents[1] / "secret.png").write_text("secret")
    (folder.parent / "key.txt").write_text("secret")
    (folder / "link.png").symlink_to(folder.parents[1] / "secret.png")
    with pytest.raises(ValueError, match=re.escape(address)):
        paged(folder, new_markdown_cell(f"![A picture.]({address})"))


def test_a_name_stays_a_name_and_a_space_is_decoded(folder: Path) -> None:
    (folder / "two heads.svg").write_text(DRAWING)
    soup = paged(
        folder, new_markdown_cell('<a id="here"></a>\n\n![Two.](two%20heads.svg)')
    )
    assert soup.find(id="here").get("href") is None
    assert soup.img["src"].startswith("data:image/svg+xml;base64,")


@pytest.mark.parametrize("formula", ["x_1_2", "x^2^3", r"\begin{matrix} 1"])
def test_a_formula_that_cannot_be_drawn_is_named_with_its_lesson(
    folder: Path, formula: str, capsys: pytest.CaptureFixture[str]
) -> None:
    cells = [new_markdown_cell(f"It is ${formula}$.", id="text")]
    nbformat.write(new_notebook(cells=cells), folder / "03_heads.ipynb")
    out = folder.parent / "pages"
    assert main(["page", "--notebooks", str(folder), "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert "03_heads.ipynb" in said and repr(formula) in said
    assert list(out.iterdir()) == []


def test_the_command_runs_a_lesson_and_keeps_its_figures_alive(folder: Path) -> None:
    source = """
import torch
from gpt2_lesson import GPT2Model, widgets
model = GPT2Model(256, 16, 2, 2, 32, 32)
widgets.attention(widgets.capture(model, torch.tensor([[72, 105]])))
"""
    lesson = folder / "03_heads.ipynb"
    cells = [new_markdown_cell(PROSE, id="title"), new_code_cell(source, id="show")]
    nbformat.write(new_notebook(cells=cells), lesson)
    before = lesson.read_bytes()
    out = folder.parent / "pages" / "new"
    assert main(["page", "heads", "--notebooks", str(folder), "--out", str(out)]) == 0
    assert [path.name for path in out.iterdir()] == ["03_heads.html"]
    soup = BeautifulSoup((out / "03_heads.html").read_text(), "html.parser")
    assert "mount(" in soup.iframe["srcdoc"]
    assert lesson.read_bytes() == before
    lesson.write_text(lesson.read_text().replace("import torch", "1 / 0"))
    assert main(["page", "heads", "--notebooks", str(folder), "--out", str(out)]) == 1


LINKED = {  # a course in which all kinds of links are
    "notebooks/03_heads.ipynb": """# 03
[set](exercises/03_heads/03%20set.ipynb#first) [guide](teaching/README.md)
[drawing](../figures/heads.svg) [next](04_next.ipynb) [here](#03) [gone](05_no.ipynb)
[outside](../../outside.ipynb)""",
    "notebooks/04_next.ipynb": "# 04\n\n[before](03_heads.ipynb)",
    "notebooks/exercises/03_heads/03 set.ipynb": "# First\n[3](../../03_heads.ipynb)",
    "notebooks/teaching/README.md": "# Guide\n\n[course](../../README.md)",
    "README.md": "# Course\n\n[lesson](notebooks/03_heads.ipynb)",
    "../outside.ipynb": "# Outside",
}


def test_every_link_of_every_page_leads_to_a_page(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, out = folder.parent, folder.parent / "pages"
    for name, text in LINKED.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".ipynb":
            cells = [new_markdown_cell(text, id="text"), new_code_cell("1", id="code")]
            nbformat.write(new_notebook(cells=cells), path)
        else:
            path.write_text(text, encoding="utf-8")
    settings = ["--notebooks", str(folder), "--out", str(out)]
    assert main(["page", "03", *settings]) == 0
    assert "and 5 files that they link to" in capsys.readouterr().out
    found = {str(path.relative_to(out)): path for path in out.rglob("*.*")}
    assert set(found) == {
        "03_heads.html",
        "04_next.html",
        "exercises/03_heads/03 set.html",
        "teaching/README.html",
        "README.html",
        "figures/heads.svg",
    }
    for name, path in found.items():
        soup = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
        for link in soup.find_all("a", href=True):
            address, _, place = link["href"].partition("#")
            target = path.parent / unquote(address) if address else path
            assert target.is_file(), f"{name}: {link}"
            page = BeautifulSoup(target.read_text(encoding="utf-8"), "html.parser")
            assert not place or page.find(id=re.compile(f"^{place}$", re.I)), link
    dead = BeautifulSoup(found["03_heads.html"].read_text(), "html.parser").find_all(
        lambda tag: tag.name == "a" and "href" not in tag.attrs
    )
    assert [link.text for link in dead] == ["gone", "outside"]
    before = (out / "03_heads.html").read_bytes()
    assert main(["page", "04", *settings]) == 0  # a newer page stays
    assert (out / "03_heads.html").read_bytes() == before


def test_half_a_character_in_a_text_is_told_with_the_file(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder / "03_heads.ipynb"
    title = new_markdown_cell("# A HALF", id="title")
    nbformat.write(new_notebook(cells=[title]), path)
    path.write_text(path.read_text().replace("HALF", "\\udce9"))
    out = folder.parent / "pages"
    assert main(["page", "--notebooks", str(folder), "--out", str(out)]) == 2
    assert "03_heads.ipynb" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command, option, where",
    [
        ("page", "--notebooks", "`gpt2-lesson lessons FOLDER` copies them"),
        ("run", "--notebooks", "`gpt2-lesson lessons FOLDER` copies them"),
        ("export", "--notebooks", "`gpt2-lesson lessons FOLDER` copies them"),
        ("release", "--root", "in the course's repository"),
    ],
)
def test_without_a_course_a_command_says_where_to_get_one(
    command: str,
    option: str,
    where: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([command, option, str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert where in said and option in said


def test_help_says_that_a_lessons_code_runs(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("page", "run"):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        assert "run only what you trust" in capsys.readouterr().out


@pytest.mark.parametrize("source", ["1", "1 / 0"])
def test_a_run_leaves_no_kernel_behind(
    source: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, kernel = [], run._kernel
    monkeypatch.setattr(
        run, "_kernel", lambda: (started.append(kernel()), started[-1])[1]
    )
    notebook = new_notebook(cells=[new_code_cell(source, id="cell")])
    with contextlib.suppress(run.LessonFailed):
        run.execute(notebook, folder / "03_heads.ipynb")
    assert [manager.has_kernel for manager in started] == [False]
