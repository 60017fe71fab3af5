"""A change of the secret key: whenever the program dies, one of the two secret keys opens everything."""

from __future__ import annotations

import os
import sqlite3
import stat
import traceback
import warnings
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.conf import settings
from django.core import signing
from django.db import connections, transaction

from accounts_app.strict_tokens import StrictAccessToken
from audit_app import keys as audit_keys
from audit_app.seal import WrongSeal
from audit_app.trail import AuditEvent, record
from octaskly_site import former_keys, key_rotation, staged_secret
from octaskly_site.database_lock import DatabaseInUse, DatabaseLock
from octaskly_site.former_keys import FormerKeys
from octaskly_site.key_rotation import Change, rotate
from octaskly_site.secret_key import SECRET_FILE, derive_keys
from octaskly_site.staged_secret import STAGED_FILE, secret_that_opens, settle
from octaskly_wire import identity, server_key
from octaskly_wire.errors import BadProof
from tests.support.migrated_database import lay_database
from workers_app.services import ensure_cluster

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the programs that die are forks")

OLD, NEW = "the secret key of before", "the secret key of afterwards"
NOW = datetime.now(UTC)
DIED = 9


@pytest.fixture(autouse=True)
def _children_use_databases_of_their_own(django_db_blocker):
    """Let the forks at theirs."""
    with django_db_blocker.unblock():
        yield


def use(database: Path, secret: str) -> None:
    """Be a program that was started with this secret key."""
    connections["default"].close()
    connections["default"].settings_dict["NAME"] = str(database)
    keys = derive_keys(secret)
    settings.SECRET_KEY = keys.django
    settings.SIMPLE_JWT["SIGNING_KEY"] = keys.jwt
    settings.OCTASKLY_CA_WRAPPING_KEY = keys.ca_wrapping
    settings.OCTASKLY_AUDIT_SEALING_KEY = keys.audit_sealing
    settings.OCTASKLY_AUDIT_KEY = keys.audit


def in_child(act) -> int:
    """Do it in a process of its own and return its exit code."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Of forking beside pytest's own thread.
        child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 1
    try:
        act()
        code = 0
    except BaseException:  # noqa: BLE001 - told, since nobody else will
        traceback.print_exc()
    finally:
        os._exit(code)


@pytest.fixture
def database(tmp_path) -> Path:
    """A database that was started once with the old secret key, which stands in its file."""
    path = tmp_path / "data" / "octaskly.db"
    lay_database(path)

    def start() -> None:
        use(path, OLD)
        ensure_cluster(NOW)
        with transaction.atomic():
            record(AuditEvent("logged_out", "anna"))

    assert in_child(start) == 0
    secret = path.parent / SECRET_FILE
    secret.write_text(f"{OLD}\n")
    secret.chmod(0o600)
    return path


def check_opens_all(database: Path, secret: str) -> None:
    """Fail unless a start with this secret key finds every key, and the trail goes on."""

    def start() -> None:
        use(database, secret)
        ensure_cluster(NOW)
        assert audit_keys.present_end() is not None
        assert audit_keys.signing_key() is not None

    assert in_child(start) == 0


def opened_by(database: Path, secret: str) -> list[bool]:
    """Return for the keys of the CA, of TLS servers and of the audit whether the secret key opens each."""
    keys = derive_keys(secret)
    with closing(sqlite3.connect(database)) as connection:
        [ca_key] = connection.execute("SELECT key_wrapped FROM certificate_authorities").fetchone()
        [own_key] = connection.execute("SELECT server_key_wrapped FROM cluster").fetchone()
        [signing_key] = connection.execute("SELECT sealed_signing_key FROM audit_keys").fetchone()

    def opens(opening) -> bool:
        try:
            opening()
        except (BadProof, WrongSeal):
            return False
        return True

    return [
        opens(lambda: identity.unwrap_key(ca_key, keys.ca_wrapping)),
        opens(lambda: server_key.unwrap_server_key(own_key, keys.ca_wrapping)),
        opens(lambda: audit_keys.unseal(keys.audit_sealing, audit_keys.SIGNING, signing_key)),
    ]


def rotated(database: Path, **dying) -> int:
    """Change the keys in a child; `dying` says in which function of which module it dies, and on which side."""

    def change() -> None:
        use(database, OLD)
        for place, side in dying.items():
            module = key_rotation if hasattr(key_rotation, place) else staged_secret
            if place == "reseal":
                module = audit_keys
            true = getattr(module, place)

            def dies(*arguments, _true=true, _side=side, **named):
                if _side == "after":
                    _true(*arguments, **named)
                os._exit(DIED)

            setattr(module, place, dies)
        rotate(database, Change(NEW, is_in_file=True, ends_sessions=False), NOW)

    return in_child(change)


@pytest.mark.parametrize(
    ("place", "side", "winner"),
    [
        ("stage", "before", OLD),
        ("stage", "after", OLD),
        ("reseal", "after", OLD),
        ("put_in_place", "before", NEW),
        ("put_in_place", "after", NEW),
    ],
)
def test_a_program_that_dies_amid_it_leaves_one_secret_key_that_opens_all(database, place, side, winner):
    """The next start finds which, uses it, and leaves one file; the other secret key opens nothing."""
    assert rotated(database, **{place: side}) == DIED
    folder = database.parent
    found = secret_that_opens(database, (folder / SECRET_FILE).read_text().strip())
    assert found == winner
    check_opens_all(database, found)
    assert opened_by(database, winner) == [True] * 3
    assert opened_by(database, OLD if winner == NEW else NEW) == [False] * 3
    settle(database)
    assert (folder / SECRET_FILE).read_text().strip() == winner
    assert not (folder / STAGED_FILE).exists()
    assert stat.S_IMODE((folder / SECRET_FILE).stat().st_mode) == 0o600


def test_what_was_signed_before_is_believed_for_seven_days(database):
    """Sessions and tokens go on; the keys of before lie under the new secret key only, and are forgotten."""
    assert rotated(database) == 0
    check_opens_all(database, NEW)
    kept = former_keys.read_former_keys(database, derive_keys(NEW).ca_wrapping)
    assert [keys.django for keys in kept] == [derive_keys(OLD).django]
    assert kept[0].until - NOW == timedelta(days=7)
    assert former_keys.read_former_keys(database, derive_keys(OLD).ca_wrapping) == []
    text = database.read_bytes()
    assert derive_keys(OLD).jwt.encode() not in text
    blob = former_keys.sealed(kept, b"k" * 32)
    assert former_keys.opened(blob, b"k" * 32, NOW + timedelta(days=7)) == []


def test_sessions_can_be_ended(database):
    """As after a leak: then no key of before is kept."""

    def change() -> None:
        use(database, OLD)
        rotate(database, Change(NEW, is_in_file=True, ends_sessions=True), NOW)

    assert in_child(change) == 0
    assert former_keys.read_former_keys(database, derive_keys(NEW).ca_wrapping) == []
    check_opens_all(database, NEW)


def test_nothing_changes_while_a_dispatcher_runs(database):
    """The lock is asked first."""

    def change() -> None:
        use(database, OLD)
        with pytest.raises(DatabaseInUse):
            rotate(database, Change(NEW, is_in_file=True, ends_sessions=False), NOW)

    with DatabaseLock(database):
        assert in_child(change) == 0
    assert opened_by(database, OLD) == [True] * 3
    assert not (database.parent / STAGED_FILE).exists()


@pytest.fixture
def former(settings):
    """Have a secret key before the present one, for another day."""
    keys = FormerKeys(
        "the former key of Django, long enough", "the former key of tokens, long enough", NOW + timedelta(days=1)
    )
    settings.OCTASKLY_FORMER_KEYS = [keys]
    settings.SECRET_KEY_FALLBACKS = [keys.django]
    return keys


def access_token() -> StrictAccessToken:
    """Return a token with every claim that we write."""
    token = StrictAccessToken()
    token["sub"], token["pwd"] = "1", "x"
    return token


def test_tokens_of_the_former_key_are_believed_until_its_day(former, settings):
    """New ones are signed with the present key; those of a key that is nobody's are refused."""
    from rest_framework_simplejwt.backends import TokenBackend
    from rest_framework_simplejwt.exceptions import TokenError

    def signed_with(key: str) -> str:
        return TokenBackend("HS256", key, audience="octaskly-api", issuer="octaskly").encode(access_token().payload)

    assert StrictAccessToken(signed_with(former.jwt))["sub"] == "1"
    assert str(access_token()) != signed_with(former.jwt)
    assert StrictAccessToken(str(access_token()))["sub"] == "1"
    with pytest.raises(TokenError):
        StrictAccessToken(signed_with("a key that was never ours, long enough"))
    settings.OCTASKLY_FORMER_KEYS = [FormerKeys(former.django, former.jwt, NOW)]
    with pytest.raises(TokenError):
        StrictAccessToken(signed_with(former.jwt))


@pytest.mark.django_db
def test_former_keys_whose_day_has_come_are_forgotten(former, settings):
    """In the database and in this process: what was signed with them is worth nothing then."""
    ensure_cluster(NOW)
    signed = signing.dumps("a session", key=former.django)
    assert signing.loads(signed) == "a session"
    former_keys.forget_expired(NOW)
    assert signing.loads(signed) == "a session"
    former_keys.forget_expired(former.until)
    assert settings.OCTASKLY_FORMER_KEYS == []
    with pytest.raises(signing.BadSignature):
        signing.loads(signed)
