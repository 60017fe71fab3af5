"""Output is seen while the command runs, by readers of every kind, and the end of tasks is waited for."""

from __future__ import annotations

import threading
import time
from base64 import b64decode
from collections.abc import Iterator
from hashlib import sha256

import httpx
import psutil
import pytest
from websockets.exceptions import InvalidStatus

from octaskly_wire.vocabulary import Transport
from tests.support import transports
from tests.support.api import Api
from tests.support.cluster import ADMIN_PASSWORD, Cluster
from tests.support.counting_relay import counting_relay
from tests.support.events import events_reader
from tests.support.following import HttpReader, SocketReader, socket_reader
from tests.support.started_cluster import started_cluster
from tests.support.wait import wait_until

ENDLESS = "echo one; echo two >&2; sleep 600"
MEBIBYTE = 1 << 20


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One dispatcher with a worker, for all that break nothing."""
    with started_cluster(tmp_path_factory.mktemp("shared")) as cluster:
        cluster.start_worker("alpha")
        yield cluster


def follow(
    cluster: Cluster, task_id: str, stream: str = "stdout", query: str = "", *, keeps: bool = True
) -> HttpReader:
    """Follow a stream over HTTP."""
    return HttpReader(cluster.api, f"tasks/{task_id}/{stream}?follow=1{query}", keeps=keeps)


def test_readers_see_output_while_the_command_runs(shared: Cluster) -> None:
    """Two kinds of readers, and one that joins late and gets what was before; all end with the task."""
    task_id = shared.api.submit(ENDLESS)
    out, err = follow(shared, task_id), follow(shared, task_id, "stderr")
    with socket_reader(shared.api, task_id) as socket:
        out.wait_for(b"one\n")
        err.wait_for(b"two\n")
        socket.until("status", status="running", attempt=1)
        while not (socket.text_of("stdout") and socket.text_of("stderr")):
            socket.next()
        assert shared.api.task(task_id)["status"] == "running"
        late = follow(shared, task_id)
        late.wait_for(b"one\n")
        assert out.headers["content-type"] == "text/plain; charset=utf-8"
        assert out.headers["x-content-type-options"] == "nosniff"

        shared.api.post(f"tasks/{task_id}/cancel")

        assert [reader.finish() for reader in (out, err, late)] == [b"one\n", b"two\n", b"one\n"]
        end = socket.until("end")
        assert end == {"type": "end", "status": "cancelled", "exit_code": None, "failure_reason": "cancelled"}
        assert socket.close_code() == 1000
        assert (socket.text_of("stdout"), socket.text_of("stderr")) == ("one\n", "two\n")
    assert [reader.failure for reader in (out, err, late)] == ["", "", ""]


def test_a_queued_task_is_followed_from_its_start(cluster: Cluster) -> None:
    """The reader is told that the task waits, then all of its output, then how it ended."""
    task_id = cluster.api.submit("printf 'caf\\351 \\342\\202'; sleep 0.2; printf '\\254'; exit 3")
    reader = follow(cluster, task_id)
    with socket_reader(cluster.api, task_id) as text, socket_reader(cluster.api, task_id, "?encoding=base64") as exact:
        assert text.next() == {"type": "status", "status": "queued", "attempt": 0}
        cluster.start_worker("alpha")
        end = text.until("end")
        assert end == {"type": "end", "status": "failed", "exit_code": 3, "failure_reason": "exit_code"}
        assert text.text_of("stdout") == "caf\N{REPLACEMENT CHARACTER} €"
        exact.until("end")
        whole = b"".join(b64decode(frame["data"]) for frame in exact.frames if frame["type"] == "output")
        assert whole == reader.finish() == "caf\udce9 €".encode("utf-8", "surrogateescape")
    assert follow(cluster, task_id, query="&offset=5").finish() == "€".encode()


@pytest.mark.usefixtures("transport")
def test_another_attempt_is_followed_too(cluster: Cluster) -> None:
    """When the worker is killed the reader waits, and goes on with the next attempt, which a line announces."""
    worker = cluster.start_worker("alpha")
    task_id = cluster.api.submit(ENDLESS)
    reader = follow(cluster, task_id)
    with socket_reader(cluster.api, task_id) as socket:
        socket.until("output", stream="stdout", offset=0, data="one\n")
        reader.wait_for(b"one\n")
        worker.kill()
        cluster.start_worker("beta")
        reader.wait_for(b"one\n\n[... attempt 2 begins ...]\none\n")
        socket.until("status", status="running", attempt=2)
        socket.until("output", stream="stdout", offset=0, data="one\n")
        cluster.api.post(f"tasks/{task_id}/cancel")
        socket.until("end", status="cancelled")
    assert reader.finish() == b"one\n\n[... attempt 2 begins ...]\none\n"
    first = follow(cluster, task_id, query="&attempt=2")
    assert first.finish() == b"one\n"


def test_a_worker_that_is_back_is_read_on(cluster: Cluster) -> None:
    """Its link breaks while the command goes on: the reader gets every line once, as if nothing had been."""
    with counting_relay(cluster.port) as relay:
        cluster.start_worker("alpha", "--dispatcher-addr", f"127.0.0.1:{relay.port}")
        task_id = cluster.api.submit("for i in 0 1 2 3 4 5 6 7 8 9; do echo line $i; sleep 0.2; done")
        reader = follow(cluster, task_id)
        reader.wait_for(b"line 2\n")
        relay.cut()
        assert reader.finish() == b"".join(b"line %d\n" % number for number in range(10))
    assert [attempt["outcome"] for attempt in cluster.api.attempts(task_id)] == ["completed"]


@pytest.mark.usefixtures("transport")
def test_a_dispatcher_that_stops_ends_its_readers(cluster: Cluster) -> None:
    """Its readers end at once, without a proper end, and the next one has all of it."""
    cluster.start_worker("alpha")
    task_id = cluster.api.submit(ENDLESS)
    reader = follow(cluster, task_id)
    with socket_reader(cluster.api, task_id) as socket, events_reader(cluster.api) as events:
        socket.until("output", stream="stdout")
        reader.wait_for(b"one\n")
        events.next()
        assert cluster.dispatcher is not None
        began = time.monotonic()
        cluster.dispatcher.stop()
        assert time.monotonic() - began < 5
        assert (socket.close_code(), events.close_code()) == (1012, 1012)
    reader.finish()
    assert "incomplete" in reader.failure
    cluster.start_dispatcher()
    again = follow(cluster, task_id)
    again.wait_for(b"one\n")
    cluster.api.post(f"tasks/{task_id}/cancel")
    assert again.finish() == b"one\n"


def test_a_reader_that_is_slow_loses_nothing(shared: Cluster) -> None:
    """Of fifty megabytes that a command pours out at once, a reader that takes its time gets every byte."""
    task_id = shared.api.submit("seq 1 6500000; printf '\\377'; seq 1 300000 >&2")
    whole = b"".join(b"%d\n" % number for number in range(1, 6_500_001)) + b"\xff"
    errors = follow(shared, task_id, "stderr")
    with (
        httpx.Client(base_url=shared.url, headers=shared.api.http.headers, trust_env=False, timeout=60) as client,
        client.stream("GET", f"/api/v1/tasks/{task_id}/stdout?follow=1") as slow,
    ):
        task = shared.wait_status(task_id, "completed")
        assert sha256(b"".join(slow.iter_raw())).digest() == sha256(whole).digest()
    assert errors.finish() == b"".join(b"%d\n" % number for number in range(1, 300_001))
    assert follow(shared, task_id, query=f"&offset={len(whole) - 8}").finish() == b"6500000\n\xff"[-8:]
    assert shared.api.http.get(f"/api/v1/tasks/{task_id}/stdout").content == whole
    assert task["stdout"].startswith("1\n2\n3\n")
    assert f"\n[... {len(whole) - 65_536} bytes left out ...]\n" in task["stdout"]
    assert task["stdout_truncated"]
    [attempt] = shared.api.attempts(task_id)
    assert (attempt["stdout_bytes"], attempt["stdout_truncated"]) == (len(whole), False)


def test_who_may_not_see_a_task_may_not_follow_it(shared: Cluster) -> None:
    """Refusals are those of the other routes; a WebSocket says them in a frame and in its close code."""
    shared.manage("shell", "-c", _ADD_CLIENT)
    task_id = shared.api.submit("echo secret")
    stranger = Api(shared.url)
    path = f"/api/v1/tasks/{task_id}/stdout?follow=1"
    try:
        answer = stranger.http.get(path)
        assert (answer.status_code, answer.headers["content-type"]) == (401, "application/problem+json")
        assert answer.headers["www-authenticate"] == 'Bearer realm="api"'
        assert _refusal(stranger, task_id) == (401, 4401)
        stranger.login("stranger", ADMIN_PASSWORD)
        assert stranger.http.get(path).status_code == 404
        assert _refusal(stranger, task_id) == (404, 4404)
        assert stranger.http.post("/api/v1/tasks/wait", json={"ids": [task_id]}).status_code == 404
    finally:
        stranger.close()
    assert _refusal(shared.api, "0" * 32) == (404, 4404)
    assert _refusal(shared.api, task_id, "?encoding=utf-16") == (400, 4400)
    assert shared.api.http.get(f"{path}&attempt=7").status_code == 404
    for query in ("&offset=-1", "&offset=x", "&attempt=x", "&from_attempt=x", "&attempt=1&from_attempt=1"):
        answer = shared.api.http.get(path + query)
        assert answer.status_code == 400
        assert answer.json()["errors"][0]["field"] in query


def test_browsers_follow_with_their_session_and_pages_of_others_cannot(shared: Cluster) -> None:
    """A cookie counts only on a connection that a page of this site has opened; a token may be the subprotocol."""
    task_id = shared.api.submit("true")
    token = shared.api.http.headers["Authorization"].partition(" ")[2]
    origin, host = shared.url, {"additional_headers": {}}
    cookie = {"additional_headers": {"Cookie": f"sessionid={_session(shared)}"}}
    with socket_reader(shared.api, task_id, origin=origin, **cookie) as socket:
        assert socket.until("end")["exit_code"] == 0
    assert _refusal(shared.api, task_id, **cookie) == (401, 4401)
    with pytest.raises(InvalidStatus), socket_reader(shared.api, task_id, origin="http://evil.example", **cookie):
        pass
    with socket_reader(shared.api, task_id, origin=origin, subprotocols=[f"bearer.{token}"], **host) as socket:
        assert socket.until("end")["exit_code"] == 0
    with pytest.raises(InvalidStatus), socket_reader(shared.api, "x/../..", **host):
        pass


def test_the_end_of_tasks_is_waited_for(shared: Cluster) -> None:
    """The answer comes with the first end; with none of them there is an empty list at the time-out."""
    quick, slow = shared.api.submit("echo hi"), shared.api.submit("sleep 600")
    [ended] = shared.api.post("tasks/wait", {"ids": [slow, quick], "timeout": 20})["tasks"]
    assert (ended["id"], ended["status"], ended["stdout"]) == (quick, "completed", "hi\n")
    assert shared.api.post("tasks/wait", {"ids": [slow], "timeout": 0}) == {"tasks": []}
    assert shared.api.post("tasks/wait", {"ids": [slow], "timeout": 0.2}) == {"tasks": []}
    shared.wait_status(slow, "running")
    shared.api.post(f"tasks/{slow}/cancel")
    [ended] = shared.api.post("tasks/wait", {"ids": [slow], "timeout": 20})["tasks"]
    assert (ended["id"], ended["status"]) == (slow, "cancelled")


def test_a_task_that_is_cancelled_in_the_queue_ends_the_wait(shared: Cluster) -> None:
    """No engine has to do with it, and the answer comes all the same."""
    task_id = shared.api.submit("true", limits={"memory_mb": 1 << 23})
    waiter = threading.Timer(0.3, shared.api.post, [f"tasks/{task_id}/cancel"])
    waiter.start()
    began = time.monotonic()
    [ended] = Api._checked(
        httpx.post(
            f"{shared.url}/api/v1/tasks/wait",
            headers=shared.api.http.headers,
            json={"ids": [task_id], "timeout": 30},
            timeout=60,
            trust_env=False,
        )
    )["tasks"]
    assert ended["status"] == "cancelled"
    assert time.monotonic() - began < 10
    waiter.join()


def flood(cluster: Cluster, count: int) -> dict[str, int]:
    """Pour so much past a fast reader and one that reads nothing; return how much worker and dispatcher grew."""
    worker = cluster.start_worker("alpha")
    cluster.wait_connected("alpha")
    assert cluster.dispatcher is not None
    task_id = cluster.api.submit("true")
    follow(cluster, task_id).finish()
    programs = {"worker": psutil.Process(worker.pid), "dispatcher": psutil.Process(cluster.dispatcher.pid)}
    before = {name: program.memory_info().rss for name, program in programs.items()}
    peaks = dict(before)
    task_id = cluster.api.submit(f"head -c {count} /dev/zero; echo; echo last words", timeout=600)
    fast = follow(cluster, task_id, keeps=False)
    with (
        httpx.Client(base_url=cluster.url, headers=cluster.api.http.headers, trust_env=False, timeout=60) as slow,
        slow.stream("GET", f"/api/v1/tasks/{task_id}/stdout?follow=1") as unread,
    ):

        def ended() -> bool:
            for name, program in programs.items():
                peaks[name] = max(peaks[name], program.memory_info().rss)
            return cluster.api.task(task_id)["status"] == "completed"

        wait_until(ended, "the flood is over", timeout_s=600, describe=cluster.describe)
        fast.finish()
        rest = b"".join(unread.iter_raw())
    # The one that read nothing meanwhile is told how much it missed, and gets the end.
    assert rest.endswith(b"last words\n")
    assert b" bytes left out ...]" in rest
    # Over QUIC the fast one is not fast enough to see more than what is kept.
    assert fast.count > len(rest) or transports.current() is Transport.QUIC
    assert fast.count >= len(rest)
    return {name: (peaks[name] - before[name]) // MEBIBYTE for name in programs}


@pytest.mark.usefixtures("transport")
def test_a_flood_leaves_memory_flat(cluster: Cluster) -> None:
    """A gigabyte of output, a fast reader and one that stands still: neither worker nor dispatcher grows much."""
    grown = flood(cluster, 1_000_000_000)
    assert max(grown.values()) < 32, grown


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ten_gigabytes_leave_memory_flat(cluster: Cluster) -> None:
    """Ten gigabytes as well."""
    grown = flood(cluster, 10_000_000_000)
    assert max(grown.values()) < 32, grown


_ADD_CLIENT = f"""
from django.contrib.auth.models import Group, User
user = User.objects.create_user("stranger", password={ADMIN_PASSWORD!r})
user.groups.add(Group.objects.get(name="Client"))
"""


def _refusal(api: Api, task_id: str, query: str = "", **options) -> tuple[int, int]:
    """Return the status that a WebSocket is refused with, and its close code."""
    with socket_reader(api, task_id, query, **options) as socket:
        frame = SocketReader.next(socket)
        assert frame["type"] == "refused"
        assert frame["detail"]
        return frame["status"], socket.close_code()


def _session(cluster: Cluster) -> str:
    """Sign in as browsers do; return the session's cookie."""
    with httpx.Client(base_url=cluster.url, trust_env=False, headers={"Referer": cluster.url}) as browser:
        browser.get("/login/")
        form = {"username": "admin", "password": ADMIN_PASSWORD, "csrfmiddlewaretoken": browser.cookies["csrftoken"]}
        browser.post("/login/", data=form)
        return browser.cookies["sessionid"]
