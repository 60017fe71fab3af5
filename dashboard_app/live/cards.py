"""How live events show a worker, a task and an entry of the audit. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from audit_app.models import AuditEntry
from tasks_app.api.representation import utc_text
from workers_app.models import Worker
from workers_app.selectors import worker_status

MAX_COMMAND: Final = 200
MAX_REASON: Final = 200


def worker_card(worker: Worker, live_attempts: int) -> dict[str, Any]:
    """Return a worker as it is shown; what it has not told yet is null."""
    status = worker_status(worker)
    round_trip_s = worker.vitals.get("round_trip_seconds")
    return {
        "id": worker.id,
        "name": worker.name,
        "status": status,
        "status_text": _status_text(worker, status),
        "is_draining": worker.is_draining,
        "slots": worker.slots,
        # What is assigned beyond the slots waits on the worker and uses none.
        "slots_used": min(live_attempts, worker.slots),
        "cpu_count": worker.cpu_count,
        "cpu_percent": worker.vitals.get("cpu_percent"),
        "memory_total_bytes": worker.memory_total_bytes,
        "memory_available_bytes": worker.vitals.get("memory_available_bytes"),
        "disk_free_bytes": worker.vitals.get("disk_free_bytes"),
        "load_1m": worker.vitals.get("load_1m"),
        "round_trip_ms": None if round_trip_s is None else round(1000 * round_trip_s, 1),
        "levels": [proof["level"] for proof in worker.levels],
        "allows_network": worker.allows_network,
        "address": worker.address,
        "platform": worker.platform,
        "last_seen_at": utc_text(worker.last_seen_at),
        "connected_at": utc_text(worker.connected_at),
        "admission": worker.admission,
    }


def _status_text(worker: Worker, status: str) -> str:
    match status:
        case "pending":
            detail = "waits for approval"
        case "suspended" | "revoked":
            detail = worker.admission_reason
        case "draining":
            detail = "takes nothing new" if worker.is_draining else "it is stopping"
        case "paused":
            detail = worker.pause_reason
        case "disconnected":
            detail = "" if worker.connected_at else "it has never connected"
        case _:
            detail = ""
    return f"{status}: {detail[:MAX_REASON]}" if detail else status


def task_row(task: Mapping[str, Any], worker_names: Mapping[str, str]) -> dict[str, Any]:
    """Return a task as it is shown, out of its columns, the owner's name and the beginning of its command."""
    worker_id = task["worker_id"]
    same = (
        "id",
        "name",
        "status",
        "worker_id",
        "attempt",
        "exit_code",
        "duration_ms",
        "failure_reason",
        "priority",
        "timeout_s",
    )
    return {
        **{name: task[name] for name in same},
        "command": task["command_head"],
        "owner": task["owner__username"],
        "worker_name": worker_names.get(worker_id),
        "created_at": utc_text(task["created_at"]),
        "started_at": utc_text(task["started_at"]),
        "completed_at": utc_text(task["completed_at"]),
        "cancel_requested": task["cancel_requested_at"] is not None,
    }


def event_line(entry: AuditEntry, worker_names: Mapping[str, str], text: str) -> dict[str, Any]:
    """Return an entry of the audit as it is shown; ids of nothing are null."""
    return {
        "id": entry.id,
        "at": utc_text(entry.timestamp),
        "event_type": entry.event_type,
        "actor": entry.actor,
        "worker_id": entry.worker_id or None,
        "worker_name": worker_names.get(entry.worker_id),
        "task_id": entry.task_id or None,
        "text": text,
    }
