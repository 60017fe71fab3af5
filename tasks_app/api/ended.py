"""Tasks that have ended, as REST shows them, read in one statement: whoever waits for tasks asks at each change."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from accounts_app.plain_sql import marks, read
from tasks_app.api.representation import TaskSerializer, utc_text
from tasks_app.transitions import ENDED

_NAMES: Final = tuple(TaskSerializer.Meta.fields)
_ELSEWHERE: Final = {
    "owner": "auth_user.username",
    "timeout": "tasks.timeout_s",
    "cancel_requested": "tasks.cancel_requested_at IS NOT NULL",
}
_QUERY: Final = (
    f"SELECT {', '.join(_ELSEWHERE.get(name, f'tasks.{name}') for name in _NAMES)}"  # noqa: S608 - constants
    " FROM tasks JOIN auth_user ON auth_user.id = tasks.owner_id"
    f" WHERE tasks.status IN ({', '.join(repr(status.value) for status in sorted(ENDED))}) AND tasks.id IN "
)
_JSON: Final = ("env", "limits", "inputs", "outputs")
_TIMES: Final = ("created_at", "started_at", "completed_at", "available_at")


def ended_among(task_ids: Sequence[str]) -> list[dict[str, Any]]:
    """Return those of the tasks that have ended, in the order in which they were named."""
    found = {row[0]: row for row in read(f"{_QUERY} ({marks(len(task_ids))})", task_ids)}
    return [_document(found[task_id]) for task_id in dict.fromkeys(task_ids) if task_id in found]


def _document(row: Sequence[Any]) -> dict[str, Any]:
    document = dict(zip(_NAMES, row, strict=True))
    for name in _JSON:
        document[name] = json.loads(document[name])
    for name in _TIMES:
        document[name] = _time_text(document[name])
    document["cancel_requested"] = bool(document["cancel_requested"])
    return document


def _time_text(moment: datetime | None) -> str | None:
    return utc_text(moment.replace(tzinfo=UTC)) if moment else None
