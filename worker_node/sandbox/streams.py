"""The stdout and stderr of one command, as its supervisor holds them. Standard library only.

Of a command that ends within some milliseconds the supervisor itself takes what was written. The worker reads what
comes of all others, and what is too much for a message.
"""

from __future__ import annotations

import os

from worker_node.sandbox.events import MAX_WRITTEN_BYTES


class Pipes:
    """Two pipes."""

    def __init__(self) -> None:
        """Make them; raise OSError."""
        stdout, stdout_write = os.pipe()
        try:
            stderr, stderr_write = os.pipe()
        except OSError:
            os.close(stdout)
            os.close(stdout_write)
            raise
        self.reads = [stdout, stderr]
        """Empty once they were given away or closed."""
        self.writes = [stdout_write, stderr_write]

    def close_writes(self) -> None:
        """Leave writing to the command."""
        _close(self.writes)

    def take(self) -> tuple[bytes, bytes]:
        """Return what lies in each, if they are still here; they are closed if that is all of it.

        Only for a command that is dead with all its processes: nothing comes after what is less than was asked for.
        """
        if not self.reads:
            return b"", b""
        stdout, stderr = map(_read, self.reads)
        if len(stdout) < MAX_WRITTEN_BYTES and len(stderr) < MAX_WRITTEN_BYTES:
            _close(self.reads)
        return stdout, stderr

    def close(self) -> None:
        """Close all that is open."""
        _close(self.writes)
        _close(self.reads)


def _close(pair: list[int]) -> None:
    while pair:
        os.close(pair.pop())


def _read(fd: int) -> bytes:
    os.set_blocking(fd, False)  # somebody outside the attempt may hold the other end
    data = b""
    try:
        # A writer that asked for packets is read packet by packet.
        while len(data) < MAX_WRITTEN_BYTES and (part := os.read(fd, MAX_WRITTEN_BYTES - len(data))):
            data += part
    except BlockingIOError:
        pass
    return data
