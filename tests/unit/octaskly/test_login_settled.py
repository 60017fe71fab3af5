"""Which server a command speaks to and with what: arguments, environment, stored login."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path

import pytest

from octaskly import errors, keeping, session
from octaskly.keeping import FileKeeper, Login, MemoryKeeper

URL = "https://cluster:3000"
STORED = Login(url=URL, username="me", access="a", refresh="r", pin="sha256//pin")


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """An environment whose login is stored."""
    environ = {"HOME": str(tmp_path)}
    keeping.store(keeping.credentials_path(environ), STORED)
    return environ


def test_the_stored_login_is_used(environ) -> None:
    """With nothing said, it is the last sign-in, pin and all."""
    settled = session.settle(environ)
    assert (settled.login, type(settled.keeper)) == (STORED, FileKeeper)


def test_nothing_stored_means_this_machine(tmp_path) -> None:
    """A fresh user speaks to the dispatcher here."""
    assert session.settle({"HOME": str(tmp_path)}).url == "http://127.0.0.1:3000"


def test_stored_tokens_are_not_sent_to_another_server(environ) -> None:
    """A URL of its own means no tokens and no pin of the other."""
    login = session.settle(environ, url="https://other:3000").login
    assert (login.access, login.refresh, login.pin) == ("", "", "")


def test_the_environment_wins_over_the_file(environ) -> None:
    """OCTASKLY_URL and OCTASKLY_TOKEN are for scripts; the token is never written to the file."""
    settled = session.settle({**environ, "OCTASKLY_URL": "http://127.0.0.1:1", "OCTASKLY_TOKEN": "t"})
    assert (settled.url, settled.login.access, type(settled.keeper)) == ("http://127.0.0.1:1", "t", MemoryKeeper)


def test_a_token_for_the_stored_server_keeps_its_pin(environ) -> None:
    """Who only brings a token still speaks to the right key."""
    assert session.settle({**environ, "OCTASKLY_TOKEN": "t"}).login.pin == "sha256//pin"


def test_arguments_win_over_all(environ) -> None:
    """A program says itself what it wants."""
    settled = session.settle({**environ, "OCTASKLY_TOKEN": "t"}, url="http://localhost:1", username="u", password="p")
    assert (settled.url, settled.password, settled.login.access) == ("http://localhost:1", "p", "")


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:3000", "http://127.8.0.1", "http://localhost", "http://[::1]:3000", URL]
)
def test_addresses_that_are_safe(url, tmp_path) -> None:
    """Loopback never leaves the machine, HTTPS is read by nobody."""
    assert session.settle({"HOME": str(tmp_path)}, url=url, token="t").url == url


@pytest.mark.parametrize("url", ["http://192.168.1.5:3000", "http://localhost.evil.example", "http://cluster"])
def test_plain_http_over_a_network_is_refused(url, tmp_path) -> None:
    """Nobody's token travels in the clear by accident."""
    with pytest.raises(errors.InsecureAddress):
        session.settle({"HOME": str(tmp_path)}, url=url, token="t")
    assert session.settle({"HOME": str(tmp_path)}, url=url, token="t", is_insecure=True).url == url


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("host:3000", "http://host:3000"),
        ("HTTPS://Host:1/", "https://host:1"),
        ("http://[::1]:3000", "http://[::1]:3000"),
    ],
)
def test_addresses_have_one_form(text, expected) -> None:
    """So that a login is found again."""
    assert session.canonical_url(text) == expected


@pytest.mark.parametrize(
    "text", ["ftp://x", "https://", "https://u:p@x", "https://x/path", "http://x:99999", "http://x?y"]
)
def test_what_is_no_address(text) -> None:
    """It is said, before anything is sent."""
    with pytest.raises(session.BadUrl):
        session.canonical_url(text)


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_the_file_is_for_one_pair_of_eyes(environ) -> None:
    """File and folder are closed to others, and a file that was opened is refused."""
    path = keeping.credentials_path(environ)
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    path.chmod(0o640)
    with pytest.raises(errors.BadFile, match="chmod 600"):
        session.settle(environ)


def test_a_damaged_file_says_what_to_do(environ) -> None:
    """Half a file is no traceback."""
    keeping.credentials_path(environ).write_text("{")
    with pytest.raises(errors.BadFile, match="octaskly login"):
        session.settle(environ)


def test_xdg_config_home_is_heeded(tmp_path) -> None:
    """An absolute one is used, a relative one passed over as the specification says."""
    home = {"HOME": str(tmp_path)}
    assert keeping.credentials_path({**home, "XDG_CONFIG_HOME": "/conf"}) == Path("/conf/octaskly/credentials.json")
    assert keeping.credentials_path({**home, "XDG_CONFIG_HOME": "conf"}).parts[-3:-1] == (".config", "octaskly")


def test_one_process_at_a_time_renews(environ) -> None:
    """A second one is told that the lock is taken, and reads what the first wrote."""
    path = keeping.credentials_path(environ)
    first, second = (FileKeeper(path, STORED) for _ in range(2))
    assert first.try_lock()
    assert not second.try_lock()
    first.save(Login(url=URL, access="new", refresh="r2"))
    first.unlock()
    assert second.try_lock()
    assert second.reload().access == "new"
    second.unlock()


def test_a_login_elsewhere_meanwhile_is_not_taken_over(environ) -> None:
    """Tokens of another server do not slip into a client that speaks to this one."""
    path = keeping.credentials_path(environ)
    keeper = FileKeeper(path, STORED)
    keeping.store(path, Login(url="https://other", access="other"))
    assert keeper.reload() == STORED


def token(**claims: float) -> str:
    """Return an unsigned token with these claims."""
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return f"header.{body}.signature"


def test_lifetime_is_told_by_the_token_alone() -> None:
    """A server whose clock is years off gives a token for fifteen minutes all the same."""
    assert session.lifetime_s(token(iat=1000, exp=1900)) == 900
    assert session.lifetime_s("opaque") > 1e9


@pytest.mark.parametrize("text", ["", "sha256//", "sha256//abc", "md5//x", "sha256//" + "A" * 42 + "!="])
def test_what_is_no_pin(text) -> None:
    """A cut-off pin is not a weaker one."""
    with pytest.raises(errors.Invalid):
        session.checked_pin(text)


def test_a_pin_has_one_form() -> None:
    """With or without its prefix."""
    digest = base64.b64encode(bytes(32)).decode()
    assert session.checked_pin(digest) == session.checked_pin(f"sha256//{digest}") == f"sha256//{digest}"
