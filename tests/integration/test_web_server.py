"""The web server's manners, seen over sockets: back-pressure, bodies, time-outs, HTTPS."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import pytest

from tests.support.programs import ROOT
from tests.support.wait import wait_until

MEGABYTE = 1 << 20
FLAT_BYTES = 48 * MEGABYTE
"""More than every buffer between the application and a client that reads nothing, and far less than the stream."""


class Served:
    """A running web server."""

    def __init__(self, **asked: Any) -> None:
        command = [sys.executable, "-m", "tests.support.web_program", json.dumps(asked)]
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        ready = json.loads(self.process.stdout.readline())
        self.port, self.pin, self.is_https = ready["port"], ready["pin"], bool(asked.get("https"))

    def connect(self) -> socket.socket:
        """Return a connection with a small window, so that few bytes are on the way."""
        plain = socket.socket()
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
        plain.settimeout(20)
        plain.connect(("127.0.0.1", self.port))
        if not self.is_https:
            return plain
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context.wrap_socket(plain)

    def ask(self, head: str, body: bytes = b"") -> bytes:
        """Send one request and return all that comes back until the connection is closed."""
        with self.connect() as connection:
            connection.sendall(head.replace("\n", "\r\n").encode() + b"\r\n\r\n" + body)
            return read_all(connection)

    def told(self, head: str = "GET /", body: bytes = b"") -> dict[str, Any]:
        """Return what the application says about a request."""
        first, _, rest = head.partition("\n")
        length = f"\nContent-Length: {len(body)}" if body else ""
        answer = self.ask(f"{first} HTTP/1.1\nHost: x\nConnection: close{length}{rest}", body)
        status, _, text = answer.partition(b"\r\n\r\n")
        assert status.startswith(b"HTTP/1.1 200"), answer
        return json.loads(text[text.index(b"{") : text.rindex(b"}") + 1])

    @property
    def memory_bytes(self) -> int:
        """Return what the server has in memory."""
        return psutil.Process(self.process.pid).memory_info().rss

    def end(self) -> int:
        """Let it end, and return its exit code."""
        self.process.communicate(timeout=20)
        return self.process.returncode


@contextmanager
def served(**asked: Any) -> Iterator[Served]:
    """Run a server for a block; it must end well."""
    server = Served(**asked)
    try:
        yield server
        assert server.end() == 0
    finally:
        server.process.kill()
        server.process.communicate()


@pytest.fixture(params=["http", "https"])
def server(request) -> Iterator[Served]:
    """A server with a certificate, and one without."""
    with served(https=request.param == "https") as server:
        yield server


def read_all(connection: socket.socket) -> bytes:
    """Return what comes until the other end closes."""
    data = b""
    while piece := connection.recv(65536):
        data += piece
    return data


def wait_until_it_stands_still(server: Served) -> int:
    """Return how many bytes the application has sent once that grows no more."""
    seen: list[int] = []

    def stands() -> bool:
        seen.append(server.told()["sent"])
        return len(seen) > 10 and len(set(seen[-10:])) == 1 and seen[-1] > 0

    wait_until(stands, "the stream waits for its reader")
    return seen[-1]


def test_a_stream_waits_for_its_reader(server: Served) -> None:
    """Of a gigabyte that nobody reads a few megabytes are on the way; it goes on when somebody reads."""
    before = server.memory_bytes
    with server.connect() as connection:
        connection.sendall(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
        sent = wait_until_it_stands_still(server)
        assert sent < FLAT_BYTES
        assert server.memory_bytes - before < FLAT_BYTES
        got = 0
        while got < sent + 2 * FLAT_BYTES:
            got += len(connection.recv(MEGABYTE))
        assert server.told()["sent"] > sent + FLAT_BYTES
        wait_until_it_stands_still(server)
    wait_until(lambda: server.told()["is_over"], "the application hears that its client is gone")


def open_socket(server: Served) -> socket.socket:
    """Return an open WebSocket."""
    connection = server.connect()
    key = base64.b64encode(os.urandom(16)).decode()
    head = f"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
    connection.sendall(head.encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += connection.recv(1)
    assert answer.startswith(b"HTTP/1.1 101"), answer
    return connection


def frame(text: bytes, opcode: int = 1) -> bytes:
    """Return a short masked frame; with a mask of zeros it reads as it is."""
    return bytes([0x80 | opcode, 0x80 | len(text), 0, 0, 0, 0]) + text


def test_a_web_socket_echoes_and_waits_for_its_reader(server: Served) -> None:
    """It works over TLS as without; what is sent to one who does not read waits, and goes on when he does."""
    with open_socket(server) as connection:
        connection.sendall(frame(b"hello"))
        assert connection.recv(100) == b"\x81\x05hello"
        connection.sendall(frame(b"stream"))
        sent = wait_until_it_stands_still(server)
        assert sent < FLAT_BYTES
        got = 0
        while got < sent + FLAT_BYTES:
            got += len(connection.recv(MEGABYTE))
        assert server.told()["sent"] > sent
    wait_until(lambda: server.told()["is_over"], "the application hears that its client is gone")


def test_a_web_socket_closes_in_order(server: Served) -> None:
    """A close is answered with a close, and then with the end of the connection."""
    with open_socket(server) as connection:
        connection.sendall(frame(b"\x03\xe8", opcode=8))
        assert read_all(connection)[:2] == b"\x88\x02"


def test_only_large_files_go_around_memory(server: Served) -> None:
    """A large body of the file route comes as an open file and an empty body; small ones and others come as usual."""
    large, small, empty = os.urandom(3 * MEGABYTE), os.urandom(1000), hashlib.sha256(b"").hexdigest()
    told = server.told("PUT /api/v1/files/data.bin", large)
    assert told["file"] == hashlib.sha256(large).hexdigest()
    assert (told["body"], told["body_bytes"]) == (empty, 0)
    told = server.told("PUT /api/v1/files/data.bin", small)
    assert (told["file"], told["body"]) == (None, hashlib.sha256(small).hexdigest())
    told = server.told("PUT /api/v1/tasks", large)
    assert (told["file"], told["body"]) == (None, hashlib.sha256(large).hexdigest())
    assert told["scheme"] == ("https" if server.is_https else "http")


@pytest.mark.parametrize("path", ["/api/v1/files/data.bin", "/api/v1/tasks"])
def test_a_body_that_is_announced_too_large_is_not_read(server: Served, path: str) -> None:
    """The answer is 413 with a problem, before anything of the body has come; nobody is told to continue."""
    head = f"PUT {path} HTTP/1.1\nHost: x\nContent-Length: {9 * MEGABYTE}\nExpect: 100-continue"
    with server.connect() as connection:
        connection.sendall(head.replace("\n", "\r\n").encode() + b"\r\n\r\n")
        answer = b""
        while b"}" not in answer:
            answer += connection.recv(4096)
    assert answer.startswith(b"HTTP/1.1 413")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["status"] == 413


def test_a_body_in_chunks_is_stopped_at_the_cap(server: Served) -> None:
    """Its size is not announced: what is beyond the cap is thrown away, and the answer is 413."""
    chunk = b"%x\r\n" % MEGABYTE + b"x" * MEGABYTE + b"\r\n"
    head = "PUT /api/v1/tasks HTTP/1.1\nHost: x\nTransfer-Encoding: chunked"
    answer = server.ask(head, chunk * 6 + b"0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413")


def test_a_query_may_have_letters_of_any_script(server: Served) -> None:
    """It arrives as it was sent, percent signs and all; the connection is not dropped."""
    assert server.told("GET /api/v1/tasks?name=%C3%BC%FF&follow=1&%F0%9F%90%99=2")["scheme"]


def test_plain_http_is_told_to_use_https() -> None:
    """Who forgets the s gets a sentence instead of a broken connection."""
    with served(https=True) as server:
        server.is_https = False
        answer = server.ask("GET /health HTTP/1.1\nHost: x")
        assert answer.startswith(b"HTTP/1.1 400")
        assert b"https://" in answer


def test_time_outs_are_for_requests_that_nobody_answers() -> None:
    """Without a beginning a response is 503 in time; one that began, and one that is live, take their time."""
    with served(time_to_answer_s=1) as server, server.connect() as live, server.connect() as late:
        live.sendall(b"GET /never?follow=1 HTTP/1.1\r\nHost: x\r\n\r\n")
        late.sendall(b"GET /late HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        refusal = server.ask("GET /never HTTP/1.1\nHost: x\nConnection: close")
        assert refusal.startswith(b"HTTP/1.1 503")
        assert b"application/problem+json" in refusal
        answer = read_all(late)
        assert b"begun " in answer
        assert b"ended" in answer
        live.settimeout(0.1)
        with pytest.raises(TimeoutError):
            live.recv(1)


def test_a_client_that_reads_nothing_for_long_is_cut_off() -> None:
    """A stream that waits holds a place, which must not be held for ever."""
    with served(https=True, stalled_s=1) as impatient, impatient.connect() as connection:
        connection.sendall(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_until(lambda: impatient.told()["is_over"], "the stream is given up")


def test_the_certificate_is_of_the_key_with_the_pin() -> None:
    """curl takes the key that is pinned, and refuses any other with its own exit code."""
    with served(https=True) as server:
        curl = ["curl", "-fsSk", "--noproxy", "*", f"https://localhost:{server.port}/"]
        good = subprocess.run([*curl, "--pinnedpubkey", server.pin], capture_output=True, check=False)
        assert good.returncode == 0, good.stderr
        other = "sha256//" + base64.b64encode(bytes(32)).decode()
        assert subprocess.run([*curl, "--pinnedpubkey", other], capture_output=True, check=False).returncode == 90


@pytest.mark.parametrize(("version", "is_heard"), [("TLSv1_1", False), ("TLSv1_2", True), ("TLSv1_3", True)])
def test_browsers_of_today_are_heard(version: str, is_heard: bool) -> None:
    """TLS 1.2 and 1.3, although the links of workers in the same process have 1.3 and one cipher only."""
    # A program of its own: this one is pinned like the dispatcher.
    code = (
        "import ssl, socket, sys; c = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT); c.check_hostname = False;"
        "c.verify_mode = ssl.CERT_NONE; c.set_ciphers('DEFAULT@SECLEVEL=0');"
        "c.minimum_version = c.maximum_version = ssl.TLSVersion[sys.argv[2]];"
        "c.wrap_socket(socket.create_connection(('127.0.0.1', int(sys.argv[1])), 10)).do_handshake()"
    )
    environment = {name: value for name, value in os.environ.items() if name != "OPENSSL_CONF"}
    with served(https=True) as server:
        command = [sys.executable, "-W", "ignore", "-c", code, str(server.port), version]
        done = subprocess.run(command, env=environment, capture_output=True, check=False, timeout=30)
        assert (done.returncode == 0) is is_heard, done.stderr


@pytest.mark.parametrize("https", [False, True], ids=["http", "https"])
def test_who_asks_too_slowly_is_told_so(https: bool) -> None:
    """A head, a body and a line that go on byte by byte have their time and no more; a file has more of it."""
    begun = [
        b"GET / HTTP/1.1\r\nHost: x\r\nX-Drip: ",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1000\r\n",
    ]
    with served(https=https, time_to_ask_s=0.5) as server:
        connections = [server.connect() for _ in begun]
        upload = server.connect()
        upload.sendall(b"PUT /api/v1/files/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 10\r\n\r\n")
        for connection, head in zip(connections, begun, strict=True):
            connection.sendall(head)
        for connection in connections:
            connection.sendall(b"x")
            assert connection.recv(100).startswith(b"HTTP/1.1 408")
            connection.close()
        upload.sendall(b"0123456789")
        assert read_all(upload).startswith(b"HTTP/1.1 200")
        upload.close()


def test_a_body_that_keeps_coming_may_take_long() -> None:
    """Only who sends next to nothing is cut off."""
    with served(time_to_ask_s=0.5) as server, server.connect() as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 120000\r\n\r\n")
        for _ in range(12):
            connection.sendall(b"x" * 10_000)
            time.sleep(0.1)  # The pace is what is tested.
        assert read_all(connection).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("https", [False, True], ids=["http", "https"])
def test_one_connection_too_many_is_closed_at_once(https: bool) -> None:
    """WebSockets count as well; whoever leaves makes room."""
    with served(https=https, max_connections=3) as server:
        held = [open_socket(server), server.connect(), server.connect()]
        plain = socket.create_connection(("127.0.0.1", server.port), 20)
        assert plain.recv(1) == b""
        plain.close()
        for connection in held:
            connection.close()
        wait_until(lambda: can_ask(server), "there is room again")
        held = [open_socket(server) for _ in range(3)]
        assert not can_ask(server)
        for connection in held:
            connection.close()
        wait_until(lambda: can_ask(server), "there is room again")


def can_ask(server: Served) -> bool:
    """Return whether the server answers one more client."""
    try:
        return bool(server.told())
    except (OSError, AssertionError):
        return False
