"""The commands, from outside: train, go on, generate; and what they refuse."""

import io
import json
import platform
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

import gpt2_lesson.training as training
from gpt2_lesson.bench import int8
from gpt2_lesson.checkpoints import (
    load_checkpoint,
    read_checkpoint,
    save_checkpoint,
)
from gpt2_lesson.cli import COMMANDS, main
from gpt2_lesson.corpora import stories, story_model
from gpt2_lesson.gpt2_model import GPT2Model
from gpt2_lesson.measuring import bits_per_byte, perplexity
from gpt2_lesson.real_gpt2 import save_gpt2
from gpt2_lesson.runs import memory
from gpt2_lesson.runs.folder import only_one
from gpt2_lesson.runs.presets import PRESETS
from gpt2_lesson.runs.report import entropy_rate
from gpt2_lesson.runs.text import as_tokens, prepare_text
from gpt2_lesson.tokenizer import Tokenizer
from gpt2_lesson.training import evaluate

SMALL = [
    "--preset",
    "demo",
    "--steps",
    "6",
    "--batch-size",
    "2",
    "--seq-length",
    "16",
    "--sample-every",
    "3",
    "--device",
    "cpu",
    "--precision",
    "float32",
]


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
    assert {
        "checkpoint.safetensors",
        "model.safetensors",
        "losses.png",
        "samples.txt",
    } <= {path.name for path in out.iterdir()}
    assert (out / "losses.png").read_bytes().startswith(b"\x89PNG")
    words = [
        "generate",
        str(out),
        "--prompt",
        "The ",
        "--max-new-tokens",
        "9",
        "--temperature",
        "0.8",
        "--top-k",
        "50",
        "--seed",
        "1",
    ]
    assert main(words) == 0
    first = capsys.readouterr().out
    assert first.startswith("The ")
    assert main(words) == 0 and capsys.readouterr().out == first  # same seed
    assert main([*words[:-1], "2"]) == 0 and capsys.readouterr().out != first


def break_off(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """Let a step raise KeyboardInterrupt before it has done anything."""
    real, calls = training.train_step, []

    def step(*arguments: object) -> float:
        calls.append(1)
        if len(calls) == steps:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(training, "train_step", step)


def test_an_interrupted_run_goes_on_as_if_it_had_not_been(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight, cut = tmp_path / "straight", tmp_path / "cut"
    assert train(text, straight) == 0
    with monkeypatch.context() as patch:
        break_off(patch, 5)
        assert train(text, cut) == 130
    assert main(["train", "--out", str(cut), "--resume"]) == 0
    one, two = (
        load_checkpoint(run / "checkpoint.safetensors").state_dict()
        for run in (straight, cut)
    )
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
    with monkeypatch.context() as patch:
        break_off(patch, 5)
        assert train(text, cut, "--tokenizer", "bpe:280") == 130
    assert main(["train", "--out", str(cut), "--resume"]) == 0
    one, two = (
        load_checkpoint(run / "checkpoint.safetensors").state_dict()
        for run in (straight, cut)
    )
    assert all(torch.equal(one[name], two[name]) for name in one)
    capsys.readouterr()
    assert main(["generate", str(cut), "--prompt", "The cat", "--seed", "1"]) == 0
    assert capsys.readouterr().out.startswith("The cat")
    words = ["eval", str(cut), "--text", str(text), "--max-tokens", "0"]
    assert main([*words, "--stride", "5"]) == 0
    unseen = text.read_text()[len(text.read_text()) * 9 // 10 :]
    expected = bits_per_byte(model, vocabulary, unseen, stride=5)
    assert f"{expected:.4f}" in capsys.readouterr().out
    for name in ("vocab.json", "tokenizer.json"):  # then the run cannot be used
        (cut / name).unlink()
    assert main(["generate", str(cut)]) == 2
    assert "are its vocab.json and merges.txt there?" in capsys.readouterr().err


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
    assert main(["eval", folder, "--text", text]) == 0  # the function's stride
    said = capsys.readouterr().out
    assert f"{perplexity(story_model(), Tokenizer(), chr(10) + story):.4f}" in said
    assert f"{len(story):,} tokens, {len(story):,} bytes" in said


@pytest.mark.parametrize("kind", ["bytes", "bpe:300"])
def test_the_floor_is_that_of_whole_stories_whatever_the_tokens(kind: str) -> None:
    text = prepare_text("stories", 257, kind).some(50)
    nats = sum(sum(stories.nll(story)) for story in text.stories)
    total = entropy_rate(text) * sum(len(window) - 1 for window in text.windows)
    assert abs(total / nats - 1) < 0.01  # a long one may be cut off
    first = text.tokenizer.decode(text.windows[0])
    assert ("\n" + text.stories[0]).startswith(first)


def test_bad_input_is_told_in_one_line(text: Path, tmp_path: Path, capsys) -> None:
    run, other = tmp_path / "run", tmp_path / "other"
    assert train(text, run) == 0
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9 " * 500)
    (tmp_path / "empty.txt").write_bytes(b"")
    out = ["--out", str(other)]
    table = [
        (["train", "--text", str(text), "--out", str(run)], "is already a run"),
        (["train", "--text", str(text), "--out", str(text)], "is a file"),
        (["train", "--text", str(tmp_path / "none.txt"), *out], "no file"),
        (["train", "--text", str(tmp_path / "latin.txt"), *out], "not UTF-8"),
        (["train", "--text", str(tmp_path / "empty.txt"), *out], "empty"),
        (["train", "--text", "storys", *out], "Did you mean stories?"),
        (["train", "--text", str(text), *out, "--steps", "0"], "steps is 0"),
        (["train", "--text", str(text), *out, "--dropout", "1.5"], "dropout is 1.5"),
        (["train", "--text", str(text), *out, "--seq-length", "9999"], "9999"),
        (["train", "--text", str(text), *out, "--sample-every", "0"], "sample-every"),
        (["train", *out, "--resume"], "to resume: start it without"),
        (["train", "--out", str(run), "--resume", "--steps", "9"], "not 9"),
        (["train", "--out", str(tmp_path / "hurt"), "--resume"], "is damaged: text"),
        (["generate", str(other)], "no checkpoint"),
        (["generate", str(text)], "safetensors"),
        (["generate", str(run), "--prompt", ""], "the prompt is empty"),
        (["generate", str(run), "--top-k", "0"], "top_k is 0"),
        (["generate", str(run), "--top-p", "1.5"], "top_p is 1.5"),
        (["generate", str(run), "--temperature", "-1"], "temperature is -1.0"),
        (["generate", str(run), "--max-new-tokens", "-1"], "tokens is -1"),
        (["bench", "--rounds", "0"], "--rounds is 0"),
        (["bench", "--checks", "--model", "gpt2"], "give only one of them"),
        (["bench", "--checks", "--distributed"], "give only one of them"),
        (["train", "--text", str(text), *out, "--tokenizer", "bpe"], "expected bytes"),
        (["train", "--text", str(text), *out, "--tokenizer", "bpe:9"], "at least 257"),
        (["train", "--text", str(text), *out, "--tokenizer", "bpe:9999"], "allows"),
        (["train", "--text", str(text), *out, "--seed", str(2**70)], "seed is 118059"),
        (["train", "--text", str(text), *out, "--seed", "-1"], "seed is -1"),
        (["train", "--text", str(text), *out, "--save-every", "0"], "save_every is 0"),
        (["train", "--text", str(text), *out, "--max-lr", "nan"], "max_lr is nan"),
        (["train", "--text", str(text), *out, "--warmup-steps", "-1"], "steps is -1"),
        (["train", "--text", str(text), *out, "--batch-size", "0"], "batch_size is 0"),
        (["generate", "stories", "--seed", str(2**70)], "seed is 118059"),
        (["eval", "stories", "--text", str(text), "--stride", "0"], "--stride is 0"),
        (["eval", "stories", "--text", str(text), "--batch-size", "0"], "is 0"),
        (["eval", "stories", "--text", str(text), "--max-tokens", "-1"], "is -1"),
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
        floor += sum(stories.nll(story))
    assert 0.97 < nats / floor < 1.03


def test_the_shipped_model_goes_on_beyond_its_window(capsys) -> None:
    """What it writes after 300 bytes still consists of the stories' words."""
    assert main(["generate", "stories", "--max-new-tokens", "500", "--seed", "0"]) == 0
    known = set(stories.stories(3000).replace("\n", " ").split())
    words = capsys.readouterr().out.split()[60:-1]
    assert sum(word in known for word in words) > 0.95 * len(words)


def test_int8_continues_as_float32_does_where_it_is_sure(capsys) -> None:
    told = ["generate", "stories", "--temperature", "0", "--max-new-tokens", "30"]
    for option in ([], ["--int8"]):
        assert main([*told, "--prompt", "\nOne foggy dusk Nora found a", *option]) == 0
    one, two = capsys.readouterr().out.splitlines()
    assert two.startswith("One foggy dusk Nora found a ") and len(two) == len(one)
    assert set(two.split()) <= set(stories.stories(3000).split()) | {two.split()[-1]}


def test_the_bench_says_what_int8_costs(capsys) -> None:
    int8.report_cost(count=4, length=60, prompt=40)
    told = capsys.readouterr().out
    exact, found = map(float, re.findall(r"(?:loss|int8) (0\.\d+)", told)[:2])
    assert 0.05 < exact < 0.5 and abs(found - exact) < 0.01
    assert "the same at" in told and "greedy texts of 20 tokens" in told


def test_memory_is_kept_where_glibc_allocates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it does, each option is one that it takes; elsewhere nothing happens."""
    code = "from gpt2_lesson.runs.memory import *; print(keep_freed_memory())"
    out = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout
    assert out == f"{platform.libc_ver()[0] == 'glibc'}\n"
    monkeypatch.setattr("ctypes.CDLL", lambda name: object())
    assert memory.keep_freed_memory() is False


def weights(run: Path) -> dict[str, torch.Tensor]:
    return read_checkpoint(run / "checkpoint.safetensors")[1]


def stop_after(monkeypatch: pytest.MonkeyPatch, steps: int, *signals: int) -> None:
    """Let these signals come in the middle of a step."""
    real, calls = training.train_step, []

    def step(*arguments: object) -> float:
        calls.append(1)
        if len(calls) == steps:
            for number in signals:
                signal.raise_signal(number)
        return real(*arguments)

    monkeypatch.setattr(training, "train_step", step)


@pytest.mark.parametrize(
    ("signals", "status", "saved"),
    [
        ([signal.SIGINT], 130, 5),
        ([signal.SIGTERM], 143, 5),
        ([signal.SIGINT, signal.SIGINT], 130, 4),  # at once: step 5 is lost
        ([signal.SIGTERM, signal.SIGINT], 130, 4),
        ([signal.SIGINT, signal.SIGTERM], 143, 4),
    ],
)
def test_a_stopped_run_is_saved_and_goes_on(
    text: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys,
    signals: list[int],
    status: int,
    saved: int,
) -> None:
    straight, cut = tmp_path / "straight", tmp_path / "the cut"
    assert train(text, straight) == 0
    with monkeypatch.context() as patch:
        stop_after(patch, 5, *signals)
        assert train(text, cut, "--save-every", "2") == status
    said = capsys.readouterr().err
    assert f"saved at step {saved} of 6" in said and "--resume" in said
    assert f"--out '{cut}' " in said or platform.system() == "Windows"
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    words = ["train", "--out", str(cut), "--resume", "--save-every", "1"]
    assert main(words) == 0
    assert f"continuing from step {saved} of 6" in capsys.readouterr().out
    one, two = weights(straight), weights(cut)
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_run_moves_with_its_text_to_another_machine(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    straight, begun, moved = (tmp_path / name for name in "abc")
    assert train(text, straight) == 0
    with monkeypatch.context() as patch:
        stop_after(patch, 3, signal.SIGINT)
        assert train(text, begun) == 130
    begun.rename(moved)
    elsewhere, other = tmp_path / "elsewhere.txt", tmp_path / "other.txt"
    text.rename(elsewhere)
    other.write_text("The dog sat down. " * 200)
    plan = json.loads((moved / "settings.json").read_text())
    (moved / "settings.json").write_text(json.dumps(plan | {"device": "mps"}))
    resume = ["train", "--out", str(moved), "--resume"]
    for more, message in (
        ([], "is no longer there: say with --text where it is"),
        (["--text", str(other)], "not the text that this run was started with"),
        (["--text", str(elsewhere), "--device", "mps"], "no mps device"),
    ):
        capsys.readouterr()
        assert main([*resume, *more]) == 2
        assert message in capsys.readouterr().err
    assert main([*resume, "--text", str(elsewhere)]) == 0
    assert "started on mps and continues on cpu" in capsys.readouterr().err
    assert main(resume) == 0  # it knows the place now
    one, two = weights(straight), weights(moved)
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_eval_measures_what_training_did_not_see(
    text: Path, tmp_path: Path, capsys
) -> None:
    run, copy = tmp_path / "run", tmp_path / "copy.txt"
    text.write_text("".join(f"{i}: the cat sat down. " for i in range(100)))
    assert train(text, run) == 0
    copy.write_text(text.read_text())
    model = load_checkpoint(run / "model.safetensors")
    data = text.read_text()
    whole, unseen = (
        f"{perplexity(model, Tokenizer(), part, 7):.4f}"
        for part in (data, data[len(data) * 9 // 10 :])
    )
    assert whole != unseen
    for name, file, expected, note in (
        (run, text, unseen, "validation part"),
        (run / "checkpoint.safetensors", copy, unseen, "validation part"),
        (run, tmp_path / "longer.txt", None, ""),
        (run, text, None, "an earlier version of this file"),
    ):
        if expected is None:
            file.write_text(data + "More. " * 9)
            more = perplexity(model, Tokenizer(), file.read_text(), 7)
            expected = f"{more:.4f}"
        capsys.readouterr()
        words = ["eval", str(name), "--text", str(file), "--stride", "7"]
        assert main([*words, "--max-tokens", "0"]) == 0
        said = capsys.readouterr()
        assert expected in said.out and note in said.err and (note or not said.err)


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_narrow_encoding_kills_no_command(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    text.write_text("Zażółć gęślą jaźń \U0001f642 " * 100, encoding="utf-8")
    for words, status, shown in (
        (["train", "--text", str(text), "--out", str(tmp_path / "run"), *SMALL], 0, ""),
        (["generate", "stories", "--prompt", "Zaż \U0001f642"], 0, "\\u017c \\U0001f"),
        (["generate", "stories", "--prompt", "\udcff"], 2, ""),
    ):
        out, err = (io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2))
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stderr", err)
            found = main(words)
        out.flush()
        assert found == status and shown.encode() in out.buffer.getvalue()


def test_no_progress_bar_in_a_pipe(text: Path, tmp_path: Path, capsys) -> None:
    assert train(text, tmp_path / "run") == 0
    assert main(["generate", "stories", "--max-new-tokens", "3"]) == 0
    words = ["eval", str(tmp_path / "run"), "--text", "stories", "--max-tokens", "99"]
    assert main(words) == 0
    assert "token/s" not in capsys.readouterr().err


def test_the_help_of_train_says_every_default(capsys) -> None:
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    said = capsys.readouterr().out
    usage, options = said.split("options:")
    assert "[--text TEXT] [--preset NAME]" in usage
    options = options.split("examples:")[0].replace("\n                       ", "")
    for line in options.strip().splitlines():
        if not line.split()[0].startswith(("-h", "--out", "--resume", "--traceback")):
            assert "default" in line, line
    for name, (_, settings) in PRESETS.items():
        row = next(
            line.split()
            for line in said.splitlines()
            if line.strip().startswith(f"{name} ") and " x " in line
        )
        assert row[4:] == [
            str(settings.steps),
            str(settings.batch_size),
            str(settings.seq_length),
            str(settings.max_lr),
            settings.optimizer,
        ]


def test_documents_are_kept_apart_and_generation_stops(tmp_path: Path, capsys) -> None:
    end = "<|endoftext|>"
    text = ("The cat sat on the mat. " * 30 + end) * 20
    tokenizer = Tokenizer.train(text, 280)
    number = tokenizer.encode(end, special="token")[0]
    assert (as_tokens(text, tokenizer) == number).sum() == 20
    (tmp_path / "text.txt").write_text(text)
    model = GPT2Model(280, 16, 2, 1, 8, 32, 0.0)
    with torch.no_grad():  # it wants nothing but the end
        model.ln_final.weight.zero_()
        model.ln_final.bias.fill_(1.0)
        model.tok_emb.weight[number] = 9.0
    save_checkpoint(tmp_path / "model.safetensors", model)
    tokenizer.save(tmp_path)
    nats = bits_per_byte(model, tokenizer, "The end", 4)
    assert nats > 1
    words = ["generate", str(tmp_path), "--max-new-tokens", "3", "--prompt", "The"]
    for more, expected in (
        ([], "The\n"),
        (["--stop", ""], f"The{end * 3}\n"),
        (["--stop", "e"], f"The{end * 3}\n"),
    ):
        capsys.readouterr()
        assert main([*words, *more]) == 0
        assert capsys.readouterr().out == expected
    assert main([*words, "--stop", "mat. The dog"]) == 2
    assert "expected one" in capsys.readouterr().err


def test_one_process_at_a_time_trains_in_a_folder(
    text: Path, tmp_path: Path, capsys
) -> None:
    run = tmp_path / "run"
    assert train(text, run) == 0
    code = (
        "import sys; from pathlib import Path\n"
        "from gpt2_lesson.runs.folder import only_one\n"
        "with only_one(Path(sys.argv[1])): print('in', flush=True); input()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(run)],
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout.readline() == "in\n"
    resume = ["train", "--out", str(run), "--resume"]
    for words in (resume, ["train", "--text", str(text), "--out", str(run)]):
        assert main(words) == 2
        assert f"is in use: process {holder.pid} " in capsys.readouterr().err
    holder.kill()  # its lock is not in the way
    holder.communicate()
    assert main(resume) == 0


def test_a_start_that_was_killed_is_not_in_the_way(text: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    with only_one(run):
        pass
    (run / ".owner.json").write_text("{")
    (run / ".gpt2_lesson-0123456789abcdef.partial").write_text('{"text": ')
    assert train(text, run) == 0


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    (folder / "text.txt").write_text("The cat sat down. " * 200)
    assert train(folder / "text.txt", folder / "run") == 0
    return folder / "run"


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        ("settings.json", {"device": "tpu"}, "device cannot be used"),
        ("settings.json", {"device": None}, "device cannot be used"),
        ("settings.json", {"preset": 3}, "preset cannot be used"),
        ("settings.json", {"preset": ["demo"]}, "preset cannot be used"),
        ("settings.json", {"steps": "6"}, "steps cannot be used"),
        ("settings.json", {"seed": True}, "seed cannot be used"),
        ("settings.json", {"seed": -1}, "is damaged: seed is -1"),
        ("settings.json", {"dropout": 2}, "is damaged: dropout is 2"),
        ("settings.json", {"optimizer": "sgd"}, "is damaged: optimizer is 'sgd'"),
        ("settings.json", {"save_every": 0}, "is damaged: save_every is 0"),
        ("settings.json", {"text": 3}, "text cannot be used"),
        ("settings.json", {"tokenizer": "words"}, "tokenizer cannot be used"),
        ("settings.json", {"sample_every": 0}, "sample_every cannot be used"),
        ("settings.json", {"steps": 9}, "steps was 6 and is 9"),
        ("log.json", {"3": {}}, "is damaged at step '3'"),
        ("log.json", {"x": 1}, "is damaged at step 'x'"),
        ("log.json", {"3": {"training": "1", "validation": 1, "sample": ""}}, "is '1'"),
    ],
)
def test_a_damaged_run_is_told_in_one_line(
    finished: Path, tmp_path: Path, capsys, file: str, change: dict, words: str
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    content = json.loads((run / file).read_text())
    (run / file).write_text(json.dumps(content | change))
    capsys.readouterr()
    assert main(["train", "--out", str(run), "--resume"]) == 2
    said = capsys.readouterr().err.strip()
    assert words in said and "\n" not in said, said


def test_a_run_that_diverges_says_what_to_do(
    text: Path, tmp_path: Path, capsys
) -> None:
    assert train(text, tmp_path / "run", "--max-lr", "1e38") == 2
    said = capsys.readouterr().err
    assert "smaller" in said and ("learning rate" in said or "--max-lr" in said)


def test_a_finished_run_is_remembered_by_its_plan(text: Path, tmp_path: Path) -> None:
    assert train(text, tmp_path / "run", "--save-every", "4") == 0
    plan = json.loads((tmp_path / "run" / "settings.json").read_text())
    assert plan["save_every"] == 4 and len(plan["text_sha256"]) == 64
    assert asdict(load_checkpoint(tmp_path / "run" / "model.safetensors").config)
