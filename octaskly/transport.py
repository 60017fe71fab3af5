"""HTTP connections for both clients, by httpx, and the two drivers of flows over them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import httpx

from octaskly import pinning
from octaskly.effects import Answer, Effect, Emit, Finished, Flow, NoAnswer, Pause, Read, Request, step
from octaskly.errors import BadFile, PinMismatch
from octaskly.session import Session

T = TypeVar("T")

PIECE_BYTES: Final = 256 << 10
CONNECT_TIMEOUT_S: Final = 10.0
_HEADERS: Final = {"Accept": "application/json, */*;q=0.5", "Accept-Encoding": "identity", "User-Agent": "octaskly"}
_LIMITS: Final = httpx.Limits(max_connections=64, max_keepalive_connections=16, keepalive_expiry=30)


def open_http(session: Session) -> httpx.Client:
    """Return the connections of a client that blocks. Proxies of the environment are for the internet, not for this."""
    transport = httpx.HTTPTransport(verify=_verify(session), limits=_LIMITS, socket_options=_keep_alive())
    return httpx.Client(base_url=session.url, headers=_HEADERS, transport=transport, trust_env=False)


def open_async_http(session: Session) -> httpx.AsyncClient:
    """Return the connections of a client that awaits."""
    transport = httpx.AsyncHTTPTransport(verify=_verify(session), limits=_LIMITS, socket_options=_keep_alive())
    return httpx.AsyncClient(base_url=session.url, headers=_HEADERS, transport=transport, trust_env=False)


class Driver:
    """Does what one flow asks, and blocks meanwhile."""

    def __init__(self, http: httpx.Client, session: Session) -> None:
        self._http = http
        self._session = session
        self._open: httpx.Response | None = None
        self._pieces: Iterator[bytes] = iter(())

    def run(self, flow: Flow[T]) -> T:
        """Return the flow's value."""
        items = self.iterate(flow)
        try:
            next(items)
        except StopIteration as stop:
            return cast("T", stop.value)
        raise TypeError("a flow that hands items out was run for its value")

    def iterate(self, flow: Flow[T]) -> Generator[Any, None, T]:
        """Yield what the flow hands out; its value is that of the iterator."""
        try:
            effect = step(flow)
            while not isinstance(effect, Finished):
                if isinstance(effect, Emit):
                    yield effect.item
                    effect = step(flow)
                    continue
                try:
                    outcome = self._perform(effect)
                except NoAnswer as lost:
                    effect = step(flow, error=lost)
                else:
                    effect = step(flow, outcome)
            return cast("T", effect.value)
        finally:
            flow.close()
            self._let_go()

    def _perform(self, effect: Effect) -> Answer | bytes | None:
        if isinstance(effect, Request):
            return self._send(effect)
        if isinstance(effect, Read):
            with _translated(self._session):
                return next(self._pieces, b"")
        if isinstance(effect, Pause):
            time.sleep(effect.seconds)
        return None

    def _send(self, request: Request) -> Answer:
        self._let_go()
        with _translated(self._session, request.upload):
            content: Any = _pieces_of(request.upload) if request.upload else request.body
            built = _built(self._http, request, content)
            response = self._http.send(built, stream=True)
            if request.is_open and response.is_success:
                self._open, self._pieces = response, response.iter_raw()
                return Answer(response.status_code, response.headers, b"")
            try:
                return Answer(response.status_code, response.headers, response.read())
            finally:
                response.close()

    def _let_go(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open, self._pieces = None, iter(())


class AsyncDriver:
    """Does what one flow asks, and awaits meanwhile."""

    def __init__(self, http: httpx.AsyncClient, session: Session) -> None:
        self._http = http
        self._session = session
        self._open: httpx.Response | None = None
        self._pieces: AsyncIterator[bytes] | None = None

    async def run(self, flow: Flow[T]) -> T:
        """Return the flow's value."""
        try:
            effect = step(flow)
            while not isinstance(effect, Finished):
                effect = await self._next(flow, effect)
            return cast("T", effect.value)
        finally:
            flow.close()
            await self._let_go()

    async def iterate(self, flow: Flow[Any]) -> AsyncIterator[Any]:
        """Yield what the flow hands out."""
        try:
            effect = step(flow)
            while not isinstance(effect, Finished):
                if isinstance(effect, Emit):
                    yield effect.item
                    effect = step(flow)
                else:
                    effect = await self._next(flow, effect)
        finally:
            flow.close()
            await self._let_go()

    async def _next(self, flow: Flow[Any], effect: Effect) -> Effect | Finished:
        try:
            outcome = await self._perform(effect)
        except NoAnswer as lost:
            return step(flow, error=lost)
        return step(flow, outcome)

    async def _perform(self, effect: Effect) -> Answer | bytes | None:
        if isinstance(effect, Request):
            return await self._send(effect)
        if isinstance(effect, Read):
            with _translated(self._session):
                return await anext(self._pieces, b"") if self._pieces is not None else b""
        if isinstance(effect, Pause):
            await asyncio.sleep(effect.seconds)
        return None

    async def _send(self, request: Request) -> Answer:
        await self._let_go()
        with _translated(self._session, request.upload):
            content: Any = _async_pieces_of(request.upload) if request.upload else request.body
            built = _built(self._http, request, content)
            response = await self._http.send(built, stream=True)
            if request.is_open and response.is_success:
                self._open, self._pieces = response, response.aiter_raw()
                return Answer(response.status_code, response.headers, b"")
            try:
                return Answer(response.status_code, response.headers, await response.aread())
            finally:
                await response.aclose()

    async def _let_go(self) -> None:
        if self._open is not None:
            opened, self._open, self._pieces = self._open, None, None
            await opened.aclose()


def _verify(session: Session) -> Any:
    if session.url.startswith("http://"):
        return False
    return pinning.pinned_context(session.login.pin) if session.login.pin else pinning.trusting_context()


def _built(http: httpx.Client | httpx.AsyncClient, request: Request, content: Any) -> httpx.Request:
    timeout = httpx.Timeout(request.timeout_s, connect=CONNECT_TIMEOUT_S, pool=None)
    return http.build_request(
        request.method,
        request.path,
        params=request.query or None,
        headers=request.headers,
        content=content,
        timeout=timeout,
    )


@contextlib.contextmanager
def _translated(session: Session, upload: Path | None = None) -> Iterator[None]:
    try:
        yield
    except httpx.LocalProtocolError as error:
        if upload is not None:
            raise BadFile(f"{upload} changed while it was being sent") from error
        raise NoAnswer(str(error)) from error
    except httpx.TransportError as error:
        if wrong := pinning.wrong_key_behind(error):
            raise PinMismatch(session.url, session.login.pin, wrong.seen) from error
        raise NoAnswer(str(error) or type(error).__name__) from error


def _pieces_of(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            while piece := file.read(PIECE_BYTES):
                yield piece
    except OSError as error:
        raise BadFile(f"Cannot read {path}: {error.strerror}") from error


async def _async_pieces_of(path: Path) -> AsyncIterator[bytes]:
    # A read of a local file of this size takes less than handing it to a thread.
    for piece in _pieces_of(path):
        yield piece


def _keep_alive() -> list[tuple[int, int, int]]:
    """Return options by which a peer that is gone is noticed on a stream that says nothing for hours."""
    options = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    for name, value in (("TCP_KEEPIDLE", 20), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, name):
            options.append((socket.IPPROTO_TCP, getattr(socket, name), value))
    return options
