"""What management commands share that work on the cluster's database: its two flags, and that it is there."""

from __future__ import annotations

from pathlib import Path

from django.conf import settings
from django.core.management.base import CommandError, CommandParser


def add_database_flags(parser: CommandParser) -> None:
    """Accept the flags that manage.py reads before Django starts."""
    parser.add_argument("--db-path", help="database file (OCTASKLY_DB_PATH)")
    parser.add_argument("--secret-key", help="root secret (OCTASKLY_SECRET_KEY)")


def existing_database() -> Path:
    """Return the database's path; raises CommandError where none is, for SQLite would make an empty one."""
    path = Path(str(settings.DATABASES["default"]["NAME"]))
    if not path.is_file():
        raise CommandError(f"there is no database {path}; start the dispatcher once first")
    return path
