"""How large a request's body may be, which bodies are handed over as files, and how long is waited for whom."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

FILE_ROUTE: Final = re.compile(rb"/api/v1/files/[^?]+")  # Names of files have slashes.
SCOPE_KEY: Final = "octaskly.body"
"""Where a view finds the open file in its scope; the ASGI body is empty then."""

MAX_MEMORY_BODY_BYTES: Final = 1 << 20
"""A larger body of the file route is handed over as a file."""

SLACK_BYTES: Final = 1 << 20
"""Between what views refuse by name and what is not even read."""


@dataclass(frozen=True, slots=True)
class WebLimits:
    """What the server reads of one request, and its patience."""

    max_file_bytes: int
    max_other_bytes: int
    scratch_folder: str | None = None
    """Where bodies wait that are not small; None for the system's own place."""
    time_to_answer_s: float = 60.0
    """Until the response begins."""
    stalled_s: float = 60.0
    """A client that takes nothing for so long is cut off: a stream that waits holds one of few places."""

    def cap_of(self, method: bytes, target: bytes) -> int:
        """Return the cap for a request line."""
        return self.max_file_bytes if is_file_upload(method, target) else self.max_other_bytes


def is_file_upload(method: bytes, target: bytes) -> bool:
    """Return whether the request stores a file."""
    return method == b"PUT" and FILE_ROUTE.fullmatch(target.partition(b"?")[0]) is not None
