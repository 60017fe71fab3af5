"""How often somebody may do something: budgets in the database, shared by all processes and kept over restarts.

A budget is one time in one row: when all that was taken will be there again. Taking moves it ahead, and it may be ahead
by the limit's window at most. A process takes blocks and counts within them, so requests cost no write each; who has been
refused is refused from memory until there is something again.
"""

from __future__ import annotations

import logging
import math
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import IPv6Address, ip_address
from typing import Any, Final

from django.conf import settings
from django.db import OperationalError, transaction

from accounts_app.models import Budget
from accounts_app.signals import limit_reached

logger = logging.getLogger(__name__)

MAX_REMEMBERED: Final = 10_000
"""Budgets of which a process has a block in memory; the least recently used go first, and their blocks with them."""
REQUESTS_WINDOW_S: Final = 10.0
LARGEST_BLOCK: Final = 200
_BLOCKS: Final = 50
"""A budget has at least so many blocks, as long as that makes whole requests: what is left over in one is lost."""
_IPV6_NETWORK: Final = ~((1 << 64) - 1)


@dataclass(slots=True)
class _Remembered:
    """What a process knows of one budget without asking."""

    left: int = 0
    refused_until: datetime | None = None
    spent_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """There is nothing left. `is_news` is false when only memory said so."""

    wait_s: int
    """After how many whole seconds there is something again; at least 1."""
    is_news: bool = True


@dataclass(frozen=True)
class Limit:
    """So many in a window of seconds, for each key. All may come at once; then they come back one by one."""

    name: str
    what: str
    """Of what, in the plural; for people."""
    count: int
    window_s: float
    block: int = 1
    _remembered: OrderedDict[str, _Remembered] = field(default_factory=OrderedDict, repr=False, compare=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def take(self, key: str, now: datetime | None = None) -> Refusal | None:
        """Take one out of the budget of this key; return None, or why not."""
        with self._lock:
            known = self._known(key)
            if known.left:
                known.left -= 1
                return None
        now = now or datetime.now(UTC)
        wait = _bounded(known.refused_until, now, self.window_s)
        if wait > timedelta():
            return Refusal(_whole_s(wait), is_news=False)
        wait = self._take_block(key, known, now)
        return Refusal(_whole_s(wait)) if wait > timedelta() else None

    def wait_s(self, key: str, now: datetime) -> int:
        """Return after how many seconds there is one more; 0 when there is one now. Takes nothing."""
        row = Budget.objects.filter(pk=self._row_key(key)).first()
        wait = self.after_taking(row.spent_until if row else None, now, 1) - now - self._window
        return _whole_s(wait) if wait > timedelta() else 0

    def give_back(self, key: str, now: datetime) -> None:
        """Put back one that was taken."""
        with transaction.atomic():
            row = Budget.objects.filter(pk=self._row_key(key)).first()
            if row is not None:
                row.spent_until = max(now, row.spent_until - self._interval)
                row.save(update_fields=["spent_until"])
        with self._lock:
            self._remembered.pop(key, None)

    def forget(self) -> None:
        """Forget what is in memory; the database knows."""
        with self._lock:
            self._remembered.clear()

    def after_taking(self, spent_until: datetime | None, now: datetime, count: int) -> datetime:
        """Return when all is there again once so many more are taken. Pure."""
        return now + _bounded(spent_until, now, self.window_s) + self._interval * count

    @property
    def _interval(self) -> timedelta:
        return timedelta(seconds=self.window_s / self.count)

    @property
    def _window(self) -> timedelta:
        return timedelta(seconds=self.window_s)

    def _row_key(self, key: str) -> str:
        return f"{self.name}:{key}"[:160]

    def _known(self, key: str) -> _Remembered:
        known = self._remembered.get(key)
        if known is None:
            known = self._remembered[key] = _Remembered()
            if len(self._remembered) > MAX_REMEMBERED:
                self._remembered.popitem(last=False)
        else:
            self._remembered.move_to_end(key)
        return known

    def _take_block(self, key: str, known: _Remembered, now: datetime) -> timedelta:
        """Take a block and one out of it; return how long to wait where there is none."""
        try:
            wait, spent_until = self._take_from_database(key, now)
        except OperationalError as error:
            # Reading goes on while nothing can be written: then what this process remembers is the budget.
            logger.warning("The budget %s is counted in memory for now: %s", self.name, error)
            spent_until = self.after_taking(known.spent_until, now, self.block)
            wait = spent_until - now - self._window
        with self._lock:
            if wait > timedelta():
                known.refused_until = now + wait
            else:
                known.left += self.block - 1
                known.refused_until, known.spent_until = None, spent_until
        return wait

    def _take_from_database(self, key: str, now: datetime) -> tuple[timedelta, datetime]:
        row_key = self._row_key(key)
        with transaction.atomic():
            row = Budget.objects.filter(pk=row_key).first()
            spent_until = self.after_taking(row.spent_until if row else None, now, self.block)
            wait = spent_until - now - self._window
            if wait <= timedelta():
                Budget.objects.filter(spent_until__lte=now).delete()
                Budget.objects.update_or_create(pk=row_key, defaults={"spent_until": spent_until})
        return wait, spent_until


SIGN_INS: Final = Limit("sign_in", "failed sign-ins from this address", count=30, window_s=60)
"""Of an address, whatever the names."""
TOKENS: Final = Limit("token", "tokens of this account", count=60, window_s=60)
"""Pairs that are given to an account, and refresh tokens that it shows."""
JOIN_TOKENS: Final = Limit("join_token", "join tokens of this account", count=60, window_s=60)
DENIALS: Final = Limit("denial", "refused requests of this account", count=60, window_s=60)
"""Those that are written down one by one."""
_NEWS: Final = Limit("news", "news", count=1, window_s=60)
"""Entries of the audit that say that a budget is spent."""

_requests: dict[float, Limit] = {}


def requests_limit() -> Limit | None:
    """Return the limit of REST requests by the settings; None when there is none."""
    per_s = settings.OCTASKLY_MAX_REQUESTS_PER_S
    if not per_s:
        return None
    limit = _requests.get(per_s)
    if limit is None:
        count = max(1, math.floor(per_s * REQUESTS_WINDOW_S))
        block = min(LARGEST_BLOCK, max(1, count // _BLOCKS))
        limit = _requests.setdefault(per_s, Limit("request", "requests", count, REQUESTS_WINDOW_S, block))
    return limit


def tell(limit: Limit, refusal: Refusal, key: str, *, username: str, address: str) -> None:
    """Announce that somebody's budget is spent: once a minute at most, since news must not be the flood."""
    if refusal.is_news and _NEWS.take(f"{limit.name}:{key}") is None:
        # Robust: the refusal stands even where it cannot be written down.
        limit_reached.send_robust(sender=None, limit=limit.name, username=username, address=address)


def forget() -> None:
    """Forget what this process has in memory of all budgets."""
    for limit in (SIGN_INS, TOKENS, JOIN_TOKENS, DENIALS, _NEWS, *_requests.values()):
        limit.forget()


def key_of(user: Any) -> str:
    """Return whose budget an account has."""
    return f"user {user.pk}"


def network_of(address: str) -> str:
    """Return whose budget an address has: of IPv6 the network of 64 bits, as a machine has all of its addresses."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return f"{IPv6Address(int(parsed) & _IPV6_NETWORK)}/64"


def _bounded(until: datetime | None, now: datetime, most_s: float) -> timedelta:
    """Return how far a time is ahead; never more than may be: the clock may have been set back."""
    if until is None or until <= now:
        return timedelta()
    return min(until - now, timedelta(seconds=most_s))


def _whole_s(wait: timedelta) -> int:
    return max(1, math.ceil(wait.total_seconds()))
