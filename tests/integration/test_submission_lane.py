"""Submissions that come together: one commit, each stored or refused by itself, nobody answered in vain."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from io import BytesIO

import pytest
from django.contrib.auth.models import User
from django.db import OperationalError, connection, connections
from rest_framework_simplejwt.tokens import RefreshToken

from audit_app.models import AuditEntry
from octaskly_site.sqlite.base import DatabaseWrapper
from octaskly_site.threaded_django import ThreadedDjango
from tasks_app import services
from tasks_app.models import Task
from tests.support.migrated_database import lay_database

GOOD = {"command": "true"}


@pytest.fixture
def _own_database(tmp_path, django_db_setup, django_db_blocker, monkeypatch):
    """Have Django work on a file of this test's own: what threads have committed stays, and the trail is append-only."""
    path = tmp_path / "data" / "octaskly.db"
    lay_database(path)
    with django_db_blocker.unblock():
        connection.close()
        monkeypatch.setitem(connections.settings["default"], "NAME", str(path))
        yield
        connection.close()


@pytest.fixture
def submit_all(_own_database):
    """Return what sends several bodies at once and returns the answers, and ends the lane's connection after it."""
    user = User.objects.create_superuser("ada", password="a long one for her")
    token = str(RefreshToken.for_user(user).access_token)
    served = ThreadedDjango(1)

    def scope(body: bytes) -> dict:
        headers = {
            b"host": b"127.0.0.1",
            b"authorization": b"Bearer " + token.encode(),
            b"content-type": b"application/json",
            b"content-length": b"%d" % len(body),
        }
        address = {"path": "/api/v1/tasks", "query_string": b""}
        return {"type": "http", "method": "POST", **address, "headers": list(headers.items())}

    def submit(*asked: dict) -> list:
        bodies = [json.dumps(one).encode() for one in asked]

        async def story():
            return await asyncio.gather(*(served.answer(scope(body), BytesIO(body)) for body in bodies))

        return asyncio.run(story())

    yield submit
    served._submissions._pool.submit(connections.close_all).result()


@pytest.fixture
def commits(monkeypatch):
    """Return a list that grows with each commit of a transaction."""
    seen = []
    commit = DatabaseWrapper._commit
    monkeypatch.setattr(DatabaseWrapper, "_commit", lambda self: (seen.append(1), commit(self))[1])
    return seen


def ids_of(answers) -> set[str]:
    """Return the tasks that were promised."""
    return {json.loads(answer.content)["id"] for answer in answers if answer.status_code == 201}


def assert_stored(answers) -> None:
    """Each promised task is there once, with its row of the audit, and no other."""
    submitted = AuditEntry.objects.filter(event_type="task_submitted").values_list("task_id", flat=True)
    assert set(Task.objects.values_list("id", flat=True)) == ids_of(answers)
    assert Counter(submitted) == Counter(ids_of(answers))


def test_each_is_stored_or_refused_by_itself(submit_all, commits):
    """In a few commits for all of them."""
    asked = [{"command": ""}, GOOD, {**GOOD, "inputs": ["nobody uploaded it"]}, GOOD, GOOD] * 5
    answers = submit_all(GOOD, *asked)
    assert Counter(answer.status_code for answer in answers) == {201: 16, 400: 10}
    assert_stored(answers)
    assert len(commits) < 10


def test_the_limit_of_the_queue_counts_those_before_it(submit_all, settings):
    """Also those that are not committed yet."""
    settings.OCTASKLY_MAX_QUEUED_TASKS = 4
    answers = submit_all(*[GOOD] * 9)
    assert [answer.status_code for answer in answers] == [201] * 4 + [429] * 5
    assert_stored(answers)


def test_where_the_common_commit_fails_each_is_answered_by_itself(submit_all, monkeypatch):
    """Nothing is lost, nothing stored twice."""
    commit, failures = DatabaseWrapper._commit, [1]

    def fail_once(self):
        if failures:
            failures.pop()
            raise OperationalError("the disk is full")
        commit(self)

    first = submit_all(GOOD)
    monkeypatch.setattr(DatabaseWrapper, "_commit", fail_once)
    answers = [*first, *submit_all(*[GOOD] * 6)]
    assert [answer.status_code for answer in answers].count(503) <= 1  # where the first was not with others
    assert failures == []
    assert_stored(answers)


def test_one_that_fails_takes_no_other_with_it(submit_all, monkeypatch):
    """Its server error is its own."""
    submit = services.submit

    def fail_at(owner, specs, now=None):
        if specs[0].name == "broken":
            raise RuntimeError("a fault of ours")
        return submit(owner, specs, now)

    monkeypatch.setattr(services, "submit", fail_at)
    answers = submit_all(GOOD, GOOD, {**GOOD, "name": "broken"}, GOOD)
    assert [answer.status_code for answer in answers] == [201, 201, 500, 201]
    assert_stored(answers)
