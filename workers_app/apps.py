"""Registers the workers' registry."""

from __future__ import annotations

from django.apps import AppConfig


class WorkersAppConfig(AppConfig):
    """Who may run tasks."""

    name = "workers_app"
    verbose_name = "Workers"
