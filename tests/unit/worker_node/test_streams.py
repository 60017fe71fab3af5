"""What a supervisor takes of a short command's output."""

from __future__ import annotations

import os
import sys

import pytest

from worker_node.sandbox.streams import Pipes

fcntl = pytest.importorskip("fcntl")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the spawner runs on Linux")


def test_output_that_was_written_in_packets_is_taken_whole():
    """One read of such a pipe gives one packet, however much was asked for."""
    pipes = Pipes()
    stdout, _ = pipes.writes
    fcntl.fcntl(stdout, fcntl.F_SETFL, os.O_DIRECT)
    for word in (b"one ", b"two ", b"three"):
        os.write(stdout, word)
    pipes.close_writes()
    assert pipes.take() == (b"one two three", b"")
    assert pipes.reads == []
