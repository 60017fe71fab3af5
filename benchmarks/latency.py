"""How long one small command takes on an idle cluster, from the POST until `completed` is seen.

    make bench-latency        (ARGS='--tasks 300')

One after another over a connection that is kept: submit `true`, then wait for it with a long poll, as `octaskly run` and the Python
client do, or with the task's WebSocket, opened for it. Beside it Dask with the same command, and the spawn alone.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable

from websockets.sync.client import connect

from benchmarks.figures import Target, default_cluster, judge, percentile
from benchmarks.http_line import Line
from benchmarks.peers import ROOT, peer
from benchmarks.spawn import SHELL
from benchmarks.spawn_limit import one_after_another
from tests.support.cluster import Cluster

WARM_UP = 20
TURNS = 3
P50_MS, P99_MS = 8.0, 25.0
TARGETED = "basic, long poll"


class Ours:
    """A dispatcher and a worker with nothing to do."""

    def __init__(self, cluster: Cluster) -> None:
        cluster.start_dispatcher()
        cluster.start_worker("alpha", "--min-sandbox", "basic")
        cluster.wait_connected("alpha")
        self._authorization = cluster.api.http.headers["Authorization"]
        self.line = Line(cluster.url.removeprefix("http://"), self._authorization)
        self._sockets = cluster.url.replace("http", "ws", 1)

    def polled(self, level: str) -> None:
        """Submit, and ask to be told of the end."""
        task = self.line.post_json("/api/v1/tasks", {"command": "true", "sandbox": level})
        answer = self.line.post_json("/api/v1/tasks/wait", {"ids": [task["id"]], "timeout": 30})
        if [one["status"] for one in answer["tasks"]] != ["completed"]:
            raise SystemExit(f"{level}: {answer}")

    def watched(self, level: str) -> None:
        """Submit, and watch the task until its end."""
        task = self.line.post_json("/api/v1/tasks", {"command": "true", "sandbox": level})
        address = f"{self._sockets}/ws/tasks/{task['id']}/output"
        with connect(address, additional_headers={"Authorization": self._authorization}) as socket:
            frame = json.loads(socket.recv(30))
            while frame["type"] != "end":
                frame = json.loads(socket.recv(30))
        if frame["status"] != "completed":
            raise SystemExit(f"{level}: {frame}")


def times_ms(act: Callable[[], None], count: int) -> list[float]:
    """Return the milliseconds of each call."""
    times = []
    for _ in range(count):
        began_at = time.perf_counter()
        act()
        times.append((time.perf_counter() - began_at) * 1000)
    return times


def dask_ms(count: int) -> list[float]:
    """Return the milliseconds from submit to result; none where Dask is not to be had."""
    command = peer("dask-latency", str(count))
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False) if command else None
    return [float(line) * 1000 for line in done.stdout.split()] if done and not done.returncode else []


def main() -> int:
    """Measure from the command line; return 1 when a target is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tasks", type=int, default=300, help="of each kind")
    count = max(TURNS, parser.parse_args().tasks)
    with default_cluster() as cluster:
        ours = Ours(cluster)
        ways: dict[str, Callable[[], None]] = {
            "posix_spawn": lambda: one_after_another(SHELL, 1),
            TARGETED: lambda: ours.polled("basic"),
            "basic, WebSocket": lambda: ours.watched("basic"),
            "strict, long poll": lambda: ours.polled("strict"),
        }
        taken_ms: dict[str, list[float]] = {name: [] for name in ways}
        with ours.line:
            for act in ways.values():
                times_ms(act, WARM_UP)
            for _ in range(TURNS):
                for name, act in ways.items():
                    taken_ms[name] += times_ms(act, count // TURNS)
    taken_ms["Dask"] = dask_ms(count)
    limit = percentile(taken_ms["posix_spawn"], 50)
    print(f"{'milliseconds':20} {'p50':>7} {'p95':>7} {'p99':>7} {'x limit':>8}")
    for name, times in taken_ms.items():
        if times:
            figures = [percentile(times, at) for at in (50, 95, 99)]
            print(f"{name:20} " + " ".join(f"{one:7.2f}" for one in figures) + f" {figures[0] / limit:8.1f}")
        else:
            print(f"{name:20} not here")
    return judge(
        [
            Target("basic, p50 in ms", percentile(taken_ms[TARGETED], 50), P50_MS, is_ceiling=True),
            Target("basic, p99 in ms", percentile(taken_ms[TARGETED], 99), P99_MS, is_ceiling=True),
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
