"""The dispatcher's real listener over loopback TLS: who gets a session and who does not."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from dispatcher.config import ShellConfig
from dispatcher.core.config import EngineConfig
from dispatcher.ports import StoreUnavailable, WhitelistEntry, Wishes, WorkerConnected, WorkerRefused
from dispatcher.shell.handshake import ClusterFacts, Gatekeeper
from dispatcher.shell.service import DispatcherService
from dispatcher.shell.tcp_listener import TcpListener
from dispatcher.shell.transfer import TransferServer
from dispatcher.shell.writer import StoreWriter
from octaskly_wire import auth, identity, tls
from octaskly_wire.codec import Codec
from octaskly_wire.messages import Auth, CaBundle, Challenge, FetchCa, Hello, Refused, Welcome
from octaskly_wire.session import WorkerSession
from octaskly_wire.vocabulary import Admission, RefusalCode
from tests.support.messages import FROM_WORKER

NOW = datetime.now(UTC)
CA, CA_KEY = identity.make_ca("c1", NOW)
ROGUE_CA, ROGUE_KEY = identity.make_ca("c1", NOW)
REGISTER = next(message for message in FROM_WORKER if type(message).__name__ == "Register")


class MemoryStore:
    """The engine's store in memory: a whitelist, and the records in order."""

    def __init__(self):
        self.whitelist = {}
        self.records = []
        self.is_full = False

    def recover(self):
        """Return nothing: this dispatcher is new."""
        return []

    def commit(self, records):
        """Keep the records, unless there is no room."""
        if self.is_full:
            raise StoreUnavailable("the disk is full")
        self.records += records
        return frozenset()

    def fetch_ready(self, classes, limit):
        """Return an empty queue."""
        return []

    def wishes(self):
        """Return the whitelist as it stands."""
        return Wishes([], list(self.whitelist.values()))

    def whitelist_entry(self, worker_id):
        """Return the worker's entry."""
        return self.whitelist.get(worker_id)


class NoBlobs:
    """An empty store of contents: nobody here comes so far as to ask for one."""


class Door:
    """A running listener and what is needed to knock on it."""

    def __init__(self):
        self.store = MemoryStore()
        self.key = identity.new_key()
        self.certificate = self.issue("w1", self.key)
        self.port = 0
        self.writer = None

    def issue(self, worker_id, key, ca=CA, ca_key=CA_KEY, now=NOW):
        """Issue a worker's certificate."""
        return identity.issue_worker_certificate(ca, ca_key, "c1", worker_id, key.public_key(), now)

    def allow(self, worker_id="w1", key=None, admission=Admission.APPROVED):
        """Put a key on the whitelist."""
        fingerprint = identity.public_key_sha256((key or self.key).public_key())
        self.store.whitelist[worker_id] = WhitelistEntry(worker_id, fingerprint, admission, is_draining=False)

    async def knock(self, *, worker_id="w1", tls_identity=None, auth_certificate=None, signing_key=None, replay=None):
        """Go through the handshake; return the dispatcher's last answer, or None when it cut the link."""
        certificate, key = tls_identity or (self.certificate, self.key)
        context = tls.client_context(CA, certificate, key)
        name = identity.dispatcher_server_name("c1")
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=context, server_hostname=name)
        session = WorkerSession(Codec.MSGPACK)
        leaf = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        nonce = b"n" * 32
        try:
            writer.write(
                session.encode(
                    Hello(protocol_version=1, worker_id=worker_id, boot_id="b1", nonce=nonce, software_version="t")
                )
            )
            challenge = await receive(reader, session)
            if not isinstance(challenge, Challenge):
                return challenge
            signed = auth.transcript("c1", "tcp", leaf, challenge.nonce, nonce, worker_id, "b1")
            self.signature = auth.sign(signing_key or key, signed)
            proof = Auth(certificate=auth_certificate or certificate, signature=replay or self.signature)
            writer.write(session.encode(proof))
            answer = await receive(reader, session)
            if isinstance(answer, Welcome):
                writer.write(session.encode(REGISTER))
                await writer.drain()
                await self.wait_for_record(WorkerConnected)
            return answer
        except OSError:
            return None
        finally:
            writer.close()

    async def wait_for_record(self, kind):
        """Wait until such a record was committed."""
        async with asyncio.timeout(10):
            while not any(isinstance(record, kind) for record in self.store.records):
                await asyncio.sleep(0.01)

    def refusals(self):
        """Return the codes of the refusals that were recorded for the audit."""
        return [record.code for record in self.store.records if isinstance(record, WorkerRefused)]


async def receive(reader, session):
    """Return the next message, or None at the end."""
    while True:
        data = await asyncio.wait_for(reader.read(65536), 10)
        if not data:
            return None
        if messages := session.feed(data):
            return messages[0]


def at_the_door(scenario):
    """Run a scenario against a running listener."""

    async def main():
        door = Door()
        loop = asyncio.get_running_loop()
        writer = StoreWriter(door.store, loop)
        writer.start()
        door.writer = writer
        service = DispatcherService(EngineConfig(), door.store, writer)
        engine = asyncio.create_task(service.run())
        leaf_key = identity.new_key()
        leaf = identity.issue_dispatcher_certificate(CA, CA_KEY, "c1", leaf_key.public_key(), NOW)
        facts = ClusterFacts("c1", CA, lambda: leaf, 5.0, 30.0)
        config = ShellConfig("c1", bind="127.0.0.1", port=0)
        gatekeeper = Gatekeeper(facts, door.store, writer)
        transfers = TransferServer(service.transfers, NoBlobs())
        context = tls.server_context(CA, leaf, leaf_key)
        listener = TcpListener(config, context, gatekeeper, service, transfers=transfers)
        door.port = await listener.start()
        try:
            async with asyncio.timeout(30):
                await scenario(door)
        finally:
            service.close_links()
            await listener.stop()
            await transfers.stop()
            engine.cancel()
            await asyncio.gather(engine, return_exceptions=True)
            await writer.stop()

    asyncio.run(main())


def test_whitelisted_worker_is_welcomed_and_recorded():
    """The right key, certificate and signature make a session."""

    async def scenario(door):
        door.allow()
        answer = await door.knock()
        assert isinstance(answer, Welcome)
        assert answer.admission is Admission.APPROVED

    at_the_door(scenario)


def test_while_nothing_can_be_stored_workers_are_told_to_come_back():
    """Their questions would pile up behind the commit that fails; with room again they are welcome."""

    async def scenario(door):
        door.allow()
        door.store.is_full = True
        door.writer.submit([WorkerRefused("w2", "192.0.2.1", RefusalCode.NOT_ENROLLED, "")])
        async with asyncio.timeout(10):
            while door.writer.is_healthy:
                await asyncio.sleep(0.01)
        answer = await door.knock()
        assert (answer.code, answer.is_final) == (RefusalCode.UNAVAILABLE, False)
        door.store.is_full = False
        await door.wait_for_record(WorkerRefused)
        assert isinstance(await door.knock(), Welcome)

    at_the_door(scenario)


def test_pending_worker_is_welcomed_to_wait():
    """It stays connected, so that an approval takes effect at once."""

    async def scenario(door):
        door.allow(admission=Admission.PENDING)
        assert (await door.knock()).admission is Admission.PENDING

    at_the_door(scenario)


def test_ca_is_given_to_anybody():
    """A machine that joins compares it with its pin before it says anything."""

    async def scenario(door):
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port, ssl=tls.unverified_client_context())
        session = WorkerSession(Codec.JSON)
        writer.write(session.encode(FetchCa()))
        assert await receive(reader, session) == CaBundle(cluster_id="c1", certificate=CA)
        writer.close()

    at_the_door(scenario)


def refused(code, **knock):
    """Return a scenario in which this knock is refused with this code, and recorded."""

    async def scenario(door):
        door.allow()
        prepared = {name: value(door) if callable(value) else value for name, value in knock.items()}
        answer = await door.knock(**prepared)
        assert isinstance(answer, Refused), answer
        assert (answer.code, answer.is_final) == (code, True)
        assert door.refusals() == [code]
        assert not any(isinstance(record, WorkerConnected) for record in door.store.records)

    return scenario


THIEF = identity.new_key()


@pytest.mark.parametrize(
    "scenario",
    [
        refused(RefusalCode.BAD_PROOF, signing_key=THIEF),
        refused(RefusalCode.BAD_PROOF, replay=bytes(64)),
        refused(RefusalCode.BAD_PROOF, worker_id="w2"),
        refused(RefusalCode.BAD_PROOF, tls_identity=lambda door: (door.issue("w2", THIEF), THIEF),
                auth_certificate=lambda door: door.certificate),
        refused(RefusalCode.BAD_PROOF, tls_identity=lambda door: (door.issue("w1", THIEF), THIEF)),
        refused(RefusalCode.NOT_ENROLLED, worker_id="w9", tls_identity=lambda door: (door.issue("w9", THIEF), THIEF)),
    ],
    ids=[
        "signed with another key", "no signature", "another worker's id", "a copied certificate without its key",
        "a certificate of ours for a key that is not on the whitelist", "not enrolled",
    ],
)  # fmt: skip
def test_false_identity_is_refused_and_recorded(scenario):
    """Each is turned away for good, with the reason, and leaves a record for the audit."""
    at_the_door(scenario)


@pytest.mark.parametrize(
    "tls_identity",
    [
        lambda door: (None, None),
        lambda door: (door.issue("w1", door.key, ROGUE_CA, ROGUE_KEY), door.key),
        lambda door: (door.issue("w1", door.key, now=NOW - timedelta(days=31)), door.key),
        lambda door: (door.issue("w1", door.key, now=NOW + timedelta(days=1)), door.key),
        lambda door: (
            identity.issue_dispatcher_certificate(CA, CA_KEY, "c1", door.key.public_key(), NOW),
            door.key,
        ),
    ],
    ids=["none", "rogue CA", "expired", "not yet valid", "wrong key usage"],
)
def test_bad_tls_certificate_gets_no_session(tls_identity):
    """Whether TLS or AUTH turns it away, no session comes of it."""

    async def scenario(door):
        door.allow()
        certificate, key = tls_identity(door)
        answer = await door.knock(tls_identity=(certificate, key or door.key), auth_certificate=door.certificate)
        assert not isinstance(answer, Welcome)
        assert not any(isinstance(record, WorkerConnected) for record in door.store.records)

    at_the_door(scenario)


def test_revoked_key_is_refused():
    """Its certificate is still good; the whitelist decides."""

    async def scenario(door):
        door.allow(admission=Admission.REVOKED)
        answer = await door.knock()
        assert (answer.code, answer.is_final) == (RefusalCode.REVOKED, True)

    at_the_door(scenario)


def test_recorded_proof_does_not_serve_twice():
    """The nonce is new each time, so a recorded signature proves nothing later."""

    async def scenario(door):
        door.allow()
        assert isinstance(await door.knock(), Welcome)
        answer = await door.knock(replay=door.signature)
        assert answer.code is RefusalCode.BAD_PROOF

    at_the_door(scenario)


def test_garbage_and_floods_leave_the_door_working():
    """After nonsense, half-open connections and huge frames a worker still gets in."""

    async def scenario(door):
        door.allow()
        for data in (b"POST / HTTP/1.1\r\n\r\n", b"\xff" * 5000, b"\0" * 100):
            reader, writer = await asyncio.open_connection("127.0.0.1", door.port, ssl=tls.unverified_client_context())
            writer.write(data)
            assert await asyncio.wait_for(reader.read(), 10) == b""
            writer.close()
        idle = [await asyncio.open_connection("127.0.0.1", door.port) for _ in range(100)]
        assert isinstance(await door.knock(), Welcome)
        for _, writer in idle:
            writer.close()

    at_the_door(scenario)
