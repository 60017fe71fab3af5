"""Guessing is slowed down: by name and address, by address alone, whichever door, process or start it goes through."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import make_password
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from rest_framework.test import APIClient

from accounts_app import limits, lockout
from accounts_app.models import FailedSignIns
from accounts_app.roles import Role
from audit_app.models import AuditEntry

ROOT = Path(__file__).parents[2]
TOKEN = "/api/v1/auth/token"
ADDRESS = "10.0.0.7"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def try_password(name: str, password: str, address: str = ADDRESS):
    """Return REST's answer to a sign-in."""
    return APIClient().post(TOKEN, {"username": name, "password": password}, REMOTE_ADDR=address)


def count(event_type: str) -> int:
    """Return how often the audit has it."""
    return AuditEntry.objects.filter(event_type=event_type).count()


def guesser(database: Path, *passwords: str) -> subprocess.Popen:
    """Start a process on this database that is going to try passwords of carla."""
    environment = {**os.environ, "OCTASKLY_DB_PATH": str(database)}
    command = [sys.executable, "-m", "tests.support.guesser", "carla", ADDRESS, *passwords]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdin=pipe, stdout=pipe, text=True)


def guessed(process: subprocess.Popen) -> list[str]:
    """Let it begin, if it has not, and return what it was answered with."""
    out, _ = process.communicate("\n", timeout=60)
    return [line.split()[0] for line in out.splitlines() if line != "ready"]


@pytest.fixture
def database(django_db_setup, tmp_path):
    """Return a database of its own, with the user carla."""
    path = tmp_path / "octaskly.db"
    with closing(sqlite3.connect(connection.settings_dict["NAME"])) as whole, closing(sqlite3.connect(path)) as copy:
        whole.backup(copy)
        copy.execute(
            "INSERT INTO auth_user (username, password, is_active, is_staff, is_superuser, first_name, last_name, email,"
            " date_joined) VALUES ('carla', ?, 1, 0, 0, '', '', '', '2026-01-01')",
            [make_password("pw-of-a-test")],
        )
        copy.commit()
    return path


def test_two_processes_and_a_third_after_them_count_together(database):
    """Of guesses that two make at once five are checked; a process that starts later refuses the right one, too."""
    guessers = [guesser(database, *["wrong"] * 5) for _ in range(2)]
    late = guesser(database, "pw-of-a-test")
    for process in (*guessers, late):
        assert process.stdout.readline() == "ready\n"
    for process in guessers:
        process.stdin.write("\n")
        process.stdin.flush()
    answers = [answer for process in guessers for answer in guessed(process)]
    assert sorted(answers) == ["locked"] * 5 + ["wrong"] * 5
    assert guessed(late) == ["locked"]
    with closing(sqlite3.connect(database)) as found:
        query = "SELECT count(*) FROM audit_log WHERE event_type = 'login_failed'"
        assert found.execute(query).fetchone() == (5,)


@pytest.mark.django_db
@pytest.mark.parametrize("door", ["/login/", "/admin/login/", "/api/v1/session/login/", TOKEN])
def test_every_door_counts_and_refuses(door, user_of):
    """What failed at one is counted at all of them: three here and two there, and both are shut."""
    user = user_of(Role.ADMIN, "carla")
    user.is_staff = True
    user.save()
    for _ in range(3):
        try_password("carla", "wrong")
    client = Client(REMOTE_ADDR=ADDRESS)
    for password in ("wrong", "wrong", "pw-of-a-test"):
        if door == TOKEN:
            answer = try_password("carla", password)
        else:
            # Those of the admin and of the browsable routes lead to the one page that takes passwords.
            shown = client.get(door, follow=True)
            page = shown.redirect_chain[-1][0] if shown.redirect_chain else door
            answer = client.post(page, {"username": "carla", "password": password})
            assert "_auth_user_id" not in client.session
    assert count("login_failed") == 5
    assert count("login_succeeded") == 0
    assert answer.status_code == 429 or "Too many failed sign-ins. Try again in 15 minutes." in answer.content.decode()


@pytest.mark.django_db
def test_each_lockout_is_longer_until_one_is_forgotten():
    """15 minutes, 30, 60; in between five tries each; as new a day after the end of the last."""
    now, seen = NOW, []
    for _ in range(3):
        assert [lockout.begin_attempt("carla", ADDRESS, now) for _ in range(5)] == [1, 2, 3, 4, 5]
        seen.append(lockout.seconds_locked("carla", ADDRESS, now))
        with pytest.raises(lockout.SignInLocked) as refusal:
            lockout.begin_attempt("carla", ADDRESS, now)
        assert refusal.value.wait_s == seen[-1]
        now += timedelta(seconds=seen[-1])
    assert seen == [900, 1800, 3600]
    lockout.begin_attempt("somebody else", ADDRESS, now + timedelta(days=1))
    assert [row.username for row in FailedSignIns.objects.all()] == ["somebody else"]
    assert [lockout.begin_attempt("carla", ADDRESS, now + timedelta(days=1)) for _ in range(5)][-1] == 5
    assert lockout.seconds_locked("carla", ADDRESS, now + timedelta(days=1)) == 900


@pytest.mark.django_db
def test_failures_far_apart_are_no_guessing():
    """One every quarter of an hour counts as the first each time."""
    for quarter in range(20):
        assert lockout.begin_attempt("carla", ADDRESS, NOW + quarter * lockout.WINDOW) == 1


@pytest.mark.django_db
def test_an_address_that_tries_many_names_is_refused(user_of):
    """After thirty failures within a minute, with the right password, too; told once, and other addresses go on."""
    user_of(Role.CLIENT, "carla")
    for _ in range(31):
        assert try_password("carla", "pw-of-a-test").status_code == 200, "a good one is given back"
    soon = datetime.now(UTC) + timedelta(seconds=30)
    for number in range(30):
        lockout.begin_attempt(f"name {number}", ADDRESS, soon)
    with pytest.raises(lockout.SignInLocked) as refusal:
        lockout.begin_attempt("one more", ADDRESS, soon)
    assert refusal.value.is_of_address
    refused = [try_password("carla", "pw-of-a-test") for _ in range(5)]
    assert {answer.status_code for answer in refused} == {429}
    assert 1 <= int(refused[0]["Retry-After"]) <= 60
    limits.forget()
    assert try_password("carla", "pw-of-a-test").status_code == 429, "a start forgets nothing"
    assert count("limit_reached") == 1
    assert try_password("carla", "pw-of-a-test", "10.0.0.8").status_code == 200


@pytest.mark.django_db
def test_who_exists_is_not_told(user_of):
    """Wrong name, wrong password and a disabled account have one answer, and are locked alike."""
    user_of(Role.CLIENT, "carla")
    user_of(Role.CLIENT, "gone")
    get_user_model().objects.filter(username="gone").update(is_active=False)
    answers = {
        name: [try_password(name, "pw-of-a-test" if name == "gone" else "wrong") for _ in range(6)]
        for name in ("carla", "gone", "nobody")
    }
    seen = {
        name: [(answer.status_code, answer.content, answer.get("Retry-After")) for answer in its]
        for name, its in answers.items()
    }
    assert seen["carla"] == seen["gone"] == seen["nobody"]
    assert seen["carla"][-1][0] == 429


@pytest.mark.django_db
def test_an_operator_lets_a_name_in_again(user_of, capsys, settings):
    """From all addresses, with a row of the audit; a name without failures is told."""
    user_of(Role.CLIENT, "carla")
    for number in range(6):
        for address in (ADDRESS, "10.0.0.8"):
            assert try_password("carla", "wrong", address).status_code == (401 if number < 5 else 429)
    settings.DB_PATH = Path(str(connection.settings_dict["NAME"]))
    call_command("unlock", "carla")
    assert capsys.readouterr().out == "carla may sign in again (2 addresses)\n"
    assert try_password("carla", "pw-of-a-test").status_code == 200
    assert AuditEntry.objects.get(event_type="account_changed").actor == "operator"
    with pytest.raises(CommandError, match="'carla' has no failed sign-ins"):
        call_command("unlock", "carla")
