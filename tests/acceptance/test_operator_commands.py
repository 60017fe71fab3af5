"""The commands beside the dispatcher: a join token on stdout, and the audit trail's proof."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.cluster import Cluster
from tests.support.programs import clean_environment, manage


def test_jointoken_prints_the_token_and_nothing_else(cluster: Cluster) -> None:
    """One line on stdout, ready for `$(...)`; the line for people stands on stderr. It joins a worker as asked."""
    done = cluster.manage("jointoken", "--auto-approve")
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"octa1-[a-z2-7]+-[a-z2-7]+-[a-z2-7]+-[a-z2-7]+\n", done.stdout)
    token = done.stdout.strip()
    cluster.remember_token(token)
    cluster.start_worker("alpha", token=token)
    cluster.wait_connected("alpha")
    assert done.stderr.endswith(f"/join.sh | sh -s -- {token}\n")


def test_jointoken_without_a_database_says_so(tmp_path: Path) -> None:
    """It makes no database of its own."""
    path = tmp_path / "none" / "octaskly.db"
    done = manage("jointoken", "--db-path", str(path), environment=clean_environment(tmp_path))
    assert done.returncode == 1
    assert done.stdout == ""
    assert str(path) in done.stderr
    assert not path.exists()


def test_jointoken_refuses_bad_values(cluster: Cluster) -> None:
    """Bad usage is exit code 2."""
    for flags in (["--ttl", "soon"], ["--ttl", "-1h"], ["--uses", "0"], ["--uses", "x"]):
        done = cluster.manage("jointoken", *flags)
        assert (done.returncode, done.stdout) == (2, ""), f"{flags}: {done.stderr}"


def test_the_audit_trail_verifies_and_names_a_changed_row(cluster: Cluster) -> None:
    """Every step is in the chain; rows refuse change, and a change by force is found and named."""
    cluster.start_worker("alpha")
    cluster.wait_ended(cluster.api.submit("echo audited"), cluster.api.submit("exit 1"))
    assert cluster.manage("auditverify").returncode == 0
    events = [row[0] for row in cluster.rows("SELECT event_type FROM audit_log ORDER BY id")]
    for expected in (
        "join_token_created",
        "login_succeeded",
        "worker_enrolled",
        "worker_connected",
        "task_submitted",
        "task_started",
        "task_finished",
    ):
        assert expected in events

    with closing(sqlite3.connect(cluster.db_path, timeout=10)) as database:
        for statement in ("UPDATE audit_log SET actor = 'nobody'", "DELETE FROM audit_log"):
            with pytest.raises(sqlite3.Error, match=r"(?i)audit"):
                database.execute(statement)
            database.rollback()
        triggers = database.execute("SELECT name FROM sqlite_master WHERE type='trigger' AND tbl_name='audit_log'")
        for (name,) in triggers.fetchall():
            database.execute(f'DROP TRIGGER "{name}"')
        [(row_id,)] = database.execute("SELECT id FROM audit_log WHERE event_type='task_finished' LIMIT 1").fetchall()
        database.execute("UPDATE audit_log SET details = '{}' WHERE id = ?", (row_id,))
        database.commit()

    done = cluster.manage("auditverify")
    assert done.returncode == 1
    assert re.search(rf"\b{row_id}\b", done.stdout + done.stderr)


def test_secrets_stay_out_of_logs_at_the_loudest_level(new_cluster) -> None:
    """Passwords, tokens and keys are in no log even with everything logged; failed logins neither."""
    cluster = new_cluster(OCTASKLY_LOG="trace")
    cluster.tolerates_tracebacks = True  # Django tells of each template variable that is not there.
    cluster.start_dispatcher("--log-json")
    cluster.start_worker("alpha", "--log-json")
    cluster.secrets |= {"a guess at the password", "s3cr3t-in-the-environment"}
    wrong = {"username": "admin", "password": "a guess at the password"}
    assert cluster.api.http.post("/api/v1/auth/token", json=wrong).status_code == 401
    task_id = cluster.api.submit("echo ${#SECRET}", env={"SECRET": "s3cr3t-in-the-environment"})
    [task] = cluster.wait_ended(task_id)
    assert task["stdout"] == "25\n"
    cluster.secrets.add((cluster.db_path.parent / "secret.key").read_text().strip())
    for private in cluster.state_dir("alpha").glob("*"):
        if private.is_file() and b"PRIVATE KEY" in private.read_bytes():
            cluster.secrets |= set(private.read_text().splitlines()[1:-1])
    cluster.check_logs()
    assert cluster.dispatcher is not None
    assert cluster.dispatcher.stderr.startswith("{")
