"""Checks passwords behind the lockout, and gives the Admin role every permission of the admin site."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django.contrib.auth.backends import ModelBackend

from accounts_app import limits, lockout
from accounts_app.roles import Role, roles_of
from accounts_app.signals import login_refused


class GuardedModelBackend(ModelBackend):
    """Django's backend, for REST and the admin's login form alike."""

    def authenticate(
        self, request: Any, username: str | None = None, password: str | None = None, **kwargs: Any
    ) -> Any:
        """Return the user whose password it is, or None. Raises SignInLocked, unheard, after too many failures."""
        username = username if username is not None else kwargs.get("username", "")
        address = lockout.address_of(request)
        try:
            failures = lockout.begin_attempt(username or "", address, datetime.now(UTC))
        except lockout.SignInLocked as refusal:
            if refusal.is_of_address:
                spent = limits.Refusal(refusal.wait_s)
                limits.tell(limits.SIGN_INS, spent, limits.network_of(address), username="", address=address)
            raise
        user = super().authenticate(request, username=username, password=password)
        if user is None:
            login_refused.send(
                sender=type(self),
                username=username,
                address=address,
                failures=failures,
                is_locked=failures >= lockout.MAX_FAILURES,
            )
            return None
        lockout.forgive(username or "", address, datetime.now(UTC))
        return user

    def has_perm(self, user_obj: Any, perm: str, obj: Any = None) -> bool:
        """Return whether the user may; an admin may everything."""
        return Role.ADMIN in roles_of(user_obj) or super().has_perm(user_obj, perm, obj)

    def has_module_perms(self, user_obj: Any, app_label: str) -> bool:
        """Return whether the user may see anything of the app; an admin may."""
        return Role.ADMIN in roles_of(user_obj) or super().has_module_perms(user_obj, app_label)
