"""A connection to live events asks again whether its user may still look on: in virtual time."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.signals import user_logged_out
from django.http import JsonResponse
from django.http.response import HttpResponseBase

from dashboard_app.live.hub import Hub
from dashboard_app.live.looks import Seen
from dashboard_app.live.scope import EventsRequest, Scope
from octaskly_site.live.events import RECHECK_S, EventsConsumer
from octaskly_site.live.readers import MAX_WATCHERS_OF_USER, Readers
from octaskly_site.live.sign_outs import LATER_S, SignOuts
from tasks_app.feed import Feed
from tests.support.virtual_loop import run

QUESTION: dict[str, Any] = {}
CLIENT, OPERATOR = EventsRequest(7, Scope(7)), EventsRequest(7, Scope(None))


def allowed(begin: EventsRequest) -> HttpResponseBase:
    """Answer as Django does when the user may look."""
    response = JsonResponse({})
    response.begin = begin
    return response


class Connection:
    """A consumer between a door that answers as it is told, and a client that keeps what it gets."""

    def __init__(self, readers: Readers | None = None) -> None:
        self.answer = allowed(CLIENT)
        self.asked_at_s: list[float] = []
        self.sent: list[tuple[float, dict[str, Any]]] = []
        hub = Hub(self._look_at, Feed())
        self.consumer = EventsConsumer(door=self, readers=readers or Readers(), hub=hub, sign_outs=SignOuts())
        self.consumer.base_send = self._send

    async def ask(self, _: dict[str, Any]) -> HttpResponseBase:
        self.asked_at_s.append(asyncio.get_running_loop().time())
        return self.answer

    def _look_at(self, scope: Scope):
        async def look() -> Seen:
            return Seen(summary={"owner_id": scope.owner_id}, tasks={})

        return look

    async def _send(self, message: dict[str, Any]) -> None:
        self.sent.append((asyncio.get_running_loop().time(), message))

    def frames(self) -> list[dict[str, Any]]:
        return [json.loads(message["text"]) for _, message in self.sent if "text" in message]

    def closed(self) -> tuple[float, int] | None:
        """Return when the connection was closed, and with which code."""
        return next(((at_s, it["code"]) for at_s, it in self.sent if it["type"] == "websocket.close"), None)


def test_who_may_not_look_on_any_more_is_cut_within_half_a_minute():
    """With the status of the refusal, which a last frame says, too."""

    async def story() -> None:
        connection = Connection()
        serving = asyncio.create_task(connection.consumer._serve(QUESTION))
        await asyncio.sleep(RECHECK_S + 1)
        assert connection.closed() is None
        connection.answer = JsonResponse({"detail": "sign in first"}, status=401)
        await serving
        assert connection.closed() == (2 * RECHECK_S, 4401)
        assert connection.frames()[-1] == {"type": "refused", "status": 401, "detail": "sign in first"}

    run(story())


def test_another_role_gets_what_it_may_see_now():
    """All of it anew, on the same connection."""

    async def story() -> None:
        connection = Connection()
        serving = asyncio.create_task(connection.consumer._serve(QUESTION))
        await asyncio.sleep(1)
        connection.answer = allowed(OPERATOR)
        await asyncio.sleep(RECHECK_S)
        serving.cancel()
        shown = [(frame["is_full"], frame["summary"]["owner_id"]) for frame in connection.frames()]
        assert shown == [(True, 7), (True, None)]

    run(story())


def test_a_server_in_trouble_cuts_nobody():
    """It has not said no."""

    async def story() -> None:
        connection = Connection()
        serving = asyncio.create_task(connection.consumer._serve(QUESTION))
        await asyncio.sleep(1)
        connection.answer = JsonResponse({"detail": "the database is busy"}, status=500)
        await asyncio.sleep(5 * RECHECK_S)
        assert (connection.closed(), len(connection.asked_at_s)) == (None, 6)
        serving.cancel()

    run(story())


@pytest.mark.parametrize(("user_id", "asked_s"), [(7, [0.0, 10 + LATER_S]), (8, [0.0])])
def test_a_sign_out_makes_the_users_connections_ask_at_once(user_id, asked_s):
    """And no others."""

    async def story() -> None:
        connection = Connection()
        serving = asyncio.create_task(connection.consumer._serve(QUESTION))
        await asyncio.sleep(10)
        user_logged_out.send(None, request=None, user=None)
        connection.consumer._sign_outs._on_sign_out(SimpleNamespace(pk=user_id))
        await asyncio.sleep(5)
        assert connection.asked_at_s == asked_s
        serving.cancel()

    run(story())


def test_a_user_has_so_many_connections():
    """One more is refused, until one is gone; and all are told when the dispatcher stops."""

    async def story() -> None:
        readers = Readers()
        connections = [Connection(readers) for _ in range(MAX_WATCHERS_OF_USER + 1)]
        serving = [asyncio.create_task(connection.consumer._serve(QUESTION)) for connection in connections]
        await asyncio.sleep(1)
        assert [connection.closed() for connection in connections] == [None] * MAX_WATCHERS_OF_USER + [(0.0, 4429)]
        serving[0].cancel()
        await asyncio.sleep(1)
        with readers.watching(7):
            pass
        await readers.close()
        assert {connection.closed()[1] for connection in connections[1:-1]} == {1012}
        assert not readers._of_user

    run(story())
