"""A file is written whole or not at all, on every kind of folder."""

import ast
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gpt2_lesson import files
from gpt2_lesson.checkpoints import load_checkpoint, save_checkpoint
from gpt2_lesson.corpora import download
from gpt2_lesson.files import (
    CheckpointError,
    atomic_write,
    file_sha256,
    read_file,
    read_json,
    write_together,
)
from gpt2_lesson.gpt2_model import GPT2Model
from gpt2_lesson.real_gpt2 import load_gpt2, save_gpt2
from gpt2_lesson.tokenizer import Tokenizer

ROOT = Path(__file__).parents[1]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_text_and_bytes_are_written_and_nothing_is_left_over(tmp_path: Path) -> None:
    atomic_write(tmp_path / "a", "é\n")
    atomic_write(str(tmp_path / "b"), b"\x00")
    assert (tmp_path / "a").read_bytes() == "é\n".encode()
    assert (tmp_path / "b").read_bytes() == b"\x00"
    with pytest.raises(UnicodeEncodeError):
        atomic_write(tmp_path / "a", "\ud800")
    assert (tmp_path / "a").read_text(encoding="utf-8") == "é\n"
    assert names(tmp_path) == ["a", "b"]


def test_a_link_is_followed_or_replaced_and_devices_are_refused(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    link.symlink_to(target)
    for data in (b"made", b"new"):
        atomic_write(link, data)
        assert link.is_symlink() and target.read_bytes() == data
    atomic_write(link, b"own", follow_links=False)
    assert not link.is_symlink() and target.read_bytes() == b"new"
    for place in (tmp_path, Path("/dev/null")):
        with pytest.raises(OSError, match=f"cannot write {place}: it is a folder or"):
            atomic_write(place, b"x")
    with pytest.raises(FileNotFoundError, match="cannot write .*/missing/file: No su"):
        atomic_write(tmp_path / "missing" / "file", b"x")


def test_a_link_at_a_temporary_name_is_never_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim, taken = tmp_path / "victim", tmp_path / ".gpt2_lesson-a.partial"
    victim.write_bytes(b"theirs")
    taken.symlink_to(victim)
    monkeypatch.setattr(files.secrets, "token_hex", lambda _: "a")
    with pytest.raises(FileExistsError, match="cannot write"):
        atomic_write(tmp_path / "file", b"ours")
    assert victim.read_bytes() == b"theirs" and taken.is_symlink()


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_the_umask_gives_the_mode_and_an_old_file_keeps_its_own(
    tmp_path: Path, umask: int
) -> None:
    old = tmp_path / "old"
    old.write_bytes(b"")
    old.chmod(0o640)
    before = os.umask(umask)
    try:
        atomic_write(tmp_path / "new", b"")
        atomic_write(old, b"")
    finally:
        os.umask(before)
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o666 & ~umask
    assert old.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("step", ["open", "fsync"])
def test_a_folder_that_cannot_be_opened_or_synced_is_no_reason_to_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """As on Windows (open) and on some network folders (fsync)."""
    real_open, real_sync = os.open, os.fsync

    def no_folder(path: Path, *rest: object) -> int:
        if os.path.isdir(path):
            raise PermissionError(13, "Permission denied")
        return real_open(path, *rest)

    def no_sync(handle: int) -> None:
        if not os.path.isfile(f"/proc/self/fd/{handle}"):
            raise OSError(22, "Invalid argument")
        real_sync(handle)

    monkeypatch.setattr(os, step, {"open": no_folder, "fsync": no_sync}[step])
    atomic_write(tmp_path / "file", b"first")
    before = os.listdir("/proc/self/fd")
    for _ in range(5):
        atomic_write(tmp_path / "file", b"new")
    assert len(os.listdir("/proc/self/fd")) == len(before)
    assert (tmp_path / "file").read_bytes() == b"new"


def test_all_that_a_learner_saves_is_saved_on_such_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows' answers: no folder can be opened, and there are no locks."""
    source = tmp_path / "source.txt"
    source.write_bytes(b"text")
    real_open = os.open

    def no_folder(path: Path, *rest: object) -> int:
        if os.path.isdir(path):
            raise PermissionError(13, "Permission denied")
        return real_open(path, *rest)

    monkeypatch.setattr(os, "open", no_folder)
    monkeypatch.setattr(files, "fcntl", None)
    monkeypatch.setattr(
        download, "_download", lambda url, part, timeout: part.write_bytes(b"text")
    )
    model = GPT2Model(97, 16, 2, 2, 16, 64)
    for _ in range(2):  # the second time over the first
        save_checkpoint(tmp_path / "checkpoint.safetensors", model)
        save_gpt2(model, tmp_path / "model")
        Tokenizer().save(tmp_path / "model")
    assert load_checkpoint(tmp_path / "checkpoint.safetensors").config == model.config
    assert load_gpt2(tmp_path / "model").config == model.config
    assert Tokenizer.load(tmp_path / "model").vocab_size == 256
    fetched = download.fetch("http://x", file_sha256(source), tmp_path / "new" / "text")
    assert fetched.read_bytes() == b"text"
    assert not list(tmp_path.rglob(".*"))


@pytest.mark.parametrize("refusals", [3, 99])
def test_a_file_that_is_held_for_a_moment_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusals: int
) -> None:
    path, left, replace = tmp_path / "file", iter(range(refusals)), os.replace
    path.write_bytes(b"old")

    def busy(*paths: Path) -> None:
        if next(left, None) is not None:
            raise PermissionError(13, "used by another process")
        replace(*paths)

    monkeypatch.setattr(os, "replace", busy)
    if refusals == 3:
        atomic_write(path, b"new")
        assert path.read_bytes() == b"new"
    else:
        with pytest.raises(PermissionError, match=f"cannot write {path}: used by"):
            atomic_write(path, b"new")
        assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_without_locks_as_on_windows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "fcntl", None)
    young, old = (tmp_path / f".gpt2_lesson-{name}.partial" for name in "ab")
    for path in (young, old):
        path.write_bytes(b"")
    os.utime(old, (0, 0))
    atomic_write(tmp_path / "file", b"new")
    assert names(tmp_path) == [young.name, "file"]


def test_strays_of_the_dead_are_swept_and_files_in_use_stay(tmp_path: Path) -> None:
    stray = tmp_path / ".gpt2_lesson-0.partial"
    stray.write_bytes(b"")
    with files._temporary(tmp_path / "file", [b"in use"]) as used:
        atomic_write(tmp_path / "other", b"")
        assert names(tmp_path) == [used.name, "other"]
    assert names(tmp_path) == ["other"]


def test_a_scratch_folder_goes_with_its_process_or_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "import time; from gpt2_lesson.files import scratch_folder\n"
        "with scratch_folder('test') as folder:\n"
        "    (folder / 'inside').write_text('')\n"
        "    print(folder, flush=True); time.sleep(600)"
    )
    killed, living = (
        subprocess.Popen(
            [sys.executable, "-c", code],
            text=True,
            stdout=subprocess.PIPE,
            env=os.environ | {"TMPDIR": str(tmp_path)},
        )
        for _ in range(2)
    )
    try:
        folders = [Path(one.stdout.readline().strip()) for one in (killed, living)]
        killed.kill()
        killed.wait()
        for folder in folders:
            os.utime(folder, (0, 0))
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        with files.scratch_folder("test") as mine:
            assert set(tmp_path.iterdir()) == {folders[1], mine}
        assert list(tmp_path.iterdir()) == folders[1:]
    finally:
        living.kill()


def test_writers_in_one_folder_do_not_sweep_each_other(tmp_path: Path) -> None:
    """Eight at once, 100 writes each: the sweep must not meet a file half made."""
    code = (
        "import sys; from gpt2_lesson.files import atomic_write\n"
        "for i in range(100): atomic_write(sys.argv[1], str(i))"
    )
    paths = [tmp_path / str(i) for i in range(8)]
    writers = [
        subprocess.Popen([sys.executable, "-c", code, str(path)]) for path in paths
    ]
    assert [writer.wait() for writer in writers] == [0] * 8
    assert names(tmp_path) == [path.name for path in paths]
    assert {path.read_text(encoding="utf-8") for path in paths} == {"99"}


# Files that belong together


@pytest.mark.parametrize("fails_at", range(6))
def test_of_files_that_belong_together_the_first_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails_at: int
) -> None:
    """A failure at each step: syncs 0 to 2, then renames 3 to 5."""
    three = [tmp_path / name for name in "abc"]
    gone = tmp_path / "d"
    for path in (*three, gone):
        path.write_bytes(b"old")
    steps = iter(range(9))

    def failing(step: Callable) -> Callable:
        def maybe(*given: object) -> object:
            if next(steps) == fails_at:
                raise OSError(28, "No space left on device")
            return step(*given)

        return maybe

    monkeypatch.setattr(os, "fsync", failing(os.fsync))
    monkeypatch.setattr(os, "replace", failing(os.replace))
    with pytest.raises(OSError, match="cannot write .*/[abc]: No space left"):
        write_together(dict.fromkeys(three, b"new"), remove=(gone,))
    found = [path.read_bytes() if path.exists() else b"" for path in (*three, gone)]
    if fails_at <= 3:
        assert found == [b"old"] * 4
    else:
        assert found[0] == b"new" and b"old" not in found
    assert not list(tmp_path.glob(".*"))


# Reading


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "damaged, or not JSON"),
        (b"\xff", "damaged, or not JSON"),
        (b"[" * 200_000, "damaged, or not JSON"),
        (b'{"a": ' + b"9" * 10_000 + b"}", "damaged, or not JSON"),
        (b"[1]", "expected a JSON object"),
        (b'{"a": "' + b"x" * 100_000 + b'"}', "100,009 bytes, expected at most 50,000"),
    ],
)
def test_json_that_cannot_be_used(tmp_path: Path, data: bytes, words: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(data)
    limit = 50_000 if b"x" in data else files.JSON_LIMIT
    with pytest.raises(CheckpointError, match=f"{path} .*{words}"):
        read_json(path, limit)


def test_a_sparse_file_of_4_terabytes_and_a_device_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "vast"
    with path.open("wb") as file:
        file.truncate(4 << 40)
    with pytest.raises(CheckpointError, match="4,398,046,511,104 bytes, expected at"):
        read_file(path)
    for place in ("/dev/zero", tmp_path):
        with pytest.raises(CheckpointError, match="a folder or a device"):
            read_file(place)
    with pytest.raises(FileNotFoundError):
        read_file(tmp_path / "missing")


# Every text file is opened with an encoding: the default of Windows is another


def without_encoding(source: str) -> Iterator[str]:
    """Yield the calls that read or write text in the encoding of the machine."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        call, given = ast.unparse(node.func), {k.arg for k in node.keywords}
        name = call.rpartition(".")[2]
        modes = [
            a.value
            for a in (*node.args, *(k.value for k in node.keywords))
            if isinstance(a, ast.Constant) and isinstance(a.value, str)
        ]
        if name in ("read_text", "write_text"):
            bad = len(node.args) <= (name == "write_text")
        elif name == "open":
            bad = call not in ("os.open", "Image.open") and not any(
                "b" in mode and set(mode) <= set("rwxab+") for mode in modes
            )
        else:
            bad = call.startswith("subprocess.") and "text" in given
        if bad and "encoding" not in given:
            yield f"line {node.lineno}: {ast.unparse(node)}"


def sources() -> Iterator[tuple[str, str]]:
    """Yield the files and notebooks of the learner's path, and their code."""
    for path in (*ROOT.glob("gpt2_lesson/**/*.py"), *ROOT.glob("figures/*.py")):
        yield str(path), path.read_text(encoding="utf-8")
    for path in ROOT.glob("notebooks/**/*.ipynb"):
        for cell in json.loads(path.read_bytes())["cells"]:
            lines = [line for line in cell["source"] if not line.startswith(("%", "!"))]
            if cell["cell_type"] == "code":
                yield f"{path} {cell['id']}", "".join(lines)


def test_text_files_are_opened_with_an_encoding() -> None:
    found = [
        f"{name}, {call}"
        for name, source in sources()
        for call in without_encoding(source)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("open('a')", 1),
        ("open('a', 'w')", 1),
        ("p.open()", 1),
        ("p.read_text()", 1),
        ("p.write_text('b')", 1),
        ("subprocess.run(['a'], text=True)", 1),
        ("open('a', 'rb')", 0),
        ("p.open('r+b')", 0),
        ("open('a', encoding='utf-8')", 0),
        ("p.read_text('utf-8')", 0),
        ("os.open('a', 0)", 0),
        ("subprocess.run(['a'])", 0),
    ],
)
def test_the_search_for_encodings_finds_them(source: str, count: int) -> None:
    assert len(list(without_encoding(source))) == count
