"""Waits for many tasks at once, while more are added.

A wait covers at most 500 tasks and knows only those it was asked with. So there are several at a time: what is new
gets one of its own, and when there are as many as allowed, the smallest is broken off and asked again with more.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Final, Self

import msgspec

from octaskly.answers import Task
from octaskly.async_client import AsyncClient
from octaskly.errors import OctasklyError
from octaskly.flows.tasks import MAX_WAITED_FOR

MAX_WAITS: Final = 6
GATHER_S: Final = 0.01
"""How long more tasks are gathered before a wait begins: they often come one by one."""


class Unwatched(msgspec.Struct, frozen=True):
    """Tasks of which nothing more will be told, and why."""

    task_ids: list[str]
    error: OctasklyError


class Watch:
    """Tells which of the added tasks have ended."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._waits: dict[asyncio.Task[None], list[str]] = {}
        self._behind: deque[str] = deque()
        self._filling: asyncio.TimerHandle | None = None
        self._ended: asyncio.Queue[Task | Unwatched] = asyncio.Queue()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._filling is not None:
            self._filling.cancel()
        waits = list(self._waits)
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)

    def add(self, task_ids: Iterable[str]) -> None:
        """Wait for these, too."""
        self._behind.extend(task_ids)
        if self._filling is None:
            self._filling = asyncio.get_running_loop().call_later(GATHER_S, self._fill)

    async def next(self) -> Task | Unwatched:
        """Return the next task that has ended."""
        return await self._ended.get()

    def _fill(self) -> None:
        self._filling = None
        while self._behind:
            group: list[str] = []
            if len(self._waits) >= MAX_WAITS:
                smallest = min(self._waits, key=lambda wait: len(self._waits[wait]))
                if len(self._waits[smallest]) >= MAX_WAITED_FOR:
                    return
                group = self._waits.pop(smallest)
                smallest.cancel()
            while self._behind and len(group) < MAX_WAITED_FOR:
                group.append(self._behind.popleft())
            self._waits[asyncio.create_task(self._wait(group))] = group

    async def _wait(self, group: list[str]) -> None:
        """Wait until all of a group have ended, taking in others as room comes."""
        this = asyncio.current_task()
        try:
            while group:
                ended = await self._client.wait_some(group)
                gone = {task.id for task in ended}
                group[:] = [task_id for task_id in group if task_id not in gone]
                for task in ended:
                    self._ended.put_nowait(task)
                while self._behind and len(group) < MAX_WAITED_FOR:
                    group.append(self._behind.popleft())
        except OctasklyError as error:
            self._ended.put_nowait(Unwatched(group, error))
        finally:
            if this is not None:
                self._waits.pop(this, None)
