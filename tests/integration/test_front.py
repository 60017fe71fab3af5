"""What the web server sets up in its process: names, cookies, origins, and where bodies wait."""

from __future__ import annotations

import argparse
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from django.test import Client

from octaskly_site import options
from octaskly_site.web.front import Front, prepare_front
from workers_app.services import ensure_cluster

pytestmark = pytest.mark.django_db
NOW = datetime.now(UTC)


@pytest.fixture
def prepare(settings, tmp_path: Path):
    """Return a function that sets up for flags; settings are as before after the test."""
    settings.ALLOWED_HOSTS = ["localhost", "proxy.example"]
    settings.CSRF_TRUSTED_ORIGINS = []
    settings.SESSION_COOKIE_SECURE = settings.CSRF_COOKIE_SECURE = False

    def prepare(*flags: str) -> Front:
        parser = argparse.ArgumentParser()
        options.add_arguments(parser)
        asked = options.read_options(vars(parser.parse_args(flags)))
        return prepare_front(replace(asked, db_path=tmp_path / "octaskly.db"), ensure_cluster(NOW), NOW)

    return prepare


def sign_in(origin: str) -> int:
    """Return the status of a login form that is sent from a page of this origin to the proxy's name."""
    client = Client(enforce_csrf_checks=True, HTTP_HOST="proxy.example")
    page = client.get("/login/").content.decode()
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
    assert token
    form = {"csrfmiddlewaretoken": token[1], "username": "x", "password": "y"}
    return client.post("/login/", form, HTTP_ORIGIN=origin).status_code


def test_behind_a_proxy_with_tls_forms_work_for_its_own_pages_only(prepare) -> None:
    """The browser says https where we hear http; another site's page stays refused."""
    assert prepare("--api-host", "0.0.0.0", "--insecure-http").own is None
    assert sign_in("https://proxy.example") == 200
    assert sign_in("https://evil.example") == 403


def test_https_has_a_certificate_and_secure_cookies(prepare, settings) -> None:
    """The session never travels in the clear, and the names are those under which the machine is called."""
    assert prepare("--api-host", "2001:db8::1").own is not None
    assert settings.SESSION_COOKIE_SECURE
    assert settings.CSRF_COOKIE_SECURE
    assert "[2001:db8::1]" in settings.ALLOWED_HOSTS


def test_bodies_wait_in_a_folder_of_our_own_that_is_swept(prepare, tmp_path: Path) -> None:
    """Beside the database, closed to others, without what a killed dispatcher left."""
    folder = tmp_path / "tmp"
    folder.mkdir(mode=0o700)
    (folder / "left").touch()
    assert prepare().limits.scratch_folder == str(folder)
    assert list(folder.iterdir()) == []
