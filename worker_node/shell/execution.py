"""One attempt from its inputs to its outcome: stage, launch, capture, collect, wipe, tell."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from octaskly_wire.messages import AssignAttempt, OutcomeReport
from octaskly_wire.vocabulary import FailureReason, OutputStream, RejectionReason
from worker_node.core.outcome import KeptOutput, Outcome, never_ran
from worker_node.logs import of_attempt
from worker_node.sandbox.collecting import CannotCollect
from worker_node.sandbox.host import SHELL_SIGNAL_BASE, SIGXFSZ, CommandEnd, Host, report_of
from worker_node.sandbox.policy import SandboxPlan
from worker_node.sandbox.workspace import Workspaces, has_file_of
from worker_node.shell.capture import Captures
from worker_node.shell.live_output import LiveOutput
from worker_node.shell.staging import StagingFailed
from worker_node.shell.task_files import TaskFiles

logger = logging.getLogger(__name__)

MAX_DETAIL: Final = 4096
"""Characters that a report has room for."""

_NOTHING_TO_COLLECT: Final = {FailureReason.CANCELLED, FailureReason.WORKER_LOST}

Result = TypeVar("Result")


@dataclass(frozen=True)
class Listener:
    """Whom an execution tells."""

    started: Callable[[str], None]
    finished: Callable[[str, Outcome], None]
    refused: Callable[[str, RejectionReason, str], None]


@dataclass(frozen=True)
class Parts:
    """What all executions of a worker work with."""

    host: Host
    workspaces: Workspaces
    listener: Listener
    live: LiveOutput
    files: TaskFiles
    spawn: Callable[[Coroutine[Any, Any, None]], None]
    """Runs a chore to its end, also when the worker ends."""


class _StoppedAmid(Exception):
    """The attempt was stopped while its files were moved."""


class Execution:
    """One attempt; the host's watcher of its command."""

    def __init__(self, parts: Parts, assignment: AssignAttempt, plan: SandboxPlan, folder: Path) -> None:
        """Take the empty workspace."""
        self._parts = parts
        self._assignment = assignment
        self._plan = plan
        self._folder = folder
        self._captures = Captures(plan.terms.limits.output_bytes, parts.files.new_spill)
        self._moving: asyncio.Future[Any] | None = None
        """The files of this attempt on their way; None while the command has it."""
        self._why_stopped: FailureReason | None = None
        self._asked_at = 0.0
        self._spawn_seconds: float | None = None
        """From asking the host for the command to its start."""
        parts.live.begin(plan.attempt_id, self._captures)

    def begin(self) -> None:
        """Run the command, once its inputs are there."""
        if self._assignment.inputs:
            staging = self._move(self._parts.files.stage(self._assignment, self._folder))
            self._parts.spawn(self._launch_after(staging))
        else:
            self._launch()

    def stop(self, *, at_once: bool) -> None:
        """End it, whatever it is at."""
        if self._moving is None:
            self._parts.host.stop(self._plan.attempt_id, at_once=at_once)
            return
        self._why_stopped = FailureReason.WORKER_LOST if at_once else FailureReason.CANCELLED
        self._moving.cancel()

    # --- the host's words --------------------------------------------------------------------------

    def started(self, at: float) -> None:
        """Hear that the command runs."""
        self._note_start(at)
        self._parts.listener.started(self._plan.attempt_id)

    def wrote(self, stream: OutputStream, data: bytes) -> None:
        """Take output."""
        self._captures.of(stream).feed(data)

    def ended(self, end: CommandEnd) -> None:
        """Hear that no process of the command is left."""
        if end.started_at is not None:
            self._note_start(end.started_at)
        if self._takes_time(end) or not self._has_left_nothing(end):
            self._parts.live.end(self._plan.attempt_id)
            self._parts.spawn(self._finish(end))
            return
        stdout, stderr = self._captures.kept_in_memory("stdout"), self._captures.kept_in_memory("stderr")
        self._let_go()
        self._parts.listener.finished(self._plan.attempt_id, Outcome(self._report_of(end), stdout, stderr))

    def refused(self, detail: str) -> None:
        """Hear that the command never ran."""
        self._parts.spawn(self._hand_back(detail))

    def _note_start(self, at: float) -> None:
        self._spawn_seconds = max(0.0, at - self._asked_at)

    # --- before the command ------------------------------------------------------------------------

    async def _launch_after(self, staging: asyncio.Future[None]) -> None:
        try:
            await self._moved(staging)
        except StagingFailed as error:
            await self._end_unrun(FailureReason.STAGING, str(error))
        except _StoppedAmid:
            reason = self._why_stopped or FailureReason.CANCELLED
            await self._end_unrun(reason, "stopped while its inputs were on their way")
        except Exception as error:
            logger.exception(
                "The inputs of attempt %s could not be staged",
                self._plan.attempt_id,
                extra=of_attempt("staging_failed", self._plan.attempt_id),
            )
            await self._end_unrun(FailureReason.STAGING, f"the worker failed: {error}")
        else:
            self._launch()

    def _launch(self) -> None:
        self._asked_at = time.monotonic()
        self._parts.host.launch(self._plan, self)

    async def _end_unrun(self, reason: FailureReason, detail: str) -> None:
        await self._clear_away()
        plan = self._plan
        self._parts.listener.finished(
            plan.attempt_id, never_ran(reason, plan.terms.level, plan.terms.backend, detail[:MAX_DETAIL])
        )

    async def _hand_back(self, detail: str) -> None:
        await self._clear_away()
        self._parts.listener.refused(self._plan.attempt_id, RejectionReason.SANDBOX_UNAVAILABLE, detail)

    # --- after the command -------------------------------------------------------------------------

    def _takes_time(self, end: CommandEnd) -> bool:
        """Return whether there is anything to do for the outcome, as after few commands."""
        return bool(
            self._assignment.outputs
            or end.tmp_fd is not None
            or self._may_have_filled_a_file(end)
            or self._captures.is_long
        )

    def _has_left_nothing(self, end: CommandEnd) -> bool:
        """Return whether the workspace was empty; then it is gone, or waits for another attempt."""
        if self._plan.terms.sandbox:  # its promise covers also what could be hidden in a folder's times
            return self._parts.workspaces.remove_if_empty(self._folder)
        is_untouched = end.is_untouched and not self._assignment.inputs
        return self._parts.workspaces.give_back(self._folder, is_untouched=is_untouched)

    def _report_of(self, end: CommandEnd, *, filled_a_file: bool = False) -> OutcomeReport:
        return report_of(self._plan, end, filled_a_file=filled_a_file, spawn_seconds=self._spawn_seconds)

    async def _finish(self, end: CommandEnd) -> None:
        try:
            report = self._report_of(end, filled_a_file=await self._has_filled_a_file(end))
            if self._assignment.outputs and report.failure_reason not in _NOTHING_TO_COLLECT:
                report = await self._with_outputs(report, end.tmp_fd)
        finally:
            if end.tmp_fd is not None:
                await asyncio.to_thread(os.close, end.tmp_fd)  # frees all that lies there, which may be much
        stdout, stderr = await self._kept("stdout"), await self._kept("stderr")
        await self._clear_away()
        self._parts.listener.finished(self._plan.attempt_id, Outcome(report, stdout, stderr))

    async def _kept(self, stream: OutputStream) -> KeptOutput:
        """Return what was kept of a stream; what is long of it becomes a content, like an output file."""
        capture = self._captures.of(stream)
        kept = capture.finish()
        if isinstance(kept, KeptOutput):
            return kept
        try:
            content = await self._parts.files.store_stream(self._plan.attempt_id, stream, kept)
        except OSError as error:
            logger.warning("Of the long %s of %s only its ends are kept: %s", stream, self._plan.attempt_id, error)
            return capture.finish_in_memory()
        return msgspec.structs.replace(kept.ends, content=content)

    def _may_have_filled_a_file(self, end: CommandEnd) -> bool:
        return end.exit_code == SHELL_SIGNAL_BASE + SIGXFSZ and "file_bytes" in self._plan.terms.rlimits

    async def _has_filled_a_file(self, end: CommandEnd) -> bool:
        if not self._may_have_filled_a_file(end):
            return False
        return await asyncio.to_thread(has_file_of, self._folder, self._plan.terms.rlimits["file_bytes"])

    async def _with_outputs(self, report: OutcomeReport, tmp_fd: int | None) -> OutcomeReport:
        """Return the report with what could be collected, and as a failure where that is not what was declared."""
        files = self._parts.files
        is_in_memory = self._plan.terms.sandbox is not None and self._plan.terms.sandbox.keeps_tmp
        folder = tmp_fd if is_in_memory else self._folder
        try:
            collected = await self._moved(self._move(files.collect(self._assignment, folder)))
        except CannotCollect as error:
            files.drop_outputs(self._plan.attempt_id)
            return _failed(report, FailureReason.STAGING, str(error))
        except _StoppedAmid:
            files.drop_outputs(self._plan.attempt_id)
            changes = {"failure_reason": self._why_stopped, "detail": "stopped while its outputs were collected"}
            return msgspec.structs.replace(report, **changes)
        except Exception as error:
            logger.exception(
                "The outputs of attempt %s could not be collected",
                self._plan.attempt_id,
                extra=of_attempt("collecting_failed", self._plan.attempt_id),
            )
            files.drop_outputs(self._plan.attempt_id)
            return _failed(report, FailureReason.STAGING, f"the worker failed: {error}")
        report = msgspec.structs.replace(report, outputs=collected.files)
        if collected.missing and report.failure_reason is None:
            return _failed(report, FailureReason.MISSING_OUTPUT, "missing: " + "; ".join(collected.missing))
        return report

    # --- pieces ------------------------------------------------------------------------------------

    def _move(self, files: Coroutine[Any, Any, Result]) -> asyncio.Future[Result]:
        """Begin to move files; `stop` may end it."""
        self._moving = moving = asyncio.ensure_future(files)
        return moving

    async def _moved(self, moving: asyncio.Future[Result]) -> Result:
        """Return when files were moved; raise _StoppedAmid when `stop` ended it."""
        try:
            result = await moving
        except asyncio.CancelledError:
            if self._why_stopped is None:
                raise  # not this was cancelled, but whoever waits for it
            raise _StoppedAmid from None
        finally:
            self._moving = None
        if self._why_stopped is not None:
            raise _StoppedAmid
        return result

    async def _clear_away(self) -> None:
        """Wipe the workspace and let go of all that the attempt held."""
        workspaces, attempt_id = self._parts.workspaces, self._plan.attempt_id
        try:
            if not workspaces.remove_if_empty(self._folder):
                await asyncio.to_thread(workspaces.wipe, self._folder)
        except OSError as error:
            logger.warning(
                "The folder of attempt %s could not be wiped: %s",
                attempt_id,
                error,
                extra=of_attempt("wiping_failed", attempt_id, detail=str(error)),
            )
        self._let_go()

    def _let_go(self) -> None:
        self._parts.live.forget(self._plan.attempt_id)
        if self._assignment.inputs:
            self._parts.files.release(self._plan.attempt_id)


def _failed(report: OutcomeReport, reason: FailureReason, detail: str) -> OutcomeReport:
    """Return the report as a failure; one that is a failure already keeps its reason."""
    if report.failure_reason is not None:
        reason, detail = report.failure_reason, f"{report.detail}; {detail}" if report.detail else detail
    return msgspec.structs.replace(report, failure_reason=reason, detail=detail[:MAX_DETAIL])
