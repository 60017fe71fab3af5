"""A thousand workers on one dispatcher: whether their heartbeats are answered in time, and how fast they get tasks.

    .venv/bin/python -m benchmarks.workers [--workers 1000] [--tasks 20000] [--idle 20]

A real dispatcher, and one process that holds the links of all workers (`crowd`): real enrolments with one join token, real TLS,
the real protocol, default heartbeats and leases; what is told to run ends at once, without a sandbox. Beside it stands a TLS
server that exchanges the same messages and does nothing else (`bare_dispatcher`): that is what loop, TLS and codec allow here.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import psutil

from octaskly_wire.join_token import JoinToken
from tests.support.cluster import Cluster

A_POST = 5_000
SETTINGS = {
    "OCTASKLY_LOG": "warn",
    "OCTASKLY_HEARTBEAT_S": "5",
    "OCTASKLY_LEASE_S": "30",
    "OCTASKLY_RECONNECT_GRACE_S": "60",
    "OCTASKLY_MAX_REQUESTS_PER_S": "0",
}
MAX_DELAY_MS = 1_000.0
MIN_RATE = 1_000.0


class Companion:
    """A program of this benchmark that answers each line with a line."""

    def __init__(self, *command: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._name = command[0]

    def read(self) -> str:
        """Return its next line."""
        line = cast("IO[str]", self.process.stdout).readline()
        if not line:
            raise SystemExit(f"{self._name} ended")
        return line

    def ask(self, line: object) -> Any:
        """Return what it answers to a line."""
        asking = cast("IO[str]", self.process.stdin)
        asking.write(f"{line}\n")
        asking.flush()
        return json.loads(self.read())


@contextmanager
def companion(*command: str) -> Iterator[Companion]:
    """Run a program of this benchmark."""
    made = Companion(*command)
    try:
        yield made
    finally:
        made.process.kill()
        made.process.wait()


@dataclass
class Span:
    """What a step took: of the clock, and of the dispatcher."""

    seconds: float = 0.0
    cpu_s: float = 0.0
    grown_bytes: int = 0


class Meter:
    """Measures a process over steps."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)

    @property
    def rss(self) -> int:
        """Return the memory it has now, in bytes."""
        return int(self._process.memory_info().rss)

    @contextmanager
    def over(self) -> Iterator[Span]:
        """Measure what happens within."""
        span, began, rss, cpu_s = Span(), time.perf_counter(), self.rss, self._cpu_s()
        yield span
        span.seconds = time.perf_counter() - began
        span.cpu_s = self._cpu_s() - cpu_s
        span.grown_bytes = self.rss - rss

    def _cpu_s(self) -> float:
        times = self._process.cpu_times()
        return float(times.user + times.system)


def measure(cluster: Cluster, workers: int, tasks: int, idle_s: float) -> bool:
    """Print what a dispatcher with so many workers does; return whether it keeps what is promised."""
    dispatcher = cluster.start_dispatcher()
    meter = Meter(dispatcher.pid)
    token = cluster.join_token(uses=workers)
    empty = meter.rss
    with companion("benchmarks.crowd", "127.0.0.1", str(cluster.port)) as crowd:
        with meter.over() as span:
            crowd.ask(f"enrol {workers} {token}")
        _print("enrolling", span, f"{workers / span.seconds:.0f}/s", per=workers)
        with meter.over() as span:
            seen = crowd.ask("connect")
        trouble = f"{seen['failed']} tries failed"
        _print("connecting all at once", span, f"{workers / span.seconds:.0f}/s, {trouble}", per=workers)
        _print_delays(seen)
        time.sleep(SETTLE_S)
        crowd.ask("look")
        with meter.over() as span:
            time.sleep(idle_s)
            idle = crowd.ask("look")
        _print("nothing to do", span, f"{100 * span.cpu_s / span.seconds:.1f} % of a core", per=idle["heartbeats"])
        _print_delays(idle)
        print(f"    memory: {(meter.rss - empty) / workers / 1024:.1f} KiB a worker, {meter.rss >> 20} MiB in all")
        with meter.over() as span:
            began_at = time.time()
            for first in range(0, tasks, A_POST):
                body = [{"command": "true", "sandbox": "basic"}] * min(A_POST, tasks - first)
                cluster.api.post("tasks", body)
            posted_at = time.time()
            busy = crowd.ask(f"until {tasks}")
        rate = tasks / (busy["last_at"] - began_at)
        rest = (
            f"{rate:.0f}/s dispatched and completed; the {-(-tasks // A_POST)} POSTs took {posted_at - began_at:.1f} s"
        )
        _print(f"{tasks} tasks", span, rest, per=tasks)
        _print_delays(busy)
        print(
            f"    the crowd itself took {1e6 * busy['cpu_s'] / tasks:.0f} us a task, {busy['linked']} linked at the end"
        )
    [(completed,)] = cluster.rows("SELECT count(*) FROM tasks WHERE status = 'completed'")
    print(f"    {completed} of {tasks} completed in the database")
    late = max(idle["p99_ms"], busy["p99_ms"])
    return completed == tasks and busy["linked"] == workers and late < MAX_DELAY_MS and rate > MIN_RATE


def measure_limit(workers: int, tasks: int) -> None:
    """Print what the same links carry where nothing is decided or kept."""
    with companion("benchmarks.bare_dispatcher") as bare:
        port, token = bare.read().split()
        meter = Meter(bare.process.pid)
        with companion("benchmarks.crowd", "127.0.0.1", port) as crowd:
            crowd.ask(f"enrol {workers} {JoinToken.parse(token).text}")
            with meter.over() as span:
                crowd.ask("connect")
            _print("bare TLS: connecting", span, f"{workers / span.seconds:.0f}/s", per=workers)
            with meter.over() as span:
                seconds = bare.ask(tasks)
            _print(f"bare TLS: {tasks} tasks", span, f"{tasks / seconds:.0f}/s", per=tasks)


def _print(title: str, span: Span, rest: str, *, per: int) -> None:
    each = 1e6 * span.cpu_s / max(per, 1)
    print(f"{title:24} {span.seconds:6.1f} s, cpu {span.cpu_s:6.2f} s ({each:.0f} us each): {rest}", flush=True)


def _print_delays(seen: dict[str, Any]) -> None:
    delays = ", ".join(f"{name} {seen[f'{name}_ms']:.1f}" for name in ("p50", "p99", "max"))
    if seen["lost"]:
        print(f"    {seen['lost']} links were lost")
    print(f"    heartbeats: {seen['heartbeats']}, from due to acknowledged, ms: {delays}", flush=True)


SETTLE_S = 6.0
"""After connecting: a little more than a heartbeat."""


def main() -> int:
    """Measure; return 1 when heartbeats are late, tasks are slow, or any is lost."""
    parser = argparse.ArgumentParser(prog="benchmarks.workers", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--workers", type=int, default=1_000)
    parser.add_argument("--tasks", type=int, default=20_000)
    parser.add_argument("--idle", type=float, default=20.0, metavar="SECONDS")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="octaskly-workers-") as name:
        cluster = Cluster(Path(name), **SETTINGS)
        try:
            is_good = measure(cluster, options.workers, options.tasks, options.idle)
        finally:
            cluster.close()
    measure_limit(options.workers, options.tasks)
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
