"""Read the load of this machine."""

from __future__ import annotations

from pathlib import Path

from octaskly_wire.messages import Vitals
from worker_node.shell import machine


class VitalSigns:
    """Takes readings; the processor's load is the mean since the reading before."""

    def __init__(self, folder: Path) -> None:
        """Watch the disk that holds a folder."""
        self._folder = folder
        self._busy, self._passed = machine.processor_times()

    def read(self) -> Vitals:
        """Return the load now; raises one of machine.UNREADABLE."""
        total_bytes, available_bytes = machine.memory_bytes()
        return Vitals(
            cpu_percent=self._cpu_percent(),
            memory_total_bytes=total_bytes,
            memory_available_bytes=available_bytes,
            disk_free_bytes=machine.disk_free_bytes(self._folder),
            load_1m=machine.load_1m(),
        )

    def _cpu_percent(self) -> float:
        (busy, passed), before = machine.processor_times(), (self._busy, self._passed)
        self._busy, self._passed = busy, passed
        # The kernel lets a processor's idle time step back a little now and then.
        share = (busy - before[0]) / (passed - before[1]) if passed > before[1] else 0.0
        return round(min(max(share * 100, 0.0), 100.0), 1)


def disk_shortage(folder: Path, reserve_bytes: int) -> str:
    """Return what is missing on the disk that holds a folder, in words; empty when there is room."""
    if not reserve_bytes:
        return ""
    try:
        free = machine.disk_free_bytes(folder)
    except OSError as error:
        return f"the disk of {folder} cannot be read: {error.strerror or error}"
    if free >= reserve_bytes:
        return ""
    return f"{free >> 20} MB free in {folder}, {reserve_bytes >> 20} MB are kept free"


def shortage_for(folder: Path, needed_bytes: int, reserve_bytes: int) -> str:
    """Return why so many bytes more have no room on the disk that holds a folder, in words; empty when they have."""
    try:
        free = machine.disk_free_bytes(folder)
    except OSError as error:
        return f"the disk of {folder} cannot be read: {error.strerror or error}"
    if free >= needed_bytes + reserve_bytes:
        return ""
    needed, kept = -(-needed_bytes // (1 << 20)), reserve_bytes >> 20
    return f"no room on the worker's disk: {needed} MB needed, {free >> 20} MB free, {kept} MB are kept free"
