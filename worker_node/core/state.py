"""What the worker knows: its offer, the attempts in hand, the state of the link. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import msgspec

from octaskly_wire.messages import (
    NO_LIMITS,
    AssignAttempt,
    AttemptRejected,
    AuditCheckpoint,
    HeldAttempt,
    LevelProof,
    Limits,
    UnprovenLevel,
)
from octaskly_wire.vocabulary import Admission, HeldPhase, RejectionReason, SandboxLevel
from worker_node.core.outcome import Outcome

MAX_WAITING_A_SLOT: Final = 41
"""What is given ahead, which is forty a slot, and what comes in the place of an attempt that is being killed for nobody."""
GATHER_S: Final = 0.003
MUCH_GATHER_S: Final = 0.01
"""How long what is to be told waits for more while work waits for the slots, and while much does: each write wakes the
dispatcher up, and what it reads at once it commits at once."""
PATIENCE_S: Final = 0.5
"""How long an attempt waits for a slot here: another worker may have one. The dispatcher gives ahead what takes less."""


@dataclass(frozen=True)
class Offer:
    """What this worker grants: its slots, the proven levels from its floor upwards, network or not, its caps."""

    name: str
    slots: int
    proofs: tuple[LevelProof, ...]
    allows_network: bool
    platform: str
    cpu_count: int
    memory_total_bytes: int
    max_limits: Limits = NO_LIMITS
    max_timeout_s: int | None = None
    unproven: tuple[UnprovenLevel, ...] = ()
    """The other levels, each with the reason."""

    @cached_property
    def _backends(self) -> Mapping[SandboxLevel, str]:
        return {proof.level: proof.backend for proof in self.proofs}

    def backend_of(self, level: SandboxLevel) -> str | None:
        """Return what enforces a level here, None when it is not offered."""
        return self._backends.get(level)

    def objection_to(self, assignment: AssignAttempt) -> tuple[RejectionReason, str] | None:
        """Return why this worker must not run an assignment, None when it may."""
        if self.backend_of(assignment.sandbox) is None:
            return RejectionReason.SANDBOX_UNAVAILABLE, f"level {assignment.sandbox} is not offered by this worker"
        if assignment.allows_network and not self.allows_network:
            return RejectionReason.NETWORK_NOT_ALLOWED, "this worker grants tasks no network"
        if excess := self._excess_of(assignment):
            return RejectionReason.LIMIT_NOT_ALLOWED, f"this worker {excess}"
        return None

    def _excess_of(self, assignment: AssignAttempt) -> str | None:
        if self.max_timeout_s is not None and assignment.timeout_s > self.max_timeout_s:
            return f"allows a time-out of {self.max_timeout_s} s, the task asks for {assignment.timeout_s} s"
        return assignment.limits.excess_over(self.max_limits)


class WaitingAttempt(msgspec.Struct, frozen=True, gc=False):
    """An attempt that was assigned while all slots were taken."""

    assignment: AssignAttempt
    since: float
    offer: Offer
    """Which it was within."""


class RunningAttempt(msgspec.Struct, gc=False):
    """An attempt whose command was ordered and has not ended."""

    assignment: AssignAttempt
    is_started: bool = False
    is_stopping: bool = False
    is_discarded: bool = False
    """No outcome is wanted."""


class FinishedAttempt(msgspec.Struct, gc=False):
    """An outcome in hand until the dispatcher says that it is committed."""

    outcome: Outcome
    finished_at: float
    is_spooled: bool = False
    """It is on disk for good."""
    is_spooling: bool = False
    """Its writing was ordered and has not been answered."""
    is_stored: bool = False
    """The dispatcher has its contents, by word of this link."""
    failed_at: float | None = None
    """When its last writing failed."""


@dataclass
class WorkerState:
    """Everything the reactor decides on. An attempt is in at most one of the four collections."""

    offer: Offer
    waiting: dict[str, WaitingAttempt] = field(default_factory=dict)
    """Assigned beyond the slots, so that a short command's slot is filled again without a round trip; oldest first."""
    running: dict[str, RunningAttempt] = field(default_factory=dict)
    finished: dict[str, FinishedAttempt] = field(default_factory=dict)
    """Not acknowledged yet. Bounded: nothing new is assigned while the link is down."""
    rejected: dict[str, AttemptRejected] = field(default_factory=dict)
    """Handed back while no link stood."""
    is_linked: bool = False
    is_draining: bool = False
    """The dispatcher's wish."""
    is_stopping: bool = False
    """This worker was told to end; never taken back."""
    disk_shortage: str = ""
    """What is missing on the disk of the state folder, empty when there is room."""
    spool_failure: str = ""
    """Why the last writing of an outcome that failed did so."""
    pause_reason: str = ""
    """Why nothing new is taken for now: the disk is short, or an outcome could not be spooled."""
    admission: Admission = Admission.PENDING
    heartbeat_sequence: int = 0
    unanswered: dict[int, float] = field(default_factory=dict)
    """When each heartbeat was sent that this link's other end has not answered; few, since a silent link is closed."""
    round_trip_s: float | None = None
    """Of the last answered heartbeat, until the next one tells it."""
    heard_at: float = 0.0
    """When the dispatcher last proved to be alive."""
    heartbeat_interval_s: float = 0.0
    witnessed: AuditCheckpoint | None = None
    """The highest checkpoint of the audit trail that this cluster ever gave."""

    @property
    def max_waiting(self) -> int:
        """Return how many assignments are taken beyond the free slots."""
        return MAX_WAITING_A_SLOT * self.offer.slots

    @property
    def leisure_s(self) -> float:
        """Return how long words to the dispatcher may wait for others: not at all while a slot would stand idle for them."""
        if len(self.waiting) > 2 * self.offer.slots:
            return MUCH_GATHER_S
        return GATHER_S if self.waiting else 0.0

    @property
    def patience_ends_at(self) -> float | None:
        """Return when what waits is handed back; None while nothing waits, or nobody would hear of it."""
        if not (self.is_linked and self.waiting):
            return None
        return next(iter(self.waiting.values())).since + PATIENCE_S

    @property
    def takes_work(self) -> bool:
        """Whether an assignment would be taken now, if there is room."""
        return not (self.is_draining or self.is_stopping or self.pause_reason)

    @property
    def has_unspooled(self) -> bool:
        """Whether an outcome would die with this process."""
        return any(not kept.is_spooled for kept in self.finished.values())

    @property
    def is_idle(self) -> bool:
        """Whether nothing runs and nobody waits for word from here."""
        return not (self.running or self.waiting or self.finished)

    @property
    def can_leave(self) -> bool:
        """Whether this process may end: all is delivered or, with nobody to deliver to, on disk."""
        return self.is_idle or not (self.running or self.waiting or self.is_linked or self.has_unspooled)

    def held(self) -> list[HeldAttempt]:
        """Return the inventory for Register."""
        running = [name for name, attempt in self.running.items() if not attempt.is_discarded]
        phases = [
            (HeldPhase.RUNNING, running),
            (HeldPhase.WAITING, [*self.waiting, *self.rejected]),
            (HeldPhase.FINISHED, self.finished),
        ]
        return [HeldAttempt(name, phase) for phase, names in phases for name in names]

    def check_invariants(self) -> None:
        """Raise when an attempt is in two places or slots are oversold; tests call it after every step."""
        names = [*self.running, *self.waiting, *self.finished, *self.rejected]
        problems = [
            (len(names) != len(set(names)), "an attempt is in two places"),
            (len(self.running) > self.offer.slots, "more commands than slots"),
            (len(self.waiting) > self.max_waiting, "too many waiting"),
            (bool(self.waiting) and len(self.running) < self.offer.slots, "a slot is free while an attempt waits"),
            (bool(self.waiting) and not self.takes_work, "an attempt waits on a draining worker"),
            (bool(self.rejected) and self.is_linked, "a rejection was held back"),
            (
                not self.is_linked and any(is_forgotten(kept) for kept in self.finished.values()),
                "an outcome is neither sent nor spooled",
            ),
        ]
        if broken := [text for is_broken, text in problems if is_broken]:
            raise AssertionError("; ".join(broken))


def is_forgotten(kept: FinishedAttempt) -> bool:
    """Return whether nothing at all is being done for an outcome's survival."""
    return not (kept.is_spooled or kept.is_spooling or kept.failed_at is not None)
