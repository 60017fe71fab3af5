"""What the core asks the shell to do: records to commit, messages to send, tasks to fetch.

Records are committed in one transaction before anything that follows them is sent. Several of these are made for each
task, which is why they are structs: a frozen dataclass takes five to ten times as long to make. None of them can be part
of a cycle, so the garbage collector need not walk over them.
"""

from __future__ import annotations

import msgspec

from dispatcher.core.placement import Ceiling
from octaskly_wire.messages import InputFile, Limits, OutcomeReport, ToWorker
from octaskly_wire.vocabulary import FailureReason, SandboxLevel

TaskClass = tuple[SandboxLevel, bool]
"""Sandbox level and network wish: tasks alike in both can be run by the same workers, limits aside."""


class ReadyTask(msgspec.Struct, frozen=True, gc=False):
    """A queued task as the store hands it to the core. `attempt` counts the attempts it has had."""

    task_id: str
    command: str
    priority: int
    timeout_s: int
    sandbox: SandboxLevel
    network: bool
    env: dict[str, str]
    limits: Limits
    max_retries: int
    attempt: int
    failures: int
    losses: int
    inputs: tuple[InputFile, ...] = ()
    outputs: tuple[str, ...] = ()

    @property
    def task_class(self) -> TaskClass:
        """Return what decides which workers may run it."""
        return (self.sandbox, self.network)

    @property
    def queue_order(self) -> tuple[int, str]:
        """Sort key of the queue: priority first, then age."""
        return (-self.priority, self.task_id)


class AttemptKey(msgspec.Struct, frozen=True, gc=False):
    """One execution of one task; the number is the fence."""

    task_id: str
    number: int

    @property
    def attempt_id(self) -> str:
        """Return the id that travels on the wire."""
        return f"{self.task_id}.{self.number}"

    @classmethod
    def parse(cls, attempt_id: str) -> AttemptKey | None:
        """Return the key of an attempt id, or None if it is none."""
        task_id, dot, number = attempt_id.rpartition(".")
        return cls(task_id, int(number)) if dot and number.isascii() and number.isdigit() else None


# --- records ---------------------------------------------------------------------------------------


class ClaimTask(msgspec.Struct, frozen=True, gc=False):
    """Give the task's next attempt to a worker; refused when the task changed meanwhile."""

    key: AttemptKey
    worker_id: str


class RecordStarted(msgspec.Struct, frozen=True, gc=False):
    """The attempt's command runs: the task is `running`."""

    key: AttemptKey
    worker_id: str


class RecordOutcome(msgspec.Struct, frozen=True, gc=False):
    """The attempt ended with a report. `retry_delay_s` not None means: queue the task again."""

    key: AttemptKey
    worker_id: str
    report: OutcomeReport
    stdout: bytes
    stderr: bytes
    retry_delay_s: float | None


class RecordGivenUp(msgspec.Struct, frozen=True, gc=False):
    """The attempt ended without a report: its worker was lost or handed it back.

    `retry_delay_s` None means the task ends, with `failure_reason`.
    """

    key: AttemptKey
    worker_id: str
    is_loss: bool
    detail: str
    retry_delay_s: float | None
    failure_reason: FailureReason | None = None


class RecordSuperseded(msgspec.Struct, frozen=True, gc=False):
    """An outcome came for an attempt that is not live: kept on the attempt, never on the task.

    Refused by the store when it contradicts the outcome on record, or the attempt is not this worker's.
    """

    key: AttemptKey
    worker_id: str
    report: OutcomeReport
    stdout: bytes
    stderr: bytes


class SuspendWorker(msgspec.Struct, frozen=True, gc=False):
    """Take an approved worker out of service until somebody approves it again."""

    worker_id: str
    reason: str


Record = ClaimTask | RecordStarted | RecordOutcome | RecordGivenUp | RecordSuperseded | SuspendWorker


# --- everything else -------------------------------------------------------------------------------


class Send(msgspec.Struct, frozen=True, gc=False):
    """Send a message over the link it was decided for; on a later link of the worker it would be out of place.

    With `unless_refused`, only if the store did not refuse the record of that attempt before it.
    """

    worker_id: str
    link_id: int
    message: ToWorker
    unless_refused: AttemptKey | None = None


class CloseLink(msgspec.Struct, frozen=True, gc=False):
    """End a worker's link after what was sent before."""

    worker_id: str
    link_id: int


class FetchReady(msgspec.Struct, frozen=True, gc=False):
    """Read the head of the queue for these classes of tasks."""

    classes: frozenset[TaskClass]
    limit: int


class FetchFitting(msgspec.Struct, frozen=True, gc=False):
    """Read, of one class, the first tasks that ask for no more than the ceiling allows, wherever they stand."""

    task_class: TaskClass
    ceiling: Ceiling
    limit: int


Effect = Record | Send | CloseLink | FetchReady | FetchFitting
