"""Remove what a user's commands may leave in the kernel: shared memory, semaphores, queues. Standard library only.

Only for users that are nobody else's: everything of such a user belongs to the attempt that just ended.
"""

from __future__ import annotations

import os

from worker_node.sandbox import kernel

TYPE_CHECKING = False  # the spawner does without typing: 2 ms and half a megabyte in every fork
if TYPE_CHECKING:
    from typing import Final

_KINDS: Final = ("shm", "sem", "msg")
_NUMBER: Final = 1
_FOLDERS: Final = ("/dev/shm", "/dev/mqueue")  # noqa: S108 - the host's, to be cleaned


def remove_of(uid: int) -> None:
    """Remove the System V objects and the files in shared memory of a user; what cannot be removed stays."""
    for kind in _KINDS if _has_objects() else ():
        for number in _objects_of(kind, uid):
            try:
                kernel.remove_object(kind, number)
            except OSError:
                continue  # gone meanwhile
    for folder in _FOLDERS:
        try:
            entries = os.scandir(folder)
        except OSError:
            continue
        with entries:
            for entry in entries:
                try:
                    if entry.stat(follow_symlinks=False).st_uid == uid and not entry.is_dir(follow_symlinks=False):
                        os.unlink(entry.path)
                except OSError:
                    continue


def _has_objects() -> bool:
    """Return whether the lists of objects are worth reading; they nearly never are, and to ask is much faster."""
    try:
        return kernel.has_objects()
    except OSError:
        return True


def _objects_of(kind: str, uid: int) -> list[int]:
    try:
        with open(f"/proc/sysvipc/{kind}", "rb") as file:
            head, *rows = (line.split() for line in file)
    except OSError:
        return []
    owner = head.index(b"uid")
    return [int(row[_NUMBER]) for row in rows if int(row[owner]) == uid]
