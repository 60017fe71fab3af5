"""What the reactor wants done. The shell does it, in order."""

from __future__ import annotations

from dataclasses import dataclass

from octaskly_wire.messages import AssignAttempt, FromWorker, OutputFile
from worker_node.core.outcome import Outcome


@dataclass(frozen=True)
class StartCommand:
    """Run the assignment's command with this backend."""

    assignment: AssignAttempt
    backend: str


@dataclass(frozen=True)
class StopCommand:
    """End a command's whole process tree: with TERM and a grace, or at once."""

    attempt_id: str
    at_once: bool = False


@dataclass(frozen=True)
class Send:
    """Send a small message ahead of all bulk."""

    message: FromWorker


@dataclass(frozen=True)
class SendOutcome:
    """Send an outcome with its output."""

    attempt_id: str
    outcome: Outcome


@dataclass(frozen=True)
class StoreContents:
    """Send the contents that an outcome names to the dispatcher, ahead of the outcome; once is enough."""

    attempt_id: str
    contents: tuple[OutputFile, ...]


@dataclass(frozen=True)
class ReleaseContents:
    """Stop sending an outcome's contents and let go of them."""

    attempt_id: str


@dataclass(frozen=True)
class SpoolOutcome:
    """Write an outcome to disk, where it outlives this process."""

    attempt_id: str
    outcome: Outcome


@dataclass(frozen=True)
class ForgetOutcome:
    """Delete what was spooled of an outcome."""

    attempt_id: str


@dataclass(frozen=True)
class CloseLink:
    """Give the connection up; a new one follows."""

    reason: str


@dataclass(frozen=True)
class LeaveForGood:
    """End the program: trying again cannot help."""

    reason: str


Effect = (
    StartCommand
    | StopCommand
    | Send
    | SendOutcome
    | StoreContents
    | ReleaseContents
    | SpoolOutcome
    | ForgetOutcome
    | CloseLink
    | LeaveForGood
)
