"""Files over HTTP with the real dispatcher: large ones in flat memory, and downloads that nobody waits for."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from hashlib import sha256
from typing import Self

import httpx
import psutil

from tests.support.cluster import Cluster

PIECE = bytes(range(256)) * 4096
"""1 MiB."""
PIECES = 200
MAX_GROWTH_BYTES = 32 << 20
"""What the pieces under way, the database's cache and the threads may come to: a sixth of the file."""


class PeakMemory:
    """The most memory that a process has used while it was watched."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.before = self.peak = self._process.memory_info().rss

    def _watch(self) -> None:
        while not self._is_over.wait(0.02):
            self.peak = max(self.peak, self._process.memory_info().rss)

    @property
    def growth(self) -> int:
        return self.peak - self.before

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()


def pieces() -> Iterator[bytes]:
    """Yield the content, never all of it at once."""
    for number in range(PIECES):
        yield number.to_bytes(8, "big") + PIECE[8:]


def test_a_large_file_goes_in_and_out_in_flat_memory(cluster: Cluster) -> None:
    """Announced or in chunks, 200 MiB are stored and read back byte for byte, and the dispatcher stays small."""
    digest = sha256()
    for piece in pieces():
        digest.update(piece)
    size = PIECES * len(PIECE)
    assert cluster.dispatcher is not None
    cluster.api.http.put("/api/v1/files/warm-up", content=PIECE * 2)
    with PeakMemory(cluster.dispatcher.process.pid) as memory:
        announced = {"Content-Length": str(size)}
        answer = cluster.api.http.put("/api/v1/files/in/large.bin", content=pieces(), headers=announced, timeout=120)
        assert answer.status_code == 201, answer.text
        assert (answer.json()["size"], answer.json()["sha256"]) == (size, digest.hexdigest())
        in_chunks = cluster.api.http.put(f"/api/v1/files/sha256:{digest.hexdigest()}", content=pieces(), timeout=120)
        assert in_chunks.status_code == 201, in_chunks.text
        seen = sha256()
        with cluster.api.http.stream("GET", "/api/v1/files/in/large.bin", timeout=120) as download:
            assert download.headers["Content-Length"] == str(size)
            for piece in download.iter_raw():
                seen.update(piece)
    assert seen.hexdigest() == digest.hexdigest()
    assert memory.growth < MAX_GROWTH_BYTES, f"{memory.growth >> 20} MiB"


def test_a_part_of_a_file_and_its_head_are_served(cluster: Cluster) -> None:
    """Range and HEAD through the real web server."""
    cluster.api.http.put("/api/v1/files/a", content=b"0123456789")
    part = cluster.api.http.get("/api/v1/files/a", headers={"Range": "bytes=3-5"})
    assert (part.status_code, part.content) == (206, b"345")
    head = cluster.api.http.head("/api/v1/files/a")
    assert (head.status_code, head.headers["Content-Length"], head.content) == (200, "10", b"")


def test_clients_that_do_not_read_hold_up_nobody(cluster: Cluster) -> None:
    """More downloads stand still than requests are worked on at once, and the next request is answered."""
    cluster.api.http.put("/api/v1/files/a", content=PIECE * 32)
    request = (
        f"GET /api/v1/files/a HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Authorization: {cluster.api.http.headers['Authorization']}\r\n\r\n"
    )
    with ExitStack() as stack:
        for _ in range(12):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", cluster.api_port), timeout=20))
            connection.sendall(request.encode())
            assert connection.recv(15) == b"HTTP/1.1 200 OK"
        answer = httpx.get(f"{cluster.url}/api/v1/tasks", headers=cluster.api.http.headers, timeout=10, trust_env=False)
        assert answer.status_code == 200


def test_files_follow_the_task_and_come_back(cluster: Cluster) -> None:
    """An input that was uploaded is there when the command starts; what it leaves is read back, by name and digest."""
    cluster.start_worker("alpha")
    cluster.api.http.put("/api/v1/files/data/in.txt", content=b"one\ntwo\n").raise_for_status()
    command = "mkdir out && tac data/in.txt > out/back.txt && wc -l < data/in.txt"
    task_id = cluster.api.submit(command, inputs=["data/in.txt"], outputs=["out/*"])
    [task] = cluster.wait_ended(task_id)
    assert (task["status"], task["stdout"].strip()) == ("completed", "2"), task
    [output] = cluster.api.get(f"tasks/{task_id}/outputs")["results"]
    assert (output["name"], output["size"], output["is_available"]) == ("out/back.txt", 8, True)
    got = cluster.api.http.get(f"/api/v1/tasks/{task_id}/outputs/out/back.txt")
    assert got.content == b"two\none\n"
    following = cluster.api.submit("cat x", inputs=[f"x=sha256:{output['sha256']}"])
    [task] = cluster.wait_ended(following)
    assert (task["status"], task["stdout"]) == ("completed", "two\none\n"), task
