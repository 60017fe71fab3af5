"""A page as anybody would write one: follows live events over a WebSocket and keeps the state up with the frames."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

from websockets.sync.client import ClientConnection

from tests.support.api import Api
from tests.support.frames import FrameReader, open_socket

PATIENCE_S = 20.0


class EventsReader(FrameReader):
    """One connection, and what it has shown so far."""

    def __init__(self, socket: ClientConnection) -> None:
        super().__init__(socket)
        self.times_s: list[float] = []
        self.summary: dict[str, Any] = {}
        self.tasks: dict[str, dict[str, Any]] = {}
        self.workers: dict[str, dict[str, Any]] = {}
        self.events: list[dict[str, Any]] = []

    def next(self, timeout_s: float = PATIENCE_S) -> dict[str, Any]:
        """Take the next frame in and return it."""
        frame = super().next(timeout_s)
        self.times_s.append(time.monotonic())
        if frame.get("is_full"):
            self.tasks, self.workers, self.events = {}, {}, []
        self.summary = frame.get("summary", self.summary)
        for known, section in ((self.tasks, "tasks"), (self.workers, "workers")):
            known.update(frame.get(section, {}))
            for key in [key for key, value in known.items() if value is None]:
                del known[key]
        self.events += frame.get("events", [])
        return frame

    def until(self, condition: Callable[[], Any], what: str) -> None:
        """Take frames in until this is so."""
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            left_s = deadline - time.monotonic()
            assert left_s > 0, f"not seen: {what}; {self.frames[-3:]}"
            with contextlib.suppress(TimeoutError):
                self.next(left_s)

    def worker_named(self, name: str) -> dict[str, Any]:
        """Return a worker's card, empty when there is none."""
        return next((card for card in self.workers.values() if card["name"] == name), {})


@contextlib.contextmanager
def events_reader(api: Api, **options: Any) -> Iterator[EventsReader]:
    """Watch live events with the user's token; `options` of the connection may say otherwise."""
    with open_socket(api, "/ws/events", **options) as socket:
        yield EventsReader(socket)
