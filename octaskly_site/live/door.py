"""Puts the question of a live route to Django: the same middleware, sign-in, permission and errors as everywhere."""

from __future__ import annotations

import asyncio
from io import BytesIO
from typing import Any, Final, cast

from django.http import HttpResponse

from octaskly_site.threaded_django import ThreadedDjango

URLCONF: Final = "octaskly_site.live.urls"

MAX_QUESTIONS: Final = 4
"""Asked at a time: each takes a thread and a database connection, for some milliseconds."""


class Door:
    """Asks Django whether a live request may begin."""

    def __init__(self, django: ThreadedDjango) -> None:
        self._django = django
        self._room = asyncio.Semaphore(MAX_QUESTIONS)

    async def ask(self, scope: dict[str, Any], body: bytes = b"") -> HttpResponse:
        """Return Django's answer. One that lets the request begin has `begin`, every other is to be sent as it is."""
        async with self._room:
            return cast("HttpResponse", await self._django.answer(scope, BytesIO(body), URLCONF))


async def send_response(response: HttpResponse, send: Any) -> None:
    """Send a whole answer."""
    headers = [(name.encode("latin1"), value.encode("latin1")) for name, value in response.items()]
    headers += [(b"Set-Cookie", morsel.OutputString().encode("latin1")) for morsel in response.cookies.values()]
    await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
    await send({"type": "http.response.body", "body": response.content})
