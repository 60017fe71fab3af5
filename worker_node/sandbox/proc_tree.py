"""Read and kill a process's descendants through /proc. Standard library only, the supervisor imports it."""

from __future__ import annotations

import os

TYPE_CHECKING = False  # the spawner does without typing: 2 ms and half a megabyte in every fork
if TYPE_CHECKING:
    from typing import Final

_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096

# Places in /proc/PID/stat, counted from the field after the command name.
_STATE, _PPID, _UTIME, _CUTIME, _CSTIME, _RSS = 0, 1, 11, 13, 14, 21


def _stat(pid: int) -> list[bytes] | None:
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            text = file.read(1024)
    except OSError:
        return None
    # The command name may hold spaces and brackets; the last bracket ends it.
    return text[text.rindex(b")") + 2 :].split()


def is_alive(pid: int) -> bool:
    """Return whether a process is there and not only waiting to be reaped."""
    fields = _stat(pid)
    return fields is not None and fields[_STATE] not in {b"Z", b"X"}


def children_or_none(pid: int) -> list[int] | None:
    """Return the direct children of all threads of a process; None where the kernel does not list them."""
    found: list[int] = []
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return found
    for thread in threads:
        try:
            with open(f"/proc/{pid}/task/{thread}/children", "rb", buffering=0) as file:
                while part := file.read(65536):
                    # A read of this file may end anywhere, but never inside a number in practice: the kernel
                    # writes whole entries. What a torn read would miss, the next sweep finds.
                    found += [int(word) for word in part.split()]
        except FileNotFoundError:
            if os.path.exists(f"/proc/{pid}/task/{thread}"):
                return None
        except (OSError, ValueError):
            continue
    return found


def children(pid: int) -> list[int]:
    """Return the direct children of a process."""
    found = children_or_none(pid)
    if found is not None:
        return found
    below = ((int(name), _stat(int(name))) for name in os.listdir("/proc") if name.isdigit())
    return [child for child, fields in below if fields and int(fields[_PPID]) == pid]


def open_own_children() -> int | None:
    """Return a descriptor for `is_childless`; None where the kernel does not list children."""
    try:
        return os.open(f"/proc/self/task/{os.getpid()}/children", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None


def is_childless(own_children: int | None) -> bool:
    """Return whether this process, which must have one thread only, certainly has no child, not even a dead one.

    A list of children that begins with none is empty: only between two entries may a read of it miss one.
    """
    try:
        return own_children is not None and not os.pread(own_children, 1, 0)
    except OSError:
        return False


def _descendants_by_scan(root: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (fields := _stat(int(name))):
            children.setdefault(int(fields[_PPID]), []).append(int(name))
    found: list[int] = []
    waiting = [root]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def descendants(root: int) -> list[int]:
    """Return every living (or unreaped) descendant of a process, in no special order."""
    found: list[int] = []
    waiting = [root]
    while waiting:
        below = children_or_none(waiting.pop())
        if below is None:
            return _descendants_by_scan(root)
        found += below
        waiting += below
    return found


def use_of(pids: list[int]) -> tuple[int, float]:
    """Add up the resident bytes and processor seconds of processes. Pages that they share count more than once."""
    rss_bytes, ticks = 0, 0
    for pid in pids:
        if fields := _stat(pid):
            rss_bytes += int(fields[_RSS]) * _PAGE_BYTES
            ticks += sum(int(field) for field in fields[_UTIME : _CSTIME + 1])
    return rss_bytes, ticks / _TICKS_PER_S


def buried_cpu_seconds(pid: int) -> float:
    """Return the processor time of the children that a process has reaped."""
    fields = _stat(pid)
    return sum(int(field) for field in fields[_CUTIME : _CSTIME + 1]) / _TICKS_PER_S if fields else 0.0


def shared_out_bytes(pids: list[int], enough_bytes: int) -> int:
    """Add up memory with shared pages counted once (PSS): slow and exact, the check before a kill.

    Stops above `enough_bytes`: reading waits for a process that is busy with its memory, and there may be hundreds.
    """
    total = 0
    for pid in pids:
        if total > enough_bytes:
            break
        try:
            with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
                total += next((int(line.split()[1]) << 10 for line in file if line.startswith(b"Pss:")), 0)
        except (OSError, ValueError):
            if fields := _stat(pid):
                total += int(fields[_RSS]) * _PAGE_BYTES
    return total


def signal_all(pids: list[int], *signals: int) -> None:
    """Send signals to processes that may be gone, or be out of reach, by now."""
    for pid in pids:
        for number in signals:
            try:
                os.kill(pid, number)
            except (ProcessLookupError, PermissionError):
                continue
