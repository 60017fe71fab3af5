"""`manage.py auditverify`: checks the audit chain and names the first bad row."""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from audit_app.trail import verify


class Command(BaseCommand):
    """Check the audit chain."""

    help = "Check the audit chain; exit 1 and name the first bad row when it is broken."

    def add_arguments(self, parser: CommandParser) -> None:
        """Accept the flags that manage.py reads before Django starts."""
        parser.add_argument("--db-path", help="database file (OCTASKLY_DB_PATH)")
        parser.add_argument("--secret-key", help="root secret (OCTASKLY_SECRET_KEY)")

    def handle(self, *args: Any, **options: Any) -> None:
        """Verify and report."""
        report = verify()
        if report.first_bad_id is None:
            self.stdout.write(f"audit chain intact: {report.count} rows")
            return
        self.stderr.write(f"audit chain broken at row {report.first_bad_id}: {report.problem}")
        sys.exit(1)
