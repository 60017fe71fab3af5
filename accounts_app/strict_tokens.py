"""Reads tokens strictly: each has one spelling only, and every claim that we write must be there."""

from __future__ import annotations

import re
from typing import Any, Final

from rest_framework_simplejwt.backends import TokenBackend
from rest_framework_simplejwt.exceptions import TokenError
from rest_framework_simplejwt.settings import api_settings
from rest_framework_simplejwt.tokens import AccessToken, Token

from accounts_app.token_keys import token_backend

MAX_TOKEN_LENGTH: Final = 4096

_PART: Final = r"[A-Za-z0-9_-]+"
_FORM: Final = re.compile(rf"{_PART}\.{_PART}\.{_PART}")
"""Without the `=` at the end of a part that the library reads, too: two texts would be the same token."""
_MAX_ID_DIGITS: Final = 18


class StrictToken(Token):
    """A mixin in front of the library's classes of tokens."""

    def __init__(self, token: Any = None, verify: bool = True) -> None:  # noqa: FBT001, FBT002 - theirs
        if token is not None and not _has_our_form(token):
            raise TokenError("Token is invalid")
        super().__init__(token, verify)

    def get_token_backend(self) -> TokenBackend:
        """Return what knows the keys, those before a change of the secret key among them."""
        return token_backend()

    def verify(self) -> None:
        """Check what the library leaves to us. Raises TokenError."""
        user_id = self.payload.get(api_settings.USER_ID_CLAIM)
        is_id = isinstance(user_id, str) and user_id.isascii() and user_id.isdigit() and len(user_id) <= _MAX_ID_DIGITS
        required = ("iat", api_settings.REVOKE_TOKEN_CLAIM, api_settings.JTI_CLAIM)
        if not is_id or any(claim not in self.payload for claim in required):
            raise TokenError("Token lacks a claim")
        super().verify()


class StrictAccessToken(StrictToken, AccessToken):
    """An access token."""


def _has_our_form(token: Any) -> bool:
    if isinstance(token, bytes):
        token = token.decode("latin1")
    return isinstance(token, str) and len(token) <= MAX_TOKEN_LENGTH and _FORM.fullmatch(token) is not None
