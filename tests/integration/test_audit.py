"""The trail: chained, append-only, written with what it records, and checked."""

from __future__ import annotations

import hmac
import itertools
import random

import pytest
from django.core.management import call_command
from django.db import DatabaseError, connection, transaction

from accounts_app.roles import Role
from audit_app import chain
from audit_app.models import AuditEntry
from audit_app.seal import WrongSeal
from audit_app.trail import AuditEvent, record
from audit_app.verifying import verify

pytestmark = pytest.mark.django_db


def write(count, **fields):
    """Append events."""
    with transaction.atomic():
        record(*(AuditEvent("tested", "me", details={"number": number}, **fields) for number in range(count)))


def execute(statement, *parameters):
    """Run a statement that goes around the triggers, as somebody with the file can."""
    with connection.cursor() as cursor:
        cursor.execute("DROP TRIGGER IF EXISTS audit_log_no_update")
        cursor.execute("DROP TRIGGER IF EXISTS audit_log_no_delete")
        cursor.execute(statement, parameters)


def test_chain_of_many_writes_is_intact():
    """Rows of several transactions form one chain without gaps."""
    write(3)
    write(2)
    report = verify()
    assert (report.first_bad_id, report.count) == (None, AuditEntry.objects.count())
    rows = list(AuditEntry.objects.order_by("id"))
    assert all(row.previous_hash == before.hash for before, row in itertools.pairwise(rows))


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("event_type", "other"), ("actor", "you"), ("worker_id", "w"), ("task_id", "t"), ("details", "{}"),
        ("timestamp", "2020-01-01 00:00:00"), ("timestamp", "never"), ("hash", "0" * 64), ("previous_hash", "0" * 64),
    ],
)  # fmt: skip
def test_changed_column_is_found(column, value):
    """Whatever is changed, the row is named."""
    write(5)
    row = AuditEntry.objects.order_by("id")[2]
    execute(f"UPDATE audit_log SET {column} = %s WHERE id = %s", value, row.id)
    assert verify().first_bad_id in {row.id, row.id + 1}
    assert verify().problem


def test_removed_row_is_found():
    """A gap is named by the row behind it."""
    write(5)
    row = AuditEntry.objects.order_by("id")[2]
    execute("DELETE FROM audit_log WHERE id = %s", row.id)
    assert verify().first_bad_id == row.id + 1


def test_swapped_rows_are_found():
    """The order is part of the chain."""
    write(4)
    first, second = AuditEntry.objects.order_by("id").values_list("id", flat=True)[1:3]
    execute("UPDATE audit_log SET id = -1 WHERE id = %s", first)
    execute("UPDATE audit_log SET id = %s WHERE id = %s", first, second)
    execute("UPDATE audit_log SET id = %s WHERE id = -1", second)
    assert verify().first_bad_id == first


def test_row_written_without_the_key_is_found(settings):
    """Somebody who knows the format but not the secret key cannot continue the chain, and neither can a wrong secret."""
    write(2)
    row = AuditEntry.objects.latest("id")
    hashed = (row.id + 1, "2026-01-01 00:00:00", "tested", "me", "", "", "{}", row.hash)
    execute(
        "INSERT INTO audit_log VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)",
        *hashed,
        hmac.digest(bytes(32), chain.encoded(hashed), "sha256").hex(),
    )
    assert verify().first_bad_id == row.id + 1
    write(1)
    assert verify().first_bad_id == row.id + 1
    settings.OCTASKLY_AUDIT_SEALING_KEY = b"another key"
    with pytest.raises(WrongSeal):
        write(1)


def test_database_refuses_change_and_removal():
    """The triggers hold against any statement."""
    write(1)
    for statement in ("UPDATE audit_log SET actor = 'x'", "DELETE FROM audit_log"):
        with pytest.raises(DatabaseError, match="append-only"), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(statement)


def test_row_goes_with_what_it_records():
    """A transaction that is rolled back leaves no row, and outside of one nothing is written."""

    class Undone(Exception):
        pass

    before = AuditEntry.objects.count()

    def fail_after_recording():
        with transaction.atomic():
            record(AuditEvent("tested"))
            raise Undone

    with pytest.raises(Undone):
        fail_after_recording()
    assert AuditEntry.objects.count() == before


@pytest.mark.django_db(transaction=False)
def test_auditverify_reports(capsys):
    """The command says that all is well, or which row is not, and exits accordingly."""
    write(3)
    call_command("auditverify")
    assert "intact" in capsys.readouterr().out
    bad = random.choice(list(AuditEntry.objects.values_list("id", flat=True)))
    execute("UPDATE audit_log SET actor = 'x' WHERE id = %s", bad)
    with pytest.raises(SystemExit) as exit_:
        call_command("auditverify")
    assert exit_.value.code == 1
    assert f"row {bad}" in capsys.readouterr().err


def test_trail_is_read_over_rest_with_filters(client_of):
    """Every column filters; details come as an object."""
    write(3, task_id="t1")
    write(1, worker_id="w1")
    operator = client_of(Role.DISPATCHER)

    def count(query):
        return len(operator.get(f"/api/v1/audit?{query}").json()["results"])

    assert count("task_id=t1") == 3
    assert count("worker_id=w1") == 1
    assert count("event_type=tested&actor=me") == 4
    assert count("actor=nobody") == 0
    assert count("timestamp_after=2999-01-01T00:00:00Z") == 0
    entry = operator.get("/api/v1/audit?task_id=t1").json()["results"][0]
    assert entry["details"] == {"number": 2}
    assert operator.get("/api/v1/audit?timestamp_after=x").status_code == 400


def test_rows_chosen_by_time_come_newest_first_page_by_page(client_of):
    """Whichever index leads to them, also where many were written at the same moment."""
    write(7)
    write(5)
    operator = client_of(Role.DISPATCHER)
    ids, address = [], "/api/v1/audit?timestamp_before=2999-01-01T00:00:00Z&limit=2"
    while address:
        page = operator.get(address).json()
        ids += [row["id"] for row in page["results"]]
        address = page["next"]
    assert ids == sorted(AuditEntry.objects.values_list("id", flat=True), reverse=True)


def test_the_admins_list_knows_how_many_rows_there_are(admin_client):
    """Of the whole trail and of a part of it, and after its beginning was removed."""
    write(5)
    first = AuditEntry.objects.earliest("id").id
    count = AuditEntry.objects.count()
    assert admin_client.get("/admin/audit_app/auditentry/").context["cl"].result_count == count
    chosen = admin_client.get("/admin/audit_app/auditentry/?event_type=tested").context["cl"]
    assert chosen.result_count == 5
    execute("DELETE FROM audit_log WHERE id = %s", first)
    assert admin_client.get("/admin/audit_app/auditentry/").context["cl"].result_count == count - 1
