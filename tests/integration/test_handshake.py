"""The dispatcher's real listener on loopback, over TCP and QUIC: who gets a session and who does not."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from dispatcher.ports import WorkerConnected, WorkerRefused
from octaskly_wire import auth, identity
from octaskly_wire.codec import Codec
from octaskly_wire.messages import (
    AssignAttempt,
    Auth,
    CaBundle,
    Challenge,
    FetchCa,
    Heartbeat,
    HeartbeatAck,
    Hello,
    Refused,
    Vitals,
    Welcome,
)
from octaskly_wire.session import WorkerSession
from octaskly_wire.vocabulary import Admission, RefusalCode, Transport
from tests.support import transports
from tests.support.scripted_worker import (
    CA,
    CA_KEY,
    CLUSTER,
    NOW,
    REGISTER,
    Dispatcher,
    NoBlobs,
    ScriptedLink,
    worker_certificate,
)
from tests.unit.dispatcher.engine import make_task

pytestmark = pytest.mark.usefixtures("transport")

ROGUE_CA, ROGUE_KEY = identity.make_ca(CLUSTER, NOW)
NAME = identity.dispatcher_server_name(CLUSTER)
THIEF = identity.new_key()
VITALS = Vitals(cpu_percent=0, memory_total_bytes=1, memory_available_bytes=1, disk_free_bytes=1, load_1m=0)
NO_CERTIFICATE = b"\x30\x00"


class Door:
    """A running listener, a worker w1, and what is needed to knock as it or as somebody else."""

    def __init__(self, dispatcher):
        self.dispatcher = dispatcher
        self.store = dispatcher.store
        self.worker = dispatcher.worker("w1")
        self.key, self.certificate = self.worker.key, self.worker.certificate

    def admit(self, admission):
        """Let the whitelist say this of w1."""
        self.store.whitelist["w1"] = self.worker.entry(admission)

    async def knock(self, *, worker_id="w1", shown=None, auth_certificate=None, signing_key=None, replay=None):
        """Go through the handshake; return the dispatcher's last answer, or None when it cut the link.

        `shown` are the certificate and key for TLS, which QUIC does not ask for: there they are the ones in AUTH.
        """
        certificate, key = shown or (self.certificate, self.key)
        try:
            stream = await transports.dial(self.dispatcher.port, NAME, CA, certificate, key)
        except OSError:
            return None
        link = ScriptedLink(stream, WorkerSession(Codec.MSGPACK))
        nonce = b"n" * 32
        try:
            link.send(Hello(1, worker_id, "b1", nonce, "t"))
            challenge = await link.next()
            if not isinstance(challenge, Challenge):
                return challenge
            leaf = stream.leaf
            signed = auth.transcript(CLUSTER, transports.current(), leaf, challenge.nonce, nonce, worker_id, "b1")
            self.signature = auth.sign(signing_key or key or self.key, signed)
            link.send(Auth(auth_certificate or certificate or self.certificate, replay or self.signature))
            answer = await link.next()
            if isinstance(answer, Welcome):
                link.send(REGISTER)
                await self.wait_for_record(WorkerConnected)
            return answer
        finally:
            stream.close()

    async def wait_for_record(self, kind):
        """Wait until such a record was committed."""
        async with asyncio.timeout(10):
            while not any(isinstance(record, kind) for record in self.store.records):
                await asyncio.sleep(0.01)

    async def refusals(self):
        """Return the codes of the refusals that were recorded for the audit, once there is one."""
        await self.wait_for_record(WorkerRefused)
        return [record.code for record in self.store.records if isinstance(record, WorkerRefused)]


def at_the_door(scenario):
    """Run a scenario against a running listener."""

    async def main():
        dispatcher = Dispatcher(NoBlobs())
        async with asyncio.timeout(30), dispatcher.running():
            await scenario(Door(dispatcher))

    asyncio.run(main())


def test_whitelisted_worker_is_welcomed_and_recorded():
    """The right key, certificate and signature make a session, in which there is work."""

    async def scenario(door):
        door.store.tasks = [make_task("t1")]
        link = await door.worker.control()
        assert (await link.until(AssignAttempt)).task_id == "t1"
        await door.wait_for_record(WorkerConnected)

    at_the_door(scenario)


def test_while_nothing_can_be_stored_workers_are_told_to_come_back():
    """Their questions would pile up behind the commit that fails; with room again they are welcome."""

    async def scenario(door):
        door.store.is_full = True
        writer = door.dispatcher.writer
        writer.submit([WorkerRefused("w2", "192.0.2.1", RefusalCode.NOT_ENROLLED, "")])
        async with asyncio.timeout(10):
            while writer.is_healthy:
                await asyncio.sleep(0.01)
        answer = await door.knock()
        assert (answer.code, answer.is_final) == (RefusalCode.UNAVAILABLE, False)
        door.store.is_full = False
        await door.wait_for_record(WorkerRefused)
        assert isinstance(await door.knock(), Welcome)

    at_the_door(scenario)


@pytest.mark.parametrize("admission", [Admission.PENDING, Admission.SUSPENDED])
def test_worker_that_is_not_approved_waits_and_gets_nothing(admission):
    """It stays connected, so that an approval takes effect at once; until then the queue stays as it is."""

    async def scenario(door):
        door.store.tasks = [make_task("t1")]
        door.admit(admission)
        assert (await door.knock()).admission is admission
        link = await door.worker.control()
        for sequence in (1, 2, 3):
            await door.dispatcher.writer.call(lambda: None)  # All that it asked of the store until now is answered.
            link.send(Heartbeat(sequence, VITALS, []))
            while not isinstance(message := await link.next(), HeartbeatAck):
                assert not isinstance(message, AssignAttempt)
        assert door.store.tasks

    at_the_door(scenario)


def test_ca_is_given_to_anybody():
    """A machine that joins compares it with its pin before it says anything."""

    async def scenario(door):
        stream = await transports.dial(door.dispatcher.port, NAME, None)
        link = ScriptedLink(stream, WorkerSession(Codec.JSON))
        link.send(FetchCa())
        assert await link.next() == CaBundle(cluster_id=CLUSTER, certificate=CA)
        stream.close()

    at_the_door(scenario)


def odd_certificate(key):
    """Issue a certificate for a client of our CA that has the dispatcher's name."""
    issuer = x509.load_der_x509_certificate(CA)
    builder = x509.CertificateBuilder().subject_name(issuer.subject).issuer_name(issuer.subject)
    builder = builder.public_key(key.public_key()).serial_number(1)
    builder = builder.not_valid_before(NOW - timedelta(hours=1)).not_valid_after(NOW + timedelta(days=1))
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=True)
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
    return builder.sign(CA_KEY, None).public_bytes(Encoding.DER)


def own(issue):
    """Return a knock with a certificate for the worker's own key."""
    return lambda door: {"shown": (issue(door.key), door.key)}


BAD = {
    "none": lambda _: {"shown": (None, None), "auth_certificate": NO_CERTIFICATE},
    "rogue CA": own(lambda key: worker_certificate("w1", key, ROGUE_CA, ROGUE_KEY)),
    "expired": own(lambda key: worker_certificate("w1", key, now=NOW - timedelta(days=31))),
    "not yet valid": own(lambda key: worker_certificate("w1", key, now=NOW + timedelta(days=1))),
    "for a server": own(lambda key: identity.issue_dispatcher_certificate(CA, CA_KEY, CLUSTER, key.public_key(), NOW)),
    "the dispatcher's name": own(odd_certificate),
    "another worker's id": lambda _: {"worker_id": "w2"},
    "copied, without its key": lambda _: {"shown": (None, None), "signing_key": THIEF},
    "another one in TLS": lambda door: {
        "shown": (worker_certificate("w2", THIEF), THIEF),
        "auth_certificate": door.certificate,
    },
    "a key that is not on the whitelist": lambda _: {"shown": (worker_certificate("w1", THIEF), THIEF)},
    "signed with another key": lambda _: {"signing_key": THIEF},
    "no signature": lambda _: {"replay": bytes(64)},
}


@pytest.mark.parametrize("identity_of", BAD.values(), ids=BAD)
def test_false_identity_is_refused_and_recorded(identity_of):
    """Whether TLS or AUTH turns it away: no session comes of it, and one record for the audit."""

    async def scenario(door):
        answer = await door.knock(**identity_of(door))
        if answer is not None:
            assert isinstance(answer, Refused), answer
            assert (answer.code, answer.is_final) == (RefusalCode.BAD_PROOF, True)
        assert await door.refusals() == [RefusalCode.BAD_PROOF]
        assert not any(isinstance(record, WorkerConnected) for record in door.store.records)

    at_the_door(scenario)


@transports.ONLY_TCP  # QUIC asks for no certificate: AUTH refuses it.
@pytest.mark.parametrize(
    ("detail", "name"),
    [("unable to get local issuer", "rogue CA"), ("expired", "expired"), ("purpose", "for a server")],
)
def test_what_tls_refuses_is_recorded_with_its_reason(detail, name):
    """TLS itself turns these away; the record says from where and why."""

    async def scenario(door):
        assert await door.knock(**BAD[name](door)) is None
        await door.refusals()
        [record] = door.store.records
        assert (record.worker_id, record.address) == ("", "127.0.0.1")
        assert detail in record.detail

    at_the_door(scenario)


def test_unknown_and_revoked_workers_are_refused():
    """Their certificates are still good; the whitelist decides."""

    async def scenario(door):
        answer = await door.knock(worker_id="w9", shown=(worker_certificate("w9", THIEF), THIEF))
        assert (answer.code, answer.is_final) == (RefusalCode.NOT_ENROLLED, True)
        door.admit(Admission.REVOKED)
        answer = await door.knock()
        assert (answer.code, answer.is_final) == (RefusalCode.REVOKED, True)
        assert await door.refusals() == [RefusalCode.NOT_ENROLLED, RefusalCode.REVOKED]

    at_the_door(scenario)


def test_recorded_proof_does_not_serve_twice():
    """The nonce is new each time, so a recorded signature proves nothing later."""

    async def scenario(door):
        assert isinstance(await door.knock(), Welcome)
        answer = await door.knock(replay=door.signature)
        assert answer.code is RefusalCode.BAD_PROOF
        assert await door.refusals() == [RefusalCode.BAD_PROOF]

    at_the_door(scenario)


def test_a_flood_of_refusals_has_few_rows():
    """Whoever proves nothing cannot fill the audit: five rows of fifty, and the rest in one at the end."""

    async def scenario(door):
        for _ in range(5):
            await asyncio.gather(*(door.knock(worker_id="w2") for _ in range(10)))
        assert await door.refusals() == [RefusalCode.BAD_PROOF] * 5
        door.dispatcher.gatekeeper.refusals.close()
        while len(await door.refusals()) == 5:
            await asyncio.sleep(0.01)
        assert door.store.records[-1].count == 45

    at_the_door(scenario)


def test_garbage_and_floods_leave_the_door_working(transport):
    """After nonsense, half-open connections and huge frames a worker still gets in."""

    async def scenario(door):
        port = door.dispatcher.port
        for data in (b"POST / HTTP/1.1\r\n\r\n", b"\xff" * 5000, b"\0" * 100):
            stream = await transports.dial(port, NAME, None)
            stream.writer.write(data)
            try:
                assert await asyncio.wait_for(stream.reader.read(), 10) == b""
            except ConnectionError:
                assert transport is Transport.QUIC  # which resets a stream that it does not want
            stream.close()
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(100)] if transport == "tcp" else []
        assert isinstance(await door.knock(), Welcome)
        for _, writer in idle:
            writer.close()

    at_the_door(scenario)
