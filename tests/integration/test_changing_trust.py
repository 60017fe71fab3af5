"""Trust that changes over live links, seen from both ends: renewals, another CA, another leaf."""

from __future__ import annotations

import asyncio
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from dispatcher.ports import RenewalAnswer, Wishes, WorkerTrusts
from octaskly_wire import auth, identity
from octaskly_wire.codec import Codec
from octaskly_wire.messages import (
    Auth,
    CertificateRenewed,
    Challenge,
    Hello,
    Refused,
    Register,
    RenewalRefused,
    RenewCertificate,
    TrustChanged,
    TrustConfirmed,
    Welcome,
)
from octaskly_wire.session import WorkerSession
from octaskly_wire.vocabulary import Admission, RefusalCode
from tests.support import transports
from tests.support.loopback import CLUSTER as LOOPBACK_CLUSTER
from tests.support.loopback import PATIENCE_S, LoopbackDispatcher, Worker, config_for, run_scene
from tests.support.scripted_worker import CA, CA_KEY, CLUSTER, Dispatcher, QueueInMemory, ScriptedLink, ScriptedWorker
from worker_node.shell.keyfile import StateFolder

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the spawner runs on Linux"),
    pytest.mark.usefixtures("transport"),
]

NOW = datetime.now(UTC)
NEW_CA, NEW_KEY = identity.make_ca(CLUSTER, NOW)


def digest(ca: bytes) -> str:
    """Return what both ends call a CA."""
    return identity.ca_digest(ca).hex()


def certificate_of(ca: bytes, ca_key, key, cluster_id: str = CLUSTER) -> bytes:
    """Return the worker's certificate of this CA."""
    worker_id = "w1" if cluster_id == CLUSTER else "worker-1"
    return identity.issue_worker_certificate(ca, ca_key, cluster_id, worker_id, key.public_key(), NOW)


# --- the worker's end ------------------------------------------------------------------------------


def test_a_worker_follows_a_change_of_the_ca_and_comes_back_with_it(tmp_path):
    """It confirms what is on its disk, renews at once, and later believes and shows nothing of the old CA."""
    new_ca, new_key = identity.make_ca(LOOPBACK_CLUSTER, NOW)

    async def main():
        dispatcher = LoopbackDispatcher()
        old_ca = dispatcher.ca
        config = config_for(dispatcher, tmp_path)
        async with asyncio.timeout(PATIENCE_S):
            async with dispatcher.listening():
                worker = Worker(config_for(dispatcher, tmp_path))
                running = asyncio.create_task(worker.run())
                session = await dispatcher.sessions.get()
                await session.next(Register)
                session.send(TrustChanged([new_ca, old_ca]))
                assert (await session.next(TrustConfirmed)).ca_digests == [digest(new_ca), digest(old_ca)]
                request = await session.next(RenewCertificate)
                public_key = identity.public_key_of_request(request.certificate_request)
                certificate = identity.issue_worker_certificate(
                    new_ca, new_key, LOOPBACK_CLUSTER, "worker-1", public_key, NOW
                )
                session.send(CertificateRenewed(certificate))
                confirmed = await session.next(TrustConfirmed)
                assert confirmed.certificate_sha256 == identity.certificate_sha256(certificate)
                session.send(TrustChanged([new_ca]))
                assert (await session.next(TrustConfirmed)).ca_digests == [digest(new_ca)]
                worker.node.stop()
                await running
            leaf_key = identity.new_key()
            leaf = identity.issue_dispatcher_certificate(new_ca, new_key, LOOPBACK_CLUSTER, leaf_key.public_key(), NOW)
            dispatcher.ca = new_ca
            dispatcher.credentials = transports.Credentials(new_ca, leaf, leaf_key)
            async with dispatcher.listening():
                # With the old token still in its configuration, as in a unit of systemd.
                worker = Worker(config_for(dispatcher, tmp_path, join_token=config.join_token))
                running = asyncio.create_task(worker.run())
                await (await dispatcher.sessions.get()).next(Register)
                worker.node.stop()
                await running

    asyncio.run(main())


def test_a_worker_with_less_than_half_of_its_time_left_renews_as_soon_as_it_is_connected(tmp_path):
    """What it is given is what the next connection for files shows; its key stays."""

    async def scene(dispatcher, worker):
        dispatcher.now -= timedelta(days=20)  # Of 30: the worker enrols with a certificate of then.
        session = await dispatcher.sessions.get()
        await session.next(Register)
        request = await session.next(RenewCertificate)
        public_key = identity.public_key_of_request(request.certificate_request)
        stored = tmp_path / "state" / "key.pem"
        assert public_key == identity.key_from_pem(stored.read_bytes()).public_key()
        certificate = identity.issue_worker_certificate(
            dispatcher.ca, dispatcher.ca_key, LOOPBACK_CLUSTER, "worker-1", public_key, NOW
        )
        session.send(CertificateRenewed(certificate))
        confirmed = await session.next(TrustConfirmed)
        assert confirmed.certificate_sha256 == identity.certificate_sha256(certificate)
        assert worker.node._transfers._endpoint.identity.certificate == certificate
        worker.node.stop()

    run_scene(scene, tmp_path)


def test_a_worker_keeps_its_identity_when_what_comes_is_of_no_use(tmp_path):
    """A certificate for another key, or a CA that is none, changes nothing and is not confirmed."""

    async def scene(dispatcher, worker):
        session = await dispatcher.sessions.get()
        await session.next(Register)
        before = (tmp_path / "state" / "identity.json").read_bytes()
        stranger = certificate_of(dispatcher.ca, dispatcher.ca_key, identity.new_key(), LOOPBACK_CLUSTER)
        session.send(CertificateRenewed(stranger), TrustChanged([b"no certificate"]), TrustChanged([dispatcher.ca]))
        # The first confirmation is that of the last message: the others had none.
        confirmed = await session.next(TrustConfirmed)
        assert confirmed.ca_digests == [digest(dispatcher.ca)]
        assert (tmp_path / "state" / "identity.json").read_bytes() == before
        worker.node.stop()

    run_scene(scene, tmp_path)
    with closing(StateFolder(tmp_path / "state")) as folder:
        assert folder.load_identity() is not None


# --- the dispatcher's end --------------------------------------------------------------------------


class TrustingStore(QueueInMemory):
    """A store whose CAs a test changes, newest first."""

    def __init__(self) -> None:
        super().__init__()
        self.authorities = [(CA, CA_KEY)]
        self.leaf_key = None

    def wishes(self):
        """Return the CAs too."""
        return Wishes([], list(self.whitelist.values()), self.settle_trust())

    def settle_trust(self):
        """Return the CAs as they stand."""
        return tuple(ca for ca, _ in self.authorities)

    def renew(self, worker_id, certificate_request):
        """Issue what is asked for, of the newest CA."""
        if worker_id != "w1":
            return RenewalAnswer(detail="not you")
        ca, ca_key = self.authorities[0]
        key = identity.public_key_of_request(certificate_request)
        certificate = identity.issue_worker_certificate(ca, ca_key, CLUSTER, worker_id, key, NOW)
        return RenewalAnswer(certificate, digest(ca))

    def issue_leaf(self):
        """Issue the dispatcher's certificate of the oldest CA."""
        ca, ca_key = self.authorities[-1]
        return identity.issue_dispatcher_certificate(ca, ca_key, CLUSTER, self.leaf_key.public_key(), NOW)


def at_a_dispatcher(scenario) -> None:
    """Run a scenario against a listener whose store can change its CAs."""

    async def main():
        dispatcher = Dispatcher(blobs=None)
        dispatcher.store = TrustingStore()
        async with asyncio.timeout(PATIENCE_S), dispatcher.running():
            dispatcher.store.leaf_key = dispatcher.credentials._key
            await scenario(dispatcher)

    asyncio.run(main())


async def greeted(dispatcher: Dispatcher, worker: ScriptedWorker, ca: bytes, certificate: bytes):
    """Return a link that has its challenge, and the proof that answers it."""
    name = identity.dispatcher_server_name(CLUSTER)
    stream = await transports.dial(dispatcher.port, name, ca, certificate, worker.key)
    link = ScriptedLink(stream, WorkerSession(Codec.MSGPACK))
    worker._links.append(link)
    nonce = b"n" * 32
    link.send(Hello(1, worker.worker_id, "b1", nonce, "test"))
    challenge = await link.expect(Challenge)
    transport = transports.current()
    signed = auth.transcript(CLUSTER, transport, stream.leaf, challenge.nonce, nonce, worker.worker_id, "b1")
    return link, Auth(certificate, auth.sign(worker.key, signed))


def test_a_certificate_is_renewed_over_the_link_and_its_arrival_recorded():
    """What the dispatcher keeps is what the worker said that it has; a refusal says why."""

    async def scenario(dispatcher):
        worker = dispatcher.worker("w1")
        link = await worker.control()
        link.send(RenewCertificate(identity.make_certificate_request(worker.key)))
        renewed = await link.until(CertificateRenewed)
        link.send(TrustConfirmed([digest(CA)], identity.certificate_sha256(renewed.certificate)))
        link.send(TrustConfirmed([digest(CA)], "0" * 64))
        while len(found := [one for one in dispatcher.store.records if isinstance(one, WorkerTrusts)]) < 2:
            await asyncio.sleep(0.01)
        assert found == [WorkerTrusts("w1", (digest(CA),), digest(CA)), WorkerTrusts("w1", (digest(CA),), "")]
        other = await dispatcher.worker("w2").control()
        other.send(RenewCertificate(identity.make_certificate_request(worker.key)))
        assert (await other.until(RenewalRefused)).detail == "not you"

    at_a_dispatcher(scenario)


def test_connected_workers_are_told_of_each_change_and_the_old_ca_is_worth_nothing_after_it():
    """During it both CAs' certificates are good, under the old leaf; after it only the new one's, under a new leaf."""

    async def scenario(dispatcher):
        worker = dispatcher.worker("w1")
        link = await worker.control()
        assert (await link.until(TrustChanged)).ca_certificates == [CA]  # It has confirmed nothing yet.
        renewed = certificate_of(NEW_CA, NEW_KEY, worker.key)
        dispatcher.store.authorities = [(NEW_CA, NEW_KEY), (CA, CA_KEY)]
        dispatcher.service.on_worker_changed()
        assert (await link.until(TrustChanged)).ca_certificates == [NEW_CA, CA]
        for certificate in (worker.certificate, renewed):
            both, proof = await greeted(dispatcher, worker, CA, certificate)
            both.send(proof)
            await both.expect(Welcome)
        link = await worker.control()

        dispatcher.store.authorities = [(NEW_CA, NEW_KEY)]
        dispatcher.service.on_worker_changed()
        while (await link.until(TrustChanged)).ca_certificates != [NEW_CA]:
            pass
        new, proof = await greeted(dispatcher, worker, NEW_CA, renewed)
        new.send(proof)
        await new.expect(Welcome)
        if transports.current() == "tcp":  # TLS itself refuses it there.
            with pytest.raises((OSError, AssertionError)):
                await greeted(dispatcher, worker, NEW_CA, worker.certificate)
        else:
            old, proof = await greeted(dispatcher, worker, NEW_CA, worker.certificate)
            old.send(proof)
            assert isinstance(await old.next(), Refused)
        with pytest.raises(transports.FALSE_SERVER):
            await greeted(dispatcher, worker, CA, renewed)

    at_a_dispatcher(scenario)


def test_a_worker_that_saw_the_leaf_of_before_is_let_in():
    """A handshake, or a QUIC connection of weeks, may be older than the leaf that is shown now."""

    async def scenario(dispatcher):
        worker = dispatcher.worker("w1")
        link, proof = await greeted(dispatcher, worker, CA, worker.certificate)
        before = dispatcher.credentials.leaf
        dispatcher.credentials.replace(dispatcher.store.issue_leaf(), [CA])
        assert dispatcher.credentials.leaf != before
        link.send(proof)
        await link.expect(Welcome)

    at_a_dispatcher(scenario)


def test_revoking_ends_every_link_of_the_worker_and_lets_none_begin():
    """The control link and those for files; an outcome that it would still tell has no way in."""

    async def scenario(dispatcher):
        worker = dispatcher.worker("w1")
        control, transfer = await worker.control(), await worker.transfer()
        dispatcher.store.whitelist["w1"] = worker.entry(Admission.REVOKED)
        # Nobody tells this process: it looks by itself.
        assert await transfer.ended()
        assert await control.ended()
        again, proof = await greeted(dispatcher, worker, CA, worker.certificate)
        again.send(proof)
        refused = await again.expect(Refused)
        assert (refused.code, refused.is_final) == (RefusalCode.REVOKED, True)

    at_a_dispatcher(scenario)
