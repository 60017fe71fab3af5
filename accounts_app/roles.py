"""The four roles, which are Django groups, and who has which."""

from __future__ import annotations

from enum import StrEnum
from typing import Any


class Role(StrEnum):
    """What a user is in this cluster; the values are names of groups."""

    ADMIN = "Admin"
    DISPATCHER = "Dispatcher"
    WORKER = "Worker"
    CLIENT = "Client"


_ROLE_NAMES = frozenset(role.value for role in Role)


def roles_of(user: Any) -> frozenset[Role]:
    """Return the user's roles as the database has them now; a superuser is an admin, an inactive user nothing."""
    if not user.is_authenticated or not user.is_active:
        return frozenset()
    names = user.groups.filter(name__in=_ROLE_NAMES).values_list("name", flat=True)
    roles = frozenset(Role(name) for name in names)
    return roles | {Role.ADMIN} if user.is_superuser else roles


def is_operator(user: Any) -> bool:
    """Return whether the user sees and steers everybody's tasks and workers."""
    return not roles_of(user).isdisjoint({Role.ADMIN, Role.DISPATCHER})
