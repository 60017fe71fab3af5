"""The keeper of attempts, one after the other: takes orders, makes sandboxes ahead, leaves no process behind.

Theory of operation. A supervisor is forked by the spawner, in a session of its own, and serves one slot. It is a
subreaper: a descendant whose parent dies becomes its child, also one that called setsid. So "no children left"
means "no process of this attempt left", which the kernel tells with certainty. The worker talks to it over a
control socket: `run N` with the plan behind a line's end or in a descriptor, `again N` with what differs from the plan
before, `cancel N`, `kill N`. Orders for an attempt that is over meanwhile carry an old number and are dropped. The
pipes of a command are made here: of one that ends within some milliseconds the worker is told once, at its end,
together with what it wrote; of others it gets the read ends.

When the spawner dies the kernel sends SIGTERM, and when the worker dies the control socket ends: both mean
KILL at once. The supervisor itself outlives that, to clean up. Standard library only.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import time

from worker_node.sandbox import events, kernel, last_words, proc_tree
from worker_node.sandbox.attempt import Attempt
from worker_node.sandbox.cgroup import Group
from worker_node.sandbox.command import CannotLaunch
from worker_node.sandbox.leftovers import Leftovers
from worker_node.sandbox.mould import Mould
from worker_node.sandbox.namespaces import Sandbox, SandboxFailed
from worker_node.sandbox.outfit import Outfit

TYPE_CHECKING = False  # the spawner does without typing: 2 ms and half a megabyte in every fork
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Final

    from worker_node.sandbox.cgroup import Place

MAX_ORDER_BYTES: Final = 64 << 10
_DEATHS: Final = (signal.SIGCHLD,)
ATTEMPTS_A_LIFE: Final = 1000
"""After so many a new process takes over: whatever this one may have gathered is gone."""
TELL_STARTED_AFTER_NS: Final = 3_000_000
"""A command that is over by then needs no word of its own for its start: the worker wakes up once, not twice."""


class Settings:
    """What all supervisors of a spawner share."""

    def __init__(self, workspaces: str, place: Place | None) -> None:
        """`workspaces` is the folder of the attempts' folders, as supervisors see it."""
        self.workspaces = workspaces
        self.place = place


class Supervisor:
    """Serves one slot; `run` returns when the worker does without it."""

    def __init__(self, control: socket.socket, settings: Settings, spawner_pid: int, uid: int | None) -> None:
        """`uid` is the user of this slot's commands, None for whoever the worker is."""
        self._control = control
        self._settings = settings
        self._spawner_pid = spawner_pid
        self._uid = uid
        self._leftovers = None if uid is None else Leftovers(uid)
        self._group: Group | None = None
        self._attempt: Attempt | None = None
        self._outfit: Outfit | None = None
        self._number = 0
        self._plan: dict[str, Any] = {}
        """The last one, which the next one changes."""
        self._decoder = json.JSONDecoder()
        self._started_ns = events.UNKNOWN
        """When the command began, in nanoseconds of `time.monotonic`, until that is told."""
        self._mould: Mould | None = None
        self._leaving: list[Sandbox] = []
        self._is_ending = False
        self._hears_children = True
        """A death among the children wakes this process up, instead of waiting until it is asked for."""
        self._own_children: int | None = None
        self._wake_read, self._wake_write = os.pipe()
        self._poller = select.poll()

    def run(self) -> None:
        """Serve until the control socket ends or the spawner is gone; kill and bury what is left then."""
        self._take_signals()
        kernel.adopt_orphans()
        self._own_children = proc_tree.open_own_children()
        kernel.hide_memory()
        kernel.die_with_parent(signal.SIGTERM, self._spawner_pid)
        if self._settings.place is not None:
            self._group = Group(self._settings.place)
        self._poller.register(self._wake_read, select.POLLIN)
        self._poller.register(self._control, select.POLLIN)
        try:
            self._serve()
        finally:
            for sandbox in self._leaving:
                sandbox.discard()
            if self._mould is not None:
                self._mould.discard()
            if self._group is not None:
                self._group.end()

    def _take_signals(self) -> None:
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, _ignore)  # a handler, so that the number lands in the wake pipe
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)

    def _serve(self) -> None:
        wait_s: float | None = None
        while self._attempt is not None or not self._is_ending:
            for fd, _ in self._poller.poll(None if wait_s is None else wait_s * 1000 + 0.5):
                if fd == self._wake_read:
                    if signal.SIGTERM in os.read(self._wake_read, 4096):
                        self._end()
                    self._reap()
                elif fd == self._control.fileno():
                    self._obey()
                elif self._attempt is not None and not self._attempt.hear():
                    self._poller.unregister(fd)
            wait_s = None if self._attempt is None else self._advance(self._attempt)

    def _advance(self, attempt: Attempt) -> float | None:
        wait_s = attempt.step()
        if self._started_ns >= 0 and not attempt.is_over:
            untold_ns = self._started_ns + TELL_STARTED_AFTER_NS - time.monotonic_ns()
            if untold_ns <= 0:
                self._tell_start(attempt)
            else:
                wait_s = min(wait_s, untold_ns / 1e9)
        if attempt.is_over:
            self._attempt = None
            if attempt.sandbox is not None:
                self._leave(attempt.sandbox)
            elif self._leftovers is not None:
                self._leftovers.remove()
            if not attempt.is_late:
                self._report(attempt)
            return None
        if attempt.is_late and not self._is_ending:
            # Reported now; this process goes on alone until the last one is gone.
            self._is_ending = True
            self._report(attempt)
        return wait_s

    def _reap(self) -> None:
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                if self._attempt is not None:
                    self._attempt.on_all_reaped()
                return
            if pid == 0:
                return
            if self._mould is None and not self._leaving:  # below strict: nobody else is here
                if self._attempt is not None:
                    self._attempt.on_reaped(pid, status, usage)
                    if proc_tree.is_childless(self._own_children):  # another wait would say so with an exception
                        self._attempt.on_all_reaped()
                        return
                continue
            is_of_attempt = pid not in self._other_pids()
            for child in self._sandboxes():
                child.is_gone |= child.first_pid == pid
            if self._mould is not None:
                self._mould.is_gone |= self._mould.pid == pid
            self._leaving = [sandbox for sandbox in self._leaving if not sandbox.is_gone]
            if self._attempt is not None and is_of_attempt:
                self._attempt.on_reaped(pid, status, usage)

    def _sandboxes(self) -> list[Sandbox]:
        running = self._attempt.sandbox if self._attempt is not None else None
        return [sandbox for sandbox in (running, *self._leaving) if sandbox is not None]

    def _other_pids(self) -> set[int]:
        """Return the children of this process that do not belong to the running attempt."""
        keepers = set() if self._mould is None else {self._mould.pid}
        return keepers | {sandbox.first_pid for sandbox in self._leaving}

    # --- orders ------------------------------------------------------------------------------------

    def _obey(self) -> None:
        try:
            data, fds = last_words.receive_now(self._control, MAX_ORDER_BYTES, 1)
        except OSError:
            data, fds = b"", []
        order, _, plan = data.partition(b"\n")
        word, _, number = order.partition(b" ")
        if word == b"again":
            self._number = int(number)
            changes, env = self._decoder.raw_decode(plan.decode())[0]
            self._plan["env"] |= env
            self._plan |= changes
            self._begin(self._plan)
        elif word == b"run":
            self._number = int(number)
            self._begin(json.loads(plan or _content_of(*fds)), *fds)
        elif not word:
            self._poller.unregister(self._control)
            self._end()
        elif self._attempt is not None and int(number) == self._number:
            if word == b"cancel":
                self._attempt.cancel()
            else:
                self._attempt.kill()

    def _begin(self, plan: dict[str, Any], plan_fd: int = -1) -> None:
        self._plan = plan
        if plan["canary"]:
            import worker_node.sandbox.canary  # noqa: F401 - its forks cannot load it any more

        attempt = Attempt(plan, self._uid, self._group, self._other_pids)
        sandbox = None
        try:
            if plan["sandbox"]:
                sandbox = Sandbox(self._mould_for(plan))
            outfit = self._outfit_for(plan)
            if outfit is not None:
                self._hear_children(is_wished=False)
            attempt.start(outfit, sandbox, plan_fd)
        except (OSError, SandboxFailed, CannotLaunch) as error:
            if sandbox is not None:
                sandbox.discard()
            # What failed once may be broken for good here: the next attempt gets a new supervisor.
            self._is_ending = True
            self._tell(events.refused(str(error), is_last=True))
            return
        finally:
            if plan_fd >= 0:
                os.close(plan_fd)
        self._attempt = attempt
        self._started_ns = time.monotonic_ns()
        if outfit is not None:
            self._await_end(attempt)
        if sandbox is not None:
            self._poller.register(sandbox.channel, select.POLLIN)

    def _await_end(self, attempt: Attempt) -> None:
        """Wait for the end of a command that ends within some milliseconds, as most do; nobody else is heard meanwhile."""
        wait_ns = TELL_STARTED_AFTER_NS
        while wait_ns > 0 and signal.sigtimedwait(_DEATHS, wait_ns / 1e9):
            self._reap()
            if attempt.has_ended:
                break
            wait_ns = self._started_ns + TELL_STARTED_AFTER_NS - time.monotonic_ns()
        if not attempt.is_over:
            self._hear_children(is_wished=True)

    def _hear_children(self, *, is_wished: bool) -> None:
        if is_wished is not self._hears_children:
            signal.pthread_sigmask(signal.SIG_UNBLOCK if is_wished else signal.SIG_BLOCK, _DEATHS)
            self._hears_children = is_wished

    def _outfit_for(self, plan: dict[str, Any]) -> Outfit | None:
        """Return the outfit to start a command in, put on the first time; None for one that cannot be started so."""
        if self._outfit is None and plan["inherits"]:
            self._outfit = Outfit(plan, self._uid, self._spawner_pid)
        # The worker gives this process no other plans than the first one was like.
        elif self._outfit is not None and not self._outfit.fits(plan):
            raise CannotLaunch("outfit: this supervisor serves attempts under other limits")
        return self._outfit

    def _mould_for(self, plan: dict[str, Any]) -> Mould:
        """Return what the sandbox is to come from: the mould at hand, or a new one."""
        if self._mould is not None:
            if self._mould.fits(plan):
                return self._mould
            self._mould.discard()
            self._mould = None
        self._mould = Mould(plan, self._settings.workspaces, self._uid)
        return self._mould

    def _leave(self, sandbox: Sandbox) -> None:
        """Let go of a sandbox in which nobody of the attempt is left; its first process is about to end."""
        try:  # noqa: SIM105 - contextlib is not loaded here
            self._poller.unregister(sandbox.channel)
        except KeyError:
            pass  # it had ended before
        sandbox.channel.close()
        if not sandbox.is_gone:
            self._leaving.append(sandbox)

    def _end(self) -> None:
        self._is_ending = True
        if self._attempt is not None:
            self._attempt.kill()

    # --- words to the worker -----------------------------------------------------------------------

    def _tell_start(self, attempt: Attempt) -> None:
        fds, attempt.pipes.reads = attempt.pipes.reads, []
        self._tell(events.started(self._started_ns), fds)

    def _report(self, attempt: Attempt) -> None:
        # What lies in a kept /tmp counts as this one's memory until it is let go: the next attempt shall not pay.
        keeps_tmp = attempt.sandbox is not None and attempt.sandbox.tmp_fd is not None
        if keeps_tmp or self._number >= ATTEMPTS_A_LIFE:
            self._is_ending = True
        self._tell(*attempt.report(self._started_ns, is_last=self._is_ending))

    def _tell(self, message: bytes, fds: Sequence[int] = ()) -> None:
        """Tell the worker; the descriptors go there, and are closed here."""
        self._started_ns = events.UNKNOWN
        try:
            if fds:
                socket.send_fds(self._control, [message], fds, socket.MSG_NOSIGNAL)
            else:
                self._control.send(message, socket.MSG_NOSIGNAL)
        except OSError:
            self._end()  # nobody listens; clean up all the same
        for fd in fds:
            os.close(fd)


def _content_of(fd: int) -> bytes:
    return os.pread(fd, os.fstat(fd).st_size, 0)


def _ignore(_number: int, _frame: object) -> None:
    return
