"""`gpt2-lesson train` of a tiny model, for torchrun; one rank may be sent a signal.

$STRIKE is "SIGKILL:1:7": rank 1 gets it in its step 7, unless it was started again.
"""

import os
import signal
import sys
from dataclasses import replace

from gpt2_lesson.cli import main
from gpt2_lesson.gpt2_model import GPT2Config
from gpt2_lesson.runs import processes, report
from gpt2_lesson.runs.presets import PRESETS
from gpt2_lesson.training import TrainSettings

TINY = (
    GPT2Config(256, 32, 2, 2, 16, 64, 0.0),
    TrainSettings(steps=12, seq_length=17, batch_size=8, accumulation=2, save_every=5),
)


def strike(name: str, rank: str, step: str) -> None:
    """Let this process get a signal in the middle of a step, if it has this rank."""
    real, calls = processes.distributed_step, []

    def take_step(*arguments: object) -> object:
        calls.append(1)
        if os.environ["RANK"] == rank and len(calls) == int(step):
            os.kill(os.getpid(), getattr(signal, name))
        return real(*arguments)

    processes.distributed_step = take_step


def run(words: list[str]) -> int:
    """Return the exit status of the command with the tiny model as its preset."""
    dropout = float(os.environ.get("DROPOUT", 0))
    PRESETS["demo"] = (replace(TINY[0], dropout=dropout), TINY[1])
    report.draw_losses = lambda *_: b"a picture takes longer"
    return main(words)


if __name__ == "__main__":
    if "STRIKE" in os.environ and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
        strike(*os.environ["STRIKE"].split(":"))
    sys.exit(run(sys.argv[1:]))
