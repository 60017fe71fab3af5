"""What a new database needs of accounts: the role groups and the first admin."""

from __future__ import annotations

import secrets

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.db import transaction

from accounts_app.roles import Role
from accounts_app.signals import account_changed

FIRST_ADMIN = "admin"
_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"
"""Without characters that look alike: people read the password off a terminal."""


def ensure_role_groups(**_: object) -> None:
    """Make the groups that are missing."""
    for role in Role:
        Group.objects.get_or_create(name=role.value)


def ensure_first_admin(password: str | None) -> tuple[str, str | None]:
    """Create the user `admin` if there is no user at all; return its name, and a password only if made up here.

    Where users exist, the name is that of an admin who can sign in, and nothing changes.
    """
    users = get_user_model().objects
    with transaction.atomic():
        if users.exists():
            admin = users.filter(is_superuser=True, is_active=True).order_by("pk").first()
            return (admin.get_username() if admin else FIRST_ADMIN), None
        generated = None if password else _new_password()
        user = users.create_superuser(FIRST_ADMIN, password=password or generated)
        ensure_role_groups()
        user.groups.add(Group.objects.get(name=Role.ADMIN.value))
        account_changed.send(
            sender=None, actor=None, username=FIRST_ADMIN, change="created", details={"roles": [Role.ADMIN.value]}
        )
    return FIRST_ADMIN, generated


def _new_password() -> str:
    """Return 98 bits in four groups."""
    return "-".join("".join(secrets.choice(_ALPHABET) for _ in range(5)) for _ in range(4))
