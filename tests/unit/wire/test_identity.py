"""Certificates, requests, join tokens and the AUTH proof: what is believed and what is not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from octaskly_wire import auth, identity
from octaskly_wire.announcement import Announcement
from octaskly_wire.errors import BadJoinToken, BadProof, MalformedMessage
from octaskly_wire.join_token import JoinToken, secret_sha256

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CA, CA_KEY = identity.make_ca("c1", NOW)
KEY = identity.new_key()


def worker_certificate(worker_id="w1", cluster_id="c1", now=NOW, ca=CA, ca_key=CA_KEY):
    """Issue one."""
    return identity.issue_worker_certificate(ca, ca_key, cluster_id, worker_id, KEY.public_key(), now)


def check(certificate, worker_id="w1", now=NOW):
    """Check as the dispatcher of c1 does."""
    return identity.check_worker_certificate(certificate, [CA], "c1", worker_id, now)


def test_own_worker_is_believed():
    """The CA's certificate for this worker gives its key."""
    assert identity.public_key_sha256(check(worker_certificate())) == identity.public_key_sha256(KEY.public_key())


@pytest.mark.parametrize(
    ("certificate", "when"),
    [
        (worker_certificate("w2"), NOW),
        (worker_certificate(cluster_id="c2"), NOW),
        (worker_certificate(), NOW + timedelta(days=31)),
        (worker_certificate(), NOW - timedelta(hours=2)),
        (worker_certificate(ca=(rogue := identity.make_ca("c1", NOW))[0], ca_key=rogue[1]), NOW),
        (identity.issue_dispatcher_certificate(CA, CA_KEY, "c1", KEY.public_key(), NOW), NOW),
        (CA, NOW),
        (b"", NOW),
        (b"\x30\x82garbage", NOW),
    ],
    ids=["other worker", "other cluster", "expired", "not yet valid", "rogue CA", "dispatcher's", "CA's own", "empty",
         "garbage"],
)  # fmt: skip
def test_wrong_certificates_are_refused(certificate, when):
    """Each differs from the right one in one thing only."""
    with pytest.raises(BadProof):
        check(certificate, now=when)


def test_of_a_request_only_the_key_counts():
    """A request proves its key; one that was changed proves nothing."""
    request = identity.make_certificate_request(KEY)
    public_key = identity.public_key_of_request(request)
    assert identity.public_key_sha256(public_key) == identity.public_key_sha256(KEY.public_key())
    with pytest.raises(BadProof):
        identity.public_key_of_request(request[:-1] + bytes([request[-1] ^ 1]))


def test_ca_key_opens_with_its_secret_only():
    """The wrapped CA key is of no use without the secret key."""
    blob = identity.wrap_key(CA_KEY, b"k" * 32)
    assert identity.key_to_pem(identity.unwrap_key(blob, b"k" * 32)) == identity.key_to_pem(CA_KEY)
    with pytest.raises(BadProof):
        identity.unwrap_key(blob, b"x" * 32)
    assert CA_KEY.private_bytes_raw() not in blob


TRANSCRIPT = {
    "cluster_id": "c1", "transport": "tcp", "server_certificate_der": b"leaf", "server_nonce": b"s" * 32,
    "client_nonce": b"c" * 32, "worker_id": "w1", "boot_id": "b1",
}  # fmt: skip


@pytest.mark.parametrize("field", TRANSCRIPT)
def test_proof_holds_for_its_session_only(field):
    """A signature does not fit once any part of the transcript differs."""
    signature = auth.sign(KEY, auth.transcript(**TRANSCRIPT))
    auth.verify(KEY.public_key(), auth.transcript(**TRANSCRIPT), signature)
    changed = TRANSCRIPT[field][:-1] + ("x" if isinstance(TRANSCRIPT[field], str) else b"x")
    with pytest.raises(BadProof):
        auth.verify(KEY.public_key(), auth.transcript(**TRANSCRIPT | {field: changed}), signature)


def test_transcripts_do_not_run_together():
    """Moving a character from one field to the next gives another transcript."""
    one = auth.transcript(**TRANSCRIPT | {"worker_id": "ab", "boot_id": "c"})
    assert one != auth.transcript(**TRANSCRIPT | {"worker_id": "a", "boot_id": "bc"})


TOKEN = JoinToken.new(bytes(range(32)), lambda count: bytes(range(count)))


def test_join_token_survives_copying():
    """Spaces around and capitals do no harm."""
    assert JoinToken.parse(f"  {TOKEN.text.upper()}\n") == TOKEN
    assert TOKEN.text.startswith("octa1-")
    assert [len(part) for part in TOKEN.text.split("-")] == [5, 52, 8, 26, 4]


@pytest.mark.parametrize("position", [at for at in range(6, len(TOKEN.text), 3) if TOKEN.text[at] != "-"])
def test_mistyped_token_is_noticed_before_anything_is_sent(position):
    """Any changed character breaks the checksum, and the error does not repeat the secret."""
    text = TOKEN.text
    wrong = text[:position] + ("a" if text[position] != "a" else "b") + text[position + 1 :]
    with pytest.raises(BadJoinToken) as caught:
        JoinToken.parse(wrong)
    assert TOKEN.secret not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["", "octa1", "hello", TOKEN.text[:-5], TOKEN.text + "-x", "octa1-" + "0" * 91],
    ids=["empty", "prefix", "a word", "cut", "longer", "digits"],
)
def test_incomplete_tokens_say_so(text):
    """No part of a token is a token."""
    with pytest.raises(BadJoinToken):
        JoinToken.parse(text)


def test_secret_is_kept_as_digest_and_not_shown():
    """Neither the table nor a repr gives it back."""
    assert TOKEN.secret not in repr(TOKEN)
    assert TOKEN.secret not in secret_sha256(TOKEN.secret)


def test_announcement_round_trip():
    """What the beacon says is what a finder reads."""
    said = Announcement("c1", 5555, 5556, (1, 2), "abcd1234")
    assert Announcement.from_txt(5555, said.to_txt()) == said


@pytest.mark.parametrize("change", [{"quic": "x"}, {"versions": ""}, {"quic": "70000"}, {"cluster": "c" * 65}])
def test_foreign_announcements_are_refused(change):
    """Anybody may announce anything."""
    txt = Announcement("c1", 5555, 5556, (1,), "abcd1234").to_txt() | change
    with pytest.raises(MalformedMessage):
        Announcement.from_txt(5555, txt)
