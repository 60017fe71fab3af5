"""`manage.py unlock NAME`: lets a user name be tried again that was shut out after too many failed sign-ins."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError

from accounts_app.database_flags import add_database_flags, existing_database
from accounts_app.lockout import unlock
from audit_app.seal import WrongSeal


class Command(BaseCommand):
    """Forget a name's failed sign-ins."""

    help = "Forget the failed sign-ins of a user name from all addresses, and the lockouts that came of them."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the name; the flags are read by manage.py before Django starts."""
        parser.add_argument("name", help="as it was typed at the sign-in")
        add_database_flags(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """Do it, and say from how many addresses there were any."""
        path = existing_database()
        try:
            count = unlock(options["name"])
        except WrongSeal as error:
            raise CommandError(f"--secret-key: {error}") from error
        except DatabaseError as error:
            raise CommandError(f"{path} is no usable database: {error}") from error
        if not count:
            raise CommandError(f"{options['name']!r} has no failed sign-ins")
        self.stdout.write(f"{options['name']} may sign in again ({count} address{'es' if count > 1 else ''})")
