"""Submits tasks over REST in tests that have a database and no dispatcher."""

from __future__ import annotations

from typing import Any

TASKS_URL = "/api/v1/tasks"


def submit(client: Any, **task: Any) -> dict[str, Any]:
    """Submit one task and return it."""
    answer = client.post(TASKS_URL, {"command": "true"} | task)
    assert answer.status_code == 201, answer.content
    return answer.json()
