"""A sandbox of namespaces: cast for one attempt, gone with its first process. The supervisor's end of it.

Standard library only.
"""

from __future__ import annotations

import os
import signal

from worker_node.sandbox import words
from worker_node.sandbox.words import SandboxFailed

TYPE_CHECKING = False  # the spawner does without typing: 2 ms and half a megabyte in every fork
if TYPE_CHECKING:
    from typing import Any

    from worker_node.sandbox.mould import Mould

__all__ = ["Sandbox", "SandboxFailed"]


class Sandbox:
    """One sandbox, which `start` makes."""

    def __init__(self, mould: Mould) -> None:
        """Take the mould that it is to come from."""
        self.first_pid = 0
        """Its first process, a child of this one; 0 before it has started."""
        self.is_gone = True
        """No first process is there, or it was reaped."""
        self.tmp_fd: int | None = None
        """The /tmp that outlives it, where the plan asked for that; whoever reports the end takes it."""
        self._mould = mould
        self.channel, self._theirs = words.pair()

    def start(self, plan: int, stdout: int, stderr: int) -> None:
        """Make it and run the plan in it; raise SandboxFailed, and then the command did not run."""
        with self._theirs:
            self._mould.cast(self._theirs, plan, stdout, stderr)
        message = words.expect(self.channel, "started")
        self.first_pid, self.is_gone = message.pid, False
        self.tmp_fd = message.fd

    def hear(self) -> dict[str, Any]:
        """Return the next message, `{"event": "gone"}` when no more can come."""
        message = words.hear(self.channel)
        if message.event != "main":
            return {"event": message.event}
        status, cpu_us, max_rss_bytes, is_full, is_alone = (int(word) for word in message.rest.split())
        return {
            "event": "main",
            "status": status,
            "cpu_seconds": cpu_us / 1_000_000,
            "max_rss_bytes": max_rss_bytes,
            "is_full": bool(is_full),
            "is_alone": bool(is_alone),
        }

    def kill(self) -> None:
        """Kill the first process, and with it all others."""
        if not self.is_gone:
            os.kill(self.first_pid, signal.SIGKILL)

    def discard(self) -> None:
        """Kill the sandbox, reap it and close the channel."""
        self.kill()
        if not self.is_gone:
            os.waitpid(self.first_pid, 0)
            self.is_gone = True
        self.channel.close()
        self._theirs.close()
        self.forget_tmp()

    def forget_tmp(self) -> None:
        """Let /tmp go, if it was kept."""
        if self.tmp_fd is not None:
            os.close(self.tmp_fd)
            self.tmp_fd = None
