"""What a dispatcher that others reach runs with: Django's own list of what to mind, and pinned requirements."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_django_finds_nothing_to_mend_before_deployment(tmp_path: Path) -> None:
    """`manage.py check --deploy` is clean where the web server speaks HTTPS, and speaks up where it does not."""
    environment = os.environ | {"OCTASKLY_DB_PATH": str(tmp_path / "o.db"), "OCTASKLY_HTTPS": "1"}
    command = [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "INFO"]
    assert _said(command, environment) == (0, "System check identified no issues (1 silenced).\n", "")
    code, _, complaints = _said(command, environment | {"OCTASKLY_HTTPS": "0"})
    assert code == 1
    assert set(re.findall(r"security\.W\d+", complaints)) == {"security.W008", "security.W012", "security.W016"}


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_every_requirement_is_pinned_with_the_hashes_of_its_files(name: str) -> None:
    """A file that was exchanged on its way, or in the index, is not installed."""
    lines = (ROOT / name).read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    pinned = [line for line in lines if line and not line.lstrip().startswith("#")]
    assert pinned
    for line in pinned:
        assert re.fullmatch(r"[a-z0-9-]+==\S+(?: ; [^#]+?)?(?: +--hash=sha256:[0-9a-f]{64})+ *", line), line


def _said(command: list[str], environment: dict[str, str]) -> tuple[int, str, str]:
    done = subprocess.run(command, check=False, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout, done.stderr
