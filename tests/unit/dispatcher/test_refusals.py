"""How many rows of the audit peers can make that have proven nothing."""

from __future__ import annotations

import ssl

from dispatcher.ports import WorkerRefused
from dispatcher.shell.refusals import (
    ELSEWHERE,
    INTERVAL_S,
    ROWS_OF_ALL,
    ROWS_OF_AN_ADDRESS,
    RefusalCounts,
    source_of,
    why,
)
from octaskly_wire.vocabulary import RefusalCode


def refusal(address="10.0.0.1", detail="no"):
    """Return one refusal."""
    return WorkerRefused("w1", address, RefusalCode.BAD_PROOF, detail)


def test_the_first_refusals_of_an_address_have_rows_and_the_others_one_with_their_count():
    """A thousand in ten minutes make six rows, and the next interval begins anew."""
    counts = RefusalCounts()
    rows = [row for number in range(1000) for row in counts.note(refusal(detail=f"try {number}"), number * 0.1)]
    assert [row.detail for row in rows] == [f"try {number}" for number in range(ROWS_OF_AN_ADDRESS)]
    assert {row.count for row in rows} == {1}
    assert counts.due(INTERVAL_S - 1) == []
    [summary] = counts.due(INTERVAL_S)
    assert (summary.address, summary.detail, summary.count) == ("10.0.0.1", "try 999", 1000 - ROWS_OF_AN_ADDRESS)
    assert counts.due(2 * INTERVAL_S) == []
    assert counts.note(refusal(), 2 * INTERVAL_S) == [refusal()]


def test_one_address_does_not_silence_another():
    """Who floods is counted, who errs once has a row of its own."""
    counts = RefusalCounts()
    for _ in range(1000):
        counts.note(refusal(), 0.0)
    assert counts.note(refusal("10.0.0.2"), 1.0) == [refusal("10.0.0.2")]


def test_a_flood_from_ever_new_addresses_is_one_row_in_the_end():
    """Neither rows nor memory grow with the number of addresses."""
    counts = RefusalCounts()
    rows = [row for number in range(10_000) for row in counts.note(refusal(f"10.1.{number >> 8}.{number & 255}"), 0.0)]
    assert len(rows) == ROWS_OF_ALL
    [summary] = counts.close()
    assert (summary.address, summary.count) == (ELSEWHERE, 10_000 - ROWS_OF_ALL)


def test_a_late_refusal_brings_the_counts_of_the_interval_before():
    """Nothing is lost when the timer comes later than the next peer."""
    counts = RefusalCounts()
    for _ in range(ROWS_OF_AN_ADDRESS + 3):
        counts.note(refusal(), 0.0)
    [summary, row] = counts.note(refusal(detail="new"), INTERVAL_S + 1)
    assert (summary.count, row) == (3, refusal(detail="new"))


def test_what_one_machine_has_counts_as_one_source():
    """A /64 of IPv6, and IPv4 in both of its spellings."""
    assert source_of("2001:db8::1") == source_of("2001:db8::ffff:2") != source_of("2001:db8:0:1::1")
    assert source_of("::ffff:10.0.0.1") == source_of("10.0.0.1") == "10.0.0.1"
    assert source_of("fe80::1%eth0") == source_of("fe80::2")
    assert source_of("?") == "?"


def test_tls_errors_read_as_words():
    """The audit says what was wrong, not where in OpenSSL."""
    assert why(ssl.SSLError(1, "x")) == "no TLS"
    error = ssl.SSLError(1, "x")
    error.reason = "NO_SHARED_CIPHER"
    assert why(error) == "no shared cipher"
    error = ssl.SSLCertVerificationError(1, "x")
    error.verify_message = "certificate has expired"
    assert why(error) == "certificate has expired"
