"""The lessons as stored, the package made from them, and the two tools between."""

import asyncio
import base64
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from queue import Empty
from warnings import warn

import nbformat
import pytest
from jupyter_client.channels import AsyncZMQSocketChannel
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from gpt2_lesson.authoring import notebooks
from gpt2_lesson.authoring.export import differences, export, modules
from gpt2_lesson.authoring.run import _Channel as Channel
from gpt2_lesson.authoring.run import execute
from gpt2_lesson.cli import main

ROOT = Path(__file__).parents[2]
LESSONS = notebooks.lessons(ROOT / "notebooks")
ENDING = ["What we have now", "Exercises", "Next", "Sources"]
IMAGE = re.compile(
    r"!\[(?P<alt>[^\]]*)\]\((?P<to>[^)\s]+)[^)]*\)|<img\b(?P<tag>[^>]*)>"
)
LINK = re.compile(
    r"(?<!!)\[[^\]]*\]\((?P<to>[^)\s]+)[^)]*\)|<a\b[^>]*href=\"(?P<tag>[^\"]+)"
)

each_lesson = pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)


# The package and the lessons


def test_the_package_agrees_with_the_lessons() -> None:
    assert differences(ROOT / "notebooks", ROOT / "gpt2_lesson") == []


def test_the_linter_is_content() -> None:
    ruff = [
        sys.executable,
        "-m",
        "ruff",
        "check",
        "--output-format",
        "concise",
        str(ROOT),
    ]
    found = subprocess.run(ruff, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr


# The stored lessons


@each_lesson
def test_stored_in_normal_form(path: Path) -> None:
    notebook = notebooks.read(path)
    text = path.read_text(encoding="utf-8")
    assert nbformat.writes(notebooks.normalise(notebook)) == text.rstrip("\n"), (
        f"gpt2-lesson run {path.stem}"
    )
    assert all(notebooks.is_readable(cell.id) for cell in notebook.cells)


@each_lesson
def test_stored_as_run_without_errors(path: Path) -> None:
    cells = [cell for cell in notebooks.read(path).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    for cell in cells:
        if "raises-exception" not in cell.metadata.get("tags", []):
            assert all(out.output_type != "error" for out in cell.outputs), cell.id


@each_lesson
def test_output_pictures_are_described_and_small(path: Path) -> None:
    total = 0
    for cell in notebooks.read(path).cells:
        for out in cell.get("outputs", []):
            for kind in [
                kind for kind in out.get("data", {}) if kind.startswith("image/")
            ]:
                assert out.metadata.get(kind, {}).get("alt"), f"#{cell.id}: no alt text"
                size = len(
                    base64.b64decode(out.data[kind])
                    if kind != "image/svg+xml"
                    else out.data[kind].encode()
                )
                assert size < 100_000, f"#{cell.id}: a picture of {size:,} bytes"
                total += size
            assert "text/html" not in out.get("data", {}), f"#{cell.id}: HTML is stored"
    assert total < 300_000, f"{total:,} bytes of pictures"


@each_lesson
def test_drawings_are_described_and_links_lead_somewhere(path: Path) -> None:
    targets = []
    for text in prose(path):
        for image in IMAGE.finditer(text):
            attributes = dict(re.findall(r'(\w+)="([^"]*)"', image["tag"] or ""))
            assert image["alt"] or attributes.get("alt"), f"no alt text: {image[0]}"
            targets.append(image["to"] or attributes["src"])
        targets += [link["to"] or link["tag"] for link in LINK.finditer(text)]
    local = [to.split("#")[0] for to in targets if not re.match(r"\w+:|#", to)]
    assert [to for to in local if not (path.parent / to).exists()] == []


@each_lesson
def test_prose_never_belittles(path: Path) -> None:
    belittling = r"(?i)\b(?:simply|just(?!\s(?:as|before|after)\b)|obviously)\b.*"
    for text in prose(path):
        assert not re.findall(belittling, text)


def prose(path: Path) -> Iterator[str]:
    """Yield the text of each markdown cell, without the code in it."""
    for cell in notebooks.read(path).cells:
        if cell.cell_type == "markdown":
            yield re.sub(r"(?s)```.*?```|`[^`\n]*`", "`code`", cell.source)


@each_lesson
def test_exported_cells_fit_on_a_screen(path: Path) -> None:
    """At most 40 lines of code; docstrings and empty lines do not count."""
    for cell in notebooks.read(path).cells:
        if cell.source.startswith("#| export"):
            code = re.sub(r'(?s)""".*?"""', "", cell.source)
            lines = [line for line in code.splitlines() if line.strip()]
            assert len(lines) <= 40, f"#{cell.id}"


@pytest.mark.parametrize(
    "path",
    [path for path in LESSONS if path.stem[:2] != "00"],
    ids=lambda path: path.stem,
)
def test_a_lesson_ends_as_all_do(path: Path) -> None:
    headings = re.findall(r"(?m)^## +(.+?) *$", "\n".join(prose(path)))
    assert headings[-4:] == ENDING


LONG = "05 08 11 12 13 14 15 16"  # they compute for a minute or more


@pytest.mark.slow
@pytest.mark.parametrize(
    "path",
    [path for path in LESSONS if path.stem[:2] not in LONG],
    ids=lambda path: path.stem,
)
def test_each_cell_may_be_run_twice(path: Path) -> None:
    notebook = notebooks.read(path)
    notebook.cells = [
        copy
        for cell in notebook.cells
        for copy in [cell] * (2 if cell.cell_type == "code" else 1)
    ]
    execute(notebooks.normalise(notebook), path)


# gpt2-lesson export

IMPORTS = "#| default_exp heads\n#| export\nimport math"
AREA = "#| export\ndef area(radius: float) -> float:\n    return math.pi * radius**2"


def store(folder: Path, *cells: str, name: str = "01_heads") -> Path:
    """Write a lesson of these code cells, and return its path."""
    title = new_markdown_cell("# 01 Heads\n\n> A circle has an area.", id="title")
    made = [new_code_cell(source, id=f"cell-{i}") for i, source in enumerate(cells)]
    path = folder / "notebooks" / f"{name}.ipynb"
    path.parent.mkdir(exist_ok=True)
    nbformat.write(new_notebook(cells=[title, *made]), path)
    return path


def test_export_makes_what_the_lessons_say_and_nothing_else(tmp_path: Path) -> None:
    store(tmp_path, IMPORTS, AREA, "assert area(0) == 0")
    store(tmp_path, "1 + 1", name="02_nothing")
    store(
        tmp_path,
        "#| default_exp more\n#| export\nfrom gpt2_lesson.heads import area",
        "#| export\ndef two() -> float:\n    return area(2)",
        name="03_more",
    )
    package = tmp_path / "gpt2_lesson"
    package.mkdir()
    (package / "gone.py").write_text("# AUTOGENERATED! DO NOT EDIT! File to edit: x.\n")
    (package / "hand.py").write_text("x = 1\n")
    assert len(differences(tmp_path / "notebooks", package)) == 3
    export(tmp_path / "notebooks", package)
    assert {path.name for path in package.iterdir()} == {
        "heads.py",
        "more.py",
        "hand.py",
    }
    text = (package / "heads.py").read_text()
    assert text.startswith('"""A circle has an area."""')
    assert "# %% ../notebooks/01_heads.ipynb #cell-1\ndef area" in text
    assert "__all__ = ['area']" in text and "assert" not in text
    assert "from .heads import area" in (package / "more.py").read_text()
    assert differences(tmp_path / "notebooks", package) == []
    (package / "heads.py").write_text(text.replace("radius**2", "radius**3"))
    assert (
        "-    return math.pi * radius**3"
        in differences(tmp_path / "notebooks", package)[0]
    )


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (["#| export\nimport math", AREA], "must say once"),
        (["#| default_exp other\n#| export\nimport math", AREA], "default_exp heads"),
        ([IMPORTS, "#| default_exp heads\n" + AREA], "must say once"),
        (["#| default_exp heads"], "no #| export"),
        ([IMPORTS, AREA.replace("#| export", "#| export other")], "at the cell's top"),
        ([IMPORTS, AREA.replace("#| export", "#| exporti")], "at the cell's top"),
        ([IMPORTS, AREA.replace("#| export", "#export")], "at the cell's top"),
        ([IMPORTS, "x = 1\n" + AREA], "at the cell's top"),
        ([IMPORTS, AREA + "\nprint(area(1))"], "one definition"),
        ([IMPORTS, "#| export\nimport os\nROOT = os.sep"], "one definition"),
        ([IMPORTS, "#| export"], "one definition"),
        ([IMPORTS, AREA.replace("radius**2", "radius**")], "line 3: invalid syntax"),
        ([IMPORTS, "#| export\n%time"], "invalid syntax"),
        ([IMPORTS, "#| export\nfrom .other import this", AREA], "relative"),
        (
            [IMPORTS, "PI = 3", AREA.replace("math.pi", "PI * math.e")],
            "Undefined name `PI`",
        ),
        ([IMPORTS], "imported but unused"),
        ([IMPORTS, AREA + "\n    nonlocal radius_2"], "no binding for nonlocal"),
    ],
)
def test_export_refuses_what_would_be_lost(
    tmp_path: Path, cells: list[str], message: str
) -> None:
    store(tmp_path, *cells)
    package = tmp_path / "gpt2_lesson"
    package.mkdir()
    with pytest.raises(ValueError, match=re.escape(message)):
        export(tmp_path / "notebooks", package)
    assert not list(package.iterdir())


def test_export_refuses_random_ids_and_settings_ini(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = store(tmp_path, IMPORTS, AREA)
    text = path.read_text()
    path.write_text(text.replace("cell-1", "0f3a9c1e"))
    with pytest.raises(ValueError, match="#0f3a9c1e: the id"):
        modules(path.parent)
    path.write_text(text)
    monkeypatch.chdir(path.parent)
    (tmp_path / "settings.ini").touch()
    with pytest.raises(ValueError, match="move it away"):
        modules(path.parent)


def test_a_warning_of_nbdev_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = store(tmp_path, IMPORTS, AREA)
    lost = lambda *_, **__: warn("lost", stacklevel=1)  # noqa: E731
    monkeypatch.setattr("nbdev.export.nb_export", lost)
    with pytest.raises(ValueError, match="01_heads.ipynb: lost"):
        modules(path.parent)


# gpt2-lesson run

UGLY = [
    "import sys\nfrom tqdm import tqdm\nfor i in tqdm(range(3), leave=True): pass",
    "print('out'); print('warning', file=sys.stderr); print('more')",
    "object()",
    "import warnings\nwarnings.warn('careful')",
    "class HTTPCache: pass",
]


def test_two_runs_store_the_same_bytes(tmp_path: Path) -> None:
    path = store(tmp_path, *UGLY)
    path.write_text(re.sub(r'"cell-(\d)"', r'"0f3a9c1\1"', path.read_text()))
    command = ["run", "01", "--notebooks", str(path.parent)]
    assert main(command) == 0
    first = path.read_bytes()
    assert main(command) == 0
    assert path.read_bytes() == first
    cells = notebooks.read(path).cells
    assert [cell.id for cell in cells] == [
        "title",
        "imports",
        "print-out-print-warning-file",
        "object",
        "imports-2",
        "http-cache",
    ]
    assert cells[1].outputs[0].text == "100%|██████████| 3/3\n"
    assert [out.text for out in cells[2].outputs] == ["warning\n", "out\nmore\n"]
    assert cells[3].outputs[0].data["text/plain"] == "<object at 0x...>"
    assert cells[4].outputs[0].text.startswith("<notebook>:2: UserWarning: careful")


def test_a_failing_cell_is_named_and_the_file_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = store(tmp_path, "x = 1", "1 / 0", "x")
    before = path.read_bytes()
    assert main(["run", "heads", "--notebooks", str(path.parent)]) == 1
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]
    error = capsys.readouterr().err
    assert "01_heads.ipynb, cell #cell-1" in error and "ZeroDivisionError" in error


def test_a_message_whose_coming_was_missed_is_found_soon(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits = []

    async def missed(self, timeout: float) -> dict:
        waits.append(timeout)
        if len(waits) < 3:
            raise Empty
        return {"a": "message"}

    monkeypatch.setattr(AsyncZMQSocketChannel, "get_msg", missed)
    channel = object.__new__(Channel)
    assert asyncio.run(channel.get_msg(timeout=600)) == {"a": "message"}
    assert asyncio.run(channel.get_msg()) == {"a": "message"}
    assert waits == [1, 1, 1, 1]
    waits.clear()
    with pytest.raises(Empty):
        asyncio.run(channel.get_msg(timeout=0))
    assert waits == [0]


def test_a_long_text_without_spaces_takes_no_longer_than_it_must() -> None:
    """A figure's page is a megabyte without a space; this once took minutes."""
    began = time.process_time()
    assert notebooks._clean("A" * 1_000_000) == "A" * 1_000_000
    assert time.process_time() - began < 10


def test_normal_form_keeps_alt_text_and_tags_and_drops_the_rest() -> None:
    cell = new_code_cell(
        "show()",
        id="0f3a9c1e",
        execution_count=7,
        metadata={
            "tags": ["keep"],
            "collapsed": True,
            "jupyter": {"outputs_hidden": True, "source_hidden": True},
            "execution": {"iopub.status.busy": "now"},
        },
    )
    picture = {"image/png": "AAAA", "text/plain": "<Figure size 400x250>"}
    cell.outputs = [
        new_output(
            "display_data",
            picture,
            metadata={"image/png": {"alt": "A line."}, "needs_background": "light"},
        ),
        new_output(
            "display_data", {notebooks.WIDGET: {}, "text/plain": "interactive()"}
        ),
        new_output("display_data", {notebooks.WIDGET: {}, **picture}),
        new_output("stream", text="ab\rcd [00:01<00:00, 9.1it/s, loss=2]\n"),
        new_output("stream", text="last [00:01<00:00, 9.1it/s]\n"),
    ]
    raw = new_notebook(
        cells=[cell, new_code_cell("  ")], metadata={"widgets": {"a": 1}}
    )
    normal = notebooks.normalise(raw)
    assert normal.metadata == notebooks.METADATA
    assert [cell.id for cell in normal.cells] == ["show"]
    assert normal.cells[0].metadata == {
        "tags": ["keep"],
        "jupyter": {"outputs_hidden": True},
    }
    outputs = normal.cells[0].outputs
    assert [out.output_type for out in outputs] == ["display_data"] * 2 + ["stream"]
    assert outputs[0].metadata == {"image/png": {"alt": "A line."}}
    assert outputs[1].data == picture
    assert outputs[2].text == "cd [loss=2]\nlast [00:01<00:00, 9.1it/s]\n"
    assert notebooks.normalise(normal) == normal


def test_ids_that_are_words_stay_and_are_not_given_twice() -> None:
    cells = [
        new_markdown_cell("## A *model's* way", id="aBcD_1"),
        new_markdown_cell("text", id="a-models-way"),
        new_markdown_cell("text", id="another"),
        new_markdown_cell("Ελλάδα", id="deadbeef"),
        new_code_cell("#| export\n@cached\ndef _draw_it_all(x): ...", id="12345678"),
    ]
    notebook = new_notebook(cells=cells)
    notebook.cells[2].id = "a-models-way"
    named = notebooks.normalise(notebook)
    assert [cell.id for cell in named.cells] == [
        "a-models-way-2",
        "a-models-way",
        "text",
        "markdown",
        "draw-it-all",
    ]
