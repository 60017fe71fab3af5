"""What the server answers with, as typed values. Fields that a newer server adds are passed over."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import msgspec

ENDED: Final = frozenset({"completed", "failed", "cancelled"})


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """A command and what became of it."""

    id: str
    command: str
    status: str
    name: str = ""
    owner: str = ""
    worker_id: str | None = None
    created_at: datetime | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    available_at: datetime | None = None
    exit_code: int | None = None
    failure_reason: str | None = None
    duration_ms: int | None = None
    attempt: int = 0
    stdout: str = ""
    stderr: str = ""
    stdout_truncated: bool = False
    stderr_truncated: bool = False
    env: dict[str, str] = {}
    priority: int = 0
    timeout: int = 3600
    max_retries: int = 0
    sandbox: str = ""
    network: bool = False
    limits: dict[str, int | None] = {}
    inputs: list[str] = []
    outputs: list[str] = []
    cancel_requested: bool = False
    warnings: list[str] = []
    """Why nothing can run it as things stand; only what `submit` returns has them."""

    @property
    def has_ended(self) -> bool:
        """Return whether nothing more will happen, unless somebody retries it."""
        return self.status in ENDED

    @property
    def ok(self) -> bool:
        """Return whether the command exited with 0 and left all that was asked for."""
        return self.status == "completed"


class NotPossible(msgspec.Struct, frozen=True):
    """A task that stayed as it was, and why."""

    id: str
    reason: str


class Stepped(msgspec.Struct, frozen=True):
    """What came of cancelling or retrying many tasks: those that took it, and the others."""

    tasks: list[Task]
    not_possible: list[NotPossible]


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One execution of a task."""

    attempt_id: str
    attempt: int
    worker_id: str
    state: str
    outcome: str | None = None
    failure_reason: str | None = None
    detail: str = ""
    is_superseded: bool = False
    exit_code: int | None = None
    signal: int | None = None
    duration_ms: int | None = None
    assigned_at: datetime | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    cpu_seconds: float | None = None
    max_rss_bytes: int | None = None
    spawn_seconds: float | None = None
    sandbox_level: str = ""
    sandbox_backend: str = ""
    limits: dict[str, str] = {}
    stdout_bytes: int = 0
    stderr_bytes: int = 0
    stdout_truncated: bool = False
    stderr_truncated: bool = False


class Output(msgspec.Struct, frozen=True, kw_only=True):
    """A file that an attempt left."""

    name: str
    size: int
    sha256: str
    is_available: bool = True
    attempt: int = 0


class File(msgspec.Struct, frozen=True, kw_only=True):
    """A stored file."""

    name: str
    size: int
    sha256: str
    created_at: datetime | None = None


class WaitingWorker(msgspec.Struct, frozen=True, kw_only=True):
    """Why one worker does not run a task."""

    worker_id: str
    name: str
    reason: str
    is_lasting: bool = False


class Why(msgspec.Struct, frozen=True, kw_only=True):
    """Why a task waits."""

    status: str
    message: str
    workers: list[WaitingWorker] = []


class Worker(msgspec.Struct, frozen=True, kw_only=True):
    """A machine that runs commands."""

    id: str
    name: str
    status: str = ""
    admission: str = ""
    admission_reason: str = ""
    is_connected: bool = False
    is_draining: bool = False
    pause_reason: str = ""
    slots: int = 0
    cpu_count: int | None = None
    memory_total_bytes: int | None = None
    allows_network: bool = False
    levels: list[dict[str, Any]] = []
    levels_unproven: list[dict[str, Any]] = []
    max_limits: dict[str, int] = {}
    vitals: dict[str, Any] = {}
    platform: str = ""
    software_version: str = ""
    address: str | None = None
    transport: str = ""
    public_key_sha256: str = ""
    created_at: datetime | None = None
    approved_at: datetime | None = None
    connected_at: datetime | None = None
    last_seen_at: datetime | None = None
    certificate_expires_at: datetime | None = None


class JoinToken(msgspec.Struct, frozen=True, kw_only=True):
    """What lets a machine join; it cannot be read again."""

    token: str
    uses: int
    ttl_s: int
    auto_approve: bool
    join_command: str = ""


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """Counts, and the dispatcher's load."""

    workers: dict[str, int]
    tasks: dict[str, int]
    system: dict[str, float] = {}
    database: dict[str, float] = {}


class TokenPair(msgspec.Struct, frozen=True):
    """What a sign-in gives."""

    access: str
    refresh: str
