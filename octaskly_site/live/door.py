"""Puts the question of a live route to Django: the same middleware, sign-in, permission and errors as everywhere."""

from __future__ import annotations

import asyncio
from io import BytesIO
from typing import Any, Final, cast

from asgiref.sync import ThreadSensitiveContext, sync_to_async
from django.core.handlers.asgi import ASGIHandler
from django.core.signals import request_started
from django.http import HttpResponse
from django.urls import set_script_prefix

URLCONF: Final = "octaskly_site.live.urls"

MAX_QUESTIONS: Final = 4
"""Asked at a time: each takes a thread and a database connection, for some milliseconds."""


class Door:
    """Asks Django whether a live request may begin."""

    def __init__(self, django: ASGIHandler) -> None:
        self._django = django
        self._room = asyncio.Semaphore(MAX_QUESTIONS)

    async def ask(self, scope: dict[str, Any], body: bytes = b"") -> HttpResponse:
        """Return Django's answer. One that lets the request begin has `begin`, every other is to be sent as it is."""
        async with self._room, ThreadSensitiveContext():
            set_script_prefix("/")
            await request_started.asend(sender=type(self), scope=scope)
            request, refusal = self._django.create_request(scope, BytesIO(body))
            if request is None:
                return cast("HttpResponse", refusal)
            request.urlconf = URLCONF
            response = cast("HttpResponse", await self._django.get_response_async(request))
            # Closing ends the database connection, in the thread that has it.
            await sync_to_async(response.close)()
            return response


async def send_response(response: HttpResponse, send: Any) -> None:
    """Send a whole answer."""
    headers = [(name.encode("latin1"), value.encode("latin1")) for name, value in response.items()]
    headers += [(b"Set-Cookie", morsel.OutputString().encode("latin1")) for morsel in response.cookies.values()]
    await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
    await send({"type": "http.response.body", "body": response.content})
