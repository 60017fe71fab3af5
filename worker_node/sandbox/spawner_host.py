"""Run commands through the spawner from an asyncio loop: pump output, hear supervisors, replace a dead spawner."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
from typing import Any, Final

from octaskly_wire.vocabulary import OutputStream
from worker_node.sandbox.host import CommandEnd, EndCause, Watcher
from worker_node.sandbox.policy import SandboxPlan
from worker_node.sandbox.spawner_process import Launched, SpawnerGone, SpawnerProcess

logger = logging.getLogger(__name__)

READ_BYTES: Final = 64 << 10
LAST_READS: Final = 64
"""Reads of what is left in a pipe once its command is dead: more than any pipe holds. A process outside the
attempt that got hold of the pipe and keeps writing stops here."""

QUICK_DEATH_S: Final = 1.0

CLOSE_TIMEOUT_S: Final = 3.0
"""How long `close` waits for the supervisors to clean up; they go on without us."""


class SpawnerHost:
    """The Linux host: levels none and basic."""

    def __init__(self) -> None:
        """Start the spawner; call in the main thread, inside the loop."""
        self._loop = asyncio.get_running_loop()
        self._attempts: dict[str, _Attempt] = {}
        self._is_closing = False
        self._spawner = self._new_spawner()

    @property
    def spawner_pid(self) -> int:
        """Return the present spawner's process id."""
        return self._spawner.pid

    def launch(self, plan: SandboxPlan, watcher: Watcher) -> None:
        """Start a command by plan; a failure is told to the watcher."""
        try:
            try:
                launched = self._spawner.launch(plan)
            except SpawnerGone:
                self._replace_spawner()
                launched = self._spawner.launch(plan)
        except (SpawnerGone, OSError, ValueError) as error:
            watcher.refused(f"the spawner could not be reached: {error}")
            return
        self._attempts[plan.attempt_id] = _Attempt(self, plan.attempt_id, launched, watcher)

    def stop(self, attempt_id: str, *, at_once: bool) -> None:
        """Order a command's end."""
        if attempt := self._attempts.get(attempt_id):
            attempt.order(b"kill" if at_once else b"cancel")

    async def close(self) -> None:
        """Kill all commands, wait shortly until they are gone, end the spawner."""
        if self._is_closing:
            return
        self._is_closing = True
        for attempt_id in list(self._attempts):
            self.stop(attempt_id, at_once=True)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                for attempt in list(self._attempts.values()):
                    await attempt.is_over.wait()
        for attempt in list(self._attempts.values()):
            attempt.give_up()
        self._loop.remove_reader(self._spawner.requests)
        self._spawner.end()

    def forget(self, attempt_id: str) -> None:
        """Drop an attempt that is over."""
        self._attempts.pop(attempt_id, None)

    def _new_spawner(self) -> SpawnerProcess:
        spawner = SpawnerProcess()
        # It never writes: readable means dead.
        self._loop.add_reader(spawner.requests, self._on_spawner_died)
        self._spawner_made_at = self._loop.time()
        return spawner

    def _on_spawner_died(self) -> None:
        logger.error("The sandbox spawner died; its commands are being killed")
        self._loop.remove_reader(self._spawner.requests)
        # One that dies at birth would be replaced in a busy circle; then the next launch tries again.
        if self._loop.time() - self._spawner_made_at > QUICK_DEATH_S:
            self._replace_spawner()

    def _replace_spawner(self) -> None:
        """Start another spawner. The old one's supervisors notice by themselves, clean up and report."""
        if self._is_closing:
            return
        self._loop.remove_reader(self._spawner.requests)
        self._spawner.end()
        self._spawner = self._new_spawner()


class _Attempt:
    """The worker's end of one running command."""

    def __init__(self, host: SpawnerHost, attempt_id: str, launched: Launched, watcher: Watcher) -> None:
        self.is_over = asyncio.Event()
        self._host = host
        self._id = attempt_id
        self._watcher = watcher
        self._control = launched.control
        self._pipes: dict[int, OutputStream] = {launched.stdout_fd: "stdout", launched.stderr_fd: "stderr"}
        self._loop = asyncio.get_running_loop()
        self._started_at: float | None = None
        self._loop.add_reader(self._control, self._hear)
        for fd in self._pipes:
            self._loop.add_reader(fd, self._read, fd)

    def order(self, word: bytes) -> None:
        # A supervisor that is gone has killed everything already, or the spawner does.
        with contextlib.suppress(OSError):
            self._control.send(word)

    def give_up(self) -> None:
        """Stop listening to a supervisor that did not answer in time."""
        self._end(CommandEnd(EndCause.LOST, None, None, self._elapsed_ms(), detail="the worker stopped"))

    def _read(self, fd: int) -> bool:
        """Take what a pipe holds; return whether more may be there."""
        try:
            data = os.read(fd, READ_BYTES)
        except BlockingIOError:
            return False
        except OSError as error:
            logger.warning("Output of %s cannot be read: %s", self._id, error)
            data = b""
        if data:
            self._watcher.wrote(self._pipes[fd], data)
            return True
        self._drop_pipe(fd)
        return False

    def _drop_pipe(self, fd: int) -> None:
        self._loop.remove_reader(fd)
        del self._pipes[fd]
        os.close(fd)

    def _hear(self) -> None:
        try:
            text = self._control.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            text = b""
        event: dict[str, Any] = json.loads(text) if text else {"event": "gone"}
        match event["event"]:
            case "started":
                self._started_at = self._loop.time()
                self._watcher.started()
            case "refused":
                self._close()
                self._watcher.refused(event["detail"])
            case "ended":
                self._end(
                    CommandEnd(
                        cause=EndCause(event["cause"]),
                        exit_code=event["exit_code"],
                        signal=event["signal"],
                        duration_ms=event["duration_ms"],
                        cpu_seconds=event["cpu_seconds"],
                        max_rss_bytes=event["max_rss_bytes"],
                        detail=event["detail"],
                    )
                )
            case _:
                detail = "the supervisor of this command died; the command was killed"
                self._end(CommandEnd(EndCause.LOST, None, None, self._elapsed_ms(), detail=detail))

    def _elapsed_ms(self) -> int:
        return 0 if self._started_at is None else round((self._loop.time() - self._started_at) * 1000)

    def _end(self, end: CommandEnd) -> None:
        # All writers are dead, so what they wrote is in the pipes now: no waiting for an end that a stray
        # holder of the pipe could put off for ever.
        for fd in list(self._pipes):
            for _ in range(LAST_READS):
                if not self._read(fd):
                    break
        self._close()
        self._watcher.ended(end)

    def _close(self) -> None:
        for fd in list(self._pipes):
            self._drop_pipe(fd)
        self._loop.remove_reader(self._control)
        self._control.close()
        self._host.forget(self._id)
        self.is_over.set()
