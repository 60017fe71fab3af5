"""A sandbox of namespaces: made ahead of its command, given one attempt, gone with its first process.

Theory of operation. The supervisor clones the sandbox's first process right into new namespaces and maps one
user into them: the slot's if the worker is root, its own if not. The first process becomes that user, builds the
new root, says that it is ready and waits on its channel; so far nothing depends on the attempt, and the
supervisor makes the next sandbox while the last command runs. The attempt comes over the channel: the
workspace is put at /tmp, all capabilities go, the command is forked. When the first process dies the kernel
kills whatever lives in its process namespace and takes mounts, memory segments and network away: that is the
proof that nothing is left, and the way to kill.

Standard library only.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import time

from worker_node.sandbox import command, kernel, last_words, new_root

TYPE_CHECKING = False  # the spawner does without typing: 2 ms and half a megabyte in every fork
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Final, NoReturn
if sys.platform != "win32":
    import resource

PATIENCE_S: Final = 20.0
"""How long a step of a sandbox may take on a machine that is short of breath."""

STALE_AFTER_S: Final = 600.0
"""A sandbox that waited longer is not used: the system's files that it shows may have been replaced since."""

_DESCRIPTORS: Final = 3
_SPARED: Final = 100
"""How much less the kernel likes to kill the first process than the command, which would look like a loss."""
_NAMESPACES: Final = (
    kernel.CLONE_NEWUSER
    | kernel.CLONE_NEWNS
    | kernel.CLONE_NEWPID
    | kernel.CLONE_NEWIPC
    | kernel.CLONE_NEWUTS
    | kernel.CLONE_NEWCGROUP
)


class SandboxFailed(Exception):
    """A step of making the sandbox failed; the command did not run."""


class Sandbox:
    """The supervisor's end of one sandbox."""

    def __init__(self, workspaces: str, uid: int | None, oom_score_adj: int, *, allows_network: bool) -> None:
        """Clone the first process; raise SandboxFailed. What it meets is heard when the sandbox is used.

        `uid` is whom the inside's user is outside, which only root may choose; None for who this process is.
        """
        self.made_at = time.monotonic()
        self.is_gone = False
        """Its first process was reaped."""
        self.tmp_fd: int | None = None
        """The /tmp that outlives it, where the plan asked for that; whoever reports the end takes it."""
        self._is_ready = False
        own_map = (os.getuid(), os.getgid()) if uid is None else None
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                self.first_pid = kernel.clone(_NAMESPACES if allows_network else _NAMESPACES | kernel.CLONE_NEWNET)
            except OSError as error:
                self.channel.close()
                raise SandboxFailed(f"namespaces: {error}") from error
            if self.first_pid == 0:
                _be_first(theirs, workspaces, oom_score_adj, own_map, allows_network=allows_network)
        if uid is not None:
            try:
                _map_user(str(self.first_pid), uid, uid)
            except OSError as error:
                # One that has failed already, and is gone, has said why.
                detail = self.hear().get("detail", f"user map: {error}")
                self.discard()
                raise SandboxFailed(detail) from error
            try:
                self.channel.send(b"mapped", socket.MSG_NOSIGNAL)
            except OSError:
                return  # it has failed already, and said why

    @property
    def is_fresh(self) -> bool:
        """Whether this sandbox may still be used."""
        return time.monotonic() - self.made_at < STALE_AFTER_S

    def await_ready(self) -> None:
        """Wait until an attempt can be given; raise SandboxFailed if that will never be."""
        if not self._is_ready:
            self._expect("ready")
        self._is_ready = True

    def start(self, plan: int, stdout: int, stderr: int) -> None:
        """Run the plan in the sandbox; raise SandboxFailed, and then the command did not run."""
        self.await_ready()
        try:
            socket.send_fds(self.channel, [b"run"], [plan, stdout, stderr], socket.MSG_NOSIGNAL)
        except OSError as error:
            raise SandboxFailed(f"sandbox: {error}") from error
        self._expect("started")

    def hear(self) -> dict[str, Any]:
        """Return the next message, `{"event": "gone"}` when no more can come."""
        try:
            text, fds = last_words.receive(self.channel, 8192)
        except BlockingIOError:
            text, fds = b"", []
        if fds:
            self.tmp_fd = fds[0]
        message: dict[str, Any] = json.loads(text) if text else {"event": "gone"}
        return message

    def kill(self) -> None:
        """Kill the first process, and with it all others."""
        if not self.is_gone:
            os.kill(self.first_pid, signal.SIGKILL)

    def discard(self) -> None:
        """Kill the sandbox, reap it and close the channel."""
        self.kill()
        if not self.is_gone:
            os.waitpid(self.first_pid, 0)
            self.is_gone = True
        self.channel.close()
        self.forget_tmp()

    def forget_tmp(self) -> None:
        """Let /tmp go, if it was kept."""
        if self.tmp_fd is not None:
            os.close(self.tmp_fd)
            self.tmp_fd = None

    def _expect(self, event: str) -> None:
        readable = select.poll()
        readable.register(self.channel, select.POLLIN)
        if not readable.poll(PATIENCE_S * 1000):
            raise SandboxFailed(f"sandbox: not {event} within {PATIENCE_S:.0f} s")
        message = self.hear()
        if message["event"] != event:
            raise SandboxFailed(message.get("detail", f"sandbox: died before it was {event}"))


def _be_first(
    channel: socket.socket,
    workspaces: str,
    oom_score_adj: int,
    own_map: tuple[int, int] | None,
    *,
    allows_network: bool,
) -> NoReturn:
    """Be process 1 of the sandbox."""
    step = "sandbox"
    try:
        signal.set_wakeup_fd(-1)
        os.closerange(3, channel.fileno())
        os.closerange(channel.fileno() + 1, command.FIRST_DESCRIPTORS)
        step = "session"
        os.setsid()
        step = "oom score"
        kernel.show_memory()
        command.be_killed_first(oom_score_adj - _SPARED)
        step = "user map"
        if own_map:
            kernel.write_setting("/proc/self/setgroups", "deny")
            _map_user("self", *own_map)
        elif not channel.recv(64):
            os._exit(command.SETUP_FAILED)
        step = "user"
        kernel.become_user(new_root.USER, keeps_groups=own_map is not None)
        kernel.hide_memory()
        step = "root"
        new_root.build(workspaces, allows_network=allows_network)
        step = "host name"
        socket.sethostname(new_root.HOST_NAME)
        if not allows_network:
            step = "loopback"
            kernel.raise_loopback()
        _tell(channel, event="ready")
    except BaseException as error:  # noqa: BLE001 - a forked copy must never run on
        _tell(channel, event="failed", detail=f"{step}: {error}")
        os._exit(command.SETUP_FAILED)
    _serve(channel)


def _serve(channel: socket.socket) -> NoReturn:
    """Take the one attempt, start its command and stay until nobody is left."""
    step = "order"
    try:
        plan, stdout, stderr = _receive(channel)
        step = "death signal"
        kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
        # The parent lives outside, so its number cannot be looked at; a parent that is gone has closed this.
        if select.select([channel], [], [], 0)[0]:
            os._exit(command.SETUP_FAILED)
        step = "working folder"
        name = os.path.basename(plan["workspace"])
        is_bounded = bool(plan["sandbox"]["tmp_bytes"])
        if is_bounded:
            new_root.give_memory(plan["sandbox"]["tmp_bytes"], name, plan["folders"], plan["inputs"])
        else:
            new_root.give_workspace(name)
        tmp_fd = new_root.open_tmp() if plan["sandbox"]["keeps_tmp"] else None
        step = "capabilities"
        kernel.drop_capabilities()
        main_pid, failure = command.launch(plan, stdout, stderr, uid=None)
    except BaseException as error:  # noqa: BLE001 - it must end here, whatever happened
        failure = f"{step}: {error}"
    if failure:
        _tell(channel, event="failed", detail=failure)
        os._exit(command.SETUP_FAILED)
    try:
        _tell(channel, [] if tmp_fd is None else [tmp_fd], event="started")
        if tmp_fd is not None:
            os.close(tmp_fd)
        _bury(channel, main_pid, is_bounded=is_bounded)
    finally:
        os._exit(0)


def _bury(channel: socket.socket, main_pid: int, *, is_bounded: bool) -> None:
    """Reap until nobody is left; tell when the command itself has ended."""
    while True:
        try:
            pid, status = os.waitpid(-1, 0)
        except ChildProcessError:
            return
        if pid == main_pid:
            usage = resource.getrusage(resource.RUSAGE_CHILDREN)
            _tell(
                channel,
                event="main",
                status=status,
                cpu_seconds=usage.ru_utime + usage.ru_stime,
                max_rss_bytes=usage.ru_maxrss << 10,
                is_full=is_bounded and new_root.is_full(),
                is_alone=not _has_children(),
            )


def _has_children() -> bool:
    """Return whether anybody else is left: whoever loses his parent in here becomes a child of this process."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _receive(channel: socket.socket) -> tuple[dict[str, Any], int, int]:
    data, fds, _, _ = socket.recv_fds(channel, 64, _DESCRIPTORS, socket.MSG_CMSG_CLOEXEC)
    if not data:
        os._exit(0)  # the supervisor does without this sandbox, or is gone
    plan_fd, stdout, stderr = fds
    plan = json.loads(os.pread(plan_fd, os.fstat(plan_fd).st_size, 0))
    os.close(plan_fd)
    return plan, stdout, stderr


def _tell(channel: socket.socket, fds: Sequence[int] = (), **message: object) -> None:
    try:
        socket.send_fds(channel, [json.dumps(message).encode()], fds, socket.MSG_NOSIGNAL)
    except OSError:
        os._exit(command.SETUP_FAILED)  # nobody is there to hear or to want it


def _map_user(pid: str, uid: int, gid: int) -> None:
    """Show one user and group to the inside of a new user namespace, under their number there."""
    kernel.write_setting(f"/proc/{pid}/uid_map", f"{new_root.USER} {uid} 1")
    kernel.write_setting(f"/proc/{pid}/gid_map", f"{new_root.USER} {gid} 1")
