"""Reads the ids of a request that is about several tasks."""

from __future__ import annotations

from typing import Any, Final

from rest_framework import serializers

from accounts_app.rest.problems import Problem, bad_field

MAX_IDS: Final = 500


class IdsSerializer(serializers.Serializer[Any]):
    """Which tasks. For the schema only: `read_ids` is what reads and checks."""

    ids = serializers.ListField(child=serializers.CharField(allow_blank=True), min_length=1, max_length=MAX_IDS)


def read_ids(body: Any, *more_fields: str) -> tuple[str, ...]:
    """Return the ids of a body; raises a Problem that names what is wrong, also for a field that it may not have."""
    if not isinstance(body, dict):
        raise Problem(400, detail=f"the body must be an object with {' and '.join(['ids', *more_fields])}")
    unknown = body.keys() - {"ids", *more_fields}
    if unknown:
        raise bad_field(min(unknown), "is not a field of this request")
    ids = body.get("ids")
    if not isinstance(ids, list) or not 1 <= len(ids) <= MAX_IDS:
        raise bad_field("ids", f"must be a list of 1 to {MAX_IDS} ids")
    for position, task_id in enumerate(ids):
        if not isinstance(task_id, str):
            raise bad_field(f"ids.{position}", "must be text")
    return tuple(ids)
