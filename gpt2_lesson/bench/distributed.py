"""The speed of two processes with one thread each, beside one process with two threads.

Both take the same steps on the same batches, in turn, so only the ratio counts.
"""

import copy
import subprocess
import sys
from statistics import median
from time import perf_counter

import torch
import torch.distributed as dist

from gpt2_lesson.bench.ours import CASES
from gpt2_lesson.gpt2_model import GPT2Model
from gpt2_lesson.scaling_out import (
    distributed_finish,
    distributed_setup,
    distributed_step,
    parallelize,
)
from gpt2_lesson.training import make_optimizer, train_step

STEPS = 3  # in a round


def bench_distributed(rounds: int) -> int:
    """Measure in two processes, which torchrun starts; return its exit status."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    words = ["--nproc-per-node", "2", "-m", __name__, str(rounds)]
    return subprocess.run([*torchrun, *words]).returncode


def measure(rounds: int) -> None:
    """Take turns: rank 0 alone with two threads, then both ranks with one each."""
    process = distributed_setup("cpu")
    config, batch_size, seq_length, _ = CASES["demo"]
    torch.manual_seed(0)
    alone = GPT2Model(**vars(config))
    ids = torch.randint(config.vocab_size, (batch_size, seq_length))
    together = parallelize(copy.deepcopy(alone), "ddp")
    one, two = make_optimizer(alone, 1e-4), make_optimizer(together, 1e-4)
    mine = ids[process.rank :: process.world_size]
    seconds: dict[str, list[float]] = {"one": [], "two": []}
    for _ in range(rounds + 1):
        torch.set_num_threads(2)
        dist.barrier()
        started = perf_counter()
        for _ in range(STEPS if process.is_main else 0):
            train_step(alone, one, [ids])
        seconds["one"].append(perf_counter() - started)
        torch.set_num_threads(1)
        dist.barrier()
        started = perf_counter()
        for _ in range(STEPS):
            distributed_step(together, two, [mine])
        seconds["two"].append(perf_counter() - started)
    if process.is_main:
        tokens = STEPS * ids.numel()
        times = {name: values[1:] for name, values in seconds.items()}  # warm-up
        print(f"demo, float32, medians of {rounds} rounds of {STEPS} steps")
        print(f"1 process x 2 threads, tokens/s {tokens / median(times['one']):9.1f}")
        print(f"2 processes x 1 thread, tokens/s {tokens / median(times['two']):8.1f}")
        pairs = zip(times["one"], times["two"], strict=True)
        print(f"  2 x 1 / 1 x 2: {median(a / b for a, b in pairs):.2f}")
    distributed_finish()


if __name__ == "__main__":
    measure(int(sys.argv[1]))
