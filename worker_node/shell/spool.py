"""Outcomes on disk until the dispatcher has them: one file an attempt, whole and for good or not there.

A file holds a line with the format's name, the SHA-256 of the rest in a second line, and the outcome as
MessagePack. All disk work happens on one thread, in the order it was asked for; the folder is synced once for all
that was waiting.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import queue
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from octaskly_wire.vocabulary import FailureReason, SandboxLevel
from worker_node.core.outcome import Outcome, never_ran
from worker_node.logs import of_attempt
from worker_node.shell.durable import UNFINISHED, put_file, sync_folder
from worker_node.shell.keyfile import StateFolderError

logger = logging.getLogger(__name__)

FORMAT: Final = b"octaskly outcome 1\n"
SUFFIX: Final = ".outcome"
_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}\.outcome\Z")
_MAX_BATCH: Final = 256


class Damaged(Exception):
    """A file does not hold the outcome it should."""


class _Entry(msgspec.Struct, forbid_unknown_fields=True):
    attempt_id: str
    outcome: Outcome


@dataclass(frozen=True)
class Listener:
    """Whom the spool tells, on the loop."""

    written: Callable[[str], None]
    failed: Callable[[str, str], None]


@dataclass
class _Order:
    attempt_id: str
    outcome: Outcome | None
    """None: delete."""


class Spool:
    """A folder of outcomes and the thread that writes it."""

    def __init__(self, folder: Path, listener: Listener) -> None:
        """Make the folder; raises StateFolderError when that cannot be."""
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise StateFolderError(f"spool folder {folder}: {error.strerror or error}") from error
        self._folder = folder
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._orders: queue.SimpleQueue[_Order | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="octaskly-spool", daemon=True)
        self._thread.start()

    def write(self, attempt_id: str, outcome: Outcome) -> None:
        """Put an outcome on disk; the listener hears how it went."""
        self._orders.put(_Order(attempt_id, outcome))

    def delete(self, attempt_id: str) -> None:
        """Delete an outcome, if it is there. One that comes back after a crash is acknowledged again."""
        self._orders.put(_Order(attempt_id, None))

    async def close(self) -> None:
        """Finish what was asked for and end the thread."""
        self._orders.put(None)
        await asyncio.to_thread(self._thread.join)

    def load(self) -> dict[str, Outcome]:
        """Return the outcomes by attempt that an earlier life left; in the place of a damaged one its loss."""
        outcomes: dict[str, Outcome] = {}
        try:
            paths = sorted(self._folder.iterdir())
        except OSError as error:
            raise StateFolderError(f"spool folder {self._folder}: {error.strerror or error}") from error
        for path in paths:
            if path.name.startswith(".") and path.name.endswith(UNFINISHED):
                with contextlib.suppress(OSError):
                    path.unlink()
            elif not _NAME.match(path.name):
                logger.warning("%s is not an outcome and is left alone", path)
            else:
                attempt_id = path.name.removesuffix(SUFFIX)
                outcomes[attempt_id] = _load_one(path, attempt_id)
        return outcomes

    # --- on the thread -----------------------------------------------------------------------------

    def _work(self) -> None:
        is_over = False
        while not is_over:
            batch = [self._orders.get()]
            while len(batch) < _MAX_BATCH and not self._orders.empty():
                batch.append(self._orders.get())
            is_over = None in batch
            self._carry_out([order for order in batch if order is not None])

    def _carry_out(self, orders: list[_Order]) -> None:
        last_word = {order.attempt_id: order for order in orders}  # what is deleted right after is not worth writing
        written: list[str] = []
        for attempt_id, order in last_word.items():
            if order.outcome is None:
                self._delete(attempt_id)
                continue
            try:
                self._write(attempt_id, order.outcome)
            except OSError as error:
                self._tell(self._listener.failed, attempt_id, error.strerror or str(error))
            else:
                written.append(attempt_id)
        if not written:
            return
        try:
            sync_folder(self._folder)
        except OSError as error:
            for attempt_id in written:
                self._tell(self._listener.failed, attempt_id, error.strerror or str(error))
            return
        for attempt_id in written:
            self._tell(self._listener.written, attempt_id)

    def _write(self, attempt_id: str, outcome: Outcome) -> None:
        put_file(self._folder / f"{attempt_id}{SUFFIX}", entry_bytes(attempt_id, outcome))

    def _delete(self, attempt_id: str) -> None:
        try:
            (self._folder / f"{attempt_id}{SUFFIX}").unlink(missing_ok=True)
        except OSError as error:
            logger.warning("The spooled outcome of attempt %s could not be deleted: %s", attempt_id, error)

    def _tell(self, listener: Callable[..., None], *words: str) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to hear
            self._loop.call_soon_threadsafe(listener, *words)


def _load_one(path: Path, attempt_id: str) -> Outcome:
    try:
        return read_entry(path.read_bytes(), attempt_id)
    except (Damaged, OSError) as error:
        logger.error(  # noqa: TRY400
            "The spooled outcome of attempt %s is lost: %s",
            attempt_id,
            error,
            extra=of_attempt("outcome_lost", attempt_id, detail=str(error)),
        )
        detail = "its spooled outcome was damaged"
        return never_ran(FailureReason.WORKER_LOST, SandboxLevel.NONE, "", detail)


def entry_bytes(attempt_id: str, outcome: Outcome) -> bytes:
    """Return the content of an outcome's file."""
    payload = msgspec.msgpack.encode(_Entry(attempt_id, outcome))
    return FORMAT + hashlib.sha256(payload).hexdigest().encode() + b"\n" + payload


def read_entry(data: bytes, attempt_id: str) -> Outcome:
    """Return the outcome of a file's content; raises Damaged when it is not exactly what was written."""
    kind, _, rest = data.partition(b"\n")
    digest, _, payload = rest.partition(b"\n")
    if kind + b"\n" != FORMAT:
        raise Damaged("the file is not of the known format")
    if hashlib.sha256(payload).hexdigest().encode() != digest:
        raise Damaged("the checksum does not fit")
    try:
        entry = msgspec.msgpack.decode(payload, type=_Entry)
    except msgspec.MsgspecError as error:
        raise Damaged(str(error)) from error
    if entry.attempt_id != attempt_id:
        raise Damaged(f"it is the outcome of attempt {entry.attempt_id}")
    return entry.outcome
