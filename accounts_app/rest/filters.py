"""What a list may be asked: filters that take no value for another, and no parameter that is not there.

A misspelt filter that was passed over would leave nothing out, and whoever cancels what the list shows would cancel all.
"""

from __future__ import annotations

from typing import Any, Final

import django_filters
from django import forms
from django.db.models import QuerySet
from django_filters.rest_framework import DjangoFilterBackend
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field

from accounts_app.rest.problems import bad_field
from accounts_app.rest.strict import MAX_SHOWN

_TRUTHS: Final = {"true": True, "1": True, "false": False, "0": False}


def truth_asked(request: Any, name: str) -> bool:
    """Return a query parameter that is true or false, false where it is absent; raises the Problem of another value."""
    raw = request.query_params.get(name, "").lower()
    if raw and raw not in _TRUTHS:
        raise bad_field(name, "must be true or false")
    return _TRUTHS.get(raw, False)


class _TruthField(forms.Field):
    def to_python(self, value: Any) -> bool | None:
        if value in self.empty_values:
            return None
        if (known := _TRUTHS.get(str(value).lower())) is None:
            raise forms.ValidationError("must be true or false")
        return known


@extend_schema_field(OpenApiTypes.BOOL)
class TruthFilter(django_filters.Filter):
    """true or false; no other word counts as "not asked"."""

    field_class = _TruthField


@extend_schema_field({"type": "integer", "minimum": 0, "maximum": 10**18 - 1})
class WholeNumberFilter(django_filters.Filter):
    """A whole number from 0; one with a fraction is not cut to it."""

    field_class = forms.RegexField

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, regex=r"\A[0-9]{1,18}\Z", **kwargs)
        self.extra["error_messages"] = {"invalid": "must be a whole number"}


class KnownParameters(DjangoFilterBackend):
    """Filters a list; a query parameter that the list does not have is refused by name.

    A view says in `other_parameters` what it takes beside its filters and pages.
    """

    def filter_queryset(self, request: Any, queryset: QuerySet[Any], view: Any) -> QuerySet[Any]:
        """Return what the filters leave."""
        if self.get_filterset_class(view, queryset) is not None or hasattr(view, "list"):
            self._refuse_unknown(request, queryset, view)
        filtered: QuerySet[Any] = super().filter_queryset(request, queryset, view)
        return filtered

    def _refuse_unknown(self, request: Any, queryset: QuerySet[Any], view: Any) -> None:
        filterset_class = self.get_filterset_class(view, queryset)
        known = {"format", *getattr(view, "other_parameters", ())}
        known |= set(filterset_class.base_filters) if filterset_class else set()
        known |= {"cursor", "limit"} if view.paginator else set()
        known |= {"ordering"} if getattr(view, "ordering_fields", None) else set()
        if unknown := request.query_params.keys() - known:
            raise bad_field(
                min(unknown)[:MAX_SHOWN], f"is no parameter of this list; it has {', '.join(sorted(known))}"
            )
