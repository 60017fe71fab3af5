"""What a sandbox costs: from the order to the reaped exit of `true`, per level, beside posix_spawn and bubblewrap.

    .venv/bin/python -m benchmarks.spawn [--runs 300]

`posix_spawn` of the same shell is the machine's limit; bubblewrap, where it is installed, does the isolation of
`strict` for one command at a time, the way others do it. All are measured in the same run, in turns, so that a busy
moment hits them alike. Linux only.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from benchmarks.bubblewrap import BWRAP, Bubblewrap
from benchmarks.spawn_limit import wait
from octaskly_wire.messages import AssignAttempt
from octaskly_wire.vocabulary import SandboxLevel
from worker_node.sandbox.limits import NO_SETTINGS
from worker_node.sandbox.policy import Backend, plan_attempt
from worker_node.sandbox.probe import run_plan
from worker_node.sandbox.spawner_host import SpawnerHost
from worker_node.sandbox.survey import survey
from worker_node.sandbox.workspace import Workspaces

AT_ONCE = 4
ROUNDS = 5
SHELL = ["/bin/sh", "-c", "true"]
Run = Callable[[], Awaitable[None]]


class Octaskly:
    """The worker's own way, without link and dispatcher."""

    def __init__(self, folder: Path) -> None:
        self._workspaces = Workspaces(folder / "work")
        self.host = SpawnerHost(*survey(self._workspaces.root))
        self._count = 0

    def at(self, level: SandboxLevel) -> Run:
        """Return what runs one command at a level and wipes its folder."""

        async def run() -> None:
            self._count += 1
            name = f"t{self._count}"
            folder = self._workspaces.create(name)
            assignment = AssignAttempt(
                attempt_id=name, task_id=name, command="true", timeout_s=60, sandbox=level, allows_network=False
            )
            seen_as = self.host.seen_by_command(folder)
            plan = plan_attempt(assignment, Backend.SPAWNER, seen_as, os.environ, self.host.facts, NO_SETTINGS)
            song = await run_plan(self.host, plan)
            if song.end is None or song.end.exit_code != 0:
                raise SystemExit(f"{level}: {song.refusal or song.end}")
            self._workspaces.wipe(folder)

        return run


async def _spawn() -> None:
    """Run on the bare minimum; in a thread, since it blocks."""
    await asyncio.to_thread(_with_pipes, _spawn_and_wait)


def _spawn_and_wait(command: list[str], actions: list[tuple[int, ...]]) -> None:
    wait(os.posix_spawn(command[0], command, {}, file_actions=actions), command[0])


def _with_pipes(run: Callable[[list[str], list[tuple[int, ...]]], None]) -> None:
    """Make two pipes, run the shell to its end, read them empty."""
    pipes = [os.pipe(), os.pipe()]
    run(SHELL, [(os.POSIX_SPAWN_DUP2, write, number) for number, (_, write) in enumerate(pipes, start=1)])
    for _, write in pipes:
        os.close(write)
    for read, _ in pipes:
        os.read(read, 1)
        os.close(read)


class Others:
    """bubblewrap, several at once."""

    def __init__(self, folder: Path) -> None:
        self._idle = []
        for number in range(AT_ONCE):
            place = folder / str(number)
            place.mkdir(parents=True)
            self._idle.append(Bubblewrap(str(place)))

    async def run(self) -> None:
        """Run one command."""
        bubblewrap = self._idle.pop()
        await asyncio.to_thread(_with_pipes, bubblewrap.run)
        self._idle.append(bubblewrap)


async def _latencies(run: Run, runs: int) -> list[float]:
    times = []
    for _ in range(runs):
        started_at = time.perf_counter()
        await run()
        times.append((time.perf_counter() - started_at) * 1000)
    return times


async def _rate(run: Run, runs: int) -> float:
    gate = asyncio.Semaphore(AT_ONCE)

    async def one() -> None:
        async with gate:
            await run()

    started_at = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(runs)))
    return runs / (time.perf_counter() - started_at)


async def measure(runs: int) -> None:
    """Print a table: median and 95th percentile of one at a time, rate of four at once, ratios to the limit."""
    with tempfile.TemporaryDirectory() as folder:
        ours = Octaskly(Path(folder))
        ways: dict[str, Run] = {"posix_spawn": _spawn}
        ways |= {level.value: ours.at(level) for level in SandboxLevel}
        if shutil.which(BWRAP):
            ways["bubblewrap"] = Others(Path(folder, "others")).run
        times: dict[str, list[float]] = {name: [] for name in ways}
        rates: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(ROUNDS):
            for name, run in ways.items():
                times[name] += await _latencies(run, runs // ROUNDS)
                rates[name].append(await _rate(run, runs // ROUNDS))
        await ours.host.close()
    limit = statistics.median(times["posix_spawn"])
    print(f"{'way':<12} {'p50 ms':>8} {'p95 ms':>8} {'x limit':>8} {AT_ONCE:>6} at once/s")
    for name, taken in times.items():
        p50, p95 = statistics.median(taken), statistics.quantiles(taken, n=20)[-1]
        print(f"{name:<12} {p50:8.2f} {p95:8.2f} {p50 / limit:8.1f} {statistics.median(rates[name]):10.0f}")


def main() -> None:
    """Take the arguments and measure."""
    if sys.platform != "linux":
        sys.exit("the spawner runs on Linux")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=300, help="commands of each kind (default: 300)")
    asyncio.run(measure(max(ROUNDS * 10, parser.parse_args().runs)))


if __name__ == "__main__":
    main()
