"""What a transfer could cost at best on this machine: plain TCP, plain TLS, scp and rsync, all between two processes."""

from __future__ import annotations

import contextlib
import hashlib
import multiprocessing
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from octaskly_wire import identity, tls
from tests.support.programs import free_port
from tests.support.wait import wait_until

PIECE_BYTES = 256 << 10
HOST = "127.0.0.1"
CLUSTER = "benchmark"
SSH_CIPHER = "aes256-gcm@openssh.com"

Copy = Callable[[Path, Path], float]
"""Carries a file to another place; returns the seconds that took, the sync to the disk included."""


class Certificates(NamedTuple):
    """What a child process needs to be a TLS server."""

    ca: bytes
    leaf: bytes
    key_pem: bytes


def through_tcp(source: Path, target: Path | None) -> float:
    """Like `cat | nc`: sendall and recv, to a file or to nowhere."""
    return _through_socket(source, target, None)


def through_tls(source: Path, target: Path, *, takes_digest: bool = False) -> float:
    """Do the same in TLS with our cipher suite, by Python's ssl, and perhaps take the SHA-256 of what arrives."""
    ca, ca_key = identity.make_ca(CLUSTER, datetime.now(UTC))
    key = identity.new_key()
    leaf = identity.issue_dispatcher_certificate(ca, ca_key, CLUSTER, key.public_key(), datetime.now(UTC))
    certificates = Certificates(ca, leaf, identity.key_to_pem(key))
    return _through_socket(source, target, certificates, takes_digest=takes_digest)


def _through_socket(
    source: Path, target: Path | None, certificates: Certificates | None, *, takes_digest: bool = False
) -> float:
    with socket.create_server((HOST, 0)) as door:
        port = door.getsockname()[1]
        sender = multiprocessing.get_context("spawn").Process(target=_send, args=(source, port, certificates))
        sender.start()
        connection, _ = door.accept()
    if certificates is not None:
        context = tls.client_context(certificates.ca, None, None)
        connection = context.wrap_socket(connection, server_hostname=identity.dispatcher_server_name(CLUSTER))
        tls.check_cipher(connection)
    began = time.monotonic()
    with connection, (target or Path(os.devnull)).open("wb", buffering=0) as file:
        piece = memoryview(bytearray(PIECE_BYTES))
        digest = hashlib.sha256()
        while count := connection.recv_into(piece):
            file.write(piece[:count])
            if takes_digest:
                digest.update(piece[:count])
        if target is not None:
            os.fsync(file)
    seconds = time.monotonic() - began
    sender.join(10)
    return seconds


def _send(source: Path, port: int, certificates: Certificates | None) -> None:
    """Be the other process. It is the TLS server, as the dispatcher is."""
    connection = socket.create_connection((HOST, port))
    if certificates is not None:
        context = tls.server_context(certificates.ca, certificates.leaf, identity.key_from_pem(certificates.key_pem))
        connection = context.wrap_socket(connection, server_side=True)
    with connection, source.open("rb", buffering=0) as file:
        while piece := file.read(PIECE_BYTES):
            connection.sendall(piece)


@contextlib.contextmanager
def through_ssh(folder: Path) -> Iterator[dict[str, Copy]]:
    """Yield what copies over an sshd of our own on the loopback, for the time of the block; empty without sshd."""
    # Debian keeps it where users do not look; it wants to be called by its whole path.
    sshd = shutil.which("sshd", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"]))
    if sshd is None:
        print("scp and rsync: no sshd is installed here")
        yield {}
        return
    keys = {name: folder / name for name in ("host", "user")}
    for path in keys.values():
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    port = free_port()
    options = [f"ListenAddress={HOST}", f"HostKey={keys['host']}", f"AuthorizedKeysFile={keys['user']}.pub"]
    options += ["StrictModes=no", "UsePAM=no", "PidFile=none", "Subsystem=sftp internal-sftp"]
    command = [sshd, "-D", "-e", "-f", os.devnull, "-p", str(port), *(f"-o{option}" for option in options)]
    # Where root starts it, it insists on this folder; a service's start would make it.
    separation = Path("/run/sshd")
    made = os.getuid() == 0 and not separation.exists()
    if made:
        separation.mkdir(mode=0o755)
    with (folder / "sshd.log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        wait_until(lambda: _listens(port) or server.poll() is not None, "sshd listens", timeout_s=10)
        if server.poll() is not None:
            print(f"scp and rsync: {(folder / 'sshd.log').read_text().strip()}")
            yield {}
            return
        given = ["-i", str(keys["user"]), "-o", "StrictHostKeyChecking=no", "-o", f"UserKnownHostsFile={os.devnull}"]
        given += ["-o", "LogLevel=ERROR", "-o", f"Ciphers={SSH_CIPHER}"]
        ways: dict[str, Copy] = {"scp": _Command(["scp", "-q", "-P", str(port), *given])}
        if shutil.which("rsync"):
            ssh = " ".join(["ssh", "-p", str(port), *given])
            ways["rsync"] = _Command(["rsync", "--whole-file", "--rsh", ssh])
        yield ways
    finally:
        server.terminate()
        server.wait(10)
        if made:
            separation.rmdir()


class _Command:
    """A copying program that takes a source and HOST:TARGET."""

    def __init__(self, command: list[str]) -> None:
        self._command = command

    def __call__(self, source: Path, target: Path) -> float:
        began = time.monotonic()
        subprocess.run([*self._command, str(source), f"{HOST}:{target}"], check=True)
        with target.open("rb") as file:
            os.fsync(file)
        return time.monotonic() - began


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((HOST, port), 1):
        return True
    return False
