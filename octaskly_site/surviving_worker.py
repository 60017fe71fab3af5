"""A local worker that outlived its dispatcher: found by its state folder, waited for and ended like a child."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from pathlib import Path
from typing import Final

import psutil

from worker_node.shell.keyfile import holder_of

POLL_S: Final = 0.3


class SurvivingWorker:
    """Has what is used of asyncio's Process. Somebody else's child: its exit code is not known."""

    def __init__(self, process: psutil.Process) -> None:
        self._process = process

    @classmethod
    def find(cls, state_dir: Path) -> SurvivingWorker | None:
        """Return the worker that works in this state folder, if there is one."""
        pid = holder_of(state_dir)
        with contextlib.suppress(psutil.Error):
            return cls(psutil.Process(pid)) if pid else None
        return None

    @property
    def pid(self) -> int:
        """Return its process id."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Return None while it runs."""
        with contextlib.suppress(psutil.Error):
            # A process of the same id that came later is not it.
            if self._process.is_running() and self._process.status() != psutil.STATUS_ZOMBIE:
                return None
        return 0

    def dials(self, address: str) -> bool:
        """Return whether it was told to connect to this address."""
        with contextlib.suppress(psutil.Error):
            return address in self._process.cmdline()
        return False

    async def wait(self) -> int:
        """Return once it has ended."""
        while (code := self.returncode) is None:  # noqa: ASYNC110 - nobody tells of another's child
            await asyncio.sleep(POLL_S)
        return code

    def terminate(self) -> None:
        """Ask it to drain; raises ProcessLookupError when it has ended."""
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        """End it; raises ProcessLookupError when it has ended."""
        self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        try:
            self._process.send_signal(number)
        except psutil.NoSuchProcess as error:
            raise ProcessLookupError(str(error)) from error
