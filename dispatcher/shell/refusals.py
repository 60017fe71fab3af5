"""Records who was turned away, in bounds: peers that proved nothing cannot fill the audit.

The first refusals of an address have a row each; then one row an interval says how many more there were. So that a flood
from ever new addresses is bounded as well, the rows of all together are, and what goes beyond is told in one row for all.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import ssl
from dataclasses import dataclass, replace
from typing import Final

from dispatcher.ports import MachineRefused, WorkerRefused
from dispatcher.shell.writer import StoreWriter
from octaskly_wire.errors import WrongCipher
from octaskly_wire.vocabulary import RefusalCode, Transport

logger = logging.getLogger(__name__)

INTERVAL_S: Final = 600.0
ROWS_OF_AN_ADDRESS: Final = 5
"""An interval, each refusal by itself."""

ROWS_OF_ALL: Final = 200
"""An interval, of all addresses together; 20 rows a minute are a trail that people can still read."""

ELSEWHERE: Final = "several addresses"

Refusal = WorkerRefused | MachineRefused


@dataclass(slots=True)
class _Count:
    """One source of refusals within the present interval."""

    rows: int = 0
    more: int = 0
    last: Refusal | None = None


class RefusalCounts:
    """Decides which refusals are recorded. Time is an argument, in seconds on any steady clock."""

    def __init__(self) -> None:
        self._counts: dict[str, _Count] = {}
        self._ends_at_s: float | None = None
        self._rows = 0

    @property
    def ends_at_s(self) -> float | None:
        """Return when the interval is over and its counts are due; None while there are no refusals."""
        return self._ends_at_s

    def note(self, refusal: Refusal, now_s: float) -> list[Refusal]:
        """Return what is to be recorded now: the refusal, or nothing; before it the counts of an interval that is over."""
        records = self.due(now_s)
        if self._ends_at_s is None:
            self._ends_at_s = now_s + INTERVAL_S
        source = source_of(refusal.address)
        if source not in self._counts and self._rows >= ROWS_OF_ALL:
            source = ELSEWHERE
        count = self._counts.setdefault(source, _Count())
        if source != ELSEWHERE and count.rows < ROWS_OF_AN_ADDRESS and self._rows < ROWS_OF_ALL:
            count.rows += 1
            self._rows += 1
            return [*records, refusal]
        count.more += 1
        count.last = refusal
        return records

    def due(self, now_s: float) -> list[Refusal]:
        """Return the counts of the interval when it is over: a row for each source that was refused more often."""
        if self._ends_at_s is None or now_s < self._ends_at_s:
            return []
        return self.close()

    def close(self) -> list[Refusal]:
        """End the interval and return its counts."""
        summaries = [
            replace(count.last, address=source, count=count.more)
            for source, count in self._counts.items()
            if count.last is not None
        ]
        self._counts.clear()
        self._ends_at_s, self._rows = None, 0
        return summaries


class Refusals:
    """Hears of refusals on the loop and hands what is to be recorded to the writer."""

    def __init__(self, writer: StoreWriter) -> None:
        self._writer = writer
        self._counts = RefusalCounts()
        self._timer: asyncio.TimerHandle | None = None

    async def note(self, refusal: Refusal) -> None:
        """Take a refusal; when it gets a row, return once that is committed."""
        if records := self._counted(refusal):
            await self._writer.submit(records)

    def _counted(self, refusal: Refusal) -> list[Refusal]:
        loop = asyncio.get_running_loop()
        records = self._counts.note(refusal, loop.time())
        ends_at_s = self._counts.ends_at_s
        if self._timer is None and ends_at_s is not None:
            self._timer = loop.call_at(ends_at_s, self._on_interval_over)
        return records

    def note_failed_handshake(self, address: str, transport: Transport, error: Exception) -> None:
        """Take a peer that did not come through TLS: one that left or was slow is logged, one that was refused recorded."""
        if not isinstance(error, ssl.SSLError | WrongCipher):
            logger.debug("%s did not end its %s handshake: %r", address, transport, error)
            return
        detail = f"TLS: {why(error)}"
        logger.info(
            "Refused %s: %s",
            address,
            detail,
            extra={
                "event": "worker_refused",
                "address": address,
                "code": RefusalCode.BAD_PROOF.value,
                "detail": detail,
            },
        )
        if records := self._counted(WorkerRefused("", address, RefusalCode.BAD_PROOF, detail)):
            self._writer.submit(records)

    def close(self) -> None:
        """Record what is counted but not told yet."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if records := self._counts.close():
            self._writer.submit(records)

    def _on_interval_over(self) -> None:
        self._timer = None
        if records := self._counts.due(asyncio.get_running_loop().time()):
            self._writer.submit(records)


def source_of(address: str) -> str:
    """Return whom an address counts for: itself, but with IPv6 its /64, of which one machine has all."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, 64), strict=False))


def why(error: Exception) -> str:
    """Return in plain words why TLS refused a peer."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return str(getattr(error, "verify_message", None) or "the certificate is not good")
    if isinstance(error, WrongCipher):
        return str(error)
    reason = getattr(error, "reason", None)
    return str(reason).lower().replace("_", " ") if reason else "no TLS"
