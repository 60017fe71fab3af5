"""Chooses what carries a connection: what the worker was asked for, or QUIC and, where that fails, TCP."""

from __future__ import annotations

import importlib
import logging
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, TypeVar

from octaskly_wire.errors import WireError
from worker_node.config import TransportChoice
from worker_node.shell import quic_dialer, tcp_dialer
from worker_node.shell.dialing import Connect

logger = logging.getLogger(__name__)

QUIC_TRY_S: Final = 3.0
"""For QUIC's handshake while TCP waits behind it: a firewall that swallows UDP says nothing."""

QUIC_REST_S: Final = 60.0
"""After TCP had to stand in, reconnects go straight to TCP for so long."""

Result = TypeVar("Result")


class Dialer:
    """Holds conversations with dispatchers, each on the transport that serves."""

    def __init__(self, choice: TransportChoice, clock: Callable[[], float] = time.monotonic) -> None:
        """Take the choice; raise ImportError when only QUIC is allowed and its package cannot be loaded."""
        self._clock = clock
        self._rests_until = 0.0
        self._has_warned = False
        self._first: Connect = tcp_dialer.connect
        self._second: Connect | None = None
        if choice == "tcp":
            return
        try:
            importlib.import_module("octaskly_quic.dialing")
        except ImportError as error:
            if choice == "quic":
                raise
            self._warn(f"{error}; only TCP is used")
            return
        if choice == "quic":
            self._first = quic_dialer.connect
        else:
            self._first, self._second = partial(quic_dialer.connect, timeout_s=QUIC_TRY_S), tcp_dialer.connect

    async def dial(self, talk: Callable[[Connect], Awaitable[Result]]) -> Result:
        """Return what the conversation returns; raise what it raises, that over TCP where both were tried.

        A refusal is the dispatcher's word, whatever carried it. Anything else tells of QUIC alone: even a
        peer that proved nothing may sit on the UDP port only.
        """
        if self._second is None:
            return await talk(self._first)
        if self._clock() < self._rests_until:
            return await talk(self._second)
        try:
            result = await talk(self._first)
        except (OSError, WireError) as error:
            result = await talk(self._second)
            # Only now is it known that the dispatcher is there and QUIC is what failed.
            self._rests_until = self._clock() + QUIC_REST_S
            self._warn(f"{str(error) or 'no answer in time'}; TCP stands in")
            return result
        self._has_warned = False
        return result

    def _warn(self, detail: str) -> None:
        level = logging.DEBUG if self._has_warned else logging.WARNING
        self._has_warned = True
        logger.log(level, "QUIC failed: %s", detail, extra={"event": "quic_failed", "detail": detail})
