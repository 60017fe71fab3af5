"""What operators do and read on the pages: workers, the audit and its export; and what clients do not."""

from __future__ import annotations

import csv
from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Viewer
from tests.support.cluster import ADMIN_PASSWORD, Cluster

CLIENT = ("carol", "carols own words")
MAKE_CLIENT = """
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
user = get_user_model().objects.create_user("carol", password="carols own words")
user.groups.add(Group.objects.get(name="Client"))
"""


@pytest.fixture(scope="module", autouse=True)
def people_and_worker(cluster: Cluster) -> None:
    """A worker, and a user who is a client."""
    cluster.start_worker("alpha")
    done = cluster.manage("shell", "-c", MAKE_CLIENT)
    assert done.returncode == 0, done.stderr
    cluster.wait_connected("alpha")


def test_a_worker_is_drained_and_resumed_on_its_page(viewer: Viewer, cluster: Cluster) -> None:
    """The state follows the buttons, which change with it; suspending asks for a reason first."""
    worker = cluster.api.worker_named("alpha")
    page = viewer.sign_in(path=f"/workers/{worker['id']}/")
    state = page.locator("#worker-status")
    expect(state).to_have_text("connected")
    page.get_by_role("button", name="Drain").click()
    expect(state).to_have_text("draining")
    page.get_by_role("button", name="Resume").click()
    expect(state).to_have_text("connected")
    page.get_by_role("button", name="Suspend…").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Reason").fill("moves to another room")
    dialog.get_by_role("button", name="Suspend").click()
    expect(state).to_have_text("suspended")
    expect(page.locator("#worker-head")).to_contain_text("moves to another room")
    page.get_by_role("button", name="Approve").click()
    expect(state).to_have_text("connected")
    expect(page.get_by_role("heading", name="CPU")).to_be_visible()
    viewer.picture("worker")


def test_the_audit_tells_a_tasks_story_and_exports_it(viewer: Viewer, cluster: Cluster) -> None:
    """From the trail to the story of one task, oldest first, and the same rows as a table for elsewhere."""
    task_id = cluster.api.submit("exit 3", name="=cmd()")
    cluster.wait_ended(task_id)
    page = viewer.sign_in(path="/audit/")
    page.get_by_role("link", name="Story of the task =cmd()").first.click()
    page.wait_for_url(lambda url: task_id in url)
    story = page.get_by_role("region", name="Story").get_by_role("listitem")
    expect(story.first).to_contain_text("submitted")
    expect(story.last).to_contain_text("exit code 3")
    viewer.picture("audit-story")
    with page.expect_download() as download:
        page.get_by_role("link", name="Export CSV").click()
    path = download.value.path()
    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    assert download.value.suggested_filename.endswith(".csv")
    assert {row["task_id"] for row in rows} == {task_id}
    assert len(rows) == story.count()
    assert not [cell for row in rows for cell in row.values() if cell and cell.startswith(("=", "+", "@"))]


def test_a_client_sees_its_own_tasks_and_nothing_of_the_cluster(viewer: Viewer, cluster: Cluster) -> None:
    """No workers, no events, no audit; another's task does not exist; its own command runs."""
    theirs = cluster.api.submit("true", name="not carols")
    page = viewer.sign_in(*CLIENT)
    expect(page.get_by_role("heading", level=1)).to_have_text("My tasks")
    navigation = page.get_by_role("navigation", name="Pages")
    assert navigation.get_by_role("link").all_text_contents() == ["Dashboard", "Tasks", "API"]
    page.get_by_role("textbox", name="Command", exact=True).fill("echo carol was here")
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.get_by_role("region", name="Output of the command")).to_contain_text("carol was here")
    page.goto("/tasks/")
    expect(page.get_by_role("row").filter(has_text="carol was here")).to_have_count(1)
    expect(page.get_by_text("not carols")).to_have_count(0)
    with viewer.watch.expecting("404", "403"):
        for path, status in ((f"/tasks/{theirs}/", 404), ("/workers/", 403), ("/audit/", 403)):
            answer = page.goto(path)
            assert answer is not None
            assert answer.status == status
            expect(page.get_by_role("heading", level=1)).to_be_visible()
    viewer.picture("refused")


def test_signing_out_ends_what_the_browser_may(viewer: Viewer) -> None:
    """After it every page asks for the password, and a wrong one is said to be wrong."""
    page = viewer.sign_in(path="/workers/")
    expect(page.get_by_role("heading", level=1)).to_have_text("Workers")
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Log in")
    page.goto("/workers/")
    page.wait_for_url("**/login/?next=/workers/")
    page.get_by_label("User name").fill("admin")
    page.get_by_label("Password").fill(ADMIN_PASSWORD + " not")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("alert")).to_be_visible()


def test_a_page_comes_back_with_its_dispatcher(new_viewer: Callable[..., Viewer], cluster: Cluster) -> None:
    """While the dispatcher is away the page says so; afterwards it goes on by itself, with what has happened since."""
    viewer = new_viewer()
    page = viewer.sign_in()
    sign = page.locator("#live-state")
    expect(sign).to_have_text("Live")
    page.evaluate("() => { window.wasNotReloaded = true; }")
    assert cluster.dispatcher is not None
    with viewer.watch.expecting("WebSocket", "ERR_CONNECTION_REFUSED"):
        cluster.dispatcher.stop()
        expect(sign).to_contain_text("Not connected")
        viewer.picture("not-connected")
        cluster.start_dispatcher()
        cluster.wait_connected("alpha")
        expect(sign).to_have_text("Live")
    cluster.api.submit("true", name="after the pause")
    row = page.get_by_role("region", name="Ended last").get_by_role("row").filter(has_text="after the pause")
    expect(row).to_contain_text("completed")
    assert page.evaluate("() => window.wasNotReloaded") is True
