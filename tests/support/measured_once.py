"""Keeps tests that look at one long measurement of the sandbox in one process, so that it is made once and not in each."""

from __future__ import annotations

from typing import Any, Final

import pytest

EVERYDAY_LEVEL: Final = "strict"
"""What tasks run at unless they ask for another. Its columns are looked at with every change, the rest by `make matrix`."""


def measured_once(column: str, measurement: str, *values: Any) -> Any:
    """Return a set of parameters for a column like strict/user of the sandbox's tables.

    Its test goes where all others of this measurement go (`--dist loadgroup`).
    """
    marks = [pytest.mark.xdist_group(measurement)]
    if column.partition("/")[0] != EVERYDAY_LEVEL:
        marks.append(pytest.mark.matrix)
    return pytest.param(*values, marks=marks)
