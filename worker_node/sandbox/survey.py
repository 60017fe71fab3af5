"""Find out, once when the worker starts, what this host lets the spawner do. Linux only."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path
from typing import Final

from worker_node.sandbox import cgroup, kernel
from worker_node.sandbox.policy import HostFacts
from worker_node.sandbox.spawner_process import SpawnerSettings

USERS: Final = 4096
"""Users in one row: as many as a worker may have slots."""
FIRST_ROW: Final = 1_900_000_000
"""Far from what distributions, containers and directories give away."""
ROWS: Final = 60_000
LOW_ROW: Final = 61_184
"""The same for a container that maps few numbers: where systemd makes its passing users."""


def survey(workspaces: Path) -> tuple[SpawnerSettings, HostFacts]:
    """Return how to start a spawner whose workspaces lie in this folder, and what it can do."""
    is_root = os.geteuid() == 0
    place = cgroup.find(is_root=is_root)
    uid_base = _first_user(workspaces, Path("/proc/self/uid_map").read_text()) if is_root else None
    settings = SpawnerSettings(workspaces=workspaces, place=place, uid_base=uid_base)
    return settings, HostFacts(
        has_memory_group=place is not None,
        has_own_users=is_root,
        # Android kills whoever makes a call that it does not know.
        landlock_abi=0 if _is_android() else kernel.landlock_abi(),
    )


def _is_android() -> bool:
    return hasattr(sys, "getandroidapilevel") or "ANDROID_ROOT" in os.environ


def _first_user(workspaces: Path, uid_map: str) -> int:
    """Return the first of this worker's row of users: one row a state folder, the same at each start."""
    digest = hashlib.sha256(os.fsencode(workspaces.resolve())).digest()
    first = FIRST_ROW + int.from_bytes(digest[:8], "big") % ROWS * USERS
    for line in uid_map.splitlines():
        inside, _, count = (int(word) for word in line.split())
        if inside <= first and first + USERS <= inside + count:
            return first
    return LOW_ROW
