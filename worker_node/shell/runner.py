"""Run assignments: make a workspace and a plan for each, and keep their executions until they are over."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any, Final

from octaskly_wire.messages import AssignAttempt
from octaskly_wire.vocabulary import RejectionReason, SandboxLevel
from worker_node.core.outcome import Outcome
from worker_node.limit_flags import NO_SETTINGS, LimitSettings
from worker_node.sandbox.environment import passed_on
from worker_node.sandbox.host import Host
from worker_node.sandbox.policy import plan_attempt
from worker_node.sandbox.workspace import Workspaces
from worker_node.shell.execution import Execution, Listener, Parts
from worker_node.shell.live_output import LiveOutput
from worker_node.shell.task_files import TaskFiles

__all__ = ["Listener", "Runner"]


_NEEDS_NEW_FOLDER: Final = frozenset(level for level in SandboxLevel if level.rank >= SandboxLevel.STRICT.rank)
"""What could be hidden in a folder's times would pass from one attempt to the next."""


class Runner:
    """Owns the executions of this worker."""

    def __init__(
        self,
        host: Host,
        workspaces: Workspaces,
        worker_env: Mapping[str, str],
        listener: Listener,
        files: TaskFiles,
        limits: LimitSettings = NO_SETTINGS,
    ) -> None:
        """Take the parts; nothing runs yet."""
        self.live: Final = LiveOutput()
        self._limits: Final = limits
        self._env: Final = {level: passed_on(level, worker_env) for level in SandboxLevel}
        self._listener: Final = listener
        ours = Listener(listener.started, self._finished, self._refused)
        self._parts: Final = Parts(host, workspaces, ours, self.live, files, self._spawn)
        self._executions: dict[str, Execution] = {}
        self._chores: set[asyncio.Task[None]] = set()

    def start(self, assignment: AssignAttempt, backend: str) -> None:
        """Run one attempt; all that follows is told to the listener."""
        parts = self._parts
        try:
            folder = parts.workspaces.take(is_new=assignment.sandbox in _NEEDS_NEW_FOLDER)
        except OSError as error:
            self._listener.refused(assignment.attempt_id, RejectionReason.WORKSPACE_FAILED, str(error))
            return
        seen_as = parts.host.seen_by_command(folder)
        env = self._env[assignment.sandbox]
        plan = plan_attempt(assignment, backend, seen_as, env, parts.host.facts, self._limits)
        execution = self._executions[assignment.attempt_id] = Execution(parts, assignment, plan, folder)
        execution.begin()

    def stop(self, attempt_id: str, *, at_once: bool) -> None:
        """End an attempt."""
        if execution := self._executions.get(attempt_id):
            execution.stop(at_once=at_once)

    async def close(self) -> None:
        """Kill what runs and finish the wiping."""
        for execution in list(self._executions.values()):
            execution.stop(at_once=True)
        await self._parts.host.close()
        # Not those that are done and still to be discarded: since Python 3.12 a `gather` of them alone lets nobody do it.
        while chores := [chore for chore in self._chores if not chore.done()]:
            await asyncio.gather(*chores)
        self._parts.workspaces.close()

    def _spawn(self, chore: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(chore)
        self._chores.add(task)
        task.add_done_callback(self._chores.discard)

    def _finished(self, attempt_id: str, outcome: Outcome) -> None:
        self._executions.pop(attempt_id, None)
        self._listener.finished(attempt_id, outcome)

    def _refused(self, attempt_id: str, reason: RejectionReason, detail: str) -> None:
        self._executions.pop(attempt_id, None)
        self._listener.refused(attempt_id, reason, detail)
