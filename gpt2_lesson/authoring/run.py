"""Run lessons from top to bottom and store them in normal form."""

import os
import re
import sys
import time
from copy import deepcopy
from pathlib import Path
from queue import Empty

import nbformat
from jupyter_client.asynchronous import AsyncKernelClient
from jupyter_client.channels import AsyncZMQSocketChannel
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from tqdm import tqdm
from traitlets import Type

from gpt2_lesson.authoring.notebooks import (
    PACKAGE,
    lessons,
    matches_name,
    normalise,
    read,
)
from gpt2_lesson.files import atomic_write, scratch_folder


def run_lessons(names: list[str], notebooks: Path, timeout: float) -> int:
    """Run and store the lessons, and print the seconds each took; 1 if one fails."""
    paths = [find(name, notebooks) for name in names]
    seconds = {}
    for path in tqdm(paths or lessons(notebooks), unit="lesson", disable=None):
        began = time.monotonic()
        try:
            stored = normalise(read(path))
            notebook = execute(deepcopy(stored), path, timeout)
        except LessonFailed as error:
            print(error, file=sys.stderr)
            return 1
        atomic_write(path, nbformat.writes(keep_timings(stored, notebook)) + "\n")
        seconds[path.stem] = time.monotonic() - began
    for name, taken in seconds.items():
        print(f"{taken:6.1f} s  {name}")
    return 0


def find(name: str, notebooks: Path) -> Path:
    """Return the lesson that `name` means: 01, attention, 01_attention or a file.

    Raises FileNotFoundError when there is none.
    """
    if name.endswith(".ipynb") and Path(name).is_file():
        return Path(name)
    known = lessons(notebooks)
    for path in known:
        if matches_name(name, path.stem) or name == path.name:
            return path
    raise FileNotFoundError(
        f"no lesson {name!r} in {notebooks}: "
        f"there are {', '.join(path.stem for path in known)}"
    )


class LessonFailed(Exception):
    """A cell of a lesson failed; the text says which one and how."""


def execute(
    notebook: NotebookNode, path: Path, timeout: float = 1800, alive: bool = False
) -> NotebookNode:
    """Return `notebook`, the one at `path`, run in a fresh kernel and in normal form.

    `alive` keeps the pages of its figures (see `normalise`). Raises LessonFailed,
    naming the cell, for an error, a dead kernel and after `timeout` seconds in one
    cell. The file at `path` stays as it is.
    """
    current = "(none yet)"
    with (
        scratch_folder("run") as settings,
        tqdm(
            total=len(notebook.cells),
            desc=path.stem,
            unit="cell",
            leave=False,
            disable=None,
        ) as bar,
    ):

        def starts(cell: NotebookNode, cell_index: int) -> None:
            nonlocal current
            current = cell.id
            bar.update(cell_index + 1 - bar.n)

        client = NotebookClient(
            notebook,
            timeout=timeout,
            km=_kernel(),
            on_cell_start=starts,
            resources={"metadata": {"path": str(path.resolve().parent)}},
            extra_arguments=["--log-level=ERROR"],
        )
        try:
            client.execute(  # the kernel is ours, and ends here
                cleanup_kc=True, env=_environment() | {"IPYTHONDIR": str(settings)}
            )
        except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
            text = re.sub(r"\x1b\[[\d;]*m", "", str(error)).strip()
            raise LessonFailed(f"{path.name}, cell #{current}: {text}") from error
    return normalise(notebook, alive)


def keep_timings(old: NotebookNode, new: NotebookNode) -> NotebookNode:
    """Return `new` with the outputs that `old` stored for cells tagged `timing`.

    So two runs give the same bytes. A changed cell, or one without output, is renewed.
    """
    kept = {
        (cell.id, cell.source): cell.outputs
        for cell in old.cells
        if "timing" in cell.metadata.get("tags", []) and cell.outputs
    }
    for cell in new.cells:
        if (cell.id, cell.source) in kept:
            cell.outputs = kept[cell.id, cell.source]
    return new


class _Channel(AsyncZMQSocketChannel):
    """A channel that looks again each second whether a message is there.

    When nbclient answers an ipywidget on the channel on which it waits for a cell's
    end, the end is sometimes missed until the time is up (jupyter/nbclient, issue 312).
    """

    async def get_msg(  # type: ignore[override]  # as the class above has it
        self, timeout: float | None = None
    ) -> dict:
        """Return the next message; Empty after `timeout` seconds, None: never."""
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            left = 1.0 if end is None else max(0.0, end - time.monotonic())
            try:
                return await super().get_msg(min(1.0, left))
            except Empty:
                if left == 0:
                    raise


class _Client(AsyncKernelClient):
    shell_channel_class = Type(_Channel)


def _kernel() -> AsyncKernelManager:
    """Return a manager of kernels of this very Python, whatever else is installed."""
    return AsyncKernelManager(
        kernel_name="python3",
        kernel_spec_manager=KernelSpecManager(kernel_dirs=[]),
        client_factory=_Client,
    )


def _environment() -> dict[str, str]:
    """Return the environment of a kernel that imports this very package.

    It computes with one thread, unless told otherwise: then a lesson gives the same
    numbers on any number of cores, and threads don't wait for each other on a busy one.
    """
    path = os.pathsep.join(filter(None, [str(PACKAGE.parent), os.getenv("PYTHONPATH")]))
    return {"OMP_NUM_THREADS": "1"} | os.environ | {"PYTHONPATH": path}
