"""Run commands through the spawner from an asyncio loop: pump output, hear supervisors, replace a dead spawner."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
from pathlib import Path
from typing import Final

from octaskly_wire.vocabulary import OutputStream
from worker_node.sandbox import events, last_words
from worker_node.sandbox.host import CommandEnd, EndCause, Watcher
from worker_node.sandbox.places import SHOWN_WORKSPACES
from worker_node.sandbox.policy import HostFacts, Outfit, SandboxPlan
from worker_node.sandbox.spawner_process import SpawnerGone, SpawnerProcess, SpawnerSettings, send_plan

logger = logging.getLogger(__name__)

READ_BYTES: Final = 64 << 10
LAST_READS: Final = 64
"""Reads of what is left in a pipe once its command is dead: more than any pipe holds. A process outside the
attempt that got hold of the pipe and keeps writing stops here."""

OUTPUTS: Final[tuple[OutputStream, OutputStream]] = ("stdout", "stderr")
"""In the order in which a supervisor gives their pipes."""

MAX_EVENT_FDS: Final = 3

QUICK_DEATH_S: Final = 1.0

CLOSE_TIMEOUT_S: Final = 3.0
"""How long `close` waits for the supervisors to clean up; they go on without us."""

_CAUSES: Final = {cause.value.encode(): cause for cause in EndCause}


class SpawnerHost:
    """The Linux host."""

    def __init__(self, settings: SpawnerSettings, facts: HostFacts) -> None:
        """Start the spawner; call in the main thread, inside the loop."""
        self.facts = facts
        self.loop = asyncio.get_running_loop()
        self._settings = settings
        self._attempts: dict[str, _Attempt] = {}
        self._idle: list[_Supervisor] = []
        self._is_closing = False
        self._has_ended = asyncio.Event()
        """All attempts are over, and the host is closing."""
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
        outfit = None if plan.canary else plan.terms.outfit
        while True:
            supervisor = self._take_idle(outfit, plan.workspace)
            is_last_try = supervisor is None
            try:
                if supervisor is None:
                    supervisor = self._new_supervisor(outfit)
                self._attempts[plan.attempt_id] = supervisor.begin(plan, watcher)
            except (SpawnerGone, OSError) as error:
                # One that idled may have died unheard; a new one is the last try.
                if not is_last_try:
                    continue
                watcher.refused(f"no supervisor: {error}")
            except ValueError as error:
                # No supervisor could be told, and this one was told nothing.
                if supervisor is not None:
                    self._idle.append(supervisor)
                watcher.refused(f"no supervisor: {error}")
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
        if self._attempts:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_TIMEOUT_S):
                    await self._has_ended.wait()
        for attempt in list(self._attempts.values()):
            attempt.give_up()
        for supervisor in self._idle:
            supervisor.close()
        self.loop.remove_reader(self._spawner.requests)
        self._spawner.end()

    def let_go(self, attempt_id: str, supervisor: _Supervisor, *, is_last: bool) -> None:
        """Drop an attempt that is over; keep its supervisor for the next one unless it was its last."""
        self._attempts.pop(attempt_id, None)
        if is_last or self._is_closing or supervisor.spawner is not self._spawner:
            supervisor.close()
        else:
            supervisor.attempt = None
            self._idle.append(supervisor)
        if self._is_closing and not self._attempts:
            self._has_ended.set()

    def forget(self, supervisor: _Supervisor) -> None:
        """Drop a supervisor that died while it idled."""
        if supervisor in self._idle:
            self._idle.remove(supervisor)

    def _take_idle(self, outfit: Outfit | None, workspace: str) -> _Supervisor | None:
        """Return an idle supervisor in this outfit, best the one that was last in the same workspace."""
        chosen = None
        for idle in reversed(self._idle):
            if idle.outfit == outfit:
                chosen = chosen or idle
                if idle.workspace == workspace:
                    chosen = idle
                    break
        if chosen is not None:
            self._idle.remove(chosen)
        elif self._idle:
            # As many as were ever needed at once: one of another kind makes room.
            self._idle.pop(0).close()
        return chosen

    def _new_supervisor(self, outfit: Outfit | None) -> _Supervisor:
        try:
            control = self._spawner.new_supervisor()
        except SpawnerGone:
            self._replace_spawner()
            control = self._spawner.new_supervisor()
        return _Supervisor(self, control, self._spawner, outfit)

    def _new_spawner(self) -> SpawnerProcess:
        spawner = SpawnerProcess(self._settings)
        # It never writes: readable means dead.
        self.loop.add_reader(spawner.requests, self._on_spawner_died)
        self._spawner_made_at = self.loop.time()
        return spawner

    def _on_spawner_died(self) -> None:
        logger.error("The sandbox spawner died; its commands are being killed", extra={"event": "spawner_died"})
        self.loop.remove_reader(self._spawner.requests)
        # One that dies at birth would be replaced in a busy circle; then the next launch tries again.
        if self.loop.time() - self._spawner_made_at > QUICK_DEATH_S:
            self._replace_spawner()

    def _replace_spawner(self) -> None:
        """Start another spawner. The old one's supervisors notice by themselves, clean up and report."""
        if self._is_closing:
            return
        self.loop.remove_reader(self._spawner.requests)
        self._spawner.end()
        for supervisor in self._idle:
            supervisor.close()
        self._idle.clear()
        self._spawner = self._new_spawner()


class _Supervisor:
    """The worker's end of one supervisor, which serves one attempt after the other."""

    def __init__(
        self, host: SpawnerHost, control: socket.socket, spawner: SpawnerProcess, outfit: Outfit | None
    ) -> None:
        self.spawner = spawner
        self.outfit = outfit
        self.workspace = ""
        """Of its last attempt."""
        self._host = host
        self._control = control
        self._number = 0
        self._told: SandboxPlan | None = None
        """The plan of its last attempt."""
        self.attempt: _Attempt | None = None
        """The running one."""
        host.loop.add_reader(control, self._hear)

    def begin(self, plan: SandboxPlan, watcher: Watcher) -> _Attempt:
        """Hand over an attempt; raise SpawnerGone, and then it is closed, or ValueError for what cannot be told."""
        self._number += 1
        self.workspace = plan.workspace
        try:
            send_plan(self._control, self._number, plan, self._told)
        except OSError as error:
            # One that could not be made has said why before it closed the socket.
            detail = str(error)
            with contextlib.suppress(OSError):
                detail = self._control.recv(events.MAX_BYTES).partition(b"\n")[2].decode("utf-8", "replace")
            self.close()
            raise SpawnerGone(detail) from error
        self._told = plan
        self.attempt = _Attempt(self._host, plan.attempt_id, self, watcher)
        return self.attempt

    def order(self, word: str) -> None:
        # A supervisor that is gone has killed everything already, or the spawner does.
        with contextlib.suppress(OSError):
            self._control.send(f"{word} {self._number}".encode())

    def close(self) -> None:
        self._host.loop.remove_reader(self._control)
        self._control.close()

    def _hear(self) -> None:
        try:
            message, fds = last_words.receive(self._control, events.MAX_BYTES, MAX_EVENT_FDS)
        except BlockingIOError:
            return
        if self.attempt is not None:
            self.attempt.on_event(message, fds)
        else:  # idle, and dead
            self._host.forget(self)
            self.close()


class _Attempt:
    """The worker's end of one running command."""

    def __init__(self, host: SpawnerHost, attempt_id: str, supervisor: _Supervisor, watcher: Watcher) -> None:
        self.supervisor = supervisor
        self._host = host
        self._id = attempt_id
        self._watcher = watcher
        self._pipes: dict[int, OutputStream] = {}
        """Those that the supervisor gave away: of a command that lasts, or has written much."""
        self._is_reading = False
        self._started_at: float | None = None

    def give_up(self) -> None:
        """Stop listening to a supervisor that did not answer in time."""
        self._lose("the worker stopped")

    def on_event(self, message: bytes, fds: list[int]) -> None:
        """Take a word of the supervisor; none means that it died."""
        head, _, body = message.partition(b"\n")
        word, *facts = head.split() or [b""]
        match word:
            case b"ended":
                self._on_ended(facts, body, fds)
            case b"started":
                self._on_started(int(facts[0]) / 1e9, fds)
            case b"refused":
                self._close(is_last=facts[0] == b"1")
                self._watcher.refused(body.decode("utf-8", "replace"))
            case _:
                self._lose("the supervisor of this command died; the command was killed")

    def _on_started(self, at: float, fds: list[int]) -> None:
        self._started_at = at
        if not self._takes_pipes(fds):
            return
        self._is_reading = True
        for fd in self._pipes:
            self._host.loop.add_reader(fd, self._read, fd)
        self._watcher.started(at)

    def _on_ended(self, facts: list[bytes], body: bytes, fds: list[int]) -> None:
        is_last, started_ns, status, duration_ms, cpu_us, max_rss_bytes, is_untouched, *rest = map(int, facts[1:])
        has_pipes, detail_bytes, stdout_bytes = rest
        pipes, tmp = fds[: 2 * has_pipes], fds[2 * has_pipes :]
        if has_pipes and not self._takes_pipes(pipes):
            return
        code = None if status == events.UNKNOWN else os.waitstatus_to_exitcode(status)
        end = CommandEnd(
            cause=_CAUSES[facts[0]],
            exit_code=code if code is not None and code >= 0 else None,
            signal=-code if code is not None and code < 0 else None,
            duration_ms=duration_ms,
            cpu_seconds=cpu_us / 1_000_000,
            max_rss_bytes=max_rss_bytes,
            detail=body[:detail_bytes].decode("utf-8", "replace"),
            started_at=None if started_ns == events.UNKNOWN else started_ns / 1e9,
            is_untouched=bool(is_untouched),
            tmp_fd=tmp[0] if tmp else None,
        )
        ends_at = detail_bytes + stdout_bytes
        if stdout := body[detail_bytes:ends_at]:
            self._watcher.wrote("stdout", stdout)
        if stderr := body[ends_at:]:
            self._watcher.wrote("stderr", stderr)
        self._end(end, is_last=bool(is_last))

    def _takes_pipes(self, fds: list[int]) -> bool:
        """Take what the command writes into; without it the command is lost, since nobody would know what it wrote."""
        self._pipes = dict(zip(fds, OUTPUTS, strict=False))
        for fd in fds:
            os.set_blocking(fd, False)
        if len(fds) == len(OUTPUTS):
            return True
        self._lose("the output of this command could not be taken: too many open descriptors; it was killed")
        return False

    def _lose(self, detail: str) -> None:
        elapsed_ms = 0 if self._started_at is None else round((time.monotonic() - self._started_at) * 1000)
        self._end(CommandEnd(EndCause.LOST, None, None, elapsed_ms, detail=detail))

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
            self._host.loop.remove_reader(fd)
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
        self._host.let_go(self._id, self.supervisor, is_last=is_last)
