"""The admin as a part of the pages: the same sign-in, and the dashboard above its list of tables."""

from __future__ import annotations

from typing import Any

from django.contrib.admin import AdminSite
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse


class DressedAdminSite(AdminSite):
    """`admin.site` of this project."""

    site_header = "Octaskly"
    site_title = "Octaskly"
    index_title = "This cluster"
    site_url = None
    enable_nav_sidebar = False
    index_template = "dashboard/admin_index.html"

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        """Show the dashboard and the tables."""
        # The views stand on models, which are loaded after this site.
        from dashboard_app.views.home import dashboard_of

        return super().index(request, {**dashboard_of(request.user), **(extra_context or {})})

    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:  # noqa: ARG002 - theirs
        """Lead to the sign-in of all pages, and refuse who is signed in but has no place here."""
        if request.user.is_authenticated and not self.has_permission(request):
            raise PermissionDenied("the admin's pages are for administrators")
        return redirect_to_login(request.GET.get("next") or reverse("admin:index"))
