"""Registers who-may-do-what with Django, and keeps the four role groups in place."""

from __future__ import annotations

from django.apps import AppConfig
from django.db.models.signals import post_migrate


class AccountsAppConfig(AppConfig):
    """Roles, permissions, tokens, lockout."""

    name = "accounts_app"
    verbose_name = "Accounts"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Make missing role groups again after every migration: somebody may have deleted one by hand."""
        from accounts_app.bootstrap import ensure_role_groups

        post_migrate.connect(ensure_role_groups, sender=self)
