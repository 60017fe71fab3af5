"""`manage.py auditkey --export FILE`: takes the key that verifies the trail off this machine."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import connection, transaction

from accounts_app.database_flags import add_database_flags
from audit_app import keys
from audit_app.durable import create_file
from audit_app.keys import KeyIsElsewhere
from audit_app.seal import WrongSeal
from audit_app.trail import AuditEvent, record
from audit_app.verifying import key_here


class Command(BaseCommand):
    """Export the trail's first key."""

    help = "Write the key that verifies the audit trail to FILE and remove it from the database."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the flags; the last two are read by manage.py before Django starts."""
        parser.add_argument(
            "--export", type=Path, required=True, metavar="FILE", help="file to write; keep it on another machine"
        )
        add_database_flags(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """Export; exit 1 and say why when nothing was changed."""
        path: Path = options["export"]
        try:
            self._export(path)
        except KeyIsElsewhere as error:
            self.stderr.write(f"octaskly: the key was exported already, on {error.exported_on}")
        except WrongSeal as error:
            self.stderr.write(f"octaskly: {error}")
        except FileExistsError:
            self.stderr.write(f"octaskly: {path} exists already")
        except OSError as error:
            self.stderr.write(f"octaskly: cannot write {path}: {error.strerror}")
        else:
            self.stdout.write(
                f"{path}: the key of the audit trail, which is not on this machine any more once you move it"
            )
            self.stderr.write("Move it elsewhere. Backups from before this moment still hold the key.")
            return
        sys.exit(1)

    def _export(self, path: Path) -> None:
        now = datetime.now(UTC)
        with transaction.atomic():
            # The first row begins the keys, should there be none.
            record(AuditEvent("audit_key_exported", "operator", details={"file": path.name}), at=now)
            key = key_here()
            if key is None:
                raise WrongSeal("the trail has no keys")
            create_file(path, key.text().encode("ascii"))
            keys.forget_origin(now)
        if connection.vendor == "sqlite" and not connection.in_atomic_block:
            # What was removed stands in older pages of the WAL until they are overwritten.
            with connection.cursor() as cursor:
                cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                if cursor.fetchone()[0]:
                    self.stderr.write(
                        "The database is busy: the key stands in its -wal file until that is written over."
                    )
