"""One CA takes over from another in the database: who gets which certificate, and when the old one goes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from audit_app.models import AuditEntry
from dispatcher.ports import WorkerTrusts
from octaskly_wire import identity
from octaskly_wire.join_token import JoinToken as TokenText
from octaskly_wire.vocabulary import Admission
from tasks_app.dispatch_store import DispatchStore
from workers_app import rotation, services
from workers_app.models import CertificateAuthority, JoinToken, Worker
from workers_app.rotation import LONGEST, RotationRefused

pytestmark = pytest.mark.django_db

NOW = datetime.now(UTC)
LATER = NOW + timedelta(days=15)
"""When a certificate of 30 days is due."""


def enrol(key, admission=Admission.APPROVED):
    """Put a key on the whitelist; the token that it took can be used no more."""
    token = TokenText.parse(services.create_join_token(uses=1, ttl_s=60, auto_approve=True, actor=None))
    request = identity.make_certificate_request(key)
    enrolled = services.enrol(
        token_id=token.token_id, secret=token.secret, certificate_request=request, name="w", address="", now=NOW
    )
    Worker.objects.filter(id=enrolled.worker_id).update(admission=admission.value)
    return enrolled


def renew(worker_id, key, now=LATER):
    """Ask for a new certificate."""
    return services.renew(worker_id, identity.make_certificate_request(key), now)


def confirm(worker_id, certificate):
    """Say what the worker has on its disk now: all CAs that there are, and this certificate."""
    trusted = services.trusted_certificates()
    issuer = identity.ca_digest(identity.issuer_among(certificate, trusted)).hex()
    digests = tuple(identity.ca_digest(ca).hex() for ca in trusted)
    DispatchStore(None).commit([WorkerTrusts(worker_id, digests, issuer)])


@pytest.mark.parametrize("admission", [Admission.APPROVED, Admission.PENDING, Admission.SUSPENDED])
def test_a_worker_on_the_whitelist_gets_a_new_certificate_for_its_key(admission):
    """For as long as the first one, and the audit says so."""
    key = identity.new_key()
    worker_id = enrol(key, admission).worker_id
    certificate = renew(worker_id, key)
    cluster = services.ensure_cluster(NOW)
    public_key = identity.check_worker_certificate(
        certificate, [cluster.ca_certificate], cluster.cluster_id, worker_id, LATER
    )
    assert identity.public_key_sha256(public_key) == Worker.objects.get().public_key_sha256
    assert Worker.objects.get().certificate_expires_at == identity.certificate_expires_at(certificate)
    assert AuditEntry.objects.filter(event_type="certificate_renewed", worker_id=worker_id).count() == 1


def test_no_certificate_for_another_key_a_revoked_worker_or_without_need():
    """Each refusal says why; a request for another key is recorded."""
    key = identity.new_key()
    worker_id = enrol(key).worker_id
    with pytest.raises(services.RenewalRefused, match="another key"):
        renew(worker_id, identity.new_key())
    with pytest.raises(services.RenewalRefused, match="is new"):
        renew(worker_id, key, NOW + timedelta(days=1))
    services.revoke(Worker.objects.get(), None)
    with pytest.raises(services.RenewalRefused, match="revoked"):
        renew(worker_id, key)
    with pytest.raises(services.RenewalRefused, match="does not know"):
        renew("nobody", key)
    assert AuditEntry.objects.filter(event_type="certificate_refused").count() == 1
    assert AuditEntry.objects.filter(event_type="certificate_renewed").count() == 0


def test_during_a_rotation_the_old_ca_serves_newcomers_and_the_new_one_renews():
    """A token pins the CA that the dispatcher's own certificate is of; whoever is renewed has the new one's."""
    key = identity.new_key()
    worker_id = enrol(key).worker_id
    rotation.begin(None, NOW)
    new, old = services.trusted_certificates()
    assert identity.issuer_among(services.issue_leaf(NOW), [old])
    text = services.create_join_token(uses=1, ttl_s=60, auto_approve=True, actor=None)
    assert TokenText.parse(text).ca_digest == identity.ca_digest(old)
    assert identity.issuer_among(enrol(identity.new_key()).certificate, [old])
    # The young certificate is no reason to refuse: it is of the CA that goes.
    assert identity.issuer_among(renew(worker_id, key, NOW), [new])


def test_the_old_ca_goes_when_every_worker_is_ready_and_no_token_needs_it():
    """Not while a worker has only been sent a certificate, and not while a token that pins it can be used."""
    key = identity.new_key()
    worker_id = enrol(key).worker_id
    enrol(identity.new_key(), Admission.REVOKED)
    text = services.create_join_token(uses=1, ttl_s=60, auto_approve=True, actor=None)
    rotation.begin(None, NOW)
    certificate = renew(worker_id, key, NOW)
    assert rotation.settle(NOW) is None
    assert rotation.status(NOW).waiting_workers == ["w"]
    confirm(worker_id, certificate)
    assert rotation.status(NOW).waiting_workers == []
    assert rotation.settle(NOW) is None
    assert rotation.status(NOW).waiting_tokens == [TokenText.parse(text).token_id]
    JoinToken.objects.update(expires_at=NOW)
    assert rotation.settle(NOW).is_ready
    assert CertificateAuthority.objects.count() == 1
    assert identity.issuer_among(certificate, services.trusted_certificates())
    assert identity.issuer_among(services.issue_leaf(NOW), services.trusted_certificates())


def test_a_worker_that_stays_away_holds_the_old_ca_for_thirty_days():
    """Then it goes, and the audit names who is left behind."""
    enrol(identity.new_key())
    rotation.begin(None, NOW)
    Worker.objects.update(certificate_expires_at=NOW + 2 * LONGEST)
    assert rotation.settle(NOW + LONGEST - timedelta(seconds=1)) is None
    assert rotation.settle(NOW + LONGEST).waiting_workers == ["w"]
    assert '"left_behind":["w"]' in AuditEntry.objects.get(event_type="ca_rotation_finished").details


def test_a_second_rotation_waits_for_the_first():
    """There are never more than two CAs; without a rotation there is nothing to finish."""
    with pytest.raises(RotationRefused, match="no rotation"):
        rotation.finish(None, NOW)
    rotation.begin(None, NOW)
    with pytest.raises(RotationRefused, match="under way"):
        rotation.begin(None, NOW)
    assert rotation.finish(None, NOW).is_ready
    assert rotation.status(NOW) is None


def test_a_worker_cannot_confirm_a_ca_that_there_is_not():
    """What it says is kept only when every digest is of a CA of this cluster."""
    worker_id = enrol(identity.new_key()).worker_id
    before = Worker.objects.get().trusted_ca_digests
    DispatchStore(None).commit([WorkerTrusts(worker_id, ("0" * 64,), "")])
    assert Worker.objects.get().trusted_ca_digests == before
