"""Wrong configuration is one clear line and the right exit code: 1 when the world is wrong, 2 when the words are."""

from __future__ import annotations

import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from octaskly_wire.join_token import JoinToken
from tests.support.cluster import Cluster
from tests.support.programs import ROOT, clean_environment, free_port, manage
from worker_node.shell.keyfile import StateFolder


def dispatch(folder: Path, *flags: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a dispatcher that is expected to refuse."""
    given = ["--db-path", str(folder / "data" / "octaskly.db"), "--bind", "127.0.0.1", "--no-mdns"]
    if not any(flag.startswith("--port") for flag in flags) and "OCTASKLY_PORT" not in variables:
        given += ["--port", str(free_port())]
    if not any(flag.startswith("--api-port") for flag in flags):
        given += ["--api-port", str(free_port())]
    return manage("rundispatcher", *given, *flags, environment=clean_environment(folder, **variables))


def work(folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """Run a worker that is expected to refuse."""
    return subprocess.run(
        [sys.executable, "-m", "worker_node", "--state-dir", str(folder / "state"), *flags],
        check=False,
        cwd=ROOT,
        env=clean_environment(folder),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
    )


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    """Return the only line of the complaint."""
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, done.stderr
    assert done.stdout == ""
    return lines[0]


@pytest.mark.parametrize("flag", ["--port", "--api-port"])
def test_a_port_in_use_is_one_line_and_exit_1(tmp_path: Path, flag: str) -> None:
    """The line names the flag and the port, and nothing was started or created."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = dispatch(tmp_path, flag, str(port))
    assert done.returncode == 1
    assert str(port) in one_line(done)
    assert flag in one_line(done)
    assert not (tmp_path / "data" / "octaskly.db").exists()


@pytest.mark.parametrize("path", ["/proc/no/such/place.db", "/dev/null/x.db", "{folder}"])
def test_an_impossible_db_path_is_one_line_and_exit_1(tmp_path: Path, path: str) -> None:
    """A path where no file can be says which path."""
    path = path.format(folder=tmp_path)
    done = dispatch(tmp_path, "--db-path", path)
    assert done.returncode == 1
    assert str(Path(path).parent) in one_line(done)


def test_a_file_that_is_no_database_is_one_line_and_exit_1(tmp_path: Path) -> None:
    """Somebody else's file is neither used nor changed."""
    path = tmp_path / "letter.txt"
    path.write_text("Dear all, this is no database. " * 100)
    done = dispatch(tmp_path, "--db-path", str(path))
    assert done.returncode == 1
    assert str(path) in one_line(done)
    assert path.read_text().startswith("Dear all")


def test_a_wrong_secret_key_is_one_line_and_exit_1(cluster: Cluster) -> None:
    """An existing database opens with its own secret key only."""
    assert cluster.dispatcher is not None
    assert cluster.dispatcher.stop() == 0
    done = dispatch(cluster.folder, "--secret-key", "another secret of good length", "--db-path", str(cluster.db_path))
    assert done.returncode == 1
    assert "secret key" in one_line(done)
    cluster.start_dispatcher()


def test_a_secret_key_file_that_others_can_read_is_one_line_and_exit_1(tmp_path: Path) -> None:
    """It names the file and what to run, and makes no database."""
    (tmp_path / "data").mkdir(mode=0o700)
    path = tmp_path / "data" / "secret.key"
    path.write_text("a secret that others have seen")
    path.chmod(0o644)
    done = dispatch(tmp_path)
    assert done.returncode == 1
    assert f"chmod 600 {path}" in one_line(done)
    assert not (tmp_path / "data" / "octaskly.db").exists()


@pytest.mark.parametrize("name", ["key.pem", "."])
def test_a_worker_key_that_others_can_read_is_one_line_and_exit_1(tmp_path: Path, name: str) -> None:
    """The file, or the folder with it: a worker whose key may be in other hands does not call itself by it."""
    with closing(StateFolder(tmp_path / "state")) as folder:
        folder.load_or_make_key()
    (tmp_path / "state" / name).chmod(0o755)
    token = JoinToken.new(bytes(32), bytes).text
    done = work(tmp_path, "--dispatcher-addr", f"127.0.0.1:{free_port()}", "--join-token", token)
    assert done.returncode == 1, done.stderr
    assert f"chmod {'600' if name == 'key.pem' else '700'} {tmp_path / 'state'}" in one_line(done)


@pytest.mark.parametrize(
    "flags",
    [
        ["--port", "0"],
        ["--port", "65536"],
        ["--port", "many"],
        ["--api-port", "-1"],
        ["--workers", "0"],
        ["--workers", "x"],
        ["--secret-key", "short"],
        ["--secret-key"],
        ["--no-such-flag"],
        ["--drain-timeout", "-1"],
    ],
)
def test_bad_flags_are_exit_2(tmp_path: Path, flags: list[str]) -> None:
    """Bad usage names the flag, and nothing is created."""
    done = dispatch(tmp_path, *flags)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert flags[0].strip("-").replace("-", " ") in done.stderr.replace("-", " ")
    assert not (tmp_path / "data" / "octaskly.db").exists()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OCTASKLY_PORT", "none"),
        ("OCTASKLY_LEASE_S", "soon"),
        ("OCTASKLY_HEARTBEAT_S", "-3"),
        ("OCTASKLY_LOG", "loud"),
        ("OCTASKLY_DEFAULT_SANDBOX", "padded"),
        ("OCTASKLY_LOCAL_MIN_SANDBOX", "Strict"),
    ],
)
def test_bad_variables_are_exit_2(tmp_path: Path, variable: str, value: str) -> None:
    """A wrong environment variable is named like a wrong flag."""
    done = dispatch(tmp_path, **{variable: value})
    assert done.returncode == 2, done.stderr
    assert variable in one_line(done)


@pytest.mark.parametrize(
    "flags",
    [
        ["--max-jobs", "0"],
        ["--max-jobs", "x"],
        ["--min-sandbox", "padded"],
        ["--dispatcher-addr", "host:none"],
        ["--dispatcher-addr", "host:99999"],
        ["--transport", "pigeon"],
        ["--join-token", "octa1-nonsense"],
        ["--no-such-flag"],
    ],
    ids=" ".join,
)
def test_a_worker_with_bad_flags_is_exit_2(tmp_path: Path, flags: list[str]) -> None:
    """Bad usage names the flag in one line, and no state folder is made."""
    done = work(tmp_path, *flags)
    assert done.returncode == 2, done.stderr
    assert flags[0] in one_line(done)
    assert not (tmp_path / "state").exists()


def test_a_worker_without_identity_or_token_says_what_it_needs(tmp_path: Path) -> None:
    """It cannot join anything, so it ends instead of waiting for ever."""
    done = work(tmp_path, "--dispatcher-addr", f"127.0.0.1:{free_port()}")
    assert done.returncode == 1
    assert "--join-token" in one_line(done)
