"""Ctrl-C and SIGTERM, delayed until nothing is half done."""

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

Handler = Callable[[int, FrameType | None], object] | int | None


class Interrupts:
    """Delay the first Ctrl-C or SIGTERM until `deliver`, at the end of a step.

    While one is `waiting`, a second one takes effect at once. Nothing changes where
    signals cannot be caught (outside the main thread), or for an ignored signal.
    """

    def __init__(self) -> None:
        self.waiting: int | None = None
        self.due: int | None = None  # what `deliver` raises
        self.earlier: dict[int, Handler] = {}  # what each signal did before

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                # None: a handler that Python did not install and could not restore.
                if signal.getsignal(number) not in (None, signal.SIG_IGN):
                    self.earlier[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.anywhere()
            self.deliver()
        self._let_go()

    def anywhere(self) -> bool:
        """Return whether one is waiting, here or in a process that trains with us.

        With torch.distributed all of them must call this, and all get one answer.
        """
        import torch
        import torch.distributed as dist

        self.due = self.waiting
        if dist.is_available() and dist.is_initialized():
            number = torch.tensor(self.waiting or 0)
            dist.all_reduce(number, dist.ReduceOp.MAX)
            self.due = int(number) or None
        return self.due is not None

    def deliver(self) -> None:
        """Raise the signal that `anywhere` found, if there is one."""
        if self.due is not None:
            self._let_go()
            signal.raise_signal(self.due)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.waiting is not None:
            self._let_go()
            signal.raise_signal(number)
            return
        self.waiting = number
        with contextlib.suppress(RuntimeError, OSError, AttributeError):
            # Fails in the middle of another write, or without a stderr.
            print("\nstopping after this step; again: at once", file=sys.stderr)

    def _let_go(self) -> None:
        while self.earlier:
            signal.signal(*self.earlier.popitem())


class Terminated(KeyboardInterrupt):
    """SIGTERM: raised like Ctrl-C where `terminations_raise`."""


@contextlib.contextmanager
def terminations_raise() -> Iterator[None]:
    """Let SIGTERM raise Terminated, unless it already does something else."""
    here = threading.current_thread() is threading.main_thread()
    if not here or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise Terminated

    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
