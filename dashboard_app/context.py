"""What every page knows of who looks at it."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest

from accounts_app.roles import Role, roles_of


def viewer(request: HttpRequest) -> dict[str, Any]:
    """Return `viewer`: what the navigation shows and the scripts may ask for."""
    user = getattr(request, "user", None)
    roles = roles_of(user) if user is not None else frozenset()
    return {
        "viewer": {
            "is_operator": not roles.isdisjoint({Role.ADMIN, Role.DISPATCHER}),
            "is_admin": Role.ADMIN in roles and bool(user and user.is_staff),
        }
    }
