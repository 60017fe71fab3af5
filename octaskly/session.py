"""Who speaks to which server: settled from arguments, environment and the stored login."""

from __future__ import annotations

import base64
import ipaddress
import time
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import urlsplit

import msgspec

from octaskly import keeping
from octaskly.answers import TokenPair
from octaskly.errors import InsecureAddress, Invalid, OctasklyError
from octaskly.keeping import FileKeeper, Keeper, Login, MemoryKeeper

DEFAULT_URL: Final = "http://127.0.0.1:3000"
DEFAULT_PATIENCE_S: Final = 120.0
NEARLY_S: Final = 20.0
"""An access token with less than this left is renewed before it is used."""
FOR_EVER: Final = 1e11


class BadUrl(OctasklyError):
    """Not an address of a server."""


class Session:
    """A server, and what one client holds to speak with it."""

    def __init__(
        self,
        keeper: Keeper,
        *,
        password: str = "",
        token_source: str = "",
        patience_s: float = DEFAULT_PATIENCE_S,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        self.keeper = keeper
        self.password = password
        self.token_source = token_source
        """Where a token that cannot be renewed came from, for messages."""
        self.patience_s = patience_s
        self.tell = tell or (lambda _: None)
        self.has_been_answered = False
        """Before the first answer a lost connection means a wrong address; afterwards it means to try again."""

    @property
    def login(self) -> Login:
        """Return the login as it was last seen."""
        return self.keeper.login

    @property
    def url(self) -> str:
        """Return the server's address."""
        return self.login.url

    @property
    def needs_tokens(self) -> bool:
        """Return whether the access token is missing or about to end, and could be renewed."""
        login = self.login
        can_renew = bool(login.refresh or self.password)
        return can_renew and (not login.access or login.access_expires_at < time.time() + NEARLY_S)

    def renewed(self, pair: TokenPair) -> Login:
        """Return the login with a new pair of tokens."""
        return msgspec.structs.replace(
            self.login,
            access=pair.access,
            refresh=pair.refresh,
            access_expires_at=time.time() + lifetime_s(pair.access),
        )


def settle(
    environ: Mapping[str, str],
    *,
    url: str | None = None,
    token: str | None = None,
    username: str | None = None,
    password: str | None = None,
    pin: str | None = None,
    is_insecure: bool = False,
    patience_s: float = DEFAULT_PATIENCE_S,
) -> Session:
    """Return the session that arguments, then OCTASKLY_URL and OCTASKLY_TOKEN, then the stored login make.

    Stored tokens are for the server that gave them: at another address they are not used.
    """
    path = keeping.credentials_path(environ)
    wanted = url or environ.get("OCTASKLY_URL") or ""
    stored = None
    if not (wanted and (token or password)):
        stored = keeping.load(path)
    address = canonical_url(wanted or (stored.url if stored else DEFAULT_URL))
    if stored is not None and stored.url != address:
        stored = None
    allows_plain = is_insecure or (stored is not None and stored.is_insecure)
    check_plain(address, is_allowed=allows_plain)
    bare = Login(
        url=address,
        username=username or "",
        pin=pin or (stored.pin if stored else "") or environ.get("OCTASKLY_PIN", ""),
        is_insecure=allows_plain,
    )
    if password:
        return Session(MemoryKeeper(bare), password=password, patience_s=patience_s)
    given = token or environ.get("OCTASKLY_TOKEN", "")
    if given:
        source = "the token that was given" if token else "OCTASKLY_TOKEN"
        login = msgspec.structs.replace(bare, access=given, access_expires_at=FOR_EVER)
        return Session(MemoryKeeper(login), token_source=source, patience_s=patience_s)
    if stored is None:
        return Session(MemoryKeeper(bare), patience_s=patience_s)
    if pin:
        stored = msgspec.structs.replace(stored, pin=pin)
    return Session(FileKeeper(path, stored), patience_s=patience_s)


def canonical_url(text: str) -> str:
    """Return scheme, host and port of an address, the form under which a login is kept; raises BadUrl."""
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise BadUrl(f"{text!r} is no address of a server: {error}") from error
    if parts.scheme not in {"http", "https"} or not host:
        raise BadUrl(f"{text!r} is no address of a server. One looks like https://host:3000")
    if parts.username or parts.password or parts.query or parts.fragment or parts.path.strip("/"):
        raise BadUrl(f"{text!r} must be scheme, host and port only, as in https://host:3000")
    shown = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown}" + (f":{port}" if port is not None else "")


def check_plain(url: str, *, is_allowed: bool) -> None:
    """Raise InsecureAddress for plain HTTP over a network that nobody allowed."""
    if url.startswith("http://") and not is_allowed and not is_loopback(url):
        raise InsecureAddress(url)


def is_loopback(url: str) -> bool:
    """Return whether the address never leaves this machine."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def lifetime_s(access: str) -> float:
    """Return for how long an access token was given out: its own two times, so no clock is compared with another."""
    claims = claims_of(access)
    issued, expires = claims.get("iat"), claims.get("exp")
    if isinstance(issued, int | float) and isinstance(expires, int | float):
        return max(0.0, float(expires) - float(issued))
    return FOR_EVER


def claims_of(access: str) -> dict[str, object]:
    """Return what stands in a token, unchecked: it is the server that checks."""
    parts = access.split(".")
    if len(parts) != 3:  # noqa: PLR2004 - header, claims, signature
        return {}
    try:
        data = base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4))
        return msgspec.json.decode(data, type=dict[str, object])
    except (ValueError, msgspec.DecodeError):
        return {}


def checked_pin(text: str) -> str:
    """Return a pin in its one form; raises Invalid."""
    digest = text.removeprefix("sha256//")
    try:
        raw = base64.b64decode(digest, validate=True)
    except ValueError:
        raw = b""
    if len(raw) != 32:  # noqa: PLR2004 - bytes of SHA-256
        raise Invalid(f"{text!r} is no pin. One looks like sha256//<44 characters>", status=0, field="pin")
    return f"sha256//{digest}"
