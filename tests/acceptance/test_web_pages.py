"""What people open in a browser, and what tools read: admin, browsable API, schema, tokens."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.cluster import ADMIN_PASSWORD, Cluster
from tests.support.programs import clean_environment, manage

CSRF = re.compile(r'name="csrfmiddlewaretoken" value="([^"]+)"')


class Browser:
    """A browser as far as cookies, forms and redirects go."""

    def __init__(self, url: str) -> None:
        self.http = httpx.Client(
            base_url=url,
            follow_redirects=True,
            timeout=30,
            headers={"Accept": "text/html", "Referer": url},
            trust_env=False,
        )

    def page(self, path: str, status: int = 200) -> str:
        answer = self.http.get(path)
        assert answer.status_code == status, f"{path}: {answer.status_code}\n{answer.text[:2000]}"
        return answer.text

    def send_form(self, path: str, **fields: str) -> httpx.Response:
        """Open a page with a form, fill in its fields and send it."""
        token = CSRF.search(self.page(path))
        assert token is not None, f"no form at {path}"
        return self.http.post(path, data={"csrfmiddlewaretoken": token[1], **fields})


@pytest.fixture
def browser(cluster: Cluster) -> Iterator[Browser]:
    """A browser on the cluster, not signed in."""
    browser = Browser(cluster.url)
    yield browser
    browser.http.close()


def test_every_admin_list_opens_searches_and_shows_its_rows(cluster: Cluster, browser: Browser) -> None:
    """After the login every list of the admin works, with search, and tasks, workers and audit rows open."""
    cluster.start_worker("alpha")
    task_id = cluster.api.submit("echo seen in the admin", name="an admin's task")
    cluster.wait_ended(task_id)
    assert "Log in" in browser.page("/admin/")
    answer = browser.send_form("/login/?next=/admin/", username="admin", password=ADMIN_PASSWORD)
    assert answer.status_code == 200
    lists = set(re.findall(r'href="(/admin/[a-z_]+/[a-z_]+/)"', browser.page("/admin/")))
    for wanted in ("task", "result", "worker", "jointoken", "auditentry", "user"):
        assert any(link.endswith(f"/{wanted}/") for link in lists), f"{wanted} is missing in {sorted(lists)}"
    for link in sorted(lists):
        shown = browser.page(link)
        browser.page(f"{link}?q=x")
        rows = re.findall(rf'href="({re.escape(link)}[^"/?]+/change/)[^"]*"', shown)
        if rows:
            browser.page(rows[0])
    assert "an admin&#x27;s task" in browser.page("/admin/tasks_app/task/")
    assert "seen in the admin" in browser.page(f"/admin/tasks_app/task/{task_id}/change/")


def test_an_admin_action_does_what_rest_does(cluster: Cluster, browser: Browser) -> None:
    """Cancelling a queued task from the admin's list cancels it, with an audit row in the admin's name."""
    task_id = cluster.api.submit("echo never")
    browser.send_form("/login/?next=/admin/", username="admin", password=ADMIN_PASSWORD)
    actions = re.findall(r'<option value="([a-z_]*cancel[a-z_]*)"', browser.page("/admin/tasks_app/task/"))
    assert actions
    browser.send_form("/admin/tasks_app/task/", action=actions[0], _selected_action=task_id)
    assert cluster.api.task(task_id)["status"] == "cancelled"
    assert cluster.rows("SELECT actor FROM audit_log WHERE event_type = 'task_cancelled'") == [("admin",)]


def test_the_browsable_api_works_after_a_session_login(cluster: Cluster, browser: Browser) -> None:
    """A person signs in once and reads the API as pages, with a form to submit a task."""
    cluster.api.submit("echo for the page", name="browsable")
    assert browser.http.get("/api/v1/tasks").status_code in {401, 403}
    browser.send_form("/login/", username="admin", password=ADMIN_PASSWORD)
    shown = browser.page("/api/v1/tasks")
    assert "browsable" in shown
    assert "text/html" in browser.http.get("/api/v1/tasks").headers["content-type"]
    for path in ("/api/v1/workers", "/api/v1/audit", "/api/v1/stats"):
        browser.page(path)


def test_the_schema_is_openapi_3_1_and_the_docs_page_opens(cluster: Cluster, browser: Browser) -> None:
    """Anyone signed in gets the schema with every route of the contract; nobody else does."""
    assert httpx.get(f"{cluster.url}/api/v1/schema", trust_env=False).status_code == 401
    answer = cluster.api.http.get("/api/v1/schema", params={"format": "json"})
    assert answer.status_code == 200
    schema = answer.json()
    assert schema["openapi"].startswith("3.1")
    for path in ("tasks", "tasks/{id}", "tasks/{id}/cancel", "workers", "join-tokens", "audit", "stats", "auth/token"):
        assert f"/api/v1/{path}" in schema["paths"], sorted(schema["paths"])
    browser.send_form("/login/", username="admin", password=ADMIN_PASSWORD)
    browser.page("/api/v1/docs")


def test_the_schema_is_valid_and_complete(tmp_path: Path) -> None:
    """Every view describes itself well enough that the generator has nothing to guess or leave out."""
    arguments = ["spectacular", "--fail-on-warn", "--validate", "--file", str(tmp_path / "schema.yml")]
    path = str(tmp_path / "octaskly.db")
    done = manage(*arguments, environment=clean_environment(tmp_path, OCTASKLY_DB_PATH=path))
    assert (done.returncode, done.stderr) == (0, "")


def test_refresh_tokens_rotate_and_logout_ends_them(cluster: Cluster) -> None:
    """Each refresh gives a new pair and uses up the old one; a logged-out refresh token is worth nothing."""
    http = httpx.Client(base_url=f"{cluster.url}/api/v1/auth", trust_env=False)
    first = http.post("/token", json={"username": "admin", "password": ADMIN_PASSWORD}).json()
    second = http.post("/refresh", json={"refresh": first["refresh"]})
    assert second.status_code == 200
    assert second.json()["refresh"] != first["refresh"]
    assert http.post("/refresh", json={"refresh": first["refresh"]}).status_code == 401
    bearer = {"Authorization": f"Bearer {second.json()['access']}"}
    assert httpx.get(f"{cluster.url}/api/v1/tasks", headers=bearer, trust_env=False).status_code == 200
    assert http.post("/logout", json={"refresh": second.json()["refresh"]}, headers=bearer).is_success
    refused = http.post("/refresh", json={"refresh": second.json()["refresh"]})
    assert refused.status_code == 401
    assert refused.headers["content-type"].startswith("application/problem+json")
    http.close()


def test_health_needs_no_login_and_everything_else_does(cluster: Cluster) -> None:
    """/health tells status, version and age to anyone; without a token the rest is a 401 problem."""
    health = httpx.get(f"{cluster.url}/health", trust_env=False)
    assert (health.status_code, health.json()["status"]) == (200, "ok")
    assert health.json()["version"]
    assert health.json()["uptime_seconds"] >= 0
    for path in ("tasks", "workers", "audit", "stats", "schema", "tasks/x", "nothing-here"):
        answer = httpx.get(f"{cluster.url}/api/v1/{path}", trust_env=False)
        assert answer.status_code in ({401} if path != "nothing-here" else {401, 404}), path
    assert httpx.get(f"{cluster.url}/health", headers={"Host": "evil.example"}, trust_env=False).status_code == 400
