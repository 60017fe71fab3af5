#!/usr/bin/env python3
"""What `make test` does, and CI with it: every check of the project, in order, each with its time.

All checks run even when one fails, so that one round tells everything. Further arguments go to pytest.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bootstrap import ROOT, ensure_environment

TEST_PROCESSES = 2


def main() -> int:
    """Run the checks; return 1 when one failed."""
    python = ensure_environment(dev=True)
    arguments = sys.argv[1:]
    programs = python.parent
    checks: list[tuple[str, list[str]]] = [
        ("lint", [str(programs / "ruff"), "check", "."]),
        ("format", [str(programs / "ruff"), "format", "--check", "."]),
        ("types", [str(programs / "mypy")]),
        ("layers", [str(programs / "lint-imports"), "--no-cache"]),
        ("migrations", [str(python), "manage.py", "makemigrations", "--check", "--dry-run"]),
    ]
    if "--no-tests" in arguments:
        arguments.remove("--no-tests")
    else:
        checks.append(
            ("tests", [str(python), "-m", "pytest", "-n", str(TEST_PROCESSES), "--dist", "loadgroup", *arguments])
        )

    failed = []
    # The settings make a secret key beside the database when there is none: let that be nobody's real one.
    with tempfile.TemporaryDirectory(prefix="octaskly-check-") as folder:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("OCTASKLY_")}
        environment["OCTASKLY_DB_PATH"] = str(Path(folder, "octaskly.db"))
        for name, command in checks:
            print(f"== {name}", flush=True)
            began = time.monotonic()
            code = subprocess.run(command, check=False, cwd=str(ROOT), env=environment).returncode
            print(f"== {name}: {'ok' if code == 0 else 'FAILED'} in {time.monotonic() - began:.1f} s\n", flush=True)
            if code != 0:
                failed.append(name)
    print(f"failed: {', '.join(failed)}" if failed else "all checks passed", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
