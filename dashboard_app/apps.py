"""Registers the pages, and the admin that they dress."""

from __future__ import annotations

from django.apps import AppConfig
from django.contrib.admin import apps as admin_apps


class DashboardAppConfig(AppConfig):
    """Pages over tasks, workers and the audit."""

    name = "dashboard_app"
    verbose_name = "Dashboard"
    default = True


class DressedAdminConfig(admin_apps.AdminConfig):
    """Django's admin on our own site."""

    default = False
    default_site = "dashboard_app.admin_site.DressedAdminSite"
