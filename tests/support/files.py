"""Files over REST's test client, and rows that the engine would write."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256
from typing import Any
from urllib.parse import quote

from tasks_app.blob_store import store
from tasks_app.models import Result, Task, TaskOutput

FILES = "/api/v1/files"


def digest_of(content: bytes) -> str:
    """Return the name of a content."""
    return sha256(content).hexdigest()


def put(client: Any, name: str, content: bytes, **headers: Any) -> Any:
    """Upload a file and return the answer."""
    return client.generic("PUT", f"{FILES}/{quote(name)}", content, content_type="application/octet-stream", **headers)


def upload(client: Any, content: bytes) -> str:
    """Upload a content without a name, which must succeed, and return its digest."""
    answer = put(client, f"sha256:{digest_of(content)}", content)
    assert answer.status_code in {200, 201}, answer.content
    return digest_of(content)


def body(answer: Any) -> bytes:
    """Return the bytes of a download."""
    content: bytes = answer.getvalue() if answer.streaming else answer.content
    return content


def store_content(content: bytes) -> str:
    """Put a content into the store, as a worker's transfer does, and return its digest."""
    incoming = store().receive("", len(content), "a test")
    incoming.write(content)
    return incoming.finish()


def leave_outputs(task_id: str, *, attempt: int = 1, kind: str = "file", **contents: bytes) -> None:
    """Record an attempt of the task that left these; in names `__` stands for a dot."""
    now = datetime.now(UTC)
    result, _ = Result.objects.get_or_create(
        attempt_id=f"{task_id}.{attempt}",
        defaults={"task_id": task_id, "attempt": attempt, "worker_id": "w", "assigned_at": now, "state": "ended"},
    )
    Task.objects.filter(id=task_id).update(status="completed", attempt=attempt, completed_at=now, exit_code=0)
    for name, content in contents.items():
        digest = store_content(content)
        TaskOutput.objects.create(
            result=result,
            kind=kind,
            name=name.replace("__", ".") if kind == "file" else "",
            sha256=digest,
            blob_id=digest,
            size_bytes=len(content),
            created_at=now,
        )
