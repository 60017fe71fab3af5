"""Slows down guessing: after five failures of one name from one address silence, longer each time.

And after many failures of one address, whatever the names, silence for that address.
"""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import Any, Final

from django.core.exceptions import PermissionDenied
from django.db import transaction

from accounts_app import limits
from accounts_app.models import FailedSignIns
from accounts_app.signals import account_changed

MAX_FAILURES: Final = 5
WINDOW: Final = timedelta(minutes=15)
FIRST_LOCKOUT: Final = timedelta(minutes=15)
LONGEST_LOCKOUT: Final = timedelta(hours=24)
MEMORY: Final = timedelta(hours=24)
"""How long after its end a lockout still makes the next one longer."""
_MAX_USERNAME: Final = 150
_MAX_ADDRESS: Final = 64
_MAX_DOUBLINGS: Final = 16


class SignInLocked(PermissionDenied):
    """There were too many failed sign-ins: this one is not even looked at."""

    def __init__(self, wait_s: int, *, is_of_address: bool) -> None:
        super().__init__("locked after too many failed sign-ins")
        self.wait_s = wait_s
        self.is_of_address = is_of_address
        """Whether all names are refused to the address, instead of the one."""


def address_of(request: Any) -> str:
    """Return the caller's address. Forwarding headers are not believed: anybody can send them."""
    return str(request.META.get("REMOTE_ADDR", "") if request is not None else "")[:_MAX_ADDRESS]


def lockout_after(lockouts: int) -> timedelta:
    """Return how long the next lockout lasts after so many: 15 minutes, 30, 60 and so on, a day at most. Pure."""
    return min(LONGEST_LOCKOUT, FIRST_LOCKOUT * 2 ** min(lockouts, _MAX_DOUBLINGS))


def seconds_locked(username: str, address: str, now: datetime) -> int:
    """Return for how many seconds this name may not be tried again from this address; 0 when it may."""
    row = FailedSignIns.objects.filter(username=username[:_MAX_USERNAME], address=address).first()
    return max(_locked_s(row, now), limits.SIGN_INS.wait_s(limits.network_of(address), now))


def begin_attempt(username: str, address: str, now: datetime) -> int:
    """Count an attempt as failed before it is checked; return how many failures there are now. Raises SignInLocked.

    Counted first, so that many attempts at once cannot all slip in before the first one's failure is written.
    """
    username = username[:_MAX_USERNAME]
    with transaction.atomic():
        FailedSignIns.objects.filter(forget_at__lte=now).delete()
        row = FailedSignIns.objects.filter(username=username, address=address).first()
        if locked_s := _locked_s(row, now):
            raise SignInLocked(locked_s, is_of_address=False)
        if refusal := limits.SIGN_INS.take(limits.network_of(address), now):
            raise SignInLocked(refusal.wait_s, is_of_address=True)
        return _count(row or FailedSignIns(username=username, address=address, failed_at=now), now)


def forgive(username: str, address: str, now: datetime) -> None:
    """Forget the failures of a user who proved to be the one."""
    with transaction.atomic():
        FailedSignIns.objects.filter(username=username[:_MAX_USERNAME], address=address).delete()
        limits.SIGN_INS.give_back(limits.network_of(address), now)


def unlock(username: str) -> int:
    """Forget the failures of a name from all addresses; return from how many there were any."""
    with transaction.atomic():
        count, _ = FailedSignIns.objects.filter(username=username[:_MAX_USERNAME]).delete()
        if count:
            account_changed.send(
                sender=None, actor=None, username=username, change="unlocked", details={"addresses": count}
            )
    return count


def _locked_s(row: FailedSignIns | None, now: datetime) -> int:
    if row is None or row.locked_until is None or row.locked_until <= now:
        return 0
    return math.ceil((row.locked_until - now).total_seconds())


def _count(row: FailedSignIns, now: datetime) -> int:
    failures = 1 if row.failed_at + WINDOW <= now else row.failures + 1
    row.failures, row.failed_at = failures, now
    row.forget_at = max(now + WINDOW, row.forget_at or now)
    if failures >= MAX_FAILURES:
        row.locked_until = now + lockout_after(row.lockouts)
        row.forget_at = row.locked_until + MEMORY
        row.lockouts += 1
        row.failures = 0
    row.save()
    return failures
