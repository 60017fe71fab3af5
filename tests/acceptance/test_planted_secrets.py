"""A cluster that was lived in: no secret lies where none belongs, and no text of others acts on who reads a log or a list."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import httpx
import psutil
import pytest

from octaskly_site.secret_key import derive_keys
from octaskly_wire.errors import WireError
from octaskly_wire.identity import key_from_pem
from octaskly_wire.join_token import JoinToken
from tests.acceptance.octaskly.shell import Shell
from tests.support.cluster import ADMIN_PASSWORD, Cluster
from tests.support.hostile_texts import FOR_LOGS, FOR_TERMINALS, TEXTS
from tests.support.migrated_database import lay_database
from tests.support.terminal_session import TerminalSession
from tests.support.web_session import signed_in
from worker_node.config import Address, WorkerConfig
from worker_node.shell.joiner import Joiner
from worker_node.shell.keyfile import StateFolder

pytestmark = pytest.mark.slow

SCRAPE_TOKEN = "canary-scrape-token-91f3"
OF_TASK = "canary-of-a-tasks-environment-5b7e"
MISTYPED = "canary-mistyped-password-aa01"
PLAIN_LINE = re.compile(r"\d\d:\d\d:\d\d (trace|debug|info|warn|error) +[\w.]+: .*|    .*")
COLOURS_AND_LINES = re.compile(r"\x1b\[[0-9;:]*m|[\r\n]")


class Canary(NamedTuple):
    """A secret, in all ways in which it could be written, and the files that must hold it."""

    forms: frozenset[bytes]
    belongs_in: re.Pattern[str]


EACH_SIGN_IN_TAKES_LONG = 9
"""On purpose: so not each text is tried there."""
NOWHERE = re.compile(r"(?!)")
DATABASE = re.compile(r"data/octaskly\.db(-wal)?|backup\.db")


class LivedIn:
    """The cluster, and what was planted in it."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.canaries: dict[str, Canary] = {}
        home = cluster.folder / "home"
        self.shell = Shell(home, cluster.folder / "here", cluster.url)
        self.terminal = TerminalSession(home, cluster.url)
        self.answers: dict[str, str] = {}
        """What the dispatcher said, by what it was asked."""

    def plant(self, name: str, secret: str | bytes, belongs_in: re.Pattern[str] = NOWHERE) -> None:
        """Remember a secret as text, in hexadecimal and in both alphabets of base64."""
        raw = secret.encode() if isinstance(secret, str) else secret
        ways = {raw, raw.hex().encode(), base64.b64encode(raw).rstrip(b"="), base64.urlsafe_b64encode(raw).rstrip(b"=")}
        self.canaries[name] = Canary(frozenset(ways), belongs_in)

    def found_in(self, where: str, data: bytes) -> list[str]:
        """Return the names of the secrets that are in it and do not belong there."""
        return [
            f"{name} in {where}"
            for name, canary in self.canaries.items()
            if not canary.belongs_in.fullmatch(where) and any(form in data for form in canary.forms)
        ]


@pytest.fixture(scope="module")
def lived_in(tmp_path_factory) -> Iterator[LivedIn]:
    """A dispatcher and a worker with tasks, files, errors and crashes behind them, still up."""
    folder = tmp_path_factory.mktemp("lived-in")
    cluster = Cluster(folder, OCTASKLY_METRICS_TOKEN=SCRAPE_TOKEN, OCTASKLY_LOG="trace,django=info")
    lived = LivedIn(cluster)
    try:
        lay_database(cluster.db_path)
        live(lived)
        yield lived
    finally:
        cluster.close()


def live(lived: LivedIn) -> None:
    """Do all that a cluster is for, and some that it is not for."""
    cluster = lived.cluster
    dispatcher = cluster.start_dispatcher("--log-json")
    token = cluster.join_token()
    cluster.start_worker("w1", "--log-json", token=token).stop()
    worker = cluster.start_worker("w1")
    cluster.wait_connected("w1")
    with signed_in(cluster.url, "admin", ADMIN_PASSWORD) as browser:
        lived.plant("the session's cookie", browser.cookies["sessionid"], DATABASE)
        lived.answers["a page"] = (
            browser.get("/tasks/").text + browser.get("/workers/").text + browser.get("/audit/").text
        )
    done = [
        cluster.api.submit("exit 3", env={"CANARY": OF_TASK}),
        cluster.api.submit("env; cat /proc/self/cmdline", name="'\"$(x)`"),
    ]
    cluster.wait_ended(*done)
    running = cluster.api.submit("sleep 60", env={"CANARY": OF_TASK})
    cluster.wait_status(running, "running")
    worker.kill()
    dispatcher.kill()
    plant_all(lived, token)
    cluster.start_dispatcher("--log-json")
    cluster.start_worker("w1")
    cluster.wait_connected("w1")
    cluster.api.post(f"tasks/{running}/cancel")
    lived.plant("the access token", cluster.api.http.headers["Authorization"].partition(" ")[2])
    lived.plant("the refresh token", cluster.api.refresh_token)
    # Before an address with many wrong passwords is shut out.
    lived.shell.says("login", "-u", "admin", stdin=ADMIN_PASSWORD.encode() + b"\n")
    misbehave(lived)
    ask_for_everything(lived, done)
    assert cluster.manage("backup", str(cluster.folder / "backup.db")).returncode == 0


def plant_all(lived: LivedIn, token: str) -> None:
    """Remember every secret that the cluster has by now."""
    folder = lived.cluster.folder
    secret = (folder / "data" / "secret.key").read_text().strip()
    lived.plant("the secret key", secret, re.compile(r"data/secret\.key"))
    for name, value in vars(derive_keys(secret)).items():
        lived.plant(f"the derived key {name}", bytes.fromhex(value) if isinstance(value, str) else value)
    pem = (folder / "state-w1" / "key.pem").read_bytes()
    at_home = re.compile(r"state-w1/key\.pem")
    lived.plant("the worker's key", key_from_pem(pem).private_bytes_raw())
    lived.plant("the worker's key as text", b"".join(pem.splitlines()[1:-1]), at_home)
    lived.plant("the join token", token)
    lived.plant("the join token's secret", token.split("-")[3])
    lived.plant("the admin's password", ADMIN_PASSWORD)
    lived.plant("a mistyped password", MISTYPED)
    lived.plant("the scrape token", SCRAPE_TOKEN)
    lived.plant("a task's environment", OF_TASK, DATABASE)


def misbehave(lived: LivedIn) -> None:
    """Send what is refused, with secrets and hostile texts in every place that is repeated somewhere."""
    http, answers = lived.cluster.api.http, lived.answers
    access = http.headers["Authorization"]
    for position, text in enumerate(TEXTS):
        http.post("/api/v1/tasks", json={"command": text, "name": text, "inputs": [text]})
        http.get("/api/v1/tasks", params={"status": text}, headers={"User-Agent": ascii(text)})
        if position % EACH_SIGN_IN_TAKES_LONG == 0:
            answers[f"sign-in {position}"] = httpx.post(
                f"{lived.cluster.url}/api/v1/auth/token",
                json={"username": f"{text}{position}", "password": MISTYPED},
                trust_env=False,
            ).text
    token = JoinToken.parse(lived.cluster.join_token())
    for text in FOR_TERMINALS[:8]:
        join_as(lived.cluster, text, token)
    (worker,) = lived.cluster.api.workers()
    asked = {
        "a wrong token": httpx.get(
            f"{lived.cluster.url}/api/v1/tasks", headers={"Authorization": access[:-2] + "xx"}, trust_env=False
        ),
        "a token in a field": http.post("/api/v1/auth/refresh", json={"refresh": access}),
        "a wrong environment": http.post("/api/v1/tasks", json={"command": "a", "env": {"A": OF_TASK + "\0"}}),
        "a wrong name": http.post("/api/v1/tasks", json={"command": "a", "name": "\x07", "env": {"A": OF_TASK}}),
        "no JSON": http.post("/api/v1/tasks", content=OF_TASK.encode(), headers={"Content-Type": "application/json"}),
    }
    for name, answer in asked.items():
        assert answer.status_code in {400, 401}, (name, answer.text)
        answers[name] = answer.text
    called = [*FOR_LOGS, *FOR_TERMINALS]
    commands = [
        {"command": f": {text}".replace("\0", ""), "name": "".join(filter(str.isprintable, text))} for text in called
    ]
    lived.cluster.api.post("tasks", commands)
    http.post(f"/api/v1/workers/{worker['id']}/suspend", json={"reason": "\x1b]52;c;aGVsbG8=\x07\u202e"})
    http.post(f"/api/v1/workers/{worker['id']}/approve", json={})
    lived.cluster.wait_connected("w1")


def join_as(cluster: Cluster, name: str, token: JoinToken) -> None:
    """Join with this name, past what an honest worker checks; the dispatcher does not take it."""
    address = Address("127.0.0.1", cluster.port)
    config = WorkerConfig(name, 1, cluster.folder / "state-hostile", dispatcher_address=address, join_token=token)
    with closing(StateFolder(config.state_dir)) as folder, pytest.raises((OSError, WireError, TimeoutError)):
        asyncio.run(Joiner(config, folder, "boot").join())


def ask_for_everything(lived: LivedIn, tasks: list[str]) -> None:
    """Read all that can be read; a task's own environment is its owner's, and left out."""
    http, answers = lived.cluster.api.http, lived.answers
    paths = [
        "audit?limit=500",
        "audit/export?format=csv",
        "audit/export?format=json",
        "workers",
        "stats",
        "schema",
        f"tasks/{tasks[0]}/attempts",
    ]
    for path in [
        *(f"/api/v1/{path}" for path in paths),
        "/join.sh",
        "/join.ps1",
        "/health",
        f"/api/v1/tasks/{tasks[1]}/stdout",
    ]:
        answer = http.get(path, headers={"Accept": "*/*"})
        assert answer.status_code == 200, (path, answer.text)
        answers[path] = answer.text
    scraped = httpx.get(
        f"{lived.cluster.url}/metrics", headers={"Authorization": f"Bearer {SCRAPE_TOKEN}"}, trust_env=False
    )
    assert scraped.status_code == 200
    answers["/metrics"] = scraped.text


def test_no_file_holds_a_secret_that_does_not_belong_there(lived_in: LivedIn) -> None:
    """Logs of all programs at their most talkative, database, backup, contents, spools and checkpoints."""
    folder = lived_in.cluster.folder
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    assert len(files) > 10
    found = [
        where for path in files for where in lived_in.found_in(path.relative_to(folder).as_posix(), path.read_bytes())
    ]
    assert found == []


def test_the_secrets_are_really_where_they_belong(lived_in: LivedIn) -> None:
    """Each that has a place is found there: the search above finds what there is."""
    folder = lived_in.cluster.folder
    for name, canary in lived_in.canaries.items():
        if canary.belongs_in is NOWHERE:
            continue
        homes = [path for path in folder.rglob("*") if canary.belongs_in.fullmatch(path.relative_to(folder).as_posix())]
        assert any(form in path.read_bytes() for path in homes for form in canary.forms), name


def test_no_answer_tells_a_secret(lived_in: LivedIn) -> None:
    """Neither errors nor lists, pages, scripts, exports and metrics."""
    assert len(lived_in.answers) > 20
    assert [where for name, text in lived_in.answers.items() for where in lived_in.found_in(name, text.encode())] == []


def test_no_process_shows_a_secret_to_others(lived_in: LivedIn) -> None:
    """Not on its command line, and below the worker not in its environment, which a command could read."""
    cluster = lived_in.cluster
    task = cluster.api.submit("sleep 30")
    cluster.wait_status(task, "running")
    found = []
    for program in (cluster.dispatcher, cluster.workers["w1"]):
        assert program is not None
        own = psutil.Process(program.pid)
        below = own.children(recursive=True)
        for process in (own, *below):
            found += lived_in.found_in(
                f"the command line of {process.name()}", Path(f"/proc/{process.pid}/cmdline").read_bytes()
            )
        if program is cluster.workers["w1"]:
            assert len(below) > 1
            for process in below:
                found += lived_in.found_in(f"the environment of {process.name()}", read_environment(process.pid))
    cluster.api.post(f"tasks/{task}/cancel")
    assert found == []


def read_environment(pid: int) -> bytes:
    """Return a process's environment, nothing where even we may not read it."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except (PermissionError, ProcessLookupError):
        return b""


def test_each_event_is_one_line_of_a_log(lived_in: LivedIn) -> None:
    """Plain or as JSON, whatever stood in a name, a command, an address or a header: nothing in it acts or is forged."""
    lines = 0
    for program in lived_in.cluster.programs:
        is_json = "--log-json" in psutil.Process(program.pid).cmdline() if program.is_running else None
        for line in program.stderr_path.read_bytes().decode().split("\n")[:-1]:
            lines += 1
            assert line.isprintable(), (program.name, ascii(line))
            if line.startswith("{") or is_json:
                event = json.loads(line)
                assert {"time", "level", "module", "message"} <= event.keys()
                assert event["message"] != "forged"
            else:
                assert PLAIN_LINE.fullmatch(line), (program.name, line)
                assert not line.startswith("12:00:00 error octaskly: forged")
    assert lines > 50


@pytest.mark.parametrize("command", ["tasks", "tasks --json", "workers", "workers --json"])
def test_lists_on_a_terminal_show_and_do_not_act(lived_in: LivedIn, command: str) -> None:
    """In a real terminal: colours and lines, and no other sequence."""
    seen = lived_in.terminal.seen_of(*command.split())
    assert ("w1" if "workers" in command else "completed") in seen
    assert COLOURS_AND_LINES.sub("", seen).isprintable(), ascii(seen)


def test_one_task_on_a_terminal_shows_and_does_not_act(lived_in: LivedIn) -> None:
    """Its page, why it waits, and its output without --raw, of which only letters, colours and lines are left."""
    octal = "".join(f"\\{byte:03o}" for text in FOR_TERMINALS for byte in text.encode())
    task = lived_in.cluster.api.submit(f"printf 'begun{octal}ended'; : \x1b]0;x\x07\u202e")
    lived_in.cluster.wait_ended(task)
    for command in ("task", "why"):
        seen = lived_in.terminal.seen_of(command, task)
        assert COLOURS_AND_LINES.sub("", seen).isprintable(), ascii(seen)
    seen = lived_in.terminal.seen_of("logs", task)
    assert "begun" in seen
    assert "ended" in seen
    assert not re.search(r"\x1b|\x07|[\x80-\x84\x86-\x9f]", COLOURS_AND_LINES.sub("", seen)), ascii(seen)
