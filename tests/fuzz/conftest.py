"""A cluster with something of everything on it: workers, tasks that have ended, output, files, users of two roles."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support import levels
from tests.support.api import Api
from tests.support.cluster import ADMIN_PASSWORD, Cluster
from tests.support.migrated_database import lay_database

CLIENT = "carol"
INPUT = b"1;2\n"
_ADD_CLIENT = f"""
from django.contrib.auth.models import Group, User
User.objects.create_user({CLIENT!r}, password={ADMIN_PASSWORD!r}).groups.add(Group.objects.get(name="Client"))
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything in this folder."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.fuzz)


_summary = pytest.StashKey[list[str]]()


@pytest.fixture
def summary(pytestconfig: pytest.Config) -> list[str]:
    """Lines for the end of the run."""
    return pytestconfig.stash.setdefault(_summary, [])


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Tell what was asked, and with which seed."""
    for line in config.stash.get(_summary, []):
        terminalreporter.write_line(line)


@dataclass(frozen=True)
class Furnished:
    """A running cluster and what is on it."""

    cluster: Cluster
    document: dict[str, Any]
    """What /api/v1/schema says."""
    client: Api
    """Signed in as a user who may only see his own."""
    ended_tasks: dict[str, str]
    """An ended task of the admin and of the client, with output and an output file `out/file`."""

    @property
    def admin(self) -> Api:
        return self.cluster.api


@pytest.fixture(scope="module")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Furnished]:
    """A cluster with one real worker, which the tests of a file share."""
    levels.need(levels.usual())
    cluster = Cluster(tmp_path_factory.mktemp("cluster"), OCTASKLY_MAX_REQUESTS_PER_S="0")
    client = Api(cluster.url)
    try:
        lay_database(cluster.db_path)
        cluster.start_dispatcher()
        assert cluster.manage("shell", "-c", _ADD_CLIENT).returncode == 0
        client.login(CLIENT, ADMIN_PASSWORD)
        cluster.start_worker("worker")
        cluster.wait_connected("worker")
        tasks = {name: _leave_traces(api) for name, api in (("admin", cluster.api), ("client", client))}
        for task in cluster.wait_ended(*tasks.values()):
            assert task["status"] == "completed", task
        document = cluster.api.http.get("/api/v1/schema", headers={"Accept": "application/vnd.oai.openapi+json"}).json()
        yield Furnished(cluster, document, client, tasks)
    finally:
        client.close()
        cluster.close()


def _leave_traces(api: Api) -> str:
    answer = api.http.put("/api/v1/files/data/in.csv", content=INPUT)
    assert answer.status_code == 201, answer.text
    command = "cat data/in.csv; echo words >&2; mkdir out; echo file >out/file"
    return api.submit(command, inputs=["data/in.csv"], outputs=["out/*"], name="leaves traces", env={"A": "b"})
