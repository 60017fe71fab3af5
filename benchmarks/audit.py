"""How much processor time writing and verifying the audit trail take: `python -m benchmarks.audit [ROWS]`."""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
import time
from pathlib import Path

GROUP_ROWS = 2000


def main(count: int) -> None:
    """Write a trail of so many rows in groups as the engine does, verify it, and print what each took."""
    with tempfile.TemporaryDirectory(prefix="octaskly-audit-") as folder:
        os.environ["OCTASKLY_DB_PATH"] = str(Path(folder, "octaskly.db"))
        os.environ["OCTASKLY_SECRET_KEY"] = "a secret for the benchmark"  # noqa: S105
        os.environ["DJANGO_SETTINGS_MODULE"] = "octaskly_site.settings"
        import django

        django.setup()
        _measure(count)


def _measure(count: int) -> None:
    from datetime import UTC, datetime

    from django.core.management import call_command
    from django.db import connection, transaction

    from audit_app import checkpoints
    from audit_app.chain import encoded
    from audit_app.trail import AuditEvent, record
    from audit_app.verifying import rows, verify

    call_command("migrate", verbosity=0)
    details = {"attempt": 1, "outcome": "completed", "exit_code": 0, "duration_ms": 12}
    events = [AuditEvent("task_finished", "engine", f"{n:036}", f"{n:036}", details) for n in range(GROUP_ROWS)]
    in_record_s = 0.0
    for _ in range(0, count, GROUP_ROWS):
        with transaction.atomic():
            began_at = time.process_time()
            record(*events)
            in_record_s += time.process_time() - began_at
        checkpoints.take(checkpoints.default_file(), datetime.now(UTC))
    connection.ensure_connection()
    began_at = time.process_time()
    report = verify()
    verify_s = time.process_time() - began_at
    began_at = time.process_time()
    for batch in rows(connection.connection):
        for row in batch:
            hashlib.sha256(encoded(row[:8])).digest()
    plain_s = time.process_time() - began_at
    if report.findings:
        raise SystemExit(report.problem)
    print(f"rows                      {report.count:>10,}")
    print(f"writing, in groups        {in_record_s / report.count * 1e6:>10.1f} us a row")
    print(f"verifying                 {report.count / verify_s:>10,.0f} rows/s")
    print(
        f"plain SHA-256 of the same {report.count / plain_s:>10,.0f} rows/s: verifying takes {verify_s / plain_s:.2f} as long"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 300_000)
