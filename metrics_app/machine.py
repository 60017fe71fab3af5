"""The load of the dispatcher's own machine and process, and the size of the database."""

from __future__ import annotations

import time
from typing import Any

import psutil
from django.conf import settings
from django.db import connection


class Machine:
    """Reads it; belongs to one looker, since the processor's share is that between two readings."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._before = _processor_seconds()

    def read(self) -> dict[str, Any]:
        """Return `uptime_seconds`, `cpu_percent` (None where too little time has passed), `memory_mb`, `database_mb`."""
        busy_s, total_s = _processor_seconds()
        busy_before_s, total_before_s = self._before
        self._before = busy_s, total_s
        passed_s = total_s - total_before_s
        return {
            "uptime_seconds": int(uptime_s()),
            "cpu_percent": round(100 * max(0.0, busy_s - busy_before_s) / passed_s, 1) if passed_s > 0 else None,
            "memory_mb": round(self._process.memory_info().rss / 2**20, 1),
            "database_mb": round(database_bytes() / 2**20, 2),
        }


def uptime_s() -> float:
    """Return how long this process has been up, in seconds."""
    return time.monotonic() - settings.OCTASKLY_STARTED_AT_MONOTONIC


def database_bytes() -> int:
    """Return how large the database's file is once all is in it, in bytes; raises DatabaseError."""
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA page_count")
        pages = cursor.fetchone()[0]
        cursor.execute("PRAGMA page_size")
        return int(pages * cursor.fetchone()[0])


def _processor_seconds() -> tuple[float, float]:
    """Return busy and all seconds of all processors since the machine started."""
    times = psutil.cpu_times()
    # What guests use is in the user's time already.
    total_s = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    return total_s - times.idle - getattr(times, "iowait", 0.0), total_s
