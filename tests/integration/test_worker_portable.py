"""The host for systems without the spawner, run here on POSIX."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil
import pytest

from octaskly_wire.messages import AssignAttempt
from octaskly_wire.vocabulary import FailureReason, SandboxLevel
from tests.support.shelf import Shelf
from worker_node.config import FileSettings
from worker_node.core.outcome import Outcome
from worker_node.sandbox.policy import Backend
from worker_node.sandbox.portable import PortableHost
from worker_node.sandbox.workspace import Workspaces
from worker_node.shell.runner import Listener, Runner
from worker_node.shell.task_files import TaskFiles

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="these commands are for a POSIX shell")


async def run(
    folder: Path,
    command: str,
    timeout_s: int = 20,
    cancel_when: Path | None = None,
    contents: Mapping[str, bytes] | None = None,
    outputs: Sequence[str] = (),
) -> Outcome:
    """Run one command with inputs; cancel it when a file appears."""
    over: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
    listener = Listener(lambda _: None, lambda _, outcome: over.set_result(outcome), lambda *why: over.cancel(str(why)))
    shelf = Shelf()
    inputs = [shelf.put(name, data) for name, data in (contents or {}).items()]
    files = TaskFiles(folder, FileSettings(), 0, shelf, has_own_users=False)
    runner = Runner(PortableHost(), Workspaces(folder / "work"), os.environ, listener, files)
    assignment = AssignAttempt(
        "t.1",
        "t",
        command,
        timeout_s,
        SandboxLevel.BASIC,
        allows_network=False,
        inputs=inputs,
        outputs=list(outputs),
    )
    try:
        async with asyncio.timeout(30):
            runner.start(assignment, Backend.POSIX)
            while cancel_when and not cancel_when.exists():  # noqa: ASYNC240 - a look, no wait
                await asyncio.sleep(0.01)
            if cancel_when:
                runner.stop("t.1", at_once=False)
            return await over
    finally:
        await runner.close()
        await files.close()


def test_files_go_in_and_out(tmp_path):
    """A copy of the input, to be read only, and what matches of the outputs."""
    command = "cat in/a; ls -l in/a | cut -c1-10; mkdir out; cp in/a out/b; ln -s ../in/a out/c"
    outcome = asyncio.run(run(tmp_path, command, contents={"in/a": b"given\n"}, outputs=["out/*", "out/c"]))
    assert outcome.stdout.data == b"given\n-r--r--r--\n"
    assert [(file.name, file.size_bytes) for file in outcome.report.outputs] == [("out/b", 6)]
    assert outcome.report.failure_reason is FailureReason.MISSING_OUTPUT
    assert outcome.report.detail == "missing: out/c is a symbolic link, not a regular file"


def is_alive(pid: int) -> bool:
    """Return whether a process runs; one that only waits to be reaped does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_an_ordinary_end_is_reported(tmp_path):
    """Exit code, both streams, and the honest word that no limit is kept."""
    outcome = asyncio.run(run(tmp_path, "echo out; echo err >&2; pwd; exit 3"))
    assert (outcome.report.failure_reason, outcome.report.exit_code) == (FailureReason.EXIT_CODE, 3)
    assert outcome.stdout.data.startswith(b"out\n")
    assert outcome.stderr.data == b"err\n"
    assert outcome.report.limits == {}


def test_a_timeout_kills_the_group(tmp_path):
    """A command over its time is ended with its children."""
    pid_file = tmp_path / "pid"
    outcome = asyncio.run(run(tmp_path, f"sleep 1000 & echo $! >{pid_file}; wait", timeout_s=1))
    assert outcome.report.failure_reason is FailureReason.TIMEOUT
    assert not is_alive(int(pid_file.read_text()))


def test_cancel_kills_the_tree(tmp_path):
    """A cancelled command ends with what it started, a session of its own included while its parent lives."""
    mark = tmp_path / "started"
    outcome = asyncio.run(run(tmp_path, f"sleep 1000 & touch {mark}; wait", cancel_when=mark))
    assert outcome.report.failure_reason is FailureReason.CANCELLED


def test_a_daemon_that_holds_the_pipe_does_not_hold_up_the_outcome(tmp_path):
    """The rest of the output is awaited for a moment only."""
    pid_file = tmp_path / "pid"
    daemon = f"import os, time; os.setsid(); open('{pid_file}', 'w').write(str(os.getpid())); time.sleep(1000)"
    command = f'{sys.executable} -c "{daemon}" & while ! [ -s {pid_file} ]; do sleep 0.02; done; echo done'
    outcome = asyncio.run(run(tmp_path, command))
    # This is the gap that the probe names: what leaves the group lives on.
    psutil.Process(int(pid_file.read_text())).kill()
    assert outcome.stdout.data == b"done\n"
