"""Where the questions of the live routes go; the requests themselves never reach Django."""

from __future__ import annotations

from django.urls import re_path

from dashboard_app.live.scope import EventsView
from octaskly_site.urls import handler400, handler404, handler500
from tasks_app.api.live import FollowView, WaitView
from tasks_app.urls import ID

__all__ = ["handler400", "handler404", "handler500"]

urlpatterns = [
    re_path(rf"^api/v1/tasks/{ID}/(?:stdout|stderr)/?$", FollowView.as_view()),
    re_path(r"^api/v1/tasks/wait/?$", WaitView.as_view()),
    re_path(r"^api/v1/stats/?$", EventsView.as_view()),
]
