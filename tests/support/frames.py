"""A WebSocket of the dispatcher as a program opens it: JSON frames, kept as they come."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.support.api import Api

PATIENCE_S = 30.0


class FrameReader:
    """One connection, and the frames that came so far."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.frames: list[dict[str, Any]] = []

    def next(self, timeout_s: float = PATIENCE_S) -> dict[str, Any]:
        """Return the next frame."""
        self.frames.append(json.loads(self.socket.recv(timeout_s)))
        return self.frames[-1]

    def close_code(self) -> int:
        """Read to the end; return the code that the connection was closed with."""
        try:
            while True:
                self.next()
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else 0


@contextlib.contextmanager
def open_socket(api: Api, path: str, **options: Any) -> Iterator[ClientConnection]:
    """Open a WebSocket with the user's token; `options` of the connection may say otherwise."""
    url = str(api.http.base_url).replace("http", "ws", 1).rstrip("/")
    options.setdefault("additional_headers", {"Authorization": api.http.headers.get("Authorization", "")})
    with connect(f"{url}{path}", **options) as socket:
        yield socket
