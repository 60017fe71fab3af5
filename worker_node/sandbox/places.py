"""Where the commands of a root worker see its workspaces. Apart from the spawner, which the worker need not load for a name."""

from __future__ import annotations

SHOWN = "/run/octaskly-worker"
"""Only its commands, in a mount namespace of the spawner's own, see anything there."""

SHOWN_WORKSPACES = f"{SHOWN}/work"
