"""How a task ended, with all that it wrote."""

from __future__ import annotations

import msgspec

from octaskly.answers import Task


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """An ended task and its output, byte by byte."""

    task: Task
    stdout: bytes
    stderr: bytes

    @property
    def ok(self) -> bool:
        """Return whether the command exited with 0 and left all that was asked for."""
        return self.task.ok

    @property
    def status(self) -> str:
        """Return `completed`, `failed` or `cancelled`."""
        return self.task.status

    @property
    def exit_code(self) -> int | None:
        """Return the command's own exit code, None when it did not exit by itself."""
        return self.task.exit_code

    @property
    def failure_reason(self) -> str | None:
        """Return why it failed, None when it did not."""
        return self.task.failure_reason
