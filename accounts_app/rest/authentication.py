"""Who calls: by token, by session, or nobody known. Here that is found out, so here each request is counted."""

from __future__ import annotations

from typing import Any

from rest_framework import authentication, exceptions
from rest_framework.request import Request
from rest_framework_simplejwt.authentication import JWTAuthentication

from accounts_app.charging import charge_request


class TokenAuthentication(JWTAuthentication):
    """Knows the access tokens that were given out here; one that is refused is a request of its address."""

    def authenticate(self, request: Request) -> tuple[Any, Any] | None:
        """Return user and token, or None without a token. Raises AuthenticationFailed, LimitReached."""
        try:
            found = super().authenticate(request)
        except exceptions.AuthenticationFailed:
            charge_request(request)
            raise
        if found is not None:
            charge_request(request, found[0])
        return found


class SessionAuthentication(authentication.SessionAuthentication):
    """Knows the cookies of the pages, and checks CSRF."""

    def authenticate(self, request: Request) -> tuple[Any, None] | None:
        """Return the user, or None without a session. Raises PermissionDenied, LimitReached."""
        try:
            found: tuple[Any, None] | None = super().authenticate(request)
        except exceptions.PermissionDenied:
            charge_request(request)
            raise
        if found is not None:
            charge_request(request, found[0])
        return found


class Stranger(authentication.BaseAuthentication):
    """The last to be asked: nobody is signed in, so the request is one of its address."""

    def authenticate(self, request: Request) -> None:
        """Return None. Raises LimitReached."""
        charge_request(request)
