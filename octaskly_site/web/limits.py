"""How large a request's body may be, which bodies are handed over as files, and how long is waited for whom."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

FILE_ROUTE: Final = re.compile(rb"/api/v1/files/[^?]+")  # Names of files have slashes.
TASKS_ROUTES: Final = frozenset({b"/api/v1/tasks", b"/api/v1/tasks/"})
SCOPE_KEY: Final = "octaskly.body"
"""Where a view finds the open file in its scope; the ASGI body is empty then."""

MAX_MEMORY_BODY_BYTES: Final = 1 << 20
"""A larger body waits on the disk; that of the file route is handed over as a file."""

LEAST_BODY_BYTES: Final = 10 << 10
"""Fewer within the time there is for them are a client that only holds a place."""

SLACK_BYTES: Final = 1 << 20
"""Between what views refuse by name and what is not even read."""


@dataclass(frozen=True, slots=True)
class WebLimits:
    """What the server reads of one request, and its patience."""

    max_file_bytes: int
    max_tasks_bytes: int
    """Of the route that takes lists of tasks."""
    max_other_bytes: int
    scratch_folder: str | None = None
    """Where bodies wait that are not small; None for the system's own place."""
    time_to_answer_s: float = 60.0
    """Until the response begins."""
    stalled_s: float = 60.0
    """A client that takes nothing for so long is cut off: a stream that waits holds one of few places."""
    time_to_ask_s: float = 10.0
    """For the head of a request, and again for each `LEAST_BODY_BYTES` of its body."""
    time_to_upload_s: float = 60.0
    """The same for the body of a file: what a program writes into it may come in fits and starts."""
    max_connections: int = 1024
    """Open at a time; one more is closed at once."""

    def cap_of(self, method: bytes, target: bytes) -> int:
        """Return the cap for a request line."""
        if is_file_upload(method, target):
            return self.max_file_bytes
        is_tasks = method == b"POST" and target.partition(b"?")[0] in TASKS_ROUTES
        return self.max_tasks_bytes if is_tasks else self.max_other_bytes


def is_file_upload(method: bytes, target: bytes) -> bool:
    """Return whether the request stores a file."""
    return method == b"PUT" and FILE_ROUTE.fullmatch(target.partition(b"?")[0]) is not None
