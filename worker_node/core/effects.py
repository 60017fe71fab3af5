"""What the reactor wants done. The shell does it, in order."""

from __future__ import annotations

import msgspec

from octaskly_wire.messages import AssignAttempt, FromWorker, OutputFile
from worker_node.core.outcome import Outcome


class _Effect(msgspec.Struct, frozen=True, gc=False):
    """Base of all; never part of a cycle, so that the garbage collector need not look for one."""


class StartCommand(_Effect, frozen=True):
    """Run the assignment's command with this backend."""

    assignment: AssignAttempt
    backend: str


class StopCommand(_Effect, frozen=True):
    """End a command's whole process tree: with TERM and a grace, or at once."""

    attempt_id: str
    at_once: bool = False


class Send(_Effect, frozen=True):
    """Send a small message ahead of all bulk."""

    message: FromWorker


class SendOutcome(_Effect, frozen=True):
    """Send an outcome with its output."""

    attempt_id: str
    outcome: Outcome


class StoreContents(_Effect, frozen=True):
    """Send the contents that an outcome names to the dispatcher, ahead of the outcome; once is enough."""

    attempt_id: str
    contents: tuple[OutputFile, ...]


class ReleaseContents(_Effect, frozen=True):
    """Stop sending an outcome's contents and let go of them."""

    attempt_id: str


class SpoolOutcome(_Effect, frozen=True):
    """Write an outcome to disk, where it outlives this process."""

    attempt_id: str
    outcome: Outcome


class ForgetOutcome(_Effect, frozen=True):
    """Delete what was spooled of an outcome."""

    attempt_id: str


class CloseLink(_Effect, frozen=True):
    """Give the connection up; a new one follows."""

    reason: str


class LeaveForGood(_Effect, frozen=True):
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
