"""Signing in and out, and what a command says when it may not speak."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.support.cluster import ADMIN_PASSWORD
from tests.support.programs import free_port

SECRET = ADMIN_PASSWORD.encode() + b"\n"


def test_nobody_signed_in_is_told_how(stranger) -> None:
    """The sentence has the command to run."""
    done = stranger.run("tasks")
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"octaskly login http://" in done.stderr


def test_signing_in_and_out(stranger) -> None:
    """In between the address is remembered; afterwards the refresh token is worth nothing."""
    stranger.says("login", "-u", "admin", stdin=SECRET)
    path = stranger.home / ".config/octaskly/credentials.json"
    login = json.loads(path.read_text())
    url = stranger.environment.pop("OCTASKLY_URL")
    stranger.says("tasks")
    stranger.says("logout")
    assert not path.exists()
    login["access_expires_at"] = 0
    path.write_text(json.dumps(login))
    path.chmod(0o600)
    assert b"Your session is over. Run: octaskly login" in stranger.run("tasks", OCTASKLY_URL=url).stderr


def test_signing_in_and_out_as_json(stranger) -> None:
    """Where and who; no token is shown."""
    expected = {"url": stranger.environment["OCTASKLY_URL"], "username": "admin"}
    signed_in = json.loads(stranger.says("login", "-u", "admin", "--json", stdin=SECRET))
    assert signed_in == {**expected, "pin": None}
    assert json.loads(stranger.says("logout", "--json")) == expected


def test_a_wrong_password(stranger) -> None:
    """It is told, and nothing is stored."""
    done = stranger.run("login", "-u", "somebody", stdin=b"wrong\n")
    assert (done.returncode, b"no user 'somebody' with this password" in done.stderr) == (1, True)
    assert not (stranger.home / ".config/octaskly/credentials.json").exists()


def test_tokens_are_renewed_by_one_of_many(stranger) -> None:
    """Commands side by side with an old access token exchange the refresh token once, and all go on."""
    stranger.says("login", "-u", "admin", stdin=SECRET)
    path = stranger.home / ".config/octaskly/credentials.json"
    login = json.loads(path.read_text())
    path.write_text(json.dumps({**login, "access_expires_at": 0}))
    running = [stranger.start("stats", "--json") for _ in range(4)]
    for process in running:
        with process:
            out, err = process.communicate(timeout=60)
            assert process.returncode == 0, err
            assert json.loads(out)["workers"]["total"] >= 1
    assert json.loads(path.read_text())["refresh"] != login["refresh"]


def test_a_token_of_the_environment_is_enough(stranger, token) -> None:
    """For scripts; one that is refused is named."""
    assert stranger.run("stats", OCTASKLY_TOKEN=token).returncode == 0
    assert b"OCTASKLY_TOKEN is not accepted" in stranger.run("stats", OCTASKLY_TOKEN="x.y.z").stderr


def test_nobody_at_the_address(stranger) -> None:
    """What to start, and how to name another."""
    told = stranger.run("tasks", OCTASKLY_URL=f"http://127.0.0.1:{free_port()}", OCTASKLY_TOKEN="t").stderr
    assert b"Nothing answers at http://127.0.0.1:" in told
    assert b"octaskly dispatcher" in told


@pytest.mark.parametrize("command", ["tasks", "run"])
def test_a_token_does_not_cross_a_network_in_the_clear(stranger, command) -> None:
    """Without --insecure it is refused before anything is sent."""
    done = stranger.run(
        command, *(["true"] if command == "run" else []), OCTASKLY_URL="http://10.1.2.3", OCTASKLY_TOKEN="t"
    )
    assert (done.returncode, b"--insecure" in done.stderr) == (1, True)


def test_a_closed_pipe_is_no_error(stranger, token) -> None:
    """`octaskly workers | true` says nothing."""
    script = f"{sys.executable} -m octaskly workers | true"
    environment = {**stranger.environment, "OCTASKLY_TOKEN": token}
    done = subprocess.run(["sh", "-c", script], check=False, env=environment, capture_output=True, timeout=60)
    assert done.stderr == b""


SOURCE = {
    "bash": ["bash", "--norc", "-c", ". ./script"],
    "zsh": ["zsh", "-f", "-c", "autoload -U compinit; compinit -u -D; . ./script"],
    "fish": ["fish", "--no-config", "-c", "source ./script"],
}


@pytest.mark.parametrize("shell_name", SOURCE)
def test_completion_scripts_are_taken_by_their_shells(stranger, shell_name) -> None:
    """The shell reads the script without a word; bash then completes a command."""
    stranger.write("script", stranger.says("completion", shell_name).encode())
    try:
        done = subprocess.run(
            SOURCE[shell_name],
            check=False,
            cwd=stranger.here,
            env=stranger.environment,
            capture_output=True,
            timeout=30,
        )
    except FileNotFoundError:
        pytest.skip(f"there is no {shell_name} here")
    assert (done.returncode, done.stderr) == (0, b"")


def test_bash_completes_commands_and_flags(stranger) -> None:
    """As it would ask: the words so far and where the cursor is."""
    variables = {"_OCTASKLY_COMPLETE": "bash_complete", "COMP_WORDS": "octaskly ca", "COMP_CWORD": "1"}
    assert b"plain,cancel" in completed(stranger, variables)
    variables |= {"COMP_WORDS": "octaskly run --sand", "COMP_CWORD": "2"}
    assert b"plain,--sandbox" in completed(stranger, variables)


def completed(shell, variables) -> bytes:
    """Return what a shell would offer."""
    with shell.start(**variables) as process:
        return process.communicate(timeout=60)[0]


MAKE_CLIENT = """
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
user = get_user_model().objects.create_user("carol", password="carols own words")
user.groups.add(Group.objects.get(name="Client"))
"""


def test_a_client_does_its_own_work_and_no_more(stranger, shared_cluster) -> None:
    """What the role does not allow is said; a joblog has ids where names may not be seen; `--all` is the user's own."""
    assert shared_cluster.manage("shell", "-c", MAKE_CLIENT).returncode == 0
    stranger.says("login", "-u", "carol", stdin=b"carols own words\n")
    refused = stranger.run("workers")
    assert (refused.returncode, b"Your role does not allow this" in refused.stderr) == (1, True)
    assert stranger.says("map", "-k", "--joblog", "log", "echo", ":::", "a", "b").split() == ["a", "b"]
    assert stranger.says("tasks").count("completed") == 2
    theirs = shared_cluster.api.submit("sleep 300", name="not carols")
    own = stranger.says("submit", "--memory", "10000000", "true").strip()
    assert stranger.says("cancel", "--all").split() == [own]
    assert shared_cluster.api.task(theirs)["status"] in {"queued", "running"}
    assert stranger.run("task", theirs).returncode == 1
    shared_cluster.api.post(f"tasks/{theirs}/cancel")
