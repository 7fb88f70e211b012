"""The commands, from outside: train, go on, generate; and what they refuse."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import gpt2_lesson.training as training
from gpt2_lesson.cli import COMMANDS, main, memory
from gpt2_lesson.cli.train import floor, prepare_text
from gpt2_lesson.corpora import stories, story_model
from gpt2_lesson.measuring import bits_per_byte, perplexity
from gpt2_lesson.real_gpt2 import save_gpt2
from gpt2_lesson.tokenizer import Tokenizer
from gpt2_lesson.training import evaluate, load_checkpoint

SMALL = ["--preset", "demo", "--steps", "6", "--batch-size", "2", "--seq-length", "16",
         "--sample-every", "3", "--device", "cpu", "--precision", "float32"]


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("The cat sat down. " * 200)
    return path


def train(text: Path, out: Path, *more: str) -> int:
    return main(["train", "--text", str(text), "--out", str(out), *SMALL, *more])


def test_train_then_generate(text: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "run"
    assert train(text, out) == 0
    said = capsys.readouterr().out
    assert "validation" in said and "nats per token" in said
    assert {"checkpoint.safetensors", "model.safetensors", "losses.png",
            "samples.txt"} <= {path.name for path in out.iterdir()}
    assert (out / "losses.png").read_bytes().startswith(b"\x89PNG")
    words = ["generate", str(out), "--prompt", "The ", "--max-new-tokens", "9",
             "--temperature", "0.8", "--top-k", "50", "--seed", "1"]
    assert main(words) == 0
    first = capsys.readouterr().out
    assert first.startswith("The ")
    assert main(words) == 0 and capsys.readouterr().out == first         # same seed
    assert main([*words[:-1], "2"]) == 0 and capsys.readouterr().out != first


def test_an_interrupted_run_goes_on_as_if_it_had_not_been(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight, cut = tmp_path / "straight", tmp_path / "cut"
    assert train(text, straight) == 0
    real, calls = training.train_step, []

    def interrupted(*args, **kwargs):
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(training, "train_step", interrupted)
    assert train(text, cut) == 130
    monkeypatch.setattr(training, "train_step", real)
    assert main(["train", "--out", str(cut), "--resume"]) == 0
    one, two = (load_checkpoint(run / "checkpoint.safetensors").state_dict()
                for run in (straight, cut))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_run_with_merges_keeps_its_vocabulary(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    """Cut off, gone on with, generated from and measured: always the same ids."""
    text.write_text("The cat sat on the mat, and the dog lay down. " * 400)
    straight, cut = tmp_path / "straight", tmp_path / "cut"
    assert train(text, straight, "--tokenizer", "bpe:280") == 0
    assert "bits per byte" in capsys.readouterr().out
    vocabulary = Tokenizer.load(straight)
    assert vocabulary.vocab_size == 280
    model = load_checkpoint(straight / "model.safetensors")
    assert model.config.vocab_size == 280
    real, calls = training.train_step, []

    def interrupted(*args, **kwargs):
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(training, "train_step", interrupted)
    assert train(text, cut, "--tokenizer", "bpe:280") == 130
    monkeypatch.setattr(training, "train_step", real)
    assert main(["train", "--out", str(cut), "--resume"]) == 0
    one, two = (load_checkpoint(run / "checkpoint.safetensors").state_dict()
                for run in (straight, cut))
    assert all(torch.equal(one[name], two[name]) for name in one)
    capsys.readouterr()
    assert main(["generate", str(cut), "--prompt", "The cat", "--seed", "1"]) == 0
    assert capsys.readouterr().out.startswith("The cat")
    words = ["eval", str(cut), "--text", str(text), "--max-tokens", "0"]
    assert main([*words, "--stride", "5"]) == 0
    expected = bits_per_byte(model, vocabulary, text.read_text(), stride=5)
    assert f"{expected:.4f}" in capsys.readouterr().out
    (cut / "vocab.json").unlink()                    # then the run cannot be used
    assert main(["generate", str(cut)]) == 2
    assert "are vocab.json and merges.txt beside it?" in capsys.readouterr().err


def test_a_folder_in_gpt2s_format_is_a_model(tmp_path: Path, capsys) -> None:
    save_gpt2(story_model(), tmp_path / "stories")
    Tokenizer().save(tmp_path / "stories")
    story = stories.stories(5, seed=7)
    (tmp_path / "text.txt").write_text("\n" + story)
    for name in ("stories", str(tmp_path / "stories")):
        assert main(["generate", name, "--seed", "1", "--max-new-tokens", "40"]) == 0
    one, two = capsys.readouterr().out.splitlines()
    assert one == two and len(one) == 40
    folder, text = str(tmp_path / "stories"), str(tmp_path / "text.txt")
    assert main(["eval", folder, "--text", text]) == 0        # the function's stride
    said = capsys.readouterr().out
    assert f"{perplexity(story_model(), Tokenizer(), chr(10) + story):.4f}" in said
    assert f"{len(story):,} tokens, {len(story):,} bytes" in said


@pytest.mark.parametrize("kind", ["bytes", "bpe:300"])
def test_the_floor_is_that_of_whole_stories_whatever_the_tokens(kind: str) -> None:
    text = prepare_text("stories", 257, kind).some(50)
    nats = sum(sum(stories.surprise(story)) for story in text.stories)
    total = floor(text) * sum(len(window) - 1 for window in text.windows)
    assert abs(total / nats - 1) < 0.01             # a long one may be cut off
    first = text.tokenizer.decode(text.windows[0])
    assert ("\n" + text.stories[0]).startswith(first)


def test_bad_input_is_told_in_one_line(text: Path, tmp_path: Path, capsys) -> None:
    run, other = tmp_path / "run", tmp_path / "other"
    assert train(text, run) == 0
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9 " * 500)
    (tmp_path / "empty.txt").write_bytes(b"")
    out = ["--out", str(other)]
    table = [
        (["train", "--text", str(text), "--out", str(run)], "is a run already"),
        (["train", "--text", str(text), "--out", str(text)], "is a file"),
        (["train", "--text", str(tmp_path / "none.txt"), *out], "no file"),
        (["train", "--text", str(tmp_path / "latin.txt"), *out], "not UTF-8"),
        (["train", "--text", str(tmp_path / "empty.txt"), *out], "empty"),
        (["train", "--text", "storys", *out], "Did you mean stories?"),
        (["train", "--text", str(text), *out, "--steps", "0"], "steps is 0"),
        (["train", "--text", str(text), *out, "--dropout", "1.5"], "dropout is 1.5"),
        (["train", "--text", str(text), *out, "--seq-length", "9999"], "9999"),
        (["train", "--text", str(text), *out, "--sample-every", "0"], "sample-every"),
        (["train", *out, "--resume"], "no run to go on with"),
        (["train", "--out", str(run), "--resume", "--steps", "9"], "not 9"),
        (["train", "--out", str(tmp_path / "hurt"), "--resume"], "is damaged: text"),
        (["generate", str(other)], "no checkpoint"),
        (["generate", str(text)], "safetensors"),
        (["generate", str(run), "--prompt", ""], "the prompt is empty"),
        (["generate", str(run), "--top-k", "0"], "top_k is 0"),
        (["generate", str(run), "--top-p", "1.5"], "top_p is 1.5"),
        (["generate", str(run), "--temperature", "-1"], "temperature is -1.0"),
        (["generate", str(run), "--max-new-tokens", "-1"], "max_new_tokens is -1"),
        (["bench", "--rounds", "0"], "--rounds is 0"),
        (["bench", "--checks", "--model", "gpt2"], "give one of the three"),
        (["train", "--text", str(text), *out, "--tokenizer", "bpe"], "expected bytes"),
        (["train", "--text", str(text), *out, "--tokenizer", "bpe:9"], "at least 257"),
        (["train", "--text", str(text), *out, "--tokenizer", "bpe:9999"], "allows"),
        (["generate", "gpt2-medium"], "put config.json"),
        (["eval", "stories", "--text", str(tmp_path / "none.txt")], "no file"),
        (["eval", "stories", "--text", str(text), "--stride", "300"], "stride is 300"),
        (["eval", "stories", "--text", str(text), "--stride", "-1"], "stride is -1"),
        (["eval", "stories", "--text", str(text), "--max-tokens", "1"], "2 or more"),
        (["eval", str(other), "--text", str(text)], "no checkpoint"),
    ]
    (tmp_path / "hurt").mkdir()
    (tmp_path / "hurt" / "settings.json").write_text("{}")
    for words, message in table:
        capsys.readouterr()
        assert main(words) == 2, words
        said = capsys.readouterr().err.strip()
        assert message in said and "\n" not in said, (words, said)
        assert not other.exists(), words


def test_every_command_has_help(capsys) -> None:
    for name in COMMANDS:
        with pytest.raises(SystemExit) as left:
            main([name, "--help"])
        assert left.value.code == 0 and "usage" in capsys.readouterr().out


def test_the_shipped_model_is_close_to_the_floor() -> None:
    """Its loss on unseen stories is within 3% of the exact floor on the same bytes."""
    model = story_model()
    nats = floor = 0.0
    for story in stories.stories(200, seed=12345).splitlines(keepends=True):
        ids = torch.tensor([list(("\n" + story).encode())])
        nats += evaluate(model, ids) * len(story)
        floor += sum(stories.surprise(story))
    assert 0.97 < nats / floor < 1.03


def test_the_shipped_model_goes_on_beyond_its_window(capsys) -> None:
    """What it writes after 300 bytes still consists of the stories' words."""
    assert main(["generate", "stories", "--max-new-tokens", "700", "--seed", "0"]) == 0
    known = set(stories.stories(3000).replace("\n", " ").split())
    words = capsys.readouterr().out.split()[60:-1]
    assert sum(word in known for word in words) > 0.95 * len(words)


def test_memory_is_kept_where_glibc_allocates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it does, each option is one that it takes; elsewhere nothing happens."""
    code = "from gpt2_lesson.cli.memory import *; print(keep_freed_memory())"
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True,
                         text=True).stdout
    assert out == f"{platform.libc_ver()[0] == 'glibc'}\n"
    monkeypatch.setattr("ctypes.CDLL", lambda name: object())
    assert memory.keep_freed_memory() is False
