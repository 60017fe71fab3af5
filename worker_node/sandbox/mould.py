"""The mould of sandboxes: what all attempts of a slot may share, made once and copied for each.

Theory of operation. The supervisor clones a keeper into new user, mount, host name and control group namespaces
and maps one user into them: the slot's if the worker is root, its own if not. The keeper becomes that user, builds the
root, takes on the limits of the attempts, gives up all ways to new privileges, and waits. For each attempt it goes to
a copy of these mounts and to a new network, puts there what the attempt has for itself, and clones the first process
of the sandbox into it and into new process and IPC namespaces; that one is the supervisor's own child. What the
keeper does costs a tenth of what it would cost in a fresh fork, which meets each page and line for the first time.

What attempts share they cannot change: the mounts are read-only, and names, maps and mounts of a user namespace
are changed with capabilities only, of which a command has none and can get none. What they can change (processes, IPC
objects, sockets, /tmp, /dev/shm, terminals) is new each time. The keeper itself lies outside of their process namespace:
they have no number for it, and so can neither signal nor trace nor slow it. Standard library only.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import time

from worker_node.sandbox import command, first_process, kernel, last_words, new_root, words
from worker_node.sandbox.words import SandboxFailed

TYPE_CHECKING = False  # the spawner does without typing: 2 ms and half a megabyte in every fork
if TYPE_CHECKING:
    from typing import Any, Final, NoReturn

STALE_AFTER_S: Final = 600.0
"""An older mould is not used: files of the system of which it has copies may have been replaced since."""

_DESCRIPTORS: Final = 4
_SPARED: Final = 100
"""How much less the kernel likes to kill the first process than the command, which would look like a loss."""
_SHARED: Final = kernel.CLONE_NEWUSER | kernel.CLONE_NEWNS | kernel.CLONE_NEWUTS | kernel.CLONE_NEWCGROUP
_OWN: Final = kernel.CLONE_PARENT | kernel.CLONE_NEWPID | kernel.CLONE_NEWIPC


class Mould:
    """The supervisor's end of one keeper."""

    def __init__(self, plan: dict[str, Any], workspaces: str, uid: int | None) -> None:
        """Clone the keeper, for attempts like that of the plan, and wait until it is ready; raise SandboxFailed.

        `uid` is whom the inside's user is outside, which only root may choose; None for who this process is.
        """
        self.is_gone = False
        """It was reaped."""
        self._kind = _kind_of(plan)
        self._made_at = time.monotonic()
        supervisor_pid = os.getpid()
        own_map = (os.getuid(), os.getgid()) if uid is None else None
        self._channel, theirs = words.pair()
        with theirs:
            try:
                self.pid = kernel.clone(_SHARED)
            except OSError as error:
                self._channel.close()
                raise SandboxFailed(f"namespaces: {error}") from error
            if self.pid == 0:
                _Keeper(theirs, plan).run(workspaces, own_map, supervisor_pid)
        try:
            if uid is not None:
                self._map(uid)
            words.expect(self._channel, "ready")
        except SandboxFailed:
            self.discard()
            raise

    def fits(self, plan: dict[str, Any]) -> bool:
        """Return whether a further sandbox may come from it, for this plan."""
        # With network it shows settings that change, and the canary has more loaded than others shall have.
        is_for_one = plan["sandbox"]["allows_network"] or plan["canary"]
        is_fresh = not self.is_gone and time.monotonic() - self._made_at < STALE_AFTER_S
        return is_fresh and not is_for_one and _kind_of(plan) == self._kind

    def cast(self, channel: socket.socket, plan: int, stdout: int, stderr: int) -> None:
        """Have a sandbox made that runs the plan and says the rest over this channel; raise SandboxFailed."""
        fds = [channel.fileno(), plan, stdout, stderr]
        try:
            socket.send_fds(self._channel, [b"cast"], fds, socket.MSG_NOSIGNAL)
        except OSError as error:
            raise SandboxFailed(f"mould: {error}") from error

    def discard(self) -> None:
        """End the keeper and reap it. Sandboxes that came from it live on."""
        self._channel.close()
        if not self.is_gone:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.is_gone = True

    def _map(self, uid: int) -> None:
        try:
            _map_user(str(self.pid), uid, uid)
            self._channel.send(b"mapped", socket.MSG_NOSIGNAL)
        except OSError as error:
            # One that has failed already, and is gone, has said why.
            raise SandboxFailed(words.hear(self._channel).rest or f"user map: {error}") from error


def _kind_of(plan: dict[str, Any]) -> object:
    """Return what all plans of a mould have in common."""
    rlimits = plan["rlimits"] if plan["inherits_inside"] else None
    return plan["sandbox"]["allows_network"], bool(plan["canary"]), plan["oom_score_adj"], rlimits


class _Keeper:
    """The keeper itself."""

    def __init__(self, channel: socket.socket, plan: dict[str, Any]) -> None:
        """`plan` is the one of the first attempt."""
        self._channel = channel
        self._channel_fd = channel.fileno()
        self._plan = plan
        self._allows_network = plan["sandbox"]["allows_network"]
        self._step = "mould"
        self._oom_score_adj = 0
        self._null = self._mounts = -1

    def run(self, workspaces: str, own_map: tuple[int, int] | None, supervisor_pid: int) -> NoReturn:
        """Set up, then serve as long as the supervisor lives."""
        try:
            self._set_up(workspaces, own_map, supervisor_pid)
        except BaseException as error:  # noqa: BLE001 - a forked copy must never run on
            words.tell_failure(self._channel_fd, f"{self._step}: {error}")
            os._exit(command.SETUP_FAILED)
        try:
            words.tell(self._channel_fd, b"ready")
            while self._serve():
                continue
        finally:
            os._exit(0)

    def _set_up(self, workspaces: str, own_map: tuple[int, int] | None, supervisor_pid: int) -> None:
        signal.set_wakeup_fd(-1)
        os.closerange(3, self._channel_fd)
        os.closerange(self._channel_fd + 1, command.FIRST_DESCRIPTORS)
        self._step = "session"
        os.setsid()
        self._step = "oom score"
        kernel.show_memory()
        score = self._plan["oom_score_adj"]
        self._oom_score_adj = max(command.be_killed_first(score), score - _SPARED)
        self._step = "user map"
        if own_map:
            kernel.write_setting("/proc/self/setgroups", "deny")
            _map_user("self", *own_map)
        elif not self._channel.recv(64):
            os._exit(command.SETUP_FAILED)
        self._step = "user"
        kernel.become_user(new_root.USER, keeps_groups=own_map is not None)
        kernel.hide_memory()
        self._step = "death signal"
        kernel.die_with_parent(signal.SIGKILL, supervisor_pid)
        self._step = "root"
        new_root.build(workspaces, allows_network=self._allows_network)
        self._mounts = new_root.own_mounts()
        self._null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        self._step = "host name"
        socket.sethostname(new_root.HOST_NAME)
        self._step = "capabilities"
        kernel.bound_capabilities()
        self._step = "no new privileges"
        kernel.forbid_new_privileges()
        os.umask(0o077)
        if self._plan["inherits_inside"]:
            for name, value in self._plan["rlimits"].items():
                self._step = f"limit {name}"
                command.limit(name, value)

    def _serve(self) -> bool:
        """Make the next sandbox; return False when there can be or shall be no more."""
        data, fds = last_words.receive_next(self._channel, 64, _DESCRIPTORS)
        if not data:
            return False
        self._step = "order"
        try:
            self._cast(*fds)
        except BaseException as error:  # noqa: BLE001 - whatever happened, there is no command
            words.tell_failure(fds[0], f"{self._step}: {error}")
            return False
        for fd in fds:
            os.close(fd)
        self._leave()
        return True

    def _cast(self, channel: int, plan_fd: int, stdout: int, stderr: int) -> None:
        plan = json.loads(os.pread(plan_fd, os.fstat(plan_fd).st_size, 0))
        self._step = "namespaces"
        kernel.unshare(kernel.CLONE_NEWNS if self._allows_network else kernel.CLONE_NEWNS | kernel.CLONE_NEWNET)
        self._step = "root"
        new_root.enliven()
        if not self._allows_network:
            self._step = "loopback"
            kernel.raise_loopback()
        self._step = "working folder"
        tmp_fd = _give_tmp(plan)
        os.chdir(new_root.TMP)
        self._step = "namespaces"
        if kernel.clone(_OWN) == 0:
            os.close(self._channel_fd)
            first_process.be_first(channel, plan, (self._null, stdout, stderr), tmp_fd, self._oom_score_adj)
        if tmp_fd is not None:
            os.close(tmp_fd)

    def _leave(self) -> None:
        """Let the attempt have its mounts for itself."""
        kernel.enter_namespace(self._mounts, kernel.CLONE_NEWNS)


def _give_tmp(plan: dict[str, Any]) -> int | None:
    """Put the attempt's /tmp in place; return a descriptor that keeps it, if it is to outlive the sandbox."""
    name = os.path.basename(plan["workspace"])
    if plan["sandbox"]["tmp_bytes"]:
        new_root.give_memory(plan["sandbox"]["tmp_bytes"], name, plan["folders"], plan["inputs"])
    else:
        new_root.give_workspace(name)
    return new_root.open_tmp() if plan["sandbox"]["keeps_tmp"] else None


def _map_user(pid: str, uid: int, gid: int) -> None:
    """Show one user and group to the inside of a new user namespace, under their number there."""
    kernel.write_setting(f"/proc/{pid}/uid_map", f"{new_root.USER} {uid} 1")
    kernel.write_setting(f"/proc/{pid}/gid_map", f"{new_root.USER} {gid} 1")
