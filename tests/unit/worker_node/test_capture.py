"""Streams of any length are kept in bounded memory."""

from __future__ import annotations

import pytest

from worker_node.shell.capture import Capture


def fed(pieces: list[bytes], max_bytes: int = 1000) -> Capture:
    """Return a capture that took the pieces."""
    capture = Capture(max_bytes)
    for piece in pieces:
        capture.feed(piece)
    return capture


@pytest.mark.parametrize("size", [0, 1, 499, 500, 501, 999, 1000])
@pytest.mark.parametrize("piece", [1, 7, 5000])
def test_what_fits_is_kept_whole(size, piece):
    """Up to the cap nothing is left out and no marker appears."""
    data = bytes(number % 251 for number in range(size))
    kept = fed([data[start : start + piece] for start in range(0, size, piece)]).finish()
    assert (kept.data, kept.total_bytes, kept.is_truncated) == (data, size, False)


@pytest.mark.parametrize("piece", [1, 333, 1000, 100_000])
def test_head_and_tail_are_kept_beyond_the_cap(piece):
    """The marker counts exactly what is missing, and the whole stays within the cap."""
    data = bytes(number % 251 for number in range(20_000))
    kept = fed([data[start : start + piece] for start in range(0, len(data), piece)]).finish()
    head, marker, tail = kept.data.partition(b"\n[... ")
    count, _, tail = tail.partition(b" bytes left out ...]\n")
    assert marker
    assert (kept.total_bytes, kept.is_truncated) == (20_000, True)
    assert len(kept.data) <= 1000
    assert data.startswith(head)
    assert data.endswith(tail)
    assert len(head) + int(count) + len(tail) == 20_000


def test_memory_stays_bounded():
    """A flood is thrown away as it comes."""
    capture = fed([b"x" * 300] * 1000)
    assert len(capture._head) + len(capture._tail) <= 2000
