"""`make simulate-growth`: the cores at ten thousand workers and a million tasks, in virtual time.

Prints what a task costs at growing sizes: when the cost stays flat, nothing in the cores walks over all workers
or all tasks. The time is that of everything simulated: dispatcher, workers, network and store; and beside it that of the
engine's decisions alone. ARGS='--workers 100000 --tasks-a-worker 2' goes on to where no machine here has the links.
"""

from __future__ import annotations

import argparse
import gc
import resource
import sys
import time
from typing import Any

from dispatcher.core.config import EngineConfig
from dispatcher.core.reactor import Reactor
from octaskly_wire.messages import AssignAttempt
from tests.simulation.cluster import SimCluster
from tests.simulation.store import BASIC, TaskRow
from tests.simulation.worker import Behaviour, SimWorker
from tests.simulation.world import World
from worker_node.core.outcome import Outcome

SLOTS = 4
DURATION_S = 10.0
SUBMIT_TASKS = 10_000


class TimedReactor:
    """The engine's core, with a clock beside it."""

    def __init__(self, reactor: Reactor) -> None:
        self.seconds = 0.0
        self._reactor = reactor

    def __getattr__(self, name: str) -> Any:
        """Return an event of the core that is timed."""
        event = getattr(self._reactor, name)

        def timed(*arguments: Any, **named: Any) -> Any:
            began = time.process_time()
            effects = event(*arguments, **named)
            self.seconds += time.process_time() - began
            return effects

        setattr(self, name, timed)
        return timed


class GrowingCluster(SimCluster):
    """A cluster without faults: counted, not watched step by step."""

    def __init__(self, workers: int, tasks: int) -> None:
        super().__init__(World(seed=1, trace_lines=0), EngineConfig())
        self.world.after_step = lambda: None
        self.store.keeps_history = False
        self.tasks = tasks
        for number in range(workers):
            worker = self.add_worker(f"w{number:05}", SLOTS)
            self.world.after(self.world.random.uniform(0.0, 5.0), worker.start)
        self.dispatcher.start()
        self.engine = self.dispatcher.reactor = TimedReactor(self.dispatcher.reactor)  # type: ignore[assignment]
        for first in range(0, tasks, SUBMIT_TASKS):
            rows = [TaskRow(f"t{number:07}", BASIC) for number in range(first, min(first + SUBMIT_TASKS, tasks))]
            self.world.after(6.0, self.submit, rows, {})

    def behaviour(self, assignment: AssignAttempt) -> Behaviour:
        """All commands are alike, and do not end in step."""
        return Behaviour(DURATION_S * (0.5 + self.world.random.random()))

    def on_command_started(self, worker: SimWorker, attempt_id: str) -> None:
        """Count."""
        self.counts.executions += 1

    def on_told_committed(self, worker: SimWorker, attempt_id: str, outcome: Outcome) -> None:
        """Count."""
        self.counts.told_committed += 1

    def is_over(self) -> bool:
        """Return whether every outcome has been acknowledged."""
        return self.counts.told_committed == self.tasks


def main() -> int:
    """Run the sizes asked for; return 1 when one loses a task or runs one twice."""
    parser = argparse.ArgumentParser(prog="make simulate-growth", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--workers", type=int, nargs="+", default=[100, 1_000, 10_000])
    parser.add_argument("--tasks-a-worker", type=int, default=100)
    options = parser.parse_args()
    gc.disable()  # It would walk over all that is simulated, which no dispatcher holds.
    print("workers  slots      tasks  virtual s   wall s  cpu us/task  engine's  steps/task  peak RSS MB")
    for workers in options.workers:
        tasks = workers * options.tasks_a_worker
        began, began_cpu = time.perf_counter(), time.process_time()
        cluster = GrowingCluster(workers, tasks)
        is_over = cluster.world.run(1e6, is_over=cluster.is_over)
        wall_s, cpu_s = time.perf_counter() - began, time.process_time() - began_cpu
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(
            f"{workers:7} {workers * SLOTS:6} {tasks:10} {cluster.world.now:10.0f} {wall_s:8.1f}"
            f" {1e6 * cpu_s / tasks:12.0f} {1e6 * cluster.engine.seconds / tasks:9.0f}"
            f" {cluster.world.steps / tasks:11.1f} {peak_mb:12.0f}",
            flush=True,
        )
        ended = sum(row.status == "completed" for row in cluster.store.tasks.values())
        if not is_over or (ended, cluster.counts.executions) != (tasks, tasks):
            print(f"{ended} of {tasks} completed, {cluster.counts.executions} executions")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
