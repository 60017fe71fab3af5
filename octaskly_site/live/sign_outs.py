"""Tells connections that last that their user has signed out somewhere, so that they ask whether theirs still counts."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from django.contrib.auth.signals import user_logged_out

LATER_S: Final = 0.5
"""Django says it right before the session is gone; whoever asks too soon asks again at the usual time."""


class SignOuts:
    """Who wants to know of which user. Watching belongs to one loop."""

    def __init__(self) -> None:
        self._watches: dict[int, set[asyncio.Event]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        user_logged_out.connect(self._on_sign_out)

    @contextmanager
    def watch(self, user_id: int) -> Iterator[asyncio.Event]:
        """Set the event whenever this user has signed out."""
        self._loop = asyncio.get_running_loop()
        event = asyncio.Event()
        self._watches.setdefault(user_id, set()).add(event)
        try:
            yield event
        finally:
            watches = self._watches[user_id]
            watches.discard(event)
            if not watches:
                del self._watches[user_id]

    def _on_sign_out(self, user: Any, **_: Any) -> None:
        """Hear of it, on whatever thread."""
        loop = self._loop
        if loop is not None and user is not None and user.pk in self._watches:
            with suppress(RuntimeError):  # A loop that has ended has nobody left to tell.
                loop.call_soon_threadsafe(loop.call_later, LATER_S, self._tell, user.pk)

    def _tell(self, user_id: int) -> None:
        for event in self._watches.get(user_id, ()):
            event.set()
