"""Users of each role and REST clients signed in as them."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Group
from rest_framework.test import APIClient

from accounts_app import limits, tokens
from accounts_app.roles import Role
from tasks_app.worker_views import recent_prospects
from tests.support.quick_passwords import QUICK_HASHERS


@pytest.fixture(autouse=True)
def _look_at_the_workers_anew():
    """Forget the workers of the test before."""
    recent_prospects.forget()


@pytest.fixture(autouse=True)
def _quick_passwords(settings):
    """Make users and sign them in without a second's work for each."""
    settings.PASSWORD_HASHERS = QUICK_HASHERS


@pytest.fixture(autouse=True)
def _count_anew():
    """Forget what the test before has taken of its budgets."""
    limits.forget()


@pytest.fixture
def user_of(db, django_user_model):
    """Return a function that makes a user with a role, or with none."""

    def make(role: Role | None, name: str = ""):
        user = django_user_model.objects.create_user(name or str(role or "nobody").lower(), password="pw-of-a-test")
        if role is not None:
            user.groups.add(Group.objects.get(name=role.value))
        return user

    return make


@pytest.fixture
def admin_user(user_of):
    """Return a user of the Admin role who may enter the admin."""
    user = user_of(Role.ADMIN, "root")
    user.is_staff = user.is_superuser = True
    user.save()
    return user


@pytest.fixture
def client_of(user_of):
    """Return a function that gives a REST client signed in with a token of that role."""

    def make(role: Role | None, name: str = "") -> APIClient:
        user = user_of(role, name)
        client = APIClient()
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {tokens.issue(user).access}")
        client.user = user
        return client

    return make
