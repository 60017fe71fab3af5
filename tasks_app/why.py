"""Why a task waits: in a sentence where it stands, and worker by worker what stands against it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from django.db import connection

from accounts_app.roles import is_operator
from dispatcher.ports import Explanation, TaskNeeds, WorkerView, closest, explain_waiting, lasting_obstacle
from octaskly_wire.plain_words import span
from tasks_app.models import Task, TaskStatus
from tasks_app.worker_views import needs_of, worker_views

MAX_COUNTED_AHEAD: Final = 1_000

# Within one class the partial index tasks_ready is the order of the queue, so both parts end after so many entries.
_AHEAD: Final = (
    "SELECT 1 FROM tasks WHERE status = 'queued' AND assigned_at IS NULL AND cancel_requested_at IS NULL"
    " AND NOT is_paused"
    " AND sandbox = %s AND network = %s"
)
AHEAD_QUERY: Final = (
    f"SELECT (SELECT count(*) FROM ({_AHEAD} AND priority > %s LIMIT %s))"  # noqa: S608 - constants
    f" + (SELECT count(*) FROM ({_AHEAD} AND priority = %s AND id < %s LIMIT %s))"
)


def why(task: Task, viewer: Any) -> dict[str, Any]:
    """Return in plain words why the task waits, worker by worker, as this user may know it."""
    status = TaskStatus(task.status)
    workers: list[dict[str, Any]] = []
    now = datetime.now(UTC)
    if status is TaskStatus.RUNNING:
        message = f"The task runs on worker {task.worker_id}."
    elif status is not TaskStatus.QUEUED:
        message = f"The task has ended: it is {status.value}."
    elif task.assigned_at is not None:
        message = f"The task was given to worker {task.worker_id} and is about to start."
    elif task.available_at > now:
        moment = task.available_at.isoformat(timespec="seconds").replace("+00:00", "Z")
        left = span((task.available_at - now).total_seconds() + 1)
        message = f"The task failed before and is tried again in {left} (at {moment})."
    else:
        needs, views = needs_of(task), worker_views(for_operators=is_operator(viewer))
        explanations = explain_waiting(needs, views)
        workers = [_shown(explanation) for explanation in explanations]
        message = _summary(task, needs, views, explanations)
    return {"status": status.value, "message": message, "workers": workers}


def _shown(explanation: Explanation) -> dict[str, Any]:
    return {
        "worker_id": explanation.worker_id,
        "name": explanation.worker_name,
        "reason": explanation.reason,
        "is_lasting": explanation.is_lasting,
    }


def _summary(task: Task, needs: TaskNeeds, views: Sequence[WorkerView], explanations: Sequence[Explanation]) -> str:
    if not explanations:
        return "There is no worker. Join a machine: make a join token and start python -m worker_node there."
    if all(explanation.is_lasting for explanation in explanations):
        return closest(needs, views)
    able = [view for view in views if lasting_obstacle(needs, view) is None]
    who = "the worker that can run it" if len(able) == 1 else f"one of the {len(able)} workers that can run it"
    return f"The task waits for {who}. {_place(task, able)}"


def _place(task: Task, able: Sequence[WorkerView]) -> str:
    """Return where the task stands among those that these workers can run, by level and network."""
    classes = {(level, False) for view in able for level in view.levels}
    classes |= {(level, True) for view in able if view.allows_network for level in view.levels}
    classes.add((needs_of(task).sandbox, task.network))
    most = MAX_COUNTED_AHEAD + 1
    ahead = 0
    with connection.cursor() as cursor:
        for level, network in classes:
            asked = (str(level), network)
            cursor.execute(AHEAD_QUERY, [*asked, task.priority, most, *asked, task.priority, task.id, most])
            ahead += cursor.fetchone()[0]
    if ahead == 0:
        return "It is the next in the queue."
    if ahead > MAX_COUNTED_AHEAD:
        return f"More than {MAX_COUNTED_AHEAD:,} tasks in the queue are ahead of it."
    return f"{ahead} {'task' if ahead == 1 else 'tasks'} in the queue {'is' if ahead == 1 else 'are'} ahead of it."
