"""The worker's identity on disk: a folder of mode 0700, files of mode 0600, one worker at a time."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from octaskly_wire.identity import ca_digest, key_from_pem, key_to_pem, new_key
from worker_node.shell.durable import put_file, sync_folder

_OTHERS: Final = 0o077

MAX_FORMER: Final = 64
"""CAs that are remembered by their digest only."""


class StateFolderError(Exception):
    """The state folder cannot be used; the text says what to do."""


@dataclass(frozen=True)
class Identity:
    """Who this worker is to its cluster. Certificates are DER."""

    worker_id: str
    cluster_id: str
    certificate: bytes
    ca_certificates: tuple[bytes, ...]
    """The CAs that are trusted; more than one while one takes over from another."""
    key: Ed25519PrivateKey = field(repr=False)
    former_ca_digests: tuple[str, ...] = ()
    """Of CAs that were trusted once: a join token that pins one of them is still this cluster's."""

    @property
    def ca_digests(self) -> tuple[str, ...]:
        """Return the digests (hex) of the trusted CAs' keys, in their order; raises BadProof."""
        return tuple(ca_digest(certificate).hex() for certificate in self.ca_certificates)

    def is_of(self, digest: bytes) -> bool:
        """Return whether a CA of this digest is or was this cluster's."""
        return digest.hex() in {*self.ca_digests, *self.former_ca_digests}

    def trusting(self, ca_certificates: tuple[bytes, ...]) -> Identity:
        """Return this identity with these CAs (DER) in the place of those before; raises BadProof."""
        changed = replace(self, ca_certificates=ca_certificates)
        former = [digest for digest in self.ca_digests if digest not in changed.ca_digests]
        return replace(changed, former_ca_digests=(*self.former_ca_digests, *former)[-MAX_FORMER:])


def holder_of(path: Path) -> int | None:
    """Return the id of the process that works in this state folder; None where none does, or nobody can tell."""
    if sys.platform == "win32":
        return None  # what another process has locked cannot be read there
    import fcntl

    with contextlib.suppress(OSError, ValueError), (path / "lock").open("r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return int(file.read())
    return None


class _Stored(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    worker_id: str
    cluster_id: str
    certificate: bytes
    ca_certificate: bytes
    """The first; the others stand apart, since a file of a version that knew one CA is read as well."""
    further_ca_certificates: list[bytes] = []
    former_ca_digests: list[str] = []


class StateFolder:
    """An open state folder; it stays locked until `close`."""

    def __init__(self, path: Path) -> None:
        """Make or check the folder and take its lock."""
        self.path: Final = path
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            _check_closed_to_others(path, "700")
            self._lock = _lock(path / "lock")
        except OSError as error:
            raise StateFolderError(f"state folder {path}: {error.strerror or error}") from error

    @property
    def work(self) -> Path:
        """Return the folder of workspaces."""
        return self.path / "work"

    def close(self) -> None:
        """Release the lock."""
        self._lock.close()

    def load_or_make_key(self) -> Ed25519PrivateKey:
        """Return the worker's key; a new one is stored before it is used anywhere."""
        path = self.path / "key.pem"
        if (text := _read(path)) is None:
            key = new_key()
            _write(path, key_to_pem(key))
            return key
        try:
            return key_from_pem(text)
        except Exception as error:
            raise StateFolderError(f"{path} holds no private key: {error}") from error

    def load_identity(self) -> Identity | None:
        """Return the identity, None before enrolment."""
        path = self.path / "identity.json"
        if (text := _read(path)) is None:
            return None
        try:
            stored = msgspec.json.decode(text, type=_Stored)
        except msgspec.MsgspecError as error:
            raise StateFolderError(f"{path} is damaged ({error}); remove it and enrol again") from error
        if not (self.path / "key.pem").exists():
            raise StateFolderError(f"{path} has lost its key.pem; remove it and enrol again")
        return Identity(
            worker_id=stored.worker_id,
            cluster_id=stored.cluster_id,
            certificate=stored.certificate,
            ca_certificates=(stored.ca_certificate, *stored.further_ca_certificates),
            key=self.load_or_make_key(),
            former_ca_digests=tuple(stored.former_ca_digests),
        )

    def save_identity(self, identity: Identity) -> None:
        """Store who this worker is, and whom it trusts; the key is stored already."""
        first, *further = identity.ca_certificates
        stored = _Stored(
            identity.worker_id,
            identity.cluster_id,
            identity.certificate,
            first,
            further,
            list(identity.former_ca_digests),
        )
        _write(self.path / "identity.json", msgspec.json.format(msgspec.json.encode(stored)) + b"\n")


def _check_closed_to_others(path: Path, wanted: str) -> None:
    if sys.platform == "win32":
        return  # modes say nothing there; the profile folder is private by its access list
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode):
        raise StateFolderError(f"{path} is a symbolic link; what it leads to must be there itself")
    if status.st_uid != os.geteuid():
        raise StateFolderError(f"{path} belongs to another user (uid {status.st_uid}); use another --state-dir")
    if status.st_mode & _OTHERS:
        raise StateFolderError(
            f"{path} is open to other users (mode {status.st_mode & 0o777:04o}); run: chmod {wanted} {path}"
        )


def _read(path: Path) -> bytes | None:
    try:
        _check_closed_to_others(path, "600")
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StateFolderError(f"{path}: {error.strerror or error}") from error


def _write(path: Path, data: bytes) -> None:
    try:
        put_file(path, data)
        sync_folder(path.parent)
    except OSError as error:
        raise StateFolderError(f"{path}: {error.strerror or error}") from error


def _lock(path: Path) -> IO[bytes]:
    """Open and lock a file; the kernel drops the lock with the process, however it ends."""
    file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b", buffering=0)
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.truncate()
            file.write(str(os.getpid()).encode())
    except OSError as error:
        file.close()
        raise StateFolderError(
            f"{path.parent} is in use by another worker; give each worker its own --state-dir"
        ) from error
    return file
