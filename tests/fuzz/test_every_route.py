"""Every route that the schema names does what it is for, in each form in which it may be called."""

from __future__ import annotations

import hashlib
import http.client
import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
import schemathesis

from tests.fuzz.conftest import INPUT, Furnished
from tests.support.cluster import ADMIN_PASSWORD

PROBLEM = "application/problem+json"
PASSWORD = {"username": "admin", "password": ADMIN_PASSWORD}
SPAN = {"Range": "bytes=1-2"}
ALL_TIMES = {"created_after": "2020-01-01T00:00:00Z", "created_before": "2999-01-01T00:00:00+02:00"}
INPUT_SHA256 = hashlib.sha256(INPUT).hexdigest()
NO_WORKER_HAS = {"memory_mb": 1 << 24}
BARE = {"command": "true", "sandbox": None, "network": False, "limits": {"memory_mb": None, "processes": 1}}
FULL = {
    "command": "true", "name": "ü", "env": {"A": ""}, "priority": -100, "timeout": 86400, "max_retries": 10,
    "sandbox": "none", "inputs": ["data/in.csv", f"b=sha256:{INPUT_SHA256}"], "outputs": ["**/*.txt"], "limits": NO_WORKER_HAS,
}  # fmt: skip


class Asker:
    """Knows what is on the cluster, and fills it into the addresses that the schema has."""

    def __init__(self, furnished: Furnished) -> None:
        self.document = furnished.document
        self.http = furnished.admin.http
        self.ended = furnished.ended_tasks["admin"]
        self.waiting = furnished.admin.submit("true", limits=NO_WORKER_HAS)
        self.worker = furnished.admin.worker_named("worker")["id"]

    def operations(self) -> Iterator[str]:
        """Yield what the schema has, as `GET /api/v1/tasks`."""
        for path, methods in self.document["paths"].items():
            yield from (f"{method.upper()} {path}" for method in methods)

    def address(self, operation: str) -> str:
        """Return where to send it: what steps are taken with is the waiting task, what is read the ended one."""
        method, path = operation.split()
        task = self.ended if method == "GET" else self.waiting
        name = "out/file" if "/outputs/" in path else "einige/Wörter.bin"
        filled = path.replace("{id}", self.worker if "/workers/" in path else task)
        return filled.replace("{name}", quote(name))

    def refresh_token(self) -> str:
        """Return a new one."""
        token: str = self.http.post("/api/v1/auth/token", json=PASSWORD).json()["refresh"]
        return token

    def good_requests(self) -> dict[str, tuple[int, dict[str, Any]]]:
        """Return for each operation the status due and a request that is as it should be, each where it finds what it needs.

        The worker takes all its steps; the last one is the end of it.
        """
        return {
            "GET /health": (200, {}),
            "POST /api/v1/auth/token": (200, {"json": PASSWORD}),
            "POST /api/v1/auth/refresh": (200, {"json": {"refresh": self.refresh_token()}}),
            "POST /api/v1/auth/logout": (204, {"json": {"refresh": self.refresh_token()}}),
            "PUT /api/v1/files/{name}": (201, {"content": b"\0\xff" * 10}),
            "GET /api/v1/files/{name}": (206, {"headers": SPAN}),
            "GET /api/v1/files": (
                200,
                {"params": {"name": "einige/Wörter.bin", "ordering": "-created_at,name", "limit": 5, "owner": "admin"}},
            ),
            "DELETE /api/v1/files/{name}": (204, {}),
            "POST /api/v1/tasks": (201, {"json": [BARE, FULL], "headers": {"Idempotency-Key": "one of mine"}}),
            "GET /api/v1/tasks": (
                200,
                {"params": {**ALL_TIMES, "status": "completed", "name": "leaves traces", "ordering": "priority"}},
            ),
            "GET /api/v1/tasks/{id}": (200, {}),
            "GET /api/v1/tasks/{id}/attempts": (200, {}),
            "GET /api/v1/tasks/{id}/why": (200, {}),
            "GET /api/v1/tasks/{id}/stdout": (206, {"headers": SPAN, "params": {"attempt": 1}}),
            "GET /api/v1/tasks/{id}/stderr": (200, {"params": {"follow": "true", "framed": "true", "from_attempt": 1}}),
            "GET /api/v1/tasks/{id}/outputs": (200, {"params": {"attempt": 1}}),
            "GET /api/v1/tasks/{id}/outputs/{name}": (200, {"headers": {"If-None-Match": '"another"'}}),
            "POST /api/v1/tasks/wait": (200, {"json": {"ids": [self.ended], "timeout": 0.5}}),
            "POST /api/v1/tasks/{id}/cancel": (200, {}),
            "POST /api/v1/tasks/{id}/retry": (200, {}),
            "DELETE /api/v1/tasks/{id}": (200, {}),
            "POST /api/v1/tasks/retry": (200, {"json": {"ids": [self.waiting, "no such task"]}}),
            "POST /api/v1/tasks/cancel": (200, {"json": {"ids": [self.waiting, self.ended]}}),
            "GET /api/v1/stats": (200, {}),
            "GET /api/v1/stats/history": (200, {"params": {"hours": 87600}}),
            "GET /api/v1/audit": (200, {"params": {"actor": "admin", "timestamp_after": "2020-01-01T00:00:00Z"}}),
            "GET /api/v1/audit/export": (200, {"params": {"format": "json", "person": "admin"}}),
            "POST /api/v1/join-tokens": (201, {"json": {"uses": 2, "ttl_s": 60, "auto_approve": True}}),
            "GET /api/v1/workers": (
                200,
                {"params": {"is_connected": "true", "is_draining": "false", "name": "worker", "admission": ""}},
            ),
            "GET /api/v1/workers/{id}": (200, {}),
            "GET /api/v1/workers/{id}/vitals": (200, {}),
            "POST /api/v1/workers/{id}/drain": (200, {}),
            "POST /api/v1/workers/{id}/resume": (200, {}),
            "POST /api/v1/workers/{id}/suspend": (200, {"json": {"reason": "has a rest"}}),
            "POST /api/v1/workers/{id}/approve": (200, {}),
            "POST /api/v1/workers/{id}/revoke": (200, {"json": {"reason": ""}}),
        }


@pytest.fixture(scope="module")
def asker(furnished: Furnished) -> Asker:
    """What this file asks."""
    return Asker(furnished)


def test_a_route_has_more_forms_than_one(asker: Asker, furnished: Furnished) -> None:
    """With a slash it is the same, HEAD is GET without a body, OPTIONS tells of it, and other methods are 405."""
    for operation in asker.operations():
        method, path = operation.split()
        address = asker.address(operation)
        is_there = method == "GET" and not path.endswith(("/export", "/files/{name}"))
        if is_there:
            whole = asker.http.get(address)
            assert whole.status_code == asker.http.get(f"{address}/").status_code == 200, operation
            head = asker.http.head(address)
            assert (head.status_code, head.content) == (200, b""), operation
        options = asker.http.options(address)
        assert options.status_code == 200, operation
        assert method in options.headers["Allow"], operation
        refused = asker.http.request("PATCH", address, json={})
        assert (refused.status_code, refused.headers["Content-Type"]) == (405, PROBLEM), operation
        assert method in refused.headers["Allow"], operation


def test_each_route_does_its_work_as_the_schema_says(asker: Asker) -> None:
    """A good request has the status that it should have, and an answer of the documented form, on every route."""
    schema = schemathesis.openapi.from_dict(asker.document)
    requests = asker.good_requests()
    assert set(requests) == set(asker.operations())
    for operation, (status, request) in requests.items():
        method, path = operation.split()
        answer = asker.http.request(method, asker.address(operation), **request)
        assert answer.status_code == status, f"{operation}: {answer.status_code} {answer.text}"
        assert str(status) in asker.document["paths"][path][method.lower()]["responses"], operation
        schema[path][method].validate_response(answer)


def test_every_refusal_is_documented_as_a_problem(asker: Asker) -> None:
    """Each status from 400 has a problem document in the schema, but for the health that says itself what is wrong."""
    for operation in asker.operations():
        method, path = operation.split()
        answers = asker.document["paths"][path][method.lower()]["responses"]
        refusals = {status for status in answers if re.fullmatch("[45]..", status)}
        assert {"400", "429", "503"} <= refusals, operation
        for status in refusals - ({"503"} if path == "/health" else set()):
            assert list(answers[status]["content"]) == [PROBLEM], f"{operation} {status}"


ONE = b'{"command": "true"}'
JSON = {"Content-Type": "application/json"}
ODD_REQUESTS: list[tuple[int, str, dict[str, str], bytes | None]] = [
    (404, "GET /api/v1/tasks/%FF%FE", {}, None),
    (404, "GET /api/v1/tasks/%00", {}, None),
    (404, "GET /api/v1/tasks/{ended}/outputs/%FF%00", {}, None),
    (400, "GET /api/v1/files/%FF", {}, None),
    (400, "GET /api/v1/files/a%00b", {}, None),
    (400, "GET /api/v1/files/%ED%A0%80", {}, None),
    (400, "DELETE /api/v1/files/..%2F..%2Fetc%2Fpasswd", {}, None),
    (400, f"GET /api/v1/tasks?{'a=1&' * 1001}", {}, None),
    (400, f"GET /api/v1/tasks/{{ended}}/stdout?{'a=1&' * 1001}follow=1", {}, None),
    (400, "GET /api/v1/tasks/{ended}/stdout?follow=yes", {}, None),
    (400, "GET /api/v1/tasks/{ended}/stdout?attempt=99999999999999999999", {}, None),
    (404, "GET /api/v1/tasks/{ended}/stdout?attempt=9223372036854775807", {}, None),
    (200, "GET /api/v1/tasks?name=%C3%BC&owner=%F0%9F%90%99", {}, None),
    (200, "GET /api/v1/tasks/{ended}/stdout", {"Range": "bytes=99999999999999999999-"}, None),
    (200, "GET /api/v1/tasks/{ended}/stdout", {"Range": "lines=1-2, \xff"}, None),
    (416, "GET /api/v1/tasks/{ended}/stdout", {"Range": "bytes=4-"}, None),
    (200, "GET /api/v1/tasks/{ended}/outputs/out/file", {"If-None-Match": '\xe9, W/, "\x01"'}, None),
    (406, "GET /api/v1/tasks", {"Accept": "image/png"}, None),
    (401, "GET /api/v1/tasks", {"Authorization": "Bearer \xff"}, None),
    (400, "GET /api/v1/tasks", {"Host": "elsewhere.example"}, None),
    (201, "POST /api/v1/tasks", {**JSON, "Idempotency-Key": "\xe9" * 255}, ONE),
    (400, "POST /api/v1/tasks", {**JSON, "Idempotency-Key": "k" * 256}, ONE),
    (415, "POST /api/v1/tasks", {"Content-Type": "text/plain"}, ONE),
    (400, "POST /api/v1/tasks", JSON, b'{"command": "\\ud800"}'),
    (400, "POST /api/v1/tasks", JSON, b'{"command": "true", "priority": 1e400}'),
    (400, "POST /api/v1/tasks", JSON, b'"true"'),
    (400, "POST /api/v1/tasks/wait", JSON, b'{"ids": ["x"], "timeout": NaN}'),
    (400, "POST /api/v1/tasks/cancel", JSON, b"[1]"),
]


def test_odd_requests_are_answered_as_ordinary_ones(asker: Asker) -> None:
    """Bytes that are no text, numbers beyond all bounds and headers that nobody sends: a status, and why."""
    token = asker.http.headers["Authorization"]
    for status, line, headers, body in ODD_REQUESTS:
        method, _, target = line.partition(" ")
        connection = http.client.HTTPConnection(asker.http.base_url.host, asker.http.base_url.port, timeout=20)
        connection.request(method, target.replace("{ended}", asker.ended), body, {"Authorization": token, **headers})
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        assert answer.status == status, f"{line} {headers}: {answer.status} {text[:500]!r}"
        if status >= 400:
            assert answer.headers["Content-Type"] == PROBLEM, f"{line} {headers}"
            assert json.loads(text)["status"] == status
