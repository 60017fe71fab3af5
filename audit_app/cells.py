"""Makes texts harmless as cells of a spreadsheet: none of them begins a formula."""

from __future__ import annotations

import unicodedata
from typing import Final

_FORMULA_SIGNS: Final = frozenset("=+-@")
_SIGNS_BEYOND_NFKC: Final = frozenset("\N{MINUS SIGN}")
_QUOTES: Final = frozenset("\"'`\N{LEFT SINGLE QUOTATION MARK}\N{RIGHT SINGLE QUOTATION MARK}")
_BEGINNINGS: Final = frozenset("\t\r\n")


def harmless(text: str) -> str:
    """Return the text, with ' in front where a spreadsheet could take it for a formula.

    That is a text whose first character is a tab or a line's end, or whose first character behind blanks, control
    characters, invisible ones and quotes is =, +, - or @, in whatever width.
    """
    if not text:
        return text
    if text[0] in _BEGINNINGS:
        return f"'{text}"
    for character in text:
        if _is_passed_over(character):
            continue
        plain = unicodedata.normalize("NFKC", character)
        is_sign = plain[0] in _FORMULA_SIGNS or character in _SIGNS_BEYOND_NFKC
        return f"'{text}" if is_sign else text
    return text


def _is_passed_over(character: str) -> bool:
    return character.isspace() or character in _QUOTES or unicodedata.category(character) in {"Cc", "Cf"}
