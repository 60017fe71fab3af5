"""The web server with an application for tests, as a program: `python -m tests.support.web_program '{"https": true}'`.

Prints its port and, for HTTPS, its pin; ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from datetime import UTC, datetime
from typing import Any

from octaskly_wire.cipher_pin import pin_cipher_suite

pin_cipher_suite()

from octaskly_site import web_server  # noqa: E402
from octaskly_site.web.certificate import make_own  # noqa: E402
from octaskly_site.web.limits import WebLimits  # noqa: E402
from octaskly_wire.server_key import new_server_key, pin_of  # noqa: E402

MEGABYTE = 1 << 20
PIECE = b"x" * (256 << 10)


class Application:
    """Streams, keeps silent, and tells what it got."""

    def __init__(self) -> None:
        self.sent = 0
        self.is_over = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await self.serve_socket(receive, send)
            return
        handler = {"/stream": self.stream, "/never": self.never, "/late": self.late}.get(scope["path"], self.tell)
        await handler(scope, receive, send)

    async def stream(self, scope: Any, receive: Any, send: Any) -> None:
        """Send a gigabyte."""
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            for _ in range(4096):
                await send({"type": "http.response.body", "body": PIECE, "more_body": True})
                self.sent += len(PIECE)
            await send({"type": "http.response.body", "body": b""})
        finally:
            self.is_over = True

    async def never(self, scope: Any, receive: Any, send: Any) -> None:
        """Wait until the client is gone."""
        while (await receive())["type"] != "http.disconnect":
            pass

    async def late(self, scope: Any, receive: Any, send: Any) -> None:
        """Begin at once and end late."""
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"begun ", "more_body": True})
        await asyncio.sleep(3.5)
        await send({"type": "http.response.body", "body": b"ended"})

    async def tell(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer with what came, and with how the streams are."""
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        file = scope.get("octaskly.body")
        told = {
            "scheme": scope["scheme"],
            "body": hashlib.sha256(body).hexdigest(),
            "body_bytes": len(body),
            "file": hashlib.sha256(file.read()).hexdigest() if file else None,
            "sent": self.sent,
            "is_over": self.is_over,
        }
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": json.dumps(told).encode()})

    async def serve_socket(self, receive: Any, send: Any) -> None:
        """Echo text; at `stream` send a gigabyte."""
        await receive()
        await send({"type": "websocket.accept"})
        try:
            while (message := await receive())["type"] == "websocket.receive":
                if message["text"] != "stream":
                    await send({"type": "websocket.send", "text": message["text"]})
                    continue
                for _ in range(4096):
                    await send({"type": "websocket.send", "bytes": PIECE})
                    self.sent += len(PIECE)
        finally:
            self.is_over = True


def main() -> None:
    """Serve until the end of the input."""
    asked = json.loads(sys.argv[1])
    bounds = {name: value for name, value in asked.items() if name != "https"}
    limits = WebLimits(8 * MEGABYTE, max_tasks_bytes=4 * MEGABYTE, max_other_bytes=4 * MEGABYTE, **bounds)
    key = new_server_key()
    own = make_own(key, "127.0.0.1", datetime.now(UTC)) if asked.get("https") else None
    listening = web_server.open_listening_socket("127.0.0.1", 0)
    port = listening.getsockname()[1]

    async def until_input_ends() -> int:
        print(json.dumps({"port": port, "pin": pin_of(key)}), flush=True)  # noqa: T201 - the test reads it
        await asyncio.to_thread(sys.stdin.read)
        return 0

    sys.exit(web_server.run(Application(), listening, limits, own, until_input_ends))


if __name__ == "__main__":
    main()
