"""Whoever watches sees what happens in the cluster, as far as the role allows, and not more often than is good."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from websockets.exceptions import InvalidStatus

from tests.support.api import Api
from tests.support.cluster import ADMIN_PASSWORD, Cluster
from tests.support.events import events_reader
from tests.support.started_cluster import started_cluster

ADD_USERS = f"""
from django.contrib.auth.models import Group, User
for name, role in (("carol", "Client"), ("walter", "Worker")):
    user = User.objects.create_user(name, password={ADMIN_PASSWORD!r})
    user.groups.add(Group.objects.get(name=role))
"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One dispatcher with a worker for all of them."""
    with started_cluster(tmp_path_factory.mktemp("events")) as cluster:
        cluster.start_worker("alpha")
        cluster.manage("shell", "-c", ADD_USERS)
        cluster.wait_connected("alpha")
        yield cluster


def test_an_operator_sees_the_cluster_and_a_task_through_its_life(shared: Cluster) -> None:
    """First everything there is, then the task that comes, runs and ends, with what the trail says of it."""
    with events_reader(shared.api) as reader:
        first = reader.next()
        assert (first["type"], first["is_full"]) == ("state", True)
        assert first.keys() >= {"version", "summary", "workers", "tasks", "events"}
        assert first["summary"]["workers"].items() >= {"active": 0, "idle": 1}.items()
        assert first["summary"]["slots"] == {"used": 0, "total": 4}
        assert first["summary"]["is_accepting"]
        card = reader.worker_named("alpha")
        assert (card["status"], card["slots"], card["slots_used"]) == ("connected", 4, 0)

        task_id = shared.api.submit("sleep 1; exit 3", name="short")
        reader.until(lambda: reader.tasks.get(task_id, {}).get("status") == "running", "it runs")
        row = reader.tasks[task_id]
        assert (row["name"], row["owner"], row["worker_name"]) == ("short", "admin", "alpha")
        reader.until(lambda: reader.worker_named("alpha")["slots_used"] == 1, "its slot is used")
        reader.until(lambda: reader.tasks[task_id]["status"] == "failed", "it has ended")
        assert reader.tasks[task_id]["exit_code"] == 3
        reader.until(lambda: reader.summary["slots"]["used"] == 0, "its slot is free")
        told = [event["event_type"] for event in reader.events if event["task_id"] == task_id]
        assert told == ["task_submitted", "task_started", "task_finished"]
        assert all(event["text"] and event["at"] for event in reader.events)
        assert not any(frame["is_full"] for frame in reader.frames[1:])


def test_a_client_sees_nothing_of_others(shared: Cluster) -> None:
    """Its own tasks and their counts; a task of somebody else makes no difference to what it gets."""
    carol = Api(shared.url).login("carol", ADMIN_PASSWORD)
    try:
        with events_reader(carol) as reader:
            foreign = shared.api.submit("true")
            shared.wait_ended(foreign)
            own = carol.submit("true")
            reader.until(lambda: reader.tasks.get(own, {}).get("status") == "completed", "the own task has ended")
        text = repr(reader.frames)
        assert foreign not in text
        for frame in reader.frames:
            assert frame.keys() <= {"type", "version", "is_full", "summary", "tasks"}
            assert frame.get("summary", {}).keys() <= {"tasks", "is_accepting", "read_only_reason"}
            assert frame.get("tasks", {}).keys() <= {own}
        assert reader.summary["tasks"] == {"queued": 0, "running": 0, "completed": 1, "failed": 0, "cancelled": 0}
    finally:
        carol.close()


def test_two_hundred_tasks_make_two_frames_a_second(shared: Cluster) -> None:
    """However much happens meanwhile; at the end everything has been told."""
    with events_reader(shared.api) as reader:
        reader.next()
        before = reader.summary["tasks"]["completed"]
        shared.api.post("tasks", [{"command": "true"}] * 200)
        reader.until(lambda: reader.summary["tasks"]["completed"] >= before + 200, "all have ended")
        assert reader.summary["tasks"]["completed"] == before + 200
        assert len(reader.times_s) <= 2 + 2 * (reader.times_s[-1] - reader.times_s[0])


def test_who_may_not_look_is_refused_or_cut(shared: Cluster) -> None:
    """Pages of others, strangers and other roles are refused; with the sign-out the connection ends."""
    with httpx.Client(base_url=shared.url, trust_env=False, headers={"Referer": shared.url}) as browser:
        browser.get("/login/")
        form = {"username": "carol", "password": ADMIN_PASSWORD}
        browser.post("/login/", data=form | _token_of(browser))
        cookie = {"additional_headers": {"Cookie": f"sessionid={browser.cookies['sessionid']}"}}
        with pytest.raises(InvalidStatus), events_reader(shared.api, origin="http://evil.example", **cookie):
            pass
        with events_reader(shared.api, **cookie) as reader:
            assert (reader.next()["status"], reader.close_code()) == (401, 4401)
        with events_reader(shared.api, origin=shared.url, **cookie) as reader:
            assert reader.next()["is_full"]
            browser.post("/logout/", data=_token_of(browser))
            assert reader.close_code() == 4401
    walter = Api(shared.url).login("walter", ADMIN_PASSWORD)
    with events_reader(walter) as reader:
        assert (reader.next()["status"], reader.close_code()) == (403, 4403)
    walter.close()


def test_a_worker_that_dies_is_seen(shared: Cluster) -> None:
    """As disconnected, as soon as its link is gone, and it does not count any more."""
    beta = shared.start_worker("beta")
    with events_reader(shared.api) as reader:
        reader.until(lambda: reader.worker_named("beta").get("status") == "connected", "it is connected")
        beta.kill()
        reader.until(lambda: reader.worker_named("beta")["status"] == "disconnected", "it is gone")
        reader.until(lambda: reader.summary["slots"]["total"] == 4, "its slots do not count any more")


def _token_of(browser: httpx.Client) -> dict[str, str]:
    """Return the field that forms carry against forgery."""
    return {"csrfmiddlewaretoken": browser.cookies["csrftoken"]}
