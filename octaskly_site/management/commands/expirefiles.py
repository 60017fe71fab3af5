"""`manage.py expirefiles`: lets go of files that are over their time, now, and prints how many."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from accounts_app.database_flags import add_database_flags
from octaskly_site.database_lock import DatabaseInUse, DatabaseLock
from octaskly_site.expiry import EVERY_S, expire_now


class Command(BaseCommand):
    """Expire files."""

    help = "Let go of old outputs, unused uploads, and contents that nothing names, as a dispatcher does by itself."

    def add_arguments(self, parser: CommandParser) -> None:
        """Accept the flags that manage.py reads before Django starts."""
        add_database_flags(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """Do so once and print the counts."""
        try:
            with DatabaseLock(settings.DB_PATH):
                expired = expire_now()
        except DatabaseInUse:
            # Only the dispatcher can tell which contents are being stored at this moment.
            expired = expire_now(removes_contents=False)
            self.stderr.write(f"A dispatcher runs: it removes the contents itself, within {EVERY_S / 60:.0f} minutes.")
        for name, count in asdict(expired).items():
            self.stdout.write(f"{name} {count}")
