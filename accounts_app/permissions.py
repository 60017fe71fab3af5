"""Who may call a route. A route that declares none of these is refused."""

from __future__ import annotations

from functools import cache
from typing import Any

from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from accounts_app.roles import Role, roles_of


class DenyUndeclared(BasePermission):
    """The default: a route that forgot to say who may call it is closed to everybody."""

    is_declared = False

    def has_permission(self, request: Request, view: Any) -> bool:
        """Refuse."""
        return False


class HasRole(BasePermission):
    """Lets users in who have one of the roles; `allow` makes the classes."""

    is_declared = True
    roles: frozenset[Role] = frozenset()

    def has_permission(self, request: Request, view: Any) -> bool:
        """Return whether the caller has one of the roles, as the database has them now."""
        return not self.roles.isdisjoint(roles_of(request.user))


class AnyoneSignedIn(BasePermission):
    """Lets every active user in, whatever the role."""

    is_declared = True

    def has_permission(self, request: Request, view: Any) -> bool:
        """Return whether somebody is signed in."""
        return bool(request.user and request.user.is_authenticated)


class Public(BasePermission):
    """Lets everybody in."""

    is_declared = True

    def has_permission(self, request: Request, view: Any) -> bool:
        """Allow."""
        return True


@cache
def allow(*roles: Role) -> type[HasRole]:
    """Return the permission class for users with at least one of these roles."""
    name = "Allow" + "".join(role.value for role in roles)
    return type(name, (HasRole,), {"roles": frozenset(roles), "__doc__": f"Lets {', '.join(roles)} in."})


OperatorsOnly = allow(Role.ADMIN, Role.DISPATCHER)
