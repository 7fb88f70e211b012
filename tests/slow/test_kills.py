"""`gpt2-lesson train` under SIGKILL, and two at once in one folder.

A tenth of what the course promises; all of it:

    GPT2_LESSON_KILLS=1000 GPT2_LESSON_PAIRS=50 pytest -s tests/slow/test_kills.py
"""

import os
import random
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from gpt2_lesson import training
from gpt2_lesson.checkpoints import read_checkpoint
from gpt2_lesson.cli import main
from gpt2_lesson.gpt2_model import GPT2Config
from gpt2_lesson.runs import report
from gpt2_lesson.runs.folder import read_log, read_plan
from gpt2_lesson.runs.presets import PRESETS
from gpt2_lesson.training import TrainSettings

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("GPT2_LESSON_KILLS", 100))
PAIRS = int(os.environ.get("GPT2_LESSON_PAIRS", 5))
STEPS = 30


@pytest.fixture(autouse=True)
def a_tiny_preset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `demo` a model that takes milliseconds a step, with dropout, saved often."""
    monkeypatch.setitem(
        PRESETS,
        "demo",
        (
            GPT2Config(256, 16, 2, 1, 16, 32, 0.2),
            TrainSettings(steps=STEPS, seq_length=17, batch_size=2, save_every=1),
        ),
    )
    (tmp_path / "text.txt").write_text("The cat sat down. " * 100)
    monkeypatch.setattr(report, "draw_losses", lambda *_: b"a picture takes longer")


def words(run: Path, resume: bool) -> list[str]:
    """Return the command that starts a run, or goes on with it."""
    if resume:
        return ["train", "--out", str(run), "--resume"]
    return [
        "train",
        "--text",
        str(run.parent / "text.txt"),
        "--out",
        str(run),
        "--tokenizer",
        "bpe:265",
        "--sample-every",
        "15",
        "--device",
        "cpu",
        "--precision",
        "float32",
    ]


def start(command: list[str], log: Path, prepare: Callable[[], object]) -> int:
    """Run a command in a process of its own; return its id."""
    child = os.fork()
    if child == 0:
        status = 99
        try:  # nothing of pytest runs in here
            sys.stdout = sys.stderr = open(log, "w", encoding="utf-8")
            torch.set_num_threads(1)
            prepare()
            status = main(command)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(status)
    return child


def killer(run: Path, moment: int) -> Callable[[], None]:
    """Return what lets a process kill itself at a moment at which it touches files.

    Moments are counted: a file is opened, renamed, removed, or a folder made, below
    `run`; and before and after each wait for the disk.
    """
    left, folder, sync = [moment], str(run), os.fsync

    def count() -> None:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def audit(event: str, arguments: tuple) -> None:
        if event in ("open", "os.rename", "os.remove", "os.mkdir"):
            if any(str(one).startswith(folder) for one in arguments[:2]):
                count()

    def fsync(handle: int) -> None:
        count()
        sync(handle)
        count()

    def prepare() -> None:
        sys.addaudithook(audit)
        os.fsync = fsync

    return prepare


def wait(child: int) -> int:
    """Return how a process ended: its exit status, or minus the signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def finished(run: Path) -> tuple[dict, dict[str, torch.Tensor], list[str]]:
    """Return a finished run's checkpoint and the names of its files."""
    names = sorted(path.name for path in run.iterdir())
    return *read_checkpoint(run / "checkpoint.safetensors"), names


def assert_same(one: tuple, two: tuple) -> None:
    assert one[0] == two[0] and one[2] == two[2]
    assert one[1].keys() == two[1].keys()
    assert all(torch.equal(one[1][name], two[1][name]) for name in one[1])


def whole(run: Path) -> int:
    """Return how many steps are saved; what is there after a kill can be read."""
    if (run / "settings.json").exists():
        read_plan(run, tuple(PRESETS))
    read_log(run / "log.json")
    path = run / "checkpoint.safetensors"
    return len(read_checkpoint(path)[1]["losses"]) if path.exists() else 0


def test_no_kill_costs_more_than_the_steps_since_the_save(tmp_path: Path) -> None:
    log, draw = tmp_path / "log", random.Random(KILLS)
    straight = tmp_path / "straight"
    began = time.monotonic()
    assert wait(start(words(straight, False), log, int)) == 0, log.read_text()
    usual, wanted = time.monotonic() - began, finished(straight)
    kills, runs, done, told = 0, 0, 0, Counter()
    while kills < KILLS:
        run = tmp_path / f"run{runs}"
        resume = (run / "settings.json").exists()
        aimed = draw.random() < 0.75
        prepare = killer(run, draw.randint(1, 60)) if aimed else int
        child = start(words(run, resume), log, prepare)
        if not aimed:
            time.sleep(draw.uniform(0, usual))
            os.kill(child, signal.SIGKILL)
        status = wait(child)
        assert status in (0, -signal.SIGKILL), log.read_text()
        if status:
            kills += 1
            told["aimed" if aimed else "timed", "resumed" if resume else "new"] += 1
            assert whole(run) >= done
            done = whole(run)
        else:
            assert_same(finished(run), wanted)
            runs, done = runs + 1, 0
    print(f"\n{kills} kills ({dict(told)}), {runs} runs ended, each as if never killed")


def slow() -> None:
    """Let a step take long enough for the other process to come."""
    real = training.train_step

    def step(*arguments: object) -> float:
        time.sleep(0.1)
        return real(*arguments)

    training.train_step = step


def test_of_two_at_once_one_works(tmp_path: Path) -> None:
    straight, log = tmp_path / "straight", tmp_path / "log"
    assert wait(start(words(straight, False), log, int)) == 0, log.read_text()
    wanted, refused = finished(straight), 0
    for pair in range(PAIRS):
        run, resume = tmp_path / f"pair{pair}", pair % 2 == 1
        if resume:  # a run that was killed before
            assert wait(start(words(run, False), log, killer(run, 60))) < 0
        logs = [tmp_path / f"log{i}" for i in (0, 1)]
        children = [start(words(run, resume), path, slow) for path in logs]
        ended = [wait(child) for child in children]
        said = [path.read_text(encoding="utf-8") for path in logs]
        assert 0 in ended and set(ended) <= {0, 2}, said
        if 2 in ended:
            winner = ended.index(0)
            in_use = f"in use: process {children[winner]} " in said[1 - winner]
            assert in_use or "is already a run" in said[1 - winner], said
            refused += in_use
        else:  # it came when all was done
            assert any(f"from step {STEPS} of {STEPS}" in text for text in said), said
        assert_same(finished(run), wanted)
    print(f"\n{PAIRS} pairs, in {refused} the second was told the first's process id")
    assert refused
