"""Texts larger than memory: shards are exact, cannot be damaged unseen, and survive."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import regex
import torch

from gpt2_lesson.checkpoints import read_checkpoint
from gpt2_lesson.cli import main
from gpt2_lesson.corpora import shards, story_model
from gpt2_lesson.corpora.shards import Shards, cut_files, read_manifest, write_shard
from gpt2_lesson.gpt2_model import GPT2Model
from gpt2_lesson.measuring import token_nll
from gpt2_lesson.runs import tokenize
from gpt2_lesson.runs.text import as_tokens, prepare_text
from gpt2_lesson.tokenizer import Tokenizer
from gpt2_lesson.training import TrainSettings, get_batch, train

END = "<|endoftext|>"
WHITE = [chr(i) for i in range(0x110000) if regex.match(r"\s", chr(i))]


def nasty_text(length: int = 1000) -> str:
    """Return words and every kind of white space, in every order, and separators."""
    draw = random.Random(0)
    plain = ["the", "cat", "'s", "é", "。", "\x1f", "\U0001f642", END, "<|", "|>"]
    kinds = plain, plain, [" ", "\n", "\n\n", "  "], WHITE
    return "".join(draw.choice(draw.choice(kinds)) for _ in range(length))


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train("the cat sat on the mat.\n\n the cat's mat " * 20, 270)


@pytest.fixture
def gpt2(tokenizer: Tokenizer, tmp_path: Path, monkeypatch) -> Tokenizer:
    """Let a small tokenizer be GPT-2's."""
    tokenizer.save(tmp_path / "cache" / "gpt2")
    monkeypatch.setenv("GPT2_LESSON_CACHE", str(tmp_path / "cache"))
    return tokenizer


@pytest.fixture
def text(tmp_path: Path, monkeypatch) -> Path:
    """Give a text of about 10 shards."""
    monkeypatch.setattr(tokenize, "RANGE", 1000)
    path = tmp_path / "text.txt"
    path.write_text("".join(f"{i} cats sat.\n" for i in range(700)), encoding="utf-8")
    return path


def command(text: Path, out: Path, kind: str = "bytes", *more: str) -> int:
    words = ["tokenize", str(text), "--out", str(out), "--tokenizer", kind]
    return main([*words, "--processes", "1", *more])


def content(folder: Path) -> dict[str, bytes]:
    """Return the bytes of the folder's files, but for the lock."""
    return {
        path.name: path.read_bytes()
        for path in folder.iterdir()
        if path.name not in (tokenize.LOCK, tokenize.OWNER)
    }


@pytest.mark.parametrize("size", [1, 30])
def test_cutting_changes_no_token(
    size: int, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    files = [tmp_path / "one.txt", tmp_path / "two.txt"]
    texts = [nasty_text() + "the end", "x" + END + "\n"]
    for path, words in zip(files, texts, strict=True):
        path.write_text(words, encoding="utf-8", newline="")
    parts = cut_files(files, size)
    assert len(parts) > 50
    entries = [
        write_shard(part, tmp_path / shards.shard_name(i), tokenizer)
        for i, part in enumerate(parts)
    ]
    manifest = shards.write_manifest(tmp_path, "gpt2", tokenizer, entries)
    expected = as_tokens(texts[0] + END, tokenizer), as_tokens(texts[1], tokenizer)
    stored = Shards(tmp_path, manifest)
    assert torch.equal(stored[:], torch.cat(expected).long())


def test_a_part_of_shards_is_like_a_part_of_a_tensor(
    text: Path, tmp_path: Path
) -> None:
    assert command(text, tmp_path / "shards") == 0
    manifest = read_manifest(tmp_path / "shards")
    tokens = torch.tensor(list((text.read_text() + END).encode()))
    assert len(manifest["shards"]) > 5
    for start, stop in ((0, len(tokens)), (1234, 8001)):
        stored, wanted = Shards(tmp_path / "shards", manifest, start, stop), tokens
        wanted = tokens[start:stop]
        assert len(stored) == len(wanted)
        for a, b in ((0, 9), (990, 3010), (-5, None), (7, 7), (9, 3), (0, 10**9)):
            assert torch.equal(stored[a:b], wanted[a:b])
    seeds = [torch.Generator().manual_seed(0) for _ in range(2)]
    some = [
        get_batch(kind, 50, 99, seed, rows=slice(1, None, 2))
        for kind, seed in zip((stored, wanted), seeds, strict=True)
    ]
    assert torch.equal(*some) and some[0].shape == (25, 99)


def test_training_from_the_disk_is_training_from_memory(
    text: Path, tmp_path: Path
) -> None:
    assert command(text, tmp_path / "shards") == 0
    stored = Shards(tmp_path / "shards", read_manifest(tmp_path / "shards"))
    settings = TrainSettings(steps=5, seq_length=9, batch_size=4)
    losses = []
    for tokens in (stored, stored[:]):
        torch.manual_seed(0)
        losses.append(train(GPT2Model(256, 16, 2, 1, 8, 32), tokens, settings))
    assert losses[0] == losses[1]


def test_train_on_shards_and_go_on(
    text: Path, gpt2: Tokenizer, tmp_path: Path, capsys
) -> None:
    folder, run, moved = tmp_path / "shards", tmp_path / "run", tmp_path / "moved"
    assert command(text, folder, "gpt2") == 0
    few = ["--steps", "2", "--seq-length", "16", "--batch-size", "2"]
    assert main(["train", "--text", str(folder), "--out", str(run), *few]) == 0
    config = read_checkpoint(run / "model.safetensors")[0]["config"]
    assert config["vocab_size"] == gpt2.vocab_size
    capsys.readouterr()
    new = ["--text", str(folder), "--out", str(moved), *few]
    for more, message in (
        ([*new, "--tokenizer", "bytes"], "is used with bytes"),
        ([*new, "--seq-length", "9999"], "expected at least 99990 tokens"),
        (["--text", str(text), "--out", str(run), "--resume"], "is not the text"),
    ):
        assert main(["train", *more]) == 2
        assert message in capsys.readouterr().err
    folder.rename(moved)
    assert main(["train", "--out", str(run), "--resume"]) == 2
    assert "is no longer there" in capsys.readouterr().err
    assert main(["train", "--out", str(run), "--resume", "--text", str(moved)]) == 0


def test_eval_measures_the_validation_part(
    text: Path, gpt2: Tokenizer, tmp_path: Path, capsys
) -> None:
    folder = tmp_path / "shards"
    assert command(text, folder) == 0
    stored = Shards(folder, read_manifest(folder))[:]
    nats = token_nll(story_model(), stored[len(stored) - len(stored) // 10 :])
    capsys.readouterr()
    assert main(["eval", "stories", "--text", str(folder), "--max-tokens", "0"]) == 0
    said = capsys.readouterr().out
    assert f"{len(nats):,} tokens" in said
    assert float(said.split("nats per token")[1].split()[0]) == pytest.approx(
        nats.mean().item(), abs=1e-3
    )
    assert command(text, tmp_path / "others", "gpt2") == 0
    assert main(["eval", "stories", "--text", str(tmp_path / "others")]) == 2
    assert "tokenizer gpt2, and the model has another" in capsys.readouterr().err


def hurt(folder: Path, how: str, other: Path) -> None:
    """Damage a complete folder of shards in one way."""
    path = folder / "00003.safetensors"
    data = bytearray(path.read_bytes())
    if how == "truncated":
        path.write_bytes(data[:-1])
    elif how == "emptied":
        path.write_bytes(b"")
    elif how == "missing":
        path.unlink()
    elif how == "exchanged":
        shutil.copy(folder / "00004.safetensors", path)
    elif how == "another tokenizer's":
        shutil.copy(other / path.name, path)
    elif how == "another vocabulary":
        Tokenizer.train("abc " * 50, 259).save(folder)
    elif how == "flipped in the manifest":
        text = (folder / shards.MANIFEST).read_text(encoding="utf-8")
        place = text.index('"tokens": ') + 10
        (folder / shards.MANIFEST).write_text(
            f"{text[:place]}1{text[place + 1 :]}", encoding="utf-8"
        )
    elif how == "incomplete":
        (folder / shards.MANIFEST).unlink()
    else:
        place = int(how.split()[-1]) % len(data)
        data[place] ^= 1
        path.write_bytes(data)


WAYS = [
    *("truncated", "emptied", "missing", "exchanged", "another tokenizer's"),
    *("another vocabulary", "flipped in the manifest", "incomplete"),
    *(f"flipped at {random.Random(i).randrange(10**6)}" for i in range(10)),
]


def test_no_damage_goes_unseen_and_the_same_command_mends_it(
    text: Path, gpt2: Tokenizer, tmp_path: Path, capsys
) -> None:
    whole, other, folder = (tmp_path / name for name in ("whole", "other", "hurt"))
    assert command(text, whole, "gpt2") == command(text, other) == 0
    wanted = content(whole)
    for how in WAYS:
        shutil.copytree(whole, folder)
        hurt(folder, how, other)
        with pytest.raises(ValueError, match="damaged|incomplete|another|missing"):
            prepare_text(str(folder), 16, "gpt2")
        capsys.readouterr()
        refused = "another" in how or how == "exchanged"
        assert command(text, folder, "gpt2") == (2 if refused else 0), how
        if refused:
            assert "choose" in capsys.readouterr().err
        else:
            assert content(folder) == wanted, how
        shutil.rmtree(folder)


def test_the_processes_of_a_machine_share_the_check(
    text: Path, tmp_path: Path, monkeypatch
) -> None:
    folder = tmp_path / "shards"
    assert command(text, folder) == 0
    hurt(folder, "flipped at 600", folder)  # shard 3
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    for rank in ("0", "1"):
        monkeypatch.setenv("LOCAL_RANK", rank)
        refused = pytest.raises(ValueError, match="damaged")
        with refused if rank == "1" else contextlib.nullcontext():
            prepare_text(str(folder), 16)


def test_what_cannot_be_tokenized_is_told(text: Path, tmp_path: Path, capsys) -> None:
    folder = tmp_path / "shards"
    bad, empty = tmp_path / "bad.txt", tmp_path / "empty.txt"
    bad.write_bytes(b"cat " * 1000 + b"caf\xe9 " + b"cat " * 1000)
    empty.touch()
    for path, message in (
        (bad, "byte 0xe9 at offset 4003"),
        (empty, "is empty"),
        (tmp_path, "is not a regular file"),
        (tmp_path / "none", "No such file"),
    ):
        assert command(path, tmp_path / "other") == 2
        assert message in capsys.readouterr().err
    assert command(text, folder) == 0
    short = tmp_path / "short.txt"
    short.write_text("other cats.\n" * 50, encoding="utf-8")
    for path, out, message in (
        (short, folder, "which is not of this text"),
        (text, tmp_path, "which is not of this text"),
        (text, text, "is a file"),
    ):
        assert command(path, out) == 2
        assert message in capsys.readouterr().err


CODE = """
import sys
from gpt2_lesson.measuring import token_nll
from gpt2_lesson.runs import tokenize
from gpt2_lesson.cli import main
tokenize.RANGE = 10_000
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_killed_in_the_middle_it_leaves_no_process_and_goes_on(
    gpt2: Tokenizer, tmp_path: Path, monkeypatch
) -> None:
    """Killed with two workers, then stopped, then completed: the same files."""
    text, cut, whole = (tmp_path / name for name in ("text.txt", "cut", "whole"))
    lines = (f"{i} cats sat on {i % 977} mats.\n" for i in range(100_000))
    text.write_text("".join(lines), encoding="utf-8")
    words = ["tokenize", str(text), "--tokenizer", "gpt2", "--processes", "2"]
    for number in (signal.SIGKILL, signal.SIGTERM, None):
        before = len(list(cut.glob("0*.safetensors")))
        child = subprocess.Popen(
            [sys.executable, "-c", CODE, *words, "--out", str(cut)],
            start_new_session=True,
        )
        while number and len(list(cut.glob("0*.safetensors"))) < before + 5:
            time.sleep(0.01)
            assert child.poll() is None
        if number:
            child.send_signal(number)
            assert not (cut / shards.MANIFEST).exists()
        status = child.wait()
        assert status == {signal.SIGKILL: -9, signal.SIGTERM: 143, None: 0}[number]
        for _ in range(600):  # until its workers have ended, too
            try:
                os.killpg(child.pid, 0)
            except ProcessLookupError:
                break
            time.sleep(0.1)
        else:
            raise AssertionError("a worker outlived its parent")
    monkeypatch.setattr(tokenize, "RANGE", 10_000)
    assert main([*words[:-1], "1", "--out", str(whole)]) == 0
    assert len(content(whole)) > 150 and content(whole) == content(cut)


def test_reading_takes_no_memory(tmp_path: Path, monkeypatch) -> None:
    """20,000 windows all over 100 MB of shards leave the process as small as it was."""
    text = tmp_path / "text.txt"
    text.write_bytes(b"The cat sat on the mat. The dog did.\n" * (100 * 2**20 // 37))
    code = (
        "import resource, sys, torch\n"
        "from pathlib import Path\n"
        "from gpt2_lesson.corpora.shards import Shards, read_manifest\n"
        "from gpt2_lesson.training import get_batch\n"
        "stored = Shards(Path(sys.argv[1]), read_manifest(Path(sys.argv[1])))\n"
        "def used():\n"
        "    status = Path('/proc/self/status')\n"
        "    if not status.exists():  # not Linux\n"
        "        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "    return int(status.read_text().split('VmRSS:')[1].split()[0])\n"
        "get_batch(stored, 100, 65); before = used()\n"
        "for _ in range(200): get_batch(stored, 100, 65)\n"
        "print(len(stored) >> 20, used() - before)\n"
    )
    assert command(text, tmp_path / "shards") == 0
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "shards")],
        check=True,
        capture_output=True,
        text=True,
    )
    size, grown = map(int, done.stdout.split())
    unit = 2**20 if sys.platform == "darwin" else 2**10
    assert size >= 99 and grown < 4 * unit
