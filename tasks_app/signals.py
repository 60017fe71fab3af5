"""Announcements of tasks_app, sent after the commit; the composition carries them to the engine."""

from __future__ import annotations

from django.dispatch import Signal

tasks_submitted = Signal()
"""Tasks wait. Arguments: classes (set of (sandbox, network)), tasks (those of a few that came, as the engine takes them)."""

cancel_requested = Signal()
"""A live attempt is to be killed. Arguments: task_id (str)."""

waiting_ended = Signal()
"""Tasks ended that no worker had in hand. Arguments: status (str), count (int)."""

records_committed = Signal()
"""The engine's records are on disk; sent on its writer's thread. Arguments: measured (tasks_app.measured.Measured)."""
