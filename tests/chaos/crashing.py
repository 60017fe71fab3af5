"""Runs one of our programs until it passes a labelled point the N-th time, and kills it there, as kill -9 would.

`python -m tests.chaos.crashing POINT:N manage.py rundispatcher ...` or `POINT:N -m worker_node ...`. The programs
know nothing of it: the methods are wrapped when their modules are imported.
"""

from __future__ import annotations

import functools
import importlib.machinery
import itertools
import os
import runpy
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any


@dataclass(frozen=True)
class Point:
    """A call to wrap: which method, for which kinds of arguments, and on which side of it to die."""

    module: str
    holder: str
    method: str
    kinds: frozenset[str] = frozenset()
    """Names of the classes, one of which must be among the arguments; empty: any call will do."""
    is_after: bool = False

    def concerns(self, arguments: Sequence[Any]) -> bool:
        """Return whether a call with these arguments is one."""
        if not self.kinds:
            return True
        named = [item for argument in arguments for item in (argument if isinstance(argument, list) else [argument])]
        return any(type(item).__name__ in self.kinds for item in named)


def _commit(*kinds: str, is_after: bool = False) -> Point:
    return Point("tasks_app.dispatch_store", "DispatchStore", "commit", frozenset(kinds), is_after)


def _node(method: str, *kinds: str) -> Point:
    return Point("worker_node.node", "Node", method, frozenset(kinds))


DISPATCHER_POINTS = {
    # A group with a claim is about to be committed.
    "claim": _commit("ClaimTask"),
    # Claims or outcomes are committed and nobody was told.
    "commit": _commit("ClaimTask", "RecordOutcome", is_after=True),
    # The order is about to be queued for its worker.
    "send": Point("dispatcher.shell.link", "WorkerLink", "send", frozenset({"AssignAttempt"})),
    # A worker says that a command runs; nothing is recorded.
    "start-ack": Point("dispatcher.shell.service", "DispatcherService", "_on_message", frozenset({"AttemptStarted"})),
    # A group with an outcome is about to be committed.
    "result-write": _commit("RecordOutcome"),
    # An outcome is committed and its acknowledgement about to be queued.
    "ack": Point("dispatcher.shell.link", "WorkerLink", "send", frozenset({"AcknowledgeOutcome"})),
}

WORKER_POINTS = {
    # The order has come; nothing is started.
    "assigned": _node("_effects_of", "AssignAttempt"),
    # The command runs; nobody was told.
    "started": _node("_on_started"),
    # The outcome is made; it is neither sent nor spooled.
    "finished": _node("_on_finished"),
    # The acknowledgement has come; nothing is forgotten.
    "acknowledged": _node("_effects_of", "AcknowledgeOutcome"),
}

SPOOL_POINTS = {
    # An outcome is about to be written, ...
    "spool-write": Point("worker_node.shell.spool", "Spool", "_write"),
    # ... is in its place while the folder is not synced and nobody was told, ...
    "spool-written": Point("worker_node.shell.spool", "Spool", "_write", is_after=True),
    # ... is acknowledged and about to be deleted.
    "spool-delete": Point("worker_node.shell.spool", "Spool", "_delete"),
}

POINTS = DISPATCHER_POINTS | WORKER_POINTS | SPOOL_POINTS


def wrap(module: ModuleType, point: Point, hit: int) -> None:
    """Put the kill around a method of an imported module. A method that is not there ends the program."""
    holder = getattr(module, point.holder)
    original: Callable[..., Any] = getattr(holder, point.method)
    passes = itertools.count(1)  # Counting is one step of the interpreter: threads need no lock.

    @functools.wraps(original)
    def watched(self: Any, *arguments: Any) -> Any:
        is_it = point.concerns(arguments) and next(passes) == hit
        if is_it and not point.is_after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(self, *arguments)
        if is_it:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(holder, point.method, watched)


class _AfterImport:
    """Finds one module as ever and wraps its method once it is there: importing it ourselves would be too early."""

    def __init__(self, point: Point, hit: int) -> None:
        self._point = point
        self._hit = hit

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> Any:
        if name != self._point.module:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def then_wrap(module: ModuleType) -> None:
            execute(module)
            wrap(module, self._point, self._hit)

        spec.loader.exec_module = then_wrap  # type: ignore[method-assign]
        return spec


def main() -> None:
    """Read POINT:N and become the program."""
    label, _, hit = sys.argv[1].partition(":")
    program = sys.argv[2:]
    sys.meta_path.insert(0, _AfterImport(POINTS[label], int(hit)))  # type: ignore[arg-type]
    if program[0] == "-m":
        sys.argv = program[1:]
        runpy.run_module(program[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = program
        runpy.run_path(program[0], run_name="__main__")


if __name__ == "__main__":
    main()
