"""A cluster that the tests of a file, or of a whole run, share."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from tests.support import levels
from tests.support.cluster import Cluster
from tests.support.migrated_database import lay_database


@contextlib.contextmanager
def started_cluster(folder: Path) -> Iterator[Cluster]:
    """Start a dispatcher without workers over a migrated database, and end all at the end.

    Skips the test where tasks of the usual level cannot run.
    """
    levels.need(levels.usual())
    cluster = Cluster(folder)
    try:
        lay_database(cluster.db_path)
        cluster.start_dispatcher()
        yield cluster
    finally:
        cluster.close()
