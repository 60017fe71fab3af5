"""However many rows there are, each is inserted once, in its order."""

from __future__ import annotations

import sqlite3

import pytest

from accounts_app.many_rows import ROWS_TOGETHER, Insert


@pytest.mark.parametrize("count", [0, 1, ROWS_TOGETHER - 1, ROWS_TOGETHER, ROWS_TOGETHER + 1, 3 * ROWS_TOGETHER])
@pytest.mark.parametrize("shared", [{}, {"b": "x'", "n": None}])
def test_all_rows_are_there(count, shared) -> None:
    """With their own values, those they share, and constants."""
    database = sqlite3.connect(":memory:")
    database.execute("CREATE TABLE t (c, b, a, n, d)")
    insert = Insert("t", ("a", "d"), tuple(shared), {"c": "'same'"})
    rows = [(number, f"text {number}") for number in range(count)]
    insert.run(database.cursor(), rows, tuple(shared.values()))
    found = database.execute("SELECT a, d, b, n, c FROM t ORDER BY rowid").fetchall()
    assert found == [(*row, shared.get("b"), shared.get("n"), "same") for row in rows]


def test_triggers_see_each_row() -> None:
    """As those that count tasks do."""
    database = sqlite3.connect(":memory:")
    database.executescript("CREATE TABLE t (a); CREATE TABLE seen (a);")
    database.execute("CREATE TRIGGER look AFTER INSERT ON t BEGIN INSERT INTO seen VALUES (NEW.a); END")
    Insert("t", ("a",)).run(database.cursor(), [(number,) for number in range(2 * ROWS_TOGETHER + 1)])
    assert database.execute("SELECT a FROM seen").fetchall() == database.execute("SELECT a FROM t").fetchall()
