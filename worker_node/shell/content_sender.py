"""Send the contents of outcomes to the dispatcher, again and again until it has them or will not."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO, Final

from octaskly_wire.errors import WireError
from octaskly_wire.messages import OutputFile
from worker_node.core.backoff import reconnect_delay_s
from worker_node.logs import of_attempt
from worker_node.shell.outgoing import Outgoing
from worker_node.shell.proving import DispatcherRefused
from worker_node.shell.stoppable import Stop, on_thread
from worker_node.shell.transfers import Refused, Transfers

logger = logging.getLogger(__name__)

READ_BYTES: Final = 1 << 20


class _Lost(Exception):
    """The content is not here any more."""


@dataclass(frozen=True)
class Listener:
    """Whom the sender tells, on the loop."""

    stored: Callable[[str], None]
    refused: Callable[[str, str], None]
    """Gets the reason, too: it will never be stored."""


class ContentSender:
    """Sends for one worker. What is under way when it ends is sent again by the next life."""

    def __init__(self, transfers: Transfers, outgoing: Outgoing, listener: Listener) -> None:
        """Begin with nothing to send."""
        self._transfers = transfers
        self._outgoing = outgoing
        self._listener = listener
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def store(self, attempt_id: str, contents: Sequence[OutputFile]) -> None:
        """Send these contents of an attempt; the listener hears how it went. Once is enough."""
        if attempt_id not in self._tasks:
            self._tasks[attempt_id] = asyncio.get_running_loop().create_task(self._store(attempt_id, contents))

    def release(self, attempt_id: str) -> None:
        """Let go of an attempt's contents, sent or not."""
        if task := self._tasks.pop(attempt_id, None):
            task.cancel()
        self._outgoing.release(attempt_id)

    async def close(self) -> None:
        """Stop sending."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _store(self, attempt_id: str, contents: Sequence[OutputFile]) -> None:
        reason = ""
        try:
            for content in contents:
                await self._store_one(attempt_id, content)
        except (Refused, _Lost) as error:
            reason = f"the outputs could not be stored: {error}"
            logger.warning(
                "Attempt %s: %s", attempt_id, reason, extra=of_attempt("outputs_refused", attempt_id, detail=reason)
            )
        except Exception as error:
            logger.exception(
                "The outputs of attempt %s could not be sent",
                attempt_id,
                extra=of_attempt("outputs_failed", attempt_id),
            )
            reason = f"the outputs could not be sent: {error}"
        # Before the word, which may order the same attempt anew.
        del self._tasks[attempt_id]
        if reason:
            self._listener.refused(attempt_id, reason)
        else:
            self._listener.stored(attempt_id)

    async def _store_one(self, attempt_id: str, content: OutputFile) -> None:
        """Send one content until the dispatcher has it; raise Refused or _Lost when that will never be."""
        failures, is_checked = 0, False
        while True:
            try:
                if failures and not is_checked:
                    # Perhaps the dispatcher says no because it is not what it was.
                    await on_thread(partial(self._check, content), self._transfers.store_pool)
                    is_checked = True
                await on_thread(partial(self._send, attempt_id, content), self._transfers.store_pool)
            except Refused as error:
                if error.is_final:
                    raise
                reason = str(error)
            except (WireError, DispatcherRefused, OSError) as error:
                reason = str(error) or type(error).__name__
            else:
                return
            logger.debug("Content %s is not stored yet: %s", content.sha256, reason)
            await asyncio.sleep(reconnect_delay_s(failures, random.random()))  # noqa: S311 - spreads load
            failures += 1

    def _send(self, attempt_id: str, content: OutputFile, stop: Stop) -> None:
        with self._opened(content) as source:
            self._transfers.store(attempt_id, content, source, stop)

    def _check(self, content: OutputFile, stop: Stop) -> None:
        """Raise _Lost when a content is not what it was collected as."""
        digest = hashlib.sha256()
        with self._opened(content) as source:
            while piece := source.read(READ_BYTES):
                stop.check()
                digest.update(piece)
        if digest.hexdigest() != content.sha256:
            raise _Lost(f"{content.name!r} was changed on the worker's disk")

    def _opened(self, content: OutputFile) -> BinaryIO:
        try:
            source = self._outgoing.open(content.sha256)
        except FileNotFoundError as error:
            raise _Lost(f"{content.name!r} is gone from the worker's disk") from error
        if os.fstat(source.fileno()).st_size != content.size_bytes:
            source.close()
            raise _Lost(f"{content.name!r} was changed on the worker's disk")
        return source
