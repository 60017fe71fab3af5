"""Every route says who may use it, and means it."""

from __future__ import annotations

import pytest
from django.urls import URLPattern, URLResolver, get_resolver
from rest_framework.test import APIClient

from accounts_app.roles import Role

ALL = frozenset({*Role, None})
"""None stands for a user without a role."""
OPERATORS = frozenset({Role.ADMIN, Role.DISPATCHER})
TASK_USERS = OPERATORS | {Role.CLIENT}

WHO = {
    ("get", "/api/v1/tasks"): TASK_USERS,
    ("post", "/api/v1/tasks"): TASK_USERS,
    ("get", "/api/v1/tasks/x"): TASK_USERS,
    ("delete", "/api/v1/tasks/x"): TASK_USERS,
    ("post", "/api/v1/tasks/x/cancel"): TASK_USERS,
    ("post", "/api/v1/tasks/x/retry"): TASK_USERS,
    ("post", "/api/v1/tasks/cancel"): TASK_USERS,
    ("post", "/api/v1/tasks/retry"): TASK_USERS,
    ("get", "/api/v1/tasks/x/attempts"): TASK_USERS,
    ("get", "/api/v1/tasks/x/why"): TASK_USERS,
    ("get", "/api/v1/tasks/x/stdout"): TASK_USERS,
    ("get", "/api/v1/tasks/x/stderr"): TASK_USERS,
    ("get", "/api/v1/tasks/x/outputs"): TASK_USERS,
    ("get", "/api/v1/tasks/x/outputs/y"): TASK_USERS,
    ("get", "/api/v1/files"): TASK_USERS,
    ("get", "/api/v1/files/x"): TASK_USERS,
    ("head", "/api/v1/files/x"): TASK_USERS,
    ("put", "/api/v1/files/x:"): TASK_USERS,
    ("delete", "/api/v1/files/x"): TASK_USERS,
    ("get", "/api/v1/workers"): OPERATORS,
    ("get", "/api/v1/workers/x"): OPERATORS,
    ("post", "/api/v1/workers/x/approve"): OPERATORS,
    ("post", "/api/v1/workers/x/suspend"): OPERATORS,
    ("post", "/api/v1/workers/x/revoke"): OPERATORS,
    ("post", "/api/v1/workers/x/drain"): OPERATORS,
    ("post", "/api/v1/workers/x/resume"): OPERATORS,
    ("post", "/api/v1/join-tokens"): OPERATORS,
    ("get", "/api/v1/audit"): OPERATORS,
    ("get", "/api/v1/audit/export"): OPERATORS,
    ("get", "/api/v1/stats"): ALL,
    ("get", "/api/v1/stats/history"): OPERATORS,
    ("get", "/api/v1/workers/x/vitals"): OPERATORS,
    ("get", "/metrics"): OPERATORS,
    ("get", "/api/v1/schema"): ALL,
    ("get", "/api/v1/docs"): ALL,
}


def rest_views(patterns=None, prefix=""):
    """Yield every REST view of the URLconf with its pattern."""
    for pattern in patterns if patterns is not None else get_resolver().url_patterns:
        path = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from rest_views(pattern.url_patterns, path)
        elif isinstance(pattern, URLPattern) and hasattr(pattern.callback, "cls"):
            yield path, pattern.callback.cls, pattern.callback.initkwargs


def test_every_route_declares_its_permission():
    """A view that relies on the default is found here before anybody is refused by it."""
    views = list(rest_views())
    assert len(views) > 20
    for path, view, initkwargs in views:
        declared = initkwargs.get("permission_classes", view.permission_classes)
        assert declared, path
        assert all(getattr(permission, "is_declared", False) for permission in declared), path


def test_no_api_address_is_outside_of_rest():
    """Below /api/ only the session login pages are not REST views."""

    def walk(patterns, prefix=""):
        for pattern in patterns:
            path = prefix + str(pattern.pattern)
            if isinstance(pattern, URLResolver):
                yield from walk(pattern.url_patterns, path)
            elif path.lstrip("^").startswith("api/") and not hasattr(pattern.callback, "cls"):
                yield path

    assert {path.split("/")[2] for path in walk(get_resolver().url_patterns)} <= {"session"}


@pytest.mark.django_db
@pytest.mark.parametrize("role", sorted(ALL, key=str), ids=str)
def test_each_role_reaches_what_it_may_and_no_more(client_of, role):
    """Role by route: 403 exactly where the table says no."""
    client = client_of(role)
    for (method, path), allowed in WHO.items():
        status = getattr(client, method)(path).status_code
        assert (status != 403) == (role in allowed), f"{role} {method} {path}: {status}"


@pytest.mark.django_db
def test_nobody_unsigned_gets_in():
    """Without a token everything but health and sign-in is 401."""
    client = APIClient()
    for method, path in WHO:
        answer = getattr(client, method)(path)
        assert answer.status_code == 401, path
        assert "WWW-Authenticate" in answer
    assert client.get("/health").status_code == 503  # no engine runs in this process
    assert client.post("/api/v1/auth/token", {}).status_code == 400


@pytest.mark.django_db
def test_unknown_addresses_are_problem_documents(client_of):
    """Also where no view was reached."""
    answer = client_of(Role.ADMIN).get("/api/v1/nothing")
    assert (answer.status_code, answer["Content-Type"]) == (404, "application/problem+json")
