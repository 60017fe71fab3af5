"""However many rows there are, each is inserted once, in its order, or updated by what it brings."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from accounts_app.many_rows import ROWS_TOGETHER, Insert, Update

MOST = max(ROWS_TOGETHER)
COUNTS = [0, *ROWS_TOGETHER, MOST - 1, MOST + 1, sum(ROWS_TOGETHER), 3 * MOST]


@pytest.fixture
def database() -> Iterator[sqlite3.Connection]:
    """Return an empty one in memory."""
    with closing(sqlite3.connect(":memory:")) as connection:
        yield connection


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("shared", [{}, {"b": "x'", "n": None}])
def test_all_rows_are_there(database, count, shared) -> None:
    """With their own values, those they share, and constants."""
    database.execute("CREATE TABLE t (c, b, a, n, d)")
    insert = Insert("t", ("a", "d"), tuple(shared), {"c": "'same'"})
    rows = [(number, f"text {number}") for number in range(count)]
    insert.run(database.cursor(), rows, tuple(shared.values()))
    found = database.execute("SELECT a, d, b, n, c FROM t ORDER BY rowid").fetchall()
    assert found == [(*row, shared.get("b"), shared.get("n"), "same") for row in rows]


def test_triggers_see_each_row(database) -> None:
    """As those that count tasks do."""
    database.executescript("CREATE TABLE t (a); CREATE TABLE seen (a);")
    database.execute("CREATE TRIGGER look AFTER INSERT ON t BEGIN INSERT INTO seen VALUES (NEW.a); END")
    Insert("t", ("a",)).run(database.cursor(), [(number,) for number in range(2 * MOST + 1)])
    assert database.execute("SELECT a FROM seen").fetchall() == database.execute("SELECT a FROM t").fetchall()


@pytest.mark.parametrize("count", COUNTS)
def test_rows_are_updated_that_meet_the_condition(database, count) -> None:
    """Each by its own values and those all share; the others are left as they are, and give nothing back."""
    database.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, is_open, a, b)")
    ids = range(1, count + 1)
    database.executemany("INSERT INTO t (id, is_open) VALUES (?, ?)", [(number, number % 3 > 0) for number in ids])
    update = Update(
        "t", "a = {text} || {b}, b = {b}", "id = {id} AND is_open", "id, a", own=("id", "text"), shared=("b",)
    )
    returned = update.run(database.cursor(), [(number, f"text {number} ") for number in ids], ("too",))
    assert sorted(returned) == [(number, f"text {number} too") for number in ids if number % 3]
    found = database.execute("SELECT id, a, b FROM t ORDER BY id").fetchall()
    assert found == [(number, *((f"text {number} too", "too") if number % 3 else (None, None))) for number in ids]
