"""Remove what a user's commands may leave in the kernel: shared memory, semaphores, queues. Standard library only.

Only for users that are nobody else's: everything of such a user belongs to the attempt that just ended. After most
commands there is nothing, and that is found out by a look at each list and at the last change of each folder.
"""

from __future__ import annotations

import os
import time

from worker_node.sandbox import kernel

TYPE_CHECKING = False  # the spawner does without typing: 2 ms and half a megabyte in every fork
if TYPE_CHECKING:
    from typing import Final

_KINDS: Final = ("shm", "sem", "msg")
_NUMBER: Final = 1
_FOLDERS: Final = ("/dev/shm", "/dev/mqueue")  # noqa: S108 - the host's, to be cleaned
_GLANCE_BYTES: Final = 512
"""More than the head of a list of objects has."""
TICK_NS: Final = 50_000_000
"""Much longer than the coarsest tick that kernels give times by."""
_SECOND_NS: Final = 1_000_000_000


def tells_changes(changed_ns: int) -> bool:
    """Return whether each change from now on gives a folder another time of its last change than this one.

    Nobody sets that time. It is no finer than a tick: a change within the tick of the one before would not be seen.
    Some file systems know whole seconds only.
    """
    return time.time_ns() - changed_ns > TICK_NS and changed_ns % _SECOND_NS != 0


class Leftovers:
    """What one user may have left."""

    def __init__(self, uid: int) -> None:
        """Nothing is looked at yet."""
        self._uid = uid
        self._lists: list[tuple[str, int]] = []
        for kind in _KINDS:
            try:
                self._lists.append((kind, os.open(f"/proc/sysvipc/{kind}", os.O_RDONLY | os.O_CLOEXEC)))
            except OSError:
                continue  # a kernel without such objects
        self._folders = {folder: 0 for folder in _FOLDERS if os.path.isdir(folder)}
        """The last change of each at which it was known to hold nothing of the user, 0 when it is to be searched."""

    def remove(self) -> None:
        """Remove the System V objects and the files in shared memory; what cannot be removed stays."""
        for kind, fd in self._lists:
            if os.pread(fd, _GLANCE_BYTES, 0).count(b"\n") > 1:  # more than its head
                self._remove_objects(kind)
        for folder, clean_since_ns in self._folders.items():
            try:
                changed_ns = os.stat(folder).st_ctime_ns
            except OSError:
                continue
            if changed_ns != clean_since_ns:
                is_telling = tells_changes(changed_ns)  # as things are before the search
                self._folders[folder] = changed_ns if not self._finds_files(folder) and is_telling else 0

    def _remove_objects(self, kind: str) -> None:
        for number in _objects_of(kind, self._uid):
            try:
                kernel.remove_object(kind, number)
            except OSError:
                continue  # gone meanwhile

    def _finds_files(self, folder: str) -> bool:
        """Remove the files of the user; return whether any may have been there."""
        has_found = False
        try:
            entries = os.scandir(folder)
        except OSError:
            return True
        with entries:
            for entry in entries:
                try:
                    owner = entry.stat(follow_symlinks=False).st_uid
                    if owner == self._uid and not entry.is_dir(follow_symlinks=False):
                        has_found = True
                        os.unlink(entry.path)
                except OSError:
                    continue
        return has_found


def _objects_of(kind: str, uid: int) -> list[int]:
    try:
        with open(f"/proc/sysvipc/{kind}", "rb") as file:
            head, *rows = (line.split() for line in file)
    except OSError:
        return []
    # An owner may give an object away, but stays its creator.
    owner, creator = head.index(b"uid"), head.index(b"cuid")
    return [int(row[_NUMBER]) for row in rows if uid in {int(row[owner]), int(row[creator])}]
