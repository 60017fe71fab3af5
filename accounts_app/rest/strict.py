"""Bodies read to the letter: no field that is not there, no number where text is due, and no text that looks like one.

What is taken for something else than it is, or not at all, is a request that does not do what its sender believes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from rest_framework import serializers

MAX_SHOWN: Final = 64
"""Characters of an unknown name that a refusal repeats."""


class StrictSerializer(serializers.Serializer[Any]):
    """Base of bodies; a field that it does not have is refused by name."""

    def to_internal_value(self, data: Any) -> Any:
        """Return the checked fields."""
        if isinstance(data, Mapping) and (unknown := data.keys() - self.fields.keys()):
            raise serializers.ValidationError({min(unknown)[:MAX_SHOWN]: ["there is no such field"]})
        return super().to_internal_value(data)


class Text(serializers.CharField):
    """Text; a number is none. Blanks at its ends belong to it."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"trim_whitespace": False, **kwargs})

    def to_internal_value(self, data: Any) -> str:
        """Return it."""
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


class WholeNumber(serializers.IntegerField):
    """A number of JSON without a point; text with digits is none, and neither is true."""

    def to_internal_value(self, data: Any) -> int:
        """Return it."""
        if isinstance(data, bool) or not isinstance(data, int):
            self.fail("invalid")
        return data


class TrueOrFalse(serializers.BooleanField):
    """true or false of JSON, and nothing that means them."""

    def to_internal_value(self, data: Any) -> bool:
        """Return it."""
        if not isinstance(data, bool):
            self.fail("invalid", input=data)
        return data
