"""Who may see what of the live events; and the question about it, which Django answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts_app.roles import is_operator
from tasks_app.api.live import LiveAnswer
from tasks_app.api.views import TaskUsers


@dataclass(frozen=True, slots=True)
class Scope:
    """What is seen together: everything, or one user's own tasks."""

    owner_id: int | None
    """None for operators, who see everything."""


@dataclass(frozen=True, slots=True)
class EventsRequest:
    """This user may watch this scope."""

    user_id: int
    scope: Scope


class EventsView(APIView):
    """Answers for the WebSocket of live events."""

    permission_classes = (TaskUsers,)

    def perform_content_negotiation(self, request: Any, force: bool = False) -> Any:  # noqa: ARG002, FBT001, FBT002 - theirs
        """Take every Accept header: what is refused is refused in JSON."""
        return super().perform_content_negotiation(request, force=True)

    @extend_schema(exclude=True)
    def get(self, request: Any) -> Response:
        """Say what the user may watch, by the roles as they are now."""
        user = request.user
        return LiveAnswer(EventsRequest(user.pk, Scope(None if is_operator(user) else user.pk)))
