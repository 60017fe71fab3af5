"""Requests as no proper client sends them: bytes over a socket, and what else happens to the server meanwhile."""

from __future__ import annotations

import base64
import contextlib
import os
import select
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import httpx
import psutil

from tests.support.wait import wait_until

SAMPLE_S = 0.02
MEGABYTE = 1 << 20


class Answer(NamedTuple):
    """What came back, and when."""

    status: int
    """0 when the connection was closed without a word."""
    text: bytes
    took_s: float


class RawHttp:
    """One server on loopback."""

    def __init__(self, port: int, token: str) -> None:
        self.port = port
        self._token = token

    def head(self, method: str, path: str, *headers: str, anonymous: bool = False) -> bytes:
        """Return the head of a request, signed in unless `anonymous`."""
        lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *headers]
        if not anonymous:
            lines.append(f"Authorization: Bearer {self._token}")
        return "\r\n".join([*lines, "\r\n"]).encode("latin1")

    def json(self, method: str, path: str, body: bytes, *headers: str, anonymous: bool = False) -> bytes:
        """Return a whole request with a JSON body."""
        named = ("Content-Type: application/json", f"Content-Length: {len(body)}", *headers)
        return self.head(method, path, *named, anonymous=anonymous) + body

    def ask(self, request: bytes, more: Iterable[bytes] = (), pause_s: float = 0.0, timeout_s: float = 30.0) -> Answer:
        """Send a request, and more of it in pieces as long as the server takes them; return the first answer."""
        began = time.monotonic()
        received = b""
        with self.connect(timeout_s) as connection, contextlib.suppress(OSError):
            connection.sendall(request)
            for piece in more:
                if select.select([connection], [], [], pause_s)[0]:
                    break
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    connection.sendall(piece)
                    continue
                break
            while b"\r\n\r\n" not in received and (piece := connection.recv(65_536)):
                received += piece
        status = received.split(b" ", 2)[1] if received.startswith(b"HTTP/1.1 ") else b"0"
        return Answer(int(status), received, time.monotonic() - began)

    def connect(self, timeout_s: float = 30.0) -> socket.socket:
        """Return a connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout_s)

    def web_socket(self, path: str = "/ws/events") -> socket.socket:
        """Return an open WebSocket of somebody who is signed in."""
        connection = self.connect()
        key = base64.b64encode(os.urandom(16)).decode()
        upgrade = (
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Key: {key}",
        )
        connection.sendall(self.head("GET", path, *upgrade))
        answer = connection.recv(4096)
        assert answer.startswith(b"HTTP/1.1 101"), answer
        return connection


def frame(payload: bytes, opcode: int = 1) -> bytes:
    """Return a short masked WebSocket frame; with a mask of zeros it reads as it is."""
    return bytes([0x80 | opcode, 0x80 | len(payload), 0, 0, 0, 0]) + payload


class Watched:
    """A server's memory and its answers to others, sampled while something is done to it."""

    def __init__(self, url: str, pid: int) -> None:
        self._url = url
        self._process = psutil.Process(pid)
        self.worst_answer_s = 0.0
        self._before_bytes = 0
        self._is_over = False

    @contextlib.contextmanager
    def during(self) -> Iterator[Watched]:
        """Watch for the length of a block."""
        self._before_bytes = self._process.memory_info().rss
        thread = threading.Thread(target=self._sample)
        thread.start()
        try:
            yield self
        finally:
            self._is_over = True
            thread.join()

    def assert_growth_below(self, bound_bytes: int) -> None:
        """Fail unless little is left of what was done; what is dead is collected as others are served."""
        grown_bytes = 0

        def has_room() -> bool:
            nonlocal grown_bytes
            for _ in range(20):
                httpx.get(f"{self._url}/health", trust_env=False)
            grown_bytes = self._process.memory_info().rss - self._before_bytes
            return grown_bytes < bound_bytes

        wait_until(has_room, "the memory is free again", timeout_s=5, describe=lambda: f"{grown_bytes >> 20} MB more")

    def _sample(self) -> None:
        with httpx.Client(base_url=self._url, trust_env=False, timeout=30) as others:
            while not self._is_over:
                began = time.monotonic()
                assert others.get("/health").status_code == httpx.codes.OK
                self.worst_answer_s = max(self.worst_answer_s, time.monotonic() - began)
                time.sleep(SAMPLE_S)


def chunked(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Return the pieces as chunks of a body."""
    for piece in pieces:
        yield b"%x\r\n%b\r\n" % (len(piece), piece)
