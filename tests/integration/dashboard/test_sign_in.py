"""The one sign-in of all pages, and the pages that say no."""

from __future__ import annotations

import pytest
from django.core.exceptions import PermissionDenied
from django.test import Client, RequestFactory
from django.urls import get_resolver

from accounts_app.lockout import MAX_FAILURES
from accounts_app.roles import Role

pytestmark = pytest.mark.django_db


def sign_in(client, password):
    """Return the page after a try."""
    return client.post("/login/", {"username": "root", "password": password}).content.decode()


def test_a_locked_account_is_told_so(client, admin_user):
    """After too many failures even the right password is refused, and the page says for how long."""
    assert "Wrong user name or password" in sign_in(client, "wrong")
    for _ in range(MAX_FAILURES - 1):
        locked = sign_in(client, "wrong")
    for page in (locked, sign_in(client, "pw-of-a-test")):
        assert "Too many failed sign-ins. Try again in 15 minutes." in page
        assert "Wrong user name" not in page


@pytest.mark.parametrize(
    ("asked", "target"),
    [
        ("/admin/tasks_app/task/?q=x", "/login/?next=/admin/tasks_app/task/%3Fq%3Dx"),
        ("/admin/login/", "/login/?next=/admin/"),
        ("/api/v1/session/login/?next=/api/v1/tasks", "/login/?next=/api/v1/tasks"),
    ],
)
def test_all_sign_ins_lead_to_one_page(client, asked, target):
    """The admin's and the browsable API's go to ours, and the address that was asked for comes along."""
    answer = client.get(asked, follow=True)
    assert answer.redirect_chain[-1][0] == target
    assert b'name="password"' in answer.content


def test_the_admin_begins_with_the_dashboard(client, admin_user):
    """Its first page is the dashboard with the tables below; other pages have our bar."""
    client.force_login(admin_user)
    index = client.get("/admin/").content.decode()
    for words in ("Run a command", 'id="first-look"', "/admin/auth/user/", "/admin/workers_app/worker/"):
        assert words in index
    assert "Run a command" in client.get("/").content.decode()
    for path in ("/admin/auth/user/", "/admin/password_change/", "/admin/tasks_app/"):
        page = client.get(path).content.decode()
        assert 'class="topbar"' in page
        assert "dashboard/css/admin.css" in page


def test_who_is_signed_in_but_may_not_gets_a_page_that_says_so(client, user_of):
    """No loop through the sign-in: 403 in our look for pages of operators and of the admin."""
    client.force_login(user_of(Role.CLIENT))
    for path in ("/workers/", "/audit/", "/admin/"):
        answer = client.get(path, follow=True)
        assert answer.status_code == 403
        assert "You may not open this" in answer.content.decode()
        assert answer["Content-Type"].startswith("text/html")


def test_errors_are_pages_for_people_and_problems_for_programs(client, user_of):
    """By the address: below /api/ JSON, elsewhere a page that shows nothing of the inside."""
    client.force_login(user_of(Role.CLIENT))
    page = client.get("/nothing-<b>here")
    assert (page.status_code, "There is nothing here" in page.content.decode()) == (404, True)
    request = RequestFactory().get("/tasks/")
    request.user = user_of(Role.DISPATCHER)
    answer_to = get_resolver().resolve_error_handler
    for answer, words in (
        (answer_to(500)(request), "The server failed"),
        (answer_to(400)(request, ValueError("secret")), "cannot be read"),
    ):
        assert words in answer.content.decode()
        assert "secret" not in answer.content.decode()
    refusal = answer_to(403)(RequestFactory().get("/api/v1/x"), PermissionDenied())
    assert (refusal.status_code, refusal["Content-Type"]) == (403, "application/problem+json")


def test_an_expired_form_says_what_to_do():
    """A form without its token is refused with a page that people understand."""
    answer = Client(enforce_csrf_checks=True).post("/login/", {"username": "x", "password": "y"})
    assert (answer.status_code, "This form has expired" in answer.content.decode()) == (403, True)
