"""One line joins a machine that has nothing but Python and curl, and one line makes it forget."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import httpx
import pytest

from octaskly_wire.vocabulary import Transport
from tests.support.bare_machine import BareMachine, NoBareMachine
from tests.support.cluster import Cluster
from tests.support.wait import wait_until

LINE = re.compile(
    r"curl -fsSk --pinnedpubkey '(sha256//[A-Za-z0-9+/]{43}=)' https://\S+/join\.sh \| sh -s -- (octa1-\S+)"
)
WRONG_KEY = 90


@pytest.fixture
def machine(tmp_path: Path) -> BareMachine:
    """A machine with nothing of ours, or a skip that says why not."""
    folder = tmp_path / "machine"
    folder.mkdir()
    try:
        return BareMachine(folder)
    except NoBareMachine as error:
        pytest.skip(str(error))


def line_of(cluster: Cluster, *flags: str) -> re.Match[str]:
    """Return the line that jointoken prints for a machine on this one's loopback."""
    done = cluster.manage("jointoken", "--auto-approve", *flags)
    assert done.returncode == 0, done.stderr
    found = LINE.search(done.stderr)
    assert found, done.stderr
    assert found[2] == done.stdout.strip()
    cluster.remember_token(found[2])
    return found


def test_the_printed_line_joins_a_bare_machine_and_the_uninstall_line_leaves_nothing(
    cluster: Cluster, machine: BareMachine, transport: Transport
) -> None:
    """It becomes a worker, runs a task, is updated by the same line, and is clean again in the end."""
    line = line_of(cluster)[0]
    flags = f"--name bare --min-sandbox basic --max-jobs 1 --transport {transport}"
    joined = cluster.run("joined", machine.command("sh", "-c", f"{line} {flags}"))
    cluster.wait_connected("bare")
    [task] = cluster.wait_ended(cluster.api.submit("id -u; pwd", sandbox="basic"))
    assert (task["status"], task["stdout"].splitlines()[0]) == ("completed", "4242")
    assert ".local/state/octaskly-worker/identity.json" in machine.files()

    # Without a token and without flags: the same worker, as it was.
    again = cluster.run("again", machine.command("sh", "-c", line.partition("octa1-")[0]))
    assert joined.wait() == 0
    wait_until(
        lambda: f"Connected as bare (approved) over {transport}" in again.stderr,
        "the worker is back",
        describe=cluster.describe,
    )
    cluster.wait_connected("bare")
    assert [worker["slots"] for worker in cluster.api.workers()] == [1]

    hint = re.search(r"to remove it: (sh \S+ --uninstall)", again.stderr)
    assert hint
    removed = machine.run(f"{line.partition('octa1-')[0]} --uninstall")
    assert removed.returncode == 0, removed.stderr
    assert again.wait() == 0
    assert machine.files() == set(), removed.stderr
    assert machine.run(f"{line.partition('octa1-')[0]} --uninstall").returncode == 1


def test_what_was_installed_removes_itself_without_the_dispatcher(cluster: Cluster, machine: BareMachine) -> None:
    """The script stays beside the worker, with the folder that was asked for; other things there are left alone."""
    line = line_of(cluster)[0]
    assert machine.run(f"mkdir full && touch full/precious && {line} --dir full --no-start").returncode == 1
    done = machine.run(f"{line} --dir own --no-start")
    assert done.returncode == 0, done.stderr
    cluster.dispatcher.stop()
    hint = re.search(r"to remove it: (sh .* --uninstall.*)", done.stderr)
    assert hint
    assert machine.run(hint[1].replace(" --dir /home/own", " --dir full")).returncode == 1
    removed = machine.run(hint[1])
    assert removed.returncode == 0, removed.stderr
    assert machine.files() == {"full/precious"}


def test_a_line_that_cannot_join_says_why_and_leaves_nothing(cluster: Cluster, machine: BareMachine) -> None:
    """Another key than the pinned one, half a token, no Python, a Python without a bundle, no systemd."""
    found = line_of(cluster)
    wrong = found[0].replace(found[1], f"sha256//{'A' * 43}=").partition(" | ")[0]
    assert machine.run(f"{wrong} -o script").returncode == WRONG_KEY
    assert machine.files() == set()
    assert machine.run(found[0].replace("octa1-", "octa1-x")).returncode == 1
    assert machine.files() == set()

    fetch = found[0].partition(" | ")[0]
    done = machine.run(f"{fetch} | OCTASKLY_PYTHON=/usr/bin/false sh -s -- octa1-x")
    assert (done.returncode, "Python 3.11, 3.12 or 3.13 is needed" in done.stderr) == (1, True)
    done = machine.run(f"{fetch} | sed 's/cp311/cp399/; s/cp312/cp398/; s/cp313/cp397/' | sh -s -- octa1-x")
    assert (done.returncode, "manage.py workerbundle" in done.stderr) == (1, True)
    done = machine.run(f"mkdir bin && PATH=/home/bin:$PATH && ln -s /bin/false bin/systemctl && {found[0]} --service")
    assert (done.returncode, "--service needs systemd" in done.stderr) == (1, True)
    assert machine.files() == {"bin/systemctl"}


def test_rest_and_jointoken_tell_the_same_line(cluster: Cluster) -> None:
    """The address is the dispatcher's own, or the one that is asked for; the pin outlives a restart."""
    answer = cluster.api.post("join-tokens", {"uses": 1, "ttl_s": 60})
    cluster.remember_token(answer["token"])
    told = LINE.fullmatch(answer["join_command"])
    assert told
    assert told[2] == answer["token"]
    assert f"https://127.0.0.1:{cluster.port}/" in told[0]
    assert cluster.dispatcher.stop() == 0
    cluster.start_dispatcher()
    elsewhere = line_of(cluster, "--address", "octa.example")
    assert "https://octa.example:5555/" in elsewhere[0]
    assert elsewhere[1] == told[1]
    assert cluster.manage("jointoken", "--address", "a b").returncode == 2


def test_off_loopback_the_web_server_speaks_https(new_cluster) -> None:
    """With the pinned key, secure cookies, a word to those who forget the s; the pin is that of the workers' port."""
    cluster = new_cluster()
    dispatcher = cluster.start_dispatcher("--api-host", "0.0.0.0", wait=False)
    url = f"https://127.0.0.1:{cluster.api_port}"
    wait_until(lambda: "Join another" in dispatcher.stdout, "it is up", timeout_s=45, describe=cluster.describe)
    line = LINE.search(dispatcher.stdout)
    assert line
    cluster.remember_token(line[2])
    assert f"Pin        {line[1]}" in dispatcher.stdout
    curl = ["curl", "-fsSk", "--noproxy", "*", "--pinnedpubkey", line[1]]
    for address in (f"{url}/health", f"{url}/join.sh", f"https://127.0.0.1:{cluster.port}/join.sh"):
        assert subprocess.run([*curl, address], capture_output=True, check=False).returncode == 0
    with httpx.Client(base_url=url, verify=False, trust_env=False) as browser:
        page = browser.get("/login/")
        assert "Secure" in page.headers["set-cookie"]
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)
        assert token
        form = {"csrfmiddlewaretoken": token[1], "username": "admin", "password": "wrong"}
        sent = browser.post("/login/", data=form, headers={"Referer": f"{url}/login/"})
        assert sent.status_code == 200
        bundle = re.search(r"cp3\d+-[a-z0-9_-]+", browser.get("/join.sh").text)
        assert bundle
        assert browser.get(f"/worker/{bundle[0]}.zip").content.startswith(b"PK")
        assert browser.get("/worker/cp399-linux-x86_64.zip").status_code == 404
    plain = httpx.get(f"http://127.0.0.1:{cluster.api_port}/health", trust_env=False)
    assert (plain.status_code, "https://" in plain.text) == (400, True)
    assert dispatcher.stop() == 0
