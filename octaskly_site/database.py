"""Gets the database ready at start: folder, migrations, the cluster's identity, the first admin."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from django.core.management import call_command
from django.db import DatabaseError, connection, connections
from django.db.migrations.executor import MigrationExecutor

from octaskly_site.env import ConfigurationError

LEAST_SQLITE = (3, 35)
"""Of it on, an UPDATE gives back what it changed, which the engine's statements need."""


def prepare_database(path: Path) -> None:
    """Create or migrate the database; raises ConfigurationError with the path when that cannot be done."""
    if sqlite3.sqlite_version_info < LEAST_SQLITE:
        least = ".".join(map(str, LEAST_SQLITE))
        raise ConfigurationError(f"this Python has SQLite {sqlite3.sqlite_version}; {least} or newer is needed")
    if path.is_dir():
        raise ConfigurationError(f"--db-path: {path} is a folder, not a file")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(path.parent, os.W_OK):
            raise ConfigurationError(f"--db-path: the folder {path.parent} cannot be written")
        executor = MigrationExecutor(connection)
        if executor.migration_plan(executor.loader.graph.leaf_nodes()):
            call_command("migrate", verbosity=0, interactive=False)
        # Outputs and environments of everybody's commands stand in it.
        path.chmod(0o600)
    except OSError as error:
        raise ConfigurationError(f"--db-path: cannot use {path}: {error.strerror or error}") from error
    except (DatabaseError, sqlite3.Error) as error:
        raise ConfigurationError(f"--db-path: cannot use {path}: {error}") from error
    finally:
        connections.close_all()
