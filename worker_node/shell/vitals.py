"""Read the load of this machine."""

from __future__ import annotations

from pathlib import Path

import psutil

from octaskly_wire.messages import Vitals


class VitalSigns:
    """Takes readings; the processor's load is the mean since the reading before."""

    def __init__(self, folder: Path) -> None:
        """Watch the disk that holds a folder."""
        self._folder = str(folder)
        psutil.cpu_percent(interval=None)  # the first reading only sets the mark

    def read(self) -> Vitals:
        """Return the load now."""
        memory = psutil.virtual_memory()
        return Vitals(
            cpu_percent=float(psutil.cpu_percent(interval=None)),
            memory_total_bytes=memory.total,
            memory_available_bytes=memory.available,
            disk_free_bytes=psutil.disk_usage(self._folder).free,
            load_1m=float(psutil.getloadavg()[0]),
        )


def disk_shortage(folder: Path, reserve_bytes: int) -> str:
    """Return what is missing on the disk that holds a folder, in words; empty when there is room."""
    if not reserve_bytes:
        return ""
    try:
        free = psutil.disk_usage(str(folder)).free
    except OSError as error:
        return f"the disk of {folder} cannot be read: {error.strerror or error}"
    if free >= reserve_bytes:
        return ""
    return f"{free >> 20} MB free in {folder}, {reserve_bytes >> 20} MB are kept free"


def shortage_for(folder: Path, needed_bytes: int, reserve_bytes: int) -> str:
    """Return why so many bytes more have no room on the disk that holds a folder, in words; empty when they have."""
    try:
        free = psutil.disk_usage(str(folder)).free
    except OSError as error:
        return f"the disk of {folder} cannot be read: {error.strerror or error}"
    if free >= needed_bytes + reserve_bytes:
        return ""
    needed, kept = -(-needed_bytes // (1 << 20)), reserve_bytes >> 20
    return f"no room on the worker's disk: {needed} MB needed, {free >> 20} MB free, {kept} MB are kept free"
