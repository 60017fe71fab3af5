"""Keeps tests that look at one long measurement in one process, so that it is made once and not in each."""

from __future__ import annotations

from typing import Any

import pytest


def measured_once(measurement: str, *values: Any) -> Any:
    """Return a set of parameters whose test goes where all others of this measurement go (`--dist loadgroup`)."""
    return pytest.param(*values, marks=pytest.mark.xdist_group(measurement))
