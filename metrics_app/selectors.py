"""Reads of what was measured: series for charts, the newest point, the rates of the last minutes."""

from __future__ import annotations

from typing import Any, Final

from django.db.models import Max, Q, QuerySet

from metrics_app.folding import CLUSTER_MEANS, CLUSTER_SUMS, WORKER_MAXIMA, WORKER_MEANS, folded_cluster, folded_workers
from metrics_app.models import ClusterSample, WorkerSample
from metrics_app.steps import FOLDED_S, SAMPLE_S, step_end, step_of_span
from metrics_app.tally import tally

ENDINGS: Final = ("completed", "failed", "cancelled")
DIGITS: Final = 3


def latest_point() -> dict[str, Any] | None:
    """Return the newest point of `stats/history`, None before the first; reads one row of the database."""
    newest = ClusterSample.objects.filter(step_s=SAMPLE_S).order_by("-at").values("at", *CLUSTER_MEANS, *CLUSTER_SUMS)
    row = newest.first()
    return None if row is None else _cluster_point(row)


def recent_rates() -> dict[str, float | None]:
    """Return `completed_per_min`, `failed_per_min` and `failed_ratio` (0 to 1, None when nothing ended).

    Of the tasks that ended in the last five minutes, up to this moment. From memory: ask as often as you like.
    """
    return tally.recent_rates()


def cluster_history(now: float, span_s: float) -> tuple[int, list[dict[str, Any]]]:
    """Return the step in seconds and the cluster's points of the last `span_s` seconds, oldest first."""
    step_s = step_of_span(span_s)
    rows = folded_cluster(_since(ClusterSample.objects.all(), now - span_s, step_s), step_s)
    return step_s, [_cluster_point(row | {"at": min(row["at"], int(now))}) for row in rows]


def worker_history(worker_id: str, now: float, span_s: float) -> tuple[int, list[dict[str, Any]]]:
    """Return the step in seconds and a worker's points of the last `span_s` seconds, oldest first."""
    step_s = step_of_span(span_s)
    rows = folded_workers(_since(WorkerSample.objects.filter(worker_id=worker_id), now - span_s, step_s), step_s)
    return step_s, [
        {"at": min(row["at"], int(now))} | {name: _rounded(row[name]) for name in (*WORKER_MEANS, *WORKER_MAXIMA)}
        for row in rows
    ]


def folded_until() -> int:
    """Return up to which time samples have been made into means."""
    newest: int | None = ClusterSample.objects.filter(step_s=FOLDED_S).aggregate(newest=Max("at"))["newest"]
    return newest or 0


def _since(rows: QuerySet[Any], since: float, step_s: int) -> QuerySet[Any]:
    """Return the rows of all steps that began after a moment: samples, or means and what is not among them yet."""
    rows = rows.filter(at__gt=step_end(since, step_s))
    if step_s == SAMPLE_S:
        return rows.filter(step_s=SAMPLE_S)
    return rows.filter(Q(step_s=FOLDED_S) | Q(step_s=SAMPLE_S, at__gt=folded_until()))


def _cluster_point(row: dict[str, Any]) -> dict[str, Any]:
    return (
        {"at": row["at"]}
        | {name: _rounded(row[name]) for name in CLUSTER_MEANS}
        | {name: row[name] for name in ENDINGS}
        | {
            "commit_ms": _rounded(row["commit_seconds"] * 1000 / row["commits"]) if row["commits"] else None,
            "queue_wait_s": _rounded(row["queue_wait_seconds"] / row["starts"]) if row["starts"] else None,
        }
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, DIGITS)
