"""Registers the audit trail and what it listens to."""

from __future__ import annotations

from django.apps import AppConfig


class AuditAppConfig(AppConfig):
    """The append-only trail."""

    name = "audit_app"
    verbose_name = "Audit"

    def ready(self) -> None:
        """Connect the receivers."""
        from audit_app import receivers  # noqa: F401 - importing connects them
