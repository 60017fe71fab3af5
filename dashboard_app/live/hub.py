"""Looks for those who watch live events, and gives each what has changed since its last frame.

While nobody watches, nothing is done. However many watch a scope, one look serves them all; and each gets the newest
state when it can take it, never a backlog.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Final

from django.db import OperationalError

from dashboard_app.live.board import Board
from dashboard_app.live.looks import Seen
from dashboard_app.live.scope import Scope
from tasks_app.feed import Feed, Watch

logger = logging.getLogger(__name__)

FRAME_S: Final = 0.5
"""Between two frames to a subscriber, and between two looks."""
LONGEST_S: Final = 2.0
"""How soon is noticed what nobody tells: a load, a change made by another process."""
RESTS_PER_LOOK: Final = 10
"""A look takes at most a tenth of a processor: what it cost is rested so many times over, counted from its start."""
MAX_FRAMES: Final = 4
"""Kept as text: most subscribers have the version before, or none."""

Look = Callable[[], Awaitable[Seen]]


class Subscription:
    """One subscriber of a scope."""

    def __init__(self, view: _View) -> None:
        self._view = view
        self._version = 0
        self._next_at_s = 0.0

    async def next(self) -> str:
        """Return the next frame as JSON, as soon as something has changed and the frame before is half a second old."""
        loop = asyncio.get_running_loop()
        await asyncio.sleep(max(0.0, self._next_at_s - loop.time()))
        while self._view.board.version == self._version:
            await self._view.changed.wait()
        self._next_at_s = loop.time() + FRAME_S
        frame = self._view.frame_since(self._version)
        self._version = self._view.board.version
        return frame


class Hub:
    """All scopes that are watched. Belongs to one loop."""

    def __init__(self, new_look: Callable[[Scope], Look], feed: Feed) -> None:
        """Look at a scope with what `new_look` returns for it; be woken by the feed."""
        self._new_look = new_look
        self._feed = feed
        self._views: dict[Scope, _View] = {}
        self._pace_of_all = _Pace()
        self._pace_of_owners = _Pace()
        """One for all clients together: many scopes must not cost more than one."""

    @contextmanager
    def subscribe(self, scope: Scope) -> Iterator[Subscription]:
        """Watch a scope; the first frame has everything."""
        view = self._views.get(scope)
        if view is None:
            pace = self._pace_of_all if scope.owner_id is None else self._pace_of_owners
            view = self._views[scope] = _View(self._new_look(scope), self._feed, pace)
        view.subscribers += 1
        try:
            yield Subscription(view)
        finally:
            view.subscribers -= 1
            if not view.subscribers:
                view.close()
                del self._views[scope]


class _Pace:
    """Keeps looks apart, so that they never take more than their share of the time."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._not_before_s = 0.0

    async def look(self, try_to_look: Callable[[], Awaitable[float]]) -> float:
        """Look when it is due, one after the other in the order of asking; return when it began."""
        loop = asyncio.get_running_loop()
        async with self._turn:
            await asyncio.sleep(max(0.0, self._not_before_s - loop.time()))
            began_s = loop.time()
            self._not_before_s = began_s + RESTS_PER_LOOK * await try_to_look()
            return began_s


class _View:
    """A scope that is watched: its board, kept up by a task."""

    def __init__(self, look: Look, feed: Feed, pace: _Pace) -> None:
        self.board = Board()
        self.changed = asyncio.Event()
        """Set at the next change, and replaced then."""
        self.subscribers = 0
        self._look = look
        self._feed = feed
        self._pace = pace
        self._frames: dict[int, str] = {}
        """Of the present version, by the version that they start from."""
        self._is_failing = False
        self._looking = asyncio.create_task(self._keep_up(), name="live events")

    def close(self) -> None:
        """Look no more."""
        self._looking.cancel()

    def frame_since(self, version: int) -> str:
        """Return the frame from this version to the present one."""
        if version not in self._frames:
            if len(self._frames) >= MAX_FRAMES:
                self._frames.clear()
            frame = self.board.since(version)
            self._frames[version] = json.dumps(frame, ensure_ascii=False, separators=(",", ":"))
        return self._frames[version]

    async def _keep_up(self) -> None:
        with self._feed.watch_all() as watch:
            while True:
                looked_at_s = await self._pace.look(partial(self._try_to_look, watch))
                await _until_told(watch, looked_at_s)

    async def _try_to_look(self, watch: Watch) -> float:
        """Look, put down what was seen, and return what it cost; after a failure all stays as it is until the next try."""
        watch.forget()
        try:
            seen = await self._look()
        except OperationalError as error:
            if not self._is_failing:
                logger.warning("Live events cannot be read now, trying again: %s", error)
            self._is_failing = True
        except Exception:
            if not self._is_failing:
                logger.exception("Live events cannot be read, trying again")
            self._is_failing = True
        else:
            self._is_failing = False
            self._put(seen)
            return seen.cost_s
        return 0.0

    def _put(self, seen: Seen) -> None:
        before = self.board.version
        self.board.put_value("summary", seen.summary)
        if seen.workers is not None:
            self.board.put("workers", seen.workers)
        self.board.put("tasks", seen.tasks)
        self.board.add_events(seen.events)
        if seen.point is not None:
            self.board.put_value("point", seen.point)
        if self.board.version != before:
            self._frames.clear()
            self.changed.set()
            self.changed = asyncio.Event()


async def _until_told(watch: Watch, looked_at_s: float) -> None:
    """Return at a change, but neither too soon after the last look nor too late."""
    loop = asyncio.get_running_loop()
    await asyncio.sleep(max(0.0, looked_at_s + FRAME_S - loop.time()))
    with suppress(TimeoutError):
        async with asyncio.timeout_at(looked_at_s + LONGEST_S):
            await watch.told()
