"""Gives out, exchanges and ends JWT pairs.

Every refresh token belongs to a family: the sign-in it descends from. Each serves once. One that comes again was
copied, by its owner's misfortune or by a thief, so the whole family ends and the user signs in anew.
The table of outstanding tokens keeps the family in place of the token's text: a copy of the database opens nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from django.db import transaction
from rest_framework_simplejwt.exceptions import TokenError
from rest_framework_simplejwt.settings import api_settings
from rest_framework_simplejwt.token_blacklist.models import BlacklistedToken, OutstandingToken
from rest_framework_simplejwt.tokens import RefreshToken, Token
from rest_framework_simplejwt.utils import datetime_from_epoch, get_md5_hash_password

from accounts_app.roles import roles_of
from accounts_app.strict_tokens import StrictAccessToken, StrictToken

ROLE_CLAIM = "role"
FAMILY_CLAIM = "family"


class TokenRefused(Exception):
    """The refresh token is not valid, expired, or was used before."""


@dataclass(frozen=True, slots=True)
class TokenPair:
    """What a signed-in client holds."""

    access: str
    refresh: str


class FamilyRefreshToken(StrictToken, RefreshToken):  # type: ignore[misc]  # theirs differ from each other
    """A refresh token whose blacklisting is checked here, inside the transaction that uses it up."""

    access_token_class = StrictAccessToken

    def check_blacklist(self) -> None:
        """Leave it to `exchange`."""


def issue(user: Any) -> TokenPair:
    """Return a pair of a new family."""
    with transaction.atomic():
        OutstandingToken.objects.filter(user=user, expires_at__lt=datetime.now(UTC)).delete()
        return _issue(user, uuid4().hex)


def owner_of(text: str) -> Any:
    """Return the user whom a refresh token was given to, whatever has become of either. Raises TokenRefused."""
    return _outstanding(_read(text)).user


def exchange(text: str) -> tuple[Any, TokenPair | None]:
    """Use a refresh token up; return its user and the next pair. Raises TokenRefused.

    Without a pair the token was used before, and its whole family has been ended. That is no exception, since
    it must stand when the caller's transaction ends.
    """
    token = _read(text)
    with transaction.atomic():
        outstanding = _outstanding(token)
        _, is_first_use = BlacklistedToken.objects.get_or_create(token=outstanding)
        user = outstanding.user
        if is_first_use:
            _check_user(user, token)
            return user, _issue(user, outstanding.token)
        _end_family(outstanding)
        return user, None


def end(text: str) -> Any:
    """End the sign-in of a refresh token and return its user. Raises TokenRefused."""
    token = _read(text)
    with transaction.atomic():
        outstanding = _outstanding(token)
        _end_family(outstanding)
        return outstanding.user


def _read(text: str) -> Token:
    try:
        return FamilyRefreshToken(text)
    except TokenError as error:
        raise TokenRefused("the refresh token is invalid or expired") from error


def _outstanding(token: Token) -> OutstandingToken:
    found = OutstandingToken.objects.select_related("user").filter(jti=token[api_settings.JTI_CLAIM]).first()
    if found is None or found.user is None:
        raise TokenRefused("the refresh token is not known")
    return found


def _check_user(user: Any, token: Token) -> None:
    if not user.is_active:
        raise TokenRefused("the account is not active")
    if token.get(api_settings.REVOKE_TOKEN_CLAIM) != get_md5_hash_password(user.password):
        raise TokenRefused("the password has been changed since")


def _issue(user: Any, family: str) -> TokenPair:
    refresh = FamilyRefreshToken()
    refresh[api_settings.USER_ID_CLAIM] = str(user.pk)
    refresh[api_settings.REVOKE_TOKEN_CLAIM] = get_md5_hash_password(user.password)
    refresh[ROLE_CLAIM] = sorted(role.value for role in roles_of(user))
    refresh[FAMILY_CLAIM] = family
    OutstandingToken.objects.create(
        user=user,
        jti=refresh[api_settings.JTI_CLAIM],
        token=family,
        created_at=refresh.current_time,
        expires_at=datetime_from_epoch(refresh["exp"]),
    )
    return TokenPair(access=str(refresh.access_token), refresh=str(refresh))


def _end_family(outstanding: OutstandingToken) -> None:
    family = OutstandingToken.objects.filter(user=outstanding.user, token=outstanding.token, blacklistedtoken=None)
    BlacklistedToken.objects.bulk_create([BlacklistedToken(token=member) for member in family])
