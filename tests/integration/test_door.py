"""Visitors who speak HTTP on the workers' port: what they get, and how little they can hold up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dispatcher.shell import door
from dispatcher.shell.door import Answer, DoorKeeper
from octaskly_wire import identity, tls
from octaskly_wire.server_key import new_server_key

NOW = datetime.now(UTC)
CA, CA_KEY = identity.make_ca("c1", NOW)
KEY = new_server_key()
LEAF = identity.issue_dispatcher_certificate(CA, CA_KEY, "c1", KEY.public_key(), NOW)
CLIENT = tls.unverified_client_context()

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def visited(
    shown: dict[str, Answer], scenario: Callable[[Callable[[bytes], Awaitable[Streams]], list], Awaitable[None]]
):
    """Run a scenario against a keeper behind TLS. It gets `visit`, which connects and sends, and how visits ended."""
    ends: list[BaseException | None] = []

    async def main() -> None:
        keeper = DoorKeeper(lambda path, host: shown.get(path) if host == "pc" else None)

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await keeper.serve(await reader.readexactly(door.PEEK_BYTES), reader, writer)
                ends.append(None)
            except (OSError, TimeoutError) as error:
                ends.append(error)
            finally:
                writer.close()

        context = tls.server_context(CA, LEAF, KEY)
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
        port = server.sockets[0].getsockname()[1]
        opened: list[asyncio.StreamWriter] = []

        async def visit(data: bytes) -> Streams:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=CLIENT, server_hostname="")
            opened.append(writer)
            writer.write(data)
            await writer.drain()
            return reader, writer

        try:
            async with asyncio.timeout(30):
                await scenario(visit, ends)
        finally:
            for writer in opened:
                writer.transport.abort()
            server.close()

    asyncio.run(main())
    return ends


def request(path: str, method: str = "GET", host: str = "pc") -> bytes:
    """Return a request."""
    return f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()


def test_visitors_get_what_is_shown_and_nothing_else() -> None:
    """Text with its length, its head alone for HEAD, 404 for the rest and 400 for what is no request."""
    shown = {"/join.sh": Answer("text/plain", b"#!/bin/sh\n")}

    async def scenario(visit, ends) -> None:
        async def answer(data: bytes) -> bytes:
            reader, _ = await visit(data)
            return await reader.read()

        whole = await answer(request("/join.sh"))
        assert whole.startswith(b"HTTP/1.1 200 OK\r\n")
        assert whole.endswith(b"content-length: 10\r\ncache-control: no-store\r\nconnection: close\r\n\r\n#!/bin/sh\n")
        head = await answer(request("/join.sh", "HEAD"))
        assert head == whole.removesuffix(b"#!/bin/sh\n")
        assert (await answer(request("/etc/passwd"))).startswith(b"HTTP/1.1 404")
        assert (await answer(request("/join.sh", host="a'b"))).startswith(b"HTTP/1.1 404")
        assert (await answer(b"GET nonsense\r\n\r\n")).startswith(b"HTTP/1.1 400")
        assert (await answer(b"GET / HTTP/1.1\r\nHost: " + b"x" * door.MAX_HEAD_BYTES)).startswith(b"HTTP/1.1 400")

    visited(shown, scenario)


def test_a_large_file_arrives_whole_however_slowly_it_is_read(tmp_path: Path) -> None:
    """It is sent as fast as it is taken, and the connection is not closed before all of it is there."""
    content = bytes(range(256)) * (12 << 12)
    path = tmp_path / "bundle.zip"
    path.write_bytes(content)

    async def scenario(visit, ends) -> None:
        reader, writer = await visit(request("/worker/x.zip"))
        await reader.readuntil(b"\r\n\r\n")
        got = bytearray()
        while len(got) < len(content):
            got += await reader.read(8 << 10)
        assert got == content
        assert ends == []
        writer.close()

    visited({"/worker/x.zip": Answer("application/zip", path)}, scenario)


def test_who_does_not_finish_asking_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that stays half, or an answer that nobody takes, ends after a time."""
    monkeypatch.setattr(door, "HEAD_TIMEOUT_S", 0.2)

    async def scenario(visit, ends) -> None:
        reader, _ = await visit(b"GET / HT")
        assert await reader.read() == b""

    assert [type(end) for end in visited({}, scenario)] == [TimeoutError]


def test_who_does_not_read_is_dropped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A bundle that is not taken in time holds no place for longer."""
    monkeypatch.setattr(door, "ANSWER_TIMEOUT_S", 0.5)
    path = tmp_path / "bundle.zip"
    with path.open("wb") as file:
        file.truncate(64 << 20)

    async def scenario(visit, ends) -> None:
        _, writer = await visit(request("/worker/x.zip"))
        writer.transport.pause_reading()
        async with asyncio.timeout(10):
            while not ends:
                await asyncio.sleep(0.02)

    assert [type(end) for end in visited({"/worker/x.zip": Answer("application/zip", path)}, scenario)] == [
        TimeoutError
    ]


def test_visitors_leave_places_for_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond a number of visitors at once the next is told to come back."""
    monkeypatch.setattr(door, "MAX_AT_ONCE", 2)

    async def scenario(visit, ends) -> None:
        waiting = [await visit(b"GET / HT") for _ in range(2)]
        reader, _ = await visit(request("/join.sh"))
        assert (await reader.read()).startswith(b"HTTP/1.1 503")
        for _, writer in waiting:
            writer.transport.abort()
        async with asyncio.timeout(10):
            while len(ends) < 3:
                await asyncio.sleep(0.02)
        reader, _ = await visit(request("/join.sh"))
        assert (await reader.read()).startswith(b"HTTP/1.1 200")

    visited({"/join.sh": Answer("text/plain", b"x")}, scenario)
