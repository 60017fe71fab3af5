"""The worker's end of the spawner: start it, hand it attempts. Linux only, blocking calls of microseconds."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from worker_node.sandbox.cgroup import Place
from worker_node.sandbox.policy import SandboxPlan

SEND_TIMEOUT_S: Final = 2.0
"""A spawner that takes no request for so long is stuck and is replaced."""

MAX_INLINE_BYTES: Final = 32 << 10
"""Of a plan that goes to a supervisor in its order."""

_SCRIPT: Final = Path(__file__).with_name("spawner.py")

_ENVIRONMENT: Final = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}
"""Nothing of the worker's environment: a command of the same user could read it in /proc."""


@dataclass(frozen=True)
class SpawnerSettings:
    """What a spawner needs to know of its host."""

    workspaces: Path
    """The folder that holds the attempts' folders."""
    place: Place | None
    """Where control groups are made."""
    uid_base: int | None
    """The first of the users that commands run as, one a supervisor; None to run them as the worker's own."""
    script: Path = _SCRIPT

    def for_spawner(self) -> dict[str, object]:
        """Return the settings as the spawner reads them."""
        return {
            "workspaces": str(self.workspaces),
            "cgroup": self.place.as_arguments() if self.place else None,
            "uid_base": self.uid_base,
        }


class SpawnerGone(Exception):
    """The spawner process takes no requests any more."""


class SpawnerProcess:
    """A running spawner. The thread that makes it must live as long as the worker: PDEATHSIG goes by thread."""

    def __init__(self, settings: SpawnerSettings) -> None:
        """Start the process."""
        self.requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.requests.settimeout(SEND_TIMEOUT_S)
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - our own script, no shell
                [sys.executable, "-I", "-S", "-X", "utf8", str(settings.script), str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=_ENVIRONMENT,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,  # the terminal's Ctrl-C is for the worker, which drains
            )
        # Not on the command line, which a sandboxed command may read.
        self.requests.send(msgspec.json.encode(settings.for_spawner() | {"worker_pid": os.getpid()}))

    @property
    def pid(self) -> int:
        """Return the process id."""
        return self._process.pid

    def new_supervisor(self) -> socket.socket:
        """Return the control socket of a new supervisor; raise SpawnerGone or OSError."""
        control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        control.setblocking(False)
        try:
            with theirs:
                socket.send_fds(self.requests, [b"new"], [theirs.fileno()])
        except (BrokenPipeError, ConnectionResetError, TimeoutError) as error:
            control.close()
            raise SpawnerGone(str(error)) from error
        except OSError:
            control.close()
            raise
        return control

    def end(self) -> None:
        """Close the socket and reap the process; supervisors kill their commands by themselves."""
        self.requests.close()
        try:
            self._process.wait(timeout=SEND_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def send_plan(control: socket.socket, number: int, plan: SandboxPlan, told: SandboxPlan | None) -> None:
    """Hand an attempt to a supervisor that was last told another one, or raise OSError."""
    if plan.terms.sandbox is None:
        changes = plan.changes_since(told) if told is not None else None
        order = b"run %d\n" if changes is None else b"again %d\n"
        text = msgspec.json.encode(plan.for_spawner() if changes is None else changes)
        if len(text) <= MAX_INLINE_BYTES:
            control.send(order % number + text)
            return
    # A plan may be longer than a message, and what passes it on needs it as a file.
    fd = _file_of(msgspec.json.encode(plan.for_spawner()))
    try:
        socket.send_fds(control, [b"run %d\n" % number], [fd])
    finally:
        os.close(fd)


def _file_of(text: bytes) -> int:
    fd = os.memfd_create("plan")
    with open(fd, "wb", closefd=False) as file:
        file.write(text)
    return fd
