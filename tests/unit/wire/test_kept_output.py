"""An offset in a stream is found again in what was kept of it."""

from __future__ import annotations

import pytest

from octaskly_wire.kept_output import MAX_MARKER_BYTES, MAX_TAIL_BYTES, KeptShape, find_shape, marker

HEAD, TAIL = 500, 400


def kept_of(stream: bytes) -> bytes:
    """Return what is kept of a stream that is too long."""
    return stream[:HEAD] + marker(len(stream) - HEAD - TAIL) + stream[-TAIL:]


# 10 and 1000 bytes left out, and their neighbours: there the number has a digit more, and two texts would do.
@pytest.mark.parametrize("left_out", [1, 8, 9, 10, 11, 98, 99, 100, 101, 970, 998, 999, 1000, 1001, 99_999, 100_000])
def test_the_marker_is_found_by_its_own_text(left_out):
    """Its place and what it counts follow from the two lengths."""
    stream = bytes(number % 251 for number in range(HEAD + left_out + TAIL))
    kept = kept_of(stream)
    assert find_shape(kept, len(kept), len(stream)) == KeptShape(HEAD, len(marker(left_out)), left_out)


@pytest.mark.parametrize("offset", [0, 1, 499, 500, 501, 5_599, 5_600, 5_601, 5_999, 6_000])
def test_every_offset_has_its_place(offset):
    """What was kept is where the stream had it, what was left out leads to the tail's beginning."""
    stream = bytes(number % 251 for number in range(6_000))
    kept = kept_of(stream)
    start, place = find_shape(kept, len(kept), len(stream)).place_of(offset)
    assert start == (5_600 if HEAD <= offset < 5_600 else offset)
    last = HEAD if start < HEAD else len(kept)
    assert kept[place:last] == stream[start : HEAD if start < HEAD else None]


def test_the_end_alone_is_enough():
    """Of a long file only the last part has to be looked at."""
    stream = bytes(number % 251 for number in range(3 * MAX_TAIL_BYTES))
    kept = stream[:MAX_TAIL_BYTES] + marker(MAX_TAIL_BYTES) + stream[2 * MAX_TAIL_BYTES :]
    end = kept[-(MAX_TAIL_BYTES + MAX_MARKER_BYTES) :]
    shape = find_shape(end, len(kept), len(stream))
    assert (shape.head_bytes, shape.left_out) == (MAX_TAIL_BYTES, MAX_TAIL_BYTES)


def test_an_output_that_prints_markers_is_no_riddle():
    """A marker that the command wrote itself has another number in it."""
    stream = marker(123) * 100
    kept = kept_of(stream)
    assert find_shape(kept, len(kept), len(stream)).head_bytes == HEAD


def test_whole_output_has_one_part():
    """Where nothing was left out offsets are places."""
    assert KeptShape(900).place_of(899) == (899, 899)
    assert KeptShape(900).place_of(1000) == (1000, 1000)
