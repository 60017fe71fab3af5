"""The worker: runs the dispatcher's commands on this machine. Imports no Django."""

from __future__ import annotations

__version__ = "0.1.0"
