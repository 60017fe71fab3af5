"""Words both ends speak: enums whose values travel on the wire and stand in the tables."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

OutputStream = Literal["stdout", "stderr"]


class SandboxLevel(StrEnum):
    """How strongly a command is kept apart from its host; each level includes the one before."""

    NONE = "none"
    BASIC = "basic"
    STRICT = "strict"
    VERY_STRICT = "very_strict"

    @property
    def rank(self) -> int:
        """Return the place in the order, weakest first."""
        return _RANKS[self]


_RANKS = {level: rank for rank, level in enumerate(SandboxLevel)}


class Admission(StrEnum):
    """Where a worker's public key stands on the whitelist."""

    PENDING = "pending"
    APPROVED = "approved"
    SUSPENDED = "suspended"
    REVOKED = "revoked"


class FailureReason(StrEnum):
    """Why a task did not complete; the values of `failure_reason` in REST and tables."""

    EXIT_CODE = "exit_code"
    TIMEOUT = "timeout"
    SIGNAL = "signal"
    MEMORY_LIMIT = "memory_limit"
    DISK_LIMIT = "disk_limit"
    CPU_LIMIT = "cpu_limit"
    PROCESS_LIMIT = "process_limit"
    MISSING_OUTPUT = "missing_output"
    STAGING = "staging"
    SANDBOX_UNAVAILABLE = "sandbox_unavailable"
    WORKER_LOST = "worker_lost"
    CANCELLED = "cancelled"


class RejectionReason(StrEnum):
    """Why a worker hands an attempt back without having run its command."""

    DRAINING = "draining"
    NO_FREE_SLOT = "no_free_slot"
    SANDBOX_UNAVAILABLE = "sandbox_unavailable"
    NETWORK_NOT_ALLOWED = "network_not_allowed"
    LIMIT_NOT_ALLOWED = "limit_not_allowed"
    WORKSPACE_FAILED = "workspace_failed"
    DISK_FULL = "disk_full"


class Transport(StrEnum):
    """What carries a session. The same word is part of what a worker signs, so no proof serves on the other one."""

    TCP = "tcp"
    QUIC = "quic"


class LinkPurpose(StrEnum):
    """What a worker opens a connection for. Bulk has connections of its own, so that it never delays a heartbeat."""

    CONTROL = "control"
    TRANSFER = "transfer"


class HeldPhase(StrEnum):
    """How far an attempt that a reconnecting worker still holds has come."""

    WAITING = "waiting"
    """Its command has not begun."""
    RUNNING = "running"
    FINISHED = "finished"


class Enforcement(StrEnum):
    """Who holds a resource limit: the kernel exactly, or the worker by polling."""

    KERNEL = "kernel"
    POLLED = "polled"


class RefusalCode(StrEnum):
    """Why the dispatcher will not talk to a peer."""

    PROTOCOL_VERSION = "protocol_version"
    BAD_TOKEN = "bad_token"  # noqa: S105 - a reason, not a secret
    NOT_ENROLLED = "not_enrolled"
    BAD_PROOF = "bad_proof"
    REVOKED = "revoked"
    SHUTTING_DOWN = "shutting_down"
    UNAVAILABLE = "unavailable"
