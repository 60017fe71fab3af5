"""Ten thousand commands through one worker: nothing gathers, neither here nor in the spawner nor on the host."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import psutil
import pytest

from octaskly_wire.vocabulary import SandboxLevel
from tests.support.sandbox_bench import Bench, play, until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(sys.platform != "linux", reason="the spawner runs on Linux"),
]

AT_ONCE = 4
ROUNDS = {SandboxLevel.BASIC: 5000, SandboxLevel.STRICT: 3000, SandboxLevel.VERY_STRICT: 2000}
MEGABYTE = 1 << 20


def family(bench: Bench) -> list[psutil.Process]:
    """Return the spawner and all below it."""
    spawner = psutil.Process(bench.host.spawner_pid)
    return [spawner, *spawner.children(recursive=True)]


def not_of_other_tests(bench: Bench, mount: str) -> bool:
    """Return whether a mount is the host's or this test's; others run beside it and mount in folders of their own."""
    return "/pytest-of-" not in mount or str(bench.workspaces.root.parent) in mount


def footprint(bench: Bench) -> dict[str, int]:
    """Return what could leak: descriptors of each kind of process, processes, mounts, memory."""
    processes = family(bench)
    spawner, supervisors = processes[0], processes[0].children()
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    return {
        "descriptors here": len(os.listdir("/proc/self/fd")),  # noqa: PTH208 - a folder of links to nowhere
        "descriptors of the spawner": spawner.num_fds(),
        "descriptors of a supervisor": max(supervisor.num_fds() for supervisor in supervisors),
        "processes": len(processes),
        "mounts": sum(not_of_other_tests(bench, line) for line in mounts),
        "megabytes here": psutil.Process().memory_info().rss // MEGABYTE,
        "megabytes of the spawner": spawner.memory_info().rss // MEGABYTE,
    }


async def run_many(bench: Bench, level: SandboxLevel, count: int) -> None:
    """Run so many commands, several at once; each must succeed."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one() -> None:
        async with gate:
            ending = await bench.run("true", level)
            assert ending.report.exit_code == 0, ending.report

    await asyncio.gather(*(one() for _ in range(count)))


def test_ten_thousand_commands_leave_nothing_behind(tmp_path, capsys):
    """All levels in turns; what is there after the first hundred of each is all that is there at the end."""

    async def scene(bench: Bench) -> None:
        for level in ROUNDS:
            await run_many(bench, level, 100)
        before = footprint(bench)
        for level, count in ROUNDS.items():
            await run_many(bench, level, count)
        # A supervisor that was replaced, or a sandbox that ends, may take a moment.
        await until(lambda: len(family(bench)) <= 1 + 2 * AT_ONCE)
        after = footprint(bench)
        with capsys.disabled():
            sys.stdout.write(f"\n{before}\n{after}\n")
        assert after["processes"] <= 1 + 2 * AT_ONCE
        for name in ("descriptors here", "descriptors of the spawner", "mounts"):
            assert after[name] == before[name], name
        assert after["descriptors of a supervisor"] <= before["descriptors of a supervisor"] + 1
        for name in ("megabytes here", "megabytes of the spawner"):
            assert after[name] <= before[name] + 16, name
        # Untouched folders wait for the next attempt, never more of them than ran at once.
        folders = list(bench.workspaces.root.iterdir())
        assert len(folders) <= AT_ONCE
        assert [name for folder in folders for name in folder.iterdir()] == []

    play(tmp_path, scene, patience_s=800)
    assert list((tmp_path / "work").iterdir()) == []
