"""Budgets: who is refused when, what is not counted, and what a refusal costs the audit."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test import Client
from rest_framework.test import APIClient

from accounts_app import limits, tokens
from accounts_app.models import Budget
from accounts_app.roles import Role
from audit_app.models import AuditEntry

pytestmark = pytest.mark.django_db
LIST = "/api/v1/tasks"
HALF_A_MINUTE = timedelta(seconds=30)
"""Ahead, so that nothing comes back while a test runs, however slowly."""


@pytest.fixture
def client(client_of):
    """Return a client user's REST client."""
    return client_of(Role.CLIENT, "carla")


@pytest.fixture
def one_a_second(settings):
    """Allow one request a second, which is ten at once."""
    settings.OCTASKLY_MAX_REQUESTS_PER_S = 1


def spend(limit: limits.Limit, key: str) -> int:
    """Take all there is and will be for half a minute; return how many that were."""
    ahead, count = datetime.now(UTC) + HALF_A_MINUTE, 0
    while limit.take(key, ahead) is None:
        count += 1
    limit.forget()
    return count


def events(event_type: str) -> list[str]:
    """Return the details of the audit's rows of a type."""
    return list(AuditEntry.objects.filter(event_type=event_type).values_list("details", flat=True))


def test_an_account_that_asks_too_often_is_told_when_to_come_back(client, client_of, one_a_second):
    """429 as a problem document with Retry-After, whatever is asked; other accounts and addresses go on."""
    spend(limits.requests_limit(), limits.key_of(client.user))
    for _ in range(3):
        answer = client.get(LIST)
        assert (answer.status_code, answer["Content-Type"]) == (429, "application/problem+json")
        assert 1 <= int(answer["Retry-After"]) <= 10
        assert answer.json()["detail"] == "too many requests; try again later"
    assert client.get("/api/v1/workers").status_code == 429, "what the role does not allow is counted, too"
    assert client.post(LIST, {"command": "true"}).status_code == 429
    assert client_of(Role.CLIENT, "another").get(LIST).status_code == 200
    assert len(events("limit_reached")) == 1


def test_strangers_and_bad_tokens_are_counted_by_address(client, one_a_second):
    """And sign-ins with them; who has an account has a budget of its own."""
    stranger, liar = APIClient(), APIClient()
    liar.credentials(HTTP_AUTHORIZATION="Bearer x.y.z")
    assert {stranger.get(LIST).status_code for _ in range(5)} == {401}
    assert {liar.get(LIST).status_code for _ in range(5)} == {401}
    spend(limits.requests_limit(), "127.0.0.1")
    assert [who.get(LIST).status_code for who in (stranger, liar, client)] == [429, 429, 200]
    assert stranger.post("/api/v1/auth/token", {}).status_code == 429
    assert stranger.get(LIST, REMOTE_ADDR="10.0.0.8").status_code == 401


def test_pages_and_health_are_not_counted(client, one_a_second):
    """A page asks REST as its user; whether the server lives may be asked at any time."""
    for key in ("127.0.0.1", limits.key_of(client.user)):
        spend(limits.requests_limit(), key)
    browser = Client()
    browser.force_login(client.user)
    assert browser.get("/tasks/").status_code == 200
    assert browser.get(LIST).status_code == 429
    assert browser.get("/health").status_code == 503  # no engine runs in this process


def test_no_limit_is_no_limit(client, settings):
    """0 counts nothing."""
    settings.OCTASKLY_MAX_REQUESTS_PER_S = 0
    assert client.get(LIST).status_code == 200
    assert not Budget.objects.exists()


def test_a_process_writes_once_a_block_and_others_share_what_is_left(settings, django_assert_num_queries):
    """200 requests for one look into the database; a process that starts anew goes on with the same budget."""
    settings.OCTASKLY_MAX_REQUESTS_PER_S = 1000
    limit, now = limits.requests_limit(), datetime.now(UTC)
    assert limit.take("one", now) is None
    with django_assert_num_queries(0):
        assert {limit.take("one", now) for _ in range(199)} == {None}
    for _ in range(49):
        limit.forget()  # As a new process knows nothing: each takes the next block.
        assert limit.take("one", now) is None
    limit.forget()
    refusal = limit.take("one", now)
    assert (refusal.wait_s, refusal.is_news) == (1, True)
    with django_assert_num_queries(0):
        assert not limit.take("one", now).is_news
    assert limit.take("one", now + timedelta(seconds=1)) is None


def test_budgets_that_are_whole_again_are_no_rows(settings):
    """The table has the callers of the last seconds."""
    limit, now = limits.Limit("x", "things", count=10, window_s=10), datetime.now(UTC)
    for number in range(5):
        limit.take(f"{number}", now)
    assert Budget.objects.count() == 5
    limit.take("late", now + timedelta(seconds=10))
    assert [row.key for row in Budget.objects.all()] == ["x:late"]


def test_a_database_that_takes_nothing_lets_reading_go_on():
    """The budget is counted in memory then, and still has an end."""
    limit = limits.Limit("x", "things", count=10, window_s=10)
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA query_only=ON")
        try:
            now = datetime.now(UTC)
            assert [limit.take("one", now) is None for _ in range(11)] == [True] * 10 + [False]
        finally:
            cursor.execute("PRAGMA query_only=OFF")


@pytest.mark.parametrize("path", ["/api/v1/auth/refresh", "/api/v1/auth/logout"])
def test_refresh_tokens_are_counted_by_account(client, path):
    """Also those that are shown a second time, each of which is a row of the audit."""
    pair = tokens.issue(client.user)
    spend(limits.TOKENS, limits.key_of(client.user))
    assert APIClient().post(path, {"refresh": pair.refresh}).status_code == 429
    answer = APIClient().post("/api/v1/auth/token", {"username": "carla", "password": "pw-of-a-test"})
    assert answer.status_code == 429
    assert client.get(LIST).status_code == 200
    Budget.objects.all().delete()
    limits.forget()
    assert APIClient().post(path, {"refresh": pair.refresh}).status_code in {200, 204}


def test_join_tokens_are_counted_by_account(client_of):
    """Sixty a minute, and bad requests are none."""
    operator = client_of(Role.DISPATCHER)
    assert operator.post("/api/v1/join-tokens", {}).status_code == 201
    assert spend(limits.JOIN_TOKENS, limits.key_of(operator.user)) <= 60
    assert operator.post("/api/v1/join-tokens", {"uses": 0}).status_code == 400
    assert operator.post("/api/v1/join-tokens", {}).status_code == 429


def test_refusals_do_not_fill_the_audit(client):
    """Of a client that asks for what it may not see sixty a minute are written down, and one that says so."""
    for _ in range(3):
        assert client.get("/api/v1/audit").status_code == 403
    spend(limits.DENIALS, limits.key_of(client.user))
    for _ in range(20):
        assert client.get("/api/v1/audit").status_code == 403
    assert len(events("permission_denied")) == 3
    assert [('"limit":"denial"' in details, "127.0.0.1" in details) for details in events("limit_reached")] == [
        (True, True)
    ]
