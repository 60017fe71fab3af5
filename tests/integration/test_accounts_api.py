"""Sign-in, rotation, sign-out, lockout."""

from __future__ import annotations

import jwt
import pytest
from django.contrib.auth.models import Group, User
from rest_framework.test import APIClient

from accounts_app.bootstrap import ensure_first_admin
from accounts_app.roles import Role, is_operator, roles_of
from audit_app.models import AuditEntry

pytestmark = pytest.mark.django_db
TOKEN, REFRESH, LOGOUT = "/api/v1/auth/token", "/api/v1/auth/refresh", "/api/v1/auth/logout"


@pytest.fixture
def api():
    """Return a REST client that nobody is signed in to."""
    return APIClient()


@pytest.fixture
def pair(api, user_of):
    """Return a token pair of a client user."""
    user_of(Role.CLIENT, "carla")
    answer = api.post(TOKEN, {"username": "carla", "password": "pw-of-a-test"})
    assert answer.status_code == 200
    return answer.json()


def events():
    """Return the audit trail's event types, oldest first."""
    return list(AuditEntry.objects.order_by("id").values_list("event_type", flat=True))


def status_with(api, access):
    """Return the status of a request with this access token."""
    return api.get("/api/v1/tasks", HTTP_AUTHORIZATION=f"Bearer {access}").status_code


def test_token_opens_the_api(api, pair):
    """The access token is HS256, lives 15 minutes, and lets the user in."""
    assert status_with(api, pair["access"]) == 200
    claims = jwt.decode(pair["access"], options={"verify_signature": False})
    assert jwt.get_unverified_header(pair["access"])["alg"] == "HS256"
    assert claims["exp"] - claims["iat"] == 15 * 60
    assert "login_succeeded" in events()


def test_refresh_rotates_and_a_used_token_is_dead(api, pair):
    """Each refresh token serves once; its second use is refused and ends the sign-in."""
    fresh = api.post(REFRESH, {"refresh": pair["refresh"]})
    assert fresh.status_code == 200
    assert status_with(api, fresh.json()["access"]) == 200
    assert api.post(REFRESH, {"refresh": pair["refresh"]}).status_code == 401
    assert api.post(REFRESH, {"refresh": fresh.json()["refresh"]}).status_code == 401
    assert "token_reused" in events()


def test_logout_ends_the_refresh_token(api, pair):
    """After sign-out it gives no more access."""
    assert api.post(LOGOUT, {"refresh": pair["refresh"]}).status_code == 204
    assert api.post(REFRESH, {"refresh": pair["refresh"]}).status_code == 401
    assert "logged_out" in events()


def test_wrong_password_is_refused_counted_and_locked_out(api, user_of):
    """The sixth try within a quarter of an hour is told to wait, even with the right password."""
    user_of(Role.CLIENT, "carla")
    for _ in range(5):
        assert api.post(TOKEN, {"username": "carla", "password": "wrong"}).status_code == 401
    locked = api.post(TOKEN, {"username": "carla", "password": "pw-of-a-test"})
    assert locked.status_code == 429
    assert int(locked["Retry-After"]) > 0
    elsewhere = api.post(TOKEN, {"username": "carla", "password": "pw-of-a-test"}, REMOTE_ADDR="10.0.0.9")
    assert elsewhere.status_code == 200
    assert events().count("login_failed") == 5


@pytest.mark.parametrize("body", [{}, {"username": "x"}, {"password": "x"}])
def test_missing_credentials_are_named(api, body):
    """The problem says which field is missing."""
    answer = api.post(TOKEN, body)
    assert answer.status_code == 400
    assert {error["field"] for error in answer.json()["errors"]} == {"username", "password"} - set(body)


def test_first_admin_is_made_once():
    """A made-up password is given once; later starts change nothing."""
    name, password = ensure_first_admin(None)
    assert name == "admin"
    assert password
    assert User.objects.get(username="admin").check_password(password)
    assert ensure_first_admin("another password") == ("admin", None)
    assert User.objects.get(username="admin").check_password(password)
    assert is_operator(User.objects.get(username="admin"))


def test_the_four_roles_are_groups(user_of):
    """Made by the migrations; a user's roles are read from them."""
    assert set(Group.objects.values_list("name", flat=True)) >= {"Admin", "Dispatcher", "Worker", "Client"}
    assert roles_of(user_of(Role.WORKER)) == {Role.WORKER}


def test_denied_request_is_audited(client_of):
    """Somebody who asks for more than the role allows leaves a trace."""
    assert client_of(Role.CLIENT).get("/api/v1/audit").status_code == 403
    entry = AuditEntry.objects.get(event_type="permission_denied")
    assert entry.actor == "client"
    assert "/api/v1/audit" in entry.details
