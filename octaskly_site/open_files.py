"""Lets the dispatcher have as many descriptors as the system allows: a thousand idle strangers would use up the usual ones."""

from __future__ import annotations

import contextlib
import sys


def raise_limit() -> None:
    """Raise this process's soft limit of open files to the hard one."""
    if sys.platform == "win32":
        return
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
