"""Tokens that are not to be believed: forged, damaged, stale, of the wrong kind, of somebody who is gone."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from datetime import timedelta

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from django.contrib.auth.models import Group, User
from rest_framework.test import APIClient
from rest_framework_simplejwt import tokens as library_tokens
from rest_framework_simplejwt.exceptions import TokenError
from rest_framework_simplejwt.utils import aware_utcnow

from accounts_app import tokens
from accounts_app.roles import Role
from accounts_app.strict_tokens import StrictAccessToken

pytestmark = pytest.mark.django_db
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
MUTANTS = 10_000
LATER_S = 3600
CLAIMS = ("exp", "iat", "jti", "token_type", "iss", "aud", "sub", "pwd")


@pytest.fixture
def carla(user_of):
    """Return a client user."""
    return user_of(Role.CLIENT, "carla")


@pytest.fixture
def pair(carla):
    """Return a token pair of hers."""
    return tokens.issue(carla)


def status_with(access: str, path: str = "/api/v1/tasks") -> int:
    """Return the status of a request with this access token."""
    return APIClient().get(path, HTTP_AUTHORIZATION=f"Bearer {access}").status_code


def is_read(access: str) -> bool:
    """Return whether a text is taken for an access token."""
    try:
        StrictAccessToken(access)
    except TokenError:
        return False
    return True


def exchanged(refresh: str) -> int:
    """Return the status of the exchange of a refresh token."""
    return APIClient().post("/api/v1/auth/refresh", {"refresh": refresh}).status_code


def claims_of(token: str) -> dict:
    """Return what a token says, unchecked."""
    return jwt.decode(token, options={"verify_signature": False})


def forgeries(access: str, key: str) -> Iterator[tuple[str, str]]:
    """Yield tokens that must open nothing, each with what is wrong; most are signed with the right key."""
    claims, now = claims_of(access), int(time.time())

    def signed(_key: str = key, _algorithm: str = "HS256", **changes: object) -> str:
        changed = {name: value for name, value in {**claims, **changes}.items() if value is not None}
        return jwt.encode(changed, _key, _algorithm)

    assert status_with(signed()) == 200, "the forger's tools work"
    yield "no signature", jwt.encode(claims, None, "none")
    yield "no signature, as if there were one", jwt.encode(claims, None, "none") + access.rpartition(".")[2]
    yield "foreign key", signed("x" * 64)
    yield "a guessed key", jwt.encode(claims, "octaskly" * 8, "HS256")
    yield "HS512", signed(_algorithm="HS512")
    yield "RS256", jwt.encode(claims, rsa.generate_private_key(65537, 2048), "RS256")
    yield "says RS256", _with_header(access, '{"alg":"RS256","typ":"JWT"}')
    yield "says hs256", _with_header(access, '{"alg":"hs256","typ":"JWT"}')
    yield "says nothing", _with_header(access, '{"typ":"JWT"}')
    yield "wrong issuer", signed(iss="someone-else")
    yield "wrong audience", signed(aud="someone-else")
    yield "wrong type", signed(token_type="refresh")
    yield "unknown type", signed(token_type="sliding")
    yield "expired", signed(exp=now - 1)
    yield "expires never", signed(exp=None)
    yield "not yet valid", signed(nbf=now + LATER_S)
    yield "of the future", signed(iat=now + LATER_S)
    yield "of another user", signed(sub="999999")
    yield "of no user", signed(sub="carla")
    yield "of another number", signed(sub="१")
    yield "of an old password", signed(pwd="0" * 32)
    for claim in CLAIMS:
        yield f"without {claim}", signed(**{claim: None})
    for text in (
        f"{access}=",
        f"{access}.",
        f".{access}",
        f"{access}A",
        access + "A" * 5000,
        "",
        "a.b.c",
    ):
        yield f"spelt {text[:9]}..{text[-9:]}", text


def _with_header(token: str, header: str) -> str:
    return ".".join([jwt.utils.base64url_encode(header.encode()).decode(), *token.split(".")[1:]])


def mutants(chance: random.Random, token: str, others: list[str]) -> Iterator[str]:
    """Yield damaged tokens without end: characters changed, lost, added, swapped, parts cut and exchanged."""
    while True:
        place = chance.randrange(len(token))
        parts = token.split(".")
        which = chance.randrange(3)
        parts[which] = chance.choice(others).split(".")[which]
        mutant = chance.choice(
            (
                token[:place] + chance.choice(ALPHABET) + token[place + 1 :],
                token[:-1] + chance.choice(ALPHABET),
                token[:place] + chr(ord(token[place]) ^ 1 << chance.randrange(7)) + token[place + 1 :],
                token[:place] + token[place + 1 :],
                token[:place] + chance.choice(ALPHABET + ".=+/ \n\x00") + token[place:],
                token[:place],
                token[place:] + token[:place],
                token + "=" * chance.randrange(1, 4),
                ".".join(parts),
                ".".join(reversed(parts)),
            )
        )
        if mutant != token:
            yield mutant


def test_forged_tokens_open_nothing(pair, settings):
    """Whatever is wrong with one, and be it signed with the right key."""
    for wrong, token in forgeries(pair.access, settings.SIMPLE_JWT["SIGNING_KEY"]):
        assert status_with(token) == 401, wrong


def test_of_ten_thousand_damaged_tokens_none_is_accepted(pair, user_of):
    """Each token has one spelling; parts of others, also of another kind, do not fit."""
    seed = random.randrange(1 << 32)
    others = [tokens.issue(user_of(Role.ADMIN)).access, pair.refresh]
    assert is_read(pair.access)
    made = mutants(random.Random(seed), pair.access, others)
    for number in range(MUTANTS):
        mutant = next(made)
        assert not is_read(mutant), f"seed {seed}: {mutant!r}"
        if number % 250 == 0 and mutant.isprintable():
            assert status_with(mutant) == 401


def test_a_token_that_is_remembered_expires_all_the_same(pair, monkeypatch):
    """Whoever verified its signature a moment ago looks at its time again."""
    assert is_read(pair.access)
    an_hour_on = aware_utcnow() + timedelta(seconds=LATER_S)
    monkeypatch.setattr(library_tokens, "aware_utcnow", lambda: an_hour_on)
    assert not is_read(pair.access)


def test_each_kind_of_token_serves_for_its_own_only(pair):
    """A refresh token opens no route, an access token gets no tokens, and a refresh token has one spelling, too."""
    assert status_with(pair.refresh) == 401
    assert exchanged(pair.access) == 401
    assert exchanged(f"{pair.refresh}=") == 401
    assert exchanged(pair.refresh) == 200


def test_a_new_password_ends_every_token(pair, carla):
    """Those that were given out under the old one, of both kinds."""
    carla.set_password("a new one of a test")
    carla.save()
    assert status_with(pair.access) == 401
    assert exchanged(pair.refresh) == 401


@pytest.mark.parametrize("fate", ["disabled", "deleted"])
def test_tokens_do_not_outlive_their_account(pair, carla, fate):
    """At once, both kinds."""
    if fate == "disabled":
        User.objects.filter(pk=carla.pk).update(is_active=False)
    else:
        carla.delete()
    assert status_with(pair.access) == 401
    assert exchanged(pair.refresh) == 401


def test_a_role_is_what_the_database_says_now(pair, carla):
    """Whatever the token was given out with: it is worth no more, and no less."""
    assert status_with(pair.access, "/api/v1/workers") == 403
    carla.groups.set([Group.objects.get(name=Role.DISPATCHER.value)])
    assert status_with(pair.access, "/api/v1/workers") == 200
    carla.groups.clear()
    assert status_with(pair.access, "/api/v1/workers") == 403
    assert status_with(pair.access) == 403
