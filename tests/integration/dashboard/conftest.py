"""What all tests of pages share."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _passwords_cost_little(settings):
    """Hash the passwords of tests quickly: a real hash takes half a second on purpose."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
