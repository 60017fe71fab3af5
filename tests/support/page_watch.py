"""Watches what pages do: what they say in the console, what they fetch, and what the content policy forbids them."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from playwright.sync_api import BrowserContext, ConsoleMessage, Page, Request, Response, WebSocket

REPORTS_BREACHES = """
addEventListener("securitypolicyviolation", (event) =>
  console.error(`policy: ${event.violatedDirective} forbids ${event.blockedURI} at ${event.sourceFile}:${event.lineNumber}`));
"""


class PageWatch:
    """Collects faults of all pages of a context; some may be expected for a while."""

    def __init__(self, context: BrowserContext, origin: str) -> None:
        self.faults: list[str] = []
        self.log: list[str] = []
        self._host = urlsplit(origin).netloc
        self._expected: list[re.Pattern[str]] = []
        context.add_init_script(REPORTS_BREACHES)
        context.on("console", self._console)
        context.on("weberror", lambda error: self._fault(f"uncaught: {error.error}"))
        context.on("request", lambda request: self._address(request.url))
        context.on("response", self._response)
        context.on("requestfailed", self._failed)
        context.on("page", self._page)

    @contextlib.contextmanager
    def expecting(self, *patterns: str) -> Iterator[None]:
        """Take faults that match one of these for what the test is about."""
        added = [re.compile(pattern) for pattern in patterns]
        self._expected += added
        try:
            yield
        finally:
            for pattern in added:
                self._expected.remove(pattern)

    def check(self) -> None:
        """Raise AssertionError when anything unexpected happened."""
        assert not self.faults, "the pages did what they should not:\n" + "\n".join(self.faults)

    def _page(self, page: Page) -> None:
        page.on("websocket", self._websocket)

    def _websocket(self, socket: WebSocket) -> None:
        self._address(socket.url)
        self.log.append(f"websocket {socket.url}")

    def _console(self, message: ConsoleMessage) -> None:
        line = f"console {message.type}: {message.text} ({message.location.get('url', '')})"
        self.log.append(line)
        if message.type in {"error", "warning"}:
            self._fault(line)

    def _address(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme in {"http", "https", "ws", "wss"} and parts.netloc != self._host:
            self._fault(f"another host: {url}")

    def _response(self, response: Response) -> None:
        self.log.append(f"{response.status} {response.request.method} {response.url}")
        if response.status >= 400:
            self._fault(f"{response.status} {response.request.method} {response.url}")

    def _failed(self, request: Request) -> None:
        # Who leaves a page ends what it was still fetching.
        if request.failure not in {"net::ERR_ABORTED", None}:
            self._fault(f"failed: {request.method} {request.url}: {request.failure}")

    def _fault(self, text: str) -> None:
        self.log.append(f"FAULT {text}")
        if not any(pattern.search(text) for pattern in self._expected):
            self.faults.append(text)
