"""Run commands where the spawner cannot: macOS, Windows, BSD. Levels none and basic without kernel help.

What does not hold here: a daemon that leaves its process group survives on POSIX, limits are not kept, and a
worker killed with SIGKILL leaves its commands behind. The probe names these gaps.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

import psutil

from octaskly_wire.limits import CANCEL_GRACE_S
from worker_node.sandbox.host import CommandEnd, EndCause, Watcher
from worker_node.sandbox.policy import SHELL, HostFacts, SandboxPlan

PIPE_LINGER_S: Final = 0.5
"""How long output is awaited after the end: a process that got away may hold the pipe for ever."""


class PortableHost:
    """Runs each command in a task of the loop."""

    def __init__(self) -> None:
        """Start with nothing."""
        self.facts = HostFacts()
        self._orders: dict[str, asyncio.Queue[EndCause]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def seen_by_command(self, folder: Path) -> str:
        """Return where a command finds its workspace."""
        return str(folder)

    def launch(self, plan: SandboxPlan, watcher: Watcher) -> None:
        """Start a command by plan."""
        self._orders[plan.attempt_id] = asyncio.Queue()
        task = asyncio.get_running_loop().create_task(self._run(plan, watcher))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def stop(self, attempt_id: str, *, at_once: bool) -> None:
        """Order a command's end."""
        if orders := self._orders.get(attempt_id):
            orders.put_nowait(EndCause.LOST if at_once else EndCause.CANCELLED)

    async def close(self) -> None:
        """Kill all commands and wait until they are gone."""
        for attempt_id in list(self._orders):
            self.stop(attempt_id, at_once=True)
        await asyncio.gather(*self._tasks)

    async def _run(self, plan: SandboxPlan, watcher: Watcher) -> None:
        try:
            transport, process = await _start(plan, watcher)
        except (OSError, ValueError) as error:
            del self._orders[plan.attempt_id]
            watcher.refused(f"start: {error}")
            return
        started_at = time.monotonic()
        watcher.started(time.monotonic())
        pid = transport.get_pid()
        cause = await self._await_end(plan, process.has_exited)
        tree = _tree(pid)
        if cause not in {EndCause.EXITED, EndCause.LOST}:
            _signal_tree(pid, tree, is_final=False)
            await asyncio.wait([process.has_exited], timeout=CANCEL_GRACE_S)
        _signal_tree(pid, tree, is_final=True)
        await process.has_exited
        duration_ms = round((time.monotonic() - started_at) * 1000)
        await asyncio.wait([process.has_closed], timeout=PIPE_LINGER_S)
        process.is_over = True
        transport.close()
        del self._orders[plan.attempt_id]
        code = transport.get_returncode() or 0
        is_signal = code < 0 and sys.platform != "win32"
        watcher.ended(
            CommandEnd(
                cause=cause,
                exit_code=None if is_signal else code,
                signal=-code if is_signal else None,
                duration_ms=duration_ms,
            )
        )

    async def _await_end(self, plan: SandboxPlan, has_exited: asyncio.Future[None]) -> EndCause:
        order = asyncio.create_task(self._orders[plan.attempt_id].get())
        try:
            awaited: list[asyncio.Future[Any]] = [has_exited, order]
            await asyncio.wait(awaited, timeout=plan.terms.timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if has_exited.done():
                return EndCause.EXITED
            return order.result() if order.done() else EndCause.TIMED_OUT
        finally:
            order.cancel()


class _Process(asyncio.SubprocessProtocol):
    """Hears the end of a process apart from the end of its pipes, which a stray holder may put off."""

    def __init__(self, watcher: Watcher) -> None:
        loop = asyncio.get_running_loop()
        self.has_exited: asyncio.Future[None] = loop.create_future()
        self.has_closed: asyncio.Future[None] = loop.create_future()
        self.is_over = False
        self._watcher = watcher

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if not self.is_over:
            self._watcher.wrote("stdout" if fd == 1 else "stderr", data)

    def process_exited(self) -> None:
        if not self.has_exited.done():
            self.has_exited.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the loop calls it so
        if not self.has_closed.done():
            self.has_closed.set_result(None)


async def _start(plan: SandboxPlan, watcher: Watcher) -> tuple[asyncio.SubprocessTransport, _Process]:
    loop, pipe = asyncio.get_running_loop(), subprocess.PIPE
    common: dict[str, Any] = {
        "stdin": subprocess.DEVNULL,
        "stdout": pipe,
        "stderr": pipe,
        "cwd": plan.workspace,
        "env": dict(plan.env),
    }

    def make() -> _Process:
        return _Process(watcher)

    if sys.platform == "win32":
        # The shell form goes through COMSPEC /c, which parses the command line as users expect.
        return await loop.subprocess_shell(make, plan.command, **common)
    return await loop.subprocess_exec(make, SHELL, "-c", plan.command, umask=0o077, start_new_session=True, **common)


def _tree(pid: int) -> list[psutil.Process]:
    """Return the descendants while their parent is still there to be asked."""
    with contextlib.suppress(psutil.Error):
        return list(psutil.Process(pid).children(recursive=True))
    return []


def _signal_tree(pid: int, tree: list[psutil.Process], *, is_final: bool) -> None:
    if sys.platform != "win32":
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL if is_final else signal.SIGTERM)
    elif is_final:
        with contextlib.suppress(psutil.Error):
            psutil.Process(pid).kill()
    for process in {*tree, *_tree(pid)}:
        with contextlib.suppress(psutil.Error):
            process.kill() if is_final else process.terminate()
