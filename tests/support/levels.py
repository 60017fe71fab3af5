"""Which sandbox levels this host proves, by the word of the worker itself."""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from octaskly_wire.vocabulary import SandboxLevel

ROOT = Path(__file__).resolve().parents[2]
_LINE = re.compile(r"(\w+) +(yes|no) +(.*)")


def check() -> subprocess.CompletedProcess[str]:
    """Run `--check`."""
    return subprocess.run(
        [sys.executable, "-m", "worker_node", "--check"],
        check=False,
        cwd=ROOT,
        env={"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )


@functools.cache
def unproven() -> dict[SandboxLevel, str]:
    """Return the levels that are not proven here, and why."""
    lines = [found for line in check().stdout.splitlines() if (found := _LINE.fullmatch(line))]
    assert len(lines) == len(SandboxLevel), f"--check does not tell of each level: {lines}"
    return {
        SandboxLevel(level): how for level, is_proven, how in (line.groups() for line in lines) if is_proven == "no"
    }


def proven() -> set[SandboxLevel]:
    """Return the levels that are proven here."""
    return set(SandboxLevel) - set(unproven())


def need(level: SandboxLevel) -> None:
    """Skip the test where the level is not proven, with the reason."""
    if level in unproven():
        pytest.skip(f"{level} is not proven here: {unproven()[level]}")


def usual() -> SandboxLevel:
    """Return the level of tasks that name none: `strict`, or what a site would choose whose machines lack that."""
    return SandboxLevel.STRICT if SandboxLevel.STRICT in proven() else SandboxLevel.BASIC
