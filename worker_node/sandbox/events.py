"""What a supervisor tells the worker of an attempt. Standard library only.

A message is a line of words and behind it what was said or written. Both ends are of one version.
"""

from __future__ import annotations

TYPE_CHECKING = False  # the spawner does without typing: 2 ms and half a megabyte in every fork
if TYPE_CHECKING:
    from typing import Final

MAX_WRITTEN_BYTES: Final = 16 << 10
"""Of each stream of a short command: so much goes with the word of its end, and more stays in its pipe."""
MAX_DETAIL_BYTES: Final = 16 << 10
MAX_BYTES: Final = 2 * MAX_WRITTEN_BYTES + MAX_DETAIL_BYTES + 512
UNKNOWN: Final = -1
"""The status of a command whose end nobody saw, and a start that was told before."""


def started(started_ns: int) -> bytes:
    """Tell that the command runs; the read ends of its stdout and stderr go along."""
    return b"started %d\n" % started_ns


def refused(detail: str, *, is_last: bool) -> bytes:
    """Tell that the command never ran."""
    return b"refused %d\n%b" % (is_last, text_of(detail))


def text_of(detail: str) -> bytes:
    """Return a detail as it stands in messages."""
    return detail.encode("utf-8", "replace")[:MAX_DETAIL_BYTES]
