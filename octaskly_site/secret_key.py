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
    ca_wrapping: bytes


def derive_keys(secret: str) -> DerivedKeys:
    """Derive every stored-secret key from the root secret; takes about 50 ms on purpose."""
    if len(secret) < MIN_SECRET_LENGTH:
        raise ConfigurationError(f"the secret key must have at least {MIN_SECRET_LENGTH} characters", exit_code=2)
    root = Scrypt(salt=_SCRYPT_SALT, length=32, n=2**14, r=8, p=1).derive(secret.encode())

    def derive(purpose: str) -> bytes:
        return HKDF(SHA256(), length=32, salt=None, info=f"octaskly {purpose} v1".encode()).derive(root)

    return DerivedKeys(derive("django").hex(), derive("jwt").hex(), derive("audit"), derive("ca wrapping"))


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
            return _new_secret()
        status = path.stat()
        if os.name == "posix" and stat.S_IMODE(status.st_mode) & 0o077:
            raise ConfigurationError(f"{path} is readable by others; run: chmod 600 {path}")
        if os.name == "posix" and status.st_uid != os.geteuid():
            raise ConfigurationError(f"{path} belongs to another user")
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"cannot use the secret key file {path}: {error}") from error


def _new_secret() -> str:
    return secrets.token_urlsafe(32)


def _create_secret(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.exists():
        return
    # Written aside and linked into place: two programs starting at once agree on one key.
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(descriptor, _new_secret().encode() + b"\n")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
