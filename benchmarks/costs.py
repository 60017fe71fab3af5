"""What a dispatcher and a worker cost while nothing happens: memory and processor.

    make bench-costs        (ARGS='--settle 30 --seconds 20')

Both are started for the second time, as they are every day but the first: the database is made, the worker has joined, and nothing is
compiled any more. A few tasks run first, so that the supervisors are there and whatever is loaded late is loaded. The limit is a Python
with asyncio that sleeps. RSS counts pages that processes share once for each, PSS in parts.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass

import psutil

from benchmarks.figures import MIB, Target, cpu_s, default_cluster, family, judge
from tests.support.cluster import Cluster
from tests.support.programs import Program

BARE = [sys.executable, "-c", "import asyncio; asyncio.run(asyncio.sleep(3600))"]
TASKS_BEFORE = 40
Group = tuple[str, list[psutil.Process]]


@dataclass(frozen=True, slots=True)
class Cost:
    """What a group of processes has taken."""

    processes: int
    rss_mb: float
    pss_mb: float
    cpu_percent: float


def measure(groups: list[Group], seconds: float) -> dict[str, Cost]:
    """Return what each group takes, its processor over the next seconds."""
    before = [cpu_s(processes) for _, processes in groups]
    began_at = time.monotonic()
    time.sleep(seconds)
    passed_s = time.monotonic() - began_at
    costs = {}
    for (name, processes), cpu_before_s in zip(groups, before, strict=True):
        memory = [process.memory_full_info() for process in processes]
        costs[name] = Cost(
            len(processes),
            sum(one.rss for one in memory) / MIB,
            sum(one.pss for one in memory) / MIB,
            (cpu_s(processes) - cpu_before_s) / passed_s * 100,
        )
    return costs


def _start(cluster: Cluster) -> tuple[Program, Program]:
    dispatcher, worker = cluster.start_dispatcher(), cluster.start_worker("alpha")
    cluster.wait_connected("alpha")
    return dispatcher, worker


def idle_costs(settle_s: float, seconds: float) -> dict[str, Cost]:
    """Return the costs of all programs of an idle cluster, and of the bare Python beside it."""
    with default_cluster() as cluster:
        _start(cluster)
        for program in reversed(cluster.programs):
            program.stop()
        dispatcher, worker = _start(cluster)
        bare = cluster.run("bare", BARE)
        cluster.wait_ended(*(task["id"] for task in cluster.api.post("tasks", [{"command": "true"}] * TASKS_BEFORE)))
        time.sleep(settle_s)
        node, started = family(worker.pid)
        spawner = node.children()
        groups = [
            ("bare Python", [psutil.Process(bare.pid)]),
            ("dispatcher", [psutil.Process(dispatcher.pid), *family(dispatcher.pid)[1]]),
            ("worker", [node]),
            ("  its spawner", spawner),
            ("  its supervisors", [one for one in started if one not in spawner]),
            ("worker with all", [node, *started]),
        ]
        return measure(groups, seconds)


def main() -> int:
    """Measure from the command line; return 1 when a program takes more than it may."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--settle", type=float, default=30.0, help="seconds before the measurement")
    parser.add_argument("--seconds", type=float, default=20.0, help="of the measurement")
    options = parser.parse_args()
    costs = idle_costs(options.settle, options.seconds)
    limit = costs["bare Python"]
    print(f"{'idle':18} {'processes':>9} {'RSS MiB':>8} {'PSS MiB':>8} {'x limit':>8} {'cpu %':>7}")
    for name, cost in costs.items():
        print(
            f"{name:18} {cost.processes:9} {cost.rss_mb:8.1f} {cost.pss_mb:8.1f} {cost.rss_mb / limit.rss_mb:8.1f}"
            f" {cost.cpu_percent:7.2f}"
        )
    worker, dispatcher = costs["worker"], costs["dispatcher"]
    return judge(
        [
            Target("worker, RSS in MiB", worker.rss_mb, 40, is_ceiling=True),
            Target("worker, per cent of a processor", worker.cpu_percent, 1, is_ceiling=True),
            Target("dispatcher, RSS in MiB", dispatcher.rss_mb, 120, is_ceiling=True),
            Target("dispatcher, per cent of a processor", dispatcher.cpu_percent, 2, is_ceiling=True),
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
