"""How the OpenAPI document is made: canonical paths, and for each route the refusals that it can give.

What every route of its kind can refuse is found here from its view; what only some can, these name by `refusals`.
"""

from __future__ import annotations

from http import HTTPMethod, HTTPStatus
from typing import Any, Final, Literal

from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import OpenApiResponse, PolymorphicProxySerializer
from rest_framework import serializers

from accounts_app.permissions import AnyoneSignedIn, Public
from accounts_app.rest import schemes
from accounts_app.rest.negotiation import AnyAccepted
from accounts_app.rest.problem_document import PROBLEM_TYPE

__all__ = ["ApiSchema", "canonical_paths", "refusals", "schemes"]

_SAFE: Final = frozenset({HTTPMethod.GET, HTTPMethod.HEAD, HTTPMethod.OPTIONS})
_WHY: Final = {
    HTTPStatus.BAD_REQUEST: "The request cannot be read, or something in it is not allowed; `errors` says what",
    HTTPStatus.UNAUTHORIZED: "Nobody is signed in, or what was sent as a proof is none",
    HTTPStatus.FORBIDDEN: "The user's role does not allow this",
    HTTPStatus.NOT_FOUND: "There is no such thing, or it is another user's",
    HTTPStatus.NOT_ACCEPTABLE: "The answer has none of the forms that the client accepts",
    HTTPStatus.CONFLICT: "The state that it is in does not allow this",
    HTTPStatus.GONE: "The content has expired",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "The body is too large",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "The body is no JSON by its Content-Type",
    HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE: "Nothing of the range is there",
    HTTPStatus.UNPROCESSABLE_ENTITY: "The Idempotency-Key was used for another request",
    HTTPStatus.TOO_MANY_REQUESTS: "Too many requests, sign-ins, readers or queued tasks; again after Retry-After",
    HTTPStatus.SERVICE_UNAVAILABLE: "Nothing can be stored now; again after Retry-After",
}
_RETRY_AFTER: Final = {"Retry-After": {"required": True, "description": "seconds", "schema": {"type": "integer"}}}
_HEADERS: Final[dict[HTTPStatus, dict[str, Any]]] = {
    HTTPStatus.UNAUTHORIZED: {"WWW-Authenticate": {"required": True, "schema": {"type": "string"}}},
    HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE: {"Content-Range": {"required": True, "schema": {"type": "string"}}},
    HTTPStatus.TOO_MANY_REQUESTS: _RETRY_AFTER,
    HTTPStatus.SERVICE_UNAVAILABLE: _RETRY_AFTER,
}


class FieldErrorSerializer(serializers.Serializer):
    """One wrong field."""

    field = serializers.CharField(
        allow_blank=True, help_text="the way to the field in dots; empty when it is the whole body"
    )
    message = serializers.CharField()


class ProblemSerializer(serializers.Serializer):
    """RFC 9457 problem document."""

    type = serializers.CharField()
    title = serializers.CharField()
    status = serializers.IntegerField()
    detail = serializers.CharField()
    # Named like a property of serializers, which the schema never asks for.
    errors = FieldErrorSerializer(many=True)  # type: ignore[assignment]


def refusals(*statuses: int) -> dict[tuple[int, str], OpenApiResponse]:
    """Return what `extend_schema(responses=...)` says of refusals that not every route of the kind can give."""
    return {
        (status, PROBLEM_TYPE): OpenApiResponse(ProblemSerializer, description=_WHY[HTTPStatus(status)])
        for status in statuses
    }


class ApiSchema(AutoSchema):
    """Adds to every operation its refusals, all problem documents, and that its body has no other fields."""

    def _get_response_bodies(self, direction: Literal["request", "response"] = "response") -> dict[str, Any]:
        bodies = super()._get_response_bodies(direction)
        for status in self._refusals_of_its_kind():
            if str(status) not in bodies:
                refusal = self._get_response_for_code(ProblemSerializer, str(status), media_types=[PROBLEM_TYPE])
                bodies[str(status)] = {**refusal, "description": _WHY[HTTPStatus(status)]}
        for status, headers in _HEADERS.items():
            if PROBLEM_TYPE in (body := bodies.get(str(status), {})).get("content", {}):
                body["headers"] = {**headers, **body.get("headers", {})}
        return dict(sorted(bodies.items()))

    def _refusals_of_its_kind(self) -> list[int]:
        view = self.view
        statuses = [400, 429, 503]
        if Public not in view.permission_classes:
            needs_no_role = AnyoneSignedIn in view.permission_classes and self.method in _SAFE
            statuses += [401] if needs_no_role else [401, 403]
        if "{" in self.path:
            statuses.append(404)
        if view.content_negotiation_class is not AnyAccepted:
            statuses.append(406)
        body = self._get_request_body() or {}
        if body:
            statuses.append(413)
        if "application/json" in body.get("content", {}):
            statuses.append(415)
        return statuses

    def _get_request_body(self, direction: Literal["request", "response"] = "request") -> dict[str, Any] | None:
        body: dict[str, Any] | None = super()._get_request_body(direction)
        if body and isinstance(self.get_request_serializer(), PolymorphicProxySerializer):
            body["required"] = True  # None of its forms is empty.
        return body

    def _map_basic_serializer(self, serializer: Any, direction: Literal["request", "response"]) -> dict[str, Any]:
        schema: dict[str, Any] = super()._map_basic_serializer(serializer, direction)
        if direction == "request":
            schema["additionalProperties"] = False
        return schema

    def _unwrap_list_serializer(self, serializer: Any, direction: Literal["request", "response"]) -> Any:
        schema = super()._unwrap_list_serializer(serializer, direction)
        if schema and not getattr(serializer, "allow_empty", True):
            schema["minItems"] = 1
        return schema

    def _get_filter_parameters(self) -> list[dict[str, Any]]:
        # As forms send them.
        return [{**parameter, "allowEmptyValue": True} for parameter in super()._get_filter_parameters()]


def canonical_paths(endpoints: list[tuple[str, str, str, Any]]) -> list[tuple[str, str, str, Any]]:
    """Show every path without the trailing slash that it also takes; a preprocessing hook of drf-spectacular."""
    return [(path.rstrip("/") or "/", regex, method, view) for path, regex, method, view in endpoints]
