"""What the page of one worker shows of it, and of the tasks there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from django.db.models import F
from django.db.models.functions import Substr

from dashboard_app.live.cards import worker_card
from dashboard_app.task_words import KIND_OF_STATUS
from octaskly_wire.vocabulary import Admission
from tasks_app.models import Result, Task, TaskStatus
from workers_app.models import Worker
from workers_app.services import ALLOWED_STEPS

CHARTS: Final = (
    ("chart-cpu", "CPU"), ("chart-memory", "Memory in use"), ("chart-slots", "Slots in use"),
    ("chart-round-trip", "Round trip of heartbeats"), ("chart-disk", "Disk free"), ("chart-load", "Load over a minute"),
)  # fmt: skip
LATEST: Final = 50
MAX_LABEL: Final = 80
_KINDS: Final = {
    "connected": "good", "disconnected": "bad", "draining": "warn", "paused": "warn",
    "pending": "warn", "suspended": "warn", "revoked": "bad",
}  # fmt: skip
_STEP_OF_ADMISSION: Final = {
    Admission.APPROVED: "approve",
    Admission.SUSPENDED: "suspend",
    Admission.REVOKED: "revoke",
}
_CAPS: Final = {
    "timeout_s": ("time", "s"), "memory_mb": ("memory", "MB"), "cpu_seconds": ("CPU time", "s"),
    "processes": ("processes", ""), "open_files": ("open files", ""), "disk_mb": ("disk", "MB"),
}  # fmt: skip


def facts_of(worker: Worker) -> dict[str, Any]:
    """Return what the page shows; reads the worker's tasks through their indexes."""
    running = _running(worker.id)
    card = worker_card(worker, len(running))
    state, _, why = card["status_text"].partition(": ")
    return {
        "worker": worker,
        "card": card,
        "kind": _KINDS.get(card["status"], ""),
        "state": state,
        "why": why,
        "steps": steps_of(worker),
        "caps": [
            (_CAPS.get(name, (name, ""))[0], f"{cap:,} {_CAPS.get(name, ('', ''))[1]}".strip())
            for name, cap in worker.max_limits.items()
        ],
        "charts": CHARTS,
        "running": running,
        "latest": _latest(worker.id),
        "latest_most": LATEST,
    }


def steps_of(worker: Worker) -> list[str]:
    """Return the steps that the worker's state allows, as REST names them: what people do most first."""
    targets = ALLOWED_STEPS[Admission(worker.admission)]
    admissions = [step for target, step in _STEP_OF_ADMISSION.items() if target in targets]
    if worker.admission != Admission.APPROVED.value:
        return admissions
    return ["resume" if worker.is_draining else "drain", *admissions]


def _running(worker_id: str) -> list[dict[str, Any]]:
    live = Task.objects.filter(worker_id=worker_id, assigned_at__isnull=False).order_by("id")
    rows = live.values(
        "id", "name", "attempt", "assigned_at", "started_at", "status",
        owner_name=F("owner__username"), head=Substr("command", 1, MAX_LABEL),
    )  # fmt: skip
    return [{**row, "label": _label(row), "is_running": row["status"] == TaskStatus.RUNNING} for row in rows]


def _latest(worker_id: str) -> list[dict[str, Any]]:
    ended = Result.objects.filter(worker_id=worker_id).order_by("-assigned_at")
    rows = ended.values(
        "task_id", "attempt", "state", "outcome", "failure_reason", "exit_code", "duration_ms", "assigned_at",
        task_name=F("task__name"), head=Substr("task__command", 1, MAX_LABEL), owner_name=F("task__owner__username"),
        why=Substr("detail", 1, MAX_LABEL),
    )[:LATEST]  # fmt: skip
    return [
        {
            **row,
            "label": _label(row | {"name": row["task_name"]}),
            "kind": KIND_OF_STATUS.get(row["outcome"] or row["state"], ""),
            "word": row["outcome"] or row["state"],
            "cause": _cause(row),
        }
        for row in rows
    ]


def _label(row: Mapping[str, Any]) -> str:
    return row["name"] or " ".join(row["head"].split()) or row.get("task_id") or row["id"]


def _cause(row: Mapping[str, Any]) -> str:
    """Return why an attempt did not complete, in words; nothing where the outcome says it all."""
    reason = row["failure_reason"]
    if reason == "exit_code":
        return f"exit code {row['exit_code']}"
    return reason.replace("_", " ") if reason and reason != row["outcome"] else row["why"]
