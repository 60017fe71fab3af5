"""What a peer may send: it follows what was taken, in steps."""

from __future__ import annotations

import random

import pytest

from octaskly_quic.credit import raised_limit
from octaskly_quic.rate import Rate

WINDOW = 1 << 20


def test_nothing_taken_is_no_more_credit():
    """A peer whose bytes nobody takes keeps the limit it began with."""
    assert raised_limit(WINDOW, 0, WINDOW) == WINDOW


def test_credit_follows_what_was_taken():
    """The peer may never have more than a window on its way, is told seldom, and is never left without credit for good."""
    chance = random.Random(7)
    limit, taken, told = WINDOW, 0, 0
    while taken < 50 * WINDOW:
        taken += chance.randint(1, min(limit - taken, 5000))
        raised = raised_limit(limit, taken, WINDOW)
        assert limit <= raised <= taken + WINDOW
        assert raised - taken >= WINDOW * 3 // 4
        told += raised != limit
        limit = raised
    assert told <= 4 * 50 + 1


def test_a_wider_window_counts_at_once():
    """Who is trusted may send the wider window without having been taken from."""
    assert raised_limit(64 << 10, 0, WINDOW) == WINDOW


@pytest.mark.parametrize("pace_s", [0.0, 0.0001, 0.05])
def test_a_rate_allows_its_number_a_second(pace_s):
    """However fast they come: at most the number at once, and as many each second after."""
    rate, now, allowed = Rate(100), 50.0, 0
    for _ in range(2000):
        allowed += rate.allows(now)
        now += pace_s
    assert min(2000, 100) <= allowed <= 100 + 100 * 2000 * pace_s + 1
