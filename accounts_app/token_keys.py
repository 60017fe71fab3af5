"""Verifies tokens with the present key, and with those before it for as long as they are believed; signs with the present."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache, lru_cache
from typing import Any, Final

from django.conf import settings
from rest_framework_simplejwt.backends import TokenBackend
from rest_framework_simplejwt.exceptions import TokenBackendError, TokenBackendExpiredToken
from rest_framework_simplejwt.settings import api_settings

MAX_REMEMBERED: Final = 1024


class AgeingKeys(TokenBackend):
    """The library's backend, with former keys behind the present one.

    What the present key has signed is remembered: the next request mostly has the same token. Whether it has expired, the
    token looks each time by itself.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._verified = lru_cache(maxsize=MAX_REMEMBERED)(super().decode)

    def decode(self, token: Any, verify: bool = True) -> dict[str, Any]:  # noqa: FBT001, FBT002 - theirs
        """Return the claims; raises TokenBackendError when no key fits."""
        try:
            return self._verified(token).copy() if verify else super().decode(token, verify)
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
