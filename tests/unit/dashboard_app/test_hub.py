"""When the hub looks, and what subscribers get of it: in virtual time, with a look that costs what it is told to."""

from __future__ import annotations

import asyncio
import json
import logging
from itertools import pairwise
from typing import Any

import pytest
from django.db import OperationalError

from dashboard_app.live.hub import FRAME_S, LONGEST_S, Hub, Subscription
from dashboard_app.live.looks import Seen
from dashboard_app.live.scope import Scope
from tasks_app.feed import Feed
from tests.support.virtual_loop import run

ALL, ALICE, BOB = Scope(None), Scope(1), Scope(2)


class Desk:
    """What is looked at: a number of each scope, and how long each look takes."""

    def __init__(self) -> None:
        self.feed = Feed()
        self.numbers: dict[Scope, int] = {}
        self.costs_s = 0.0
        self.failure: Exception | None = None
        self.looks: list[tuple[float, Scope]] = []
        self.hub = Hub(self._look_at, self.feed)

    def _look_at(self, scope: Scope):
        async def look() -> Seen:
            self.looks.append((asyncio.get_running_loop().time(), scope))
            await asyncio.sleep(self.costs_s)
            if self.failure is not None:
                raise self.failure
            return Seen(summary={"number": self.numbers.get(scope, 0)}, tasks={}, cost_s=self.costs_s)

        return look

    def change(self, scope: Scope = ALL) -> None:
        self.numbers[scope] = self.numbers.get(scope, 0) + 1
        self.feed.tell()

    def times(self, scope: Scope = ALL) -> list[float]:
        return [at_s for at_s, looked in self.looks if looked == scope]


async def next_of(subscription: Subscription) -> tuple[float, dict[str, Any]]:
    """Return the next frame, after the time at which it came."""
    frame = json.loads(await subscription.next())
    return round(asyncio.get_running_loop().time(), 3), frame


def test_nothing_is_done_while_nobody_watches():
    """Neither before the first subscriber nor after the last."""

    async def story() -> None:
        desk = Desk()
        await asyncio.sleep(60)
        assert not desk.looks
        with desk.hub.subscribe(ALL) as subscription:
            await subscription.next()
        count = len(desk.looks)
        await asyncio.sleep(60)
        assert (len(desk.looks), desk.hub._views, desk.feed._watches_of_all) == (count, {}, frozenset())

    run(story())


def test_a_change_is_told_at_once_and_many_make_two_frames_a_second():
    """The first after a quiet time has not to wait; then the newest state comes each half second."""

    async def story() -> None:
        desk = Desk()
        with desk.hub.subscribe(ALL) as subscription:
            assert await next_of(subscription) == (
                0.0, {"type": "state", "version": 1, "is_full": True, "summary": {"number": 0}, "tasks": {}},
            )  # fmt: skip
            await asyncio.sleep(1.25)
            desk.change()
            at_s, frame = await next_of(subscription)
            assert (at_s, frame["summary"], frame["is_full"]) == (1.25, {"number": 1}, False)

            async def change_often() -> None:
                while True:
                    desk.change()
                    await asyncio.sleep(0.01)

            changing = asyncio.create_task(change_often())
            times = [(await next_of(subscription))[0] for _ in range(20)]
            changing.cancel()
            assert all(later - earlier >= FRAME_S - 1e-9 for earlier, later in pairwise(times))
            assert times[-1] == pytest.approx(1.25 + 20 * FRAME_S)

    run(story())


def test_what_nobody_tells_is_seen_all_the_same():
    """Two seconds after the last look; a look that finds nothing new makes no frame."""

    async def story() -> None:
        desk = Desk()
        with desk.hub.subscribe(ALL) as subscription:
            await subscription.next()
            await asyncio.sleep(5)
            assert desk.times() == [0.0, LONGEST_S, 2 * LONGEST_S]
            desk.numbers[ALL] = 7
            at_s, frame = await next_of(subscription)
            assert (at_s, frame["summary"]) == (3 * LONGEST_S, {"number": 7})

    run(story())


def test_a_look_takes_a_tenth_of_the_time_at_most():
    """One that took half a second is followed by the next after five."""

    async def story() -> None:
        desk = Desk()
        desk.costs_s = 0.5
        with desk.hub.subscribe(ALL):
            for _ in range(190):
                desk.change()
                await asyncio.sleep(0.1)
        assert desk.times() == pytest.approx([0.0, 5.0, 10.0, 15.0])

    run(story())


def test_clients_share_one_tenth_and_leave_the_operators_theirs():
    """A hundred of them get their turn one after the other; the operators' looks do not wait for that."""

    async def story() -> None:
        desk = Desk()
        desk.costs_s = 0.02
        views = [desk.hub.subscribe(Scope(number)) for number in range(100)]
        for view in views:
            view.__enter__()
        with desk.hub.subscribe(ALL):
            for _ in range(400):
                desk.change()
                await asyncio.sleep(0.1)
        for view in views:
            view.__exit__(None, None, None)
        of_clients = [at_s for at_s, scope in desk.looks if scope != ALL]
        assert len(of_clients) == pytest.approx(40 / (10 * 0.02), abs=2)
        assert {len(desk.times(Scope(number))) for number in range(100)} <= {2, 3}
        assert len(desk.times()) == pytest.approx(40 / 0.52, abs=8)

    run(story())


def test_all_subscribers_of_a_scope_share_its_looks_and_see_nothing_of_others():
    """Whoever comes later begins with what is known, all of it."""

    async def story() -> None:
        desk = Desk()
        desk.numbers = {ALICE: 10, BOB: 20}
        with desk.hub.subscribe(ALICE) as first, desk.hub.subscribe(BOB) as other:
            assert (await next_of(first))[1]["summary"] == {"number": 10}
            assert (await next_of(other))[1]["summary"] == {"number": 20}
            await asyncio.sleep(1)
            with desk.hub.subscribe(ALICE) as second:
                at_s, frame = await next_of(second)
                assert (at_s, frame["is_full"], frame["summary"]) == (1.0, True, {"number": 10})
                desk.change(ALICE)
                for subscription in (first, second):
                    assert (await next_of(subscription))[1]["summary"] == {"number": 11}
            assert len(desk.times(ALICE)) == 2

    run(story())


def test_a_slow_subscriber_gets_the_newest_and_no_backlog():
    """However much has happened meanwhile, one frame brings it up to date, and holds up nobody."""

    async def story() -> None:
        desk = Desk()
        with desk.hub.subscribe(ALL) as slow, desk.hub.subscribe(ALL) as quick:
            await slow.next()
            await quick.next()
            for _ in range(10):
                desk.change()
                await quick.next()
            frame = json.loads(await slow.next())
            assert (frame["summary"], frame["is_full"]) == ({"number": 10}, False)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(60):
                    await slow.next()

    run(story())


@pytest.mark.parametrize("failure", [OperationalError("database is locked"), ZeroDivisionError()])
def test_a_look_that_fails_is_logged_once_and_tried_again(failure, caplog):
    """Subscribers stay and get on as soon as it succeeds."""

    async def story() -> None:
        desk = Desk()
        desk.failure = failure
        with desk.hub.subscribe(ALL) as subscription:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(30):
                    await subscription.next()
            desk.failure = None
            at_s, frame = await next_of(subscription)
            assert at_s <= 30 + LONGEST_S
            assert frame["is_full"]

    with caplog.at_level(logging.WARNING):
        run(story())
    assert len(caplog.records) == 1
