"""Hashes passwords in one round instead of a million: most tests sign users in, and few are about that."""

from __future__ import annotations

from django.contrib.auth.hashers import PBKDF2PasswordHasher


class QuickHasher(PBKDF2PasswordHasher):
    """Django's own, with one round."""

    iterations = 1


QUICK_HASHERS = [f"{__name__}.{QuickHasher.__name__}"]
"""For `settings.PASSWORD_HASHERS`."""
