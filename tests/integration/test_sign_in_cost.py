"""What a sign-in costs, whoever it is for, and what counting costs a request: in processor time, which a busy machine leaves alone."""

from __future__ import annotations

import statistics
import time

import pytest
from django.conf import global_settings
from django.contrib.auth import get_user_model
from django.test import RequestFactory
from rest_framework.test import APIClient

from accounts_app.charging import charge_request
from accounts_app.roles import Role

pytestmark = [pytest.mark.django_db, pytest.mark.slow]
ROUNDS = 9
REQUESTS = 20_000
MOST_US = 50


def test_sign_ins_that_fail_take_equally_long_whoever_they_are_for(settings, user_of):
    """A known name, an unknown one and a disabled account: the medians are less than a tenth apart."""
    settings.PASSWORD_HASHERS = global_settings.PASSWORD_HASHERS
    user_of(Role.CLIENT, "carla")
    user_of(Role.CLIENT, "gone")
    get_user_model().objects.filter(username="gone").update(is_active=False)
    attempts = {
        "wrong password": ("carla", "wrong"),
        "unknown name": ("nobody", "wrong"),
        "disabled, wrong password": ("gone", "wrong"),
        "disabled, right password": ("gone", "pw-of-a-test"),
    }
    taken_s: dict[str, list[float]] = {kind: [] for kind in attempts}
    for number in range(ROUNDS):
        for position, (kind, (name, password)) in enumerate(attempts.items()):
            address = f"10.{position}.0.{number}"  # Another each time: nobody is to be locked out.
            begun = time.process_time()
            answer = APIClient().post(
                "/api/v1/auth/token", {"username": name, "password": password}, REMOTE_ADDR=address
            )
            taken_s[kind].append(time.process_time() - begun)
            assert answer.status_code == 401
    medians = {kind: statistics.median(taken) for kind, taken in taken_s.items()}
    assert max(medians.values()) < 1.1 * min(medians.values()), medians


def test_counting_costs_a_request_next_to_nothing(settings, user_of):
    """Under 50 µs of 20,000 requests each, with the looks into the database among them."""
    settings.OCTASKLY_MAX_REQUESTS_PER_S = 100_000
    request, user = RequestFactory().get("/api/v1/tasks"), user_of(Role.CLIENT, "carla")
    begun = time.process_time()
    for _ in range(REQUESTS):
        charge_request(request, user)
    taken_us = (time.process_time() - begun) / REQUESTS * 1e6
    assert taken_us < MOST_US, f"{taken_us:.1f} µs"
