"""What the engine needs from outside (Store, Blobs) and what the apps may use of the engine (explain_waiting, Prospects)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from dispatcher.core.effects import (
    AttemptKey,
    ClaimTask,
    ReadyTask,
    Record,
    RecordGivenUp,
    RecordOutcome,
    RecordStarted,
    RecordSuperseded,
    SuspendWorker,
    TaskClass,
)
from dispatcher.core.events import RecoveredAttempt
from dispatcher.core.placement import Ceiling, TaskNeeds, WorkerView, lasting_obstacle
from dispatcher.core.prospects import Prospects, closest
from dispatcher.core.retry import MAX_RETRY_DELAY_S
from dispatcher.core.waiting import Explanation, explain_waiting
from octaskly_wire.messages import AuditCheckpoint, Register, Vitals
from octaskly_wire.vocabulary import Admission, RefusalCode

__all__ = [
    "MAX_RETRY_DELAY_S",
    "AttemptKey",
    "BlobMismatch",
    "BlobRefused",
    "BlobTooLarge",
    "Blobs",
    "Ceiling",
    "ClaimTask",
    "EnrolmentAnswer",
    "Explanation",
    "IncomingBlob",
    "MachineRefused",
    "NoRoomForBlob",
    "Prospects",
    "ReadyTask",
    "Record",
    "RecordGivenUp",
    "RecordOutcome",
    "RecordStarted",
    "RecordSuperseded",
    "RecoveredAttempt",
    "RenewalAnswer",
    "Store",
    "StoreUnavailable",
    "SuspendWorker",
    "TaskClass",
    "TaskNeeds",
    "WhitelistEntry",
    "Wishes",
    "WorkerConnected",
    "WorkerDisconnected",
    "WorkerDrainStarted",
    "WorkerPaused",
    "WorkerRefused",
    "WorkerTrusts",
    "WorkerView",
    "WorkersSeen",
    "closest",
    "explain_waiting",
    "lasting_obstacle",
]


class StoreUnavailable(Exception):
    """The store cannot write just now (locked, disk full); the same call may succeed later."""


@dataclass(frozen=True, slots=True)
class WhitelistEntry:
    """What the whitelist says of a worker's key."""

    worker_id: str
    public_key_sha256: str
    admission: Admission
    is_draining: bool
    detail: str = ""
    trusted_ca_digests: tuple[str, ...] = ()
    """The CAs that the worker said it trusts."""


@dataclass(frozen=True, slots=True)
class EnrolmentAnswer:
    """Outcome of a join token's use: a certificate, or the reason for the refusal."""

    worker_id: str = ""
    certificate: bytes = b""
    admission: Admission = Admission.PENDING
    refusal: RefusalCode | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class RenewalAnswer:
    """Outcome of a request for a new certificate: it and the digest of its CA's key, or the reason of the refusal."""

    certificate: bytes = b""
    ca_digest: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What people asked for through the database and the engine must act on."""

    cancelled_task_ids: Sequence[str]
    whitelist: Sequence[WhitelistEntry]
    """What has changed of it, at least."""
    ca_certificates: Sequence[bytes] = ()
    """The CAs to trust (DER), newest first; empty where the store keeps none."""


@dataclass(frozen=True, slots=True)
class WorkerConnected:
    """Record: a worker's session stands."""

    worker_id: str
    boot_id: str
    address: str
    transport: str
    software_version: str
    registration: Register
    certificate_ca_digest: str = ""
    """Of the CA that signed the certificate which the worker proved itself with."""


@dataclass(frozen=True, slots=True)
class WorkerTrusts:
    """Record: the worker said which CAs it trusts, and which certificate it has, by the digest of its CA."""

    worker_id: str
    ca_digests: tuple[str, ...]
    certificate_ca_digest: str


@dataclass(frozen=True, slots=True)
class WorkersSeen:
    """Record: these workers live; by id, their newest load readings."""

    vitals: Mapping[str, Vitals]


@dataclass(frozen=True, slots=True)
class WorkerDrainStarted:
    """Record: the worker said that it stops and takes nothing new."""

    worker_id: str


@dataclass(frozen=True, slots=True)
class WorkerPaused:
    """Record: the worker takes nothing new for now; an empty detail says that it does again."""

    worker_id: str
    detail: str


@dataclass(frozen=True, slots=True)
class WorkerDisconnected:
    """Record: the worker's link ended."""

    worker_id: str
    detail: str


@dataclass(frozen=True, slots=True)
class WorkerRefused:
    """Record: a peer was turned away."""

    worker_id: str
    address: str
    code: RefusalCode
    detail: str
    count: int = 1
    """Above 1: so many peers of this address, the last of them for this reason."""


@dataclass(frozen=True, slots=True)
class MachineRefused:
    """Record: a machine could not join with the token it had."""

    name: str
    token_id: str
    address: str
    detail: str
    count: int = 1
    """As above."""


StoreRecord = (
    Record
    | WorkerConnected
    | WorkerTrusts
    | WorkersSeen
    | WorkerDrainStarted
    | WorkerPaused
    | WorkerDisconnected
    | WorkerRefused
    | MachineRefused
)


class BlobRefused(Exception):
    """A content cannot be taken, and a later try cannot help. The text says why."""

    is_final = True


class BlobTooLarge(BlobRefused):
    """The content has more bytes than are allowed."""


class BlobMismatch(BlobRefused):
    """What came is not what was announced. Nothing of a wrong content is kept: the next try begins afresh."""

    is_final = False


class NoRoomForBlob(BlobRefused):
    """There is no room just now, on the disk or in the database; later there may be."""

    is_final = False


class IncomingBlob(Protocol):
    """A content on its way in. All calls block; one thread at a time."""

    received_bytes: int
    """How much of it is here already, from an earlier try that was cut off."""

    def write(self, data: bytes) -> None:
        """Append a piece; raises BlobRefused when it is too much, OSError when it cannot be written."""

    def finish(self) -> str:
        """Verify, make durable, and return the SHA-256; raises BlobRefused when the content is another."""

    def close(self) -> None:
        """Let go. Without `finish` before it, what came is kept for a later try that names the same digest."""


class Blobs(Protocol):
    """Contents by their SHA-256, each stored once. All calls block and may come from several threads."""

    def open(self, sha256: str) -> BinaryIO:
        """Return the content, opened for reading; raises FileNotFoundError."""

    def receive(self, sha256: str, size_bytes: int, sender: str) -> IncomingBlob:
        """Begin to take a content, or go on where this sender was cut off; raises BlobRefused."""


class Store(Protocol):
    """Durable state. All calls block and come from one thread, in order.

    Every method raises StoreUnavailable when a retry may help.
    """

    def recover(self) -> Sequence[RecoveredAttempt]:
        """Mark all workers as not connected and return the attempts that were live."""

    def commit(self, records: Sequence[StoreRecord]) -> frozenset[AttemptKey]:
        """Write all records in one transaction, in order; return the attempts whose record was refused.

        Refused are claims of tasks that changed meanwhile, and superseded outcomes that contradict the one on
        record or come from a worker that the attempt was not given to.
        """

    def fetch_ready(self, classes: Iterable[TaskClass], limit: int) -> list[ReadyTask]:
        """Return for each class up to `limit` tasks from the head of its queue, best first."""

    def fetch_fitting(self, task_class: TaskClass, ceiling: Ceiling, limit: int) -> list[ReadyTask]:
        """Return up to `limit` tasks of the class that ask for no more than the ceiling allows, best first."""

    def has_news(self) -> bool:
        """Return whether anybody but this store may have written since the last call."""

    def wishes(self) -> Wishes:
        """Return cancellations of live attempts, what is new on the whitelist, and the trusted CAs as they stand."""

    def whitelist_entries(self, worker_ids: Sequence[str]) -> Sequence[WhitelistEntry]:
        """Return what the whitelist says of these workers; nothing of one that is not on it."""

    def enrol(
        self, *, token_id: str, secret: str, certificate_request: bytes, name: str, address: str
    ) -> EnrolmentAnswer:
        """Use a join token."""

    def renew(self, worker_id: str, certificate_request: bytes) -> RenewalAnswer:
        """Make a new certificate for the key of this worker that is on the whitelist."""

    def examine_witnessed(self, worker_id: str, checkpoint: AuditCheckpoint) -> str:
        """Compare a checkpoint of the audit that a worker shows with the trail.

        Return what is wrong, once for a worker and checkpoint, after it was recorded; else nothing.
        """

    def issue_leaf(self) -> bytes:
        """Return a new certificate (DER) of the oldest CA for the dispatcher itself."""

    def settle_trust(self) -> Sequence[bytes]:
        """Drop the old CA if nobody needs it any more or its time is up; return the CAs to trust (DER), newest first."""
