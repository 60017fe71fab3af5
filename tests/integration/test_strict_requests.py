"""Requests that are nearly right are refused by name, instead of being taken for something else."""

from __future__ import annotations

import json

import pytest

from accounts_app.roles import Role
from audit_app.models import AuditEntry
from tests.support.submitting import submit

TASKS = "/api/v1/tasks"
FILES = "/api/v1/files"
WORKERS = "/api/v1/workers"
AUDIT = "/api/v1/audit"
HISTORY = "/api/v1/stats/history"
TOKENS = "/api/v1/join-tokens"
SIGN_IN = "/api/v1/auth/token"
PROBLEM = "application/problem+json"

BAD_QUERIES = [
    (f"{TASKS}?stauts=failed", "stauts"), (f"{FILES}?page=2", "page"), (f"{WORKERS}?ordering=name", "ordering"),
    (f"{AUDIT}?attempt=1", "attempt"), (f"{AUDIT}/export?format=csv&limit=5", "limit"),
    (f"{TASKS}?%C3%BC=1", "ü"), (f"{TASKS}?ordering=priority,", "ordering"), (f"{TASKS}?cursor=", "cursor"),
    (f"{TASKS}?cursor=%C3%BC", "cursor"), (f"{TASKS}?limit=1e2", "limit"), (f"{TASKS}?name=%00", "name"),
    (f"{TASKS}?created_after=2026-02-30T00:00:00Z", "created_after"), (f"{TASKS}?status=Queued", "status"),
    (f"{WORKERS}?is_connected=maybe", "is_connected"), (f"{WORKERS}?is_draining=null", "is_draining"),
    (f"{AUDIT}?id=1.5", "id"), (f"{AUDIT}?id=-1", "id"), (f"{AUDIT}?id=NaN", "id"), (f"{AUDIT}?id={10**30}", "id"),
    (f"{HISTORY}?hours=%D9%A3", "hours"), (f"{HISTORY}?hours=0", "hours"),
]  # fmt: skip
BAD_BODIES = [
    (TOKENS, {"uses": "1"}, "uses"), (TOKENS, {"uses": True}, "uses"), (TOKENS, {"uses": 1.0}, "uses"),
    (TOKENS, {"uses": 10**30}, "uses"), (TOKENS, {"uses": None}, "uses"), (TOKENS, {"ttl_s": []}, "ttl_s"),
    (TOKENS, {"auto_approve": 1}, "auto_approve"), (TOKENS, {"auto_approve": "true"}, "auto_approve"),
    (TOKENS, {"autoapprove": True}, "autoapprove"), (TOKENS, [], ""), (TOKENS, 7, ""), (TOKENS, "text", ""),
    (TOKENS, None, ""), (SIGN_IN, {"username": 5, "password": "x"}, "username"),
    (SIGN_IN, {"username": "a", "password": ["x"]}, "password"), (SIGN_IN, {"username": "a\0", "password": "x"}, "username"),
    (SIGN_IN, {"username": "a", "password": "x", "otp": "1"}, "otp"),
]  # fmt: skip
NO_JSON = [
    b'{"uses": NaN}', b'{"uses": 1e999}', b'{"uses": 1', b"\xff", b'{"\\ud800": 1}', b'{"auto_approve": tru}',
    b"[" * 100_000, b"\n", b'{"uses": 1}{"uses": 2}', b'{"uses": 01}', "{\u00a0}".encode(),
]  # fmt: skip


@pytest.fixture
def client(client_of):
    """Return a REST client of an admin."""
    return client_of(Role.ADMIN)


def refused_fields(answer) -> list[str]:
    """Return which fields a refusal names."""
    assert (answer.status_code, answer["Content-Type"]) == (400, PROBLEM), answer.content
    return [error["field"] for error in answer.json()["errors"]]


def test_a_list_takes_only_what_it_knows(client):
    """A filter that is misspelt, or that has a value it cannot have, is named; no export begins."""
    for address, field in BAD_QUERIES:
        assert refused_fields(client.get(address)) == [field], address
    assert not AuditEntry.objects.filter(event_type="audit_exported").exists()


def test_an_empty_filter_is_none(client):
    """As forms send them; and a truth has more than one spelling."""
    task = submit(client)
    for address in (f"{TASKS}?status=&name=&created_after=&owner=", f"{AUDIT}?id=&task_id={task['id']}&actor="):
        assert len(client.get(address).json()["results"]) == 1, address
    assert client.get(f"{WORKERS}?is_connected=&is_draining=False&admission=").status_code == 200


def test_a_body_is_read_to_the_letter(client):
    """No text with digits for a number, no number for a truth, no field that is not there, nothing but an object."""
    for address, body, field in BAD_BODIES:
        answer = client.generic("POST", address, json.dumps(body), content_type="application/json")
        assert refused_fields(answer) == [field], body


def test_what_is_no_json_is_refused(client):
    """Not by the server's failure, and not in part."""
    for body in NO_JSON:
        assert refused_fields(client.generic("POST", TOKENS, body, content_type="application/json")) == [], body[:40]
