"""Run commands through the spawner from an asyncio loop: pump output, hear supervisors, replace a dead spawner."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
from pathlib import Path
from typing import Any, Final

import msgspec

from octaskly_wire.vocabulary import OutputStream
from worker_node.sandbox import last_words
from worker_node.sandbox.host import CommandEnd, EndCause, Watcher
from worker_node.sandbox.places import SHOWN_WORKSPACES
from worker_node.sandbox.policy import HostFacts, Outfit, SandboxPlan
from worker_node.sandbox.spawner_process import SpawnerGone, SpawnerProcess, SpawnerSettings, send_plan

logger = logging.getLogger(__name__)

READ_BYTES: Final = 64 << 10
LAST_READS: Final = 64
"""Reads of what is left in a pipe once its command is dead: more than any pipe holds. A process outside the
attempt that got hold of the pipe and keeps writing stops here."""

MAX_EVENT_BYTES: Final = 65536

QUICK_DEATH_S: Final = 1.0

CLOSE_TIMEOUT_S: Final = 3.0
"""How long `close` waits for the supervisors to clean up; they go on without us."""


class SpawnerHost:
    """The Linux host."""

    def __init__(self, settings: SpawnerSettings, facts: HostFacts) -> None:
        """Start the spawner; call in the main thread, inside the loop."""
        self.facts = facts
        self._loop = asyncio.get_running_loop()
        self._settings = settings
        self._attempts: dict[str, _Attempt] = {}
        self._idle: list[_Supervisor] = []
        self._is_closing = False
        self._spawner = self._new_spawner()

    @property
    def spawner_pid(self) -> int:
        """Return the present spawner's process id."""
        return self._spawner.pid

    def seen_by_command(self, folder: Path) -> str:
        """Return where a command below strict finds its workspace."""
        return f"{SHOWN_WORKSPACES}/{folder.name}" if self._settings.uid_base is not None else str(folder)

    def launch(self, plan: SandboxPlan, watcher: Watcher) -> None:
        """Start a command by plan; a failure is told to the watcher."""
        # One that idled may have died unheard; a new one is the last try.
        outfit = plan.outfit
        while True:
            supervisor = self._take_idle(outfit, plan.workspace)
            is_last_try = supervisor is None
            try:
                if supervisor is None:
                    supervisor = self._new_supervisor(outfit)
                self._attempts[plan.attempt_id] = supervisor.begin(plan, watcher)
            except (SpawnerGone, OSError, ValueError) as error:
                if is_last_try:
                    watcher.refused(f"no supervisor: {error}")
                    return
                continue
            return

    def stop(self, attempt_id: str, *, at_once: bool) -> None:
        """Order a command's end."""
        if attempt := self._attempts.get(attempt_id):
            attempt.supervisor.order("kill" if at_once else "cancel")

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
        for supervisor in self._idle:
            supervisor.close()
        self._loop.remove_reader(self._spawner.requests)
        self._spawner.end()

    def let_go(self, attempt_id: str, supervisor: _Supervisor, *, is_last: bool) -> None:
        """Drop an attempt that is over; keep its supervisor for the next one unless it was its last."""
        self._attempts.pop(attempt_id, None)
        if is_last or self._is_closing or supervisor.spawner_pid != self.spawner_pid:
            supervisor.close()
        else:
            self._idle.append(supervisor)

    def forget(self, supervisor: _Supervisor) -> None:
        """Drop a supervisor that died while it idled."""
        if supervisor in self._idle:
            self._idle.remove(supervisor)

    def _take_idle(self, outfit: Outfit | None, workspace: str) -> _Supervisor | None:
        """Return an idle supervisor in this outfit, best the one that was last in the same workspace."""
        suited = [idle for idle in self._idle if idle.outfit == outfit]
        if not suited:
            # As many as were ever needed at once: one of another kind makes room.
            if self._idle:
                self._idle.pop(0).close()
            return None
        chosen = next((idle for idle in suited if idle.workspace == workspace), suited[-1])
        self._idle.remove(chosen)
        return chosen

    def _new_supervisor(self, outfit: Outfit | None) -> _Supervisor:
        try:
            control = self._spawner.new_supervisor()
        except SpawnerGone:
            self._replace_spawner()
            control = self._spawner.new_supervisor()
        return _Supervisor(self, control, self.spawner_pid, outfit)

    def _new_spawner(self) -> SpawnerProcess:
        spawner = SpawnerProcess(self._settings)
        # It never writes: readable means dead.
        self._loop.add_reader(spawner.requests, self._on_spawner_died)
        self._spawner_made_at = self._loop.time()
        return spawner

    def _on_spawner_died(self) -> None:
        logger.error("The sandbox spawner died; its commands are being killed", extra={"event": "spawner_died"})
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
        for supervisor in self._idle:
            supervisor.close()
        self._idle.clear()
        self._spawner = self._new_spawner()


class _Supervisor:
    """The worker's end of one supervisor, which serves one attempt after the other."""

    def __init__(self, host: SpawnerHost, control: socket.socket, spawner_pid: int, outfit: Outfit | None) -> None:
        self.spawner_pid = spawner_pid
        self.outfit = outfit
        self.workspace = ""
        """Of its last attempt."""
        self._host = host
        self._control = control
        self._number = 0
        self._attempt: _Attempt | None = None
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(control, self._hear)

    def begin(self, plan: SandboxPlan, watcher: Watcher) -> _Attempt:
        """Hand over an attempt; raise SpawnerGone, and then it is closed."""
        self._number += 1
        self.workspace = plan.workspace
        try:
            pipes = send_plan(self._control, self._number, plan)
        except OSError as error:
            # One that could not be made has said why before it closed the socket.
            detail = str(error)
            with contextlib.suppress(OSError, ValueError):
                detail = msgspec.json.decode(self._control.recv(MAX_EVENT_BYTES))["detail"]
            self.close()
            raise SpawnerGone(detail) from error
        self._attempt = _Attempt(self._host, plan.attempt_id, self, pipes, watcher)
        return self._attempt

    def order(self, word: str) -> None:
        # A supervisor that is gone has killed everything already, or the spawner does.
        with contextlib.suppress(OSError):
            self._control.send(f"{word} {self._number}".encode())

    def end_attempt(self) -> None:
        """Hear nothing more for the present attempt."""
        self._attempt = None

    def close(self) -> None:
        self._loop.remove_reader(self._control)
        self._control.close()

    def _hear(self) -> None:
        try:
            text, fds = last_words.receive(self._control, MAX_EVENT_BYTES)
        except BlockingIOError:
            return
        if self._attempt is not None:
            self._attempt.on_event(msgspec.json.decode(text) if text else {"event": "gone"}, fds)
        else:  # idle, and dead
            self._host.forget(self)
            self.close()


class _Attempt:
    """The worker's end of one running command."""

    def __init__(
        self, host: SpawnerHost, attempt_id: str, supervisor: _Supervisor, pipes: tuple[int, int], watcher: Watcher
    ) -> None:
        self.is_over = asyncio.Event()
        self.supervisor = supervisor
        self._host = host
        self._id = attempt_id
        self._watcher = watcher
        self._pipes: dict[int, OutputStream] = {pipes[0]: "stdout", pipes[1]: "stderr"}
        self._loop = asyncio.get_running_loop()
        self._started_at: float | None = None
        self._is_reading = False

    def give_up(self) -> None:
        """Stop listening to a supervisor that did not answer in time."""
        self._end(CommandEnd(EndCause.LOST, None, None, self._elapsed_ms(), detail="the worker stopped"))

    def on_event(self, event: dict[str, Any], fds: list[int]) -> None:
        """Take a word of the supervisor."""
        match event["event"]:
            case "started":
                self._started_at = event["started_at"]
                self._watcher.started(event["started_at"])
                # Not before: what a short command wrote is read once, at its end.
                self._is_reading = True
                for fd in self._pipes:
                    self._loop.add_reader(fd, self._read, fd)
            case "refused":
                self._close(is_last=event["is_last"])
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
                        started_at=event["started_at"],
                        is_untouched=event["is_untouched"],
                        tmp_fd=fds[0] if fds else None,
                    ),
                    is_last=event["is_last"],
                )
            case _:
                detail = "the supervisor of this command died; the command was killed"
                self._end(CommandEnd(EndCause.LOST, None, None, self._elapsed_ms(), detail=detail))

    def _elapsed_ms(self) -> int:
        return 0 if self._started_at is None else round((time.monotonic() - self._started_at) * 1000)

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
        if self._is_reading:
            self._loop.remove_reader(fd)
        del self._pipes[fd]
        os.close(fd)

    def _end(self, end: CommandEnd, *, is_last: bool = True) -> None:
        # All writers are dead, so what they wrote is in the pipes now: no waiting for an end that a stray
        # holder of the pipe could put off for ever.
        for fd in list(self._pipes):
            for _ in range(LAST_READS):
                if not self._read(fd):
                    break
        self._close(is_last=is_last)
        self._watcher.ended(end)

    def _close(self, *, is_last: bool) -> None:
        for fd in list(self._pipes):
            self._drop_pipe(fd)
        self.supervisor.end_attempt()
        self._host.let_go(self._id, self.supervisor, is_last=is_last)
        self.is_over.set()
