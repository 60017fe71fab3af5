"""A page as anybody would write one: follows live events over a WebSocket and keeps the state up with the frames."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.support.api import Api

PATIENCE_S = 20.0


class EventsReader:
    """One connection, and what it has shown so far."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.frames: list[dict[str, Any]] = []
        self.times_s: list[float] = []
        self.summary: dict[str, Any] = {}
        self.tasks: dict[str, dict[str, Any]] = {}
        self.workers: dict[str, dict[str, Any]] = {}
        self.events: list[dict[str, Any]] = []

    def next(self, timeout_s: float = PATIENCE_S) -> dict[str, Any]:
        """Take the next frame in and return it."""
        frame = json.loads(self.socket.recv(timeout_s))
        self.frames.append(frame)
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

    def close_code(self) -> int:
        """Read to the end; return the code that the connection was closed with."""
        try:
            while True:
                self.next()
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else 0


@contextlib.contextmanager
def events_reader(api: Api, **options: Any) -> Iterator[EventsReader]:
    """Watch live events with the user's token; `options` of the connection may say otherwise."""
    url = str(api.http.base_url).replace("http", "ws", 1).rstrip("/")
    options.setdefault("additional_headers", {"Authorization": api.http.headers.get("Authorization", "")})
    with connect(f"{url}/ws/events", **options) as socket:
        yield EventsReader(socket)
