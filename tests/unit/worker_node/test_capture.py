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


def numbered(size: int) -> bytes:
    """Return bytes of which no two hundred in a row occur twice nearby."""
    return bytes(number % 251 for number in range(size))


@pytest.mark.parametrize(
    ("size", "offset", "max_bytes", "start", "count"),
    [
        (0, 0, 100, 0, 0),
        (300, 0, 100, 0, 100),
        (300, 250, 100, 250, 50),
        (300, 300, 100, 300, 0),
        (900, 450, 100, 450, 50),  # up to where the head ends
        (900, 500, 600, 500, 400),  # the tail joins on while nothing was dropped
        (900, 899, 600, 899, 1),
        (1400, 500, 2000, 500, 900),
        (10_000, 100, 2000, 100, 400),
        (10_000, 9_990, 100, 9_990, 10),
        (10_000, 10_000, 100, 10_000, 0),
        (10_000, 12_345, 100, 12_345, 0),  # asked for by somebody who knows more than was written
    ],
)
def test_a_cursor_reads_what_is_still_here(size, offset, max_bytes, start, count):
    """Any offset can be read while the command writes, up to so many bytes at a time."""
    capture = fed([numbered(size)[place : place + 100] for place in range(0, size, 100)])
    assert capture.read(offset, max_bytes) == (start, numbered(size)[start : start + count])


def test_a_cursor_jumps_over_what_was_dropped():
    """An offset between head and tail gives the oldest byte of the tail, and its offset says so."""
    data = numbered(10_000)
    capture = fed([data[place : place + 100] for place in range(0, len(data), 100)])
    start, tail = capture.read(500, 10_000)
    assert 500 < start <= 9_500
    assert tail == data[start:]


def test_growth_is_told_while_somebody_watches():
    """Each piece is announced once, after it can be read."""
    capture = Capture(1000)
    seen: list[int] = []
    capture.feed(b"before")
    capture.on_growth = lambda: seen.append(capture.total_bytes)
    capture.feed(b"12")
    capture.feed(b"345")
    capture.on_growth = None
    capture.feed(b"after")
    assert seen == [8, 11]
