"""What is sent to do harm is refused at once, costs hardly any memory, and holds up nobody else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from octaskly_wire.file_names import objection_to_name
from tests.support.cluster import Cluster
from tests.support.hostile_names import names
from tests.support.raw_http import MEGABYTE, Answer, RawHttp, Watched, chunked, frame
from tests.support.started_cluster import started_cluster
from tests.support.wait import wait_until

AT_ONCE_S = 2.0
"""A second, and as much again for a machine with other work."""
SLOW_S = 12.0
OTHERS_S = 2.0
"""How long others may have to wait meanwhile, likewise."""
GROWTH_BYTES = 20 * MEGABYTE
MANY = 1_000_000
TASKS, LOGIN, CANCEL = "/api/v1/tasks", "/api/v1/auth/token", "/api/v1/tasks/cancel"
JSON = "Content-Type: application/json"


@pytest.fixture(scope="module")
def hostile_cluster(tmp_path_factory) -> Iterator[Cluster]:
    """A dispatcher for the whole file: whatever is done to it, it must serve the next test."""
    with started_cluster(tmp_path_factory.mktemp("hostile")) as cluster:
        yield cluster


@pytest.fixture
def raw(hostile_cluster: Cluster) -> RawHttp:
    """The same as a socket."""
    return RawHttp(hostile_cluster.api_port, hostile_cluster.api.http.headers["Authorization"].partition(" ")[2])


@pytest.fixture
def watched(hostile_cluster: Cluster) -> Watched:
    """The dispatcher's memory, and how others are served."""
    assert hostile_cluster.dispatcher is not None
    return Watched(hostile_cluster.url, hostile_cluster.dispatcher.pid)


def bodies(raw: RawHttp) -> dict[str, tuple[int, Any]]:
    """Return requests that are too much, by name: the status that refuses them, and the arguments of `ask`."""
    deep, keys = b"[" * 100_000 + b"]" * 100_000, b",".join(b'"k%d":1' % number for number in range(MANY))
    elements = b",".join([b"1"] * MANY)
    form = "Content-Type: application/x-www-form-urlencoded", f"Content-Length: {MEGABYTE}"
    gibibyte = raw.head("POST", TASKS, JSON, f"Content-Length: {1 << 30}")
    endless = chunked(b"x" * MEGABYTE for _ in range(1024))
    bomb = b"\x1f\x8b\x08" + b"\0" * 1000
    return {
        "a gibibyte announced": (413, (gibibyte,)),
        "a gibibyte announced by nobody": (413, (raw.head("POST", LOGIN, f"Content-Length: {1 << 30}", anonymous=True),)),
        "chunks without an end": (413, (raw.head("POST", LOGIN, JSON, "Transfer-Encoding: chunked"), endless)),
        "depth in a task": (400, (raw.json("POST", TASKS, deep),)),
        "depth in anything": (400, (raw.json("POST", CANCEL, deep),)),
        "depth 33": (400, (raw.json("POST", CANCEL, b'{"ids":' * 33 + b"1" + b"}" * 33),)),
        "keys in a task": (400, (raw.json("POST", TASKS, b"{%b}" % keys),)),
        "keys in anything": (413, (raw.json("POST", CANCEL, b"{%b}" % keys),)),
        "keys in a list of tasks": (400, (raw.json("POST", TASKS, b'[{"command":"a","env":{%b}}]' % keys),)),
        "elements": (400, (raw.json("POST", TASKS, b"[%b]" % elements),)),
        "tasks": (400, (raw.json("POST", TASKS, b"[%b]" % b",".join([b'{"command":"a"}'] * MANY)),)),
        "a key twice": (400, (raw.json("POST", TASKS, b'{"command":"true","command":"false"}'),)),
        "a key twice, disguised": (400, (raw.json("POST", CANCEL, b'{"ids":["x"],"\\u0069ds":["y"]}'),)),
        "NaN": (400, (raw.json("POST", TASKS, b'{"command":"a","priority":NaN}'),)),
        "Infinity": (400, (raw.json("POST", CANCEL, b'{"ids":[-Infinity]}'),)),
        "a number of 100,000 digits": (400, (raw.json("POST", TASKS, b'{"priority":%b}' % (b"9" * 100_000)),)),
        "a form": (415, (raw.head("POST", LOGIN, *form, anonymous=True) + b"a&" * (MEGABYTE // 2),)),
        "gzip": (415, (raw.json("POST", TASKS, bomb, "Content-Encoding: gzip"),)),
        "a file of a tebibyte": (413, (raw.head("PUT", "/api/v1/files/x", f"Content-Length: {1 << 40}"),)),
        "two lengths": (400, (raw.head("POST", TASKS, "Content-Length: 2", "Content-Length: 3") + b"{}",)),
        "a length and chunks": (400, (raw.head("POST", TASKS, "Content-Length: 2", "Transfer-Encoding: chunked"),)),
        "chunks twice": (400, (raw.head("POST", TASKS, "Transfer-Encoding: chunked", "Transfer-Encoding: identity"),)),
        "an unknown coding": (400, (raw.head("POST", TASKS, "Transfer-Encoding: xchunked"),)),
        "a length with a sign": (400, (raw.head("POST", TASKS, "Content-Length: +2") + b"{}",)),
        "a blank before the colon": (400, (b"GET /health HTTP/1.1\r\nHost : 127.0.0.1\r\n\r\n",)),
        "no version": (400, (b"GET /health\r\n\r\n",)),
        "no request": (400, (b"\x00\xff\x16\x03\r\n\r\n",)),
        "another host": (400, (b"GET /health HTTP/1.1\r\nHost: evil.example\r\n\r\n",)),
        "10,000 headers": (400, (raw.head("GET", "/health", *(f"X-{number}: 1" for number in range(10_000))),)),
        "expecting to be told": (413, (gibibyte[:-2] + b"Expect: 100-continue\r\n\r\n",)),
        "a long chunk extension": (
            400, (raw.head("POST", TASKS, "Transfer-Encoding: chunked") + b"1;" + b"a" * MEGABYTE + b"\r\n",),
        ),
    }  # fmt: skip


def test_each_is_refused_at_once(raw: RawHttp, watched: Watched) -> None:
    """With the right status, at once, in 20 MB of memory, while others are served; no task came of any."""
    answers: dict[str, Answer] = {}
    with watched.during():
        for name, (_, arguments) in bodies(raw).items():
            answers[name] = raw.ask(*arguments)
    wrong = {
        name: answers[name].text[:300] for name, (status, _) in bodies(raw).items() if answers[name].status != status
    }
    assert wrong == {}
    slow = {name: answer.took_s for name, answer in answers.items() if answer.took_s > AT_ONCE_S}
    assert slow == {}
    watched.assert_growth_below(GROWTH_BYTES)
    assert watched.worst_answer_s < OTHERS_S
    assert b'"results":[]' in raw.ask(raw.head("GET", TASKS, "Connection: close")).text


def test_pipelined_requests_are_answered_one_by_one(raw: RawHttp, watched: Watched) -> None:
    """In order; hundreds at a time take no more memory than one."""
    with watched.during(), raw.connect() as connection:
        connection.sendall(raw.head("GET", "/health") * 300)
        received, count = b"", 0
        while count < 300 and (piece := connection.recv(65_536)):
            received += piece
            count = received.count(b"HTTP/1.1 200 OK")
    assert count == 300
    watched.assert_growth_below(GROWTH_BYTES)


@pytest.mark.parametrize(
    "flood",
    [frame(b"y") * 100_000, frame(b"ping", 9) * 100_000, frame(b"", 0) * 100_000, b"\x81\xff" + bytes([0, 0, 0, 0, 64, 0, 0, 0]) + bytes(4)],
    ids=["messages", "pings", "pieces", "a gibibyte"],
)  # fmt: skip
def test_a_flood_over_a_web_socket_ends_it(raw: RawHttp, watched: Watched, flood: bytes) -> None:
    """Nothing of it is kept, and others are served."""
    with watched.during(), raw.web_socket() as connection, suppress(ConnectionResetError, BrokenPipeError):
        for _ in range(100):
            connection.sendall(flood)
        while connection.recv(65_536):  # It times out where the server does not end it.
            pass
    watched.assert_growth_below(GROWTH_BYTES)
    assert watched.worst_answer_s < OTHERS_S


@pytest.mark.slow
def test_who_is_slow_is_told_so_after_ten_seconds(raw: RawHttp, watched: Watched) -> None:
    """A body, a head and a line that come byte by byte; fifty of each hold up nobody."""
    drips = [b"x"] * 30
    slow = [
        raw.head("POST", TASKS, JSON, "Content-Length: 1000"),
        raw.head("POST", TASKS, JSON, "Transfer-Encoding: chunked") + b"1000\r\n",
        raw.head("GET", "/health")[:-2] + b"X-Drip: ",
        b"GET /",
    ]
    with watched.during(), ThreadPoolExecutor(200) as threads:
        asked = [threads.submit(raw.ask, request, drips, 1.0) for request in slow for _ in range(50)]
        answers = [future.result() for future in asked]
    assert {answer.status for answer in answers} == {408}
    assert max(answer.took_s for answer in answers) < SLOW_S
    watched.assert_growth_below(GROWTH_BYTES)
    assert watched.worst_answer_s < OTHERS_S


def test_hostile_names_of_files_lead_nowhere(hostile_cluster: Cluster, raw: RawHttp) -> None:
    """Over a socket, so that nobody has tidied them up: 400 names the field, or the name comes back with its content."""
    sample = [name for position, (name, _) in enumerate(names()) if position % 100 == 0]
    before = files_below(hostile_cluster.folder)
    taken = 0
    for name in sample:
        encoded = quote(name.encode("utf-8", "surrogatepass"), safe="/!$&'()*+,;=:@.-_~")
        content = name.encode("utf-8", "replace")
        path = f"/api/v1/files/{encoded}"
        stored = raw.ask(raw.head("PUT", path, f"Content-Length: {len(content)}", "Connection: close") + content)
        if objection_to_name(name) is None:
            assert stored.status in {200, 201}, (ascii(name), stored.text)
            got = hostile_cluster.api.http.get(path)
            assert got.content == content
            assert got.headers["Content-Disposition"].isprintable()
            taken += 1
        else:
            assert stored.status in {400, 404, 405}, (ascii(name), stored.text)
            assert stored.status != 400 or b'"field":"name"' in whole(raw, path, content), ascii(name)
    assert taken > 10
    assert len(sample) - taken > 10
    shown = {file["name"] for file in hostile_cluster.api.get("files", limit=500)["results"]}
    assert shown == {name for name in sample if objection_to_name(name) is None}
    parts = {part for name in sample for part in re.split(r"[/\\]", name)}
    new = files_below(hostile_cluster.folder) - before
    assert new, "nothing was stored"
    assert {path for path in new if path.parts[0] != "data" or path.name in parts} == set()


def files_below(folder: Path) -> set[Path]:
    """Return all files there by their paths in it."""
    return {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}


def whole(raw: RawHttp, path: str, content: bytes) -> bytes:
    """Return the whole answer to an upload."""
    with raw.connect() as connection:
        connection.sendall(raw.head("PUT", path, f"Content-Length: {len(content)}", "Connection: close") + content)
        received = b""
        while piece := connection.recv(65_536):
            received += piece
    return received


def test_the_dispatcher_is_as_it_was(hostile_cluster: Cluster) -> None:
    """It runs tasks, and its log has no traceback."""
    assert hostile_cluster.dispatcher is not None
    assert hostile_cluster.dispatcher.is_running
    wait_until(lambda: hostile_cluster.api.get("stats"), "the dispatcher answers")
