"""Takes samples, makes means of them after a while, and lets go of what is old: short transactions, bounded batches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

from django.db import transaction
from django.db.models import F, QuerySet

from metrics_app import steps
from metrics_app.folding import CLUSTER_MEANS, CLUSTER_SUMS, WORKER_MAXIMA, WORKER_MEANS, folded_cluster, folded_workers
from metrics_app.machine import Machine
from metrics_app.models import ClusterSample, WorkerSample
from metrics_app.selectors import folded_until
from metrics_app.tally import Happened, Tally, tally
from octaskly_wire.vocabulary import Admission
from tasks_app import counts
from tasks_app.selectors import live_attempts_by_worker
from workers_app.models import Worker

REMOVED_ROWS: Final = 500
"""In one transaction."""
MAX_BATCHES: Final = 200
"""Of removals of each kind in one round of housekeeping; what is left over is taken by the next one."""
MAX_FOLDS: Final = 50
"""Long steps in one round: those of more than four hours."""

_CLUSTER_COLUMNS: Final = ("samples", *CLUSTER_MEANS, *CLUSTER_SUMS)
_WORKER_COLUMNS: Final = ("samples", *WORKER_MEANS, *WORKER_MAXIMA)


class Sampler:
    """Writes what stands and what happened, one row a connected worker and one of the cluster a step."""

    def __init__(self, counts: Tally = tally) -> None:
        self._tally = counts
        self._machine = Machine()

    def recall(self, now: float) -> None:
        """Take the endings of the last minutes, which an earlier process counted, into the rates."""
        rows = ClusterSample.objects.filter(step_s=steps.SAMPLE_S, at__gt=now - steps.FOLDED_S, at__lte=now)
        columns = rows.order_by("at").values_list("at", "completed", "failed", "cancelled")
        self._tally.remember(
            (at, Counter(completed=completed, failed=failed, cancelled=cancelled))
            for at, completed, failed, cancelled in columns
        )

    def sample(self, now: float) -> None:
        """Write the samples of the step that ends about now; raises DatabaseError, and the next one tells it, too."""
        at = steps.sample_end(now)
        happened = self._tally.take()
        try:
            workers = _worker_samples(at)
            cluster = self._cluster_sample(at, workers, happened)
            with transaction.atomic():
                _write(WorkerSample, workers, ["worker_id", "step_s", "at"], _WORKER_COLUMNS)
                _write(ClusterSample, [cluster], ["step_s", "at"], _CLUSTER_COLUMNS)
        except BaseException:
            self._tally.give_back(happened)
            raise

    def _cluster_sample(self, at: int, workers: list[WorkerSample], happened: Happened) -> ClusterSample:
        connected = Worker.objects.filter(is_connected=True, admission=Admission.APPROVED.value)
        machine = self._machine.read()
        tasks = counts.of_all()
        return ClusterSample(
            step_s=steps.SAMPLE_S,
            at=at,
            queued=tasks["queued"],
            running=tasks["running"],
            slots_used=sum(sample.slots_used for sample in workers),
            slots_total=sum(connected.values_list("slots", flat=True)),
            workers_connected=len(workers),
            cpu_percent=machine["cpu_percent"],
            memory_mb=machine["memory_mb"],
            database_mb=machine["database_mb"],
            completed=happened.ended["completed"],
            failed=happened.ended["failed"],
            cancelled=happened.ended["cancelled"],
            commits=happened.commits,
            commit_seconds=happened.commit_seconds,
            starts=happened.starts,
            queue_wait_seconds=happened.queue_wait_seconds,
        )


def housekeep(now: float, keep_days: float) -> None:
    """Make means of samples whose long step is over, then let go of what is too old; raises DatabaseError."""
    _fold(now)
    for step_s, cutoff in steps.too_old(now, keep_days).items():
        for rows in (WorkerSample.objects.all(), ClusterSample.objects.all()):
            _remove(rows.filter(step_s=step_s, at__lte=cutoff))


def _worker_samples(at: int) -> list[WorkerSample]:
    live = live_attempts_by_worker()
    connected = Worker.objects.filter(is_connected=True).values_list("id", "slots", "vitals")
    return [
        # What is assigned beyond the slots waits on the worker and uses none.
        _worker_sample(at, worker_id, min(live.get(worker_id, 0), slots), vitals)
        for worker_id, slots, vitals in connected
    ]


def _worker_sample(at: int, worker_id: str, slots_used: int, vitals: dict[str, Any]) -> WorkerSample:
    round_trip_s = vitals.get("round_trip_seconds")
    used = vitals["memory_total_bytes"] - vitals["memory_available_bytes"] if vitals else None
    return WorkerSample(
        step_s=steps.SAMPLE_S,
        at=at,
        worker_id=worker_id,
        cpu_percent=vitals.get("cpu_percent"),
        cpu_percent_max=vitals.get("cpu_percent"),
        memory_used_bytes=used,
        memory_used_bytes_max=used,
        disk_free_bytes=vitals.get("disk_free_bytes"),
        load_1m=vitals.get("load_1m"),
        slots_used=slots_used,
        round_trip_ms=None if round_trip_s is None else round_trip_s * 1000,
    )


def _fold(now: float) -> None:
    """Write the means of each long step that is over, each in one transaction, oldest first."""
    until, since = steps.foldable_until(now), folded_until()
    samples = ClusterSample.objects.filter(step_s=steps.SAMPLE_S, at__gt=since, at__lte=until)
    shifted = F("at") + (steps.FOLDED_S - 1)
    ends = samples.annotate(end=shifted - shifted % steps.FOLDED_S).values_list("end", flat=True).distinct()
    for end in list(ends.order_by("end")[:MAX_FOLDS]):
        step = {"step_s": steps.SAMPLE_S, "at__gt": end - steps.FOLDED_S, "at__lte": end}
        workers = _means(WorkerSample, folded_workers(WorkerSample.objects.filter(**step), steps.FOLDED_S))
        cluster = _means(ClusterSample, folded_cluster(ClusterSample.objects.filter(**step), steps.FOLDED_S))
        with transaction.atomic():
            _write(WorkerSample, workers, ["worker_id", "step_s", "at"], _WORKER_COLUMNS)
            _write(ClusterSample, cluster, ["step_s", "at"], _CLUSTER_COLUMNS)


def _means(model: Any, rows: Iterator[dict[str, Any]]) -> list[Any]:
    return [model(step_s=steps.FOLDED_S, **row) for row in rows]


def _write(model: Any, rows: list[Any], key: list[str], columns: tuple[str, ...]) -> None:
    """Insert rows; where the clock was set back and a step comes again, its newer values stand."""
    model.objects.bulk_create(rows, update_conflicts=True, unique_fields=key, update_fields=columns)


def _remove(rows: QuerySet[Any]) -> None:
    for _ in range(MAX_BATCHES):
        keys = list(rows.order_by("at").values_list("pk", flat=True)[:REMOVED_ROWS])
        rows.model.objects.filter(pk__in=keys).delete()
        if len(keys) < REMOVED_ROWS:
            return
