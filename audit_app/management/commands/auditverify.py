"""`manage.py auditverify`: checks the audit trail against its keys, tombstones and checkpoints; names the first bad row."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from accounts_app.database_flags import add_database_flags
from audit_app.keys import KeyIsElsewhere
from audit_app.seal import WrongSeal
from audit_app.verifying import BadKeyFile, Key, verify

MOST_FINDINGS = 20


class Command(BaseCommand):
    """Check the audit trail."""

    help = "Check the audit trail; exit 1 and name the first bad row when something does not fit."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the flags; the last two are read by manage.py before Django starts."""
        parser.add_argument(
            "--witness",
            type=Path,
            action="append",
            default=[],
            metavar="FILE",
            help="checkpoints that somebody else kept: what a worker prints with --witness, or a copy of the file",
        )
        parser.add_argument("--key", type=Path, metavar="FILE", help="the key, where auditkey --export put it")
        parser.add_argument(
            "--checkpoints",
            type=Path,
            metavar="FILE",
            help="the cluster's own checkpoints (OCTASKLY_AUDIT_CHECKPOINTS)",
        )
        add_database_flags(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """Verify and report."""
        try:
            key = Key.of_file(options["key"]) if options["key"] else None
            report = verify(key, options["checkpoints"], options["witness"])
        except (KeyIsElsewhere, WrongSeal, BadKeyFile) as error:
            self.stderr.write(f"octaskly: {error}")
        except OSError as error:
            self.stderr.write(f"octaskly: cannot read {error.filename}: {error.strerror}")
        else:
            for note in report.notes:
                self.stdout.write(note)
            if not report.findings:
                self.stdout.write(f"audit chain intact: {report.count} rows")
                return
            first, *others = report.findings
            self.stderr.write(f"audit chain broken at row {first.row_id}: {first.problem}")
            for finding in others[: MOST_FINDINGS - 1]:
                self.stderr.write(f"row {finding.row_id}: {finding.problem}")
            if len(others) >= MOST_FINDINGS:
                self.stderr.write(f"and {len(others) - MOST_FINDINGS + 1} more")
        sys.exit(1)
