"""Reads of tasks: who sees what, counts, and why a task waits."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Any

import msgspec
from django.db.models import Count, QuerySet

from accounts_app.roles import is_operator
from dispatcher.ports import TaskNeeds, WorkerView, explain_waiting
from octaskly_wire.messages import Limits, UnprovenLevel
from octaskly_wire.vocabulary import Admission, SandboxLevel
from tasks_app.models import Task, TaskStatus
from workers_app.models import Worker
from workers_app.selectors import is_draining


def visible_to(user: Any) -> QuerySet[Task]:
    """Return the tasks this user may know of: operators all, others their own."""
    tasks = Task.objects.select_related("owner")
    return tasks if is_operator(user) else tasks.filter(owner=user)


def live_attempts_by_worker() -> dict[str, int]:
    """Return how many attempts each worker has in hand."""
    rows = Task.objects.filter(assigned_at__isnull=False).values_list("worker_id").annotate(count=Count("id"))
    return {worker_id: count for worker_id, count in rows if worker_id}


def task_counts(user: Any) -> dict[str, int]:
    """Return how many of the visible tasks are in each status."""
    rows = visible_to(user).order_by().values_list("status").annotate(count=Count("id"))
    return {status.value: 0 for status in TaskStatus} | dict(rows)


def worker_counts() -> dict[str, int]:
    """Return how many workers there are, how many run something, and how many are ready and idle."""
    live = live_attempts_by_worker()
    approved = Worker.objects.filter(admission=Admission.APPROVED.value, is_connected=True)
    states = Counter("active" if live.get(worker_id) else "idle" for worker_id in approved.values_list("id", flat=True))
    return {"total": Worker.objects.count(), "active": states["active"], "idle": states["idle"]}


def why(task: Task) -> dict[str, Any]:
    """Return in plain words why the task waits, worker by worker."""
    status = TaskStatus(task.status)
    workers: list[dict[str, Any]] = []
    if status is TaskStatus.RUNNING:
        message = f"The task runs on worker {task.worker_id}."
    elif status is not TaskStatus.QUEUED:
        message = f"The task has ended: it is {status.value}."
    elif task.assigned_at is not None:
        message = f"The task was given to worker {task.worker_id} and is about to start."
    elif task.available_at > datetime.now(UTC):
        moment = task.available_at.isoformat(timespec="seconds").replace("+00:00", "Z")
        message = f"The task failed before and is tried again at {moment}."
    else:
        explanations = explain_waiting(_needs(task), worker_views())
        workers = [
            {
                "worker_id": explanation.worker_id,
                "name": explanation.worker_name,
                "reason": explanation.reason,
                "is_lasting": explanation.is_lasting,
            }
            for explanation in explanations
        ]
        message = _summary(task, workers)
    return {"status": status.value, "message": message, "workers": workers}


def worker_views() -> list[WorkerView]:
    """Return all workers that were not revoked as placement sees them."""
    live = live_attempts_by_worker()
    return [
        _view(worker, live.get(worker.id, 0)) for worker in Worker.objects.exclude(admission=Admission.REVOKED.value)
    ]


def _view(worker: Worker, live_attempts: int) -> WorkerView:
    caps = dict(worker.max_limits)
    max_timeout_s = caps.pop("timeout_s", None)
    return WorkerView(
        worker_id=worker.id,
        name=worker.name,
        admission=Admission(worker.admission),
        is_connected=worker.is_connected,
        is_draining=is_draining(worker),
        levels=frozenset(SandboxLevel(proof["level"]) for proof in worker.levels),
        allows_network=worker.allows_network,
        memory_mb=worker.memory_total_bytes >> 20,
        slots=worker.slots,
        live_attempts=live_attempts,
        pause_reason=worker.pause_reason,
        max_limits=msgspec.convert(caps, Limits),
        max_timeout_s=max_timeout_s,
        unproven=msgspec.convert(worker.levels_unproven, list[UnprovenLevel]),
    )


def _needs(task: Task) -> TaskNeeds:
    limits = msgspec.convert(task.limits, Limits)
    return TaskNeeds(SandboxLevel(task.sandbox), task.network, limits, task.timeout_s)


def _summary(task: Task, workers: list[dict[str, Any]]) -> str:
    if not workers:
        return "There is no worker. Join a machine: make a join token and start python -m worker_node there."
    if all(worker["is_lasting"] for worker in workers):
        asked = {"sandbox": task.sandbox, "network": "yes" if task.network else "no", **task.limits}
        asked["timeout"] = f"{task.timeout_s} s"
        return (
            f"No worker can run this task as it is ({', '.join(f'{name} {value}' for name, value in asked.items())})."
        )
    return "The task waits for a worker that can run it to become free."
