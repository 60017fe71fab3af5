"""The lean process that forks supervisors, started as `python -I -S spawner.py SOCKET_FD WORKER_PID`.

A worker with threads, TLS and megabytes of heap forks slowly and unsafely; this process has none of them.
It reads one message an attempt from a UNIX socket, with four descriptors: the plan, where stdout and
stderr go, and the attempt's control socket. From then on worker and supervisor talk directly.

It is a subreaper too: when a supervisor is killed, its processes come here and are killed here.
"""

from __future__ import annotations

import array
import gc
import json
import os
import select
import signal
import socket
import sys

if __name__ == "__main__":
    # -I keeps the script's folder off the path. At the end of it, our package can hide nothing.
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from worker_node.sandbox import kernel, proc_tree
from worker_node.sandbox.supervisor import Supervisor

DESCRIPTORS = 4


class Spawner:
    """Forks one supervisor for each request and buries them."""

    def __init__(self, requests: socket.socket) -> None:
        """Take the worker's socket."""
        self.requests = requests
        self.supervisors: set[int] = set()
        self.has_orphans = False
        self.wake_read, self.wake_write = os.pipe()

    def serve(self) -> None:
        """Fork until the worker closes the socket."""
        os.set_blocking(self.wake_read, False)
        os.set_blocking(self.wake_write, False)
        _reset_signals()
        signal.set_wakeup_fd(self.wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _wake)
        poller = select.poll()
        poller.register(self.requests, select.POLLIN)
        poller.register(self.wake_read, select.POLLIN)
        while True:
            # With orphans in hand, look again soon: they may fork while they are being killed.
            for fd, _ in poller.poll(5 if self.has_orphans else None):
                if fd == self.wake_read:
                    os.read(self.wake_read, 4096)
                elif not self._take_request():
                    return
            self._bury()

    def _bury(self) -> None:
        """Reap the dead; kill what a supervisor that died before its time left behind."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                self.has_orphans = False
                return
            if pid == 0:
                break
            # One that ended well left nobody.
            self.has_orphans |= pid in self.supervisors and status != 0
            self.supervisors.discard(pid)
        if self.has_orphans:
            orphans = set(proc_tree.children(os.getpid())) - self.supervisors
            for orphan in orphans:
                proc_tree.signal_all([orphan, *proc_tree.descendants(orphan)], signal.SIGKILL)
            self.has_orphans = bool(orphans)

    def _take_request(self) -> bool:
        room = socket.CMSG_SPACE(DESCRIPTORS * array.array("i").itemsize)
        data, ancillary, _, _ = self.requests.recvmsg(64, room, socket.MSG_CMSG_CLOEXEC)
        fds = array.array("i")
        for level, kind, payload in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
        if not data:
            return False
        try:
            if len(fds) == DESCRIPTORS:
                self._fork(*fds)
        finally:
            for fd in fds:
                os.close(fd)
        return True

    def _fork(self, plan_fd: int, stdout: int, stderr: int, control_fd: int) -> None:
        spawner_pid = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            with socket.socket(fileno=os.dup(control_fd)) as control:
                control.send(json.dumps({"event": "refused", "detail": f"fork: {error}"}).encode(), socket.MSG_NOSIGNAL)
            return
        if pid:
            self.supervisors.add(pid)
            return
        supervisor = None
        control = socket.socket(fileno=control_fd)
        try:
            signal.set_wakeup_fd(-1)
            os.setsid()
            for fd in (self.wake_read, self.wake_write):
                os.close(fd)
            self.requests.close()
            plan = json.loads(os.pread(plan_fd, os.fstat(plan_fd).st_size, 0))
            os.close(plan_fd)
            supervisor = Supervisor(plan, control, spawner_pid)
            supervisor.run(stdout, stderr)
        except BaseException as error:  # noqa: BLE001 - a forked copy must never run on as a second spawner
            try:
                if supervisor is None or supervisor.main_pid == 0:
                    control.send(
                        json.dumps({"event": "refused", "detail": f"supervisor: {error}"}).encode(), socket.MSG_NOSIGNAL
                    )
            finally:
                os._exit(1)
        os._exit(0)


def _reset_signals() -> None:
    """Undo what Python and the worker's parent set, once for all commands.

    An ignored signal stays ignored across exec: without this SIGPIPE and SIGXFSZ, which Python ignores, and
    SIGHUP under nohup would be ignored by every command. Handlers need nothing: exec removes them.
    """
    for number in signal.valid_signals():
        # libc keeps two numbers for itself, and two cannot be changed.
        try:
            signal.signal(number, signal.SIG_DFL)
        except (OSError, ValueError):
            continue
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _wake(_number: int, _frame: object) -> None:
    """Do nothing: the number is in the wake pipe, which a handler needs to exist for."""


def main(socket_fd: int, worker_pid: int) -> int:
    """Serve until the worker is gone. The supervisors see the end of it by themselves."""
    try:
        kernel.die_with_parent(signal.SIGKILL, worker_pid)
    except ProcessLookupError:
        return 1
    kernel.adopt_orphans()
    # What is here now stays: moved out of the collector's sight, forked copies share its pages.
    gc.disable()
    gc.freeze()
    os.set_inheritable(socket_fd, False)
    Spawner(socket.socket(fileno=socket_fd)).serve()
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
