"""When certificates are renewed, as a matter of numbers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from octaskly_wire import identity
from octaskly_wire.errors import BadProof
from octaskly_wire.renewal import renewal_due_at, retry_pause

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
CA, CA_KEY = identity.make_ca("c1", NOW)


def certificate(life_s: float) -> bytes:
    """Return a worker's certificate that lives so long."""
    key = identity.new_key().public_key()
    return identity.issue_worker_certificate(CA, CA_KEY, "c1", "w1", key, NOW, timedelta(seconds=life_s))


@pytest.mark.parametrize(("drawn", "share"), [(0.0, 0.5), (0.5, 0.65), (1.0, 0.8)])
@pytest.mark.parametrize("life_s", [20, 30 * 86_400])
def test_a_certificate_is_due_between_half_and_four_fifths_of_its_life(life_s, drawn, share):
    """Counted from when it was made: that its validity begins an hour earlier is for clocks that differ."""
    due = renewal_due_at(certificate(life_s), drawn)
    assert (due - NOW).total_seconds() == pytest.approx(share * life_s)


def test_a_renewal_that_failed_is_tried_many_times_before_the_end():
    """The pause is a twentieth of the life, never longer than allowed."""
    assert retry_pause(certificate(20), timedelta(minutes=10)) == timedelta(seconds=1)
    assert retry_pause(certificate(30 * 86_400), timedelta(minutes=10)) == timedelta(minutes=10)


def test_the_issuer_is_told_among_cas_of_one_name():
    """Two CAs of a cluster have the same subject; the signature tells whose a certificate is."""
    other, other_key = identity.make_ca("c1", NOW)
    key = identity.new_key().public_key()
    of_other = identity.issue_worker_certificate(other, other_key, "c1", "w1", key, NOW)
    assert identity.issuer_among(of_other, [CA, other]) == other
    with pytest.raises(BadProof):
        identity.issuer_among(of_other, [CA])
