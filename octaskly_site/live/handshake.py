"""The beginning and the end of our WebSockets: whose page asks, with which token, and how one is refused."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlsplit

from django.conf import settings

from octaskly_site.live.frames import refusal_frame

_BEARER: Final = "bearer."

CLOSE_OF_STATUS: Final = 4000
"""What refuses a request over HTTP closes a WebSocket with 4000 and the status."""
RESTARTING: Final = 1012


def is_of_this_site(headers: dict[bytes, bytes]) -> bool:
    """Return whether no page of another site has opened the connection with the user's cookie.

    Browsers always say whose page it is. Whoever does not say it is no browser, and needs a token.
    """
    origin = headers.get(b"origin")
    if origin is None:
        headers.pop(b"cookie", None)
        return True
    text = origin.decode("latin1")
    return text in settings.CSRF_TRUSTED_ORIGINS or urlsplit(text).netloc == headers.get(b"host", b"").decode("latin1")


def subprotocol_of(offered: list[str]) -> str | None:
    """Return the one to answer with: browsers want one of those that they offered, and a token may be the only one."""
    return next((name for name in offered if not name.startswith(_BEARER)), next(iter(offered), None))


def twin_of(scope: dict[str, Any], path: str, headers: dict[bytes, bytes]) -> dict[str, Any]:
    """Return the request of the REST route that shows the same: who may see that may see this."""
    token = next((name.removeprefix(_BEARER) for name in scope["subprotocols"] if name.startswith(_BEARER)), "")
    if token:
        headers.setdefault(b"authorization", f"Bearer {token}".encode("latin1", "replace"))
    return {
        **scope,
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": list(headers.items()),
    }


async def refuse(send: Any, status: int, detail: str) -> None:
    """Say why not, and close an accepted connection."""
    await send({"type": "websocket.send", "text": refusal_frame(status, detail)})
    await send({"type": "websocket.close", "code": CLOSE_OF_STATUS + status})
