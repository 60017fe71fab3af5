"""What is read of a query before Django sees it."""

from __future__ import annotations

import pytest

from octaskly_site.query import MAX_FIELDS, value_of


@pytest.mark.parametrize(
    ("query", "value"),
    [
        (b"follow=1", "1"), (b"a=2&follow=true&b=", "true"), (b"follow=0&follow=1", "1"), (b"follow=", "none"),
        (b"", "none"), (b"followed=1", "none"), (b"name=%C3%BC&follow=1", "1"), (b"%C3%BC%FF=\xff&follow=1", "1"),
        (b"a=1&" * MAX_FIELDS + b"follow=1", "none"),
    ],
)  # fmt: skip
def test_the_last_value_counts(query: bytes, value: str) -> None:
    """As for Django, with letters of any script around it; more fields than Django reads are none."""
    assert value_of(query, "follow", "none") == value
