"""Budgets and lockouts as arithmetic of times."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from accounts_app.limits import Limit, network_of
from accounts_app.lockout import lockout_after

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LIMIT = Limit("x", "things", count=30, window_s=60)


def taken_until_refused(limit: Limit, spent_until: datetime | None, now: datetime) -> tuple[int, datetime | None]:
    """Return how many are had one by one before the budget's time is further ahead than its window."""
    count = 0
    while (after := limit.after_taking(spent_until, now, 1)) <= now + timedelta(seconds=limit.window_s):
        spent_until, count = after, count + 1
    return count, spent_until


def test_all_may_come_at_once_and_then_come_back_one_by_one() -> None:
    """Thirty a minute: thirty now, one after two seconds, all after a minute."""
    count, spent_until = taken_until_refused(LIMIT, None, NOW)
    assert count == 30
    assert taken_until_refused(LIMIT, spent_until, NOW)[0] == 0
    assert taken_until_refused(LIMIT, spent_until, NOW + timedelta(seconds=2))[0] == 1
    assert taken_until_refused(LIMIT, spent_until, NOW + timedelta(hours=1))[0] == 30


def test_a_clock_that_was_set_back_shuts_nobody_out_for_longer_than_the_window() -> None:
    """A budget's time an hour ahead counts as a window ahead."""
    assert LIMIT.after_taking(NOW + timedelta(hours=1), NOW, 1) == NOW + timedelta(seconds=62)


def test_lockouts_grow_and_have_a_longest() -> None:
    """15 minutes, then twice as long each time, a day at most."""
    minutes = [lockout_after(lockouts) / timedelta(minutes=1) for lockouts in range(9)]
    assert minutes == [15, 30, 60, 120, 240, 480, 960, 1440, 1440]
    assert lockout_after(10_000) == timedelta(days=1)


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.168.1.7", "192.168.1.7"),
        ("::ffff:192.168.1.7", "192.168.1.7"),
        ("2001:db8:1:2:aaaa::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:bbbb::2", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("a socket", "a socket"),
    ],
)
def test_the_addresses_of_one_machine_have_one_budget(address: str, network: str) -> None:
    """Of IPv6 that is the network: a machine may choose among its addresses."""
    assert network_of(address) == network
