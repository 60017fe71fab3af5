"""The systemd units in docs: systemd understands them, and what they shut stays shut."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

UNITS = sorted((Path(__file__).parents[2] / "docs" / "systemd").glob("*.service"))
EXPOSURE = {"octaskly-dispatcher": 1.5, "octaskly-worker": 5.5}
"""What `systemd-analyze security` may say at most, of 10."""

pytestmark = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze here")


def test_there_is_a_unit_for_either_program():
    """None is looked for in vain."""
    assert {unit.stem for unit in UNITS} == set(EXPOSURE)


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_systemd_finds_no_fault_and_little_exposure(unit: Path, tmp_path: Path) -> None:
    """A misspelt option would only be a warning in the journal, and shut nothing."""
    text = unit.read_text(encoding="utf-8")
    path = tmp_path / unit.name
    path.write_text(text.replace("ExecStart=/opt/octaskly/bin/octaskly", "ExecStart=/bin/true"), encoding="utf-8")
    verified = _said("verify", str(path))
    if "Operation not permitted" in verified:
        pytest.skip(f"systemd-analyze cannot work here: {verified.strip()}")
    assert verified == ""
    rated = _said("security", "--offline=true", str(path))
    found = re.search(r"Overall exposure level .*: ([0-9.]+)", rated)
    assert found, rated
    assert float(found[1]) <= EXPOSURE[unit.stem], rated


def _said(*arguments: str) -> str:
    done = subprocess.run(["systemd-analyze", *arguments], check=False, capture_output=True, text=True, timeout=60)
    return done.stdout + done.stderr
