"""Task ids: UUID version 7 in text form, strictly increasing within one process."""

from __future__ import annotations

import secrets
import threading
import time
from functools import lru_cache

_LAST_OF_48_BITS = (1 << 48) - 1
_LAST_OF_62_BITS = (1 << 62) - 1
_TAIL_BITS = 74
_lock = threading.Lock()
_last = 0


def new_task_ids(count: int) -> list[str]:
    """Return that many ids, each greater than every id this process made before.

    The first 48 bits are the time in ms, so that ids of different processes and restarts sort by age.
    """
    global _last  # noqa: PLW0603 - the counter is the point
    with _lock:
        now_ms = time.time_ns() // 1_000_000
        fresh = (now_ms << _TAIL_BITS) | secrets.randbits(_TAIL_BITS - 1)
        # The clock may stand still or go back; the order of the queue must not.
        first = max(fresh, _last + 1)
        _last = first + count - 1
    return [_to_text(value) for value in range(first, first + count)]


def first_id(at_s: float) -> str:
    """Return what is not greater than any id made at this Unix time or later: the start of an id."""
    stamp = min(max(0, int(at_s * 1000)), _LAST_OF_48_BITS)
    return f"{stamp >> 16:08x}-{stamp & 0xFFFF:04x}"


def _to_text(value: int) -> str:
    digits = f"{1 << 63 | value & _LAST_OF_62_BITS:016x}"
    return f"{_head(value >> 62)}-{digits[:4]}-{digits[4:]}"


@lru_cache(maxsize=1)  # Ids that are made together have it alike.
def _head(high: int) -> str:
    """Return the first three groups of an id: of the time, the version, and the first bits of the tail."""
    digits = f"{high >> 12:012x}7{high & 0xFFF:03x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:]}"
