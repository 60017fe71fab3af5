"""Join tokens, enrolment and the whitelist's steps, through services and REST."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from accounts_app.roles import Role
from audit_app.models import AuditEntry
from octaskly_wire import identity
from octaskly_wire.join_token import JoinToken as TokenText
from octaskly_wire.vocabulary import Admission
from workers_app import services
from workers_app.models import Cluster, JoinToken, Worker

pytestmark = pytest.mark.django_db


def now():
    """Return the time."""
    return datetime.now(UTC)


def enrol(text, key=None, name="pc-07"):
    """Use a join token as a worker does."""
    token = TokenText.parse(text)
    return services.enrol(
        token_id=token.token_id, secret=token.secret,
        certificate_request=identity.make_certificate_request(key or identity.new_key()), name=name,
        address="10.0.0.7", now=now(),
    )  # fmt: skip


@pytest.fixture
def operator(client_of):
    """Return an operator's REST client."""
    return client_of(Role.DISPATCHER)


@pytest.fixture
def worker(operator):
    """Return a pending worker."""
    return Worker.objects.get(
        id=enrol(services.create_join_token(uses=1, ttl_s=60, auto_approve=False, actor=None)).worker_id
    )


def test_join_token_over_rest_pins_this_cluster(operator):
    """The token carries the CA's digest; the table keeps no secret."""
    answer = operator.post("/api/v1/join-tokens", {"uses": 2, "ttl_s": 60, "auto_approve": True})
    assert answer.status_code == 201
    token = TokenText.parse(answer.json()["token"])
    assert token.ca_digest == identity.ca_digest(services.ensure_cluster(now()).ca_certificate)
    row = JoinToken.objects.get()
    assert (row.uses_left, row.auto_approve, row.created_by) == (2, True, operator.user)
    assert token.secret not in str(JoinToken.objects.values())
    assert token.secret not in str(AuditEntry.objects.values())


@pytest.mark.parametrize(
    ("body", "field"), [({"uses": 0}, "uses"), ({"ttl_s": -1}, "ttl_s"), ({"uses": "many"}, "uses")]
)
def test_bad_join_token_requests_are_named(operator, body, field):
    """The problem names the field."""
    answer = operator.post("/api/v1/join-tokens", body)
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"] == field


def test_enrolment_gives_a_certificate_for_this_worker_only():
    """The key goes on the whitelist; the certificate proves this worker and nobody else."""
    key = identity.new_key()
    enrolled = enrol(services.create_join_token(uses=1, ttl_s=60, auto_approve=True, actor=None), key)
    cluster = services.ensure_cluster(now())
    public_key = identity.check_worker_certificate(
        enrolled.certificate, [cluster.ca_certificate], cluster.cluster_id, enrolled.worker_id, now()
    )
    row = Worker.objects.get()
    assert row.public_key_sha256 == identity.public_key_sha256(public_key)
    assert enrolled.admission is Admission.APPROVED


def test_used_up_token_is_refused():
    """One use is one use."""
    text = services.create_join_token(uses=1, ttl_s=60, auto_approve=True, actor=None)
    enrol(text)
    with pytest.raises(services.EnrolmentRefused, match="used up"):
        enrol(text)
    assert Worker.objects.count() == 1


def test_expired_unknown_and_wrong_tokens_are_refused():
    """None of them lets anybody in."""
    text = services.create_join_token(uses=1, ttl_s=60, auto_approve=True, actor=None)
    JoinToken.objects.update(expires_at=now() - timedelta(seconds=1))
    with pytest.raises(services.EnrolmentRefused, match="expired"):
        enrol(text)
    token = TokenText.parse(text)
    for changed in (
        TokenText(token.ca_digest, "aaaaaaaa", token.secret),
        TokenText(token.ca_digest, token.token_id, "a" * 26),
    ):
        with pytest.raises(services.EnrolmentRefused, match="no such join token"):
            enrol(changed.text)
    assert not Worker.objects.exists()


def test_key_that_was_revoked_cannot_enrol_again():
    """A revoked machine does not come back under its old key; any other stays the same worker, no further than it was."""
    key = identity.new_key()
    ids = set()
    for admission in (Admission.APPROVED, Admission.SUSPENDED):
        again = enrol(services.create_join_token(uses=1, ttl_s=60, auto_approve=True, actor=None), key)
        ids.add(again.worker_id)
        Worker.objects.update(admission=admission.value)
    again = enrol(services.create_join_token(uses=1, ttl_s=60, auto_approve=True, actor=None), key)
    assert {again.worker_id} == ids
    assert again.admission is Admission.SUSPENDED
    services.revoke(Worker.objects.get(), None)
    with pytest.raises(services.EnrolmentRefused, match="revoked"):
        enrol(services.create_join_token(uses=1, ttl_s=60, auto_approve=True, actor=None), key)


STEPS = [
    ("pending", "approve", 200, "approved"), ("pending", "suspend", 409, "pending"), ("pending", "revoke", 200, "revoked"),
    ("approved", "approve", 409, "approved"), ("approved", "suspend", 200, "suspended"),
    ("approved", "revoke", 200, "revoked"), ("suspended", "approve", 200, "approved"),
    ("suspended", "suspend", 409, "suspended"), ("suspended", "revoke", 200, "revoked"),
    ("revoked", "approve", 409, "revoked"), ("revoked", "suspend", 409, "revoked"), ("revoked", "revoke", 409, "revoked"),
]  # fmt: skip


@pytest.mark.parametrize(("before", "step", "status", "after"), STEPS)
def test_each_step_of_the_whitelist_is_decided(operator, worker, before, step, status, after):
    """Allowed steps are taken and audited, others are conflicts that change nothing."""
    Worker.objects.update(admission=before)
    answer = operator.post(f"/api/v1/workers/{worker.id}/{step}", {"reason": "because"} if step != "approve" else {})
    assert answer.status_code == status
    worker.refresh_from_db()
    assert worker.admission == after
    assert AuditEntry.objects.filter(worker_id=worker.id, actor=operator.user.username).count() == (status == 200)


def test_drain_and_resume(operator, worker):
    """Both can be repeated without harm."""
    for step, expected in [("drain", True), ("drain", True), ("resume", False), ("resume", False)]:
        assert operator.post(f"/api/v1/workers/{worker.id}/{step}").json()["is_draining"] is expected


def test_workers_are_listed_with_their_state(operator, worker):
    """One word tells the state; filters narrow the list."""
    (listed,) = operator.get("/api/v1/workers").json()["results"]
    assert (listed["id"], listed["status"], listed["name"]) == (worker.id, "pending", "pc-07")
    assert operator.get("/api/v1/workers?admission=approved").json()["results"] == []
    assert operator.get(f"/api/v1/workers/{worker.id}").json() == listed
    assert operator.get("/api/v1/workers/none").status_code == 404


def test_a_worker_shows_its_levels_and_caps(operator, worker):
    """Each proven level with how and what stays open, each other one with the reason, and the owner's caps."""
    shown = {
        "levels": [{"level": "basic", "backend": "linux-spawner", "gaps": ["network: open"]}],
        "levels_unproven": [{"level": "strict", "reason": "no namespaces", "is_below_floor": False}],
        "max_limits": {"memory_mb": 4096, "timeout_s": 600},
    }
    Worker.objects.update(**shown)
    answer = operator.get(f"/api/v1/workers/{worker.id}").json()
    assert {name: answer[name] for name in shown} == shown


def test_another_secret_key_does_not_open_the_cluster(settings):
    """The mistake is noticed at once, not at the first certificate."""
    services.ensure_cluster(now())
    settings.OCTASKLY_CA_WRAPPING_KEY = b"x" * 32
    with pytest.raises(services.WrongSecretKey):
        services.ensure_cluster(now())


def test_the_pin_is_made_once():
    """A cluster from before there was a server key gets one, and keeps it."""
    services.ensure_cluster(now())
    Cluster.objects.update(server_key_wrapped=b"")
    pin = services.ensure_cluster(now()).pin
    assert services.ensure_cluster(now()).pin == pin
    assert pin.startswith("sha256//")


def test_a_line_says_where_the_dispatcher_was_last_started():
    """Before its first start the address is left to be filled in."""
    assert "https://HOST:5555/join.sh" in services.join_line("octa1-x")
    services.record_address("192.0.2.7:5556")
    services.record_address("192.0.2.8:5556")
    line = services.join_line("octa1-x")
    assert line.endswith("https://192.0.2.8:5556/join.sh | sh -s -- octa1-x")
    assert f"--pinnedpubkey '{services.ensure_cluster(now()).pin}'" in line
    assert "https://pc.lan:1/join.sh" in services.join_line("octa1-x", "pc.lan:1")


def test_jointoken_prints_the_token_alone(capsys):
    """A script can take stdout as it is; people find the whole line on stderr."""
    call_command("jointoken", "--uses", "3", "--ttl", "30m", "--auto-approve", "--address", "[::1]")
    printed = capsys.readouterr()
    assert TokenText.parse(printed.out)
    assert printed.err.endswith(f"https://[::1]:5555/join.sh | sh -s -- {printed.out}")
    row = JoinToken.objects.get()
    assert (row.uses_allowed, row.auto_approve) == (3, True)
    assert row.expires_at - row.created_at == timedelta(minutes=30)


@pytest.mark.parametrize("arguments", [["--ttl", "soon"], ["--uses", "0"], ["--ttl", "0"], ["--address", "a b"]])
def test_jointoken_names_bad_flags(arguments):
    """The flag is named."""
    with pytest.raises(CommandError, match=arguments[0].strip("-")):
        call_command("jointoken", *arguments)
