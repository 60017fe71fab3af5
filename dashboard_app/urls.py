"""Addresses of the pages."""

from __future__ import annotations

from django.contrib.auth.views import LoginView, LogoutView
from django.urls import path

from dashboard_app.views.audit import audit_page
from dashboard_app.views.home import home
from dashboard_app.views.tasks import task_list, task_page
from dashboard_app.views.workers import worker_list, worker_page

urlpatterns = [
    path("", home, name="home"),
    path(
        "login/",
        LoginView.as_view(template_name="dashboard/login.html", redirect_authenticated_user=True),
        name="login",
    ),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("tasks/", task_list, name="task-list"),
    path("tasks/<str:pk>/", task_page, name="task-page"),
    path("workers/", worker_list, name="worker-list"),
    path("workers/<str:pk>/", worker_page, name="worker-page"),
    path("audit/", audit_page, name="audit-page"),
]
