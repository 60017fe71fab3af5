"""Answers HTTP GETs on the workers' port: what a machine needs to join comes through the port it needs anyway.

The first four bytes tell who comes: as the length of a frame, "GET " and "HEAD" are far above every cap.
"""

from __future__ import annotations

import asyncio
import io
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Final

logger = logging.getLogger(__name__)

PEEK_BYTES: Final = 4
METHODS: Final = frozenset({b"GET ", b"HEAD"})
MAX_HEAD_BYTES: Final = 8 << 10
HEAD_TIMEOUT_S: Final = 10.0
ANSWER_TIMEOUT_S: Final = 120.0
"""For the whole answer: a bundle of 10 MB at 100 kB a second."""

MAX_AT_ONCE: Final = 64
"""Of all connections that are not admitted yet: visitors who read slowly must leave places for workers."""

CHUNK_BYTES: Final = 64 << 10


@dataclass(frozen=True, slots=True)
class Answer:
    """What a path holds: bytes, or a file that is sent as it is."""

    content_type: str
    body: bytes | Path


Door = Callable[[str, str], Answer | None]
"""Takes a path and the Host header; returns None where there is nothing. It may work for a while: it gets a thread."""


def closed(path: str, host: str) -> Answer | None:  # noqa: ARG001 - a Door
    """Have nothing at any path."""
    return None


class BadRequest(Exception):
    """What came is no request that the door answers."""


class DoorKeeper:
    """Serves visitors, each one answer."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._visitors = 0

    async def serve(self, peeked: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request; raises OSError or TimeoutError when the visitor is too slow or gone."""
        if self._visitors >= MAX_AT_ONCE:
            await _send(writer, HTTPStatus.SERVICE_UNAVAILABLE, _text("Too many visitors, try again."), has_body=True)
            return
        self._visitors += 1
        try:
            async with asyncio.timeout(HEAD_TIMEOUT_S):
                head = await _read_head(peeked, reader)
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                await self._answer(head, reader, writer)
        finally:
            self._visitors -= 1

    async def _answer(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        has_body = not head.startswith(b"HEAD")
        try:
            path, host = parse_head(head)
        except BadRequest as error:
            await _send(writer, HTTPStatus.BAD_REQUEST, _text(f"{error}."), has_body=has_body)
            return
        answer = await asyncio.to_thread(self._door, path, host)
        if answer is None:
            await _send(writer, HTTPStatus.NOT_FOUND, _text("There is nothing at this path."), has_body=has_body)
            return
        await _send(writer, HTTPStatus.OK, answer, has_body=has_body)
        if has_body and isinstance(answer.body, Path):
            # Closing flushes for a short time only; a visitor closes once it has all.
            await reader.read(1)


def parse_head(head: bytes) -> tuple[str, str]:
    """Return the path, without its query, and the Host header of a request's head; raises BadRequest."""
    lines = head.decode("latin-1").split("\r\n")
    parts = lines[0].split(" ")
    if len(parts) != 3 or not parts[2].startswith("HTTP/1.") or not parts[1].startswith("/"):  # noqa: PLR2004
        raise BadRequest("This is no HTTP/1 request")
    hosts = [value.strip() for name, _, value in (line.partition(":") for line in lines[1:]) if name.lower() == "host"]
    if len(hosts) != 1:
        raise BadRequest("There must be one Host header")
    return parts[1].partition("?")[0], hosts[0]


async def _read_head(peeked: bytes, reader: asyncio.StreamReader) -> bytes:
    head = bytearray(peeked)
    while b"\r\n\r\n" not in head:
        if len(head) > MAX_HEAD_BYTES:
            return b""  # No request line either, so it is refused in words.
        data = await reader.read(MAX_HEAD_BYTES)
        if not data:
            raise ConnectionResetError("the visitor left before its request was complete")
        head += data
    return bytes(head[: head.index(b"\r\n\r\n")])


async def _send(writer: asyncio.StreamWriter, status: HTTPStatus, answer: Answer, *, has_body: bool) -> None:
    with answer.body.open("rb") if isinstance(answer.body, Path) else io.BytesIO(answer.body) as body:
        size = body.seek(0, os.SEEK_END)
        body.seek(0)
        writer.write(
            f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: {answer.content_type}\r\n"
            f"content-length: {size}\r\ncache-control: no-store\r\nconnection: close\r\n\r\n".encode()
        )
        await writer.drain()
        while has_body and (chunk := body.read(CHUNK_BYTES)):
            writer.write(chunk)
            await writer.drain()


def _text(text: str) -> Answer:
    return Answer("text/plain; charset=utf-8", text.encode() + b"\n")
