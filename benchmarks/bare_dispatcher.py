"""The limit beside `benchmarks.workers`: a TLS server that says to the crowd what a dispatcher says, and decides nothing.

It keeps no table and writes no file: what it costs is TLS, frames and messages on one asyncio loop. It prints its port and a
join token, then hands out as many attempts as each line of its standard input says, and prints the seconds that they took.
"""

from __future__ import annotations

import asyncio
import secrets
import sys
import time
import uuid
from datetime import UTC, datetime
from typing import cast

from octaskly_wire.cipher_pin import pin_cipher_suite

pin_cipher_suite()  # Before anything loads OpenSSL, as the dispatcher does.

import uvloop  # noqa: E402

from octaskly_site import open_files  # noqa: E402
from octaskly_wire import identity, tls  # noqa: E402
from octaskly_wire.join_token import JoinToken  # noqa: E402
from octaskly_wire.limits import HEARTBEAT_INTERVAL_S, LEASE_S  # noqa: E402
from octaskly_wire.messages import (  # noqa: E402
    AcknowledgeOutcome,
    AssignAttempt,
    AttemptFinished,
    Auth,
    CaBundle,
    Challenge,
    Enrol,
    Enrolled,
    FetchCa,
    FromWorker,
    Heartbeat,
    HeartbeatAck,
    Hello,
    Register,
    ToWorker,
    Welcome,
)
from octaskly_wire.session import DispatcherSession  # noqa: E402
from octaskly_wire.vocabulary import Admission, SandboxLevel  # noqa: E402

CLUSTER = "bare"
NOW = datetime.now(UTC)
CA, CA_KEY = identity.make_ca(CLUSTER, NOW)
TOKEN = JoinToken.new(identity.ca_digest(CA), secrets.token_bytes)
BACKLOG = 1024


class Work:
    """Attempts to hand out, and the links that take them."""

    def __init__(self) -> None:
        self.links: list[Link] = []
        self._to_give = self._to_end = 0
        self._is_over = asyncio.Event()

    def next(self) -> list[ToWorker]:
        """Return an attempt for whoever has a free slot, if any is left."""
        if not self._to_give:
            return []
        self._to_give -= 1
        task_id = str(uuid.uuid4())
        return [AssignAttempt(f"{task_id}.1", task_id, "true", 3600, SandboxLevel.BASIC, allows_network=False)]

    def note_end(self) -> None:
        """Count an outcome."""
        self._to_end -= 1
        if not self._to_end:
            self._is_over.set()

    async def hand_out(self, count: int) -> float:
        """Return the seconds that so many attempts took."""
        self._to_give = self._to_end = count
        self._is_over.clear()
        began = time.perf_counter()
        for link in self.links:
            link.send([order for _ in range(link.slots) for order in self.next()])
        await self._is_over.wait()
        return time.perf_counter() - began


class Link(asyncio.Protocol):
    """The dispatcher's end of one link: believes everybody."""

    def __init__(self, work: Work) -> None:
        self.slots = 0
        self._work = work
        self._session = DispatcherSession()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the peer's word."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Answer what came, in one write."""
        self.send([answer for message in self._session.feed(data) for answer in self._answers(message)])

    def send(self, messages: list[ToWorker]) -> None:
        """Send messages."""
        if messages:
            self._transport.write(b"".join([self._session.encode(message) for message in messages]))

    def _answers(self, message: FromWorker) -> list[ToWorker]:
        match message:
            case AttemptFinished():
                self._work.note_end()
                return [AcknowledgeOutcome(message.attempt_id), *self._work.next()]
            case Heartbeat():
                return [HeartbeatAck(message.sequence)]
            case FetchCa():
                return [CaBundle(CLUSTER, CA)]
            case Enrol():
                worker_id, key = str(uuid.uuid4()), identity.public_key_of_request(message.certificate_request)
                certificate = identity.issue_worker_certificate(CA, CA_KEY, CLUSTER, worker_id, key, NOW)
                return [Enrolled(worker_id, CLUSTER, certificate, Admission.APPROVED)]
            case Hello():
                return [Challenge(CLUSTER, secrets.token_bytes(32))]
            case Auth():
                self._session.open()
                return [Welcome(Admission.APPROVED, HEARTBEAT_INTERVAL_S, LEASE_S)]
            case Register():
                self.slots = message.slots
                self._work.links.append(self)
        return []


async def main() -> None:
    """Serve until the standard input ends."""
    loop = asyncio.get_running_loop()
    key = identity.new_key()
    leaf = identity.issue_dispatcher_certificate(CA, CA_KEY, CLUSTER, key.public_key(), NOW)
    context, work = tls.server_context(CA, leaf, key), Work()
    server = await loop.create_server(lambda: Link(work), "127.0.0.1", 0, ssl=context, backlog=BACKLOG)
    print(server.sockets[0].getsockname()[1], TOKEN.text, flush=True)
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        print(await work.hand_out(int(line)), flush=True)


if __name__ == "__main__":
    open_files.raise_limit()
    uvloop.run(main())
