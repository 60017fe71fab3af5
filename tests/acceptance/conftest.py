"""Clusters of real programs for the acceptance tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support import levels
from tests.support.cluster import Cluster
from tests.support.migrated_database import lay_database
from tests.support.small_disk import NoSmallDisk, SmallDisk, mounted_at


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything in this folder."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.acceptance)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A file system of few megabytes that is gone after the test, or a skip that says why not."""
    with ExitStack() as stack:
        try:
            disk = stack.enter_context(mounted_at(tmp_path / "disk"))
        except NoSmallDisk as error:
            pytest.skip(str(error))
        yield disk


@pytest.fixture
def new_cluster(tmp_path: Path) -> Iterator[Callable[..., Cluster]]:
    """Makes clusters that are not started yet; all end with the test."""
    levels.need(levels.usual())
    clusters: list[Cluster] = []

    def make(**variables: str) -> Cluster:
        folder = tmp_path / f"cluster-{len(clusters)}"
        folder.mkdir()
        clusters.append(Cluster(folder, **variables))
        return clusters[-1]

    yield make
    for cluster in clusters:
        cluster.close()


@pytest.fixture
def cluster(new_cluster: Callable[..., Cluster]) -> Cluster:
    """A started dispatcher without workers, lease times shortened."""
    cluster = new_cluster()
    lay_database(cluster.db_path)
    cluster.start_dispatcher()
    return cluster
