"""Registers the pages."""

from __future__ import annotations

from django.apps import AppConfig


class DashboardAppConfig(AppConfig):
    """Pages over tasks, workers and the audit."""

    name = "dashboard_app"
    verbose_name = "Dashboard"
