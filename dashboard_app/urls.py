"""Addresses of the pages: each ends with a slash; without it, it leads there."""

from __future__ import annotations

from django.contrib.auth.views import LogoutView
from django.urls import path, re_path
from django.views.generic import RedirectView

from dashboard_app.views.audit import audit_page
from dashboard_app.views.home import home
from dashboard_app.views.sign_in import SignIn
from dashboard_app.views.tasks import task_list, task_page
from dashboard_app.views.workers import worker_list, worker_page

urlpatterns = [
    path("", home, name="home"),
    path("login/", SignIn.as_view(), name="login"),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("tasks/", task_list, name="task-list"),
    path("tasks/<str:pk>/", task_page, name="task-page"),
    path("workers/", worker_list, name="worker-list"),
    path("workers/<str:pk>/", worker_page, name="worker-page"),
    path("audit/", audit_page, name="audit-page"),
    re_path(
        r"^(?P<page>(?:tasks|workers)(?:/[\w.-]+)?|admin|audit|login|logout)$",
        RedirectView.as_view(url="/%(page)s/", query_string=True),
    ),
]
