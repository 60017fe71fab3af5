"""Run commands where the spawner cannot: macOS, Windows, BSD. Levels none and basic without kernel help.

What does not hold here: a daemon that leaves its process group survives on POSIX, limits are not kept, and a
worker killed with SIGKILL leaves its commands behind. The probe names these gaps.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from typing import Final

import psutil

from octaskly_wire.limits import CANCEL_GRACE_S
from octaskly_wire.vocabulary import OutputStream
from worker_node.sandbox.host import CommandEnd, EndCause, Watcher
from worker_node.sandbox.policy import SHELL, SandboxPlan

READ_BYTES: Final = 64 << 10
PIPE_LINGER_S: Final = 0.5
"""How long output is awaited after the end: a process that got away may hold the pipe for ever."""


class PortableHost:
    """Runs each command in a task of the loop."""

    def __init__(self) -> None:
        """Start with nothing."""
        self._orders: dict[str, asyncio.Queue[EndCause]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

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
            process = await _start(plan)
        except (OSError, ValueError) as error:
            del self._orders[plan.attempt_id]
            watcher.refused(f"start: {error}")
            return
        started_at = time.monotonic()
        watcher.started()
        readers = [
            asyncio.create_task(_pump(process.stdout, "stdout", watcher)),
            asyncio.create_task(_pump(process.stderr, "stderr", watcher)),
        ]
        waiter = asyncio.create_task(process.wait())
        cause = await self._await_end(plan, waiter)
        tree = _tree(process.pid)
        if cause not in {EndCause.EXITED, EndCause.LOST}:
            _signal_tree(process.pid, tree, is_final=False)
            await asyncio.wait([waiter], timeout=CANCEL_GRACE_S)
        _signal_tree(process.pid, tree, is_final=True)
        code = await waiter
        duration_ms = round((time.monotonic() - started_at) * 1000)
        _, late = await asyncio.wait(readers, timeout=PIPE_LINGER_S)
        for reader in late:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
        del self._orders[plan.attempt_id]
        is_signal = code < 0 and sys.platform != "win32"
        watcher.ended(
            CommandEnd(
                cause=cause,
                exit_code=None if is_signal else code,
                signal=-code if is_signal else None,
                duration_ms=duration_ms,
            )
        )

    async def _await_end(self, plan: SandboxPlan, waiter: asyncio.Task[int]) -> EndCause:
        order = asyncio.create_task(self._orders[plan.attempt_id].get())
        try:
            await asyncio.wait([waiter, order], timeout=plan.timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if waiter.done():
                return EndCause.EXITED
            return order.result() if order.done() else EndCause.TIMED_OUT
        finally:
            order.cancel()


async def _start(plan: SandboxPlan) -> asyncio.subprocess.Process:
    pipe, null = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    if sys.platform == "win32":
        # The shell form goes through COMSPEC /c, which parses the command line as users expect.
        return await asyncio.create_subprocess_shell(
            plan.command, stdin=null, stdout=pipe, stderr=pipe, cwd=plan.workspace, env=plan.env
        )
    return await asyncio.create_subprocess_exec(
        SHELL,
        "-c",
        plan.command,
        stdin=null,
        stdout=pipe,
        stderr=pipe,
        cwd=plan.workspace,
        env=plan.env,
        umask=0o077,
        start_new_session=True,
    )


async def _pump(reader: asyncio.StreamReader | None, stream: OutputStream, watcher: Watcher) -> None:
    while reader and (data := await reader.read(READ_BYTES)):
        watcher.wrote(stream, data)


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
