"""Octaskly from Python and from the command line: submit commands to a cluster over REST and bring back what they made.

Names are looked up on first use: the programs below this package must pin their cipher suite before anything here
loads OpenSSL, and `octaskly --help` needs none of it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from octaskly.answers import Attempt as Attempt
    from octaskly.answers import File as File
    from octaskly.answers import JoinToken as JoinToken
    from octaskly.answers import Output as Output
    from octaskly.answers import Stats as Stats
    from octaskly.answers import Task as Task
    from octaskly.answers import Why as Why
    from octaskly.answers import Worker as Worker
    from octaskly.async_client import AsyncClient as AsyncClient
    from octaskly.client import Client as Client
    from octaskly.errors import OctasklyError as OctasklyError
    from octaskly.executor import Executor as Executor
    from octaskly.outcomes import Outcome as Outcome

_HOMES = {
    "AsyncClient": "octaskly.async_client",
    "Attempt": "octaskly.answers",
    "Client": "octaskly.client",
    "Executor": "octaskly.executor",
    "File": "octaskly.answers",
    "JoinToken": "octaskly.answers",
    "OctasklyError": "octaskly.errors",
    "Outcome": "octaskly.outcomes",
    "Output": "octaskly.answers",
    "Stats": "octaskly.answers",
    "Task": "octaskly.answers",
    "Why": "octaskly.answers",
    "Worker": "octaskly.answers",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'octaskly' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(_HOMES)
