"""`octaskly login` and `logout`."""

from __future__ import annotations

import getpass
import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

import click

from octaskly import keeping
from octaskly.client import Client
from octaskly.command_line.connect import session as settled_session
from octaskly.command_line.show import json_option, print_json, tell
from octaskly.errors import OctasklyError, Unreachable
from octaskly.keeping import FileKeeper, Login
from octaskly.session import DEFAULT_URL, Session, canonical_url, check_plain, checked_pin

FIRST_ADMIN = "admin"
"""Whom a dispatcher makes on its first start."""


@click.command()
@click.argument("url", required=False)
@click.option("-u", "--username", help="Your name at the server.")
@click.option("--pin", metavar="sha256//...", help="The key that the server must have, as the dispatcher prints it.")
@click.option("-y", "--yes", is_flag=True, help="Believe the key that the server shows, without a question.")
@click.option("--insecure", is_flag=True, help="Allow plain HTTP over a network.")
@json_option
@click.pass_context
def login(
    ctx: click.Context,
    url: str | None,
    username: str | None,
    pin: str | None,
    *,
    yes: bool,
    insecure: bool,
    as_json: bool,
) -> None:
    """Sign in at a server, and keep the sign-in for later commands.

    The password is asked for, or comes from OCTASKLY_PASSWORD, or from stdin when that is no terminal. A server with
    a certificate of its own is known by its key: it is shown once, and later nothing is sent to any other.
    """
    path = keeping.credentials_path(os.environ)
    known = _known(path)
    given = url or ctx.find_root().obj["url"] or os.environ.get("OCTASKLY_URL") or (known.url if known else DEFAULT_URL)
    address = canonical_url(given)
    is_insecure = insecure or ctx.find_root().obj["is_insecure"]
    check_plain(address, is_allowed=is_insecure)
    if pin:
        pin = checked_pin(pin)
    elif address.startswith("https://"):
        pin = known.pin if known and known.url == address and known.pin else _pin_to_trust(address, is_sure=yes)
    name = username or (known.username if known and known.url == address else "") or _asked_username()
    password = _asked_password(name)
    wanted = Login(url=address, username=name, pin=pin or "", is_insecure=is_insecure)
    with Client(session=Session(FileKeeper(path, wanted))) as client:
        client.login(name, password)
    if as_json:
        print_json({"url": address, "username": name, "pin": pin or None})
    else:
        click.echo(f"Signed in at {address} as {name}.", err=True)


@click.command()
@json_option
def logout(*, as_json: bool) -> None:
    """End the sign-in at the server, and forget it here."""
    path = keeping.credentials_path(os.environ)
    known = _known(path)
    if known is None:
        if as_json:
            print_json({"url": None, "username": None})
        click.echo("You were not signed in.", err=True)
        return
    try:
        session = settled_session()
        if session.url == known.url:
            with Client(session=Session(FileKeeper(path, known))) as client:
                client.logout()
    except Unreachable as error:
        tell(f"{error}. The sign-in is forgotten here; at the server it ends by itself within 7 days")
    keeping.forget(path)
    if as_json:
        print_json({"url": known.url, "username": known.username})
    else:
        click.echo(f"Signed out of {known.url}.", err=True)


def _known(path: Path) -> Login | None:
    try:
        return keeping.load(path)
    except OctasklyError:
        # Damaged or open to others: a new sign-in replaces it.
        return None


def _asked_username() -> str:
    if not sys.stdin.isatty():
        return FIRST_ADMIN
    return str(click.prompt("Username", default=FIRST_ADMIN, err=True))


def _asked_password(name: str) -> str:
    if password := os.environ.get("OCTASKLY_PASSWORD"):
        return password
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    return getpass.getpass(f"Password of {name}: ", stream=sys.stderr)


def _pin_to_trust(url: str, *, is_sure: bool) -> str:
    """Return the pin of a certificate that no authority vouches for, once a person agreed; empty where one does."""
    import ssl

    from octaskly import pinning

    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or 443
    try:
        if _is_vouched_for(host, port):
            return ""
        seen = pinning.seen_pin(host, port)
    except ssl.SSLError as error:
        raise OctasklyError(f"{url} does not speak HTTPS ({error.reason or error}). Try http:// for it") from error
    except OSError as error:
        raise Unreachable(url, error.strerror or str(error)) from error
    click.echo(f"The server at {url} has the key\n  {seen}\nThe dispatcher prints its pin when it starts.", err=True)
    if is_sure:
        return seen
    if not sys.stdin.isatty():
        raise OctasklyError(f"Nobody is here to compare the key. Say it: octaskly login {url} --pin {seen}")
    click.confirm("Is it the same", abort=True, err=True)
    return seen


def _is_vouched_for(host: str, port: int) -> bool:
    import socket
    import ssl

    from octaskly import pinning

    try:
        with (
            socket.create_connection((host, port), timeout=10) as plain,
            pinning.trusting_context().wrap_socket(plain, server_hostname=host),
        ):
            return True
    except ssl.SSLCertVerificationError:
        return False
