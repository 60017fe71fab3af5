"""The four roles, which are Django groups, and who has which."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final

from accounts_app.plain_sql import read


class Role(StrEnum):
    """What a user is in this cluster; the values are names of groups."""

    ADMIN = "Admin"
    DISPATCHER = "Dispatcher"
    WORKER = "Worker"
    CLIENT = "Client"


_ROLE_NAMES: Final = frozenset(role.value for role in Role)
# Each request asks it: made by the ORM, it would cost more than the rest of signing in.
_GROUPS_QUERY: Final = (
    "SELECT auth_group.name FROM auth_user_groups JOIN auth_group ON auth_group.id = auth_user_groups.group_id"
    " WHERE auth_user_groups.user_id = ?"
)


def roles_of(user: Any) -> frozenset[Role]:
    """Return the user's roles as the database has them now; a superuser is an admin, an inactive user nothing."""
    if not user.is_authenticated or not user.is_active:
        return frozenset()
    roles = frozenset(Role(name) for (name,) in read(_GROUPS_QUERY, [user.pk]) if name in _ROLE_NAMES)
    return roles | {Role.ADMIN} if user.is_superuser else roles


def is_operator(user: Any) -> bool:
    """Return whether the user sees and steers everybody's tasks and workers."""
    return not roles_of(user).isdisjoint({Role.ADMIN, Role.DISPATCHER})
