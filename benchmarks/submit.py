"""How fast tasks are taken: lists of them, one by one over a connection that is kept, and over eight at once.

    make bench-submit        (ARGS='--tasks 10000 --rounds 5')

Nothing runs them: they queue. An answer means that the task and its row of the audit are on the disk, so the limit is SQLite alone
on the same disk, in turns: rows of the same size, two a task, as many transactions, each of them synced.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from benchmarks.figures import Target, default_cluster, judge, percentile
from benchmarks.http_line import Line
from benchmarks.peers import ROOT
from tests.support.cluster import Cluster

SINGLE = {1: 400, 8: 300}
"""Connections, and the tasks that come over each in a round."""
ASKED_FOR = {"a list": 15_000, "1 connection": 400, "8 connections": 600}
"""Tasks a second."""
ROW_BYTES = (300, 250)
"""Of a task and of its row of the audit, about."""


class BareTable:
    """SQLite as the dispatcher uses it, with two plain tables and nothing on top."""

    def __init__(self, path: Path) -> None:
        """Make the file."""
        self._database = sqlite3.connect(path, isolation_level=None)
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=FULL")
        for table in range(len(ROW_BYTES)):
            self._database.execute(f"CREATE TABLE t{table} (id INTEGER PRIMARY KEY, row TEXT)")

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def rate(self, tasks: int, in_each: int) -> float:
        """Return tasks a second, so many in each transaction."""
        began_at = time.perf_counter()
        for _ in range(0, tasks, in_each):
            self._database.execute("BEGIN IMMEDIATE")
            for table, size in enumerate(ROW_BYTES):
                rows = (("x" * size,) for _ in range(in_each))
                self._database.executemany(f"INSERT INTO t{table} (row) VALUES (?)", rows)  # noqa: S608 - a number
            self._database.execute("COMMIT")
        return tasks / (time.perf_counter() - began_at)


class Load:
    """Submits to one dispatcher without a worker."""

    def __init__(self, cluster: Cluster) -> None:
        cluster.start_dispatcher()
        self._host = cluster.url.removeprefix("http://")
        self._authorization = cluster.api.http.headers["Authorization"]

    def list_rate(self, count: int) -> float:
        """Return tasks a second of one POST, until its answer has come."""
        body = json.dumps([{"command": "true"}] * count).encode()
        with Line(self._host, self._authorization) as line:
            began_at = time.perf_counter()
            line.post("/api/v1/tasks", body)
            return count / (time.perf_counter() - began_at)

    def single(self, connections: int, count: int) -> tuple[float, list[float]]:
        """Return requests a second of one after another over each connection, and the milliseconds of each."""
        program = [sys.executable, "-m", "benchmarks.submit_load", self._host, str(connections), str(count)]
        done = subprocess.run(
            program, cwd=ROOT, input=self._authorization, stdout=subprocess.PIPE, text=True, check=True
        )
        measured = json.loads(done.stdout)
        return connections * count / measured["seconds"], [1000 * seconds for seconds in measured["times"]]


def rounds_of(load: Load, bare: BareTable, tasks: int, rounds: int) -> Iterator[tuple[str, float, float, list[float]]]:
    """Yield what each turn measured: its name, its rate, the limit's, and the milliseconds of its requests."""
    for _ in range(rounds):
        yield "a list", load.list_rate(tasks), bare.rate(tasks, tasks), []
        for connections, count in SINGLE.items():
            rate, times_ms = load.single(connections, count)
            name = f"{connections} connection{'s' if connections > 1 else ''}"
            yield name, rate, bare.rate(count, 1), times_ms


def main() -> int:
    """Measure from the command line; return 1 when a target is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tasks", type=int, default=10_000, help="in a list")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    rates: dict[str, list[float]] = {name: [] for name in ASKED_FOR}
    limits: dict[str, list[float]] = {name: [] for name in ASKED_FOR}
    times_ms: dict[str, list[float]] = {name: [] for name in ASKED_FOR}
    with default_cluster() as cluster:
        load = Load(cluster)
        load.list_rate(options.tasks)  # Code and caches get warm.
        with closing(BareTable(cluster.folder / "bare.db")) as bare:
            for name, rate, limit, taken_ms in rounds_of(load, bare, options.tasks, options.rounds):
                rates[name].append(rate)
                limits[name].append(limit)
                times_ms[name] += taken_ms
    print(f"{'submitting':16} {'tasks/s':>9} {'SQLite alone':>13} {'x limit':>8} {'p50 ms':>8} {'p99 ms':>8}")
    asked = []
    for name, some in rates.items():
        rate, limit = statistics.median(some), statistics.median(limits[name])
        spread = "".join(f"{percentile(times_ms[name], at):9.2f}" for at in (50, 99)) if times_ms[name] else ""
        print(f"{name:16} {rate:9,.0f} {limit:13,.0f} {rate / limit:8.2f}{spread}")
        asked.append(Target(f"{name}, tasks a second", rate, ASKED_FOR[name]))
    return judge(asked)


if __name__ == "__main__":
    sys.exit(main())
