"""Many workers in one process: what each says on its control link, without a sandbox. `benchmarks.workers` starts it.

Its standard input takes one word a line, its standard output answers each with one line of JSON:

    enrol N TOKEN   make N identities with one join token, as real workers make theirs
    connect         open all links at the same time; answers once all are welcome
    look            say what has happened since the last answer
    until N         say so once N outcomes have been acknowledged
"""

from __future__ import annotations

import asyncio
import gc
import json
import random
import secrets
import ssl
import sys
import time
from contextlib import suppress
from functools import partial
from typing import Any, cast

from octaskly_wire.cipher_pin import pin_cipher_suite

pin_cipher_suite()  # Before anything loads OpenSSL, as the real worker does.

import uvloop  # noqa: E402

from octaskly_site import open_files  # noqa: E402
from octaskly_wire import identity, tls  # noqa: E402
from octaskly_wire.codec import Codec  # noqa: E402
from octaskly_wire.join_token import JoinToken  # noqa: E402
from octaskly_wire.limits import HANDSHAKE_TIMEOUT_S  # noqa: E402
from octaskly_wire.messages import (  # noqa: E402
    AcknowledgeOutcome,
    AssignAttempt,
    AttemptFinished,
    AttemptStarted,
    Challenge,
    FromWorker,
    Heartbeat,
    HeartbeatAck,
    LevelProof,
    OutcomeReport,
    Refused,
    Register,
    ToWorker,
    Vitals,
    Welcome,
)
from octaskly_wire.session import WorkerSession  # noqa: E402
from octaskly_wire.vocabulary import LinkPurpose, SandboxLevel, Transport  # noqa: E402
from worker_node.config import Address  # noqa: E402
from worker_node.core.backoff import reconnect_delay_s  # noqa: E402
from worker_node.shell import tcp_dialer  # noqa: E402
from worker_node.shell.dialing import Trust, enrol  # noqa: E402
from worker_node.shell.keyfile import Identity  # noqa: E402
from worker_node.shell.proving import Proof  # noqa: E402

SLOTS = 4
ENROLLING_AT_ONCE = 16
PATIENCE_S = 120.0
MEMORY_BYTES = 16 << 30
REPORT = OutcomeReport(failure_reason=None, exit_code=0, duration_ms=1, sandbox=SandboxLevel.BASIC, backend="crowd")


class Record:
    """What all links of the crowd have seen since the last answer."""

    def __init__(self) -> None:
        self.last_at = 0.0
        self.linked: set[Link] = set()
        self._acknowledged_in_all = self._awaited_outcomes = self._awaited_links = 0
        self._outcomes_are_here, self._links_are_here = asyncio.Event(), asyncio.Event()
        self.forget()

    def forget(self) -> None:
        """Begin anew."""
        self.delays: list[float] = []
        self.assigned = self.acknowledged = self.failed = self.lost = 0
        self._cpu_s = time.process_time()

    def note_acknowledged(self) -> None:
        """Count an outcome that is committed."""
        self.acknowledged += 1
        self._acknowledged_in_all += 1
        self.last_at = time.time()
        if self._acknowledged_in_all >= self._awaited_outcomes:
            self._outcomes_are_here.set()

    def note_linked(self, link: Link) -> None:
        """Count a link that is welcome."""
        self.linked.add(link)
        if len(self.linked) >= self._awaited_links:
            self._links_are_here.set()

    async def links(self, number: int) -> None:
        """Wait for so many at the same moment."""
        self._awaited_links = number
        await self._links_are_here.wait()

    async def outcomes(self, number: int) -> None:
        """Wait for so many, counted from the beginning."""
        self._awaited_outcomes = number
        if self._acknowledged_in_all < number:
            self._outcomes_are_here.clear()
            await self._outcomes_are_here.wait()

    def answer(self) -> dict[str, Any]:
        """Return it all, and begin anew."""
        now = time.monotonic()
        waiting = [now - due_at for link in self.linked for due_at in link.unanswered.values()]
        delays = sorted(self.delays) or [0.0]
        answer = {
            "heartbeats": len(self.delays),
            "p50_ms": 1000 * delays[len(delays) // 2],
            "p99_ms": 1000 * delays[len(delays) * 99 // 100],
            "max_ms": 1000 * max(delays[-1], *waiting, 0.0),
            "assigned": self.assigned,
            "acknowledged": self.acknowledged,
            "last_at": self.last_at,
            "failed": self.failed,
            "lost": self.lost,
            "cpu_s": time.process_time() - self._cpu_s,
            "linked": len(self.linked),
        }
        self.forget()
        return answer


class Link(asyncio.Protocol):
    """One worker's control link, by the book: proves itself, registers, beats, and does at once what it is told."""

    def __init__(self, who: Identity, boot_id: str, name: str, record: Record) -> None:
        self.unanswered: dict[int, float] = {}
        """By the heartbeat's number, when it was due."""
        self.is_welcome, self.is_over = False, asyncio.Event()
        self._who = who
        self._name = name
        self._record = record
        self._session = WorkerSession(Codec.MSGPACK)
        self._proof = Proof(who, boot_id, Transport.TCP, LinkPurpose.CONTROL)
        self._transport: asyncio.Transport
        self._beats = 0
        self._interval_s = 0.0
        self._due_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet."""
        self._transport = cast("asyncio.Transport", transport)
        secured: ssl.SSLObject = transport.get_extra_info("ssl_object")
        tls.check_cipher(secured)
        self._leaf = secured.getpeercert(binary_form=True)
        self._send(self._proof.hello)

    def data_received(self, data: bytes) -> None:
        """Answer what came, in one write."""
        answers: list[FromWorker] = []
        for message in self._session.feed(data):
            self._take(message, answers)
        if answers:
            self._send(*answers)

    def connection_lost(self, _: Exception | None) -> None:
        """Beat no more."""
        if self in self._record.linked:
            self._record.linked.discard(self)
            self._record.lost += 1
        self.is_over.set()

    def abort(self) -> None:
        """End the link."""
        self._transport.abort()

    def _send(self, *messages: FromWorker) -> None:
        self._transport.write(b"".join([self._session.encode(message) for message in messages]))

    def _take(self, message: ToWorker, answers: list[FromWorker]) -> None:
        match message:
            case AssignAttempt():
                self._record.assigned += 1
                answers += (AttemptStarted(message.attempt_id), AttemptFinished(message.attempt_id, REPORT))
            case AcknowledgeOutcome():
                self._record.note_acknowledged()
            case HeartbeatAck():
                self._record.delays.append(time.monotonic() - self.unanswered.pop(message.sequence))
            case Challenge():
                answers.append(self._proof.answer(message, self._leaf))
            case Welcome():
                self._interval_s = message.heartbeat_interval_s
                self._send(self._registration())
                self.is_welcome = True
                self._record.note_linked(self)
                self._due_at = time.monotonic()
                self._beat()
            case Refused():
                print(message.detail, file=sys.stderr)
                self.abort()

    def _registration(self) -> Register:
        levels = [LevelProof(level, "crowd", []) for level in (SandboxLevel.BASIC, SandboxLevel.STRICT)]
        return Register(self._name, SLOTS, levels, False, False, "Linux x86_64", 4, MEMORY_BYTES)

    def _beat(self) -> None:
        if self.is_over.is_set():
            return
        self._beats += 1
        self.unanswered[self._beats] = self._due_at
        vitals = Vitals(float(self._beats % 100), MEMORY_BYTES, MEMORY_BYTES >> 1, 1 << 38, 0.5, 0.002)
        self._send(Heartbeat(self._beats, vitals, []))
        self._due_at += self._interval_s
        asyncio.get_running_loop().call_later(max(0.0, self._due_at - time.monotonic()), self._beat)


async def enrol_all(address: Address, token: JoinToken, count: int) -> list[Identity]:
    """Return so many identities, made with one join token as real workers make theirs."""
    gate = asyncio.Semaphore(ENROLLING_AT_ONCE)

    async def one(place: int) -> Identity:
        async with gate:
            key = identity.new_key()
            who, _ = await enrol(tcp_dialer.connect, address, token, key, _name(place), Codec.MSGPACK)
            return who

    return list(await asyncio.gather(*(one(place) for place in range(count))))


async def keep_linked(address: Address, who: Identity, name: str, context: ssl.SSLContext, record: Record) -> None:
    """Hold an open link, with as many tries as a worker makes, until cancelled."""
    loop = asyncio.get_running_loop()
    make = partial(Link, who, secrets.token_hex(8), name, record)
    server_name = identity.dispatcher_server_name(who.cluster_id)
    failures = 0
    while True:
        was_welcome = False
        with suppress(OSError):
            async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
                _, link = await loop.create_connection(
                    make, address.host, address.port, ssl=context, server_hostname=server_name
                )
            await link.is_over.wait()
            was_welcome = link.is_welcome
        record.failed += not was_welcome
        failures = 0 if was_welcome else failures + 1
        await asyncio.sleep(reconnect_delay_s(failures, random.random()))


class Crowd:
    """The workers, and what is done with them."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._identities: list[Identity] = []
        self._record = Record()
        self._keeping: list[asyncio.Task[None]] = []

    async def do(self, word: str, number: int, rest: str) -> dict[str, Any]:
        """Carry out one line of the standard input."""
        match word:
            case "enrol":
                self._identities = await enrol_all(self._address, JoinToken.parse(rest), number)
                self._contexts = [tcp_dialer.client_context(Trust.of(who)) for who in self._identities]
                gc.freeze()
            case "connect":
                for place, (who, context) in enumerate(zip(self._identities, self._contexts, strict=True)):
                    keeping = keep_linked(self._address, who, _name(place), context, self._record)
                    self._keeping.append(asyncio.create_task(keeping))
                async with asyncio.timeout(PATIENCE_S):
                    await self._record.links(len(self._identities))
            case "until":
                async with asyncio.timeout(PATIENCE_S):
                    await self._record.outcomes(number)
        return self._record.answer()


def _name(place: int) -> str:
    return f"pc-{place:04}"


async def main() -> None:
    """Do what the standard input says until it ends."""
    host, port = sys.argv[1:]
    crowd = Crowd(Address(host, int(port)))
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        word, number, rest = [*line.split(), "0", ""][:3]
        print(json.dumps(await crowd.do(word, int(number), rest)), flush=True)


if __name__ == "__main__":
    open_files.raise_limit()
    uvloop.run(main())
