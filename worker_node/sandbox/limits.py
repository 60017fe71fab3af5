"""Which limits an attempt runs under: what its task asks for, within what the worker's owner set. Pure."""

from __future__ import annotations

from typing import Final

import msgspec

from octaskly_wire.messages import Limits
from octaskly_wire.vocabulary import SandboxLevel
from worker_node.limit_flags import NO_SETTINGS, LimitSettings

__all__ = [
    "DEFAULT_DISK_MB",
    "DEFAULT_MEMORY_MB",
    "DEFAULT_OPEN_FILES",
    "DEFAULT_PROCESSES",
    "NO_SETTINGS",
    "EffectiveLimits",
    "LimitSettings",
    "effective_limits",
]

DEFAULT_MEMORY_MB: Final = 1024
DEFAULT_PROCESSES: Final = 256
DEFAULT_OPEN_FILES: Final = 1024
DEFAULT_DISK_MB: Final = 1024

BUILT_IN: Final = Limits(
    memory_mb=DEFAULT_MEMORY_MB,
    processes=DEFAULT_PROCESSES,
    open_files=DEFAULT_OPEN_FILES,
    disk_mb=DEFAULT_DISK_MB,
)
"""What holds where neither task nor owner says anything. Processor time is bounded by the time-out already."""

BUILT_IN_VERY_STRICT: Final = Limits(
    memory_mb=DEFAULT_MEMORY_MB,
    processes=64,
    open_files=DEFAULT_OPEN_FILES,
    disk_mb=256,
)
"""The same at very_strict, where the disk is memory."""


class EffectiveLimits(msgspec.Struct, frozen=True):
    """The limits of one attempt, in the units that they are enforced in."""

    memory_bytes: int
    cpu_seconds: int | None
    processes: int
    open_files: int
    disk_bytes: int
    output_bytes: int
    """Kept of each output stream."""


def effective_limits(asked: Limits, level: SandboxLevel, settings: LimitSettings) -> EffectiveLimits:
    """Return the limits of an attempt: the task's wish, else the owner's default, else ours; never above a cap."""
    built_in = BUILT_IN_VERY_STRICT if level is SandboxLevel.VERY_STRICT else BUILT_IN
    defaults, caps = settings.defaults, settings.caps
    return EffectiveLimits(
        memory_bytes=_within(caps.memory_mb, asked.memory_mb, defaults.memory_mb, built_in.memory_mb) << 20,
        # Nobody need ask for this one: a cap alone is a limit.
        cpu_seconds=_within(caps.cpu_seconds, asked.cpu_seconds, defaults.cpu_seconds, caps.cpu_seconds) or None,
        processes=_within(caps.processes, asked.processes, defaults.processes, built_in.processes),
        open_files=_within(caps.open_files, asked.open_files, defaults.open_files, built_in.open_files),
        disk_bytes=_within(caps.disk_mb, asked.disk_mb, defaults.disk_mb, built_in.disk_mb) << 20,
        output_bytes=settings.output_bytes,
    )


def _within(cap: int | None, *wishes: int | None) -> int:
    """Return the first wish that is one, cut to the cap. Zero is no wish: nothing could run under it."""
    wish = next((wish for wish in wishes if wish), 0)
    return min(wish, cap) if cap else wish
