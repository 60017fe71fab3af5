"""Files in Django's admin: a list to read and search, and downloads of whatever a page of the admin names."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404
from django.template.defaultfilters import filesizeformat
from django.urls import path, reverse
from django.utils.html import format_html, format_html_join

from accounts_app.read_only_admin import ReadOnlyAdmin
from tasks_app.api.downloads import attachment
from tasks_app.blob_store import store
from tasks_app.file_selectors import outputs_of
from tasks_app.models import Blob, File, Task

MAX_LINKS = 500


@admin.register(File)
class FileAdmin(ReadOnlyAdmin):
    """Files and bare uploads of all users."""

    list_display = ["name", "owner", "size", "download", "created_at", "used_at"]
    list_filter = ["owner", "created_at"]
    list_select_related = ["owner", "blob"]
    list_per_page = 50
    search_fields = ["name", "blob__sha256"]
    ordering = ["owner", "name"]
    fields = ["name", "owner", "size", "blob", "download", "created_at", "used_at"]

    def get_urls(self) -> list[Any]:
        """Add the download of a content, under the name that it has on the page."""
        download = self.admin_site.admin_view(self.download_view)
        return [path("content/<str:sha256>/<path:name>", download, name="tasks_app_content"), *super().get_urls()]

    def download_view(self, request: HttpRequest, sha256: str, name: str) -> HttpResponseBase:
        """Return the bytes."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        blob = get_object_or_404(Blob, sha256=sha256)
        try:
            content = store().open(blob.sha256)
        except FileNotFoundError:
            raise Http404 from None
        return attachment(request, content, blob.size_bytes, blob.sha256, name)

    @admin.display(ordering="blob__size_bytes")
    def size(self, file: File) -> str:
        """Return the size as people say it."""
        return filesizeformat(file.blob.size_bytes)

    @admin.display(description="content")
    def download(self, file: File) -> str:
        """Return the link to the content."""
        return _link("download", file.name, file.blob_id)


def input_links(task: Task) -> str:
    """Return the task's inputs, each with its content."""
    inputs = task.input_files.select_related("blob")[:MAX_LINKS]
    return _list((item.name, item.blob.size_bytes if item.blob else None, item.blob_id) for item in inputs)


def output_links(task: Task) -> str:
    """Return what the task's latest attempt left, each with its content."""
    outputs = outputs_of(task, task.attempt)[:MAX_LINKS]
    return _list((item.name, item.size_bytes, item.blob_id) for item in outputs)


def _list(files: Any) -> str:
    lines = [
        (
            _link(name, name, sha256) if sha256 else format_html("{} (expired)", name),
            "" if size is None else filesizeformat(size),
        )
        for name, size, sha256 in files
    ]
    return format_html_join("", "<div>{} {}</div>", lines) or "-"


def _link(text: str, name: str, sha256: str) -> str:
    return format_html('<a href="{}">{}</a>', reverse("admin:tasks_app_content", args=[sha256, name]), text)
