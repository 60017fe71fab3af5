"""Pages of every list: a cursor on the sort columns, so that no page is slower or less exact than the first.

REST framework's own cursor looks at the first sort column alone and counts over equal values; ten thousand tasks
submitted at once share theirs. Here the primary key always closes the sort.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Any

import msgspec
from django.core.exceptions import FieldDoesNotExist, ImproperlyConfigured, ValidationError
from django.db.models import Field, Q, QuerySet
from django.template import loader
from rest_framework.pagination import BasePagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import replace_query_param

from accounts_app.rest.problems import bad_field


class _Cursor(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    ordering: list[str]
    position: list[str]
    is_backward: bool


@dataclass(frozen=True, slots=True)
class _Column:
    """One sort column."""

    field: Field
    is_descending: bool

    @property
    def term(self) -> str:
        return f"-{self.field.name}" if self.is_descending else self.field.name

    def beyond(self, *, is_backward: bool) -> str:
        return f"{self.field.attname}__{'lt' if self.is_descending != is_backward else 'gt'}"


class CursorPages(BasePagination):
    """`?limit=` 100 by default and 500 at most, `?cursor=` as given in `next` and `previous`.

    A view says `ordering` (its default, such as "-created_at") and may say `ordering_fields`: the names allowed in
    `?ordering=`, as a mapping to columns where those differ. Sort columns must not be null.
    """

    default_limit = 100
    max_limit = 500
    template = "rest_framework/pagination/previous_and_next.html"
    ordering: str | tuple[str, ...] | None = None

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> list[Any]:
        """Return the page that the request asks for."""
        self._url = request.build_absolute_uri()
        limit = self._limit(request)
        self._columns = _columns(queryset.model, self._ordering(request, queryset, view))
        cursor = self._cursor(request)
        is_backward = cursor is not None and cursor.is_backward
        terms = [column.term for column in self._columns]
        queryset = queryset.order_by(*(_reversed(term) for term in terms) if is_backward else terms)
        if cursor is not None:
            queryset = queryset.filter(self._beyond(cursor))
        rows = list(queryset[: limit + 1])
        has_more = len(rows) > limit
        page = rows[:limit]
        if is_backward:
            page.reverse()
        has_next = bool(page) and (is_backward or has_more)
        has_previous = bool(page) and (has_more if is_backward else cursor is not None)
        self._next = self._link(page[-1], is_backward=False) if has_next else None
        self._previous = self._link(page[0], is_backward=True) if has_previous else None
        self.display_page_controls = has_next or has_previous
        return page

    def get_paginated_response(self, data: Any) -> Response:
        """Return the page with its links."""
        return Response({"next": self._next, "previous": self._previous, "results": data})

    # What the page is asked with

    def _limit(self, request: Request) -> int:
        raw = request.query_params.get("limit")
        if raw is None:
            return self.default_limit
        if not (raw.isascii() and raw.isdigit()) or not 1 <= int(raw[:9]) <= self.max_limit:
            raise bad_field("limit", f"must be a whole number from 1 to {self.max_limit}")
        return int(raw)

    def _ordering(self, request: Request, queryset: QuerySet[Any], view: Any) -> tuple[str, ...]:
        asked = request.query_params.get("ordering")
        allowed = getattr(view, "ordering_fields", None) or {}
        columns = allowed if isinstance(allowed, dict) else {name: name for name in allowed}
        if asked is not None and columns:
            return tuple(self._asked_term(term, columns) for term in asked.split(","))
        default = self.ordering or getattr(view, "ordering", None) or queryset.model._meta.ordering or "pk"
        terms = (default,) if isinstance(default, str) else tuple(default)
        return tuple(_translated(term, columns) for term in terms)

    def _asked_term(self, term: str, columns: dict[str, str]) -> str:
        if term.removeprefix("-") not in columns:
            raise bad_field("ordering", f"must be of {', '.join(sorted(columns))}, with - in front for descending")
        return _translated(term, columns)

    def _cursor(self, request: Request) -> _Cursor | None:
        raw = request.query_params.get("cursor")
        if raw is None:
            return None
        try:
            text = base64.urlsafe_b64decode(raw.encode("ascii") + b"=" * (-len(raw) % 4))
            cursor = msgspec.json.decode(text, type=_Cursor)
        except (binascii.Error, ValueError, RecursionError) as error:
            raise bad_field("cursor", "is not one that this interface gave") from error
        if cursor.ordering != [column.term for column in self._columns] or len(cursor.position) != len(self._columns):
            raise bad_field("cursor", "belongs to another ordering")
        return cursor

    def _beyond(self, cursor: _Cursor) -> Q:
        """Return the condition of all rows behind the cursor's row in the order asked for."""
        values = []
        for column, text in zip(self._columns, cursor.position, strict=True):
            try:
                values.append(column.field.to_python(text))
            except ValidationError as error:
                raise bad_field("cursor", "is not one that this interface gave") from error
        beyond, equal = Q(), Q()
        for column, value in zip(self._columns, values, strict=True):
            beyond |= equal & Q(**{column.beyond(is_backward=cursor.is_backward): value})
            equal &= Q(**{column.field.attname: value})
        # Said once more for the first column alone: an index serves a range, not a disjunction.
        return beyond & Q(**{f"{self._columns[0].beyond(is_backward=cursor.is_backward)}e": values[0]})

    def _link(self, row: Any, *, is_backward: bool) -> str:
        position = [column.field.value_to_string(row) for column in self._columns]
        cursor = _Cursor([column.term for column in self._columns], position, is_backward)
        text = base64.urlsafe_b64encode(msgspec.json.encode(cursor)).rstrip(b"=").decode("ascii")
        return replace_query_param(self._url, "cursor", text)

    # What the browsable API and the schema ask

    def to_html(self) -> str:
        """Return the links of the browsable API."""
        context = {"previous_url": self._previous, "next_url": self._next}
        return loader.get_template(self.template).render(context)

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        """Return the OpenAPI schema of a page."""
        link = {"type": ["string", "null"], "format": "uri"}
        return {
            "type": "object",
            "required": ["next", "previous", "results"],
            "properties": {"next": link, "previous": link, "results": schema},
        }

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        """Return the OpenAPI query parameters."""
        limit = {"type": "integer", "minimum": 1, "maximum": self.max_limit, "default": self.default_limit}
        parameters: list[dict[str, Any]] = [
            _query(
                "cursor",
                "Where the page starts, as given in `next` and `previous`.",
                {"type": "string", "minLength": 1},
            ),
            _query("limit", "Most results in a page.", limit),
        ]
        if names := sorted(getattr(view, "ordering_fields", None) or ()):
            text = f"Of {', '.join(names)}; with - in front for descending."
            term = f"-?({'|'.join(names)})"
            parameters.append(_query("ordering", text, {"type": "string", "pattern": f"^{term}(,{term})*$"}))
        return parameters


def _query(name: str, description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "description": description, "schema": schema}


def _reversed(term: str) -> str:
    return term[1:] if term.startswith("-") else f"-{term}"


def _translated(term: str, columns: dict[str, str]) -> str:
    name = term.removeprefix("-")
    return term.removesuffix(name) + columns.get(name, name)


def _columns(model: Any, ordering: tuple[str, ...]) -> list[_Column]:
    """Return the sort columns, the primary key last."""
    columns: list[_Column] = []
    for term in (*ordering, _reversed("pk") if ordering[-1].startswith("-") else "pk"):
        name = term.removeprefix("-")
        try:
            field = model._meta.pk if name == "pk" else model._meta.get_field(name)
        except FieldDoesNotExist as error:
            raise ImproperlyConfigured(f"{model.__name__} cannot be sorted by {name}") from error
        if field.null:
            raise ImproperlyConfigured(f"{model.__name__}.{name} may be null, so no cursor can point into it")
        if all(column.field is not field for column in columns):
            columns.append(_Column(field, is_descending=term.startswith("-")))
        if field.primary_key:
            break
    return columns
