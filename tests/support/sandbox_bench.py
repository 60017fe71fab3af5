"""A worker's runner over a real spawner: start commands at a level, hear what became of them, look for leftovers."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import psutil

from octaskly_wire.messages import AssignAttempt, OutcomeReport, OutputFile
from octaskly_wire.vocabulary import SandboxLevel
from tests.support.shelf import Shelf
from worker_node.config import FileSettings
from worker_node.core.outcome import Outcome
from worker_node.sandbox.policy import Backend
from worker_node.sandbox.spawner_host import SpawnerHost
from worker_node.sandbox.survey import survey
from worker_node.sandbox.workspace import Workspaces
from worker_node.shell.runner import Listener, Runner
from worker_node.shell.task_files import TaskFiles

PATIENCE_S = 60.0
BACKENDS = {
    SandboxLevel.NONE: Backend.SPAWNER,
    SandboxLevel.BASIC: Backend.SPAWNER,
    SandboxLevel.STRICT: Backend.NAMESPACES,
    SandboxLevel.VERY_STRICT: Backend.NAMESPACES_AND_LANDLOCK,
}
SECRET = "the-workers-own-secret"


class Ending:
    """What became of one attempt."""

    def __init__(self) -> None:
        self.is_started = asyncio.Event()
        self.is_over = asyncio.Event()
        self.attempt_id = ""
        self.outcome: Outcome | None = None
        self.refusal = ""

    @property
    def report(self) -> OutcomeReport:
        assert self.outcome is not None, self.refusal
        return self.outcome.report

    @property
    def stdout(self) -> bytes:
        assert self.outcome is not None, self.refusal
        return self.outcome.stdout.data


class Bench:
    """A runner over a real spawner."""

    def __init__(self, folder: Path) -> None:
        self.workspaces = Workspaces(folder / "work")
        self.host = SpawnerHost(*survey(self.workspaces.root))
        self._count = 0
        self._endings: dict[str, Ending] = {}
        listener = Listener(self._started, self._finished, self._refused)
        env = {**os.environ, "OCTASKLY_JOIN_TOKEN": SECRET, "CLOUD_KEY": SECRET}
        self.shelf = Shelf()
        self.files = TaskFiles(folder, FileSettings(), 0, self.shelf, has_own_users=self.host.facts.has_own_users)
        self.runner = Runner(self.host, self.workspaces, env, listener, self.files)

    def start(self, command: str, level: SandboxLevel = SandboxLevel.BASIC, **changes: Any) -> Ending:
        attempt_id = f"t{self._count}.1"
        self._count += 1
        fields = {"timeout_s": 50, "allows_network": False, **changes}
        ending = self._endings[attempt_id] = Ending()
        assignment = AssignAttempt(
            attempt_id=attempt_id, task_id=attempt_id[:-2], command=command, sandbox=level, **fields
        )
        self.runner.start(assignment, BACKENDS[level])
        ending.attempt_id = attempt_id
        return ending

    async def run(self, command: str, level: SandboxLevel = SandboxLevel.BASIC, **changes: Any) -> Ending:
        ending = self.start(command, level, **changes)
        await ending.is_over.wait()
        return ending

    def output(self, file: OutputFile) -> bytes:
        """Return a collected content."""
        with self.files.outgoing.open(file.sha256) as content:
            return content.read()

    async def close(self) -> None:
        await self.runner.close()
        await self.files.close()

    def _started(self, attempt_id: str) -> None:
        self._endings[attempt_id].is_started.set()

    def _finished(self, attempt_id: str, outcome: Outcome) -> None:
        ending = self._endings.pop(attempt_id)
        ending.outcome = outcome
        ending.is_over.set()

    def _refused(self, attempt_id: str, reason: object, detail: str) -> None:
        ending = self._endings.pop(attempt_id)
        ending.refusal = f"{reason}: {detail}"
        ending.is_over.set()


def play(folder: Path, scene: Callable[[Bench], Coroutine[Any, Any, Any]], patience_s: float = PATIENCE_S) -> Any:
    """Run a scene with a bench in a folder, close the bench, and return what the scene returns."""

    async def main() -> Any:
        bench = Bench(folder)
        try:
            async with asyncio.timeout(patience_s):
                return await scene(bench)
        finally:
            await bench.close()

    return asyncio.run(main())


async def until(is_so: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait until something is so; fail with its name when it does not come."""
    async with asyncio.timeout(seconds):
        while not is_so():
            await asyncio.sleep(0.01)


def processes_with(mark: str) -> list[int]:
    """Return the processes that carry a mark in their command line."""
    return [
        process.pid
        for process in psutil.process_iter(["cmdline", "status"])
        if process.info["status"] != psutil.STATUS_ZOMBIE
        and any(mark in word for word in process.info["cmdline"] or ())
    ]
