"""Registers tasks and their results."""

from __future__ import annotations

from django.apps import AppConfig


class TasksAppConfig(AppConfig):
    """What was asked and what came of it."""

    name = "tasks_app"
    verbose_name = "Tasks"
