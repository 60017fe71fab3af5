"""Whoever waits for a task is woken by its change."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from tasks_app.feed import Feed

LONG_S = 60.0


def unread_ids() -> Iterator[str]:
    """Fail whoever looks at them."""
    raise AssertionError("the ids were looked at")
    yield


def test_a_change_told_by_a_thread_wakes_its_watches():
    """Those of the task, and no others."""

    async def story() -> None:
        feed = Feed()
        with feed.watch(["a", "b"]) as watch, feed.watch(["c"]) as other:
            await asyncio.to_thread(feed.tell, ["b", "x"])
            await watch.changed(LONG_S)
            assert not other._is_told.is_set()

    asyncio.run(story())


def test_a_change_between_two_waits_is_not_missed():
    """What is told while nobody waits is there at the next wait, once."""

    async def story() -> None:
        feed = Feed()
        with feed.watch(["a"]) as watch:
            feed.tell(["a"])
            await asyncio.sleep(0)
            await watch.changed(LONG_S)
            assert not watch._is_told.is_set()

    asyncio.run(story())


def test_nothing_is_kept_of_a_watch_that_is_over():
    """And telling costs nothing then, not even a look at the ids."""

    async def story() -> None:
        feed = Feed()
        with feed.watch(["a", "a"]):
            pass
        assert not feed._watches
        feed.tell(unread_ids())

    asyncio.run(story())


def test_telling_after_the_loop_has_ended_does_nothing():
    """The writer's thread may outlive the loop at the end."""
    feed = Feed()

    async def story() -> None:
        feed.watch(["a"]).__enter__()

    asyncio.run(story())
    feed.tell(["a"])


def test_whoever_watches_everything_hears_of_tasks_and_of_what_is_no_task():
    """Without that the ids are looked at, which nobody asked for."""

    async def story() -> None:
        feed = Feed()
        with feed.watch_all() as watch:
            await asyncio.to_thread(feed.tell)
            await watch.changed(LONG_S)
            await asyncio.to_thread(feed.tell, unread_ids())
            await watch.changed(LONG_S)
            assert not watch.is_told
        feed.tell(unread_ids())
        assert not feed._watches_of_all

    asyncio.run(story())


def test_tasks_are_told_although_everybody_who_watches_everything_was_told_already():
    """A watch of one task is not forgotten for that."""

    async def story() -> None:
        feed = Feed()
        with feed.watch_all() as everything, feed.watch(["a"]) as watch:
            everything.tell()
            feed.tell(["a"])
            await watch.changed(LONG_S)

    asyncio.run(story())


def test_who_waits_for_ends_hears_of_nothing_else():
    """Of several changes of its task one wakes it; others are told of each."""

    async def story() -> None:
        feed = Feed()
        with feed.watch(["a"], only_ends=True) as end, feed.watch(["a"]) as watch:
            feed.tell(["a", "b"], ended=["b"])
            await watch.changed(LONG_S)
            assert not end.is_told
            feed.tell(["a"], ended=["a"])
            await watch.changed(LONG_S)
            assert end.is_told
        assert not feed._watches
        assert not feed._watches_of_ends
        feed.tell(unread_ids(), ended=unread_ids())

    asyncio.run(story())
