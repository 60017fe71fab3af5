"""A sandbox that cannot be made as promised runs nothing: each step fails in turn, and the kernel may lie."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from octaskly_wire.messages import AssignAttempt, InputFile
from octaskly_wire.vocabulary import SandboxLevel
from tests.support import faults
from worker_node.sandbox import kernel
from worker_node.sandbox.host import EndCause
from worker_node.sandbox.limits import NO_SETTINGS
from worker_node.sandbox.policy import Backend, plan_attempt
from worker_node.sandbox.probe import Song, prove_levels, run_plan
from worker_node.sandbox.spawner_host import SpawnerHost
from worker_node.sandbox.survey import survey
from worker_node.sandbox.workspace import Workspaces
from worker_node.shell.level_keeper import LevelKeeper

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the spawner runs on Linux")

ROOT = Path(__file__).parents[2]
PATIENCE_S = 120
FEWEST_STEPS = {SandboxLevel.NONE: 15, SandboxLevel.BASIC: 15, SandboxLevel.STRICT: 60, SandboxLevel.VERY_STRICT: 60}

IN_ONE_PROCESS = {SandboxLevel.NONE, SandboxLevel.BASIC}
"""The supervisor itself takes these steps."""


class Workshop:
    """A spawner whose sandboxes break as ordered."""

    def __init__(self, folder: Path) -> None:
        self._order = folder / "order.json"
        script = folder / "faulty_spawner.py"
        script.write_text(faults.SCRIPT.format(root=str(ROOT), order=str(self._order)))
        self.order({})
        self.workspaces = Workspaces(folder / "work")
        settings, facts = survey(self.workspaces.root)
        self.host = SpawnerHost(replace(settings, script=script), facts)
        self._count = 0

    def order(self, order: dict) -> None:
        self._order.write_text(json.dumps(order))

    async def run(self, level: SandboxLevel) -> Song:
        """Run a command that shows that it ran."""
        self._count += 1
        name = f"t{self._count}"
        folder = self.workspaces.create(name)
        (folder / "in").mkdir()
        (folder / "in" / "put").write_text("ran\n")
        (folder / "in" / "put").chmod(0o444)
        assignment = AssignAttempt(
            attempt_id=name,
            task_id=name,
            command="cat in/put",
            timeout_s=30,
            sandbox=level,
            allows_network=False,
            inputs=[InputFile("in/put", "a" * 64, 4)],
            outputs=["out"],
        )
        seen_as = self.host.seen_by_command(folder)
        plan = plan_attempt(assignment, Backend.SPAWNER, seen_as, os.environ, self.host.facts, NO_SETTINGS)
        song = await run_plan(self.host, plan)
        if song.end is not None and song.end.tmp_fd is not None:
            os.close(song.end.tmp_fd)
        self.workspaces.wipe(folder)
        return song


@pytest.fixture
def work_in(tmp_path):
    """Return a function that runs a scene with a workshop and closes it."""

    def run(scene):
        async def main():
            workshop = Workshop(tmp_path)
            try:
                async with asyncio.timeout(PATIENCE_S):
                    return await scene(workshop)
            finally:
                await workshop.host.close()

        return asyncio.run(main())

    return run


@pytest.mark.parametrize("way", ["error", "death"])
@pytest.mark.parametrize("level", list(SandboxLevel))
def test_whatever_step_fails_the_command_does_not_run(work_in, level, way):
    """By an error or by death: it is refused, or lost with the supervisor that died, and nothing came out of it."""

    async def scene(workshop):
        for number in range(1, 1000):
            workshop.order({"break_at": number, "way": way})
            song = await workshop.run(level)
            if song.end is not None and song.end.cause is not EndCause.LOST:
                assert (song.end.exit_code, song.text("stdout")) == (0, "ran\n"), f"call {number} broke"
                return number
            assert song.output == {"stdout": b"", "stderr": b""}, f"the command ran although call {number} broke"
            assert song.refusal or (song.end is not None and way == "death" and level in IN_ONE_PROCESS)
        raise AssertionError("no end of steps")

    assert work_in(scene) > FEWEST_STEPS[level]


@pytest.mark.parametrize(
    ("order", "words"),
    [
        ({"fails": ["clone"]}, "namespaces"),
        ({"fails": ["mount"]}, "root"),
        ({"fails": ["load_filter"]}, "system call filter"),
        ({"lies": ["load_filter"]}, "filter 0"),
        ({"lies": ["drop_capabilities"]}, "Cap"),
        ({"without": kernel.CLONE_NEWNET}, "loopback"),
        ({"without": kernel.CLONE_NEWNET, "lies": ["raise_loopback"]}, "reach a service of the host"),
        ({"without": kernel.CLONE_NEWPID}, "root"),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else None,
)
def test_a_level_whose_parts_fail_or_lie_is_not_offered(work_in, order, words):
    """The kernel says no, or says yes and does nothing: the canaries notice."""

    async def scene(workshop):
        workshop.order(order)
        return {report.level: report for report in await prove_levels(workshop.host, workshop.workspaces)}

    reports = work_in(scene)
    assert not reports[SandboxLevel.STRICT].is_proven
    assert not reports[SandboxLevel.VERY_STRICT].is_proven
    assert words in reports[SandboxLevel.STRICT].why_not
    assert reports[SandboxLevel.BASIC].is_proven, reports[SandboxLevel.BASIC].why_not


def test_a_root_that_stays_writable_is_not_offered_without_landlock_behind_it(work_in):
    """The second wall of very_strict does hold by itself."""

    async def scene(workshop):
        workshop.order({"lies": ["restrict_mounts"]})
        return {report.level: report for report in await prove_levels(workshop.host, workshop.workspaces)}

    reports = work_in(scene)
    assert "write to the root" in reports[SandboxLevel.STRICT].why_not
    assert reports[SandboxLevel.VERY_STRICT].is_proven


@pytest.mark.parametrize("order", [{"fails": ["landlock_restrict"]}, {"lies": ["landlock_restrict"]}], ids=json.dumps)
def test_without_a_working_landlock_only_very_strict_is_not_offered(work_in, order):
    """A wall that is not there is not claimed."""

    async def scene(workshop):
        workshop.order(order)
        return {report.level: report.is_proven for report in await prove_levels(workshop.host, workshop.workspaces)}

    assert work_in(scene) == {
        SandboxLevel.NONE: True,
        SandboxLevel.BASIC: True,
        SandboxLevel.STRICT: True,
        SandboxLevel.VERY_STRICT: False,
    }


def test_no_new_privileges_that_are_not_set_leave_none_only(work_in):
    """From basic upwards setuid programs must gain nothing."""

    async def scene(workshop):
        workshop.order({"lies": ["forbid_new_privileges"]})
        return {report.level for report in await prove_levels(workshop.host, workshop.workspaces) if report.is_proven}

    assert work_in(scene) == {SandboxLevel.NONE}


def test_a_level_that_breaks_is_withdrawn_and_comes_back_when_it_is_mended(work_in):
    """Proofs are made again in doubt, and until what was there at start is back."""

    async def scene(workshop):
        told: asyncio.Queue[set[SandboxLevel]] = asyncio.Queue()
        reports = await prove_levels(workshop.host, workshop.workspaces)
        keeper = LevelKeeper(
            workshop.host,
            workshop.workspaces,
            reports,
            lambda news: told.put_nowait({report.level for report in news if report.is_proven}),
            retry_every_s=0.2,
        )
        keeping = asyncio.create_task(keeper.run())
        workshop.order({"fails": ["clone"]})
        keeper.doubt()
        broken = await told.get()
        workshop.order({})
        mended = await told.get()
        keeping.cancel()
        return broken, mended

    assert work_in(scene) == ({SandboxLevel.NONE, SandboxLevel.BASIC}, set(SandboxLevel))
