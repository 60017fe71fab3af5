"""Announcements of workers_app, sent after the commit."""

from __future__ import annotations

from django.dispatch import Signal

worker_changed = Signal()
"""A worker's place on the whitelist or its drain wish changed. Arguments: worker_id (str)."""
