"""Makes one row of many, in the database: means weighed by what they stand for, maxima, sums."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from django.db.models import F, Max, Q, QuerySet, Sum

from metrics_app.models import ClusterSample, WorkerSample

WORKER_MEANS: Final = ("cpu_percent", "memory_used_bytes", "disk_free_bytes", "load_1m", "slots_used", "round_trip_ms")
WORKER_MAXIMA: Final = ("cpu_percent_max", "memory_used_bytes_max")
CLUSTER_MEANS: Final = (
    "queued", "running", "slots_used", "slots_total", "workers_connected", "cpu_percent", "memory_mb", "database_mb",
)  # fmt: skip
CLUSTER_SUMS: Final = (
    "completed", "failed", "cancelled", "commits", "commit_seconds", "starts", "queue_wait_seconds",
)  # fmt: skip


def folded_cluster(rows: QuerySet[ClusterSample], step_s: int) -> Iterator[dict[str, Any]]:
    """Return the cluster's rows as one a step, oldest first; a step without rows has none."""
    return _folded(rows, step_s, (), means=CLUSTER_MEANS, sums=CLUSTER_SUMS)


def folded_workers(rows: QuerySet[WorkerSample], step_s: int) -> Iterator[dict[str, Any]]:
    """Return the workers' rows as one a worker and step, oldest first."""
    return _folded(rows, step_s, ("worker_id",), means=WORKER_MEANS, maxima=WORKER_MAXIMA)


def _folded(
    rows: QuerySet[Any],
    step_s: int,
    keys: tuple[str, ...],
    *,
    means: tuple[str, ...],
    maxima: tuple[str, ...] = (),
    sums: tuple[str, ...] = (),
) -> Iterator[dict[str, Any]]:
    # As `steps.step_end` does it: what ends exactly with a step belongs to it.
    shifted = F("at") + (step_s - 1)
    columns = {name: _mean(name) for name in means}
    columns |= {name: Max(name) for name in maxima} | {name: Sum(name) for name in (*sums, "samples")}
    # An annotation may not have the name of a column.
    prefixed = {f"of_{name}": column for name, column in columns.items()}
    grouped = rows.annotate(of_at=shifted - shifted % step_s).values(*keys, "of_at").annotate(**prefixed)
    for row in grouped.order_by("of_at", *keys).iterator():
        yield {name.removeprefix("of_"): value for name, value in row.items()}


def _mean(name: str) -> Any:
    """Return the mean over those samples that have the value, null when none has."""
    return Sum(F(name) * F("samples")) / Sum("samples", filter=Q(**{f"{name}__isnull": False}))
