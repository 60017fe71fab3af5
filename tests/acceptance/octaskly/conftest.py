"""One cluster for all tests of the command line and the Python client, and a user's shell at it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import levels
from tests.support.cluster import ADMIN_PASSWORD, Cluster
from tests.support.programs import ROOT, clean_environment


@pytest.fixture(scope="session")
def shared_cluster(tmp_path_factory) -> Iterator[Cluster]:
    """A dispatcher and a worker with four slots, up for the whole session."""
    levels.need(levels.usual())
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        cluster.start_dispatcher()
        cluster.start_worker("w1", slots=4)
        cluster.wait_connected("w1")
        yield cluster
    finally:
        cluster.close()


class Shell:
    """A folder and a login of its own, in which `octaskly` is run."""

    def __init__(self, home: Path, here: Path, url: str) -> None:
        self.home = home
        self.here = here
        for folder in (home, here):
            folder.mkdir(exist_ok=True)
        self.environment = clean_environment(self.home, OCTASKLY_URL=url, PYTHONPATH=str(ROOT))

    def start(self, *arguments: str, stdin: Any = subprocess.DEVNULL, **variables: str) -> subprocess.Popen[bytes]:
        """Start a command."""
        return subprocess.Popen(
            [sys.executable, "-m", "octaskly", *arguments],
            cwd=self.here,
            env={**self.environment, **variables},
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, *arguments: str, stdin: bytes = b"", **variables: str) -> subprocess.CompletedProcess[bytes]:
        """Run a command to its end."""
        with self.start(*arguments, stdin=subprocess.PIPE, **variables) as process:
            try:
                out, err = process.communicate(stdin, timeout=60)
            except BaseException:
                process.kill()
                raise
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def says(self, *arguments: str, stdin: bytes = b"") -> str:
        """Return what a command that must succeed printed."""
        done = self.run(*arguments, stdin=stdin)
        assert done.returncode == 0, f"{arguments}: {done.returncode}\n{done.stderr.decode()}"
        return done.stdout.decode()

    def write(self, name: str, data: bytes = b"") -> Path:
        """Make a file in the current folder."""
        path = self.here / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path


@pytest.fixture(scope="session")
def home(shared_cluster: Cluster, tmp_path_factory) -> Path:
    """The home of a user who has signed in."""
    folder = tmp_path_factory.mktemp("user")
    shell = Shell(folder / "home", folder / "here", shared_cluster.url)
    shell.says("login", "-u", "admin", stdin=ADMIN_PASSWORD.encode() + b"\n")
    return shell.home


@pytest.fixture
def shell(shared_cluster: Cluster, home: Path, tmp_path: Path) -> Shell:
    """The shell of that user, in a folder of its own."""
    return Shell(home, tmp_path / "here", shared_cluster.url)


@pytest.fixture
def stranger(shared_cluster: Cluster, tmp_path: Path) -> Shell:
    """A shell whose user has not signed in."""
    return Shell(tmp_path / "home", tmp_path / "here", shared_cluster.url)
