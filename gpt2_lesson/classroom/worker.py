"""Runs in the sandbox: students' cells, and probes; it knows no answers.

Requests are pickled (the grader is trusted here); replies are plain data (`protocol`),
one for each request. Nothing here protects anything: once a cell has run, the student's
code controls this process.
"""

import ast
import asyncio
import inspect
import pickle
import signal
import socket
import struct
import sys
import traceback
from types import ModuleType

import torch  # noqa: F401  (before any cell, so that its time is not a cell's)

from gpt2_lesson.checks.probing import Observation, Probe, observe, plain
from gpt2_lesson.classroom import null_checks, protocol

REQUEST = struct.Struct(">Q")
AWAIT = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
LOOP = asyncio.new_event_loop()


class TookTooLong(TimeoutError):
    """A cell or a function exceeded its time limit."""


def main(channel: int) -> None:
    """Answer requests until there are no more."""
    connection = socket.socket(fileno=channel)
    namespace = _namespace()
    while request := _next(connection):
        reply = _answer(request, namespace)
        try:
            data = protocol.pack({**reply, "number": request["number"]})
        except Exception as error:
            data = protocol.pack({**_failed(error), "number": request["number"]})
        connection.sendall(data)


def _namespace() -> dict:
    """Return the namespace of the cells, as in a notebook: that of __main__."""
    main = ModuleType("__main__")
    sys.modules["__main__"] = main
    vars(main).update(
        display=lambda *args, **kwargs: None, get_ipython=null_checks.Null()
    )
    return vars(main)


def _next(connection: socket.socket) -> dict | None:
    """Return the next request, or None at the end."""
    if not (head := connection.recv(REQUEST.size, socket.MSG_WAITALL)):
        return None
    (size,) = REQUEST.unpack(head)
    return pickle.loads(connection.recv(size, socket.MSG_WAITALL))


def _answer(request: dict, namespace: dict) -> dict:
    """Carry out a request within its time limit; return the reply, or an error."""
    try:
        signal.signal(signal.SIGALRM, _alarm)
        signal.setitimer(signal.ITIMER_REAL, request["seconds"])
        return {"hello": _hello, "run": _run, "probe": _probe, "value": _value}[
            request["do"]
        ](request, namespace)
    except BaseException as error:
        return _failed(error, request.get("name", ""))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _alarm(*_: object) -> None:
    raise TookTooLong("stopped after its time limit: an endless loop?")


def _hello(request: dict, namespace: dict) -> dict:
    """Hide the lesson's modules before any code of the student runs."""
    null_checks.install(request["withheld"], request["constants"])
    return {"hello": True}


def _run(request: dict, namespace: dict) -> dict:
    """Run a cell; an error in it is recorded, and later cells still run."""
    import linecache

    source, name = request["source"], request["name"]
    linecache.cache[name] = len(source), None, source.splitlines(True), name
    code = compile(_without_magics(source, name), name, "exec", AWAIT)

    async def cell() -> None:  # with a running loop, as in Jupyter
        value = eval(code, namespace)
        if code.co_flags & inspect.CO_COROUTINE:
            await value

    LOOP.run_until_complete(cell())
    return {}


def _without_magics(source: str, name: str) -> str:
    """Return a cell without IPython's own lines: %magic, !command, help?."""
    try:
        compile(source, name, "exec", AWAIT)
        return source
    except SyntaxError:
        pass
    lines = source.splitlines()
    if lines and lines[0].startswith("%%"):
        if lines[0].split()[0] not in ("%%time", "%%timeit", "%%capture"):
            return ""
        lines[0] = ""
    return "\n".join(
        _indent(line) + "pass" if _is_magic(line.strip()) else line for line in lines
    )


def _is_magic(line: str) -> bool:
    return line.startswith(("%", "!", "?")) or (
        line.endswith("?") and line.rstrip("?").replace(".", "_").isidentifier()
    )


def _indent(line: str) -> str:
    return line[: len(line) - len(line.lstrip())]


def _probe(request: dict, namespace: dict) -> dict:
    """Run a probe on the function called by a name."""
    probe: Probe = request["probe"]
    seen: Observation = observe(namespace.get(request["name"]), probe)
    return {"seen": vars(seen)}


def _value(request: dict, namespace: dict) -> dict:
    """Return the value of a name; None for a name that is not there."""
    return {"value": plain(namespace.get(request["name"]))}


def _failed(error: BaseException, name: str = "") -> dict:
    """Return an error as plain data: class, text, the line of the cell `name`."""
    try:
        message = " ".join(str(error).split())[:300]
    except BaseException:
        message = ""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno or 0 for frame in frames if frame.filename == name]
    if isinstance(error, SyntaxError) and error.filename == name:
        lines.append(error.lineno or 0)
    line = lines[-1] if lines else 0
    return {"error": type(error).__name__[:60], "message": message, "line": line}
