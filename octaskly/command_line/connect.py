"""The client of a command: from its global options, the environment and the login."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from octaskly.command_line.show import tell

if TYPE_CHECKING:
    from octaskly.async_client import AsyncClient
    from octaskly.client import Client
    from octaskly.session import Session

MAP_PATIENCE_S = 3600.0
"""A map of many tasks waits this long for room in a full queue."""


def session(patience_s: float | None = None) -> Session:
    """Return the session of the command under way."""
    from octaskly.session import DEFAULT_PATIENCE_S, settle

    options = click.get_current_context().find_root().obj
    settled = settle(
        os.environ,
        url=options["url"],
        is_insecure=options["is_insecure"],
        patience_s=DEFAULT_PATIENCE_S if patience_s is None else patience_s,
    )
    settled.tell = tell
    return settled


def client() -> Client:
    """Return the client that blocks."""
    from octaskly.client import Client

    return Client(session=session())


def async_client(patience_s: float | None = None) -> AsyncClient:
    """Return the client that awaits."""
    from octaskly.async_client import AsyncClient

    return AsyncClient(session=session(patience_s))
