"""Who calls: by token, by session, or nobody known. Here that is found out, so here each request is counted."""

from __future__ import annotations

from typing import Any, Final

from django.contrib.auth.models import User
from django.db import DEFAULT_DB_ALIAS
from rest_framework import authentication, exceptions
from rest_framework.request import Request
from rest_framework_simplejwt.authentication import JWTAuthentication
from rest_framework_simplejwt.exceptions import AuthenticationFailed
from rest_framework_simplejwt.settings import api_settings
from rest_framework_simplejwt.tokens import Token
from rest_framework_simplejwt.utils import get_md5_hash_password

from accounts_app.charging import charge_request
from accounts_app.plain_sql import read

_COLUMNS: Final = ("id", "password", "is_superuser", "username", "is_staff", "is_active")
"""What requests look at, in the order of the model; the rest of an account is read when somebody asks for it."""
_ACCOUNT_QUERY: Final = f"SELECT {', '.join(_COLUMNS)} FROM auth_user WHERE id = ?"  # noqa: S608 - constant


class Charged(authentication.BaseAuthentication):
    """A mixin in front of a way to sign in: who is found is charged, and where somebody is refused, the address."""

    def authenticate(self, request: Request) -> tuple[Any, Any] | None:
        """Return user and token, None where nobody tried. Raises AuthenticationFailed, PermissionDenied, LimitReached."""
        try:
            found = super().authenticate(request)
        except (exceptions.AuthenticationFailed, exceptions.PermissionDenied):
            charge_request(request)
            raise
        if found is not None:
            charge_request(request, found[0])
        return found


class TokenAuthentication(Charged, JWTAuthentication):
    """Knows the access tokens that were given out here."""

    def get_user(self, validated_token: Token) -> Any:
        """Return the account of a token, as the database has it now. Raises AuthenticationFailed.

        In plain SQL, since each request asks it: the library's way takes ten times as long.
        """
        rows = read(_ACCOUNT_QUERY, [int(validated_token[api_settings.USER_ID_CLAIM])])
        if not rows:
            raise AuthenticationFailed("User not found", code="user_not_found")
        user = User.from_db(DEFAULT_DB_ALIAS, _COLUMNS, rows[0])
        if not user.is_active:
            raise AuthenticationFailed("User is inactive", code="user_inactive")
        if validated_token.get(api_settings.REVOKE_TOKEN_CLAIM) != get_md5_hash_password(user.password):
            raise AuthenticationFailed("The user's password has been changed.", code="password_changed")
        return user


class SessionAuthentication(Charged, authentication.SessionAuthentication):
    """Knows the cookies of the pages, and checks CSRF."""


class Stranger(authentication.BaseAuthentication):
    """The last to be asked: nobody is signed in, so the request is one of its address."""

    def authenticate(self, request: Request) -> None:
        """Return None. Raises LimitReached."""
        charge_request(request)
