"""One cluster for all tests of the command line and the Python client, and a user's shell at it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.octaskly.shell import Shell
from tests.support.cluster import ADMIN_PASSWORD, Cluster
from tests.support.started_cluster import started_cluster


@pytest.fixture(scope="session")
def shared_cluster(tmp_path_factory) -> Iterator[Cluster]:
    """A dispatcher and a worker with four slots, up for the whole session."""
    with started_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        cluster.start_worker("w1", slots=4)
        cluster.wait_connected("w1")
        yield cluster


@pytest.fixture(scope="session")
def home(shared_cluster: Cluster, tmp_path_factory) -> Path:
    """The home of a user who has signed in."""
    folder = tmp_path_factory.mktemp("user")
    shell = Shell(folder / "home", folder / "here", shared_cluster.url)
    shell.says("login", "-u", "admin", stdin=ADMIN_PASSWORD.encode() + b"\n")
    return shell.home


@pytest.fixture
def token(shared_cluster: Cluster) -> str:
    """An access token of the admin, new: one from the session's beginning may have expired."""
    shared_cluster.api.login("admin", ADMIN_PASSWORD)
    return str(shared_cluster.api.http.headers["Authorization"]).partition(" ")[2]


@pytest.fixture
def shell(shared_cluster: Cluster, home: Path, tmp_path: Path) -> Shell:
    """The shell of that user, in a folder of its own."""
    return Shell(home, tmp_path / "here", shared_cluster.url)


@pytest.fixture
def stranger(shared_cluster: Cluster, tmp_path: Path) -> Shell:
    """A shell whose user has not signed in."""
    return Shell(tmp_path / "home", tmp_path / "here", shared_cluster.url)
