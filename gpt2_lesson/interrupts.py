"""Ctrl-C and SIGTERM, held back until a moment at which nothing is half done."""

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

Handler = Callable[[int, FrameType | None], object] | int | None


class Interrupts:
    """Hold back the first Ctrl-C or SIGTERM until `deliver`, a step's end.

    While one is `waiting`, a second one goes through at once. Where signals cannot be
    caught (outside the main thread), and for one that is ignored, nothing changes.
    """

    def __init__(self) -> None:
        self.waiting: int | None = None
        self.earlier: dict[int, Handler] = {}  # what each signal did before

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                # None is a handler that Python did not install and cannot put back.
                if signal.getsignal(number) not in (None, signal.SIG_IGN):
                    self.earlier[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.deliver()
        self._let_go()

    def deliver(self) -> None:
        """Let the signal that waits, if one does, do what it does elsewhere."""
        if self.waiting is not None:
            self._let_go()
            signal.raise_signal(self.waiting)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.waiting is not None:
            self._let_go()
            signal.raise_signal(number)
            return
        self.waiting = number
        with contextlib.suppress(RuntimeError, OSError, AttributeError):
            # Not if this came in the middle of a write, nor if nobody can read it.
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
