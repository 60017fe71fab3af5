"""Ends the pauses of tasks that failed and are tried again.

While a task pauses it is marked, and the index that the queue is read by is without it: a million of them, all older than
what is ready, would else be looked at each time.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from django.db import connection

from accounts_app.plain_sql import db_time, read
from dispatcher.ports import MAX_RETRY_DELAY_S

BATCH_TASKS: Final = 1000
"""In one transaction."""
# Spelled as the partial index tasks_paused is.
_OVER: Final = (
    "SELECT id FROM tasks WHERE is_paused AND available_at <= ?"
    " UNION ALL SELECT id FROM tasks WHERE is_paused AND available_at > ? LIMIT ?"
)


def end_pauses(now: datetime) -> None:
    """Put those tasks back into the queue whose time has come, or lies further ahead than any pause lasts."""
    # The wall clock may be set back: no task waits longer for that than for its pause.
    beyond_any_pause = now + timedelta(seconds=MAX_RETRY_DELAY_S)
    bounds = (db_time(now), db_time(beyond_any_pause), BATCH_TASKS)
    while ids := [task_id for (task_id,) in read(_OVER, bounds)]:
        with connection.cursor() as cursor:
            places = ", ".join(["%s"] * len(ids))
            cursor.execute(f"UPDATE tasks SET is_paused = %s WHERE id IN ({places})", [False, *ids])  # noqa: S608 - marks
