"""Verifies tokens with the present key, and with those before it for as long as they are believed; signs with the present."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from typing import Any

from django.conf import settings
from rest_framework_simplejwt.backends import TokenBackend
from rest_framework_simplejwt.exceptions import TokenBackendError, TokenBackendExpiredToken
from rest_framework_simplejwt.settings import api_settings


class AgeingKeys(TokenBackend):
    """The library's backend, with former keys behind the present one."""

    def decode(self, token: Any, verify: bool = True) -> dict[str, Any]:  # noqa: FBT001, FBT002 - theirs
        """Return the claims; raises TokenBackendError when no key fits."""
        try:
            return super().decode(token, verify)
        except TokenBackendExpiredToken:
            raise
        except TokenBackendError:
            now = datetime.now(UTC)
            for former in settings.OCTASKLY_FORMER_KEYS:
                if former.until > now and (claims := _claims(former.jwt, token)) is not None:
                    return claims
            raise


def _claims(key: str, token: Any) -> dict[str, Any] | None:
    try:
        return _backend(TokenBackend, key).decode(token)
    except TokenBackendExpiredToken:
        raise
    except TokenBackendError:
        return None


@cache
def _backend(kind: type[TokenBackend], key: str) -> TokenBackend:
    return kind(
        api_settings.ALGORITHM,
        key,
        audience=api_settings.AUDIENCE,
        issuer=api_settings.ISSUER,
        leeway=api_settings.LEEWAY,
    )


def token_backend() -> TokenBackend:
    """Return what tokens are signed and verified with."""
    return _backend(AgeingKeys, api_settings.SIGNING_KEY)
