"""The worker's end of the spawner: start it, hand it attempts. Linux only, blocking calls of microseconds."""

from __future__ import annotations

import array
import contextlib
import json
import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from worker_node.sandbox.policy import SandboxPlan

SEND_TIMEOUT_S: Final = 2.0
"""A spawner that takes no request for so long is stuck and is replaced."""

_ENVIRONMENT: Final = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}
"""Nothing of the worker's environment: a command of the same user could read it in /proc."""


class SpawnerGone(Exception):
    """The spawner process takes no requests any more."""


@dataclass(frozen=True)
class Launched:
    """The worker's ends of one attempt: read output, give orders, hear events."""

    stdout_fd: int
    stderr_fd: int
    control: socket.socket


class SpawnerProcess:
    """A running spawner. The thread that makes it must live as long as the worker: PDEATHSIG goes by thread."""

    def __init__(self) -> None:
        """Start the process."""
        self.requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.requests.settimeout(SEND_TIMEOUT_S)
        script = Path(__file__).with_name("spawner.py")
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - our own script, no shell
                [sys.executable, "-I", "-S", "-X", "utf8", str(script), str(theirs.fileno()), str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=_ENVIRONMENT,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,  # the terminal's Ctrl-C is for the worker, which drains
            )

    @property
    def pid(self) -> int:
        """Return the process id."""
        return self._process.pid

    def launch(self, plan: SandboxPlan) -> Launched:
        """Hand over one attempt; raise SpawnerGone or OSError, and then nothing was started."""
        with contextlib.ExitStack() as theirs, contextlib.ExitStack() as ours:
            plan_fd = os.memfd_create("plan")
            theirs.callback(os.close, plan_fd)
            with open(plan_fd, "wb", closefd=False) as file:
                file.write(json.dumps(plan.for_spawner()).encode())
            stdout_read, stdout_write = _pipe(ours, theirs)
            stderr_read, stderr_write = _pipe(ours, theirs)
            control, control_theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            ours.callback(control.close)
            theirs.callback(control_theirs.close)
            control.setblocking(False)
            fds = array.array("i", [plan_fd, stdout_write, stderr_write, control_theirs.fileno()])
            try:
                self.requests.sendmsg([b"run"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
            except (BrokenPipeError, ConnectionResetError, TimeoutError) as error:
                raise SpawnerGone(str(error)) from error
            ours.pop_all()
        return Launched(stdout_read, stderr_read, control)

    def end(self) -> None:
        """Close the socket and reap the process; supervisors kill their commands by themselves."""
        self.requests.close()
        try:
            self._process.wait(timeout=SEND_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _pipe(ours: contextlib.ExitStack, theirs: contextlib.ExitStack) -> tuple[int, int]:
    read, write = os.pipe()
    ours.callback(os.close, read)
    theirs.callback(os.close, write)
    os.set_blocking(read, False)
    return read, write
