"""The first frame of the live events, for a page that shows it before its socket is open."""

from __future__ import annotations

from typing import Any

from dashboard_app.live.looks import Looker
from dashboard_app.live.scope import Scope


class _NotAsked:
    """Whether the dispatcher takes work, the socket tells a moment later."""

    def is_accepting(self) -> bool:
        return True

    def read_only_reason(self) -> str | None:
        return None


def first_look(user: Any, *, sees_everything: bool) -> dict[str, Any]:
    """Return a full frame as `/ws/events` sends it, of everything or of the user's own tasks."""
    seen = Looker(Scope(None if sees_everything else user.pk), _NotAsked()).look()
    frame = {"type": "state", "version": 0, "is_full": True, "summary": seen.summary, "tasks": seen.tasks}
    if seen.workers is not None:
        frame |= {"workers": seen.workers, "events": seen.events}
    return frame if seen.point is None else frame | {"point": seen.point}
