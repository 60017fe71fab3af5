"""The trail as one document: whole, filtered, harmless in a spreadsheet, written down itself, and never all in memory."""

from __future__ import annotations

import csv
import io
import json
import threading

import psutil
import pytest
from asgiref.sync import async_to_sync
from django.db import connection, transaction
from django.test import AsyncClient

from accounts_app import tokens
from accounts_app.roles import Role
from audit_app import export
from audit_app.models import AuditEntry
from audit_app.trail import AuditEvent, record
from audit_app.verifying import verify

pytestmark = pytest.mark.django_db
URL = "/api/v1/audit/export"


def write(*events):
    """Append events."""
    with transaction.atomic():
        record(*events)


def body_of(answer):
    """Return the whole document."""
    assert answer.status_code == 200, answer.content
    return b"".join(answer.streaming_content).decode()


def rows_of(text):
    """Return the rows of a CSV document as mappings."""
    return list(csv.DictReader(io.StringIO(text, newline="")))


@pytest.fixture
def operator(client_of):
    """Return a dispatcher's REST client."""
    return client_of(Role.DISPATCHER)


def test_csv_holds_every_row_in_order(operator):
    """Whatever stands in the texts: read by csv.reader, cells come back as they were, hostile ones behind a '."""
    names = ["=1+1", "a,b;c", 'say "hi"', "two\nlines", "cr\rlf\r\n", "\ud800", "ü \uff1d1", "=cmd|' /C calc'!A0"]
    write(*(AuditEvent("login_failed", "", details={"username": name, "failures": 1}) for name in names))
    write(*(AuditEvent("file_deleted", name.replace("\ud800", "x"), details={"name": "x"}) for name in names))
    answer = operator.get(URL, {"format": "csv"})
    assert answer["Content-Type"].startswith("text/csv; charset=utf-8")
    assert answer["Content-Disposition"].startswith('attachment; filename="octaskly-audit-20')
    rows = rows_of(body_of(answer))
    stored = list(AuditEntry.objects.order_by("id"))[:-1]
    assert [int(row["id"]) for row in rows] == [entry.id for entry in stored]
    for row, entry in zip(rows, stored, strict=True):
        assert row["actor"] in {entry.actor, f"'{entry.actor}"}
        assert row["details"] == entry.details
        assert row["hash"] == entry.hash
        assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in row.values())
    actors = [row["actor"] for row in rows if row["event_type"] == "file_deleted"]
    assert (actors[0], actors[1]) == ("'=1+1", "a,b;c")


def test_json_is_an_array_with_the_texts_as_they_are(operator):
    """Details as objects, nothing marked; an empty one is an array, too."""
    write(AuditEvent("tested", "=me", details={"name": "=1"}), AuditEvent("tested", "you"))
    rows = json.loads(body_of(operator.get(URL, {"format": "json", "event_type": "tested"})))
    assert [(row["actor"], row["details"]) for row in rows] == [("=me", {"name": "=1"}), ("you", {})]
    assert list(rows[0]) == list(export.COLUMNS)
    assert json.loads(body_of(operator.get(URL, {"format": "json", "actor": "nobody"}))) == []


def test_filters_and_pieces_lose_nothing(operator, monkeypatch):
    """More rows than a piece has, by worker, by time and by person."""
    monkeypatch.setattr(export, "_PIECE_ROWS", 3)
    write(*(AuditEvent("tested", f"user{number % 2}", worker_id="w1") for number in range(10)))
    write(AuditEvent("login_failed", "", details={"username": "user1", "failures": 1}))
    write(AuditEvent("account_changed", "admin", details={"username": "user1", "change": "changed"}))
    write(AuditEvent("account_changed", "user1", details={"username": "user1", "change": "changed"}))
    write(AuditEvent("login_failed", "", details={"username": "user10", "failures": 1}))

    def ids(**query):
        return [int(row["id"]) for row in rows_of(body_of(operator.get(URL, {"format": "csv", **query})))]

    entries = AuditEntry.objects.order_by("id")
    assert ids(worker_id="w1") == list(entries.filter(worker_id="w1").values_list("id", flat=True))
    assert ids(timestamp_after="2999-01-01T00:00:00Z") == []
    of_person = [entry.id for entry in entries if entry.actor == "user1" or '"user1"' in entry.details]
    assert ids(person="user1") == of_person[: len(ids(person="user1"))]
    assert len(ids(person="user1")) == 8


def test_an_export_is_written_down(operator):
    """Who, in which form and with which filters; it holds the rows before its own, and the chain stays whole."""
    first = rows_of(body_of(operator.get(URL, {"format": "csv", "actor": "me"})))
    assert first == []
    entry = AuditEntry.objects.order_by("-id").first()
    assert (entry.event_type, entry.actor) == ("audit_exported", operator.user.username)
    assert json.loads(entry.details) == {"format": "csv", "filters": {"actor": "me"}}
    rows = rows_of(body_of(operator.get(URL, {"format": "csv"})))
    assert int(rows[-1]["id"]) == entry.id
    assert verify().first_bad_id is None


@pytest.mark.parametrize(
    ("query", "field"), [({}, "format"), ({"format": "xml"}, "format"), ({"format": "csv", "timestamp_after": "x"}, "timestamp_after")]
)  # fmt: skip
def test_what_cannot_be_read_is_refused(operator, query, field):
    """With the field's name, and nothing is written down."""
    before = AuditEntry.objects.count()
    answer = operator.get(URL, query)
    assert (answer.status_code, answer["Content-Type"]) == (400, "application/problem+json")
    assert answer.json()["errors"][0]["field"] == field
    assert AuditEntry.objects.count() == before


def test_any_accept_header_gets_the_document(operator):
    """As a browser's, which asks for HTML."""
    assert operator.get(URL, {"format": "json"}, HTTP_ACCEPT="text/html").status_code == 200


def fill(count):
    """Put many rows into the table, without the chain."""
    with connection.cursor() as cursor:
        cursor.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %s)"
            " INSERT INTO audit_log (id, timestamp, event_type, actor, worker_id, task_id, details, previous_hash, hash)"
            " SELECT (SELECT coalesce(max(id), 0) FROM audit_log) + i, '2026-01-01 00:00:00', 'task_finished', 'engine',"
            ' \'w1\', \'t\' || i, \'{"attempt":1,"outcome":"failed","exit_code":3}\', hex(zeroblob(32)),'
            " hex(zeroblob(32)) FROM n",
            [count],
        )


@pytest.mark.slow
@pytest.mark.parametrize("form", ["csv", "json"])
def test_a_hundred_thousand_rows_pass_through_little_memory(operator, form):
    """A reader holds one piece at a time, whatever the length."""
    fill(100_000)
    answer = operator.get(URL, {"format": form})
    process = psutil.Process()
    pieces = iter(answer.streaming_content)
    next(pieces)
    next(pieces)
    before = process.memory_info().rss
    size = peak = 0
    for piece in pieces:
        size += len(piece)
        peak = max(peak, process.memory_info().rss - before)
    assert size > 24 << 20
    assert peak < 8 << 20


def test_an_asynchronous_server_gets_pieces(user_of, monkeypatch):
    """Each is read on a thread when the one before is gone: of a synchronous iterator it would gather all first."""
    threads = []

    def pieces(*_):
        for piece in (b"one", b"two"):
            threads.append(threading.current_thread())
            yield piece

    monkeypatch.setattr(export, "pieces", pieces)
    token = tokens.issue(user_of(Role.DISPATCHER)).access

    async def story():
        answer = await AsyncClient().get(URL, {"format": "csv"}, headers={"Authorization": f"Bearer {token}"})
        stream = aiter(answer)
        assert await anext(stream) == b"one"
        assert len(threads) == 1
        assert [piece async for piece in stream] == [b"two"]

    async_to_sync(story)()
    assert threading.main_thread() not in threads
