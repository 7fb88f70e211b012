"""Run a function of a notebook in several processes, as torchrun starts them."""

import inspect
import json
import os
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gpt2_lesson
from gpt2_lesson import validation

SCRIPT = """\
import json
import sys
from pathlib import Path

from gpt2_lesson.scaling_out import distributed_finish, distributed_setup

{sources}
if __name__ == "__main__":
    process = distributed_setup("cpu")
    result = {name}(process{arguments})
    path = Path(sys.argv[1], f"{{process.rank}}.json")
    path.write_text(json.dumps(result), encoding="utf-8")
    distributed_finish()
"""


def run_ranks(
    ranks: int, function: Callable, *arguments: Any, timeout: float = 300
) -> list:
    """Return what `function(process, *arguments)` returns on each of `ranks` processes.

    It runs in a script of its own, so it imports what it uses, and what it returns must
    be storable as JSON. An argument is a value that can be written as Python code, or
    another such function. Raises RuntimeError, with their last words, if they fail.
    """
    ranks = validation.whole_number("ranks", ranks, 1)
    used = [function, *filter(callable, arguments)]
    script = SCRIPT.format(
        sources="\n\n".join(textwrap.dedent(inspect.getsource(f)) for f in used),
        name=function.__name__,
        arguments="".join(f", {getattr(a, '__name__', repr(a))}" for a in arguments),
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "script.py"
        path.write_text(script, encoding="utf-8")
        done = subprocess.run(
            [*torchrun(ranks), str(path), folder],
            env=environment(),
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=timeout,
        )
        if done.returncode:
            raise RuntimeError(f"a rank failed:\n{done.stderr[-8000:]}")
        files = [Path(folder, f"{rank}.json") for rank in range(ranks)]
        return [json.loads(file.read_text(encoding="utf-8")) for file in files]


def torchrun(ranks: int) -> list[str]:
    """Return the command that starts a script on `ranks` processes of this machine."""
    program = [sys.executable, "-m", "torch.distributed.run"]
    program += ["--standalone", "--local-addr=localhost"]
    return [*program, f"--nproc-per-node={ranks}"]


def environment() -> dict[str, str]:
    """Return the environment in which processes of one machine find each other.

    They use the loopback interface, because a laptop's name often has no address; and
    they find this package, even where it is not installed.
    """
    package = str(Path(gpt2_lesson.__file__).parents[1])
    found = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    extra = {"PYTHONPATH": os.pathsep.join(found), "OMP_NUM_THREADS": "1"}
    loopback = {"linux": "lo", "darwin": "lo0"}.get(sys.platform)
    if loopback:
        extra["GLOO_SOCKET_IFNAME"] = loopback
    else:
        extra["USE_LIBUV"] = "0"  # PyTorch for Windows is built without it
    return os.environ | extra
