"""The package's door and its command: names, costs, and how errors are told."""

import re
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import gpt2_lesson
from gpt2_lesson.checks import registry
from gpt2_lesson.cli import COMMANDS, export, main
from gpt2_lesson.renamed import FORMER

ROOT = Path(__file__).parents[1]


def test_the_two_lists_of_requirements_agree() -> None:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    *wanted, last = [line.split("#")[0].strip() for line in lines if line[:1] != "#"]
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    asked = tomllib.loads(text)["project"]["dependencies"]
    pin, torch = Requirement(wanted.pop(0)), Requirement(asked.pop(0))
    assert pin.name == torch.name == "torch"  # pinned for the numbers of the course
    assert torch.specifier.contains(str(pin.specifier).removeprefix("=="))
    assert wanted == asked and last == "-e ."


def test_the_lock_is_what_the_requirements_ask_for() -> None:
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    locked = {
        canonicalize_name(name): version
        for name, version in re.findall(
            r"^([\w.-]+)==(\S+) \\\n    --hash=sha256:[0-9a-f]{64}", lock, re.MULTILINE
        )
    }
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    for line in lines:
        if line[0] not in "#-":
            wanted = Requirement(line.split("#")[0].strip())
            assert wanted.specifier.contains(locked[canonicalize_name(wanted.name)])


@pytest.mark.parametrize("name", gpt2_lesson.__all__)
def test_every_name_at_the_door_is_exported_by_its_lesson(name: str) -> None:
    value = getattr(gpt2_lesson, name)
    lesson = import_module(f"gpt2_lesson.{gpt2_lesson._LESSON_OF[name]}")
    assert name in lesson.__all__ and value is getattr(lesson, name)
    assert name in dir(gpt2_lesson)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'GTP2Model'"):
        gpt2_lesson.GTP2Model  # noqa: B018
    with pytest.raises(ImportError):
        from gpt2_lesson import GTP2Model  # noqa: F401


def loaded(code: str) -> set[str]:
    """Return the packages outside the standard library that a fresh Python loads."""
    code += "\nimport sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    names = {name.split(".")[0] for name in done.stdout.splitlines()[-1].split()}
    return names - sys.stdlib_module_names


def test_an_import_costs_no_more_than_torch() -> None:
    assert "torch" not in loaded("import gpt2_lesson")
    model = loaded("from gpt2_lesson import GPT2Model")
    assert model - loaded("import torch") <= {"gpt2_lesson"}
    assert "torch" not in loaded(
        "from gpt2_lesson.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass"
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: gpt2-lesson {command} ")


def test_an_error_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["export", "--notebooks", str(tmp_path)]
    assert main(words) == 2
    assert re.fullmatch(
        r"gpt2-lesson export: .* holds no lessons .*\n", capsys.readouterr().err
    )
    with pytest.raises(FileNotFoundError):
        main([*words, "--traceback"])


def test_ctrl_c_is_calm(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(args: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(export, "run", interrupted)
    assert main(["export"]) == 130
    assert capsys.readouterr().err == "\ngpt2-lesson export: stopped\n"


def test_former_names_warn_and_return_the_new() -> None:
    for module, names in FORMER.items():
        found = import_module(f"gpt2_lesson.{module}")
        for old, new in names.items():
            with pytest.warns(DeprecationWarning, match=f"is now called {new}"):
                assert repr(getattr(found, old)) == repr(getattr(found, new))
    assert registry.find("learn_merges") == registry.find("train_bpe")
