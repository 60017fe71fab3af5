"""Where a client keeps its tokens: in memory, or in the file that `octaskly login` writes.

A refresh token serves once, so of several processes with one login only one may exchange it at a time: it holds a
lock on a file beside, and the others read what it wrote. The lock is tried, never waited for, since whoever waits
may be on the same event loop as the holder.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Protocol

import msgspec

from octaskly.errors import BadFile

FILE_NAME: Final = "credentials.json"


class Login(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A sign-in at one server. `pin` empty: plain HTTP, or a certificate that the system trusts."""

    url: str
    username: str = ""
    access: str = ""
    refresh: str = ""
    access_expires_at: float = 0.0
    """By this machine's clock, which need not be the server's."""
    pin: str = ""
    is_insecure: bool = False
    """Plain HTTP over a network was allowed for this server."""


class Keeper(Protocol):
    """Holds the login of one client."""

    login: Login

    def try_lock(self) -> bool:
        """Take the right to exchange the refresh token, if nobody has it."""

    def unlock(self) -> None:
        """Give it back."""

    def reload(self) -> Login:
        """Return the login as it is now, which another process may have renewed."""

    def save(self, login: Login) -> None:
        """Keep a renewed login."""


class MemoryKeeper:
    """For a token or a password that the program brought itself."""

    def __init__(self, login: Login) -> None:
        self.login = login
        self._lock = threading.Lock()

    def try_lock(self) -> bool:
        """Take the lock among this process's threads."""
        return self._lock.acquire(blocking=False)

    def unlock(self) -> None:
        """Give it back."""
        self._lock.release()

    def reload(self) -> Login:
        """Return the login."""
        return self.login

    def save(self, login: Login) -> None:
        """Remember it."""
        self.login = login


class FileKeeper:
    """For the login of a person, in a file that only that person reads."""

    def __init__(self, path: Path, login: Login) -> None:
        self.login = login
        self._path = path
        self._threads = threading.Lock()
        self._lock_fd = -1

    def try_lock(self) -> bool:
        """Take the lock among all processes of this user."""
        if not self._threads.acquire(blocking=False):
            return False
        try:
            self._lock_fd = os.open(self._path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            self._threads.release()
            raise BadFile(f"Cannot lock {self._path}: {error.strerror}") from error
        if _try_lock_file(self._lock_fd):
            return True
        self._close()
        return False

    def unlock(self) -> None:
        """Give it back."""
        self._close()

    def reload(self) -> Login:
        """Read the file again; a login that is gone or for another server leaves ours."""
        found = load(self._path)
        if found is not None and found.url == self.login.url:
            self.login = found
        return self.login

    def save(self, login: Login) -> None:
        """Write the file."""
        store(self._path, login)
        self.login = login

    def _close(self) -> None:
        # Closing lets go of the lock.
        os.close(self._lock_fd)
        self._threads.release()


def credentials_path(environ: Mapping[str, str]) -> Path:
    """Return where the login is kept, by the rules of the system."""
    if sys.platform == "win32":
        base = environ.get("APPDATA") or str(Path.home() / "AppData" / "Roaming")
    else:
        base = environ.get("XDG_CONFIG_HOME", "")
        if not base.startswith("/"):  # The specification says to pass over relative ones.
            base = str(Path(environ.get("HOME") or Path.home()) / ".config")
    return Path(base) / "octaskly" / FILE_NAME


def load(path: Path) -> Login | None:
    """Return the login in a file, None when there is none; raises BadFile for one that others can read."""
    try:
        with path.open("rb") as file:
            if os.name == "posix" and (others := stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077):
                raise BadFile(
                    f"{path} holds your tokens and others can read it (mode bits {others:03o}). "
                    f"Run: chmod 600 {path}, or sign in anew: octaskly login"
                )
            data = file.read(1 << 20)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BadFile(f"Cannot read {path}: {error.strerror}") from error
    try:
        return msgspec.json.decode(data, type=Login)
    except msgspec.DecodeError as error:
        raise BadFile(f"{path} is damaged ({error}). Sign in anew: octaskly login") from error


def store(path: Path, login: Login) -> None:
    """Write the login so that a reader sees the old one or the new one, and nobody else any."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.name == "posix":
            path.parent.chmod(0o700)
        descriptor, name = tempfile.mkstemp(prefix=".credentials-", dir=path.parent)  # Mode 0600.
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(msgspec.json.format(msgspec.json.encode(login), indent=2) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(name).unlink()
            raise
    except OSError as error:
        raise BadFile(f"Cannot write {path}: {error.strerror}") from error


def forget(path: Path) -> None:
    """Delete the login."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()


if sys.platform == "win32":
    import msvcrt

    def _try_lock_file(descriptor: int) -> bool:
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
else:
    import fcntl

    def _try_lock_file(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True
