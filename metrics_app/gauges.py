"""What is read at the moment of a scrape: how many of what there are, and the latest vitals of connected workers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from django.conf import settings
from prometheus_client.core import GaugeMetricFamily, Metric

from audit_app.selectors import contradictions
from metrics_app.machine import database_bytes, uptime_s
from octaskly_wire.vocabulary import Admission
from tasks_app import counts
from tasks_app.selectors import live_attempts_by_worker
from workers_app.models import Worker
from workers_app.selectors import worker_status

WORKER_STATUSES: Final = ("connected", "draining", "paused", "disconnected", "pending", "suspended", "revoked")

_OF_WORKERS: Final = {
    "octaskly_worker_cpu_percent": "Load of the worker's processors, mean since the reading before.",
    "octaskly_worker_memory_used_bytes": "Memory of the worker's machine that is not available.",
    "octaskly_worker_memory_total_bytes": "Memory of the worker's machine.",
    "octaskly_worker_disk_free_bytes": "Free room on the disk of the worker's state folder.",
    "octaskly_worker_load_1m": "Load of the worker's machine over one minute.",
    "octaskly_worker_slots": "Commands that the worker runs at once.",
    "octaskly_worker_slots_used": "Slots that are taken.",
    "octaskly_worker_round_trip_seconds": "From the last heartbeat to its answer, by the worker's clock.",
}


class Gauges:
    """A collector for a registry: reads the database at each scrape, on the thread of the request."""

    def describe(self) -> Iterator[Metric]:
        """Return nothing: so that registering does not read the database."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Yield the gauges; raises DatabaseError."""
        yield GaugeMetricFamily("octaskly_uptime_seconds", "How long the dispatcher has been up.", uptime_s())
        build = GaugeMetricFamily("octaskly_build_info", "The version; the value is always 1.", labels=["version"])
        build.add_metric([settings.OCTASKLY_VERSION], 1)
        yield build
        size = "Size of the database once all is in its file."
        yield GaugeMetricFamily("octaskly_database_bytes", size, database_bytes())
        contradicted = "Checkpoints that contradict the audit and that no restored backup explains; should be 0."
        yield GaugeMetricFamily("octaskly_audit_contradictions", contradicted, contradictions())
        yield _tasks()
        yield from _workers()


def _tasks() -> Metric:
    family = GaugeMetricFamily("octaskly_tasks", "Tasks in the database by status.", labels=["status"])
    for status, count in counts.of_all().items():
        family.add_metric([status], count)
    return family


def _workers() -> Iterator[Metric]:
    live = live_attempts_by_worker()
    statuses = dict.fromkeys(WORKER_STATUSES, 0)
    used = total = 0
    families = {
        name: GaugeMetricFamily(name, f"{text} Of connected workers, as they last told.", labels=["worker_id", "name"])
        for name, text in _OF_WORKERS.items()
    }
    for worker in Worker.objects.all():
        statuses[worker_status(worker)] += 1
        if not worker.is_connected:
            continue
        slots_used = min(live.get(worker.id, 0), worker.slots)
        used += slots_used
        total += worker.slots if worker.admission == Admission.APPROVED.value else 0
        for name, value in _readings(worker, slots_used).items():
            if value is not None:
                families[name].add_metric([worker.id, worker.name], value)
    by_status = GaugeMetricFamily("octaskly_workers", "Enrolled workers by status.", labels=["status"])
    for status, count in statuses.items():
        by_status.add_metric([status], count)
    yield by_status
    slots = GaugeMetricFamily("octaskly_slots", "Slots of connected, approved workers by state.", labels=["state"])
    slots.add_metric(["used"], used)
    slots.add_metric(["free"], max(total - used, 0))
    yield slots
    yield from families.values()


def _readings(worker: Worker, slots_used: int) -> dict[str, Any]:
    vitals = worker.vitals
    used_bytes = vitals["memory_total_bytes"] - vitals["memory_available_bytes"] if vitals else None
    return {
        "octaskly_worker_cpu_percent": vitals.get("cpu_percent"),
        "octaskly_worker_memory_used_bytes": used_bytes,
        "octaskly_worker_memory_total_bytes": vitals.get("memory_total_bytes"),
        "octaskly_worker_disk_free_bytes": vitals.get("disk_free_bytes"),
        "octaskly_worker_load_1m": vitals.get("load_1m"),
        "octaskly_worker_slots": worker.slots,
        "octaskly_worker_slots_used": slots_used,
        "octaskly_worker_round_trip_seconds": vitals.get("round_trip_seconds"),
    }
