"""The root secret and the keys derived from it, one a purpose. The link key is not among them: that is TLS."""

from __future__ import annotations

import os
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from audit_app.durable import create_file
from octaskly_site.env import ConfigurationError

MIN_SECRET_LENGTH = 16
SECRET_FILE = "secret.key"  # noqa: S105 - a file's name
_SCRYPT_SALT = b"octaskly secret key v1"
"""Fixed, so that a database restored elsewhere opens with the secret key alone."""


@dataclass(frozen=True, repr=False)
class DerivedKeys:
    """Keys for separate purposes: knowing one tells nothing of another."""

    django: str
    jwt: str
    audit: bytes
    audit_sealing: bytes
    ca_wrapping: bytes


def derive_keys(secret: str) -> DerivedKeys:
    """Derive every stored-secret key from the root secret; takes about 50 ms on purpose."""
    if len(secret) < MIN_SECRET_LENGTH:
        raise ConfigurationError(f"the secret key must have at least {MIN_SECRET_LENGTH} characters", exit_code=2)
    root = Scrypt(salt=_SCRYPT_SALT, length=32, n=2**14, r=8, p=1).derive(secret.encode())

    def derive(purpose: str) -> bytes:
        return HKDF(SHA256(), length=32, salt=None, info=f"octaskly {purpose} v1".encode()).derive(root)

    return DerivedKeys(
        django=derive("django").hex(),
        jwt=derive("jwt").hex(),
        audit=derive("audit"),
        audit_sealing=derive("audit sealing"),
        ca_wrapping=derive("ca wrapping"),
    )


def find_secret(folder: Path, given: str, *, may_create: bool) -> str:
    """Return the given secret, else the one in the folder's secret.key.

    Where there is none, the dispatcher makes the file; any other command gets a secret for its own short life
    and leaves no trace. Raises ConfigurationError when the file is readable by others or cannot be written.
    """
    if given:
        return given
    path = folder / SECRET_FILE
    try:
        if may_create:
            _create_secret(path)
        elif not path.exists():
            return new_secret()
    except OSError as error:
        raise ConfigurationError(f"cannot use the secret key file {path}: {error}") from error
    return read_secret(path)


def read_secret(path: Path) -> str:
    """Return the secret in a file; raises ConfigurationError when others can read or replace it, or it cannot be read."""
    try:
        if path.is_symlink():
            raise ConfigurationError(f"{path} is a symbolic link; put the file itself there")
        with open(path, encoding="ascii", opener=_open_itself) as file:
            status = os.fstat(file.fileno())
            if os.name == "posix" and status.st_uid != os.geteuid():
                raise ConfigurationError(f"{path} belongs to another user")
            if os.name == "posix" and stat.S_IMODE(status.st_mode) & 0o077:
                raise ConfigurationError(f"{path} is readable by others; run: chmod 600 {path}")
            mode = path.parent.stat().st_mode
            # In a folder like /tmp nobody removes what is another's.
            if os.name == "posix" and mode & 0o022 and not mode & stat.S_ISVTX:
                raise ConfigurationError(f"{path} can be replaced by others; run: chmod go-w {path.parent}")
            return file.read().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"cannot use the secret key file {path}: {error}") from error


def _open_itself(path: str, flags: int) -> int:
    """Open a file that is no link; what is no ordinary file, such as a pipe, must not hold up the start either."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))


def new_secret() -> str:
    """Return a random secret key."""
    return secrets.token_urlsafe(32)


def _create_secret(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.exists():
        return
    # Written aside and linked into place: two programs starting at once agree on one key.
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    create_file(draft, new_secret().encode() + b"\n")
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
