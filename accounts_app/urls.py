"""Addresses of the sign-in routes, below api/v1/."""

from __future__ import annotations

from django.urls import re_path

from accounts_app.rest.views import LogoutView, RefreshView, TokenView

urlpatterns = [
    re_path(r"^auth/token/?$", TokenView.as_view(), name="auth-token"),
    re_path(r"^auth/refresh/?$", RefreshView.as_view(), name="auth-refresh"),
    re_path(r"^auth/logout/?$", LogoutView.as_view(), name="auth-logout"),
]
