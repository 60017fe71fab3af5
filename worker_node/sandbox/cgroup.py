"""Control groups: where the kernel itself can hold a task's memory, versions 1 and 2. Standard library only.

A supervisor makes one group, lives in it, and so do all that it forks: entering a group can cost 20 ms, and is
so paid once a supervisor, not once an attempt. What the supervisor itself uses is added to each limit.
"""

from __future__ import annotations

import os
import signal

from worker_node.sandbox import kernel, proc_tree

TYPE_CHECKING = False  # the spawner does without typing: 2 ms and half a megabyte in every fork
if TYPE_CHECKING:
    from typing import Final

PREFIX: Final = "octaskly-"
OWN_USE_BYTES: Final = 8 << 20
"""What a supervisor, the keeper of its mould and the first process of a sandbox may use themselves."""

_LEAF: Final = "octaskly-worker"
_NEEDED: Final = ("memory",)
_WELCOME: Final = ("memory", "cpu")
_OOM_KILL: Final = b"oom_kill "


class Place:
    """Where groups may be made: a folder for memory, and one for a fair share of the processors if there is one."""

    def __init__(self, version: int, memory: str, cpu: str = "") -> None:
        self.version = version
        self.memory = memory
        self.cpu = cpu

    def folders(self) -> list[str]:
        """Return the folders without repetition."""
        return list(dict.fromkeys(folder for folder in (self.memory, self.cpu) if folder))

    def as_arguments(self) -> tuple[int, str, str]:
        """Return what `Place(*arguments)` takes, to hand it to another process."""
        return self.version, self.memory, self.cpu


class Group:
    """One supervisor's group."""

    def __init__(self, place: Place) -> None:
        """Make the group and enter it; raise OSError."""
        self._place = place
        self._name = f"{PREFIX}{os.getpid()}"
        self._memory = f"{place.memory}/{self._name}"
        self._limit_bytes = 1 << 62  # a new group has no limit
        for folder in place.folders():
            os.makedirs(f"{folder}/{self._name}", exist_ok=True)
            kernel.write_setting(f"{folder}/{self._name}/cgroup.procs", "0")
        name = "memory.oom_control" if place.version == 1 else "memory.events"
        self._events = os.open(f"{self._memory}/{name}", os.O_RDONLY | os.O_CLOEXEC)
        self._before = b""

    def begin(self, limit_bytes: int) -> None:
        """Hold this much memory from now on, swap included; raise OSError."""
        limit_bytes += OWN_USE_BYTES
        if limit_bytes != self._limit_bytes:
            self._hold(limit_bytes)
        self._before = self._read_events()

    def give_room(self) -> None:
        """Allow a little more until the next `begin`: what a dead command left in shared memory may fill the group.

        The supervisor, the only one left, would be killed for the next page that it needs to remove that.
        """
        try:
            self._hold(self._limit_bytes + OWN_USE_BYTES)
        except OSError:
            return  # then it goes as far as it goes

    def has_killed(self) -> bool:
        """Return whether the kernel killed a process of this group for memory since `begin`."""
        return _oom_kills(self._read_events()) > _oom_kills(self._before)

    def end(self) -> None:
        """Leave the group and remove it; what still lives in it keeps it there."""
        os.close(self._events)
        for folder in self._place.folders():
            try:
                kernel.write_setting(f"{folder}/cgroup.procs", "0")
            except OSError:
                # Version 2 takes no process where groups are made; its leaf does.
                _write_if_there(f"{folder}/{_LEAF}/cgroup.procs", "0")
            remove(folder, self._name)

    def _hold(self, limit_bytes: int) -> None:
        if self._place.version == 1:
            self._limit_version_1(limit_bytes)
        else:
            kernel.write_setting(f"{self._memory}/memory.max", str(limit_bytes))
            _write_if_there(f"{self._memory}/memory.swap.max", "0")
        self._limit_bytes = limit_bytes

    def _limit_version_1(self, limit_bytes: int) -> None:
        both = f"{self._memory}/memory.memsw.limit_in_bytes"
        alone = f"{self._memory}/memory.limit_in_bytes"
        # With swap it can never be below the one without: which goes first depends on the direction.
        if limit_bytes > self._limit_bytes:
            _write_if_there(both, str(limit_bytes))
            kernel.write_setting(alone, str(limit_bytes))
        else:
            kernel.write_setting(alone, str(limit_bytes))
            _write_if_there(both, str(limit_bytes))

    def _read_events(self) -> bytes:
        return os.pread(self._events, 512, 0)


def _oom_kills(events: bytes) -> int:
    return int(events[events.index(_OOM_KILL) + len(_OOM_KILL) :].split(b"\n", 1)[0]) if _OOM_KILL in events else 0


def find(proc: str = "/proc/self", *, is_root: bool) -> Place | None:
    """Return where this process may make groups that hold memory, proven by making one; None where it may not."""
    try:
        mounts, own = _read(f"{proc}/mountinfo").decode(), _read(f"{proc}/cgroup").decode()
    except OSError:
        return None
    place = _version_1(mounts, own) or _version_2(mounts, own, is_root=is_root)
    if place is None:
        return None
    name = f"{PREFIX}trial-{os.getpid()}"
    limit = "memory.limit_in_bytes" if place.version == 1 else "memory.max"
    try:
        for folder in place.folders():
            os.mkdir(f"{folder}/{name}")
        kernel.write_setting(f"{place.memory}/{name}/{limit}", str(1 << 30))
    except OSError:
        return None
    finally:
        for folder in place.folders():
            remove(folder, name)
    return place


def sweep(place: Place) -> None:
    """Remove the groups that dead supervisors left, of whatever worker, and kill what still lives in them."""
    for folder in place.folders():
        for name in os.listdir(folder):
            # One that lives may have made its group and not entered it yet.
            pid = name.removeprefix(PREFIX)
            if pid != name and pid.isdigit() and not proc_tree.is_alive(int(pid)):
                _kill_all(f"{folder}/{name}")
                remove(folder, name)


def _kill_all(group: str) -> None:
    """Kill what a supervisor left that died together with its spawner: nobody else knows of it."""
    try:
        pids = [int(pid) for pid in _read(f"{group}/cgroup.procs").split()]
    except OSError:
        return
    proc_tree.signal_all(pids, signal.SIGKILL)


def remove(folder: str, name: str) -> None:
    """Remove a group if it is there and empty."""
    try:
        os.rmdir(f"{folder}/{name}")
    except OSError:
        return


def _version_1(mounts: str, own: str) -> Place | None:
    found = {}
    for line in own.splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            if controller in _WELCOME:
                found[controller] = path
    folders: dict[str, str] = {}
    for mount in mounts.splitlines():
        fields, _, rest = mount.partition(" - ")
        kind, _, options = rest.split(" ", 2)
        if kind != "cgroup":
            continue
        root, point = fields.split()[3:5]
        for controller in set(options.split(",")) & set(found):
            path = found[controller]
            # In a container the mount shows only a part of the hierarchy.
            inside = path[len(root) :] if root != "/" and path.startswith(root) else path
            folders.setdefault(controller, (point + inside).rstrip("/"))
    return Place(1, folders["memory"], folders.get("cpu", "")) if "memory" in folders else None


def _version_2(mounts: str, own: str, *, is_root: bool) -> Place | None:
    point = next((m.split()[4] for m in mounts.splitlines() if m.partition(" - ")[2].startswith("cgroup2 ")), "")
    path = next((line[3:] for line in own.splitlines() if line.startswith("0::")), "")
    if not point or not path:
        return None
    # Root makes its groups at the top; others below their own, where that was delegated to them.
    folder = point if is_root else (point + path).rstrip("/")
    try:
        offered = _read(f"{folder}/cgroup.controllers").decode().split()
        if not all(name in offered for name in _NEEDED):
            return None
        if not is_root:
            _make_room(folder)
        missing = [name for name in _WELCOME if name in offered]
        kernel.write_setting(f"{folder}/cgroup.subtree_control", " ".join(f"+{name}" for name in missing))
    except OSError:
        return None
    return Place(2, folder, folder if "cpu" in offered else "")


def _make_room(folder: str) -> None:
    """Move the processes of a delegated group into a leaf: only a group without processes passes controllers on."""
    pids = _read(f"{folder}/cgroup.procs").decode().split()
    os.makedirs(f"{folder}/{_LEAF}", exist_ok=True)
    for pid in pids:
        kernel.write_setting(f"{folder}/{_LEAF}/cgroup.procs", pid)


def _read(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = []
        while part := os.read(fd, 1 << 16):
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(fd)


def _write_if_there(path: str, text: str) -> None:
    if os.path.exists(path):
        kernel.write_setting(path, text)
