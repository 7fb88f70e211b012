"""The course copied to a learner's folder, from a checkout and from a wheel."""

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from unittest.mock import Mock

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager

from gpt2_lesson.authoring import course
from gpt2_lesson.cli import main

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"""\]\(([^)\s#]+)|<(?:a|img)[^>]*(?:src|href)="([^"#]+)""")
OPENED = re.compile(r"""open\(["'](\.\./[^"']+)""")
WITHOUT_NETWORK = """
import runpy, sys
def refuse(event, arguments):
    if event == "socket.connect":
        raise OSError("no network here")
sys.addaudithook(refuse)
runpy.run_module("gpt2_lesson.cli", run_name="__main__", alter_sys=True)
"""


def contents(folder: Path) -> dict[str, bytes]:
    """Return the bytes of each file in a folder, by its path."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def links(path: Path) -> list[str]:
    """Return the files that a page or a notebook links to, or that its code opens."""
    if path.suffix == ".md":
        kinds = [(path.read_text(encoding="utf-8"), LINK)]
    else:
        kinds = [
            (cell.source, OPENED if cell.cell_type == "code" else LINK)
            for cell in nbformat.read(path, as_version=4).cells
        ]
    found = ["".join(link) for text, kind in kinds for link in kind.findall(text)]
    return [link for link in found if ":" not in link]


def test_a_wheel_is_enough(tmp_path: Path) -> None:
    source, site = tmp_path / "source", tmp_path / "site"
    for name in ("gpt2_lesson", "notebooks", "figures"):
        shutil.copytree(ROOT / name, source / name)
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = "from setuptools import build_meta; build_meta.build_wheel('wheels')"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True)
    (wheel,) = source.glob("wheels/*.whl")
    with zipfile.ZipFile(wheel) as file:
        file.extractall(site)
    found = subprocess.run(
        [sys.executable, "-c", WITHOUT_NETWORK, "lessons", str(tmp_path / "mine")],
        cwd=site,
        capture_output=True,
        encoding="utf-8",
    )
    assert found.returncode == 0, found.stderr
    assert "00_start_here.ipynb" in found.stdout
    assert main(["lessons", str(tmp_path / "here")]) == 0
    assert contents(tmp_path / "mine") == contents(tmp_path / "here")


def test_every_link_in_the_copy_works(tmp_path: Path) -> None:
    copied = course.write_course(tmp_path)
    assert set(contents(tmp_path)) == {path.as_posix() for path in copied}
    assert not {"solutions", "teaching"} & {part for p in copied for part in p.parts}
    found = {
        (path.as_posix(), link)
        for path in copied
        if path.suffix in (".md", ".ipynb")
        for link in links(tmp_path / path)
    }
    assert ("notebooks/08_training.ipynb", "../figures/loss_ladder.csv") in found
    assert len(found) > 100
    dead = [
        (path, link)
        for path, link in found
        if not (tmp_path / path).parent.joinpath(link).exists()
    ]
    assert dead == []


@pytest.mark.parametrize("what", ["a work of mine", "a file", "a full disk"])
def test_all_or_nothing(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    folder = tmp_path / "mine"
    if what == "a file":
        folder.write_text("my notes", encoding="utf-8")
    else:
        (folder / ".venv").mkdir(parents=True)
        (folder / ".venv" / "python").write_text("3.12", encoding="utf-8")
    if what == "a work of mine":
        (folder / "README.md").write_text("my notes", encoding="utf-8")
    before = contents(tmp_path)
    if what == "a full disk":
        monkeypatch.setattr(course, "FILES", (*course.FILES, "figures/*.none"))
    assert main(["lessons", str(folder)]) == 2
    message = capsys.readouterr().err
    assert str(folder if what != "a full disk" else "figures") in message
    assert message.count("\n") == 1
    assert contents(tmp_path) == before
    if what == "a full disk":
        assert [path.name for path in folder.iterdir()] == [".venv"]


def test_the_first_cell_installs_only_where_the_course_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = "https://example.org/owner/course"
    assert main(["lessons", str(tmp_path / "x"), "--install-from", "my course"]) == 2
    assert main(["lessons", str(tmp_path / "a"), "--install-from", address]) == 0
    sources = set()
    for path in tmp_path.rglob("*.ipynb"):
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
        sources.add(notebook.cells[0].source)
    (source,) = sources
    code = compile(TransformerManager().transform_cell(source), "first cell", "exec")
    said = Mock()
    exec(code, {"get_ipython": said})
    assert said.mock_calls == []
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    exec(code, {"get_ipython": said})
    assert [call.args[-1] for call in said().method_calls] == [
        f"install -q --no-deps git+{address} anywidget psygnal latex2mathml",
        "gpt2-lesson lessons course",
        "course/notebooks",
    ]
