"""What is written fast is what REST framework writes, and always JSON."""

from __future__ import annotations

import json

import msgspec
import pytest
from rest_framework.renderers import JSONRenderer

from accounts_app.rest.renderers import QuickJson


class Part(msgspec.Struct):
    """Something that a view answers with as it is."""

    a: int


@pytest.mark.parametrize(
    "document",
    [{"a": [1, 2.5, True, None, "é"]}, {"line": "a\u2028b\u2029c"}, [], {}, "text", {"control": "\x00\x1f\x7f"}],
)
def test_bytes_are_those_of_rest_framework(document):
    """Compact, with letters of any script as they are."""
    assert QuickJson().render(document) == JSONRenderer().render(document)


def test_what_is_no_number_is_null():
    """JSON has no word for it, and an answer is JSON."""
    assert json.loads(QuickJson().render({"a": float("nan"), "b": float("inf")})) == {"a": None, "b": None}


def test_it_is_indented_where_that_is_asked_for():
    """For people who look at it."""
    expected = b'{\n  "a": 1\n}'
    assert QuickJson().render({"a": 1}, "application/json; indent=2") == expected
    assert QuickJson().render(Part(1), "application/json; indent=2") == expected
