"""Reads this machine's processor, memory and disks. On Linux from /proc: psutil would be a megabyte and more in every worker."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

if sys.platform == "linux":
    UNREADABLE: Final = (OSError,)

    def processor_times() -> tuple[float, float]:
        """Return for how long this machine's processors have been busy, and in all, in one unit; raises one of UNREADABLE."""
        with Path("/proc/stat").open("rb") as file:
            # user nice system idle iowait irq softirq steal; guests, which follow, are in user and nice already.
            times = [int(word) for word in file.readline().split()[1:9]]
        return sum(times) - times[3] - times[4], sum(times)

    def memory_bytes() -> tuple[int, int]:
        """Return the memory in all, and what of it programs can have; raises one of UNREADABLE."""
        found = {}
        with Path("/proc/meminfo").open("rb") as file:
            for line in file:
                name, kibibytes = line.split()[:2]
                found[name] = int(kibibytes) << 10
                if name == b"MemAvailable:":
                    break
        return found[b"MemTotal:"], found[b"MemAvailable:"]

    def load_1m() -> float:
        """Return the processes that ran or waited to, on average over the last minute; raises one of UNREADABLE."""
        return os.getloadavg()[0]

    def disk_free_bytes(folder: Path) -> int:
        """Return what programs can still write on the disk that holds a folder; raises one of UNREADABLE."""
        disk = os.statvfs(folder)
        return disk.f_bavail * disk.f_frsize

else:
    import psutil

    UNREADABLE: Final = (OSError, psutil.Error)

    def processor_times() -> tuple[float, float]:
        """Return for how long this machine's processors have been busy, and in all, in one unit; raises one of UNREADABLE."""
        times = psutil.cpu_times()
        return sum(times) - times.idle, sum(times)

    def memory_bytes() -> tuple[int, int]:
        """Return the memory in all, and what of it programs can have; raises one of UNREADABLE."""
        memory = psutil.virtual_memory()
        return memory.total, memory.available

    def load_1m() -> float:
        """Return the processes that ran or waited to, on average over the last minute; raises one of UNREADABLE."""
        return float(psutil.getloadavg()[0])

    def disk_free_bytes(folder: Path) -> int:
        """Return what programs can still write on the disk that holds a folder; raises one of UNREADABLE."""
        return int(psutil.disk_usage(str(folder)).free)
