"""A database of a version that knew one CA goes on with it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime

import pytest

from octaskly_wire import identity
from tests.support.programs import clean_environment, manage


@pytest.mark.slow
def test_the_one_ca_moves_into_the_table_and_everybody_knows_it(tmp_path) -> None:
    """Its key stays wrapped as it was; workers trust it, and tokens that were given out still pin it."""
    path = tmp_path / "octaskly.db"
    environment = clean_environment(tmp_path, OCTASKLY_DB_PATH=str(path))
    assert manage("migrate", "workers_app", "0004", "--skip-checks", environment=environment).returncode == 0
    ca, _ = identity.make_ca("c", datetime.now(UTC))
    digest = identity.ca_digest(ca).hex()
    day = "2026-01-01 00:00:00"
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(
            "INSERT INTO cluster (cluster_id, ca_certificate, ca_key_wrapped, server_key_wrapped, listens_on, created_at)"
            " VALUES ('c', ?, ?, x'', '', ?)",
            [ca, b"wrapped", day],
        )
        database.execute(
            "INSERT INTO join_tokens (token_id, secret_sha256, uses_allowed, uses_left, auto_approve, created_at, expires_at)"
            " VALUES ('t', 's', 1, 1, 0, ?, ?)",
            [day, day],
        )
    assert manage("migrate", "--skip-checks", environment=environment).returncode == 0
    with closing(sqlite3.connect(path)) as database:
        rows = database.execute("SELECT digest, certificate, key_wrapped FROM certificate_authorities").fetchall()
        assert rows == [(digest, ca, b"wrapped")]
        assert database.execute("SELECT ca_digest FROM join_tokens").fetchall() == [(digest,)]
