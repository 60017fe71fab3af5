"""Clients that follow a task's output: over HTTP in a thread, over a WebSocket frame by frame."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import httpx

from tests.support.api import Api
from tests.support.frames import PATIENCE_S, FrameReader, open_socket
from tests.support.wait import wait_until


class HttpReader:
    """Follows one stream over HTTP in a thread of its own, and keeps what comes."""

    def __init__(self, api: Api, path: str, *, keeps: bool = True) -> None:
        self.received = bytearray()
        self.count = 0
        self.status = 0
        self.headers: httpx.Headers = httpx.Headers()
        self.failure = ""
        self._keeps = keeps
        self._http = httpx.Client(base_url=api.http.base_url, headers=api.http.headers, timeout=60, trust_env=False)
        self._path = f"/api/v1/{path}"
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        try:
            with self._http, self._http.stream("GET", self._path) as response:
                self.status, self.headers = response.status_code, response.headers
                for piece in response.iter_raw():
                    self.count += len(piece)
                    if self._keeps:
                        self.received += piece
        except httpx.TransportError as error:
            self.failure = repr(error)

    @property
    def is_over(self) -> bool:
        return not self._thread.is_alive()

    def wait_for(self, text: bytes) -> None:
        """Wait until this was read."""
        wait_until(lambda: text in self.received, f"a reader gets {text!r}", describe=lambda: repr(self))

    def finish(self) -> bytes:
        """Wait for the end; return all that came."""
        self._thread.join(PATIENCE_S)
        assert self.is_over, f"the reader did not end: {self!r}"
        return bytes(self.received)

    def __repr__(self) -> str:
        return f"HTTP {self.status}, {self.count} bytes, {self.failure}, ends with {bytes(self.received[-500:])!r}"


class SocketReader(FrameReader):
    """Follows a task over a WebSocket."""

    def until(self, kind: str, **fields: Any) -> dict[str, Any]:
        """Read on to a frame with these fields, and return it."""
        while True:
            frame = self.next()
            if {"type": kind, **fields}.items() <= frame.items():
                return frame
            assert frame["type"] != "end", f"the end came before a {kind} {fields}: {self.frames}"

    def text_of(self, stream: str) -> str:
        """Return what came of a stream so far."""
        return "".join(frame["data"] for frame in self.frames if frame.get("stream") == stream and "data" in frame)


@contextlib.contextmanager
def socket_reader(api: Api, task_id: str, query: str = "", **options: Any) -> Iterator[SocketReader]:
    """Follow a task with the user's token; `options` of the connection may say otherwise."""
    with open_socket(api, f"/ws/tasks/{task_id}/output{query}", **options) as socket:
        yield SocketReader(socket)
