"""What the OpenAPI document says of the ways in which callers are known."""

from __future__ import annotations

from typing import Any

from drf_spectacular.authentication import SessionScheme
from drf_spectacular.contrib.rest_framework_simplejwt import SimpleJWTScheme
from drf_spectacular.extensions import OpenApiAuthenticationExtension


class TokenScheme(SimpleJWTScheme):
    """The access token, as a header."""

    target_class = "accounts_app.rest.authentication.TokenAuthentication"


class CookieScheme(SessionScheme):
    """The cookie of the pages."""

    target_class = "accounts_app.rest.authentication.SessionAuthentication"


class NoScheme(OpenApiAuthenticationExtension):
    """Who is not known is only counted, which is no way in."""

    target_class = "accounts_app.rest.authentication.Stranger"
    name: list[str] = []

    def get_security_requirement(self, auto_schema: Any) -> list[dict[str, list[Any]]]:
        """Return none."""
        return []

    def get_security_definition(self, auto_schema: Any) -> list[dict[str, Any]]:
        """Return none."""
        return []
