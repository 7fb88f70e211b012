"""`gpt2-lesson finetune`: stopped and resumed, used, and what it refuses."""

import json
import shutil
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import gpt2_lesson.training as training
from gpt2_lesson.cli import main
from gpt2_lesson.runs.models import open_model

EXAMPLES = [
    {"prompt": f"{name}, {thing}", "answer": f"One foggy day {name} found a {thing}."}
    for name in ("Nora", "Tess", "Tom")
    for thing in ("bell", "red lamp")
]
SETTINGS = "--lora 2 --steps 4 --batch-size 2 --sample-every 4 --precision float32"


def finetune(data: Path, out: Path, *more: str, model: str = "stories") -> int:
    words = ["finetune", model, "--data", str(data), "--out", str(out)]
    return main([*words, "--device", "cpu", *more])


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "requests.jsonl"
    lines = "\n\n".join(json.dumps(one) for one in EXAMPLES)
    path.write_text(lines, encoding="utf-8")
    return path


def test_a_stopped_run_gives_the_same_adapter_and_merges_it(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    straight, cut = tmp_path / "straight", tmp_path / "cut"
    assert finetune(data, straight, *SETTINGS.split(), "--merge") == 0
    assert "adapter" not in capsys.readouterr().out.splitlines()[-1]
    real, calls = training.train_step, []

    def step(*arguments: object) -> float:
        calls.append(1)
        if len(calls) == 3:
            signal.raise_signal(signal.SIGTERM)
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(training, "train_step", step)
        assert finetune(data, cut, *SETTINGS.split()) == 143
    assert "saved at step 3 of 4; to continue: gpt2-lesson finetune --out" in (
        capsys.readouterr().err
    )
    assert main(["generate", str(cut)]) == 2  # not the base model, unnoticed
    assert "finetune --resume" in capsys.readouterr().err
    data.rename(tmp_path / "moved.jsonl")
    resume = ["finetune", "--out", str(cut), "--resume"]
    assert main(resume) == 2 and "requests.jsonl" in capsys.readouterr().err
    assert main([*resume, "--data", str(tmp_path / "moved.jsonl")]) == 0
    assert (
        "an adapter of 66 kB: gpt2-lesson generate stories" in capsys.readouterr().out
    )
    one, two = (load_file(run / "adapter_model.safetensors") for run in (straight, cut))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert (straight / "adapter_model.safetensors").stat().st_size < 70_000
    said = []
    for words in ([str(straight)], ["stories", "--adapter", str(cut)]):
        more = ["--request", "Nora, bell", "--seed", "1", "--max-new-tokens", "40"]
        assert main(["generate", *words, *more]) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1] and said[0].startswith("Nora, bell\n")


def test_the_whole_model_is_trained_without_lora(
    data: Path, tmp_path: Path, capsys
) -> None:
    out = tmp_path / "run"
    assert finetune(data, out, *SETTINGS.split()[2:], "--max-lr", "0.01") == 0
    assert "858,880 of 858,880 parameters are trained" in capsys.readouterr().out
    first, last = (open_model(name)[0].state_dict() for name in ("stories", str(out)))
    assert not any(torch.equal(first[name], last[name]) for name in first)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("nonsense", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ('{"prompt": "a"}', 'expected {"prompt": "...", "answer": "..."}'),
        ('["a", "b"]', "expected {"),
        ('{"prompt": 3, "answer": "b"}', "prompt is 3, expected a text"),
        ('{"prompt": "a", "answer": null}', "answer is None, expected a text"),
        ('{"prompt": "a", "answer": ""}', "answer is '', expected a text"),
        ('{"prompt": "a", "answer": "b\\nc"}', "the answer has a newline"),
        ('{"prompt": "\\ud800", "answer": "b"}', "ud800"),
        (json.dumps({"prompt": "a", "answer": "b" * 256}), "at most 257"),
    ],
)
def test_a_bad_line_is_named(
    line: str, said: str, data: Path, tmp_path: Path, capsys
) -> None:
    with open(data, "a", encoding="utf-8") as file:
        file.write(f"\n\n{line}\n")
    assert finetune(data, tmp_path / "run", *SETTINGS.split()) == 2
    error = capsys.readouterr().err
    assert f"{data}, line 13" in error and said in error and error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_bad_options_and_files_are_told_in_one_line(
    data: Path, tmp_path: Path, capsys
) -> None:
    out, empty = tmp_path / "run", tmp_path / "empty.jsonl"
    one = tmp_path / "one.jsonl"
    empty.write_text("\n \n", encoding="utf-8")
    one.write_text(json.dumps(EXAMPLES[0]), encoding="utf-8")
    for arguments, said in (
        ([data, out, "--lora", "-1"], "--lora is -1, expected 0 or more"),
        ([data, out, "--lora", "999"], "rank is 999, expected 1 to 128"),
        ([data, out, "--merge"], "are for an adapter: give --lora R, too"),
        ([data, out, "--steps", "0"], "--steps is 0"),
        ([data, out, "--lora", "2", "--alpha", "0"], "alpha is 0"),
        ([data, out, "--max-lr", "nan"], "max_lr is nan"),
        ([data, out, "--sample-every", "0"], "--sample-every is 0"),
        ([empty, out], "has no examples"),
        ([one, out], "has 1 example, expected 2 or more"),
        ([tmp_path / "none.jsonl", out], "no file"),
        ([data, tmp_path], "is not empty"),
    ):
        assert finetune(*arguments) == 2
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1, (said, error)
    assert finetune(data, out, model="nothing") == 2
    assert main(["finetune", "--out", str(out)]) == 2
    assert "needs the model and the examples" in capsys.readouterr().err
    assert main(["finetune", "--out", str(out), "--resume"]) == 2
    assert "there is no run" in capsys.readouterr().err and not out.exists()


def test_a_run_is_resumed_only_as_it_was_started(
    data: Path, tmp_path: Path, capsys
) -> None:
    out = tmp_path / "run"
    assert finetune(data, out, *SETTINGS.split()) == 0
    assert finetune(data, out, *SETTINGS.split()) == 2
    assert "already a run" in capsys.readouterr().err
    resume = ["finetune", "--out", str(out), "--resume"]
    assert main([*resume, "--lora", "3"]) == 2
    assert "was started with lora 2, not 3" in capsys.readouterr().err
    other = tmp_path / "other.jsonl"
    shutil.copy(data, other)
    other.write_text(other.read_text("utf-8").replace("foggy", "windy"), "utf-8")
    assert main([*resume, "--data", str(other)]) == 2
    assert "its content differs" in capsys.readouterr().err
    assert main([*resume, "--merge"]) == 0  # later, without training again
    assert (out / "model.safetensors").exists()
    settings = out / "settings.json"
    settings.write_text(settings.read_text("utf-8").replace('"lora": 2', '"lora": "x"'))
    assert main(resume) == 2 and "is damaged: lora" in capsys.readouterr().err
