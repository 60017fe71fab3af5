"""Inserts many rows with few statements: where triggers have to be obeyed, SQLite spends more on a statement than on a row."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from itertools import chain
from types import MappingProxyType
from typing import Any, Final

from accounts_app.plain_sql import marks

ROWS_TOGETHER: Final = 50
"""In one statement. There are SQLites that take no more than 999 values in one."""
_NONE: Final[Mapping[str, str]] = MappingProxyType({})


class Insert:
    """The statements that insert rows into a table.

    Each row brings values for `own`; those for `shared` are given once for all rows, for a value that is bound costs
    more than one that stands there already. `constant` holds SQL for further columns.
    """

    def __init__(
        self, table: str, own: Sequence[str], shared: Sequence[str] = (), constant: Mapping[str, str] = _NONE
    ) -> None:
        into = f"INSERT INTO {table} ({', '.join((*shared, *own, *constant))})"
        one = ", ".join([*"?" * len(shared), *"?" * len(own), *constant.values()])
        each = ", ".join([*"?" * len(shared), "own.*", *constant.values()])
        several = ", ".join([f"({marks(len(own))})"] * ROWS_TOGETHER)
        self._one = f"{into} VALUES ({one})"
        self._several = f"{into} SELECT {each} FROM (VALUES {several}) AS own"  # noqa: S608 - constants

    def run(self, cursor: sqlite3.Cursor, rows: Sequence[Sequence[Any]], shared: Sequence[Any] = ()) -> None:
        """Insert these rows, in their order, in the caller's transaction. Raises what the driver raises."""
        single_from = len(rows) - len(rows) % ROWS_TOGETHER
        for start in range(0, single_from, ROWS_TOGETHER):
            some = rows[start : start + ROWS_TOGETHER]
            cursor.execute(self._several, [*shared, *chain.from_iterable(some)])
        for row in rows[single_from:]:
            cursor.execute(self._one, [*shared, *row])
