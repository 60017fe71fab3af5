"""All addresses of the web server."""

from __future__ import annotations

from django.contrib import admin
from django.contrib.auth.views import LogoutView
from django.urls import include, path, re_path
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView

from accounts_app.permissions import AnyoneSignedIn
from octaskly_site.health import HealthView
from octaskly_site.join.views import JoinView

handler400 = "accounts_app.rest.fallbacks.bad_request"
handler403 = "accounts_app.rest.fallbacks.forbidden"
handler404 = "accounts_app.rest.fallbacks.not_found"
handler500 = "accounts_app.rest.fallbacks.server_error"

session_urls = [
    path("login/", RedirectView.as_view(pattern_name="login", query_string=True), name="login"),
    path("logout/", LogoutView.as_view(), name="logout"),
]
"""Under the names by which the browsable API knows them."""

urlpatterns = [
    path("api/v1/", include("tasks_app.urls")),  # Looked through in order, for each request: the most asked for first.
    path("", include("dashboard_app.urls")),
    path("admin/", admin.site.urls),
    re_path(r"^health/?$", HealthView.as_view(), name="health"),
    re_path(r"^(?:join\.(?:sh|ps1)|worker/[A-Za-z0-9_-]{1,48}\.zip)$", JoinView.as_view(), name="join"),
    path("api/v1/", include("accounts_app.urls")),
    path("api/v1/", include("audit_app.urls")),
    path("api/v1/", include("workers_app.urls")),
    path("", include("metrics_app.urls")),
    re_path(r"^api/v1/schema/?$", SpectacularAPIView.as_view(permission_classes=[AnyoneSignedIn]), name="schema"),
    re_path(
        r"^api/v1/docs/?$",
        # OPTIONS has no page to be shown on.
        SpectacularSwaggerSplitView.as_view(
            permission_classes=[AnyoneSignedIn], url_name="schema", http_method_names=["get", "head"]
        ),
        name="docs",
    ),
    path("api/v1/session/", include((session_urls, "rest_framework"))),
]
