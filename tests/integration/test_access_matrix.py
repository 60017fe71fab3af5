"""Who may call what: every route of the URLconf, every method, every kind of caller, compared with a recorded table."""

from __future__ import annotations

import os

import pytest
from django.urls import resolve

from accounts_app.roles import Role
from tests.support import access_matrix
from tests.support.access_matrix import routes


@pytest.mark.django_db
@pytest.mark.parametrize(
    "slow",
    [pytest.param(False, id="REST, pages, live"), pytest.param(True, id="the rest", marks=pytest.mark.slow)],
)
def test_everybody_is_answered_as_the_table_says(settings, slow):
    """Role by route by method with ownership; `python scripts/bless.py access` records the table anew."""
    settings.OCTASKLY_MAX_REQUESTS_PER_S = 0
    found = access_matrix.matrix(slow=slow)
    recorded = access_matrix.GOLDEN.read_text(encoding="ascii").splitlines()[1:]
    if os.environ.get(access_matrix.BLESS_VARIABLE):
        recorded = sorted([*found, *(line for line in recorded if access_matrix.is_slow(line) != slow)])
        access_matrix.GOLDEN.write_text("\n".join([access_matrix.head(), *recorded, ""]), encoding="ascii")
    assert found == [line for line in recorded if access_matrix.is_slow(line) == slow]


def test_every_route_is_in_the_table():
    """A new one, or a new method of one, needs a line, which says who may call it; and no line is of a route that is gone."""
    recorded = access_matrix.GOLDEN.read_text(encoding="ascii").splitlines()[1:]
    asked = sorted(begin for *_, begin in access_matrix.questions())
    assert asked == sorted(line[: access_matrix.BEGIN] for line in recorded)


def test_every_rest_route_declares_who_may_call_it():
    """A view that relies on the default is found here before anybody is refused by it."""
    views = [(route, route.callback) for route in routes() if route.is_rest]
    assert len(views) > 30
    for route, callback in views:
        declared = callback.initkwargs.get("permission_classes", callback.cls.permission_classes)
        assert declared, route.texts[0]
        assert all(getattr(permission, "is_declared", False) for permission in declared), route.texts[0]


def test_below_api_there_is_only_rest():
    """All but the session's login pages; and each address has both slash forms, which are one route."""
    for route in routes():
        if route.texts[0].startswith("/api/") and not route.texts[0].startswith("/api/v1/session/"):
            assert route.is_rest, route.texts[0]
            assert route.has_both_slash_forms, route.texts[0]
    for path in ("/api/v1/tasks", "/api/v1/tasks/x/cancel", "/metrics", "/api/v1/files/a/b"):
        assert resolve(path).func is resolve(f"{path}/").func


@pytest.mark.django_db
def test_unknown_addresses_are_problem_documents(client_of):
    """Also where no view was reached."""
    answer = client_of(Role.ADMIN).get("/api/v1/nothing")
    assert (answer.status_code, answer["Content-Type"]) == (404, "application/problem+json")
