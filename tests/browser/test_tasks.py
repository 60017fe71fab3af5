"""Tasks on the pages: cancelled, retried, waiting with a reason, moved from a machine that died."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Viewer
from tests.support.cluster import Cluster
from tests.support.programs import new_mark, sleepers, wake
from tests.support.wait import wait_until


@pytest.fixture(scope="module", autouse=True)
def worker(cluster: Cluster) -> None:
    """One worker for the tests of this file."""
    cluster.start_worker("alpha")
    cluster.wait_connected("alpha")


def test_a_running_task_is_cancelled_from_the_dashboard(viewer: Viewer, cluster: Cluster) -> None:
    """The button in its row ends it, and the row goes to those that ended, without a reload."""
    cluster.wait_status(cluster.api.submit("sleep 600", name="endless"), "running")
    page = viewer.sign_in()
    running = page.get_by_role("region", name="Running and next")
    row = running.get_by_role("row").filter(has_text="endless")
    expect(row).to_contain_text("runs")
    row.get_by_role("button", name="Cancel endless").click()
    expect(row).to_have_count(0)
    ended = page.get_by_role("region", name="Ended last").get_by_role("row").filter(has_text="endless")
    expect(ended).to_contain_text("cancelled")


def test_a_failed_task_says_why_and_is_retried(viewer: Viewer, cluster: Cluster) -> None:
    """Its page names the exit code; Retry makes a second attempt, whose output replaces the first one's."""
    mark = new_mark()
    task_id = cluster.api.submit(f"echo first >&2; sleep {mark}; exit 3", name="flaky")
    wait_until(lambda: wake(mark), "the first attempt waits", describe=cluster.describe)
    cluster.wait_ended(task_id)
    page = viewer.sign_in(path=f"/tasks/{task_id}/")
    expect(page.get_by_role("heading", level=1)).to_have_text("flaky")
    expect(page.locator("#task-head")).to_contain_text("xit code 3")
    page.get_by_role("button", name="Retry").click()
    expect(page.locator("#task-status")).to_have_text("running")
    attempts = page.get_by_role("region", name="Attempts").get_by_role("row")
    expect(attempts).to_have_count(3)
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#task-status")).to_have_text("cancelled")
    viewer.picture("task-retried")


def test_an_impossible_task_is_warned_of_and_explained(viewer: Viewer, cluster: Cluster) -> None:
    """The answer to the form says that no worker can run it; its page says why for the worker, and cancels it."""
    page = viewer.sign_in()
    page.get_by_role("textbox", name="Command", exact=True).fill("true")
    page.get_by_text("Options").click()
    page.get_by_label("Memory in MiB").fill("10000000")
    page.get_by_label("Name").fill("huge")
    page.get_by_role("button", name="Run", exact=True).click()
    answer = page.get_by_role("status").filter(has_text="Submitted")
    expect(answer).to_contain_text("memory")
    viewer.picture("warning")
    answer.get_by_role("link").click()
    why = page.get_by_role("region", name="Why it waits")
    expect(why).to_contain_text("alpha")
    expect(why).to_contain_text("GB of memory")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#task-status")).to_have_text("cancelled")
    expect(why).to_be_hidden()


def test_the_list_filters_and_cancels_what_is_chosen(viewer: Viewer, cluster: Cluster) -> None:
    """A filter stands in the address; chosen tasks are cancelled together, and the rows change on the page."""
    for name in ("batch one", "batch two"):
        cluster.wait_status(cluster.api.submit("sleep 600", name=name), "running")
    cluster.wait_ended(cluster.api.submit("true", name="other"))
    page = viewer.sign_in(path="/tasks/")
    page.get_by_role("searchbox").fill("batch")
    page.get_by_role("button", name="Filter").click()
    page.wait_for_url(lambda url: "batch" in url)
    rows = page.get_by_role("row").filter(has_text="batch")
    expect(rows).to_have_count(2)
    expect(page.get_by_role("row").filter(has_text="other")).to_have_count(0)
    for row in rows.all():
        row.get_by_role("checkbox").check()
    viewer.picture("task-list")
    page.get_by_role("button", name="Cancel selected").click()
    expect(rows.filter(has_text="cancelled")).to_have_count(2)


def test_a_killed_workers_task_is_seen_to_move(new_viewer: Callable[..., Viewer], cluster: Cluster) -> None:
    """The card of the dead machine turns red, and the task's page shows the second attempt, which completes."""
    cluster.start_worker("doomed", slots=1)
    cluster.wait_connected("doomed")
    doomed = cluster.api.worker_named("doomed")["id"]
    alpha = cluster.api.worker_named("alpha")["id"]
    cluster.api.post(f"workers/{alpha}/drain")
    mark = new_mark()
    task_id = cluster.api.submit(f"sleep {mark}; echo survived", name="long haul")
    wait_until(lambda: sleepers(mark), "it runs", describe=cluster.describe)
    viewer, watcher = new_viewer(), new_viewer()
    page, task = viewer.sign_in(), watcher.sign_in(path=f"/tasks/{task_id}/")
    card = page.get_by_role("list", name="Workers").get_by_role("listitem").filter(has_text="doomed")
    expect(card).to_contain_text("connected")
    cluster.api.post(f"workers/{alpha}/resume")

    cluster.workers["doomed"].kill()

    expect(card.get_by_text("disconnected", exact=True)).to_be_visible()
    viewer.picture("worker-lost")
    expect(task.get_by_role("region", name="Attempts").get_by_role("row")).to_have_count(3)
    expect(task.locator("#task-head")).to_contain_text("alpha")
    wait_until(lambda: wake(mark), "the second attempt waits", describe=cluster.describe)
    expect(task.locator("#task-status")).to_have_text("completed")
    expect(task.get_by_role("region", name="Output of the command")).to_contain_text("survived")
    watcher.picture("task-moved")
    cluster.api.post(f"workers/{doomed}/revoke")
