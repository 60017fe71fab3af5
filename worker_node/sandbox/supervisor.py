"""One attempt's keeper: starts the command, watches time and limits, leaves no process behind.

Theory of operation. The supervisor is forked by the spawner, in a session of its own. It is a subreaper: a
descendant whose parent dies becomes its child, also one that called setsid. So "no children left" means "no
process of this attempt left", which waitpid tells with certainty. It ends an attempt in two steps: TERM to
the tree, a grace, then KILL sweeps again and again until waitpid says that nobody is left; between sweeps it
never blocks in wait(), because a process that was forked during a sweep was in nobody's list.

When the spawner dies the kernel sends SIGTERM, and when the worker dies the control socket ends: both mean
KILL at once. The supervisor itself outlives that, to clean up. Standard library only.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import time

from worker_node.sandbox import command, kernel, proc_tree
from worker_node.sandbox.disk_meter import DiskMeter

TYPE_CHECKING = False  # the spawner does without typing: 2 ms and half a megabyte in every fork
if TYPE_CHECKING:
    from typing import Any, Final
if sys.platform != "win32":
    import resource

SWEEP_EVERY_S: Final = 0.005
POLL_LIMITS_EVERY_S: Final = 0.1
UNKILLABLE_AFTER_S: Final = 10.0
"""KILL sweeps after which the attempt is reported although a process is still there (a setuid program at
level none, a hung disk). The sweeps go on, slower, until it is gone."""


class Supervisor:
    """Runs one plan; `run` returns when the attempt is over and reported."""

    def __init__(self, plan: dict[str, Any], control: socket.socket, spawner_pid: int) -> None:
        self.plan = plan
        self.control = control
        self.spawner_pid = spawner_pid
        self.cause = "exited"
        self.detail = ""
        self.main_pid = 0
        self.main_status: int | None = None
        self.started_at = 0.0
        self.ended_at = 0.0
        self.kill_at: float | None = None
        self.is_killing = False
        self.is_reported = False
        self.wake_read, self.wake_write = os.pipe()

    def run(self, stdout: int, stderr: int) -> None:
        """Start the command, keep it, clean up after it, report."""
        self._take_signals()
        kernel.adopt_orphans()
        kernel.die_with_parent(signal.SIGTERM, self.spawner_pid)
        failure = self._start(stdout, stderr)
        if failure:
            os.waitpid(self.main_pid, 0)
            self._tell({"event": "refused", "detail": failure})
            return
        self.started_at = _now()
        self._tell({"event": "started", "pid": self.main_pid})
        kernel.hide_memory()
        self._watch()
        if not self.is_reported:
            self._report()

    def _take_signals(self) -> None:
        os.set_blocking(self.wake_read, False)
        os.set_blocking(self.wake_write, False)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, _ignore)  # a handler, so that the number lands in the wake pipe
        signal.set_wakeup_fd(self.wake_write, warn_on_full_buffer=False)

    def _start(self, stdout: int, stderr: int) -> str:
        """Fork the command; return why it could not take over, empty when it did."""
        status_read, status_write = os.pipe()
        self_pid = os.getpid()
        self.main_pid = os.fork()
        if self.main_pid == 0:
            signal.set_wakeup_fd(-1)
            command.become(self.plan, stdout, stderr, status_write, self_pid)
        for fd in (stdout, stderr, status_write):
            os.close(fd)
        text = b""
        while part := os.read(status_read, 4096):
            text += part
        os.close(status_read)
        return text.decode("utf-8", "replace")

    # --- the watch ---------------------------------------------------------------------------------

    def _watch(self) -> None:
        poller = select.poll()
        poller.register(self.wake_read, select.POLLIN)
        poller.register(self.control, select.POLLIN)
        deadline = self.started_at + self.plan["timeout_s"]
        meter = DiskMeter(self.plan["workspace"])
        poll_at = self.started_at + POLL_LIMITS_EVERY_S
        while True:
            if not self._reap():
                return
            now = _now()
            if self.main_status is not None:
                self._terminate(self.cause, now)
            elif now >= deadline:
                self._terminate("timed_out", now)
            if self.kill_at is None and now >= poll_at:
                self._check_limits(meter, now)
                poll_at = _now() + POLL_LIMITS_EVERY_S
            if self.kill_at is not None and now >= self.kill_at:
                wake_at = now + self._sweep(now)
            else:
                wake_at = poll_at if self.kill_at is None else self.kill_at
                wake_at = min(wake_at, deadline) if self.kill_at is None else wake_at
            for fd, _ in poller.poll(max(0.0, wake_at - _now()) * 1000 + 0.5):
                if fd == self.wake_read:
                    if signal.SIGTERM in os.read(self.wake_read, 4096):
                        self._kill_now("lost")
                elif not self._obey():
                    poller.unregister(self.control)

    def _reap(self) -> bool:
        """Collect every ended child; return whether any process of the attempt is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self.main_pid:
                self.main_status = status
                self.ended_at = _now()

    def _obey(self) -> bool:
        """Read an order; return False when no more can come."""
        try:
            order = self.control.recv(64)
        except OSError:
            order = b""
        if order == b"cancel":
            self._terminate("cancelled", _now())
            return True
        # "kill", or the end of the socket: the worker is gone or wants no grace.
        self._kill_now("lost")
        return bool(order)

    def _terminate(self, cause: str, now: float, detail: str = "") -> None:
        """Step one: TERM to the whole tree. The first cause stays."""
        if self.kill_at is not None:
            return
        self.kill_at = now + self.plan["grace_s"]
        if self.main_status is None:
            self.cause, self.detail = cause, detail
        # A stopped process takes TERM only once it goes on.
        proc_tree.signal_all(proc_tree.descendants(os.getpid()), signal.SIGTERM, signal.SIGCONT)

    def _kill_now(self, cause: str) -> None:
        if self.main_status is None and self.kill_at is None:
            self.cause = cause
        if not self.is_killing:
            self.kill_at = 0.0

    def _sweep(self, now: float) -> float:
        """Step two: KILL all that is there; return the seconds until the next look."""
        if not self.is_killing:
            self.is_killing = True
            self.kill_at = now
        proc_tree.signal_all(proc_tree.descendants(os.getpid()), signal.SIGKILL)
        if self.kill_at is not None and now - self.kill_at > UNKILLABLE_AFTER_S:
            if not self.is_reported:
                self.detail = "a process of this attempt could not be killed yet"
                self._report()
            return 0.2
        return SWEEP_EVERY_S

    def _check_limits(self, meter: DiskMeter, now: float) -> None:
        limits = self.plan["polled"]
        use = proc_tree.use_of(os.getpid())
        if len(use.pids) > limits["processes"]:
            self._terminate("process_limit", now, f"{len(use.pids)} processes, {limits['processes']} allowed")
        elif use.rss_bytes > limits["memory_bytes"]:
            # Shared pages count in every process of the tree; only the exact figure may kill.
            exact = proc_tree.shared_out_bytes(use.pids)
            if exact > limits["memory_bytes"]:
                self._kill_now("memory_limit")
                self.detail = f"{exact >> 20} MiB used, {limits['memory_bytes'] >> 20} MiB allowed"
        elif (seconds := use.cpu_seconds + _children_cpu_seconds()) > limits.get("cpu_seconds", float("inf")):
            self._terminate("cpu_limit", now, f"{seconds:.1f} s of processor time used")
        elif meter.advance() > limits["disk_bytes"]:
            self._terminate("disk_limit", now, f"{meter.total_bytes >> 20} MiB in the working folder")

    # --- the report --------------------------------------------------------------------------------

    def _report(self) -> None:
        self.is_reported = True
        status = self.main_status
        exited = status is not None and os.WIFEXITED(status)
        signalled = status is not None and os.WIFSIGNALED(status)
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        self._tell(
            {
                "event": "ended",
                "cause": self.cause,
                "exit_code": os.WEXITSTATUS(status) if status is not None and exited else None,
                "signal": os.WTERMSIG(status) if status is not None and signalled else None,
                "duration_ms": round(((self.ended_at or _now()) - self.started_at) * 1000),
                "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 6),
                "max_rss_bytes": usage.ru_maxrss << 10,
                "detail": self.detail,
            }
        )

    def _tell(self, event: dict[str, Any]) -> None:
        try:
            self.control.send(json.dumps(event).encode(), socket.MSG_NOSIGNAL)
        except OSError:
            self._kill_now("lost")  # nobody listens; clean up all the same


def _children_cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _now() -> float:
    """Return seconds that also count while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _ignore(_number: int, _frame: object) -> None:
    return
