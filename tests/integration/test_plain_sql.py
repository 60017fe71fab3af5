"""Reading with the driver's cursor fails and recovers as reading through Django does."""

from __future__ import annotations

import pytest
from django.db import OperationalError
from django.db.utils import ConnectionHandler

from accounts_app import plain_sql
from accounts_app.plain_sql import marks, read


@pytest.fixture(autouse=True)
def connections(tmp_path, django_db_blocker, monkeypatch):
    """Read from a database of its own."""
    connections = ConnectionHandler({"default": {"ENGINE": "octaskly_site.sqlite", "NAME": str(tmp_path / "x.db")}})
    monkeypatch.setattr(plain_sql, "connections", connections)
    with django_db_blocker.unblock():
        yield connections
        connections.close_all()


def test_an_error_is_one_of_django():
    """Whoever catches those of the database catches it."""
    with pytest.raises(OperationalError, match="no such table"):
        read("SELECT 1 FROM absent")


def test_a_closed_connection_is_opened_again(connections):
    """As after a look that failed."""
    for _ in range(2):
        assert read(f"SELECT ? IN ({marks(2)})", [2, 1, 2]) == [(1,)]
        connections["default"].close()
