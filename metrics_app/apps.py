"""Registers the measurements and what they listen to."""

from __future__ import annotations

from django.apps import AppConfig


class MetricsAppConfig(AppConfig):
    """Series of vitals and what Prometheus scrapes."""

    name = "metrics_app"
    verbose_name = "Metrics"

    def ready(self) -> None:
        """Listen to what the engine commits."""
        from metrics_app.receivers import connect

        connect()
