"""Addresses of workers and join tokens, below /api/v1/."""

from __future__ import annotations

from django.urls import re_path

from workers_app.api import STEPS, JoinTokenView, WorkerDetailView, WorkerListView, WorkerStepView

ID = r"(?P<pk>[0-9A-Za-z-]{1,36})"

urlpatterns = [
    re_path(r"^workers/?$", WorkerListView.as_view(), name="workers"),
    re_path(rf"^workers/{ID}/?$", WorkerDetailView.as_view(), name="worker"),
    *(
        re_path(rf"^workers/{ID}/{step}/?$", WorkerStepView.as_view(), {"step": step}, name=f"worker-{step}")
        for step in STEPS
    ),
    re_path(r"^join-tokens/?$", JoinTokenView.as_view(), name="join-tokens"),
]
