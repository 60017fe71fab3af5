"""The files of a small dispatcher: gives contents and takes them, and breaks off, lies or refuses when a test says so."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from typing import Any

from octaskly_wire.limits import MAX_CHUNK_BYTES
from octaskly_wire.messages import BlobChunk, BlobStored, FetchBlob, InputFile, SendBlob, StoreBlob, TransferRefused


class FileDesk:
    """What all transfer links of one dispatcher share."""

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}
        """To be fetched."""
        self.arrived: dict[str, bytearray] = {}
        """Stored, at least in part."""
        self.requests: list[FetchBlob | StoreBlob] = []
        self.refuses_fetch: TransferRefused | None = None
        self.refuses_store: TransferRefused | None = None
        self.cuts_at: list[int] = []
        """Bytes of a transfer after which the link is cut, once each."""
        self.lies = False
        self.may_answer = asyncio.Event()
        """Cleared, a request is heard and nothing comes back."""
        self.may_answer.set()
        self.may_store = asyncio.Event()
        """The same for what is to be stored alone."""
        self.may_store.set()

    def put(self, name: str, data: bytes) -> InputFile:
        """Lay a content down and return how an assignment names it."""
        digest = hashlib.sha256(data).hexdigest()
        self.contents[digest] = data
        return InputFile(name, digest, len(data))

    def asked(self, kind: type[FetchBlob | StoreBlob]) -> list[Any]:
        """Return the requests of a kind so far."""
        return [request for request in self.requests if isinstance(request, kind)]


class DeskLink:
    """One transfer link."""

    def __init__(self, desk: FileDesk, send: Callable[..., None], cut: Callable[[], None]) -> None:
        self._desk = desk
        self._send = send
        self._cut = cut
        self._storing: StoreBlob | None = None

    async def answer(self, message: object) -> None:
        """Do what a message asks for."""
        desk = self._desk
        match message:
            case FetchBlob():
                desk.requests.append(message)
                await desk.may_answer.wait()
                self._give(message)
            case StoreBlob():
                desk.requests.append(message)
                await desk.may_answer.wait()
                await desk.may_store.wait()
                if desk.refuses_store:
                    self._send(desk.refuses_store)
                    return
                self._storing = message
                arrived = desk.arrived.setdefault(message.sha256, bytearray())
                self._send(SendBlob(len(arrived)))
                self._finish_if_whole(message, arrived)
            case BlobChunk():
                storing = self._storing
                assert storing is not None
                arrived = desk.arrived[storing.sha256]
                assert message.offset == len(arrived)
                arrived += message.data
                if desk.cuts_at and len(arrived) >= desk.cuts_at[0]:
                    desk.cuts_at.pop(0)
                    self._cut()
                    return
                self._finish_if_whole(storing, arrived)
            case _:
                raise AssertionError(message)

    def _give(self, request: FetchBlob) -> None:
        desk = self._desk
        if desk.refuses_fetch:
            self._send(desk.refuses_fetch)
            return
        data = desk.contents[request.sha256]
        for offset in range(request.offset, len(data), MAX_CHUNK_BYTES):
            if desk.cuts_at and offset >= desk.cuts_at[0]:
                desk.cuts_at.pop(0)
                self._cut()
                return
            piece = data[offset : offset + MAX_CHUNK_BYTES]
            self._send(BlobChunk(offset, bytes(len(piece)) if desk.lies else piece))

    def _finish_if_whole(self, storing: StoreBlob, arrived: bytearray) -> None:
        if len(arrived) == storing.size_bytes:
            assert hashlib.sha256(arrived).hexdigest() == storing.sha256
            self._storing = None
            self._send(BlobStored(storing.sha256))
