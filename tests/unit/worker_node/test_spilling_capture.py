"""Long output waits for its end in a file, and in memory where the disk does not take it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

import pytest

from octaskly_wire.kept_output import MAX_MARKER_BYTES, MAX_TAIL_BYTES, find_shape, marker
from worker_node.core.outcome import KeptOutput
from worker_node.shell.capture import MEMORY_BYTES, Capture, LongOutput
from worker_node.shell.spill import CAN_SPILL, SpillFile, SpillFolder

pytestmark = pytest.mark.skipif(not CAN_SPILL, reason="needs files that are read and written at any place")

CAP = 4 << 20
PIECE = 65_536
PATTERN = bytes(number * number % 251 for number in range(1 << 16))


def stream_of(size: int) -> bytes:
    """Return so many bytes."""
    return (PATTERN * (size // len(PATTERN) + 1))[:size]


@pytest.fixture
def folder(tmp_path) -> SpillFolder:
    """A folder for files without names."""
    return SpillFolder(tmp_path / "capture", str)


def fed(new_file: Callable[[], SpillFile], data: bytes, piece: int = PIECE) -> Capture:
    """Return a capture that took the data in pieces."""
    capture = Capture(CAP, new_file)
    for place in range(0, len(data), piece):
        capture.feed(data[place : place + piece])
    return capture


def content_of(kept: KeptOutput | LongOutput) -> bytes:
    """Return all that was kept."""
    if isinstance(kept, KeptOutput):
        return kept.data
    return kept.file.read(0, kept.kept_bytes + 1)


@pytest.mark.parametrize("piece", [PIECE, 1_000_003])
@pytest.mark.parametrize("size", [MEMORY_BYTES + PIECE, CAP - MAX_TAIL_BYTES, CAP - 1, CAP])
def test_what_fits_is_kept_whole_on_disk(folder, tmp_path, size, piece):
    """Up to the cap no byte is missing, and the file has no name that could outlive the worker."""
    data = stream_of(size)
    capture = fed(folder.new_file, data, piece)
    kept = capture.finish()
    assert isinstance(kept, LongOutput)
    assert content_of(kept) == data
    assert kept.ends.data.startswith(data[:1000])
    assert kept.ends.data.endswith(data[-1000:])
    assert len(capture._head) == 0
    assert not list((tmp_path / "capture").iterdir())


def test_short_output_needs_no_disk():
    """What fits into memory stays there."""

    def no_file() -> SpillFile:
        raise AssertionError("a file was asked for")

    data = stream_of(MEMORY_BYTES)
    kept = fed(no_file, data).finish()
    assert isinstance(kept, KeptOutput)
    assert (kept.data, kept.is_truncated) == (data, False)


@pytest.mark.parametrize("size", [CAP + 1, CAP + 1000, 3 * CAP])
def test_beyond_the_cap_most_is_head(folder, size):
    """The last half mebibyte is kept of the end; the marker between the two counts what is missing."""
    data = stream_of(size)
    kept = fed(folder.new_file, data).finish()
    content = content_of(kept)
    shape = find_shape(content[-(MAX_TAIL_BYTES + MAX_MARKER_BYTES) :], len(content), size)
    assert shape.head_bytes == CAP - MAX_TAIL_BYTES - MAX_MARKER_BYTES
    assert content == data[: shape.head_bytes] + marker(shape.left_out) + data[-MAX_TAIL_BYTES:]
    assert len(content) <= CAP


@pytest.mark.parametrize("size", [2_000_000, CAP, 2 * CAP])
def test_a_cursor_reads_file_and_memory_alike(folder, size):
    """A reader that goes on where it was gets the stream itself, with a jump where bytes were dropped."""
    data = stream_of(size)
    capture = fed(folder.new_file, data)
    offset, seen, jumps = 0, bytearray(), 0
    while offset < size:
        start, piece = capture.read(offset, 100_000)
        jumps += start != offset
        assert 0 < len(piece) <= 100_000
        assert piece == data[start : start + len(piece)]
        seen += piece
        offset = start + len(piece)
    assert jumps == (size > CAP + MAX_TAIL_BYTES)
    # And once more after the end, by somebody who was late.
    capture.finish()
    assert capture.read(1_500_000, 10) == (1_500_000, data[1_500_000:1_500_010])


class FailingFile(SpillFile):
    """A file on a disk that gets full at some place."""

    full_at = 0

    def write(self, place, data):
        if place + len(data) > self.full_at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super().write(place, data)


@pytest.mark.parametrize("size", [1_200_000, 2_000_000, 3_000_000, CAP, 2 * CAP])
@pytest.mark.parametrize("full_at", [0, 1_500_000, 2_900_000, CAP - 10_000])
def test_a_full_disk_leaves_the_ends(tmp_path, size, full_at):
    """Output is not lost for it, nor does the command notice: a half mebibyte of each end is kept, as without a disk."""

    def new_file() -> SpillFile:
        file = FailingFile(tmp_path / "spill")
        file.full_at = full_at
        return file

    data = stream_of(size)
    kept = fed(new_file, data).finish()
    content = content_of(kept)
    if isinstance(kept, LongOutput):
        assert kept.kept_bytes <= full_at
        return
    assert kept.is_truncated
    half = MEMORY_BYTES // 2
    assert content == data[:half] + marker(size - 2 * half + MAX_MARKER_BYTES) + data[-(half - MAX_MARKER_BYTES) :]


def test_a_disk_without_room_is_not_written_to(tmp_path):
    """What the worker keeps free of its disk is not for output."""
    folder = SpillFolder(tmp_path / "capture", lambda: "no room on the worker's disk")
    kept = fed(folder.new_file, stream_of(2_000_000)).finish()
    assert isinstance(kept, KeptOutput)
    assert len(kept.data) <= MEMORY_BYTES


def test_a_long_output_can_be_cut_to_its_ends_after_all(folder):
    """When the whole cannot be handed on, what would have been kept in memory is."""
    data = stream_of(3_000_000)
    capture = fed(folder.new_file, data)
    capture.finish()
    kept = capture.finish_in_memory()
    half = MEMORY_BYTES // 2
    assert kept.data.startswith(data[:half])
    assert kept.data.endswith(data[-(half - MAX_MARKER_BYTES) :])
    assert (len(kept.data) <= MEMORY_BYTES, kept.is_truncated) == (True, True)


def test_a_file_is_closed_with_its_last_user(folder):
    """Whoever still reads of an attempt that is over keeps the file, and nobody else has to know of him."""
    file = folder.new_file()
    fd = file.fd
    file.write(0, b"abc")
    assert file.read(1, 5) == b"bc"
    del file
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
