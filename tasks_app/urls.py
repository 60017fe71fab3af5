"""Addresses of tasks and files, below /api/v1/."""

from __future__ import annotations

from django.urls import re_path

from tasks_app.api import views
from tasks_app.api.files import FileListView, FileView
from tasks_app.api.live import WaitView
from tasks_app.api.many import CancelManyView, RetryManyView
from tasks_app.api.output import OutputFileListView, OutputFileView, OutputView

ID = r"(?P<pk>[0-9A-Za-z-]{1,36})"
NAME = r"(?P<name>[\s\S]+?)"
"""Of a file, with slashes. What a name may not have is refused by a view, which says why."""

urlpatterns = [
    re_path(r"^tasks/?$", views.TaskListView.as_view(), name="tasks"),
    re_path(r"^tasks/wait/?$", WaitView.as_view(), name="tasks-wait"),
    re_path(r"^tasks/cancel/?$", CancelManyView.as_view(), name="tasks-cancel"),
    re_path(r"^tasks/retry/?$", RetryManyView.as_view(), name="tasks-retry"),
    re_path(rf"^tasks/{ID}/?$", views.TaskDetailView.as_view(), name="task"),
    re_path(rf"^tasks/{ID}/cancel/?$", views.CancelView.as_view(), name="task-cancel"),
    re_path(rf"^tasks/{ID}/retry/?$", views.RetryView.as_view(), name="task-retry"),
    re_path(rf"^tasks/{ID}/attempts/?$", views.AttemptListView.as_view(), name="task-attempts"),
    re_path(rf"^tasks/{ID}/why/?$", views.WhyView.as_view(), name="task-why"),
    re_path(rf"^tasks/{ID}/stdout/?$", OutputView.as_view(stream="stdout"), name="task-stdout"),
    re_path(rf"^tasks/{ID}/stderr/?$", OutputView.as_view(stream="stderr"), name="task-stderr"),
    re_path(rf"^tasks/{ID}/outputs/?$", OutputFileListView.as_view(), name="task-outputs"),
    re_path(rf"^tasks/{ID}/outputs/{NAME}/?\Z", OutputFileView.as_view(), name="task-output"),
    re_path(r"^files/?$", FileListView.as_view(), name="files"),
    re_path(rf"^files/{NAME}/?\Z", FileView.as_view(), name="file"),
]
