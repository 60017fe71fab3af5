"""Who calls: by token, by session, or nobody known. Here that is found out, so here each request is counted."""

from __future__ import annotations

from typing import Any

from rest_framework import authentication, exceptions
from rest_framework.request import Request
from rest_framework_simplejwt.authentication import JWTAuthentication

from accounts_app.charging import charge_request


class Charged(authentication.BaseAuthentication):
    """A mixin in front of a way to sign in: who is found is charged, and where somebody is refused, the address."""

    def authenticate(self, request: Request) -> tuple[Any, Any] | None:
        """Return user and token, None where nobody tried. Raises AuthenticationFailed, PermissionDenied, LimitReached."""
        try:
            found = super().authenticate(request)
        except (exceptions.AuthenticationFailed, exceptions.PermissionDenied):
            charge_request(request)
            raise
        if found is not None:
            charge_request(request, found[0])
        return found


class TokenAuthentication(Charged, JWTAuthentication):
    """Knows the access tokens that were given out here."""


class SessionAuthentication(Charged, authentication.SessionAuthentication):
    """Knows the cookies of the pages, and checks CSRF."""


class Stranger(authentication.BaseAuthentication):
    """The last to be asked: nobody is signed in, so the request is one of its address."""

    def authenticate(self, request: Request) -> None:
        """Return None. Raises LimitReached."""
        charge_request(request)
