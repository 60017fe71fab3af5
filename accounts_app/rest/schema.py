"""How the OpenAPI document is made: canonical paths, and problem documents as every route's refusal."""

from __future__ import annotations

from typing import Any, Literal

from drf_spectacular.openapi import AutoSchema
from rest_framework import serializers

from accounts_app.rest.problems import PROBLEM_TYPE


class FieldErrorSerializer(serializers.Serializer):
    """One wrong field."""

    field = serializers.CharField(help_text="the way to the field in dots; empty when it is the whole body")
    message = serializers.CharField()


class ProblemSerializer(serializers.Serializer):
    """RFC 9457 problem document."""

    type = serializers.CharField()
    title = serializers.CharField()
    status = serializers.IntegerField()
    detail = serializers.CharField()
    # Named like a property of serializers, which the schema never asks for.
    errors = FieldErrorSerializer(many=True)  # type: ignore[assignment]


class ApiSchema(AutoSchema):
    """Adds to every operation that its refusals are problem documents."""

    def _get_response_bodies(self, direction: Literal["request", "response"] = "response") -> dict[str, Any]:
        bodies = super()._get_response_bodies(direction)
        if "default" not in bodies:
            refusal = self._get_response_for_code(ProblemSerializer, "default", media_types=[PROBLEM_TYPE])
            bodies["default"] = {**refusal, "description": "Refused: a problem document"}
        return bodies


def canonical_paths(endpoints: list[tuple[str, str, str, Any]]) -> list[tuple[str, str, str, Any]]:
    """Show every path without the trailing slash that it also takes; a preprocessing hook of drf-spectacular."""
    return [(path.rstrip("/") or "/", regex, method, view) for path, regex, method, view in endpoints]
