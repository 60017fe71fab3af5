"""Addresses of what was measured: `/metrics`, and series below /api/v1/."""

from __future__ import annotations

from django.urls import re_path

from metrics_app.api import StatsHistoryView, StatsView, WorkerVitalsView
from metrics_app.exposition import MetricsView

ID = r"(?P<pk>[0-9A-Za-z-]{1,36})"

urlpatterns = [
    re_path(r"^metrics/?$", MetricsView.as_view(), name="metrics"),
    re_path(r"^api/v1/stats/?$", StatsView.as_view(), name="stats"),
    re_path(r"^api/v1/stats/history/?$", StatsHistoryView.as_view(), name="stats-history"),
    re_path(rf"^api/v1/workers/{ID}/vitals/?$", WorkerVitalsView.as_view(), name="worker-vitals"),
]
