"""Reads of the registry."""

from __future__ import annotations

from collections.abc import Iterable

from octaskly_wire.vocabulary import Admission
from workers_app.models import Worker


def is_draining(worker: Worker) -> bool:
    """Return whether the worker takes nothing new, by an operator's wish or its own."""
    return worker.is_draining or worker.has_begun_drain


def worker_status(worker: Worker) -> str:
    """Return one word for the state a person cares about."""
    if worker.admission != Admission.APPROVED.value:
        return worker.admission
    if not worker.is_connected:
        return "disconnected"
    if is_draining(worker):
        return "draining"
    return "paused" if worker.pause_reason else "connected"


def names_of_workers(ids: Iterable[str | None]) -> dict[str, str]:
    """Return the names of those of these workers that are known, in one query; an id of nothing is passed over."""
    wanted = {worker_id for worker_id in ids if worker_id}
    return dict(Worker.objects.filter(id__in=wanted).values_list("id", "name")) if wanted else {}
