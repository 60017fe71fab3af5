"""Slows down guessing: after five failures of one user from one address, fifteen minutes of silence."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import QuerySet

from accounts_app.models import LoginFailure

MAX_FAILURES = 5
WINDOW = timedelta(minutes=15)
_MAX_USERNAME = 150
_MAX_ADDRESS = 64


def address_of(request: Any) -> str:
    """Return the caller's address. Forwarding headers are not believed: anybody can send them."""
    return str(request.META.get("REMOTE_ADDR", "") if request is not None else "")[:_MAX_ADDRESS]


def seconds_locked(username: str, address: str, now: datetime) -> int:
    """Return for how long this user may not try again from this address; 0 when free."""
    recent = list(
        _recent(username, address, now).order_by("-failed_at").values_list("failed_at", flat=True)[:MAX_FAILURES]
    )
    if len(recent) < MAX_FAILURES:
        return 0
    return max(1, math.ceil((recent[-1] + WINDOW - now).total_seconds()))


def begin_attempt(username: str, address: str, now: datetime) -> int:
    """Count an attempt as failed before it is checked; return how many there are now, or 0 when locked.

    Counted first, so that many attempts at once cannot all slip in before the first one's failure is written.
    """
    with transaction.atomic():
        LoginFailure.objects.filter(failed_at__lte=now - WINDOW).delete()
        failures = _recent(username, address, now).count()
        if failures >= MAX_FAILURES:
            return 0
        LoginFailure.objects.create(username=username[:_MAX_USERNAME], address=address, failed_at=now)
        return failures + 1


def forgive(username: str, address: str) -> None:
    """Forget the failures of a user who proved to be the one."""
    LoginFailure.objects.filter(username=username[:_MAX_USERNAME], address=address).delete()


def _recent(username: str, address: str, now: datetime) -> QuerySet[LoginFailure]:
    return LoginFailure.objects.filter(username=username[:_MAX_USERNAME], address=address, failed_at__gt=now - WINDOW)
