"""The WebSocket of live events: whoever may looks on, for as long as that is so."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from typing import Any, Final

from channels.exceptions import DenyConnection
from channels.generic.websocket import AsyncWebsocketConsumer

from dashboard_app.live.hub import Hub, Subscription
from dashboard_app.live.looks import Looker
from dashboard_app.live.scope import EventsRequest
from octaskly_site import status
from octaskly_site.live.door import Door
from octaskly_site.live.handshake import RESTARTING, is_of_this_site, refuse, subprotocol_of, twin_of
from octaskly_site.live.readers import Readers, Stopping, TooMany
from octaskly_site.live.sign_outs import SignOuts
from tasks_app.feed import feed
from tasks_app.live.looks import in_thread

logger = logging.getLogger(__name__)

RECHECK_S: Final = 30.0
"""How soon is noticed that somebody may not look on any more, when nobody tells."""
FAILED: Final = 1011

_PATH: Final = re.compile(r"/ws/events/?")
_TWIN: Final = "/api/v1/stats"
_REFUSALS: Final = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})


def is_events(scope: dict[str, Any]) -> bool:
    """Return whether a WebSocket is one of these."""
    return scope["type"] == "websocket" and _PATH.fullmatch(scope["path"]) is not None


def new_hub() -> Hub:
    """Return a hub that looks into the database, woken by what this process commits."""
    return Hub(lambda scope: partial(in_thread, Looker(scope, status).look), feed)


class EventsConsumer(AsyncWebsocketConsumer):
    """Serves one connection to `/ws/events`; what the client sends is dropped."""

    channel_layer_alias = ""
    """None is needed: the hub knows its subscribers."""

    def __init__(self, door: Door, readers: Readers, hub: Hub, sign_outs: SignOuts) -> None:
        super().__init__()
        self._door = door
        self._readers = readers
        self._hub = hub
        self._sign_outs = sign_outs
        self._serving: asyncio.Task[None] | None = None

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Serve until the connection is closed by one of both ends."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            if self._serving is not None:
                self._serving.cancel()
                await asyncio.gather(self._serving, return_exceptions=True)

    async def connect(self) -> None:
        """Accept pages of this site and programs with a token, and begin."""
        headers = dict(self.scope["headers"])
        if not is_of_this_site(headers):
            raise DenyConnection
        await self.accept(subprotocol_of(self.scope["subprotocols"]))
        self._serving = asyncio.create_task(self._serve(twin_of(self.scope, _TWIN, headers)), name="live events")

    async def _serve(self, question: dict[str, Any]) -> None:
        try:
            answer = await self._door.ask(question)
            begin = getattr(answer, "begin", None)
            if isinstance(begin, EventsRequest):
                with self._readers.watching(begin.user_id):
                    answer = await self._watch(question, begin)
            detail = json.loads(answer.content).get("detail", "")
            await refuse(self.base_send, answer.status_code, detail)
        except TooMany as error:
            await refuse(self.base_send, HTTPStatus.TOO_MANY_REQUESTS, str(error))
        except Stopping:
            await self.close(RESTARTING)
        except Exception:
            logger.exception("A connection to live events failed")
            await self.close(FAILED)

    async def _watch(self, question: dict[str, Any], begin: EventsRequest) -> Any:
        """Send frames until the user may not look on any more; return the refusal."""
        while True:
            with self._hub.subscribe(begin.scope) as subscription:
                sending = asyncio.ensure_future(self._send_frames(subscription))
                asking = asyncio.ensure_future(self._until_answered_otherwise(question, begin))
                try:
                    await asyncio.wait({sending, asking}, return_when=asyncio.FIRST_COMPLETED)
                    if sending.done():
                        sending.result()
                    answer = asking.result()
                finally:
                    for task in (sending, asking):
                        task.cancel()
                    await asyncio.gather(sending, asking, return_exceptions=True)
            if not isinstance(getattr(answer, "begin", None), EventsRequest):
                return answer
            # Another role: the next frame has everything that is to be seen now.
            begin = answer.begin

    async def _send_frames(self, subscription: Subscription) -> None:
        while True:
            await self.send(await subscription.next())

    async def _until_answered_otherwise(self, question: dict[str, Any], begin: EventsRequest) -> Any:
        """Ask again and again; return the first answer that is not the one of the beginning."""
        with self._sign_outs.watch(begin.user_id) as signed_out:
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout(RECHECK_S):
                        await signed_out.wait()
                signed_out.clear()
                answer = await self._door.ask(question)
                now = getattr(answer, "begin", None)
                # A server that is in trouble has not said no.
                if answer.status_code in _REFUSALS or (isinstance(now, EventsRequest) and now != begin):
                    return answer
