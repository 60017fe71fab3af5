"""Every page says the Content-Security-Policy and keeps it: looked for in the URLconf, so that no page is left out."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser

import pytest
from django.contrib import admin
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, reverse
from django.utils.regex_helper import normalize

from accounts_app.roles import Role
from audit_app.trail import AuditEvent, record
from tasks_app import services
from tasks_app.models import Blob, File, Result, Task, TaskOutput
from tasks_app.submission import TaskSpec
from workers_app.models import JoinToken, Worker

pytestmark = pytest.mark.django_db

POLICY = {
    "default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self' data:", "font-src 'self'",
    "connect-src 'self'", "form-action 'self'", "frame-ancestors 'none'", "base-uri 'none'",
}  # fmt: skip
HERE = "http://testserver/"
ADDRESSES = {"src", "href", "action", "formaction", "poster", "srcset", "data"}


class Objections(HTMLParser):
    """Notes what the policy forbids a page to have."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "style" or (tag == "script" and "src" not in given and given.get("type") != "application/json"):
            self.found.append(f"<{tag}> on line {self.getpos()[0]}")
        for name, value in given.items():
            leads_out = value.removeprefix(HERE).startswith(("http:", "https:", "//", "javascript:"))
            if name == "style" or name.startswith("on") or (name in ADDRESSES and leads_out):
                self.found.append(f"<{tag} {name}={value[:60]!r}>")


def objections(answer) -> list[str]:
    """Return what is wrong with an answer that is a page."""
    parser = Objections()
    parser.feed(answer.content.decode())
    said = set(answer.get("Content-Security-Policy", "").split("; "))
    wrong = [] if said == POLICY else [f"policy: {said ^ POLICY}"]
    for header in ("Permissions-Policy", "Referrer-Policy", "Cross-Origin-Opener-Policy"):
        wrong += [] if header in answer else [f"no {header}"]
    return wrong + parser.found


@pytest.fixture
def browser(user_of):
    """Return the session of an administrator on a site with one row of each thing."""
    user = user_of(Role.ADMIN, "root")
    user.is_staff = user.is_superuser = True
    user.save()
    now = datetime.now(UTC)
    digest = "ab" * 32
    Worker.objects.create(
        id="w1", name="pc-07", public_key_sha256="k", created_at=now, slots=2, admission="approved",
        levels=[{"level": "strict", "backend": "namespaces", "gaps": ["a gap"]}],
    )  # fmt: skip
    (task,) = services.submit(user, [TaskSpec(command="echo '<b style=x>'")], now)
    result = Result.objects.create(
        attempt_id=f"{task.id}.1", task_id=task.id, attempt=1, worker_id="w1", state="ended", outcome="completed",
        assigned_at=now,
    )  # fmt: skip
    blob = Blob.objects.create(sha256=digest, size_bytes=1, created_at=now, used_at=now)
    File.objects.create(owner=user, name="data.csv", blob=blob, created_at=now, used_at=now)
    TaskOutput.objects.create(result=result, name="out", sha256=digest, size_bytes=1, blob=blob, created_at=now)
    JoinToken.objects.create(
        token_id="t1", secret_sha256="s", created_at=now, expires_at=now + timedelta(1), created_by=user
    )
    record(AuditEvent("task_submitted", "root", "w1", task.id), at=now)
    browser = Client()
    browser.force_login(user)
    return browser


def routes(resolver: URLResolver, before: str = "") -> Iterator[str]:
    """Yield the addresses of a URLconf, with %(name)s for what varies; the admin's are left to `admin_pages`."""
    for entry in resolver.url_patterns:
        route = before + entry.pattern.regex.pattern.removeprefix("^").replace(r"\Z", "").removesuffix("$")
        if isinstance(entry, URLPattern):
            yield "/" + normalize(route)[0][0]
        elif entry.namespace != "admin":
            yield from routes(entry, route)


def plain_pages() -> Iterator[str]:
    """Yield the address of every route outside the admin."""
    task, worker = Task.objects.get().pk, Worker.objects.get().pk
    for route in routes(get_resolver()):
        found = {"pk": worker if "workers" in route else task, "name": "data.csv", "page": "tasks"}
        yield route % found


def admin_pages() -> Iterator[str]:
    """Yield the admin's pages: of each table the list, a search, the form, and of its first row the form and history."""
    yield reverse("admin:index")
    yield from (reverse("admin:app_list", args=[app]) for app in ("tasks_app", "workers_app", "auth"))
    yield reverse("admin:password_change")
    for model in admin.site._registry:
        base = f"admin:{model._meta.app_label}_{model._meta.model_name}"
        yield reverse(f"{base}_changelist")
        yield reverse(f"{base}_changelist") + "?q=x"
        yield reverse(f"{base}_add")
        if (row := model.objects.first()) is not None:
            yield from (reverse(f"{base}_{page}", args=[row.pk]) for page in ("change", "delete", "history"))


@pytest.mark.parametrize(
    ("pages", "known"),
    [
        (plain_pages, {"/", "/tasks/", "/workers/", "/audit/", "/api/v1/tasks", "/api/v1/stats"}),
        (admin_pages, {"/admin/", "/admin/tasks_app/task/", "/admin/audit_app/auditentry/"}),
    ],
)
def test_every_page_keeps_the_policy_that_it_says(browser, pages, known):
    """No page has a script, a style or a handler within itself, or takes anything from outside."""
    wrong, seen = {}, set()
    for path in pages():
        answer = browser.get(path, headers={"Accept": "text/html"})
        assert answer.status_code != 500, path
        if answer["Content-Type"].startswith("text/html") and not answer.has_header("Location"):
            seen.add(path)
            if found := objections(answer):
                wrong[path] = found
    assert wrong == {}
    assert known <= seen


def test_error_pages_keep_it_too(browser, settings):
    """Unknown, forbidden, without the form's token: whoever is sent away gets a page under the same policy."""
    strict = Client(enforce_csrf_checks=True)
    answers = [browser.get("/nothing-here"), strict.post("/login/", {"username": "x"}), Client().get("/login/")]
    assert [answer.status_code for answer in answers] == [404, 403, 200]
    assert [objections(answer) for answer in answers] == [[], [], []]
