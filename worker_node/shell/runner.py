"""Run assignments: workspace, plan, host, capture, wipe; then tell the node how it went."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from octaskly_wire.messages import AssignAttempt, OutcomeReport
from octaskly_wire.vocabulary import OutputStream, RejectionReason
from worker_node.config import NO_SETTINGS, LimitSettings
from worker_node.core.outcome import Outcome
from worker_node.sandbox.host import SHELL_SIGNAL_BASE, SIGXFSZ, CommandEnd, Host, report_of
from worker_node.sandbox.policy import SandboxPlan, plan_attempt
from worker_node.sandbox.workspace import Workspaces, has_file_of
from worker_node.shell.capture import Capture

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Listener:
    """Whom the runner tells."""

    started: Callable[[str], None]
    finished: Callable[[str, Outcome], None]
    refused: Callable[[str, RejectionReason, str], None]


class Runner:
    """Owns the executions of this worker."""

    def __init__(
        self,
        host: Host,
        workspaces: Workspaces,
        worker_env: Mapping[str, str],
        listener: Listener,
        limits: LimitSettings = NO_SETTINGS,
    ) -> None:
        """Take the parts; nothing runs yet."""
        self._limits: Final = limits
        self._host: Final = host
        self.workspaces: Final = workspaces
        self._env: Final = dict(worker_env)
        self.listener: Final = listener
        self._cleanups: set[asyncio.Task[None]] = set()

    def start(self, assignment: AssignAttempt, backend: str) -> None:
        """Run one attempt; all that follows is told to the listener."""
        try:
            folder = self.workspaces.create(assignment.attempt_id)
        except OSError as error:
            self.listener.refused(assignment.attempt_id, RejectionReason.WORKSPACE_FAILED, str(error))
            return
        seen_as = self._host.seen_by_command(folder)
        plan = plan_attempt(assignment, backend, seen_as, self._env, self._host.facts, self._limits)
        self._host.launch(plan, _Execution(self, plan, folder))

    def stop(self, attempt_id: str, *, at_once: bool) -> None:
        """End a command."""
        self._host.stop(attempt_id, at_once=at_once)

    async def close(self) -> None:
        """Kill what runs and finish the wiping."""
        await self._host.close()
        await asyncio.gather(*self._cleanups)

    def clean_up(self, plan: SandboxPlan, folder: Path, then: Callable[[bool], None], end: CommandEnd | None) -> None:
        """Look at what the command left, wipe it away from the loop, and go on."""
        task = asyncio.get_running_loop().create_task(self._clean_up(plan, folder, then, end))
        self._cleanups.add(task)
        task.add_done_callback(self._cleanups.discard)

    async def _clean_up(
        self, plan: SandboxPlan, folder: Path, then: Callable[[bool], None], end: CommandEnd | None
    ) -> None:
        filled_a_file = False
        try:
            if end and end.exit_code == SHELL_SIGNAL_BASE + SIGXFSZ and "file_bytes" in plan.rlimits:
                filled_a_file = await asyncio.to_thread(has_file_of, folder, plan.rlimits["file_bytes"])
            if not self.workspaces.remove_if_empty(folder):
                await asyncio.to_thread(self.workspaces.wipe, folder)
        except OSError as error:
            logger.warning("The folder of attempt %s could not be wiped: %s", plan.attempt_id, error)
        then(filled_a_file)


class _Execution:
    """One attempt's watcher."""

    def __init__(self, runner: Runner, plan: SandboxPlan, folder: Path) -> None:
        self._runner = runner
        self._plan = plan
        self._folder = folder
        self._captures: dict[OutputStream, Capture] = {
            "stdout": Capture(plan.limits.output_bytes),
            "stderr": Capture(plan.limits.output_bytes),
        }

    def started(self) -> None:
        self._runner.listener.started(self._plan.attempt_id)

    def wrote(self, stream: OutputStream, data: bytes) -> None:
        self._captures[stream].feed(data)

    def ended(self, end: CommandEnd) -> None:
        def tell(filled_a_file: bool) -> None:  # noqa: FBT001 - a continuation's only argument
            report: OutcomeReport = report_of(self._plan, end, filled_a_file=filled_a_file)
            stdout, stderr = (self._captures[stream].finish() for stream in ("stdout", "stderr"))
            self._runner.listener.finished(self._plan.attempt_id, Outcome(report, stdout, stderr))

        self._runner.clean_up(self._plan, self._folder, tell, end)

    def refused(self, detail: str) -> None:
        def tell(_: bool) -> None:  # noqa: FBT001 - a continuation's only argument
            reason = RejectionReason.SANDBOX_UNAVAILABLE
            self._runner.listener.refused(self._plan.attempt_id, reason, detail)

        self._runner.clean_up(self._plan, self._folder, tell, None)
