"""Hosts the web server on the one event loop of the process."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Awaitable, Callable
from typing import Any, cast

from octaskly_site.web.certificate import ServerCertificate
from octaskly_site.web.limits import WebLimits


def open_listening_socket(host: str, port: int) -> socket.socket:
    """Bind now, so that a taken port is one clear error before anything starts; raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(512)
    except OSError:
        listening.close()
        raise
    listening.setblocking(False)
    return listening


def listening_error(error: OSError, port_flag: str, host_flag: str, host: str, port: int) -> str:
    """Return one line that says why an address cannot be listened on."""
    if error.errno == errno.EADDRINUSE:
        return f"{port_flag}: port {port} on {host} is already in use"
    flag = port_flag if error.errno == errno.EACCES else host_flag
    return f"{flag}: cannot listen on {host}:{port}: {error.strerror or error}"


def run(
    application: Any,
    listening: socket.socket,
    limits: WebLimits,
    own: ServerCertificate | None,
    main: Callable[[], Awaitable[int]],
) -> int:
    """Serve HTTP, or HTTPS with a certificate, and run `main` beside it until main ends; return what it returned.

    Daphne makes its loop when it is imported, from the current policy, and owns it through Twisted's
    reactor; everything else in the process lives on that same loop.
    """
    _prefer_uvloop()
    from daphne.server import twisted_loop
    from twisted.internet import reactor

    from octaskly_site.web.server import WebServer

    outcome: list[int | BaseException] = []

    def on_ready() -> None:
        async def until_main_ends() -> None:
            try:
                outcome.append(await main())
            except BaseException as error:  # noqa: BLE001 - carried to the caller's thread of control
                outcome.append(error)
            finally:
                cast("Any", reactor).stop()

        twisted_loop.main_task = twisted_loop.create_task(until_main_ends())

    WebServer(application, listening, limits, own, on_ready).run()
    result = outcome[0] if outcome else 1
    if isinstance(result, BaseException):
        raise result
    return result


def _prefer_uvloop() -> None:
    try:
        import uvloop
    except ImportError:  # Windows, or a platform without a wheel: the standard loop does the same, slower.
        return
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
