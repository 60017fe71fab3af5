"""What the benchmark programs share: percentiles, a table of targets, what processes cost, and a cluster as it is by default."""

from __future__ import annotations

import contextlib
import math
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.support.cluster import Cluster

DEFAULTS = {
    "OCTASKLY_HEARTBEAT_S": "5",
    "OCTASKLY_LEASE_S": "30",
    "OCTASKLY_RECONNECT_GRACE_S": "60",
    "OCTASKLY_LOG": "warn",
    "OCTASKLY_MAX_REQUESTS_PER_S": "0",
    "PYTHONDONTWRITEBYTECODE": "",
}
"""What a dispatcher does unless told otherwise, where the tests' cluster is in more of a hurry; no limit of requests."""
MIB = 1 << 20


@contextlib.contextmanager
def default_cluster() -> Iterator[Cluster]:
    """Yield a cluster in a temporary folder, nothing of it started; it ends with the block."""
    with tempfile.TemporaryDirectory(prefix="octaskly-bench-") as name:
        cluster = Cluster(Path(name), **DEFAULTS)
        try:
            yield cluster
        finally:
            cluster.close()


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest value that so many per cent of the values do not exceed."""
    return sorted(values)[max(1, math.ceil(len(values) * percent / 100)) - 1]


@dataclass(frozen=True, slots=True)
class Target:
    """A figure and what it has to be: at least the bound, or at most."""

    what: str
    measured: float
    bound: float
    is_ceiling: bool = False

    @property
    def is_met(self) -> bool:
        """Return whether the figure is on the right side."""
        return self.measured <= self.bound if self.is_ceiling else self.measured >= self.bound


def judge(targets: Iterable[Target]) -> int:
    """Print the targets beside what was measured; return the program's exit code, 1 when one was missed."""
    print(f"\n{'target':44} {'measured':>10} {'asked for':>13} {'ratio':>7}")
    is_met = True
    for target in targets:
        is_met = is_met and target.is_met
        sign = "<=" if target.is_ceiling else ">="
        print(
            f"{target.what:44} {shown(target.measured):>10} {sign:>2} {shown(target.bound):>10}"
            f" {target.measured / target.bound:7.2f}{'' if target.is_met else '  MISSED'}",
            flush=True,
        )
    return 0 if is_met else 1


def shown(value: float) -> str:
    """Return a figure with the digits that matter."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def family(pid: int) -> tuple[psutil.Process, list[psutil.Process]]:
    """Return a process and what it has started, directly or not."""
    process = psutil.Process(pid)
    return process, process.children(recursive=True)


def cpu_s(processes: Iterable[psutil.Process], *, with_reaped: bool = False) -> float:
    """Return the processor seconds of living processes, with those of the children that they have reaped if asked."""
    total = 0.0
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
            total += times.children_user + times.children_system if with_reaped else 0.0
    return total


def machine_cpu_s() -> float:
    """Return the processor seconds that this machine has been busy, the kernel's own work included."""
    times = psutil.cpu_times()
    return times.user + times.system + times.nice + times.irq + times.softirq
