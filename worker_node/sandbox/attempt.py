"""One attempt, as its supervisor runs it: start, watch time and limits, end in two steps, report.

Theory of operation. Ending goes in two steps: TERM to the tree, a grace, then KILL. In a sandbox of namespaces
KILL goes to the first process and the kernel does the rest. Without one, KILL sweeps go on until nobody is
left; between sweeps the supervisor never blocks in wait(), because a process that was forked during a sweep
was in nobody's list. Standard library only.
"""

from __future__ import annotations

import os
import signal
import time

from worker_node.sandbox import command, disk_meter, events, proc_tree
from worker_node.sandbox.disk_meter import DiskMeter
from worker_node.sandbox.leftovers import tells_changes
from worker_node.sandbox.namespaces import Sandbox, SandboxFailed
from worker_node.sandbox.streams import Pipes

TYPE_CHECKING = False  # the spawner does without typing: 2 ms and half a megabyte in every fork
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final

    from worker_node.sandbox.cgroup import Group
    from worker_node.sandbox.outfit import Outfit

SWEEP_EVERY_S: Final = 0.005
POLL_LIMITS_EVERY_S: Final = 0.1
SOONEST_S: Final = 0.02
FASTEST_BYTES_A_S: Final = 4e9
"""How fast a few processes take memory on an ordinary machine."""
GLANCE_EVERY_S: Final = 0.025
"""Between cheap looks at how fast the disk fills: a fast one takes 300 MB in a tenth of a second."""
UNKILLABLE_AFTER_S: Final = 10.0
"""KILL sweeps after which the attempt is reported although a process is still there (a setuid program at
level none, a hung disk). The sweeps go on, slower, until it is gone."""

NEARLY: Final = 0.9
"""A command that failed with a peak above this share of its memory is taken to have failed for it."""


class Attempt:
    """A running attempt. Whoever made it calls `on_reaped` for each child and `step` in time."""

    sandbox: Sandbox | None = None
    is_over = False
    """No process of the attempt is left."""
    is_late = False
    """It was to be over long ago, and is not."""
    _cause = "exited"
    _detail = ""
    _main_pid = 0
    _main_status: int | None = None
    _is_full = False
    _has_lost_first = False
    _ended_at = 0.0
    _kill_at: float | None = None
    _is_killing = False
    _cpu_seconds = 0.0
    _max_rss_bytes = 0
    _unchanged_since_ns: int | None = None
    """The last change of the workspace before the command, where any later one shows."""
    _meter: DiskMeter | None = None
    """None where nothing is measured, and as long as nothing was due."""

    def __init__(
        self, plan: dict[str, Any], uid: int | None, group: Group | None, other_pids: Callable[[], set[int]]
    ) -> None:
        """`other_pids` tells which children of the supervisor do not belong to the attempt."""
        self.plan = plan
        self._uid = uid
        self._group = group
        self._other_pids = other_pids

    def start(self, outfit: Outfit | None, sandbox: Sandbox | None, plan_fd: int) -> None:
        """Start the command; raise OSError, SandboxFailed or CannotLaunch, and then it did not run.

        It is started in the outfit of this process, or goes into the sandbox; with neither this process forks for it.
        Only the sandbox needs the descriptor of the plan.
        """
        self.pipes = Pipes()
        try:
            self._launch(outfit, sandbox, plan_fd)
        except BaseException:
            self.pipes.close()
            raise
        self.pipes.close_writes()
        self._started_at = now()
        self._poll_at = self._started_at + POLL_LIMITS_EVERY_S
        self._glance_at = self._started_at + GLANCE_EVERY_S

    def _launch(self, outfit: Outfit | None, sandbox: Sandbox | None, plan_fd: int) -> None:
        stdout, stderr = self.pipes.writes
        self._prepare_workspace(stdout, stderr)
        if self.plan["group_bytes"]:
            if self._group is None:
                raise SandboxFailed("memory group: there is none")
            self._group.begin(self.plan["group_bytes"])
        self.sandbox = sandbox
        if sandbox is not None:
            sandbox.start(plan_fd, stdout, stderr)
        elif outfit is not None:
            self._main_pid = outfit.launch(self.plan, stdout, stderr)
        else:
            self._main_pid = command.launch(self.plan, stdout, stderr, self._uid)

    def _prepare_workspace(self, stdout: int, stderr: int) -> None:
        """Hand the folder and the pipes to the command's user; see on which disk the folder is and what that has."""
        workspace, uid = self.plan["workspace"], self._uid
        try:
            status = os.lstat(workspace)
            self._device = status.st_dev
            if uid is not None:
                # The inputs themselves stay the worker's: who does not own a file cannot make it writable.
                folders = [f"{workspace}/{name}" for name in self.plan["folders"]]
                if status.st_uid != uid:  # one that served this user before needs no write
                    folders.append(workspace)
                for folder in folders:
                    os.chown(folder, uid, uid, follow_symlinks=False)
                os.fchown(stdout, uid, uid)  # to be opened again as /dev/stdout and /dev/stderr
                os.fchown(stderr, uid, uid)
            if "disk_bytes" in self.plan["polled"]:
                self._free_bytes = disk_meter.free_bytes(workspace)
            if (uid is None or status.st_uid == uid) and tells_changes(status.st_ctime_ns):
                self._unchanged_since_ns = status.st_ctime_ns
        except OSError as error:
            raise SandboxFailed(f"working folder: {error}") from error

    # --- the watch ---------------------------------------------------------------------------------

    def on_all_reaped(self) -> None:
        """Hear that the supervisor has no child left: no sandbox, and nobody of the attempt."""
        if self.sandbox is None:
            self.is_over = True

    def on_reaped(self, pid: int, status: int, usage: Any) -> None:
        """Hear that a child of the supervisor ended."""
        if self.sandbox is None:
            self._cpu_seconds += usage.ru_utime + usage.ru_stime
            self._max_rss_bytes = max(self._max_rss_bytes, usage.ru_maxrss << 10)
            if pid == self._main_pid:
                self._note_end(status)
        elif pid == self.sandbox.first_pid:
            # Its last words may still lie in the channel.
            while self._main_status is None and self.hear():
                continue
            if self._main_status is None:
                self._cpu_seconds = usage.ru_utime + usage.ru_stime
                self._max_rss_bytes = usage.ru_maxrss << 10
                if self._cause == "exited":
                    self._has_lost_first = True
                    self._cause, self._detail = "lost", "the first process of the sandbox was killed"
            self.is_over = True

    def hear(self) -> bool:
        """Take a message of the sandbox; return whether more can come."""
        if self.sandbox is None:
            return False
        message = self.sandbox.hear()
        if message["event"] == "main":
            self._note_end(message["status"])
            self._is_full = message["is_full"]
            self._cpu_seconds = message["cpu_seconds"]
            self._max_rss_bytes = message["max_rss_bytes"]
            self.is_over = message["is_alone"]
        return bool(message["event"] != "gone")

    def _note_end(self, status: int) -> None:
        """Hear that the command itself has ended."""
        self._main_status = status
        self._ended_at = now()
        if status and self._group is not None and self.plan["group_bytes"]:
            self._group.give_room()
        # The kernel refused it the next process and it gave up, while all the others are still there.
        limit = self.plan["polled"]["processes"]
        if status and self._cause == "exited" and len(self._pids()) >= limit:
            self._cause, self._detail = "process_limit", f"failed with {limit} processes, and no more are allowed"

    @property
    def has_ended(self) -> bool:
        """Return whether the command itself is over."""
        return self._main_status is not None

    def step(self) -> float:
        """Do what is due; return the seconds until the next time."""
        if self.is_over:
            return 0.0
        if self.sandbox is None and self._main_status is not None and not self._pids():
            self.is_over = True
            return 0.0
        if self._meter is None and "disk_bytes" in self.plan["polled"]:
            self._meter = DiskMeter(self.plan["workspace"], self._device, self._free_bytes)
        moment = now()
        deadline: float = self._started_at + self.plan["timeout_s"]
        if self._main_status is not None:
            self._terminate("")
        elif moment >= deadline:
            self._terminate("timed_out")
        elif self._kill_at is None and moment >= self._poll_at:
            self._poll_at = now() + self._check_limits()
        elif self._kill_at is None and self._meter is not None and moment >= self._glance_at:
            self._glance_at_disk(self._meter)
            self._glance_at = now() + GLANCE_EVERY_S
        if self._kill_at is None:
            due = self._poll_at if self._meter is None else min(self._poll_at, self._glance_at)
            return max(0.0, min(due, deadline) - now())
        return self._sweep(moment) if moment >= self._kill_at else self._kill_at - moment

    def cancel(self) -> None:
        """End it with TERM and a grace, because somebody wishes so."""
        self._terminate("cancelled")

    def kill(self, cause: str = "lost", detail: str = "") -> None:
        """End it at once."""
        if self._main_status is None and self._kill_at is None:
            self._cause, self._detail = cause, detail
        if not self._is_killing:
            self._kill_at = 0.0

    def _terminate(self, cause: str, detail: str = "") -> None:
        """Step one: TERM to the whole tree. The first cause stays."""
        if self._kill_at is not None:
            return
        self._kill_at = now() + self.plan["grace_s"]
        if self._main_status is None:
            self._cause, self._detail = cause, detail
        # A stopped process takes TERM only once it goes on.
        proc_tree.signal_all(self._pids(), signal.SIGTERM, signal.SIGCONT)

    def _sweep(self, moment: float) -> float:
        """Step two: KILL all that is there; return the seconds until the next look."""
        if not self._is_killing:
            self._is_killing = True
            self._kill_at = moment
        if self.sandbox is not None:
            self.sandbox.kill()
        else:
            proc_tree.signal_all(self._pids(), signal.SIGKILL)
        if self._kill_at is not None and moment - self._kill_at > UNKILLABLE_AFTER_S:
            self._detail = "a process of this attempt could not be killed yet"
            self.is_late = True
            return 0.2
        return SWEEP_EVERY_S

    def _pids(self) -> list[int]:
        """Return the living processes of the attempt, as this side counts them."""
        if self.sandbox is not None:
            return proc_tree.descendants(self.sandbox.first_pid)
        others = self._other_pids()
        found = [pid for pid in proc_tree.children(os.getpid()) if pid not in others]
        for pid in list(found):
            found += proc_tree.descendants(pid)
        return found

    def _check_limits(self) -> float:
        """End the attempt if it is over a limit, at once where going on would harm others.

        Return the seconds until the next look: fewer, the less memory is left to be taken meanwhile.
        """
        limits = self.plan["polled"]
        pids = self._pids()
        # To be killed now: the other figures of many processes take long to read, and matter no more.
        if len(pids) > limits["processes"]:
            self.kill("process_limit", f"more than {limits['processes']} processes")
            return SOONEST_S
        if self._group is not None and self._group.has_killed():
            self.kill("memory_limit", self._over_memory())
            return SOONEST_S
        rss_bytes, seconds = proc_tree.use_of(pids)
        seconds += self._buried_cpu_seconds()
        if seconds > limits.get("cpu_seconds", float("inf")):
            self._terminate("cpu_limit", f"{seconds:.1f} s of processor time used")
        if self._meter is not None and self._meter.advance(pids) > limits["disk_bytes"]:
            self._kill_for_disk(self._meter)
        if "memory_bytes" not in limits:
            return POLL_LIMITS_EVERY_S
        allowed: int = limits["memory_bytes"]
        # Shared pages count in every process of the tree; only the exact figure may kill.
        if rss_bytes > allowed and (exact := proc_tree.shared_out_bytes(pids, allowed)) > allowed:
            self.kill("memory_limit", f"{exact >> 20} MiB used, {allowed >> 20} MiB allowed")
        return max(SOONEST_S, min(POLL_LIMITS_EVERY_S, (allowed - rss_bytes) / FASTEST_BYTES_A_S))

    def _glance_at_disk(self, meter: DiskMeter) -> None:
        allowed = self.plan["polled"]["disk_bytes"]
        # Others write to the same disk: only what lies in the folder counts.
        if meter.is_urgent(allowed) and meter.look_now(self._pids(), allowed) > allowed:
            self._kill_for_disk(meter)

    def _kill_for_disk(self, meter: DiskMeter) -> None:
        allowed = self.plan["polled"]["disk_bytes"]
        self.kill("disk_limit", f"{meter.total_bytes >> 20} MiB in the working folder, {allowed >> 20} MiB allowed")

    def _buried_cpu_seconds(self) -> float:
        return self._cpu_seconds if self.sandbox is None else proc_tree.buried_cpu_seconds(self.sandbox.first_pid)

    def _over_memory(self) -> str:
        return f"the kernel killed a process that wanted more than {self.plan['group_bytes'] >> 20} MiB"

    # --- the report --------------------------------------------------------------------------------

    def report(self, started_ns: int, *, is_last: bool) -> tuple[bytes, list[int]]:
        """Return how it ended, in a message, and the descriptors that belong to it; the receiver owns them.

        `started_ns` is when it began where that was not told, `is_last` that this supervisor takes no more attempts.
        """
        self._blame_limit()
        # Of a process that is still there no end of writing can be known: the pipes go as they are.
        stdout, stderr = self.pipes.take() if self.is_over else (b"", b"")
        fds, self.pipes.reads = self.pipes.reads, []
        has_pipes = bool(fds)
        if self.sandbox is not None and self.sandbox.tmp_fd is not None:
            fds.append(self.sandbox.tmp_fd)
            self.sandbox.tmp_fd = None
        detail = events.text_of(self._detail)
        head = b"ended %b %d %d %d %d %d %d %d %d %d %d\n" % (
            self._cause.encode(),
            is_last,
            started_ns,
            events.UNKNOWN if self._main_status is None else self._main_status,
            round(((self._ended_at or now()) - self._started_at) * 1000),
            round(self._cpu_seconds * 1_000_000),
            self._max_rss_bytes,
            self._is_untouched(),
            has_pipes,
            len(detail),
            len(stdout),
        )
        return b"%b%b%b%b" % (head, detail, stdout, stderr), fds

    def _is_untouched(self) -> bool:
        """Return whether the command did nothing whatever to the folder itself, which its last change tells."""
        if self._unchanged_since_ns is None:
            return False
        try:
            return os.lstat(self.plan["workspace"]).st_ctime_ns == self._unchanged_since_ns
        except OSError:
            return False

    def _blame_limit(self) -> None:
        """Name the limit that a command failed for by itself: the kernel refused it, and it gave up."""
        has_failed = self._cause == "exited" and self._main_status not in {0, None}
        if not (has_failed or self._has_lost_first):
            return
        if self._group is not None and self._group.has_killed():
            self._cause, self._detail = "memory_limit", self._over_memory()
            return
        if not has_failed:
            return
        allowed = self.plan["memory_bytes"]
        if self._is_full:
            self._cause, self._detail = "disk_limit", "the working folder was full"
        elif self._max_rss_bytes > NEARLY * allowed:
            self._cause = "memory_limit"
            self._detail = f"failed with {self._max_rss_bytes >> 20} MiB in use, {allowed >> 20} MiB allowed"


def now() -> float:
    """Return seconds that also count while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
