"""Parts of the reading site. The site itself is built in tests/slow/test_site.py."""

from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from gpt2_lesson.authoring.notebooks import NOTEBOOKS
from gpt2_lesson.authoring.run import LessonFailed
from gpt2_lesson.authoring.site import build, extension, outputs
from gpt2_lesson.cli import main


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Give an empty cache folder."""
    monkeypatch.setenv("GPT2_LESSON_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "site"


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Give a list to which each run of a lesson is added, in place of a kernel."""
    found: list[Path] = []

    def execute(notebook, path, timeout, alive) -> NotebookNode:
        found.append(path)
        for cell in notebook.cells:
            if "1 / 0" in cell.source:
                raise LessonFailed(f"{path.name}, cell #{cell.id}: division by zero")
            if cell.cell_type == "code":
                cell.outputs = [new_output("stream", text=f"ran {cell.source}")]
        return notebook

    monkeypatch.setattr(outputs, "execute", execute)
    return found


def lesson(folder: Path, code: str, prose: str = "# A lesson", name="00_a") -> Path:
    """Write a lesson of two cells and return its path."""
    cells = [new_markdown_cell(prose, id="prose"), new_code_cell(code, id="code")]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.ipynb"
    nbformat.write(new_notebook(cells=cells), path)
    return path


def shown(path: Path) -> NotebookNode:
    """Return a notebook as a reader of the site gets it."""
    return extension.read(path.read_text(encoding="utf-8"))


def test_a_lesson_runs_again_only_when_code_or_package_changed(
    tmp_path: Path, runs: list, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = lesson(tmp_path, "x")
    assert shown(path).cells[1].outputs == []  # never run: what is stored in it
    for _ in range(2):
        outputs.run_once(path, 60)
    assert shown(path).cells[1].outputs[0].text == "ran x"
    path = lesson(tmp_path, "x", prose="# Better words")
    outputs.run_once(path, 60)
    assert len(runs) == 1 and shown(path).cells[0].source == "# Better words"
    assert shown(path).cells[1].outputs[0].text == "ran x"
    outputs.run_once(lesson(tmp_path, "y"), 60)
    monkeypatch.setattr(outputs, "_package", lambda: "another version")
    assert shown(path).cells[1].outputs == []
    outputs.run_once(path, 60)
    assert len(runs) == 3
    monkeypatch.setattr(outputs, "MOST_STORED", 1)
    outputs.run_once(lesson(tmp_path, "z"), 60)
    assert len(list(cache.iterdir())) == 1


def test_a_failing_lesson_is_named_and_the_others_are_not_run_again(
    tmp_path: Path, runs: list, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "notebooks"
    lesson(folder, "good")
    lesson(folder, "1 / 0", name="01_b")
    words = ["site", "--notebooks", str(folder), "--out", str(tmp_path / "site")]
    for _ in range(2):
        assert main(words) == 1
        assert "01_b.ipynb, cell #code" in capsys.readouterr().err
    assert [path.name for path in runs] == ["00_a.ipynb", "01_b.ipynb", "01_b.ipynb"]
    assert not (tmp_path / "site").exists()


def test_files_that_are_not_of_a_site_are_left_alone(
    tmp_path: Path, runs: list, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    assert main(["site", "--out", str(tmp_path)]) == 2
    assert "not of a site" in capsys.readouterr().err and runs == []
    assert (tmp_path / "thesis.txt").read_text() == "precious"


def test_predictions_are_folded_marks_dropped_and_alt_texts_noted() -> None:
    picture = {"image/png": "AAAA"}
    cell = new_code_cell(
        "#| export\nx = 1\n#| hide\n",
        metadata={"jupyter": {"outputs_hidden": True}, "tags": ["timing"]},
        outputs=[
            new_output("display_data", picture, metadata={"image/png": {"alt": text}})
            for text in ("one", "two")
        ],
    )
    [read] = extension.read(nbformat.writes(new_notebook(cells=[cell]))).cells
    assert read.source == "x = 1\n"
    assert read.metadata["alts"] == ["one", "two"]
    assert read.metadata["tags"] == ["timing", "hide-output"]


def test_buttons_to_launch_a_lesson_come_from_the_configuration_alone(
    tmp_path: Path,
) -> None:
    assert build._settings("") == {}
    found = build._settings("https://github.com/OWNER/REPO")
    assert found["html_theme_options.repository_url"].endswith("OWNER/REPO")
    elsewhere = build._settings("https://gitlab.com/OWNER/REPO")
    launch = "html_theme_options.launch_buttons"
    assert "colab_url" in found[launch] and "colab_url" not in elsewhere[launch]
    with pytest.raises(ValueError, match="expected an address"):
        build.build_site([], NOTEBOOKS, tmp_path / "site", repository="OWNER/REPO")
    button = {"text": "Colab", "url": "https://colab/github/OWNER/REPO/blob/main/a/b"}
    context = {"header_buttons": [{"buttons": [button]}], "pathto": "../{}.html".format}
    extension.lead(None, "", "", context, None)
    assert button["url"] == "https://colab/github/OWNER/REPO/blob/colab/a/b"
    assert context["theme_logo_link"] == "../index.html"
