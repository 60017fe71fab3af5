"""Reads of the registry."""

from __future__ import annotations

from octaskly_wire.vocabulary import Admission
from workers_app.models import Worker


def worker_status(worker: Worker) -> str:
    """Return one word for the state a person cares about."""
    if worker.admission != Admission.APPROVED.value:
        return worker.admission
    if not worker.is_connected:
        return "disconnected"
    return "draining" if worker.is_draining else "connected"
