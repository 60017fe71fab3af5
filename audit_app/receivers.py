"""Turns what accounts_app and Django announce about sign-ins and refusals into audit rows."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.signals import user_logged_in, user_logged_out
from django.db import transaction
from django.dispatch import receiver

from accounts_app import lockout, signals
from audit_app.trail import AuditEvent, actor_name, record


def _write(event_type: str, actor: str, **details: Any) -> None:
    with transaction.atomic():
        record(AuditEvent(event_type, actor, details=details))


@receiver(user_logged_in, dispatch_uid="audit-login")
def on_login(sender: Any, request: Any, user: Any, method: str = "session", **_: Any) -> None:
    """Record a good sign-in."""
    _write("login_succeeded", user.get_username(), address=lockout.address_of(request), method=method)


@receiver(user_logged_out, dispatch_uid="audit-logout")
def on_logout(sender: Any, request: Any, user: Any, method: str = "session", **_: Any) -> None:
    """Record a sign-out; one without a user never was a sign-in."""
    if user is not None:
        _write("logged_out", user.get_username(), address=lockout.address_of(request), method=method)


@receiver(signals.login_refused, dispatch_uid="audit-login-refused")
def on_login_refused(
    sender: Any,
    username: str,
    address: str,
    failures: int,
    is_locked: Any,
    **_: Any,
) -> None:
    """Record a wrong password. The name is what somebody typed: it may be no user at all."""
    _write("login_failed", "", username=(username or "")[:150], address=address, failures=failures, locked=is_locked)


@receiver(signals.token_refreshed, dispatch_uid="audit-token-refreshed")
def on_token_refreshed(sender: Any, user: Any, address: str, **_: Any) -> None:
    """Record the exchange of a refresh token."""
    _write("token_refreshed", user.get_username(), address=address)


@receiver(signals.token_reused, dispatch_uid="audit-token-reused")
def on_token_reused(sender: Any, user: Any, address: str, **_: Any) -> None:
    """Record that a used refresh token came again: it may have been stolen."""
    _write("token_reused", user.get_username() if user else "", address=address)


@receiver(signals.permission_denied, dispatch_uid="audit-permission-denied")
def on_permission_denied(sender: Any, user: Any, method: str, path: str, address: str, **_: Any) -> None:
    """Record that somebody asked for more than the role allows."""
    _write("permission_denied", user.get_username(), method=method, path=path[:255], address=address)


@receiver(signals.limit_reached, dispatch_uid="audit-limit-reached")
def on_limit_reached(sender: Any, limit: str, username: str, address: str, **_: Any) -> None:
    """Record that somebody asks for more than the budget has."""
    _write("limit_reached", username, limit=limit, address=address)


@receiver(signals.account_changed, dispatch_uid="audit-account-changed")
def on_account_changed(sender: Any, actor: Any, username: str, change: str, details: dict[str, Any], **_: Any) -> None:
    """Record that an account was made, changed or deleted."""
    _write("account_changed", actor_name(actor), username=username, change=change, **details)
