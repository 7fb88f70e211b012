"""`train` on several processes is `train` on one; and steps that wait for nothing."""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode
from train_ranks import TINY

from gpt2_lesson import validation
from gpt2_lesson.checkpoints import load_checkpoint, read_checkpoint
from gpt2_lesson.cli import main
from gpt2_lesson.gpt2_model import GPT2Model
from gpt2_lesson.runs.models import PaddedGPT2Model
from gpt2_lesson.runs.presets import PRESETS
from gpt2_lesson.scaling_out import distributed_step
from gpt2_lesson.training import TrainSettings, next_token_loss, train

SCRIPT = Path(__file__).parents[1] / "helpers" / "train_ranks.py"


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    lines = [f"{i} cats sat on {i * 7 % 91} mats.\n" for i in range(500)]
    path.write_text("".join(lines), encoding="utf-8")
    return path


def new(text: Path, out: Path, *more: str) -> list[str]:
    """Return the options of a new run."""
    words = ["train", "--text", str(text), "--out", str(out), "--device", "cpu"]
    return [*words, "--precision", "float32", "--sample-every", "6", *more]


def torchrun(
    count: int, words: list[str], restarts: int = 1, **environment: str
) -> str:
    """Run a command in so many processes; return its output, which ends with status."""
    launch = ["-m", "torch.distributed.run", "--standalone", "--local-addr=localhost"]
    launch += ["--nproc-per-node", str(count), "--max-restarts", str(restarts)]
    done = subprocess.run(
        [sys.executable, *launch, str(SCRIPT), *words],
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=500,
    )
    return f"{done.stdout}\nstatus {done.returncode}"


def stored(folder: Path) -> dict[str, Tensor]:
    """Return a run's tensors, without the states of random generators."""
    tensors = read_checkpoint(folder / "checkpoint.safetensors")[1]
    return {n: values for n, values in tensors.items() if not n.startswith("random")}


def assert_near(one: Path, two: Path) -> None:
    first, second = stored(one), stored(two)
    assert first.keys() == second.keys()
    for name in first:
        assert_close(first[name], second[name], rtol=0, atol=1e-5, msg=name)


@pytest.fixture(scope="module")
def alone(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the run of one process, with lesson 08's step."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    with tiny_preset():
        assert main(new(text, folder)) == 0
    return folder


@contextlib.contextmanager
def tiny_preset() -> Iterator[None]:
    """Let `demo` be the model that `train_ranks.py` trains."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "demo", TINY)
        yield


def test_two_processes_train_like_one_and_survive_a_kill(
    text: Path, alone: Path, tmp_path: Path
) -> None:
    two = tmp_path / "two"
    said = torchrun(2, new(text, two), STRIKE="SIGKILL:1:8")
    assert said.endswith("status 0"), said
    assert "continuing from step 5 of 12" in said
    for words in ("two: all 12 steps done", "--- step 12:"):  # one process speaks
        assert said.count(words) == 1, said
    assert_near(alone, two)
    names = sorted(path.name for path in alone.iterdir())
    assert sorted(path.name for path in two.iterdir()) == names
    load_checkpoint(two / "model.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_a_checkpoint_of_two_goes_on_with_one_and_with_four(
    strategy: str, text: Path, alone: Path, tmp_path: Path
) -> None:
    runs = [tmp_path / name for name in ("two", "one", "four")]
    words = new(text, runs[0], "--parallel", strategy)
    said = torchrun(2, words, restarts=0, STRIKE="SIGTERM:1:7")
    assert said.count("saved at step 7 of 12") == 1, said  # both stop at the same step
    for run in runs[1:]:
        shutil.copytree(runs[0], run)
    with tiny_preset():
        assert main(["train", "--out", str(runs[1]), "--resume"]) == 0
    for count, run in ((2, runs[0]), (4, runs[2])):
        said = torchrun(count, ["train", "--out", str(run), "--resume"])
        assert said.endswith("status 0") and "continuing from step 7" in said, said
    for run in runs:
        assert_near(alone, run)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_after_a_kill_every_bit_is_the_same(
    strategy: str, text: Path, tmp_path: Path
) -> None:
    """With dropout, too: the masks follow from the seed, the rank and the step."""
    files = []
    for name, rank in (("straight", "-"), ("killed", "0")):
        words = new(text, tmp_path / name, "--parallel", strategy)
        said = torchrun(2, words, STRIKE=f"SIGKILL:{rank}:8", DROPOUT="0.2")
        assert said.endswith("status 0"), said
        files.append((tmp_path / name / "checkpoint.safetensors").read_bytes())
    assert files[0] == files[1]


def test_padding_changes_nothing_but_speed() -> None:
    models = []
    ids = torch.randint(97, (3, 9))
    for kind in (GPT2Model, PaddedGPT2Model):
        torch.manual_seed(0)
        models.append(kind(97, 32, 2, 2, 16, 64))
        models[-1].eval()
    one, two = (model(ids) for model in models)
    assert two.shape == (3, 9, 97)
    assert_close(one, two)
    for logits in (one, two):
        next_token_loss(logits, ids).backward()
    for p, q in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert_close(p.grad, q.grad)
    assert models[0].state_dict().keys() == models[1].state_dict().keys()
    prompt = ids[:1, :4]
    assert torch.equal(*(m.generate(prompt, 9, temperature=0) for m in models))


class Reads(TorchDispatchMode):
    """Count how often Python reads a number of a tensor, for which a GPU would wait."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function is torch.ops.aten._local_scalar_dense.default
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("accumulation", [1, 3])
def test_a_step_waits_for_nothing(accumulation: int, monkeypatch) -> None:
    """No loss is read before the end, though there is a progress bar to draw."""
    monkeypatch.setattr(validation, "ids_fit", lambda *_: None)  # reads on a CPU only
    settings = TrainSettings(6, 9, 4, accumulation, save_every=100)
    seen = []
    with Reads() as reads:
        losses = train(
            GPT2Model(50, 16, 2, 1, 8, 32),
            torch.arange(50).repeat(4),
            settings,
            on_step=lambda losses: seen.append((reads.count, type(losses[-1]))),
            progress=False,
            take_step=distributed_step,
        )
    assert seen == [(0, Tensor)] * 6
    assert reads.count == 6 and all(type(loss) is float for loss in losses)


@pytest.mark.slow
def test_a_compiled_run_is_saved_like_any_other(text: Path, tmp_path: Path) -> None:
    words = ["--steps", "3", "--sample-every", "3"]
    with tiny_preset():
        for name, more in (("plain", []), ("fast", ["--compile", "--pad-vocab"])):
            assert main(new(text, tmp_path / name, *words, *more)) == 0
        assert_near(tmp_path / "plain", tmp_path / "fast")
        assert main(["train", "--out", str(tmp_path / "fast"), "--resume"]) == 0


@pytest.mark.slow
def test_the_bench_compares_processes_with_threads(capfd) -> None:
    assert main(["bench", "--distributed", "--rounds", "1"]) == 0
    said = capfd.readouterr().out
    assert "1 process x 2 threads" in said and "2 x 1 / 1 x 2: " in said
