"""One thread at a time begins a transaction, and whatever ends it lets the next one begin."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from django.db import OperationalError, transaction
from django.db.utils import ConnectionHandler

from octaskly_site.sqlite import base


@pytest.fixture
def handler(tmp_path, django_db_blocker):
    """Return connections, one a thread, to a database with one table."""
    options = {"transaction_mode": "IMMEDIATE", "timeout": 30, "init_command": "PRAGMA journal_mode=WAL;"}
    given = {"ENGINE": "octaskly_site.sqlite", "NAME": str(tmp_path / "x.db"), "OPTIONS": options}
    handler = ConnectionHandler({"default": given})
    with django_db_blocker.unblock():
        handler["default"].cursor().execute("CREATE TABLE steps (name TEXT)")
        yield handler
        handler.close_all()


@pytest.fixture(autouse=True)
def _through_it(handler, monkeypatch):
    """Have `transaction.atomic` take these."""
    monkeypatch.setattr(transaction, "connections", handler)


def test_the_next_begins_when_the_one_before_has_ended(handler):
    """Eight of them lose nothing, and each finds what those before it have written."""
    found = []

    def write() -> None:
        with transaction.atomic():
            cursor = handler["default"].cursor()
            found.append(cursor.execute("SELECT count(*) FROM steps").fetchone()[0])
            cursor.execute("INSERT INTO steps VALUES ('x')")
        handler["default"].close()

    threads = [threading.Thread(target=write) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == list(range(8))
    assert not base._writers.locked()


def test_whatever_ends_a_transaction_lets_the_next_begin(handler):
    """A failure within, and a connection that is closed in the middle."""

    @transaction.atomic
    def fail(then: Callable[[], object]) -> None:
        assert base._writers.locked()
        then()
        raise ZeroDivisionError

    for then in (lambda: None, handler["default"].close):
        with pytest.raises(ZeroDivisionError):
            fail(then)
        assert not base._writers.locked()
    with transaction.atomic():
        assert base._writers.locked()
    assert not base._writers.locked()


def test_a_database_that_another_process_holds_says_so(handler, tmp_path):
    """And the place is free again."""
    other = ConnectionHandler(handler.settings)["default"]
    other.cursor().execute("BEGIN IMMEDIATE")
    handler["default"].cursor().execute("PRAGMA busy_timeout = 1")
    with pytest.raises(OperationalError, match="locked"), transaction.atomic():
        pass
    assert not base._writers.locked()
    other.close()
