"""What `backup` and `restore` have in common: flags, one line for every refusal, and an orderly end by a signal."""

from __future__ import annotations

import signal
import sys
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from accounts_app.database_flags import add_database_flags
from octaskly_site import env
from octaskly_site.database_copy import CopyRefused
from octaskly_site.env import ConfigurationError
from octaskly_site.secret_key import SECRET_FILE


class CopyCommand(BaseCommand, ABC):
    """A command with one path, which either does its work whole or changes nothing."""

    requires_system_checks: list[str] = []
    requires_migrations_checks = False
    path_help = ""
    force_help = ""

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the flags; the last two are read by manage.py before Django starts."""
        parser.add_argument("path", type=Path, metavar="PATH", help=self.path_help)
        parser.add_argument("--force", action="store_true", help=self.force_help)
        add_database_flags(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """Do it and exit with 0 or 1; Django itself exits with 2 on bad usage."""
        # Like Ctrl-C: the draft is removed on the way out.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            self.act(options["path"], env.db_path(), is_forced=options["force"])
        except (CopyRefused, ConfigurationError) as error:
            self.stderr.write(f"octaskly: {error}")
        except KeyboardInterrupt:
            self.stderr.write("octaskly: stopped; nothing has been changed")
        else:
            return
        sys.exit(1)

    @abstractmethod
    def act(self, path: Path, database: Path, *, is_forced: bool) -> None:
        """Do the work and tell of it."""


def given_secret() -> bool:
    """Return whether the secret key comes from a flag or a variable, which stand above the file."""
    return bool(env.text("OCTASKLY_SECRET_KEY"))


def secret_file(database: Path) -> Path:
    """Return where the secret key stands when it is not given."""
    return database.parent / SECRET_FILE
