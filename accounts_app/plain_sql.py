"""Statements on the driver: what Django puts around each one costs more than a short one takes.

For what each request, each look at the queue and each change of a followed task asks. The marks for values are SQLite's.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections


def read(statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """Return all rows, with values as the driver gives them. Raises what Django raises for an error of the database."""
    connection = connections[DEFAULT_DB_ALIAS]
    connection.ensure_connection()
    with connection.wrap_database_errors:
        rows: list[tuple[Any, ...]] = connection.connection.execute(statement, parameters).fetchall()
    return rows


def db_time(moment: datetime) -> Any:
    """Return a moment as the database holds it."""
    return connections[DEFAULT_DB_ALIAS].ops.adapt_datetimefield_value(moment)


def marks(count: int) -> str:
    """Return so many marks for values, to stand in brackets."""
    return ", ".join("?" * count)
