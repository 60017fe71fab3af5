"""What a piece of work asks of the database, whether through Django or with a cursor of the driver."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection


@contextmanager
def statements() -> Iterator[list[str]]:
    """Give a list that fills with the statements of this thread's connection, with their values in place."""
    connection.ensure_connection()
    found: list[str] = []
    connection.connection.set_trace_callback(found.append)
    try:
        yield found
    finally:
        connection.connection.set_trace_callback(None)
