"""The client's pin: against the wrong key not one byte of a request leaves, whichever client asks."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from octaskly import AsyncClient, Client, pinning
from octaskly.errors import PinMismatch, Unreachable
from octaskly.keeping import credentials_path, load
from tests.support.programs import ROOT, clean_environment

STATS = b'{"workers": {"total": 7}, "tasks": {}}'
PAIR = b'{"access": "a", "refresh": "r"}'


class TlsServer:
    """Answers HTTPS with what REST would, and keeps every byte that it was sent after the handshake."""

    def __init__(self, folder: Path) -> None:
        certificate = _make_certificate(folder)
        self.pin = pinning.pin_of(certificate)
        self.received = b""
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        """Stop."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                plain, _ = self._socket.accept()
            except OSError:
                return
            plain.settimeout(5)
            try:
                with self._context.wrap_socket(plain, server_side=True) as link:
                    request = self._read_request(link)
                    if request:
                        body = PAIR if b"auth/token" in request else STATS
                        link.sendall(
                            b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body
                        )
            except OSError:
                continue

    def _read_request(self, link: ssl.SSLSocket) -> bytes:
        """Return a whole request: a link closed with bytes unread would cut the answer off."""
        request = b""
        while piece := link.recv(65536):
            self.received += piece
            request += piece
            head, end, body = request.partition(b"\r\n\r\n")
            announced = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
            if end and len(body) >= (int(announced[1]) if announced else 0):
                break
        return request


def _make_certificate(folder: Path) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "octaskly")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(1), now + timedelta(1))
    certificate = builder.sign(key, hashes.SHA256())
    (folder / "certificate.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (folder / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return certificate.public_bytes(Encoding.DER)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[TlsServer]:
    """A server with a certificate that no authority signed."""
    server = TlsServer(tmp_path)
    yield server
    server.close()


@pytest.fixture
def impostor(tmp_path: Path) -> Iterator[TlsServer]:
    """Another one, with a key of its own."""
    (tmp_path / "impostor").mkdir()
    server = TlsServer(tmp_path / "impostor")
    yield server
    server.close()


def blocking(url: str, pin: str | None) -> int:
    """Ask for the number of workers with the client that blocks."""
    with Client(url, "secret-token", pin=pin) as client:
        return client.stats().workers["total"]


def awaiting(url: str, pin: str | None) -> int:
    """Ask with the client that awaits."""

    async def ask() -> int:
        async with AsyncClient(url, "secret-token", pin=pin) as client:
            return (await client.stats()).workers["total"]

    return asyncio.run(ask())


@pytest.mark.parametrize("ask", [blocking, awaiting])
def test_the_right_key_is_believed(server, ask) -> None:
    """Whatever the certificate says of names, dates and authorities."""
    assert ask(server.url, server.pin) == 7
    assert b"Bearer secret-token" in server.received


@pytest.mark.parametrize("ask", [blocking, awaiting])
def test_the_wrong_key_gets_nothing(server, impostor, ask) -> None:
    """The handshake fails, and the token never leaves."""
    with pytest.raises(PinMismatch) as caught:
        ask(impostor.url, server.pin)
    assert caught.value.seen == impostor.pin
    assert impostor.received == b""


@pytest.mark.parametrize("ask", [blocking, awaiting])
def test_without_a_pin_the_systems_authorities_decide(server, ask) -> None:
    """A certificate of its own is not believed by itself."""
    with pytest.raises(Unreachable, match="CERTIFICATE_VERIFY_FAILED"):
        ask(server.url, None)
    assert server.received == b""


def octaskly(folder: Path, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run a command as a user whose home is this folder."""
    command = [sys.executable, "-m", "octaskly", *arguments]
    environment = clean_environment(folder, PYTHONPATH=str(ROOT))
    return subprocess.run(
        command, check=False, cwd=folder, env=environment, input=stdin, capture_output=True, timeout=60
    )


def test_login_shows_the_key_and_does_not_believe_it_unasked(server, tmp_path) -> None:
    """Where nobody can compare it, the pin must be said; the password is not sent before."""
    done = octaskly(tmp_path, "login", server.url, "-u", "me", stdin=b"password\n")
    assert done.returncode == 1
    assert server.pin.encode() in done.stderr
    assert server.received == b""


@pytest.mark.parametrize("flags", [["--yes"], ["--pin", "PIN"]])
def test_a_key_once_believed_is_the_only_one(server, impostor, tmp_path, flags) -> None:
    """After the sign-in another key at the address gets nothing, neither tokens nor a password."""
    flags = [server.pin if flag == "PIN" else flag for flag in flags]
    assert octaskly(tmp_path, "login", server.url, "-u", "me", *flags, stdin=b"password\n").returncode == 0
    assert octaskly(tmp_path, "stats").returncode == 0
    path = credentials_path({"HOME": str(tmp_path)})
    assert load(path).pin == server.pin
    path.write_text(json.dumps({**json.loads(path.read_text()), "url": impostor.url}))
    for command in (["stats"], ["login", impostor.url, "-u", "me"]):
        done = octaskly(tmp_path, *command, stdin=b"password\n")
        assert (done.returncode, b"nothing was sent" in done.stderr) == (1, True)
    assert impostor.received == b""


def test_a_wrong_pin_gets_no_password(server, impostor, tmp_path) -> None:
    """The pin that was said is checked before the sign-in."""
    done = octaskly(tmp_path, "login", impostor.url, "-u", "me", "--pin", server.pin, stdin=b"password\n")
    assert (done.returncode, impostor.received) == (1, b"")
