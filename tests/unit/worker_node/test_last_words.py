"""What a process said before it died is heard, whatever it left unread."""

from __future__ import annotations

import socket
import sys

import pytest

from worker_node.sandbox import last_words

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="descriptors do not travel there")


@pytest.fixture
def ends():
    """Return both ends of a local socket."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        yield ours, theirs


def test_last_words_are_heard_although_a_word_of_ours_was_not(ends):
    """The kernel tells of the unread word first; the message comes all the same, and then the end."""
    ours, theirs = ends
    theirs.send(b"failed")
    ours.send(b"mapped")
    theirs.close()
    assert last_words.receive(ours, 100) == (b"failed", [])
    assert last_words.receive(ours, 100) == (b"", [])


def test_a_silent_end_is_waited_for_elsewhere(ends):
    """Nothing has come, and more may."""
    with pytest.raises(BlockingIOError):
        last_words.receive(ends[0], 100)
