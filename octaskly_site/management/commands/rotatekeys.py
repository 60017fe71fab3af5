"""`manage.py rotatekeys`: a new secret key, while no dispatcher runs."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import DatabaseError

from octaskly_site import env
from octaskly_site.copy_command import given_secret, secret_file
from octaskly_site.database_lock import DatabaseInUse
from octaskly_site.env import ConfigurationError
from octaskly_site.former_keys import KEPT
from octaskly_site.key_rotation import Change, rotate
from octaskly_site.secret_key import new_secret
from workers_app.services import WrongSecretKey


class Command(BaseCommand):
    """Change the secret key."""

    help = "Wrap everything in the database with a new secret key; the dispatcher must not run."
    requires_system_checks: list[str] = []
    requires_migrations_checks = False

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the flags; the last two are read by manage.py before Django starts."""
        parser.add_argument("--new-secret-key", metavar="KEY", help="the new secret key (default: a random one)")
        parser.add_argument("--end-sessions", action="store_true", help="everybody signs in anew, as after a leak")
        parser.add_argument("--db-path", help="database file (OCTASKLY_DB_PATH)")
        parser.add_argument("--secret-key", help="the present root secret (OCTASKLY_SECRET_KEY)")

    def handle(self, *args: Any, **options: Any) -> None:
        """Do it and exit with 0, 1 or 2."""
        try:
            self._rotate(options["new_secret_key"], ends_sessions=options["end_sessions"])
        except DatabaseInUse:
            self._fail("the dispatcher runs on this database; stop it first", 1)
        except ConfigurationError as error:
            self._fail(str(error), error.exit_code)
        except WrongSecretKey as error:
            self._fail(f"--secret-key: this is not the present secret key: {error}", 1)
        except DatabaseError as error:
            self._fail(f"{env.db_path()} is no usable database ({error}); start the dispatcher once first", 1)

    def _rotate(self, wanted: str | None, *, ends_sessions: bool) -> None:
        database = env.db_path()
        if not database.is_file():  # SQLite would make an empty one.
            raise ConfigurationError(f"there is no database {database}; start the dispatcher once first")
        is_in_file = not given_secret()
        if not is_in_file and not wanted:
            message = "--new-secret-key: name it, for the present one is given by --secret-key or OCTASKLY_SECRET_KEY"
            raise ConfigurationError(message, exit_code=2)
        change = Change(wanted or new_secret(), is_in_file=is_in_file, ends_sessions=ends_sessions)
        count = rotate(database, change, datetime.now(UTC))
        self.stdout.write(f"{database}: {count} keys wrapped with the new secret key.")
        if is_in_file:
            self.stdout.write(f"It stands in {secret_file(database)}.")
        else:
            self.stdout.write("From now on start with the new one in --secret-key or OCTASKLY_SECRET_KEY.")
        sessions = (
            "Everybody signs in anew." if ends_sessions else f"Sessions and tokens go on, {KEPT.days} days at most."
        )
        self.stdout.write(f"{sessions} Backups made before open with the old secret key only.")

    def _fail(self, message: str, code: int) -> None:
        self.stderr.write(f"octaskly: {message}")
        sys.exit(code)
