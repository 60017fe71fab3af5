"""How many commands a second pass through dispatcher, worker and sandbox, beside the machine's limit and other systems.

    make bench-throughput        (ARGS='--tasks 5000 --rounds 3 --slots 4')

All tasks, `true` each, come in one POST; the time is from its first byte until the last one is `completed`, as a look into the
database sees it 50 times a second. Everything is as it is by default: TLS, each commit on the disk, the audit trail. Every round
starts programs of its own, ours and the others' in turns, so that nobody idles beside who is measured. The limit is a small
program that spawns `sh -c true`; for `strict` it is bubblewrap with the same isolation, spawned in the same way.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

import psutil

from benchmarks.figures import Target, cpu_s, default_cluster, family, judge
from benchmarks.peers import Run, Stopwatch, bubblewrap, parallel, peer, spawning, timed
from benchmarks.spawn import SHELL
from tests.support.cluster import Cluster

LEVELS = ("basic", "strict")
WARM_UP = 1000
"""Commands before those that are measured, here as with the other systems."""
LOOK_EVERY_S = 0.02
LONGEST_S = 300.0
LIMITS = ("spawn limit, one process", "spawn limit, a process each")
DASKS = ("Dask, 1 thread a process", "Dask, 2 threads a process")
PENDING = "SELECT EXISTS (SELECT 1 FROM tasks WHERE status IN ('queued', 'running'))"


@dataclass(frozen=True, slots=True)
class Shares:
    """Whose processor time a task took, in microseconds; the sandbox's contains that of the command."""

    dispatcher: float
    worker: float
    sandbox: float


class Ours:
    """One dispatcher and one worker, started for one round."""

    def __init__(self, cluster: Cluster, slots: int) -> None:
        self._cluster = cluster
        self._dispatcher = cluster.start_dispatcher()
        self._worker = cluster.start_worker("alpha", "--min-sandbox", "basic", slots=slots)
        cluster.wait_connected("alpha")

    def run(self, level: str, count: int) -> tuple[Run, Shares]:
        """Run so many tasks; return how long that took and who was busy."""
        body = json.dumps([{"command": "true", "sandbox": level}] * count)
        with closing(sqlite3.connect(f"file:{self._cluster.db_path}?mode=ro", uri=True, timeout=10)) as database:
            before = self._cpu_s()
            watch = Stopwatch()
            answer = self._cluster.api.http.post(
                "/api/v1/tasks", content=body, headers={"Content-Type": "application/json"}
            )
            began_at = time.monotonic()
            while database.execute(PENDING).fetchone()[0]:
                if time.monotonic() - began_at > LONGEST_S:
                    raise SystemExit(f"{level}: not done in {LONGEST_S:g} s")
                time.sleep(LOOK_EVERY_S)
            run = watch.run(count)
        shares = [(after - was) / count * 1e6 for after, was in zip(self._cpu_s(), before, strict=True)]
        wrong = self._cluster.rows("SELECT count(*) FROM tasks WHERE status != 'completed'")[0][0]
        if answer.status_code != 201 or wrong:
            raise SystemExit(f"{level}: {answer.status_code}, {wrong} tasks are not completed")
        return run, Shares(*shares)

    def _cpu_s(self) -> tuple[float, float, float]:
        node, started = family(self._worker.pid)
        dispatcher = psutil.Process(self._dispatcher.pid)
        return cpu_s([dispatcher], with_reaped=True), cpu_s([node]), cpu_s(started, with_reaped=True)


def others(count: int, slots: int) -> dict[str, Callable[[], Run | None]]:
    """Return what ours is measured beside."""
    half = max(1, slots // 2)
    commands = {
        LIMITS[0]: spawning("one", slots, count, SHELL),
        LIMITS[1]: spawning("processes", slots, count, SHELL),
        "bubblewrap": bubblewrap(slots, count, SHELL),
        "HyperQueue": peer("hyperqueue", str(count), "--workers", str(slots)),
        DASKS[0]: peer("dask", str(count), "--workers", str(slots), "--threads", "1"),
        DASKS[1]: peer("dask", str(count), "--workers", str(half), "--threads", str(slots // half)),
        "GNU Parallel": parallel(slots, count),
    }
    return {name: lambda command=command: timed(command, count) for name, command in commands.items()}


def measure(count: int, rounds: int, slots: int) -> tuple[dict[str, list[Run]], dict[str, list[Shares]]]:
    """Return the runs of everybody, a round after the other, and the shares of ours."""
    runs: dict[str, list[Run]] = {}
    shares: dict[str, list[Shares]] = {level: [] for level in LEVELS}
    for _ in range(rounds):
        with default_cluster() as cluster:
            ours = Ours(cluster, slots)
            for level in LEVELS:
                ours.run(level, WARM_UP)
                run, share = ours.run(level, count)
                runs.setdefault(level, []).append(run)
                shares[level].append(share)
        for name, run_other in others(count, slots).items():
            other = run_other()
            runs.setdefault(name, []).extend([other] if other else [])
    return runs, shares


def main() -> int:
    """Measure from the command line; return 1 when a target is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tasks", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--slots", type=int, default=4, help="commands at once, for everybody")
    options = parser.parse_args()
    runs, shares = measure(options.tasks, options.rounds, options.slots)
    rates = {name: statistics.median(run.rate for run in some) for name, some in runs.items() if some}
    limit = max(rates[name] for name in LIMITS)
    print(f"{options.tasks} commands, {options.slots} at once, median of {options.rounds}")
    print(f"{'way':30} {'commands/s':>10} {'x limit':>8} {'machine, us of cpu each':>24}")
    for name, some in runs.items():
        if name in rates:
            cpu_us = statistics.median(run.cpu_us for run in some)
            print(f"{name:30} {rates[name]:10.0f} {rates[name] / limit:8.2f} {cpu_us:24.0f}")
        else:
            print(f"{name:30} {'not here':>10}")
    print(f"\n{'us of cpu a task':30} {'dispatcher':>10} {'worker':>8} {'sandbox':>8}")
    for level, some in shares.items():
        parts = (statistics.median(getattr(share, part) for share in some) for part in Shares.__slots__)
        print(f"{level:30} {next(parts):10.0f} {next(parts):8.0f} {next(parts):8.0f}")
    return judge(targets(rates, limit))


def targets(rates: dict[str, float], limit: float) -> list[Target]:
    """Return what must hold beside those that were measured."""
    basic, strict = (rates[level] for level in LEVELS)
    asked = [Target("basic, beside half the limit", basic, limit / 2)]
    dask = max((rates[name] for name in DASKS if name in rates), default=0)
    for name, rate in (("HyperQueue", rates.get("HyperQueue")), ("Dask", dask)):
        if rate:
            asked.append(Target(f"basic, beside twice {name}", basic, 2 * rate))
    if "bubblewrap" in rates:
        asked.append(Target("strict, beside bubblewrap", strict, rates["bubblewrap"]))
    return asked


if __name__ == "__main__":
    sys.exit(main())
