"""Become a worker whose heartbeats are timed: `python -m tests.support.heartbeat_clock FILE PYTHON -m worker_node ...`.

Each line of the file is one heartbeat: the seconds since the one before was sent, and those until its echo was back
in the worker's hands. Queues, TLS, both loops and the dispatcher's turn are all in it.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import NamedTuple

from octaskly_wire.cipher_pin import pin_cipher_suite

PROGRAM_WORDS = 3
"""`PYTHON -m worker_node`, which we are instead."""


class Beat(NamedTuple):
    """One heartbeat, in seconds."""

    since_last_s: float
    echo_s: float


def read(path: Path) -> list[Beat]:
    """Return the heartbeats in a file; the last line may be half written."""
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [Beat(*map(float, line.split())) for line in lines if line.endswith("\n")]


def main() -> None:
    """Put the clock into the link, then run the worker."""
    path, sys.argv[1:] = Path(sys.argv[1]), sys.argv[2 + PROGRAM_WORDS :]
    from worker_node.__main__ import main as worker

    _wind_up(path)
    sys.exit(worker())


def _wind_up(path: Path) -> None:
    from octaskly_wire.messages import Heartbeat, HeartbeatAck
    from worker_node.shell.link import Link

    record = path.open("a", buffering=1)
    sent_at: dict[int, float] = {}
    last_sent_at = time.monotonic()
    since_last: dict[int, float] = {}
    send, make = Link.send, Link.__init__

    def timed_send(link, message):
        nonlocal last_sent_at
        if isinstance(message, Heartbeat):
            now = time.monotonic()
            sent_at[message.sequence], since_last[message.sequence] = now, now - last_sent_at
            last_sent_at = now
        send(link, message)

    def timed(messages):
        for message in messages:
            if isinstance(message, HeartbeatAck) and message.sequence in sent_at:
                echo_s = time.monotonic() - sent_at.pop(message.sequence)
                record.write(f"{since_last.pop(message.sequence):.6f} {echo_s:.6f}\n")
            yield message

    def timed_make(link, connection, on_messages, *others):
        make(link, connection, lambda messages: on_messages(timed(messages)), *others)

    Link.send, Link.__init__ = timed_send, timed_make


if __name__ == "__main__":
    pin_cipher_suite()
    main()
