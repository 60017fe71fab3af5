"""Inserts and updates many rows with few statements.

Where triggers have to be obeyed, SQLite spends more on a statement than on a row; and each statement is a moment at which
another thread of Python may go first.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from types import MappingProxyType
from typing import Any, Final

ROWS_TOGETHER: Final = (50, 20, 5, 1)
"""In one statement, so that few kinds of it do for any number. There are SQLites that take no more than 999 values in one."""
_NONE: Final[Mapping[str, str]] = MappingProxyType({})

Row = Sequence[Any]


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
        self._statements = {
            size: f"{into} SELECT {each} FROM {_values(size, len(own), len(shared))}"  # noqa: S608 - constants
            for size in ROWS_TOGETHER
        }
        self._statements[1] = f"{into} VALUES ({one})"

    def run(self, cursor: sqlite3.Cursor, rows: Sequence[Row], shared: Row = ()) -> None:
        """Insert these rows, in their order, in the caller's transaction. Raises what the driver raises."""
        for some in _together(rows):
            cursor.execute(self._statements[len(some)], [*shared, *chain.from_iterable(some)])


class Update:
    """The statements that update rows of a table, each with values of its own.

    `assignments`, `condition` and `returned` are SQL that names values in braces: those in `own` each row brings, those
    in `shared` are given once for all rows.
    """

    def __init__(
        self, table: str, assignments: str, condition: str, returned: str, *, own: Sequence[str], shared: Sequence[str]
    ) -> None:
        common = {name: f"?{number}" for number, name in enumerate(shared, 1)}
        single = {name: f"?{number}" for number, name in enumerate(own, 1 + len(shared))}
        column = {name: f"own.column{number}" for number, name in enumerate(own, 1)}

        def statement(source: str, values: Mapping[str, str]) -> str:
            template = f"UPDATE {table} SET {assignments}{source} WHERE {condition} RETURNING {returned}"  # noqa: S608 - constants
            return template.format_map({**common, **values})

        self._statements = {
            size: statement(f" FROM {_values(size, len(own), len(shared))}", column) for size in ROWS_TOGETHER
        }
        self._statements[1] = statement("", single)

    def run(self, cursor: sqlite3.Cursor, rows: Sequence[Row], shared: Row = ()) -> list[tuple[Any, ...]]:
        """Update the rows that meet the condition, in the caller's transaction, and return what they give back.

        Raises what the driver raises.
        """
        returned = []
        for some in _together(rows):
            statement = self._statements[len(some)]
            returned += cursor.execute(statement, [*shared, *chain.from_iterable(some)]).fetchall()
        return returned


def _values(rows: int, columns: int, bound_before: int) -> str:
    """Return a table of values to be bound behind others."""
    numbers = iter(range(bound_before + 1, bound_before + rows * columns + 1))
    each = [f"({', '.join(f'?{next(numbers)}' for _ in range(columns))})" for _ in range(rows)]
    return f"(VALUES {', '.join(each)}) AS own"


def _together(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    """Yield the rows in parts as large as a statement takes."""
    start = 0
    for size in ROWS_TOGETHER:
        while len(rows) - start >= size:
            yield rows[start : start + size]
            start += size
