"""The open links for transfers: who may have one, what may go over it, and when they end before their time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final

from dispatcher.core import authority
from dispatcher.core.state import DispatcherState
from dispatcher.shell.link import WorkerLink

MAX_LINKS_OF_A_WORKER: Final = 6
"""One more than it uses: the end of a lost one may be heard of late."""
MAX_LINKS: Final = 64
"""Each holds up to 4 MiB while it is busy."""


class TransferRoster:
    """Asks the engine's state, and knows the links. Such a link lives no longer than its worker's control link."""

    def __init__(self, state: DispatcherState) -> None:
        self._state = state
        self._links: dict[str, set[WorkerLink]] = {}

    def objection_to_link(self, worker_id: str, boot_id: str) -> str | None:
        """Return why this worker gets no link now, None when it gets one."""
        if objection := authority.objection_to_link(self._state, worker_id, boot_id):
            return objection
        if len(self._links.get(worker_id, ())) >= MAX_LINKS_OF_A_WORKER:
            return f"the worker has {MAX_LINKS_OF_A_WORKER} links for transfers already"
        if sum(map(len, self._links.values())) >= MAX_LINKS:
            return f"{MAX_LINKS} links for transfers are open already"
        return None

    def objection_to_fetch(self, worker_id: str, attempt_id: str, sha256: str) -> str | None:
        """Return why this content is not for this worker, None when it is."""
        return authority.objection_to_fetch(self._state, worker_id, attempt_id, sha256)

    def objection_to_store(self, worker_id: str, attempt_id: str) -> str | None:
        """Return why nothing is taken for this attempt from this worker, None when it is."""
        return authority.objection_to_store(self._state, worker_id, attempt_id)

    @contextlib.contextmanager
    def entered(self, link: WorkerLink) -> Iterator[None]:
        """Have a link on the roster while it is served."""
        links = self._links.setdefault(link.worker_id, set())
        links.add(link)
        try:
            yield
        finally:
            links.discard(link)
            if not links and self._links.get(link.worker_id) is links:
                del self._links[link.worker_id]

    def close_of(self, worker_id: str) -> None:
        """End the links of a worker at once; what was half sent goes on over the next ones."""
        for link in self._links.get(worker_id, ()):
            link.abort()

    def close_all(self) -> None:
        """End all links at once."""
        for worker_id in self._links:
            self.close_of(worker_id)
