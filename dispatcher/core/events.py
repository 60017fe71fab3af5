"""What happens to the engine, where a few arguments would not say it."""

from __future__ import annotations

from dataclasses import dataclass

from dispatcher.core.effects import ReadyTask
from octaskly_wire.messages import NO_LIMITS, HeldAttempt, Limits
from octaskly_wire.vocabulary import Admission, SandboxLevel


@dataclass(frozen=True, slots=True)
class WorkerJoined:
    """A worker's session stands and it has registered."""

    worker_id: str
    link_id: int
    boot_id: str
    slots: int
    levels: frozenset[SandboxLevel]
    allows_network: bool
    memory_mb: int
    admission: Admission
    is_draining: bool
    has_begun_drain: bool = False
    held: tuple[HeldAttempt, ...] = ()
    max_limits: Limits = NO_LIMITS
    max_timeout_s: int | None = None


@dataclass(frozen=True, slots=True)
class RecoveredAttempt:
    """A live attempt found in the database at start.

    `worker_boot_id` is the boot of its worker that was last seen: a later one cannot run the attempt any more.
    """

    task: ReadyTask
    number: int
    worker_id: str
    worker_boot_id: str
    is_started: bool
    is_cancel_requested: bool
