"""What the live routes ask before they begin: who may, and whether the request makes sense.

The waiting and streaming itself stands outside of Django, in octaskly_site.live, so that it holds no thread.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from django.http import Http404
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts_app.rest.filters import truth_asked
from accounts_app.rest.problems import Problem, bad_field
from accounts_app.rest.schema import refusals
from tasks_app import selectors
from tasks_app.api.ended import ended_among
from tasks_app.api.numbers import whole_number_asked
from tasks_app.api.representation import TaskSerializer
from tasks_app.api.task_ids import IdsSerializer, read_ids
from tasks_app.api.views import TaskUsers
from tasks_app.models import Result

MAX_WAIT_S: Final = 60.0
USUAL_WAIT_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class FollowRequest:
    """A task's output may be followed like this."""

    task_id: str
    offset: int
    attempt: int
    goes_on: bool = False
    """Whether the attempts after that one follow, too."""
    is_framed: bool = False


@dataclass(frozen=True, slots=True)
class WaitRequest:
    """It is waited for these tasks; all may be seen, and none has ended yet."""

    task_ids: tuple[str, ...]
    timeout_s: float


class LiveAnswer(Response):
    """Says that a live route may begin, and with what."""

    def __init__(self, begin: object, data: Any = None) -> None:
        """Begin with this; what it is, route and view agree on."""
        super().__init__(data)
        self.begin = begin


class FollowView(APIView):
    """Answers for `?follow=1` and for the WebSocket."""

    permission_classes = (TaskUsers,)

    def perform_content_negotiation(self, request: Any, force: bool = False) -> Any:  # noqa: FBT001, FBT002 - theirs
        """Take every Accept header: what is refused is refused in JSON."""
        return super().perform_content_negotiation(request, force=True)

    def get(self, request: Any, pk: str) -> Response:
        """Say from where the output is followed."""
        if not selectors.visible_among(request.user, [pk]):
            raise Http404
        offset, alone, first = (
            whole_number_asked(request, name) or 0 for name in ("offset", "attempt", "from_attempt")
        )
        if alone and first:
            raise bad_field("from_attempt", "does not go together with attempt")
        attempt = alone or first
        if attempt and not Result.objects.filter(task_id=pk, attempt=attempt).exists():
            raise Problem(404, detail=f"the task has no attempt {attempt}")
        is_framed = truth_asked(request, "framed")
        return LiveAnswer(FollowRequest(pk, offset, attempt, goes_on=first > 0, is_framed=is_framed))


class WaitSerializer(IdsSerializer):
    """What to wait for. For the schema only: `_read_wait` is what reads and checks."""

    timeout = serializers.FloatField(required=False, min_value=0, max_value=MAX_WAIT_S, help_text="seconds; default 30")


class WaitAnswerSerializer(serializers.Serializer[Any]):
    """Those that have ended."""

    tasks = TaskSerializer(many=True)


class WaitView(APIView):
    """Wait for tasks to end."""

    permission_classes = (TaskUsers,)

    @extend_schema(request=WaitSerializer, responses={200: WaitAnswerSerializer, **refusals(404)})
    def post(self, request: Any) -> Response:
        """Return those of the tasks that have ended, as soon as there is one; none of them at the time-out."""
        wait = _read_wait(request.data)
        visible = selectors.visible_among(request.user, wait.task_ids)
        for position, task_id in enumerate(wait.task_ids):
            if task_id not in visible:
                error = {"field": f"ids.{position}", "message": f"there is no task {task_id}"}
                raise Problem(404, detail=error["message"], errors=[error])
        tasks = ended_among(wait.task_ids)
        return Response({"tasks": tasks}) if tasks else LiveAnswer(wait, {"tasks": []})


def _read_wait(body: Any) -> WaitRequest:
    ids = read_ids(body, "timeout")
    timeout_s = body.get("timeout", USUAL_WAIT_S)
    is_number = isinstance(timeout_s, int | float) and not isinstance(timeout_s, bool)
    if not is_number or not 0 <= timeout_s <= MAX_WAIT_S:
        raise bad_field("timeout", f"must be a number from 0 to {MAX_WAIT_S:g}")
    return WaitRequest(ids, float(timeout_s))
